// The source of all norm_<isa>.cc; see norm.h for the contract.
#include "kernels/norm/norm.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

constexpr int64_t kRowBlock = 1024;   // elements summed in float lanes before they go to double
constexpr int64_t kColumnBlock = 64;  // rows likewise

struct Moments {
  double sum, square;  // of x - shift
};

template <bool kSum, bool kSquare>
DK_INL Moments row_moments(const float* x, int64_t n, float by) {
  const f32 shift = splat<f32>(by);
  Moments total = {0, 0};
  for (int64_t begin = 0; begin < n; begin += kRowBlock) {
    const int64_t end = n - begin < kRowBlock ? n : begin + kRowBlock;
    f32 a[4] = {}, b[4] = {};
    int64_t i = begin;
    for (; i + 4 * kW <= end; i += 4 * kW) {
      DK_UNROLL
      for (int k = 0; k < 4; ++k) {
        const f32 d = load<f32>(x + i + k * kW) - shift;
        if (kSum) a[k] = a[k] + d;
        if (kSquare) b[k] = fma(d, d, b[k]);
      }
    }
    for (; i < end; i += kW) {
      const int m = end - i < kW ? static_cast<int>(end - i) : kW;
      const f32 d =
          m == kW ? load<f32>(x + i) - shift : select<f32>(first<f32>(m), load_n<f32>(x + i, m) - shift, f32{});
      if (kSum) a[0] = a[0] + d;
      if (kSquare) b[0] = fma(d, d, b[0]);
    }
    if (kSum) total.sum += static_cast<double>(sum((a[0] + a[1]) + (a[2] + a[3])));
    if (kSquare) total.square += static_cast<double>(sum((b[0] + b[1]) + (b[2] + b[3])));
  }
  return total;
}

// y = ((x - shift) * factor - rest) * scale + bias
DK_INL void scale_row(const float* x, float by, float factor, float rest, const float* scale, const float* bias,
                      float* y, int64_t n) {
  const f32 shift = splat<f32>(by), f = splat<f32>(factor), r = splat<f32>(-rest);
  for (int64_t i = 0; i < n; i += kW) {
    const bool whole = n - i >= kW;
    const int m = whole ? kW : static_cast<int>(n - i);
    f32 v = fma((whole ? load<f32>(x + i) : load_n<f32>(x + i, m)) - shift, f, r);
    const f32 b = bias ? (whole ? load<f32>(bias + i) : load_n<f32>(bias + i, m)) : f32{};
    if (scale)
      v = fma(v, whole ? load<f32>(scale + i) : load_n<f32>(scale + i, m), b);
    else
      v = v + b;
    if (whole)
      store(y + i, v);
    else
      store_n(y + i, v, m);
  }
}

// The mean is taken twice: the second pass finds what rounding the first one to float left over, which matters when the
// mean is much larger than the deviation.
void layer(const float* x, const float* scale, const float* bias, float* y, int64_t rows, int64_t n, int64_t step,
           float epsilon) {
  const double count = static_cast<double>(n);
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const float mean = static_cast<float>(row_moments<true, false>(x, n, 0.0f).sum / count);
    const Moments d = row_moments<true, true>(x, n, mean);
    const double rest = d.sum / count;
    const double variance = d.square / count - rest * rest;
    const double factor = 1.0 / __builtin_sqrt((variance > 0 ? variance : variance * 0) + static_cast<double>(epsilon));
    scale_row(x, mean, static_cast<float>(factor), static_cast<float>(rest * factor), scale, bias, y, n);
    if (scale) scale += step;
    if (bias) bias += step;
  }
}

void rms(const float* x, const float* scale, float* y, int64_t rows, int64_t n, int64_t step, float epsilon) {
  const double count = static_cast<double>(n);
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const double mean = row_moments<false, true>(x, n, 0.0f).square / count;
    const float factor = static_cast<float>(1.0 / __builtin_sqrt(mean + static_cast<double>(epsilon)));
    scale_row(x, 0.0f, factor, 0.0f, scale, nullptr, y, n);
    if (scale) scale += step;
  }
}

void affine(const float* x, const float* mean, const float* factor, const float* bias, float* y, int64_t rows,
            int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    int64_t i = 0;
    for (; i + kW <= n; i += kW)
      store(y + i, fma(load<f32>(x + i) - load<f32>(mean + i), load<f32>(factor + i), load<f32>(bias + i)));
    if (i < n) {
      const int m = static_cast<int>(n - i);
      const f32 d = load_n<f32>(x + i, m) - load_n<f32>(mean + i, m);
      store_n(y + i, fma(d, load_n<f32>(factor + i, m), load_n<f32>(bias + i, m)), m);
    }
  }
}

