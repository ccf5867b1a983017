// grid_sample and roi_align: weighted sums of pixels at computed places, channels last, so that a pixel is one run of
// channels.  Formulas and precision as in deploykit/ops/image.py.
#include <cmath>

#include "base/convert.h"
#include "kernels/resize/resize.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_image_sample;

namespace {

size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

// Channels of one pixel as the type the sums are made in.
template <class W>
inline const W* pixel(const Tensor& x, int64_t at, int64_t channels, W* buffer) {
  const char* p = x.as<char>() + static_cast<size_t>(at * channels) * dtype_size(x.dtype);
  if constexpr (sizeof(W) == 4) {
    if (x.dtype == DType::f32) return reinterpret_cast<const float*>(p);
    load_wide(x.dtype, p, channels, buffer);
  } else {
    if (x.dtype == DType::f64) return reinterpret_cast<const double*>(p);
    convert(x.dtype, p, DType::f64, buffer, channels);
  }
  return buffer;
}

void int_range(DType t, double* low, double* high) {
  const bool is_signed =
      t == DType::s8 || t == DType::s16 || t == DType::s32 || t == DType::s64 || t == DType::s4 || t == DType::s2;
  const int bits = t == DType::s4 || t == DType::u4   ? 4
                   : t == DType::s2 || t == DType::u2 ? 2
                                                      : static_cast<int>(dtype_size(t)) * 8;
  *low = is_signed ? -std::ldexp(1.0, bits - 1) : 0;
  *high = std::ldexp(1.0, is_signed ? bits - 1 : bits) - 1;
}

template <class W>
inline void store_pixel(const Tensor& y, int64_t at, int64_t channels, W* sum) {
  char* p = static_cast<char*>(y.data) + static_cast<size_t>(at * channels) * dtype_size(y.dtype);
  if constexpr (sizeof(W) == 4) {
    store_wide(y.dtype, sum, channels, p);
  } else {
    if (!is_float(y.dtype)) {
      double low, high;
      int_range(y.dtype, &low, &high);
      for (int64_t i = 0; i < channels; ++i) {
        const double v = std::nearbyint(sum[i]);
        sum[i] = v < low ? low : v > high ? high : v;
      }
    }
    convert(DType::f64, sum, y.dtype, p, channels);
  }
}

// ---- grid_sample

namespace G = attr::grid_sample_;
namespace GC = choice::grid_sample_;

Status grid_sample_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& grid = *c.in(1);
  if (x.rank < 3 || x.rank > 5) return c.fail(Code::shape, "x must have rank 3 to 5; got %d", x.rank);
  if (grid.rank != x.rank) return c.fail(Code::shape, "grid has rank %d, x has %d", grid.rank, x.rank);
  if (!is_float(grid.dtype)) return c.fail(Code::shape, "grid must be floats; got %s", dtype_name(grid.dtype));
  if (x.dtype == DType::b8) return c.fail(Code::unsupported, "no kernel for dtype bool");
  if (grid.dims[0] != x.dims[0])
    return c.fail(Code::shape, "batch sizes differ: x has %lld, grid has %lld", static_cast<long long>(x.dims[0]),
                  static_cast<long long>(grid.dims[0]));
  if (grid.dims[grid.rank - 1] != x.rank - 2)
    return c.fail(Code::shape, "grid has %lld coordinates per point, expected %d",
                  static_cast<long long>(grid.dims[grid.rank - 1]), x.rank - 2);
  int64_t dims[kMaxRank];
  memcpy(dims, grid.dims, sizeof dims);
  dims[x.rank - 1] = x.dims[x.rank - 1];
  return c.set_out(0, x.dtype, x.rank, dims);
}

// Mirrors a coordinate at both borders until it lies between them.
double mirror(double v, double low, double high) {
  const double span = high - low;
  if (span <= 0) return low;
  if (!(v < low) && !(v > high)) return v;
  const double past = v < low ? low - v : v - high;
  const double turns = std::floor(past / span), rest = past - turns * span;
  const bool even = std::fmod(turns, 2.0) == 0;
  return v < low ? (even ? low + rest : high - rest) : (even ? high - rest : low + rest);
}

