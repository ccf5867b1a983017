// Compiled once per ISA.  See attention.h for the contract.
#include "kernels/attention/attention.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

DK_INL f32 score(f32 x, f32 scale, f32 softcap, bool cap) {
  x = x * scale;
  return cap ? softcap * vtanh(x / softcap) : x;
}

float weights(float* x, int64_t n, float scale, float softcap, const float* mask) {
  const float inf = __builtin_inff();
  const f32 by = splat<f32>(scale), limit = splat<f32>(softcap);
  const bool cap = softcap > 0;
  const int left = static_cast<int>(n % kW);
  const int64_t whole = n - left;
  f32 top = splat<f32>(-inf);
  for (int64_t i = 0; i < whole; i += kW) {
    f32 t = score(load<f32>(x + i), by, limit, cap);
    if (mask) t = t + load<f32>(mask + i);
    store(x + i, t);
    top = vmax(t, top);
  }
  f32 tail = splat<f32>(-inf);
  if (left) {
    tail = score(load_n<f32>(x + whole, left), by, limit, cap);
    if (mask) tail = tail + load_n<f32>(mask + whole, left);
    tail = select<f32>(first<f32>(left), tail, splat<f32>(-inf));
    top = vmax(tail, top);
  }
  float most = hmax(top);
  if (most == -inf) most = 0;
  const f32 peak = splat<f32>(most);
  f32 total = {};
  for (int64_t i = 0; i < whole; i += kW) {
    const f32 e = vexp_low(load<f32>(x + i) - peak);
    store(x + i, e);
    total = total + e;
  }
  if (left) {
    const f32 e = select<f32>(first<f32>(left), vexp_low(tail - peak), f32{});
    store_n(x + whole, e, left);
    total = total + e;
  }
  return sum(total);
}

void dots(float* to, const float* q, const float* k, int64_t ld, int64_t d, int64_t n) {
  const int left = static_cast<int>(d % kW);
  const int64_t whole = d - left;
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const float* row = k + j * ld;
    f32 acc[4] = {};
    for (int64_t i = 0; i < whole; i += kW) {
      const f32 v = load<f32>(q + i);
      DK_UNROLL
      for (int r = 0; r < 4; ++r) acc[r] = fma(v, load<f32>(row + r * ld + i), acc[r]);
    }
    if (left) {
      const f32 v = load_n<f32>(q + whole, left);
      DK_UNROLL
      for (int r = 0; r < 4; ++r) acc[r] = fma(v, load_n<f32>(row + r * ld + whole, left), acc[r]);
    }
    DK_UNROLL
    for (int r = 0; r < 4; ++r) to[j + r] = sum(acc[r]);
  }
  for (; j < n; ++j) {
    f32 acc = {};
    for (int64_t i = 0; i < whole; i += kW) acc = fma(load<f32>(q + i), load<f32>(k + j * ld + i), acc);
    if (left) acc = fma(load_n<f32>(q + whole, left), load_n<f32>(k + j * ld + whole, left), acc);
    to[j] = sum(acc);
  }
}

// N vectors of the result in registers while all rows go by.
template <int N>
DK_INL void combine_block(float* to, const float* p, const float* v, int64_t ld, int64_t n) {
  f32 acc[N];
  DK_UNROLL
  for (int i = 0; i < N; ++i) acc[i] = f32{};
  for (int64_t j = 0; j < n; ++j) {
    const f32 w = splat<f32>(p[j]);
    DK_UNROLL
    for (int i = 0; i < N; ++i) acc[i] = fma(w, load<f32>(v + j * ld + i * kW), acc[i]);
  }
  DK_UNROLL
  for (int i = 0; i < N; ++i) store(to + i * kW, acc[i]);
}

void combine(float* to, const float* p, const float* v, int64_t ld, int64_t d, int64_t n) {
  int64_t i = 0;
  for (; i + 4 * kW <= d; i += 4 * kW) combine_block<4>(to + i, p, v + i, ld, n);
  for (; i + kW <= d; i += kW) combine_block<1>(to + i, p, v + i, ld, n);
  if (const int left = static_cast<int>(d - i); left > 0) {
    f32 acc = {};
    for (int64_t j = 0; j < n; ++j) acc = fma(splat<f32>(p[j]), load_n<f32>(v + j * ld + i, left), acc);
    store_n(to + i, acc, left);
  }
}

void scale(float* x, int64_t n, float by) {
  const f32 f = splat<f32>(by);
  int64_t i = 0;
  for (; i + kW <= n; i += kW) store(x + i, load<f32>(x + i) * f);
  for (; i < n; ++i) x[i] *= by;
}

void rotate(float* to_a, float* to_b, const float* a, const float* b, const float* c, const float* s, int64_t n) {
  int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    const f32 p = load<f32>(a + i), q = load<f32>(b + i), u = load<f32>(c + i), v = load<f32>(s + i);
    store(to_a + i, p * u - q * v);
    store(to_b + i, q * u + p * v);
  }
  for (; i < n; ++i) {
    const float p = a[i], q = b[i];
    to_a[i] = p * c[i] - q * s[i];
    to_b[i] = q * c[i] + p * s[i];
  }
}

constexpr AttentionKernels kTable = {weights, dots, combine, scale, rotate};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const AttentionKernels* DK_CAT(attention_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
