// Compiled once per ISA.  See depthwise.h for the contract.
#include "kernels/depthwise/depthwise.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

// Stores one vector of one output pixel.
DK_INL void put(const DepthwiseRow* t, f32 v, int64_t at, int n, f32 low, f32 high) {
  if (n >= kW) {
    if (t->residual && t->residual_first) v += load<f32>(t->residual + at);
    v = vclip(v, low, high);
    if (t->residual && !t->residual_first) v += load<f32>(t->residual + at);
    store(t->y + at, v);
  } else {
    if (t->residual && t->residual_first) v += load_n<f32>(t->residual + at, n);
    v = vclip(v, low, high);
    if (t->residual && !t->residual_first) v += load_n<f32>(t->residual + at, n);
    store_n(t->y + at, v, n);
  }
}

// NX output columns from column x on, all inside the image, for the channels of one vector.  K kernel columns at stride
// S without dilation, so that an input vector is loaded once and used for every column it reaches; K = 0 takes kernel,
// stride and dilation as they come.
template <int NX, int K, int S>
DK_INL void cell(const DepthwiseRow* t, int64_t x, int64_t c, f32 low, f32 high) {
  f32 acc[NX];
  const f32 bias = load<f32>(t->bias + c);
  DK_UNROLL
  for (int i = 0; i < NX; ++i) acc[i] = bias;
  const int64_t pixel = t->c;
  for (int r = 0; r < t->rows; ++r) {
    const float* w = t->weight[r] + c;
    if constexpr (K > 0) {
      const float* p = t->row[r] + (x * S - t->before) * pixel + c;
      f32 wv[K];
      DK_UNROLL
      for (int k = 0; k < K; ++k) wv[k] = load<f32>(w + k * t->padded);
      DK_UNROLL
      for (int j = 0; j < (NX - 1) * S + K; ++j) {
        f32 v = load<f32>(p + j * pixel);
        DK_UNROLL
        for (int i = 0; i < NX; ++i)
          if (j - i * S >= 0 && j - i * S < K) acc[i] = fma(v, wv[j - i * S], acc[i]);
      }
    } else {
      const float* p = t->row[r] + (x * t->stride - t->before) * pixel + c;
      const int64_t step = t->stride * pixel;
      for (int64_t k = 0; k < t->kernel; ++k, p += t->dilation * pixel, w += t->padded) {
        f32 wv = load<f32>(w);
        DK_UNROLL
        for (int i = 0; i < NX; ++i) acc[i] = fma(load<f32>(p + i * step), wv, acc[i]);
      }
    }
  }
  const int64_t left = pixel - c;
  DK_UNROLL
  for (int i = 0; i < NX; ++i) put(t, acc[i], (x + i) * pixel + c, static_cast<int>(left < kW ? left : kW), low, high);
}

// One output column at the border: only kernel columns that hit the image.
void edge(const DepthwiseRow* t, int64_t x) {
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  const int64_t x0 = x * t->stride - t->before;
  int64_t k0 = x0 < 0 ? (-x0 + t->dilation - 1) / t->dilation : 0;
  int64_t k1 = x0 < t->width ? (t->width - 1 - x0) / t->dilation + 1 : 0;
  if (k1 > t->kernel) k1 = t->kernel;
  for (int64_t c = 0; c < t->c; c += kW) {
    f32 acc = load<f32>(t->bias + c);
    for (int r = 0; r < t->rows; ++r) {
      const float* p = t->row[r] + (x0 + k0 * t->dilation) * t->c + c;
      const float* w = t->weight[r] + k0 * t->padded + c;
      for (int64_t k = k0; k < k1; ++k, p += t->dilation * t->c, w += t->padded)
        acc = fma(load<f32>(p), load<f32>(w), acc);
    }
    const int64_t left = t->c - c;
    put(t, acc, x * t->c + c, static_cast<int>(left < kW ? left : kW), low, high);
  }
}

template <int NX, int K, int S>
void cells(const DepthwiseRow* t, int64_t x) {
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  for (int64_t c = 0; c < t->c; c += kW) cell<NX, K, S>(t, x, c, low, high);
}

// Columns [x, x1), all inside.
template <int K, int S>
void inside(const DepthwiseRow* t, int64_t x, int64_t x1) {
  for (; x + 4 <= x1; x += 4) cells<4, K, S>(t, x);
  switch (x1 - x) {
    case 3: cells<3, K, S>(t, x); break;
    case 2: cells<2, K, S>(t, x); break;
    case 1: cells<1, K, S>(t, x); break;
  }
}

void row(const DepthwiseRow* t) {
  // The first column whose window starts inside, and the first whose window ends outside.
  const int64_t s = t->stride, reach = (t->kernel - 1) * t->dilation;
  int64_t x0 = t->before > 0 ? (t->before + s - 1) / s : 0;
  int64_t x1 = t->width + t->before > reach ? (t->width - 1 - reach + t->before) / s + 1 : 0;
  if (x0 > t->out) x0 = t->out;
  if (x1 > t->out) x1 = t->out;
  if (x1 < x0) x1 = x0;
  for (int64_t x = 0; x < x0; ++x) edge(t, x);
  if (t->dilation == 1 && t->kernel == 3 && s == 1) {
    inside<3, 1>(t, x0, x1);
  } else if (t->dilation == 1 && t->kernel == 3 && s == 2) {
    inside<3, 2>(t, x0, x1);
  } else if (t->dilation == 1 && t->kernel == 5 && s == 1) {
    inside<5, 1>(t, x0, x1);
  } else if (t->dilation == 1 && t->kernel == 5 && s == 2) {
    inside<5, 2>(t, x0, x1);
  } else {
    inside<0, 0>(t, x0, x1);
  }
  for (int64_t x = x1; x < t->out; ++x) edge(t, x);
}

constexpr DepthwiseKernels kTable = {kW, row};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const DepthwiseKernels* DK_CAT(depthwise_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
