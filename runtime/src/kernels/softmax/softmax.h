// Softmax and log-softmax of float vectors.  Pointers may be unaligned; y may be x.
#pragma once
#include <cstdint>

#include "base/cpu.h"

namespace dk {

struct SoftmaxKernels {
  // Each of `rows` rows of n contiguous elements.
  void (*rows)(const float* x, float* y, int64_t rows, int64_t n, bool logarithm);
  // Each of `columns` columns of n elements that lie `stride` apart.
  void (*columns)(const float* x, float* y, int64_t n, int64_t columns, int64_t stride, bool logarithm);
};

DK_KERNEL_SETS(softmax, SoftmaxKernels)

}  // namespace dk
