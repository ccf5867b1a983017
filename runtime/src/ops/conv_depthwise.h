// Depthwise convolution of some output rows, wherever the input rows lie.
#pragma once
#include "ops/conv_state.h"

namespace dk {

constexpr int64_t kStripRows = 16;      // output rows at once
constexpr int64_t kDepthwiseTaps = 64;  // kernel rows that the kernels take

// Rows [b, b + rows) of all output rows (images, planes, heights), at most kStripRows of one plane, to p.y on (and from
// p.residual on); columns [from, to).  row_at(n, z, y) is an input row that exists.
template <class RowAt>
void depthwise_rows(const ConvState& s, const ConvPointers& p, int64_t b, int64_t rows, int64_t from, int64_t to,
                    RowAt&& row_at) {
  const ConvGeometry& g = s.g;
  const float* row[kStripRows * kDepthwiseTaps];
  DepthwiseStrip t;
  t.rows = rows;
  t.taps = g.kernel[0] * g.kernel[1];
  t.row = row;
  t.sliding = g.kernel[0] == 1 && g.stride[1] == 1 && g.dilation[1] == 1;
  t.weight = p.packed;
  t.c = s.o;
  t.padded = s.padded;
  t.width = g.in[2];
  t.kernel = g.kernel[2];
  t.stride = g.stride[2];
  t.dilation = g.dilation[2];
  t.before = g.before[2];
  t.out = g.out[2];
  t.from = from;
  t.to = to;
  t.bias = p.bias;
  const bool clamps = s.clamps(p.residual);
  t.low = clamps ? s.epilogue.low : -__builtin_inff();
  t.high = clamps ? s.epilogue.high : __builtin_inff();
  const int64_t plane = b / g.out[1], y0 = b - plane * g.out[1];
  const int64_t n = plane / g.out[0], z = plane - n * g.out[0];
  const float** to_row = row;
  for (int64_t y = y0; y < y0 + rows; ++y)
    for (int64_t kz = 0; kz < g.kernel[0]; ++kz)
      for (int64_t ky = 0; ky < g.kernel[1]; ++ky) {
        const int64_t iz = z * g.stride[0] - g.before[0] + kz * g.dilation[0];
        const int64_t iy = y * g.stride[1] - g.before[1] + ky * g.dilation[1];
        const bool inside = iz >= 0 && iz < g.in[0] && iy >= 0 && iy < g.in[1];
        *to_row++ = inside ? row_at(n, iz, iy) : nullptr;
      }
  t.y = p.y;
  s.depthwise->strip(&t);
  if (clamps) return;
  // All pixels of a row as one.
  const int64_t first = from * s.o, numbers = (to - from) * s.o;
  GemmFinish f = finish_of(s, t.y + first, p.residual ? p.residual + first : nullptr);
  f.m = static_cast<int>(rows);
  f.n = static_cast<int>(numbers);
  f.ldc = f.ldr = g.out[2] * s.o;
  for (int64_t r = 0; numbers >= 1 << 30 && r < rows; ++r) {  // too long for an int
    GemmFinish pixels = f;
    pixels.c += r * f.ldc;
    if (pixels.residual) pixels.residual += r * f.ldr;
    pixels.m = static_cast<int>(to - from);
    pixels.n = static_cast<int>(s.o);
    pixels.ldc = pixels.ldr = s.o;
    s.gemm->finish(&pixels);
  }
  if (numbers < 1 << 30) s.gemm->finish(&f);
}

}  // namespace dk