void affine_one(const float* x, float mean, float factor, float bias, float* y, int64_t n) {
  const f32 m = splat<f32>(mean), f = splat<f32>(factor), b = splat<f32>(bias);
  int64_t i = 0;
  for (; i + kW <= n; i += kW) store(y + i, fma(load<f32>(x + i) - m, f, b));
  if (i < n) {
    const int k = static_cast<int>(n - i);
    store_n(y + i, fma(load_n<f32>(x + i, k) - m, f, b), k);
  }
}

// kVectors vectors of columns, the last with `tail` lanes: wide strips use whole cache lines of every row.
template <bool kSquare, int kVectors>
DK_INL void column_strip(const float* x, const float* mean, int64_t rows, int tail, int64_t stride, double* to) {
  f32 shift[kVectors];
  DK_UNROLL
  for (int k = 0; k < kVectors; ++k)
    shift[k] = k + 1 < kVectors ? load<f32>(mean + k * kW) : load_n<f32>(mean + k * kW, tail);
  for (int64_t begin = 0; begin < rows; begin += kColumnBlock) {
    const int64_t end = rows - begin < kColumnBlock ? rows : begin + kColumnBlock;
    f32 a[kVectors] = {};
    for (int64_t r = begin; r < end; ++r) {
      const float* p = x + r * stride;
      DK_UNROLL
      for (int k = 0; k < kVectors; ++k) {
        const bool whole = k + 1 < kVectors || tail == kW;
        const f32 d = (whole ? load<f32>(p + k * kW) : load_n<f32>(p + k * kW, tail)) - shift[k];
        a[k] = kSquare ? fma(d, d, a[k]) : a[k] + d;
      }
    }
    float lane[kVectors * kW];
    DK_UNROLL
    for (int k = 0; k < kVectors; ++k) store(lane + k * kW, a[k]);
    const int n = (kVectors - 1) * kW + tail;
    for (int k = 0; k < n; ++k) to[k] += static_cast<double>(lane[k]);
  }
}

template <bool kSquare>
void column_sums_of(const float* x, const float* mean, int64_t rows, int64_t n, double* to) {
  int64_t c = 0;
  for (; c + 4 * kW <= n; c += 4 * kW) column_strip<kSquare, 4>(x + c, mean + c, rows, kW, n, to + c);
  for (; c < n; c += kW)
    column_strip<kSquare, 1>(x + c, mean + c, rows, n - c < kW ? static_cast<int>(n - c) : kW, n, to + c);
}

void column_sums(const float* x, const float* mean, int64_t rows, int64_t n, bool square, double* to) {
  if (square)
    column_sums_of<true>(x, mean, rows, n, to);
  else
    column_sums_of<false>(x, mean, rows, n, to);
}

// ---- training.  Columns go in strips of kVectors vectors, what is left over in single ones of `lanes` lanes; a strip
// of several is always whole, which keeps the code small.
DK_INL f32 some(const float* p, int lanes) { return lanes == kW ? load<f32>(p) : load_n<f32>(p, lanes); }

template <int kVectors>
DK_INL void flush(f32 (&a)[kVectors], int lanes, double* to) {
  float lane[kVectors * kW];
  DK_UNROLL
  for (int k = 0; k < kVectors; ++k) store(lane + k * kW, a[k]), a[k] = f32{};
  for (int k = 0; k < lanes; ++k) to[k] += static_cast<double>(lane[k]);
}

template <int kVectors>
void moments_strip(const float* x, const float* shift, int64_t rows, int64_t n, int lanes, double* sum,
                   double* square) {
  f32 s[kVectors], a[kVectors] = {}, b[kVectors] = {};
  DK_UNROLL
  for (int k = 0; k < kVectors; ++k) s[k] = some(shift + k * kW, kVectors > 1 ? kW : lanes);
  for (int64_t r = 0; r < rows;) {
    const int64_t end = rows - r < kColumnBlock ? rows : r + kColumnBlock;
    for (; r < end; ++r, x += n) {
      DK_UNROLL
      for (int k = 0; k < kVectors; ++k) {
        const f32 d = some(x + k * kW, kVectors > 1 ? kW : lanes) - s[k];
        a[k] = a[k] + d;
        b[k] = fma(d, d, b[k]);
      }
    }
    flush(a, lanes, sum);
    flush(b, lanes, square);
  }
}

void column_moments(const float* x, const float* shift, int64_t rows, int64_t n, double* sum, double* square) {
  int64_t c = 0;
  for (; c + 4 * kW <= n; c += 4 * kW) moments_strip<4>(x + c, shift + c, rows, n, 4 * kW, sum + c, square + c);
  for (; c < n; c += kW)
    moments_strip<1>(x + c, shift + c, rows, n, n - c < kW ? static_cast<int>(n - c) : kW, sum + c, square + c);
}

