// What conv decides in prepare and reads in run, shared by its algorithms.
#pragma once
#include "kernels/conv/conv.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/winograd/winograd.h"
#include "ops/epilogue.h"

namespace dk {

enum class Algorithm : uint8_t {
  pointwise,  // pixels are rows of a matrix
  taps,       // indirect product, one tap per kernel position
  runs,       // few channels: one tap per kernel row, over a padded copy of the image
  depthwise,  // one input channel per output channel
  winograd,   // 3x3 with stride 1 and constant weights
  direct,     // plain loops: float64, and kernels with too many taps
};

struct WinogradPlan {
  const WinogradKernels* kernels;
  int r;                       // outputs per tile along each side
  int64_t block;               // tiles transformed together
  size_t lane_at, lane_bytes;  // buffers of each lane: bytes into scratch, bytes

  int64_t positions() const { return (r + 2) * (r + 2); }
};

struct ConvState {
  Algorithm algorithm;
  bool convert;  // x is a narrow float: compute in f32 copies
  ConvGeometry g;
  int64_t o, groups, cg, og;
  int64_t multiplier;  // depthwise: output channels per input channel
  Activation act;
  GemmEpilogue epilogue;
  const GemmKernels* gemm;
  GemmLayout layout;  // of one group
  const DepthwiseKernels* depthwise;
  WinogradPlan winograd;
  int64_t padded;       // bias and depthwise weights: numbers per group
  const float* packed;  // null: pack at run
  const float* bias;    // null: copy at run
  float* zero;
  bool rounded;        // x is rounded to bfloat16 first, since every number is used many times
  int64_t room_bytes;  // for each thread, of products in tiles
  // Joined with the convolution before it (conv_strips.h), which may be joined with another; and the input of the
  // first.
  const ConvState* before;
  const Tensor* first_x;
  int64_t strip_rows, ring_rows;  // of the depthwise one: output rows at once, input rows that each lane keeps
  size_t lanes_at, lane_bytes;    // of the last one: its lanes' memory
  // Bytes into scratch.
  size_t x_at, weight_at, residual_at, y_at, packed_at, bias_at, image_at, expanded_at, rounded_at, room_at;

  // Kernels that only clamp do so while storing; everything else is a pass of GemmKernels::finish behind them.
  bool clamps(const float* residual) const { return !epilogue.finish && !residual; }
};

struct ConvPointers {
  const float *x, *packed, *bias, *residual;
  float* y;
};

// A product with the weights of one group; the caller adds rows, results, memory.
inline GemmProblem product_of(const ConvState& s, const GemmEpilogue* epilogue) {
  GemmProblem p = {};
  p.kernels = s.gemm;
  p.layout = &s.layout;
  p.ldc = s.o;
  p.epilogue = epilogue;
  p.a_rounded = s.rounded;
  p.room_bytes = s.room_bytes;
  return p;
}

// Activation and residual of finished sums; the caller adds the size.
inline GemmFinish finish_of(const ConvState& s, float* y, const float* residual) {
  GemmFinish f = {};
  f.c = y;
  f.scale = 1.0f;
  f.act = s.act.kind;
  f.alpha = s.act.alpha;
  f.beta = s.act.beta;
  f.residual = residual;
  f.residual_first = s.act.after;
  return f;
}

}  // namespace dk
