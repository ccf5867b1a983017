// What training needs beside the kernels of inference, fp32: gradients of weights, which are sums over positions, and
// the update of Adam.
//
// Positions come in segments: segment s has n[s] of them, the first at a[s] and b[s], the others lda and ldb floats
// apart. Sums run over segments and positions in order, in every tile and on any number of threads.  Over-read: up to
// kSlack bytes behind the last position.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace dk {

struct Segments {
  int64_t count;
  const float* const* a;
  const float* const* b;
  const int64_t* n;
  int64_t lda, ldb;
};

struct GradientKernels {
  int width;  // floats in a vector
  // c[i * ldc + j] += sum over positions of a[i] * b[j], for i < m and j < n: a product whose left side is transposed,
  // with neither side copied.
  void (*outer)(const Segments&, int64_t m, int64_t n, float* c, int64_t ldc);
  // c[i] += sum over positions of a[i] * b[i], i < n.
  void (*inner)(const Segments&, int64_t n, float* c);
  // m += (g - m) * (1 - beta1), v += (g * g - v) * (1 - beta2), p -= m * rate / (sqrt(v) + epsilon); results may be
  // inputs.
  void (*adam)(const float* p, const float* m, const float* v, const float* g, float* new_p, float* new_m, float* new_v,
               int64_t n, float rate, float one_less_beta1, float one_less_beta2, float epsilon);
  // y = g * slope of gelu at x, i < n; y may be g or x.
  void (*gelu)(const float* g, const float* x, float* y, int64_t n, bool approximate);
};

DK_KERNEL_SETS(gradient, GradientKernels)
const GradientKernels* gradient_kernels();  // for this CPU

}  // namespace dk
