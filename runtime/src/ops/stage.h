// Blocks between the dtypes of tensors and the wide type that a kernel computes in (f32, f64, s64 or u64; see
// base/convert.h), with the SIMD conversions of 16-bit floats.
#pragma once
#include "base/convert.h"
#include "kernels/elementwise/elementwise.h"

namespace dk {

constexpr int kStage = 256;  // elements of a block on the stack

enum Kinds : uint8_t { kF = 1, kI = 2, kB = 4 };  // floats, integers, bool

static inline uint8_t kind_of(DType t) { return t == DType::b8 ? kB : is_float(t) ? kF : kI; }

static inline DType wide_dtype(DType t) {
  constexpr DType kWide[] = {DType::f32, DType::f64, DType::s64, DType::u64};
  return kWide[static_cast<int>(wide_of(t))];
}

// Items per part so that a part holds `budget` units of work; in double, as shapes of a file may be absurd.
static inline int64_t grain_for(double budget, double work_per_item) {
  return 1 + static_cast<int64_t>(budget / (work_per_item < 1 ? 1 : work_per_item));
}

// n elements of `from` to `wide`, any of the four, by the rules of cast.
void stage_in(const ElementwiseKernels* k, DType from, const void* in, DType wide, void* out, int64_t n);

// The way back: rounds or wraps once; float8 results overflow to what their format has for it.
void stage_out(const ElementwiseKernels* k, DType wide, const void* in, DType to, void* out, int64_t n);

}  // namespace dk
