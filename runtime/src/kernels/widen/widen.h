// Weights stored narrow, widened to float32 on the way: panels for the GEMM core, and products of one row that read the
// narrow bytes directly (these are bound by memory, so fewer bytes are time).
//
// A panel holds nr columns (a shape of kernels/gemm): [k][nr] elements of 1 or 2 bytes, or [ceil(k / 2)][nr] bytes with
// two 4-bit numbers each, the lower half first.  4-bit numbers are unsigned.  Scales and zero points are float32
// [blocks][nr], block rows each:  w = (q - zero) * scale.  16-bit floats have none.
#pragma once
#include <cstdint>

namespace dk {

enum class Narrow : uint8_t { s8, u4, f16, bf16 };

struct WidenPanel {
  const void* panel;
  int64_t k, block;    // rows; rows per scale
  const float* scale;  // null for 16-bit floats
  const float* zero;
  const float* sums;  // for `row`: of x, one per block (where there are scales)
  int nv;             // nr / kW, 1 to 3
};

struct WidenKernels {
  // The panel as floats [k][nr].
  void (*panel)(Narrow type, const WidenPanel* p, float* to);
  // y[0..nr) = bias + sum over k of x[k] * w[k]
  void (*row)(Narrow type, const WidenPanel* p, const float* x, const float* bias, float* y);
};

const WidenKernels* widen_kernels();

}  // namespace dk
