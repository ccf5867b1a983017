// The transforms, compiled once per ISA.  See winograd.h for the contract.
#include "base/cpu.h"
#include "kernels/winograd/winograd.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

constexpr float kA = 0.70710678118654752440f, kB = 1.41421356237309504880f;

// One column of B' x (or, on rows, of x B): v in place.
template <int R>
DK_INL void input_1d(f32* v) {
  if constexpr (R == 2) {
    const f32 a = v[0] - v[2], b = v[1] + v[2], c = v[2] - v[1], d = v[1] - v[3];
    v[0] = a, v[1] = b, v[2] = c, v[3] = d;
  } else {
    const f32 c25 = splat<f32>(-2.5f), a1 = splat<f32>(kA), b1 = splat<f32>(kB);
    const f32 c2 = splat<f32>(-2.0f), c05 = splat<f32>(-0.5f);
    const f32 first = fma(c25, v[2], v[0] + v[4]), last = fma(c25, v[3], v[1] + v[5]);
    const f32 ea = fma(c2, v[2], v[4]), oa = a1 * fma(c2, v[1], v[3]);
    const f32 eb = fma(c05, v[2], v[4]), ob = b1 * fma(c05, v[1], v[3]);
    v[0] = first, v[1] = ea + oa, v[2] = ea - oa, v[3] = eb + ob, v[4] = eb - ob, v[5] = last;
  }
}

// One column of A' m: the first R of v.
template <int R>
DK_INL void output_1d(f32* v) {
  if constexpr (R == 2) {
    const f32 a = v[0] + v[1] + v[2], b = v[1] - v[2] - v[3];
    v[0] = a, v[1] = b;
  } else {
    const f32 sa = v[1] + v[2], da = v[1] - v[2], sb = v[3] + v[4], db = v[3] - v[4];
    const f32 y0 = v[0] + sa + sb;
    const f32 y1 = fma(splat<f32>(kB), db, splat<f32>(kA) * da);
    const f32 y2 = fma(splat<f32>(2.0f), sb, splat<f32>(0.5f) * sa);
    const f32 y3 = fma(splat<f32>(2.0f * kB), db, splat<f32>(0.5f * kA) * da) + v[5];
    v[0] = y0, v[1] = y1, v[2] = y2, v[3] = y3;
  }
}

template <int R>
void input(const WinogradInput* t) {
  constexpr int T = R + 2;
  for (int64_t c = 0; c < t->c; c += kW) {
    const int n = t->c - c < kW ? static_cast<int>(t->c - c) : kW;
    f32 half[T][T];
    for (int j = 0; j < T; ++j) {
      f32 v[T];
      DK_UNROLL
      for (int i = 0; i < T; ++i) {
        const float* x = t->x[i * T + j] + c;
        v[i] = n == kW ? load<f32>(x) : load_n<f32>(x, n);
      }
      input_1d<R>(v);
      DK_UNROLL
      for (int i = 0; i < T; ++i) half[i][j] = v[i];
    }
    for (int i = 0; i < T; ++i) {
      f32 v[T];
      DK_UNROLL
      for (int j = 0; j < T; ++j) v[j] = half[i][j];
      input_1d<R>(v);
      float* to = t->v + i * T * t->stride + c;
      DK_UNROLL
      for (int j = 0; j < T; ++j) {
        if (n == kW)
          store(to + j * t->stride, v[j]);
        else
          store_n(to + j * t->stride, v[j], n);
      }
    }
  }
}

template <int R>
void output(const WinogradOutput* t) {
  constexpr int T = R + 2;
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  for (int64_t c = 0; c < t->n; c += kW) {
    const int n = t->n - c < kW ? static_cast<int>(t->n - c) : kW;
    f32 half[R][T];
    for (int j = 0; j < T; ++j) {
      f32 v[T];
      DK_UNROLL
      for (int i = 0; i < T; ++i) {
        const float* m = t->m + (i * T + j) * t->stride + c;
        v[i] = n == kW ? load<f32>(m) : load_n<f32>(m, n);
      }
      output_1d<R>(v);
      DK_UNROLL
      for (int i = 0; i < R; ++i) half[i][j] = v[i];
    }
    const f32 bias = load<f32>(t->bias + c);
    for (int i = 0; i < R; ++i) {
      f32 v[T];
      DK_UNROLL
      for (int j = 0; j < T; ++j) v[j] = half[i][j];
      output_1d<R>(v);
      for (int j = 0; j < R; ++j) {
        float* y = t->y[i * R + j];
        if (!y) continue;
        const f32 r = vclip(v[j] + bias, low, high);
        if (n == kW)
          store(y + c, r);
        else
          store_n(y + c, r, n);
      }
    }
  }
}

constexpr WinogradKernels kTable = {input<2>, input<4>, output<2>, output<4>};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const WinogradKernels* DK_CAT(winograd_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