double keys(double x) {  // Keys' cubic kernel, a = -0.75
  constexpr double a = -0.75;
  x = std::fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((x - 5) * x + 8) * x * a - 4 * a;
  return 0;
}

// What one coordinate of a point contributes: up to four elements of its axis with weights.
struct Taps {
  int n;
  int64_t index[4];
  double weight[4];
};

template <class T>  // the precision of the grid
Taps taps_of(T g, int64_t size, int64_t mode, int64_t padding, bool corners) {
  const double low = corners ? 0.0 : -0.5;
  const double high = corners ? static_cast<double>(size) - 1.0 : static_cast<double>(size) - 0.5;
  T v = corners ? (g + 1) * T(0.5) * static_cast<T>(size - 1) : ((g + 1) * static_cast<T>(size) - 1) * T(0.5);
  if (mode == GC::mode::nearest_) v = std::nearbyint(v);
  double at = v;
  if (at < low || at > high) {
    if (padding == GC::padding::border_ && mode != GC::mode::cubic_) {  // cubic clamps its taps, below
      at = at < 0 ? 0 : at > static_cast<double>(size - 1) ? static_cast<double>(size - 1) : at;
    } else if (padding == GC::padding::reflection_) {
      at = mirror(at, low, high);
    }
  }
  Taps t;
  t.n = mode == GC::mode::nearest_ ? 1 : mode == GC::mode::linear_ ? 2 : 4;
  const double base = mode == GC::mode::nearest_ ? std::nearbyint(at) : std::floor(at);
  const int first = t.n == 4 ? -1 : 0;
  for (int k = 0; k < t.n; ++k) {
    double p = base + (first + k);
    t.weight[k] = t.n == 1 ? 1.0 : t.n == 2 ? 1 - std::fabs(at - p) : keys(at - p);
    if (padding == GC::padding::zeros_ && !(p >= 0 && p < static_cast<double>(size))) t.weight[k] = 0;
    if (padding == GC::padding::reflection_) p = mirror(p, low, high);
    t.index[k] = p > 0 ? p < static_cast<double>(size - 1) ? static_cast<int64_t>(p) : size - 1 : 0;
  }
  return t;
}

bool sums_in_float(DType t) { return wide_of(t) == Wide::f32; }

Status grid_sample_prepare(OpContext& c) {
  const Tensor& x = *c.in(0);
  const size_t row = static_cast<size_t>(x.dims[x.rank - 1]) * (sums_in_float(x.dtype) ? 4 : 8);
  return c.need_scratch(2 * align64(row) * static_cast<size_t>(c.threads()));
}

// The taps of point r, outermost spatial dim first; missing dims get one tap of weight 1.
struct Points {
  const Tensor& x;
  const Tensor& grid;
  int64_t mode, padding;
  bool corners;

  void taps(int64_t r, Taps* to) const {
    const int d = x.rank - 2;
    for (int k = 0; k < 3 - d; ++k) to[k] = {1, {0}, {1.0}};
    for (int k = 0; k < d; ++k) {
      const int64_t at = r * d + (d - 1 - k);  // the grid gives the innermost dim first
      const int64_t size = x.dims[1 + k];
      if (grid.dtype == DType::f64) {
        to[3 - d + k] = taps_of<double>(grid.as<double>()[at], size, mode, padding, corners);
      } else {
        float g;
        load_wide(grid.dtype, grid.as<char>() + static_cast<size_t>(at) * dtype_size(grid.dtype), 1, &g);
        to[3 - d + k] = taps_of<float>(g, size, mode, padding, corners);
      }
    }
  }