void affine_clamp(const float* x, const float* mean, const float* factor, const float* bias, const float* limits,
                  float* y, int64_t rows, int64_t n) {
  if (!limits) return affine(x, mean, factor, bias, y, rows, n);
  const f32 low = splat<f32>(limits[0]), high = splat<f32>(limits[1]);
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    int64_t i = 0;
    for (; i + kW <= n; i += kW) {
      const f32 v = fma(load<f32>(x + i) - load<f32>(mean + i), load<f32>(factor + i), load<f32>(bias + i));
      store(y + i, vclip(v, low, high));
    }
    if (i < n) {
      const int m = static_cast<int>(n - i);
      const f32 d = load_n<f32>(x + i, m) - load_n<f32>(mean + i, m);
      store_n(y + i, vclip(fma(d, load_n<f32>(factor + i, m), load_n<f32>(bias + i, m)), low, high), m);
    }
  }
}

// g where the activation has slope 1, else 0.
struct Mask {
  f32 low, high;
  int_of<f32> always;
  explicit Mask(const float* limits)
      : low(splat<f32>(limits ? limits[0] : 0.0f)), high(splat<f32>(limits ? limits[1] : 0.0f)) {
    always = limits ? int_of<f32>{} : ~int_of<f32>{};
  }
  DK_INL f32 operator()(f32 g, f32 v) const { return select<f32>(((v > low) & (v < high)) | always, g, f32{}); }
};

template <int kVectors>
void train_sums_strip(const float* g, const float* x, const float* mean, const float* factor, const float* bias,
                      const Mask& mask, int64_t rows, int64_t n, int lanes, double* sum, double* moved) {
  const int each = kVectors > 1 ? kW : lanes;
  f32 m[kVectors], f[kVectors], o[kVectors], a[kVectors] = {}, b[kVectors] = {};
  DK_UNROLL
  for (int k = 0; k < kVectors; ++k) {
    m[k] = some(mean + k * kW, each);
    f[k] = some(factor + k * kW, each);
    o[k] = some(bias + k * kW, each);
  }
  for (int64_t r = 0; r < rows;) {
    const int64_t end = rows - r < kColumnBlock ? rows : r + kColumnBlock;
    for (; r < end; ++r, x += n, g += n) {
      DK_UNROLL
      for (int k = 0; k < kVectors; ++k) {
        const f32 d = some(x + k * kW, each) - m[k];
        const f32 h = mask(some(g + k * kW, each), fma(d, f[k], o[k]));
        a[k] = a[k] + h;
        b[k] = fma(h, d, b[k]);
      }
    }
    flush(a, lanes, sum);
    flush(b, lanes, moved);
  }
}

void train_sums(const float* g, const float* x, const float* mean, const float* factor, const float* bias,
                const float* limits, int64_t rows, int64_t n, double* sum, double* moved) {
  const Mask mask(limits);
  int64_t c = 0;
  for (; c + 2 * kW <= n; c += 2 * kW)
    train_sums_strip<2>(g + c, x + c, mean + c, factor + c, bias + c, mask, rows, n, 2 * kW, sum + c, moved + c);
  for (; c < n; c += kW)
    train_sums_strip<1>(g + c, x + c, mean + c, factor + c, bias + c, mask, rows, n,
                        n - c < kW ? static_cast<int>(n - c) : kW, sum + c, moved + c);
}

void train_gradient(const float* g, const float* x, const float* mean, const float* factor, const float* bias,
                    const float* limits, const float* slope, const float* rest, float* to, int64_t rows, int64_t n) {
  const Mask mask(limits);
  for (int64_t r = 0; r < rows; ++r, g += n, x += n, to += n) {
    int64_t i = 0;
    for (; i + kW <= n; i += kW) {
      const f32 d = load<f32>(x + i) - load<f32>(mean + i), f = load<f32>(factor + i);
      const f32 h = mask(load<f32>(g + i), fma(d, f, load<f32>(bias + i)));
      store(to + i, fma(h, f, fma(d, load<f32>(slope + i), load<f32>(rest + i))));
    }
    if (i < n) {
      const int m = static_cast<int>(n - i);
      const f32 d = load_n<f32>(x + i, m) - load_n<f32>(mean + i, m), f = load_n<f32>(factor + i, m);
      const f32 h = mask(load_n<f32>(g + i, m), fma(d, f, load_n<f32>(bias + i, m)));
      store_n(to + i, fma(h, f, fma(d, load_n<f32>(slope + i, m), load_n<f32>(rest + i, m))), m);
    }
  }
}

void lrn(const float* x, const float* total, float* y, int64_t n, float alpha, float beta, float bias) {
  for (int64_t i = 0; i < n; i += kW) {
    const int m = n - i < kW ? static_cast<int>(n - i) : kW;
    const f32 base = load_n<f32>(total + i, m) * alpha + bias;
    store_n(y + i, load_n<f32>(x + i, m) * vexp(vlog(base) * -beta), m);
  }
}

const NormKernels kTable = {layer,          rms,          affine,     affine_one,     column_sums,
                            column_moments, affine_clamp, train_sums, train_gradient, lrn};
}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const NormKernels* DK_CAT(norm_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
