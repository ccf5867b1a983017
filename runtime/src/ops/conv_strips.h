// A depthwise convolution with the pointwise one before it, the one behind it, or both, computed together row by row:
// what lies between them never leaves the cache.
#pragma once
#include "ops/conv_state.h"

namespace dk {

// OpDef::join of conv.
Status conv_strips_join(OpContext& c, const OpContext& before, bool* joined);
void conv_strips_run(const OpContext& c, const ConvState& s);

}  // namespace dk
