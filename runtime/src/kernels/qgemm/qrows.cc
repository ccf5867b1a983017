#include "kernels/qgemm/qrows.h"

#include <cstring>

namespace dk {

// Pointers of `m` successive output pixels of one output row, from column x0 on, for one kernel row: `base` is the
// input row, null when it lies outside.
static void fill_row(const ConvGeometry& g, const uint8_t* base, const uint8_t* zero, int64_t x0, int64_t m,
                     const uint8_t** to, int64_t stride) {
  const int64_t s = g.stride[2], c = g.c, width = g.in[2];
  for (int64_t kx = 0; kx < g.kernel[2]; ++kx, to += stride) {
    int64_t i = 0;
    if (base) {
      int64_t ix = x0 * s - g.before[2] + kx * g.dilation[2];
      for (; i < m && ix < 0; ++i, ix += s) to[i] = zero;
      int64_t inside = ix < width ? (width - 1 - ix) / s + 1 : 0;
      if (inside > m - i) inside = m - i;
      const uint8_t* p = base + ix * c;
      for (const int64_t end = i + inside; i < end; ++i, p += s * c) to[i] = p;
    }
    for (; i < m; ++i) to[i] = zero;
  }
}

static void fill_taps(const QGemmRows* self, int64_t m0, int64_t m, const uint8_t** to, int64_t stride) {
  const QConvTaps& t = *static_cast<const QConvTaps*>(self);
  const ConvGeometry& g = *t.g;
  const int64_t image = g.in[0] * g.in[1] * g.in[2] * g.c;
  while (m > 0) {
    const int64_t n = m0 / g.pixels(), pixel = m0 - n * g.pixels();
    const int64_t row = pixel / g.out[2], x0 = pixel - row * g.out[2];
    const int64_t z = row / g.out[1], y = row - z * g.out[1];
    const int64_t count = g.out[2] - x0 < m ? g.out[2] - x0 : m;
    const uint8_t** tap = to;
    for (int64_t kz = 0; kz < g.kernel[0]; ++kz) {
      const int64_t iz = z * g.stride[0] - g.before[0] + kz * g.dilation[0];
      for (int64_t ky = 0; ky < g.kernel[1]; ++ky, tap += stride * g.kernel[2]) {
        const int64_t iy = y * g.stride[1] - g.before[1] + ky * g.dilation[1];
        const bool inside = iz >= 0 && iz < g.in[0] && iy >= 0 && iy < g.in[1];
        fill_row(g, inside ? t.x + n * image + (iz * g.in[1] + iy) * g.in[2] * g.c : nullptr, t.zero, x0, count, tap,
                 stride);
      }
    }
    to += count;
    m0 += count;
    m -= count;
  }
}

QConvTaps::QConvTaps(const ConvGeometry* g, const uint8_t* x, const uint8_t* zero)
    : QGemmRows{fill_taps}, g(g), x(x), zero(zero) {}

static void fill_runs(const QGemmRows* self, int64_t m0, int64_t m, const uint8_t** to, int64_t stride) {
  const QConvRuns& t = *static_cast<const QConvRuns*>(self);
  const ConvGeometry& g = *t.g;
  const int64_t step = g.stride[2] * g.c;
  while (m > 0) {
    const int64_t row = m0 / g.out[2], x0 = m0 - row * g.out[2];
    const int64_t z = row / g.out[1], y = row - z * g.out[1];
    const int64_t count = g.out[2] - x0 < m ? g.out[2] - x0 : m;
    const uint8_t** tap = to;
    for (int64_t kz = 0; kz < g.kernel[0]; ++kz)
      for (int64_t ky = 0; ky < g.kernel[1]; ++ky, tap += stride) {
        const int64_t iz = z * g.stride[0] + kz * g.dilation[0], iy = y * g.stride[1] + ky * g.dilation[1];
        const uint8_t* p = t.x + ((iz * t.height + iy) * t.width) * g.c + x0 * step;
        for (int64_t i = 0; i < count; ++i, p += step) tap[i] = p;
      }
    to += count;
    m0 += count;
    m -= count;
  }
}

QConvRuns::QConvRuns(const ConvGeometry* g, const uint8_t* x, int64_t height, int64_t width)
    : QGemmRows{fill_runs}, g(g), x(x), height(height), width(width) {}

void qpad_rows(const ConvGeometry& g, const ConvPadding& p, const uint8_t* x, uint8_t zero, int64_t repeat, uint8_t* to,
               int64_t r0, int64_t r1) {
  const int64_t c = g.c * repeat, width = p.width;
  for (int64_t r = r0; r < r1; ++r, to += width * c) {
    const int64_t z = r / p.height - g.before[0], y = r % p.height - g.before[1];
    if (z < 0 || z >= g.in[0] || y < 0 || y >= g.in[1]) {
      std::memset(to, zero, static_cast<size_t>(width * c));
      continue;
    }
    // Columns [left, right) of the padded row lie in the input; `before` may be negative (cropping).
    const int64_t b = g.before[2];
    int64_t left = b > 0 ? b : 0, right = g.in[2] + b;
    if (left > width) left = width;
    if (right > width) right = width;
    if (right < left) right = left;
    const uint8_t* from = x + ((z * g.in[1] + y) * g.in[2] + (left - b)) * g.c;
    std::memset(to, zero, static_cast<size_t>(left * c));
    if (repeat == 1) {
      if (right > left) std::memcpy(to + left * c, from, static_cast<size_t>((right - left) * c));
    } else {
      uint8_t* d = to + left * c;
      for (int64_t i = 0; i < (right - left) * g.c; ++i)
        for (int64_t j = 0; j < repeat; ++j) *d++ = from[i];
    }
    std::memset(to + right * c, zero, static_cast<size_t>((width - right) * c));
  }
}

}  // namespace dk