  // Calls f(pixel within the image, weight) for every combination of taps.
  template <class F>
  void each(const Taps* t, F&& f) const {
    const int64_t h = x.rank >= 4 ? x.dims[x.rank - 3] : 1, w = x.dims[x.rank - 2];
    for (int p = 0; p < t[0].n; ++p)
      for (int q = 0; q < t[1].n; ++q)
        for (int s = 0; s < t[2].n; ++s)
          f((t[0].index[p] * h + t[1].index[q]) * w + t[2].index[s], t[0].weight[p] * t[1].weight[q] * t[2].weight[s]);
  }
};

// float32: the weights of a few points at a time, then one call of the resampling kernel.
void sample_float(const OpContext& c, const Points& points) {
  constexpr int64_t kAtOnce = 16;
  const Tensor& x = points.x;
  const int64_t channels = x.dims[x.rank - 1], image = product(x, 1, x.rank - 1);
  const int64_t per_image = product(points.grid, 1, points.grid.rank - 1);
  const ResizeKernels* kernels = resize_kernels();
  c.parallel(x.dims[0] * per_image, 4096 / (channels + 16) + 1, [&](int64_t b, int64_t e, int) {
    int32_t index[kAtOnce * 64];
    float weight[kAtOnce * 64];
    for (int64_t r = b; r < e;) {
      const int64_t batch = r / per_image, limit = (batch + 1) * per_image;
      int64_t n = e < limit ? e - r : limit - r;
      if (n > kAtOnce) n = kAtOnce;
      int count = 0;
      Taps t[3] = {};
      for (int64_t i = 0; i < n; ++i) {
        points.taps(r + i, t);
        points.each(t, [&](int64_t at, double w) {
          index[count] = static_cast<int32_t>(at);
          weight[count++] = static_cast<float>(w);
        });
      }
      kernels->cols(c.out(0)->as<float>() + r * channels, x.as<float>() + batch * image * channels, index, weight,
                    t[0].n * t[1].n * t[2].n, n, channels);
      r += n;
    }
  });
}

template <class W>
void sample(const OpContext& c, const Points& points) {
  const Tensor& x = points.x;
  const int64_t channels = x.dims[x.rank - 1], image = product(x, 1, x.rank - 1);
  const int64_t per_image = product(points.grid, 1, points.grid.rank - 1);
  const size_t row = align64(static_cast<size_t>(channels) * sizeof(W));
  c.parallel(x.dims[0] * per_image, 4096 / (channels + 16) + 1, [&](int64_t b, int64_t e, int lane) {
    char* mine = static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * 2 * row;
    W* sum = reinterpret_cast<W*>(mine);
    W* buffer = reinterpret_cast<W*>(mine + row);
    for (int64_t r = b; r < e; ++r) {
      Taps t[3] = {};
      points.taps(r, t);
      for (int64_t i = 0; i < channels; ++i) sum[i] = 0;
      points.each(t, [&](int64_t at, double w) {
        const W* v = pixel<W>(x, r / per_image * image + at, channels, buffer);
        for (int64_t i = 0; i < channels; ++i) sum[i] += static_cast<W>(w) * v[i];
      });
      store_pixel<W>(*c.out(0), r, channels, sum);
    }
  });
}

Status grid_sample_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (c.out(0)->count() == 0) return Code::ok;
  if (x.count() == 0) {
    memset(c.out(0)->data, 0, c.out(0)->bytes());
    return Code::ok;
  }
  const Points points{x, *c.in(1), c.attr_int(G::mode), c.attr_int(G::padding), c.attr_int(G::align_corners) != 0};
  if (x.dtype == DType::f32 && product(x, 1, x.rank - 1) <= INT32_MAX)
    sample_float(c, points);
  else if (sums_in_float(x.dtype))
    sample<float>(c, points);
  else
    sample<double>(c, points);
  return Code::ok;
}

// ---- roi_align

namespace R = attr::roi_align_;

constexpr int64_t kMostPoints = 4096;  // samples along a side of a bin; more would run for hours

