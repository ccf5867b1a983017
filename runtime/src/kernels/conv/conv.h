// Where a convolution's taps find their input: row sources for the GEMM core (kernels/gemm/gemm.h).
// x is [N, in..., C] with three spatial dims, ones in front when the op has fewer.
#pragma once
#include "kernels/gemm/gemm.h"

namespace dk {

struct ConvGeometry {
  int64_t n, c;  // images, channels of x
  int64_t in[3], kernel[3], out[3], stride[3], dilation[3], before[3];

  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t pixels() const { return out[0] * out[1] * out[2]; }
};

// One tap per kernel position, C numbers each.  Row m is output pixel m of all images; positions outside the input give
// `zero`, a row of C zeros.
struct ConvTaps : GemmRows {
  const ConvGeometry* g;
  const float* x;
  const float* zero;
  ConvTaps(const ConvGeometry* g, const float* x, const float* zero);
};

// For few channels: one tap per row of the kernel, kernel[2] * C contiguous numbers each, over one padded image (or one
// that needs no padding).  Needs dilation[2] == 1.
struct ConvRuns : GemmRows {
  const ConvGeometry* g;
  const float* x;  // [depth, height, width, C]
  int64_t height, width;
  ConvRuns(const ConvGeometry* g, const float* x, int64_t height, int64_t width);
};

// The input as its windows see it: rows [r0, r1) of [depth, height, width, C] with zeros around, row = z * height + y.
struct ConvPadding {
  const ConvGeometry* g;
  int64_t depth, height, width;
  explicit ConvPadding(const ConvGeometry* g);
  bool needed() const;  // false: the input itself serves
  bool modest() const;  // the copy is not much larger than the input (huge strides over huge pads can make it so)
  size_t bytes() const { return static_cast<size_t>(depth * height * width * g->c) * 4; }
  void copy(const float* x, float* to, int64_t r0, int64_t r1) const;
};

}  // namespace dk
