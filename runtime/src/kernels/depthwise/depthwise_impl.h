// Compiled once per ISA.  See depthwise.h for the contract.
#include "kernels/depthwise/depthwise.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

// What the inner loops need, in locals: stores might alias the fields of the strip.
struct Local {
  const float* const* rows;  // of this output row
  const float* weight;
  const float* bias;
  float* y;  // of this output row
  int64_t taps, c, padded, out, kernel, step, dilation;
  f32 low, high;
};

// NY x NX outputs from column x on, for the channels of one vector.  `at` is the first input column times channels,
// plus c.  K kernel columns at stride S without dilation, so that an input vector is loaded once and used for every
// output it reaches; K = 0 takes kernel, stride and dilation as they come.  NY = 2 needs a sliding strip of K kernel
// rows.  At the BORDER only the input columns [begin, end) of the cell are in the image.
template <int NY, int NX, int K, int S, bool BORDER = false>
DK_INL void cell(const Local& t, int64_t x, int64_t at, int64_t c, int64_t begin = 0, int64_t end = 0) {
  f32 acc[NY][NX];
  DK_UNROLL
  for (int i = 0; i < NY; ++i) {
    DK_UNROLL
    for (int j = 0; j < NX; ++j) acc[i][j] = f32{};
  }
  const int64_t pixel = t.c, line = t.kernel * t.padded;
  const float* w = t.weight + c;
  if constexpr (NY == 2) {
    DK_UNROLL
    for (int r = 0; r <= K; ++r) {
      const float* p = t.rows[r < K ? r : 2 * K - 1];  // the last one is that of the second output row
      if (!p) continue;
      p += at;
      f32 upper[K], lower[K];
      DK_UNROLL
      for (int k = 0; k < K; ++k) {
        if (r < K) upper[k] = load<f32>(w + r * line + k * t.padded);
        if (r > 0) lower[k] = load<f32>(w + (r - 1) * line + k * t.padded);
      }
      DK_UNROLL
      for (int j = 0; j < NX + K - 1; ++j, p += pixel) {
        if (BORDER && (j < begin || j >= end)) continue;
        f32 v = load<f32>(p);
        DK_UNROLL
        for (int i = 0; i < NX; ++i) {
          if (j - i >= 0 && j - i < K) {
            if (r < K) acc[0][i] = fma(v, upper[j - i], acc[0][i]);
            if (r > 0) acc[1][i] = fma(v, lower[j - i], acc[1][i]);
          }
        }
      }
    }
  } else {
    for (int64_t r = 0; r < t.taps; ++r, w += line) {
      const float* p = t.rows[r];
      if (!p) continue;
      p += at;
      if constexpr (K > 0) {
        f32 wv[K];
        DK_UNROLL
        for (int k = 0; k < K; ++k) wv[k] = load<f32>(w + k * t.padded);
        DK_UNROLL
        for (int j = 0; j < (NX - 1) * S + K; ++j, p += pixel) {
          if (BORDER && (j < begin || j >= end)) continue;
          f32 v = load<f32>(p);
          DK_UNROLL
          for (int i = 0; i < NX; ++i)
            if (j - i * S >= 0 && j - i * S < K) acc[0][i] = fma(v, wv[j - i * S], acc[0][i]);
        }
      } else {
        const float* wk = w;
        for (int64_t k = 0; k < t.kernel; ++k, p += t.dilation, wk += t.padded) {
          f32 wv = load<f32>(wk);
          DK_UNROLL
          for (int i = 0; i < NX; ++i) acc[0][i] = fma(load<f32>(p + i * t.step), wv, acc[0][i]);
        }
      }
    }
  }
  float* y = t.y + x * pixel + c;
  const f32 bias = load<f32>(t.bias + c);
  DK_UNROLL
  for (int i = 0; i < NY; ++i) {
    DK_UNROLL
    for (int j = 0; j < NX; ++j) store(y + (i * t.out + j) * pixel, vclip(acc[i][j] + bias, t.low, t.high));
  }
}

// One output column, at the border too: only kernel columns that hit the image.  For kernels without a cell of their
// own, strips too narrow for one, and the last channels, fewer than a vector.
__attribute__((noinline)) void edge(const DepthwiseStrip* t, int64_t y, int64_t x, int64_t c0, int64_t c1) {
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  const int64_t x0 = x * t->stride - t->before;
  const int64_t k0 = x0 < 0 ? (-x0 + t->dilation - 1) / t->dilation : 0;
  int64_t k1 = x0 < t->width ? (t->width - 1 - x0) / t->dilation + 1 : 0;
  if (k1 > t->kernel) k1 = t->kernel;
  const int64_t taps = t->taps, pixel = t->c, padded = t->padded, step = t->dilation * pixel;
  const float* const* rows = t->row + y * taps;
  const float* weight = t->weight + k0 * padded;
  const int64_t line = t->kernel * padded, first = (x0 + k0 * t->dilation) * pixel;
  float* to = t->y + (y * t->out + x) * pixel;
  for (int64_t c = c0; c < c1; c += kW) {
    f32 acc = {};
    const float* w = weight + c;
    for (int64_t r = 0; r < taps; ++r, w += line) {
      const float* p = rows[r];
      if (!p) continue;
      p += first + c;
      const float* wk = w;
      for (int64_t k = k0; k < k1; ++k, p += step, wk += padded) acc = fma(load<f32>(p), load<f32>(wk), acc);
    }
    acc = vclip(acc + load<f32>(t->bias + c), low, high);
    if (pixel - c >= kW)
      store(to + c, acc);
    else
      store_n(to + c, acc, static_cast<int>(pixel - c));
  }
}

