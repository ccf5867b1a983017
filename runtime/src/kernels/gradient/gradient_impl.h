// Compiled once per ISA.  See gradient.h for the contract.
#include "kernels/gradient/gradient.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

// Rows of the largest tile of two vectors: as many accumulators as registers allow beside two operands and a number.
constexpr int kRows = kW == 16 ? 12 : kW == 8 ? 6 : 4;

template <int M, int V>
DK_INL void tile(const Segments& s, int64_t i, int64_t j, int n, float* c, int64_t ldc) {
  f32 acc[M][V];
  DK_UNROLL
  for (int r = 0; r < M; ++r) {
    DK_UNROLL
    for (int v = 0; v < V; ++v) acc[r][v] = f32{};
  }
  for (int64_t k = 0; k < s.count; ++k) {
    const float *a = s.a[k] + i, *b = s.b[k] + j;
    for (int64_t x = s.n[k]; x > 0; --x, a += s.lda, b += s.ldb) {
      f32 bv[V];
      DK_UNROLL
      for (int v = 0; v < V; ++v) bv[v] = load<f32>(b + v * kW);
      DK_UNROLL
      for (int r = 0; r < M; ++r) {
        const f32 av = splat<f32>(a[r]);
        DK_UNROLL
        for (int v = 0; v < V; ++v) acc[r][v] = fma(av, bv[v], acc[r][v]);
      }
    }
  }
  DK_UNROLL
  for (int r = 0; r < M; ++r, c += ldc) {
    DK_UNROLL
    for (int v = 0; v < V; ++v) {
      const int left = n - v * kW;
      if (left >= kW)
        store(c + v * kW, load<f32>(c + v * kW) + acc[r][v]);
      else if (left > 0)
        store_n(c + v * kW, load_n<f32>(c + v * kW, left) + acc[r][v], left);
    }
  }
}

template <int M, int V>
__attribute__((noinline)) void rows(const Segments& s, int64_t i, int64_t j, int n, float* c, int64_t ldc) {
  tile<M, V>(s, i, j, n, c, ldc);
}

template <int V>
void columns(const Segments& s, int64_t m, int64_t j, int n, float* c, int64_t ldc) {
  int64_t i = 0;
  for (; i + kRows <= m; i += kRows) rows<kRows, V>(s, i, j, n, c + i * ldc, ldc);
  if (kRows > 4)
    for (; i + 4 <= m; i += 4) rows<4, V>(s, i, j, n, c + i * ldc, ldc);
  for (; i < m; ++i) rows<1, V>(s, i, j, n, c + i * ldc, ldc);
}

// Columns outside: what a tile reads of b then stays in L1 for all rows.
void outer(const Segments& s, int64_t m, int64_t n, float* c, int64_t ldc) {
  for (int64_t j = 0; j < n; j += 2 * kW) {
    const int left = n - j < 2 * kW ? static_cast<int>(n - j) : 2 * kW;
    if (left > kW)
      columns<2>(s, m, j, left, c + j, ldc);
    else
      columns<1>(s, m, j, left, c + j, ldc);
  }
}

void inner(const Segments& s, int64_t n, float* c) {
  for (int64_t j = 0; j < n; j += kW) {
    f32 acc[4] = {};  // by position modulo 4: additions do not wait for each other
    for (int64_t k = 0; k < s.count; ++k) {
      const float *a = s.a[k] + j, *b = s.b[k] + j;
      int64_t x = s.n[k];
      for (; x >= 4; x -= 4, a += 4 * s.lda, b += 4 * s.ldb) {
        DK_UNROLL
        for (int u = 0; u < 4; ++u) acc[u] = fma(load<f32>(a + u * s.lda), load<f32>(b + u * s.ldb), acc[u]);
      }
      for (; x > 0; --x, a += s.lda, b += s.ldb) acc[0] = fma(load<f32>(a), load<f32>(b), acc[0]);
    }
    const f32 total = (acc[0] + acc[1]) + (acc[2] + acc[3]);
    const int left = n - j < kW ? static_cast<int>(n - j) : kW;
    if (left == kW)
      store(c + j, load<f32>(c + j) + total);
    else
      store_n(c + j, load_n<f32>(c + j, left) + total, left);
  }
}

void adam(const float* p, const float* m, const float* v, const float* g, float* new_p, float* new_m, float* new_v,
          int64_t n, float rate, float one_less_beta1, float one_less_beta2, float epsilon) {
  const f32 b1 = splat<f32>(one_less_beta1), b2 = splat<f32>(one_less_beta2);
  const f32 r = splat<f32>(rate), e = splat<f32>(epsilon);
  for (int64_t i = 0; i < n; i += kW) {
    const int left = n - i < kW ? static_cast<int>(n - i) : kW;
    const bool whole = left == kW;
    const f32 gv = whole ? load<f32>(g + i) : load_n<f32>(g + i, left);
    f32 mv = whole ? load<f32>(m + i) : load_n<f32>(m + i, left);
    f32 vv = whole ? load<f32>(v + i) : load_n<f32>(v + i, left);
    f32 pv = whole ? load<f32>(p + i) : load_n<f32>(p + i, left);
    mv = mv + (gv - mv) * b1;
    vv = vv + (gv * gv - vv) * b2;
    pv = pv - mv * r / (vsqrt(vv) + e);
    if (whole) {
      store(new_m + i, mv);
      store(new_v + i, vv);
      store(new_p + i, pv);
    } else {
      store_n(new_m + i, mv, left);
      store_n(new_v + i, vv, left);
      store_n(new_p + i, pv, left);
    }
  }
}

template <bool kApproximate>
DK_INL f32 gelu_slope(f32 x) {
  const f32 half = splat<f32>(0.5f), one = splat<f32>(1.0f);
  if (!kApproximate) {
    const f32 phi = vexp(x * x * -half) * splat<f32>(0.39894228f);
    return fma(x, phi, fma(verf(x * splat<f32>(0.70710678f)), half, half));
  }
  const f32 root = splat<f32>(0.79788456f), square = x * x;
  const f32 t = vtanh(root * x * fma(square, splat<f32>(0.044715f), one));
  const f32 bend = x * (one - t * t) * root * fma(square, splat<f32>(3 * 0.044715f), one);
  return half * (one + t + bend);
}

template <bool kApproximate>
void gelu_of(const float* g, const float* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + kW <= n; i += kW) store(y + i, load<f32>(g + i) * gelu_slope<kApproximate>(load<f32>(x + i)));
  if (i < n) {
    const int left = static_cast<int>(n - i);
    store_n(y + i, load_n<f32>(g + i, left) * gelu_slope<kApproximate>(load_n<f32>(x + i, left)), left);
  }
}

void gelu(const float* g, const float* x, float* y, int64_t n, bool approximate) {
  approximate ? gelu_of<true>(g, x, y, n) : gelu_of<false>(g, x, y, n);
}

constexpr GradientKernels kTable = {kW, outer, inner, adam, gelu};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const GradientKernels* DK_CAT(gradient_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