Status roi_align_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& rois = *c.in(1);
  const Tensor& batch = *c.in(2);
  if (x.rank != 4) return c.fail(Code::shape, "x must be [N,H,W,C]; got rank %d", x.rank);
  if (rois.rank != 2 || rois.dims[1] != 4) return c.fail(Code::shape, "rois must be [number, 4]");
  if (!is_index(batch.dtype) || batch.rank != 1 || batch.dims[0] != rois.dims[0])
    return c.fail(Code::shape, "batch_indices must be an int64 vector with %lld elements",
                  static_cast<long long>(rois.dims[0]));
  DK_TRY(same_dtype(c, 0, 1));
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x must be floats; got %s", dtype_name(x.dtype));
  const int64_t h = c.attr_int(R::output_height), w = c.attr_int(R::output_width);
  if (h < 1 || w < 1)
    return c.fail(Code::shape, "output size is %lld x %lld, expected 1 or more", static_cast<long long>(h),
                  static_cast<long long>(w));
  if (c.attr_int(R::sampling_ratio) > kMostPoints)
    return c.fail(Code::shape, "sampling_ratio is %lld, expected at most %lld",
                  static_cast<long long>(c.attr_int(R::sampling_ratio)), static_cast<long long>(kMostPoints));
  const int64_t dims[4] = {rois.dims[0], h, w, x.dims[3]};
  return c.set_out(0, x.dtype, 4, dims);
}

Status roi_align_prepare(OpContext& c) {
  const Tensor& x = *c.in(0);
  const size_t row = static_cast<size_t>(x.dims[3]) * (sums_in_float(x.dtype) ? 4 : 8);
  return c.need_scratch(2 * align64(row) * static_cast<size_t>(c.threads()));
}

// One sampling coordinate: two elements and their weights; not valid further than 1 outside.
template <class W>
struct Sample {
  int64_t low, high;
  W weight;  // of high
  bool valid;
};

template <class W>
Sample<W> sample_at(W v, int64_t n) {
  Sample<W> s{0, 0, 0, v >= W(-1) && v <= static_cast<W>(n)};
  if (!s.valid) return s;
  if (v < 0) v = 0;
  s.low = static_cast<int64_t>(v);
  if (s.low > n - 1) s.low = n - 1;
  s.weight = s.low >= n - 1 ? W(0) : v - static_cast<W>(s.low);
  s.high = s.low + 1 < n ? s.low + 1 : n - 1;
  return s;
}

template <class W>
struct Side {  // a side of a roi: start, length of a bin, samples in a bin
  W start, bin;
  int64_t points;
  W at(int64_t cell, int64_t k) const {
    return start + static_cast<W>(cell) * bin + (static_cast<W>(k) + W(0.5)) * bin / static_cast<W>(points);
  }
};