Local local(const DepthwiseStrip* t, int64_t y) {
  Local l;
  l.rows = t->row + y * t->taps;
  l.weight = t->weight;
  l.bias = t->bias;
  l.y = t->y + y * t->out * t->c;
  l.taps = t->taps;
  l.c = t->c;
  l.padded = t->padded;
  l.out = t->out;
  l.kernel = t->kernel;
  l.step = t->stride * t->c;
  l.dilation = t->dilation * t->c;
  l.low = splat<f32>(t->low);
  l.high = splat<f32>(t->high);
  return l;
}

// Columns [x, x1), at least kCell of them (kSmall: any number, all inside), of NY rows, for channels in whole vectors.
constexpr int64_t kCell = 4;
#if defined(__wasm__)  // where every byte of the library is downloaded: no cells for borders, these go column by column
constexpr bool kSmall = true;
#else
constexpr bool kSmall = false;
#endif
template <int NY, int K, int S>
__attribute__((noinline)) void span(const DepthwiseStrip* t, int64_t y, int64_t x, int64_t x1, int64_t channels) {
  const Local l = local(t, y);
  const int64_t reach = (kCell - 1) * S + K;
  while (x < x1) {
    int64_t first = x * S - t->before;
    // Each of 25 products of an output waits for the one before: eight outputs at once keep both multipliers busy.
    if constexpr (K == 5 && S == 1) {
      if (x + 8 <= x1 && first >= 0 && first + 7 + K <= t->width) {
        for (int64_t c = 0; c < channels; c += kW) cell<NY, 8, K, S>(l, x, first * l.c + c, c);
        x += 8;
        continue;
      }
    }
    if constexpr (kSmall) {
      if (x + kCell > x1) {
        for (int64_t c = 0; c < channels; c += kW) cell<NY, 1, K, S>(l, x, first * l.c + c, c);
        ++x;
        continue;
      }
    }
    if (x + kCell > x1) {  // some of the columns before once more
      x = x1 - kCell;
      first = x * S - t->before;
    }
    const int64_t begin = first < 0 ? -first : 0, end = t->width - first < reach ? t->width - first : reach;
    if (kSmall || (begin == 0 && end == reach))
      for (int64_t c = 0; c < channels; c += kW) cell<NY, kCell, K, S>(l, x, first * l.c + c, c);
    else if constexpr (!kSmall)
      for (int64_t c = 0; c < channels; c += kW) cell<NY, kCell, K, S, true>(l, x, first * l.c + c, c, begin, end);
    x += kCell;
  }
}

// Columns [x, x1) of a row, all inside, for channels in whole vectors.
__attribute__((noinline)) void inside(const DepthwiseStrip* t, int64_t y, int64_t x, int64_t x1, int64_t channels) {
  const Local l = local(t, y);
  const int64_t step = l.step, before = t->before * l.c;
  for (; x + 4 <= x1; x += 4)
    for (int64_t c = 0; c < channels; c += kW) cell<1, 4, 0, 0>(l, x, x * step - before + c, c);
  for (; x < x1; ++x)
    for (int64_t c = 0; c < channels; c += kW) cell<1, 1, 0, 0>(l, x, x * step - before + c, c);
}

typedef void (*Span)(const DepthwiseStrip*, int64_t, int64_t, int64_t, int64_t);

void strip(const DepthwiseStrip* t) {
  const int64_t s = t->stride;
  Span one = nullptr, two = nullptr;
  if (t->dilation == 1 && (kSmall || t->to - t->from >= kCell)) {
    if (t->kernel == 3 && s == 1) {
      one = span<1, 3, 1>;
      if (t->sliding && t->taps == 3) two = span<2, 3, 1>;
    } else if (t->kernel == 3 && s == 2) {
      one = span<1, 3, 2>;
    } else if (t->kernel == 5 && s == 1) {
      one = span<1, 5, 1>;
    } else if (t->kernel == 5 && s == 2) {
      one = span<1, 5, 2>;
    }
  }
  // Without a cell of their own: the first column whose window starts inside, and the first whose window ends outside.
  int64_t x0 = t->from, x1 = t->to;
  if (kSmall || !one) {
    const int64_t reach = (t->kernel - 1) * t->dilation;
    x0 = t->before > 0 ? (t->before + s - 1) / s : 0;
    x1 = t->width + t->before > reach ? (t->width - 1 - reach + t->before) / s + 1 : 0;
    if (x0 < t->from) x0 = t->from;
    if (x0 > t->to) x0 = t->to;
    if (x1 > t->to) x1 = t->to;
    if (x1 < x0) x1 = x0;
    if (!one) one = inside;
  }

  // All channels of a few columns, then the next columns: memory is read and written in order.  Taking few channels at
  // a time, to keep the input rows in L1, was up to 1.5 times slower: such strided walks defeat the prefetchers.
  const int64_t whole = t->c / kW * kW;
  for (int64_t y = 0; y < t->rows;) {
    const bool pair = two && y + 2 <= t->rows;
    if (x1 > x0) (pair ? two : one)(t, y, x0, x1, whole);
    for (const int64_t end = y + (pair ? 2 : 1); y < end; ++y) {
      for (int64_t x = t->from; x < x0; ++x) edge(t, y, x, 0, whole);
      for (int64_t x = x1; x < t->to; ++x) edge(t, y, x, 0, whole);
    }
  }
  if (whole < t->c)
    for (int64_t y = 0; y < t->rows; ++y)
      for (int64_t x = t->from; x < t->to; ++x) edge(t, y, x, whole, t->c);
}

constexpr DepthwiseKernels kTable = {kW, strip};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const DepthwiseKernels* DK_CAT(depthwise_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
