// Elementwise kernels on float vectors, and conversions of 16-bit floats.
//
// All pointers may be unaligned; exactly n elements are read and written; out may be the same pointer as an input,
// other overlap is not allowed.  Steps are 0 (one value for all) or 1.
#pragma once
#include <cstdint>

#include "base/cpu.h"

namespace dk {

// Order of the tables below.
// clang-format off: the formatter does not settle on this macro
#define DK_UNARY_F32(X)                                                                                             \
  X(abs)                                                                                                            \
  X(neg)                                                                                                            \
  X(sign)                                                                                                           \
  X(floor)                                                                                                          \
  X(ceil)                                                                                                           \
  X(round)                                                                                                          \
  X(trunc) X(sqrt) X(rsqrt) X(reciprocal) X(square) X(exp) X(expm1) X(log) X(log1p) X(tanh) X(erf) X(relu) X(relu6) \
      X(clip) X(leaky_relu) X(elu) X(selu) X(sigmoid) X(hard_sigmoid) X(hard_swish) X(silu) X(gelu) X(gelu_tanh)    \
          X(softplus) X(softsign) X(mish) X(sin) X(cos) X(thresholded_relu) X(shrink) X(celu)
// clang-format on
#define DK_BINARY_F32(X) X(add) X(sub) X(mul) X(div) X(minimum) X(maximum) X(squared_difference) X(prelu)
#define DK_COMPARE_F32(X) X(equal) X(not_equal) X(less) X(less_equal) X(greater) X(greater_equal)

enum class UnaryF32 : uint8_t {
#define X(name) name##_,
  DK_UNARY_F32(X)
#undef X
      count
};
enum class BinaryF32 : uint8_t {
#define X(name) name##_,
  DK_BINARY_F32(X)
#undef X
      count
};
enum class CompareF32 : uint8_t {
#define X(name) name##_,
  DK_COMPARE_F32(X)
#undef X
      count
};

// Untyped, so that ops keep loops of all element types in one kind of table.
// args: up to three numbers of the element type whose meaning is the op's (alpha, beta, ...), never null.
using UnaryLoop = void (*)(const void* x, void* y, int64_t n, const void* args);
using BinaryLoop = void (*)(const void* x, const void* y, void* z, int64_t n, int step_x, int step_y);

struct ElementwiseKernels {
  UnaryLoop unary[static_cast<int>(UnaryF32::count)];
  BinaryLoop binary[static_cast<int>(BinaryF32::count)];    // float results
  BinaryLoop compare[static_cast<int>(CompareF32::count)];  // bytes, 0 or 1
  // z[i] = condition[i] ? x[i] : y[i] on 4-byte elements
  void (*where32)(const uint8_t* condition, const void* x, const void* y, void* z, int64_t n, int step_x, int step_y);
  void (*f32_from_f16)(const uint16_t* x, float* y, int64_t n);
  void (*f16_from_f32)(const float* x, uint16_t* y, int64_t n);
  void (*f32_from_bf16)(const uint16_t* x, float* y, int64_t n);
  void (*bf16_from_f32)(const float* x, uint16_t* y, int64_t n);
  void (*f32_from_u8)(const uint8_t* x, float* y, int64_t n);
  void (*f32_from_s8)(const int8_t* x, float* y, int64_t n);
  void (*f32_from_s32)(const int32_t* x, float* y, int64_t n);
};

DK_KERNEL_SETS(elementwise, ElementwiseKernels)

}  // namespace dk
