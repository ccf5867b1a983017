// Transforms of Winograd's minimal filtering for 3x3 kernels with stride 1, channels last: Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks" (2015).  F(r, 3) makes r x r outputs from a t x t patch, t = r + 2, by
// t * t products where direct summation needs 9 * r * r:
//
//   y = A' [(G g G') * (B' x B)] A        per channel; * elementwise, summed over input channels by t * t GEMMs
//
// F(2,3) interpolates at 0, +-1, infinity and is as exact as direct summation.  F(4,3) uses 0, +-sqrt(1/2), +-sqrt(2),
// infinity: larger factors than direct summation, but smaller than those of the usual points 0, +-1, +-2 (Barabasz et
// al., "Error Analysis and Improving the Accuracy of Winograd Convolution", 2018).
//
// Nothing is over-read except bias (read in whole vectors, padded by the caller).
#pragma once
#include <cstdint>

namespace dk {

struct WinogradInput {
  const float* const* x;  // t * t pixels of c numbers; outside the image: a row of zeros
  int64_t c;
  float* v;  // position p at v + p * stride
  int64_t stride;
};

struct WinogradOutput {
  const float* m;  // position p at m + p * stride, n numbers
  int64_t stride;
  int64_t n;
  const float* bias;
  float low, high;
  float* const* y;  // r * r pixels; null: outside the image
};

struct WinogradKernels {
  void (*input2)(const WinogradInput*);
  void (*input4)(const WinogradInput*);
  void (*output2)(const WinogradOutput*);
  void (*output4)(const WinogradOutput*);
};

const WinogradKernels* winograd_kernels();  // for this CPU

// G g G' of the 3x3 kernels of c channels, computed in double: r = 2 or 4; element (ky, kx) of channel i at
// g + (ky * 3 + kx) * c + i; position p of channel i to to[p * stride + i].
void winograd_weight(int r, const float* g, int64_t c, float* to, int64_t stride);

}  // namespace dk
