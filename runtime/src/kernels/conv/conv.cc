#include "kernels/conv/conv.h"

#include <cstring>

namespace dk {

// Pointers of `m` successive output pixels of one output row, starting at column x0, for one kernel row: `base` is the
// input row, null when it lies outside.
static void fill_row(const ConvGeometry& g, const float* base, const float* zero, int64_t x0, int64_t m,
                     const float** to, int64_t stride) {
  const int64_t s = g.stride[2], c = g.c, width = g.in[2];
  for (int64_t kx = 0; kx < g.kernel[2]; ++kx, to += stride) {
    if (!base) {
      for (int64_t i = 0; i < m; ++i) to[i] = zero;
      continue;
    }
    int64_t ix = x0 * s - g.before[2] + kx * g.dilation[2];
    int64_t i = 0;
    for (; i < m && ix < 0; ++i, ix += s) to[i] = zero;
    int64_t inside = ix < width ? (width - 1 - ix) / s + 1 : 0;
    if (inside > m - i) inside = m - i;
    const float* p = base + ix * c;
    for (const int64_t end = i + inside; i < end; ++i, p += s * c) to[i] = p;
    for (; i < m; ++i) to[i] = zero;
  }
}

static void fill_taps(const GemmRows* self, int64_t m0, int64_t m, const float** to, int64_t stride) {
  const ConvTaps& t = *static_cast<const ConvTaps*>(self);
  const ConvGeometry& g = *t.g;
  const int64_t image = g.in[0] * g.in[1] * g.in[2] * g.c;
  while (m > 0) {
    const int64_t n = m0 / g.pixels(), pixel = m0 - n * g.pixels();
    const int64_t row = pixel / g.out[2], x0 = pixel - row * g.out[2];
    const int64_t z = row / g.out[1], y = row - z * g.out[1];
    const int64_t count = g.out[2] - x0 < m ? g.out[2] - x0 : m;
    const float** tap = to;
    for (int64_t kz = 0; kz < g.kernel[0]; ++kz) {
      const int64_t iz = z * g.stride[0] - g.before[0] + kz * g.dilation[0];
      for (int64_t ky = 0; ky < g.kernel[1]; ++ky, tap += stride * g.kernel[2]) {
        const int64_t iy = y * g.stride[1] - g.before[1] + ky * g.dilation[1];
        const bool inside = iz >= 0 && iz < g.in[0] && iy >= 0 && iy < g.in[1];
        const float* base = inside ? t.x + n * image + (iz * g.in[1] + iy) * g.in[2] * g.c : nullptr;
        fill_row(g, base, t.zero, x0, count, tap, stride);
      }
    }
    to += count;
    m0 += count;
    m -= count;
  }
}

ConvTaps::ConvTaps(const ConvGeometry* g, const float* x, const float* zero)
    : GemmRows{fill_taps}, g(g), x(x), zero(zero) {}

static void fill_runs(const GemmRows* self, int64_t m0, int64_t m, const float** to, int64_t stride) {
  const ConvRuns& t = *static_cast<const ConvRuns*>(self);
  const ConvGeometry& g = *t.g;
  const int64_t step = g.stride[2] * g.c;
  while (m > 0) {
    const int64_t row = m0 / g.out[2], x0 = m0 - row * g.out[2];
    const int64_t z = row / g.out[1], y = row - z * g.out[1];
    const int64_t count = g.out[2] - x0 < m ? g.out[2] - x0 : m;
    const float** tap = to;
    for (int64_t kz = 0; kz < g.kernel[0]; ++kz) {
      for (int64_t ky = 0; ky < g.kernel[1]; ++ky, tap += stride) {
        const int64_t iz = z * g.stride[0] + kz * g.dilation[0], iy = y * g.stride[1] + ky * g.dilation[1];
        const float* p = t.x + ((iz * t.height + iy) * t.width) * g.c + x0 * step;
        for (int64_t i = 0; i < count; ++i, p += step) tap[i] = p;
      }
    }
    to += count;
    m0 += count;
    m -= count;
  }
}

ConvRuns::ConvRuns(const ConvGeometry* g, const float* x, int64_t height, int64_t width)
    : GemmRows{fill_runs}, g(g), x(x), height(height), width(width) {}

static int64_t reach(const ConvGeometry& g, int d) {
  return (g.out[d] - 1) * g.stride[d] + (g.kernel[d] - 1) * g.dilation[d] + 1;
}

ConvPadding::ConvPadding(const ConvGeometry* g) : g(g), depth(g->in[0]), height(g->in[1]), width(g->in[2]) {
  if (!needed()) return;
  depth = reach(*g, 0);
  height = reach(*g, 1);
  width = reach(*g, 2);
}

bool ConvPadding::needed() const {
  for (int d = 0; d < 3; ++d)
    if (g->before[d] != 0 || reach(*g, d) > g->in[d]) return true;
  return false;
}

bool ConvPadding::modest() const {
  auto volume = [this](double d, double h, double w) { return d * h * w * static_cast<double>(g->c); };
  const double padded = volume(static_cast<double>(depth), static_cast<double>(height), static_cast<double>(width));
  const double input =
      volume(static_cast<double>(g->in[0]), static_cast<double>(g->in[1]), static_cast<double>(g->in[2]));
  return padded <= 4 * input + 65536;
}

void ConvPadding::copy(const float* x, float* to, int64_t r0, int64_t r1) const {
  const int64_t c = g->c;
  to += r0 * width * c;
  for (int64_t r = r0; r < r1; ++r, to += width * c) {
    const int64_t z = r / height - g->before[0], y = r % height - g->before[1];
    if (z < 0 || z >= g->in[0] || y < 0 || y >= g->in[1]) {
      std::memset(to, 0, static_cast<size_t>(width * c) * 4);
      continue;
    }
    // Columns [left, right) of the padded row lie in the input; `before` may be negative (cropping).
    const int64_t b = g->before[2];
    int64_t left = b > 0 ? b : 0, right = g->in[2] + b;
    if (left > width) left = width;
    if (right > width) right = width;
    if (right < left) right = left;
    const float* from = x + ((z * g->in[1] + y) * g->in[2] + (left - b)) * c;
    std::memset(to, 0, static_cast<size_t>(left * c) * 4);
    if (right > left) std::memcpy(to + left * c, from, static_cast<size_t>((right - left) * c) * 4);
    std::memset(to + right * c, 0, static_cast<size_t>((width - right) * c) * 4);
  }
}

}  // namespace dk
