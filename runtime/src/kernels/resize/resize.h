// Inner loops of linear and cubic resampling in float32, and in float64 for integers (whose rounding must not depend on
// the order of sums): one axis at a time, each output element a weighted sum of `taps` input elements.  Buffers need no
// alignment; nothing is read or written beyond the given counts.
#pragma once
#include <cstdint>

namespace dk {

struct ResizeKernels {
  // to[i] = sum over t of weight[t] * rows[t][i], i < n: an axis with everything behind it as one row.
  void (*rows)(float* to, const float* const* rows, const float* weight, int taps, int64_t n);
  // to[j * c + k] = sum over t of weight[j * taps + t] * from[index[j * taps + t] * c + k], j < n, k < c: an axis of
  // pixels with c channels.
  void (*cols)(float* to, const float* from, const int32_t* index, const float* weight, int taps, int64_t n, int64_t c);
  void (*rows64)(double* to, const double* const* rows, const double* weight, int taps, int64_t n);
  void (*cols64)(double* to, const double* from, const int32_t* index, const double* weight, int taps, int64_t n,
                 int64_t c);
  void (*from_u8)(double* to, const uint8_t* from, int64_t n);
  void (*to_u8)(uint8_t* to, const double* from, int64_t n);  // to nearest even, saturating
};

const ResizeKernels* resize_kernels();

}  // namespace dk
