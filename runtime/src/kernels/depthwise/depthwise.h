// Depthwise convolution, fp32, channels last: y[x, c] = epilogue(sum over kernel positions of x[.., c] * w[.., c]).
//
// The unit of work is one output row.  The input is read in place; kernel rows outside the image are left out by the
// caller, columns outside it by the kernel: no padding is ever copied.  Sums run over kernel rows, then columns, in
// this order in every cell.
//
// Over-read: up to kSlack bytes behind the input.  Weights and bias are padded to whole vectors.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

struct DepthwiseRow {
  int rows;                    // kernel rows inside the image
  const float* const* row;     // their input rows, width * c numbers each
  const float* const* weight;  // and weights, kernel * padded numbers each
  int64_t c, padded;           // channels, and rounded up to whole vectors
  int64_t width;               // input columns
  int64_t kernel, stride, dilation, before;
  int64_t out;            // output columns
  const float* bias;      // padded numbers
  float* y;               // out * c numbers
  const float* residual;  // null, or as y
  bool residual_first;    // added before the clamp
  float low, high;
};

struct DepthwiseKernels {
  int width;  // numbers in a vector: channels are padded to a multiple
  void (*row)(const DepthwiseRow*);
};

const DepthwiseKernels* depthwise_kernels();  // for this CPU

}  // namespace dk
