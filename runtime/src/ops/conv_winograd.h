// 3x3 convolution with stride 1 and constant weights by kernels/winograd and products of matrices.
#pragma once
#include "ops/conv_state.h"

namespace dk {

// Outputs per side of the tile, or 0: direct summation.  By shapes alone, and the session's precision.
int winograd_tile(const OpContext& c, const ConvState& s);
// Kernels, block and buffers, once the tile and the layout are known.
void winograd_plan(const OpContext& c, ConvState* s, ScratchPlan* scratch);
// One packed matrix [c, o] per position of the tile.
Status winograd_pack(const OpContext& c, const ConvState& s, const float* weight, float* to);
void winograd_run(const OpContext& c, const ConvState& s, const ConvPointers& p, char* lanes);

}  // namespace dk