template <class W>
Status align_rois(const OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& rois = *c.in(1);
  Tensor& y = *c.out(0);
  const bool half = c.attr_int(R::half_pixel) != 0, average = c.attr_int(R::mode) == choice::roi_align_::mode::avg_;
  const int64_t oh = y.dims[1], ow = y.dims[2], channels = x.dims[3], h = x.dims[1], w = x.dims[2];
  const int64_t ratio = c.attr_int(R::sampling_ratio);
  const W scale = static_cast<W>(c.attr_double(R::spatial_scale)), shift = half ? W(0.5) : W(0);
  const size_t row = align64(static_cast<size_t>(channels) * sizeof(W));
  auto side = [&](W low, W high, int64_t bins) {
    low = low * scale - shift, high = high * scale - shift;
    W length = high - low;
    if (!half && !(length >= 1)) length = 1;
    Side<W> s{low, length / static_cast<W>(bins), ratio};
    if (ratio <= 0) {
      const W n = std::ceil(s.bin);
      s.points = n > 0 ? n < static_cast<W>(kMostPoints) ? static_cast<int64_t>(n) : kMostPoints + 1 : 0;
    }
    return s;
  };
  auto box = [&](int64_t r, Side<W>* sy, Side<W>* sx) {
    W b[4];
    pixel<W>(rois, r, 4, b);
    if (rois.dtype == (sizeof(W) == 4 ? DType::f32 : DType::f64)) memcpy(b, rois.as<W>() + 4 * r, sizeof b);
    *sy = side(b[1], b[3], oh);
    *sx = side(b[0], b[2], ow);
  };
  for (int64_t r = 0; r < rois.dims[0]; ++r) {
    Side<W> sy, sx;
    box(r, &sy, &sx);
    if (sy.points > kMostPoints || sx.points > kMostPoints)
      return c.fail(Code::index, "roi %lld is too large to sample", static_cast<long long>(r));
  }
  c.parallel(rois.dims[0] * oh, 1, [&](int64_t begin, int64_t end, int lane) {
    char* mine = static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * 2 * row;
    W* sum = reinterpret_cast<W*>(mine);
    W* buffer = reinterpret_cast<W*>(mine + row);
    for (int64_t u = begin; u < end; ++u) {
      const int64_t r = u / oh, i = u % oh;
      const int64_t base = index_at(*c.in(2), r) * h * w;
      Side<W> sy, sx;
      box(r, &sy, &sx);
      for (int64_t j = 0; j < ow; ++j) {
        for (int64_t k = 0; k < channels; ++k) sum[k] = average ? W(0) : -static_cast<W>(INFINITY);
        if (sy.points == 0 || sx.points == 0)
          for (int64_t k = 0; k < channels; ++k) sum[k] = 0;
        for (int64_t p = 0; p < sy.points && sx.points > 0; ++p) {
          const Sample<W> a = sample_at(sy.at(i, p), h);
          for (int64_t q = 0; q < sx.points; ++q) {
            const Sample<W> b = sample_at(sx.at(j, q), w);
            const int64_t at[4] = {a.low * w + b.low, a.low * w + b.high, a.high * w + b.low, a.high * w + b.high};
            const W weight[4] = {(1 - a.weight) * (1 - b.weight), (1 - a.weight) * b.weight, a.weight * (1 - b.weight),
                                 a.weight * b.weight};
            for (int t = 0; t < 4; ++t) {
              if (!a.valid || !b.valid) {
                for (int64_t k = 0; k < channels && !average; ++k) sum[k] = sum[k] > 0 ? sum[k] : 0;
                continue;
              }
              const W* v = pixel<W>(x, base + at[t], channels, buffer);
              if (average)
                for (int64_t k = 0; k < channels; ++k) sum[k] += weight[t] * v[k];
              else
                for (int64_t k = 0; k < channels; ++k) sum[k] = sum[k] > weight[t] * v[k] ? sum[k] : weight[t] * v[k];
            }
          }
        }
        if (average && sy.points > 0 && sx.points > 0)
          for (int64_t k = 0; k < channels; ++k) sum[k] /= static_cast<W>(sy.points * sx.points);
        store_pixel<W>(y, u * ow + j, channels, sum);
      }
    }
  });
  return Code::ok;
}

Status roi_align_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& batch = *c.in(2);
  for (int64_t r = 0; r < batch.dims[0]; ++r) {
    const int64_t v = index_at(batch, r);
    if (v < 0 || v >= x.dims[0])
      return c.fail(Code::index, "batch_indices[%lld] is %lld, expected 0 to %lld", static_cast<long long>(r),
                    static_cast<long long>(v), static_cast<long long>(x.dims[0] - 1));
  }
  if (c.out(0)->count() == 0) return Code::ok;
  if (x.count() == 0) return c.fail(Code::shape, "x has no pixels");
  return sums_in_float(x.dtype) ? align_rois<float>(c) : align_rois<double>(c);
}

const OpDef defs[] = {
    {Opcode::grid_sample_, grid_sample_infer, grid_sample_prepare, grid_sample_run},
    {Opcode::roi_align_, roi_align_infer, roi_align_prepare, roi_align_run},
};

}  // namespace

const OpList ops_image_sample = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
