// One output pixel of a pooling window: folds the channels of the input pixels that the window covers.
#pragma once
#include <cstdint>

#include "base/cpu.h"

namespace dk {

constexpr int kPoolTaps = 64;  // pixels per call; longer windows continue with `more`

struct PoolKernels {
  // y[c] = largest of taps[t][c], NaN if there is one.  more: y takes part too.
  void (*max_f32)(const float* const* taps, int n, int64_t channels, bool more, float* y);
  void (*max_s8)(const int8_t* const* taps, int n, int64_t channels, bool more, int8_t* y);
  void (*max_u8)(const uint8_t* const* taps, int n, int64_t channels, bool more, uint8_t* y);
  // y[c] = factor * sum of taps[t][c] (of squares); more: y takes part in the sum.
  void (*sum)(const float* const* taps, int n, int64_t channels, bool more, float factor, float* y);
  void (*sum_square)(const float* const* taps, int n, int64_t channels, bool more, float factor, float* y);
  // to[t][c] += g[c] for the first t whose taps[t][c] is y[c], or NaN.
  void (*max_gradient)(const float* const* taps, float* const* to, int n, int64_t channels, const float* y,
                       const float* g);
};

DK_KERNEL_SETS(pool, PoolKernels)

}  // namespace dk
