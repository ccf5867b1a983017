// Depthwise convolution, fp32, channels last: y[x, c] = epilogue(sum over kernel positions of x[.., c] * w[.., c]).
//
// The unit of work is a strip of output rows.  The input is read in place, and no padding is ever copied: the caller
// gives null for kernel rows outside the image, the kernel leaves out columns outside it.  Sums run over kernel rows,
// then columns, in this order in every cell.
//
// Over-read: up to kSlack bytes behind the input.  Weights and bias are padded to whole vectors.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

struct DepthwiseStrip {
  int64_t rows;             // output rows
  int64_t taps;             // kernel rows (depth times height)
  const float* const* row;  // row[y * taps + r]: input row (width * c numbers) under kernel row r, or null
  bool sliding;             // row[y * taps + r + 1] == row[(y + 1) * taps + r]: stride and dilation 1, one depth
  const float* weight;      // taps * kernel * padded numbers
  int64_t c, padded;        // channels, and rounded up to whole vectors
  int64_t width;            // input columns
  int64_t kernel, stride, dilation, before;
  int64_t out;        // output columns
  int64_t from, to;   // those to compute
  const float* bias;  // padded numbers
  float* y;           // rows * out * c numbers, column 0 of the first row
  float low, high;
};

struct DepthwiseKernels {
  int width;  // numbers in a vector: channels are padded to a multiple
  void (*strip)(const DepthwiseStrip*);
};

const DepthwiseKernels* depthwise_kernels();  // for this CPU

}  // namespace dk
