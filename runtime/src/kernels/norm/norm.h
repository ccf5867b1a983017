// Normalisation of float vectors.  Pointers may be unaligned; y may be x; scale and bias may be null.
#pragma once
#include <cstdint>

#include "base/cpu.h"

namespace dk {

struct NormKernels {
  // Rows of n: (x - mean) / sqrt(variance + epsilon) * scale + bias, with the row's own mean and variance.  Row r uses
  // scale + r * step (step 0 or n).
  void (*layer)(const float* x, const float* scale, const float* bias, float* y, int64_t rows, int64_t n, int64_t step,
                float epsilon);
  // The same without mean: x / sqrt(mean of x * x + epsilon) * scale.
  void (*rms)(const float* x, const float* scale, float* y, int64_t rows, int64_t n, int64_t step, float epsilon);
  // Rows of n: (x - mean[i]) * factor[i] + bias[i].
  void (*affine)(const float* x, const float* mean, const float* factor, const float* bias, float* y, int64_t rows,
                 int64_t n);
  // n elements with one mean, factor and bias.
  void (*affine_one)(const float* x, float mean, float factor, float bias, float* y, int64_t n);
  // to[c] += sum over rows of x[r * n + c] - mean[c], or of its square; mean is never null.
  void (*column_sums)(const float* x, const float* mean, int64_t rows, int64_t n, bool square, double* to);
  // Batch normalisation while training, by columns of rows of n; d = x - mean[c], v = d * factor[c] + bias[c].  limits
  // (low, high) may be null: none.
  // sum[c] += sum over rows of x - shift[c], square[c] += of its square.
  void (*column_moments)(const float* x, const float* shift, int64_t rows, int64_t n, double* sum, double* square);
  // y = v, clamped.
  void (*affine_clamp)(const float* x, const float* mean, const float* factor, const float* bias, const float* limits,
                       float* y, int64_t rows, int64_t n);
  // With h = g where low < v < high, else 0: sum[c] += sum over rows of h, moved[c] += of h * d.
  void (*train_sums)(const float* g, const float* x, const float* mean, const float* factor, const float* bias,
                     const float* limits, int64_t rows, int64_t n, double* sum, double* moved);
  // to = h * factor[c] + d * slope[c] + rest[c]; to may be g or x.
  void (*train_gradient)(const float* g, const float* x, const float* mean, const float* factor, const float* bias,
                         const float* limits, const float* slope, const float* rest, float* to, int64_t rows,
                         int64_t n);
  // y[i] = x[i] / (bias + alpha * total[i])^beta
  void (*lrn)(const float* x, const float* total, float* y, int64_t n, float alpha, float beta, float bias);
};

DK_KERNEL_SETS(norm, NormKernels)

}  // namespace dk
