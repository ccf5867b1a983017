// Reductions of float tensors: of contiguous rows to one number, and of rows to one row.
//
// Sums are taken in blocks: up to kRowBlock elements (or kColumnBlock rows) in float lanes, blocks in double.  The
// order depends on nothing but the length, so results do not depend on threads.
#pragma once
#include <cstdint>

#include "base/cpu.h"

namespace dk {

enum class Fold : uint8_t { sum, sum_abs, sum_square, product, max, min, count };

constexpr int kFoldTile = 64;  // columns per call

struct ReduceKernels {
  // The fold of n contiguous elements.  max and min give NaN if there is one.
  double (*row[static_cast<int>(Fold::count)])(const float* x, int64_t n);
  // to[c] = fold of to[c] and of x[r * stride + c] over r < rows; columns <= kFoldTile.
  void (*columns[static_cast<int>(Fold::count)])(const float* x, int64_t rows, int columns, int64_t stride, double* to);
  // Index of the first (or last) of n elements that equals v; -1 if none does.
  int64_t (*find)(const float* x, int64_t n, float v, bool last);
};

DK_KERNEL_SETS(reduce, ReduceKernels)

}  // namespace dk
