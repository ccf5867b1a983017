// Where a convolution's taps find their input bytes: row sources for the 8-bit products, as kernels/conv/conv.h has
// them for floats.  x is [N, in..., C] with three spatial dims.
#pragma once
#include "kernels/conv/conv.h"
#include "kernels/qgemm/qgemm.h"

namespace dk {

// One tap per kernel position, C bytes each; positions outside the input give `zero`, C bytes of the zero point.
struct QConvTaps : QGemmRows {
  const ConvGeometry* g;
  const uint8_t* x;
  const uint8_t* zero;
  QConvTaps(const ConvGeometry* g, const uint8_t* x, const uint8_t* zero);
};

// One tap per row of the kernel, kernel[2] * C contiguous bytes each, over one padded image.  Needs dilation[2] == 1.
struct QConvRuns : QGemmRows {
  const ConvGeometry* g;
  const uint8_t* x;  // [depth, height, width, C]
  int64_t height, width;
  QConvRuns(const ConvGeometry* g, const uint8_t* x, int64_t height, int64_t width);
};

// Copies rows [r0, r1) of the padded image [depth, height, width, C * repeat] of ConvPadding's geometry, row =
// z * height + y, from the image x; `to` is where row r0 goes; outside is `zero`.  Every channel is written `repeat`
// times.
void qpad_rows(const ConvGeometry& g, const ConvPadding& p, const uint8_t* x, uint8_t zero, int64_t repeat, uint8_t* to,
               int64_t r0, int64_t r1);

}  // namespace dk
