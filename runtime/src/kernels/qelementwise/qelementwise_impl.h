// Compiled once per ISA.  See qelementwise.h for the contract.
#include "base/cpu.h"
#include "kernels/qelementwise/qelementwise.h"
#include "simd/bytes.h"

namespace dk {
namespace {
using namespace simd;

struct Ends {
  f32 low, high;
  s32 zero, flip;
  Ends(int32_t z, int32_t l, int32_t h, uint8_t f)
      : low(splat<f32>(static_cast<float>(l - z))),
        high(splat<f32>(static_cast<float>(h - z))),
        zero(splat<s32>(z)),
        flip(splat<s32>(static_cast<int32_t>(f))) {}
  DK_INL s32 operator()(f32 v) const { return (to_s32(vround(vmin(high, vmax(low, v)))) + zero) ^ flip; }
};

DK_INL void put(uint8_t* y, s32 q, int64_t left) {
  if (left >= kW) return narrow(y, q);
  uint8_t last[kW];
  narrow(last, q);
  __builtin_memcpy(y, last, static_cast<size_t>(left));
}

// F: (s32 a, s32 b) -> f32, operands less their zero points
template <class F>
DK_INL void binary(const QBinary* t, F f) {
  const Ends ends(t->y_zero, t->low, t->high, t->y_flip);
  const s32 az = splat<s32>(t->a_zero), bz = splat<s32>(t->b_zero);
  const int32_t af = t->a_flip, bf = t->b_flip;
  const s32 a0 = splat<s32>(*t->a ^ af) - az, b0 = splat<s32>(*t->b ^ bf) - bz;
  for (int64_t i = 0; i < t->n; i += kW) {
    const s32 a = t->a_step ? (widen(t->a + i) ^ af) - az : a0;
    const s32 b = t->b_step ? (widen(t->b + i) ^ bf) - bz : b0;
    put(t->y + i, ends(f(a, b)), t->n - i);
  }
}

void add(const QBinary* t) {
  const f32 as = splat<f32>(t->a_scale), bs = splat<f32>(t->b_scale);
  binary(t, [=](s32 a, s32 b) { return to_f32(a) * as + to_f32(b) * bs; });
}

void mul(const QBinary* t) {
  const f32 s = splat<f32>(t->a_scale);
  binary(t, [=](s32 a, s32 b) { return to_f32(a * b) * s; });
}

void lut(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t v, r = 0;
    __builtin_memcpy(&v, x + i, 8);
    DK_UNROLL
    for (int k = 0; k < 8; ++k) r |= static_cast<uint64_t>(table[v >> (8 * k) & 255]) << (8 * k);
    __builtin_memcpy(y + i, &r, 8);
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

void store_bytes(const float* v, int64_t n, int32_t zero, int32_t low, int32_t high, uint8_t flip, uint8_t* y) {
  const Ends ends(zero, low, high, flip);
  for (int64_t i = 0; i < n; i += kW)
    put(y + i, ends(n - i >= kW ? load<f32>(v + i) : load_n<f32>(v + i, static_cast<int>(n - i))), n - i);
}

void accumulate(const uint8_t* x, int64_t n, uint8_t flip, int32_t* sums) {
  const int32_t f = flip;
  int64_t i = 0;
  for (; i + kW <= n; i += kW) store(sums + i, load<u32>(sums + i) + bits<u32>(widen(x + i) ^ f));
  for (; i < n; ++i) sums[i] = static_cast<int32_t>(static_cast<uint32_t>(sums[i]) + (x[i] ^ flip));
}

void average(const int32_t* sums, int64_t n, int32_t offset, float count, float multiplier, int32_t zero, int32_t low,
             int32_t high, uint8_t flip, uint8_t* y) {
  const Ends ends(zero, low, high, flip);
  const f32 c = splat<f32>(count), m = splat<f32>(multiplier);
  for (int64_t i = 0; i < n; i += kW) {
    const s32 sum = n - i >= kW ? load<s32>(sums + i) : bits<s32>(load_n<f32>(sums + i, static_cast<int>(n - i)));
    put(y + i, ends(to_f32(bits<s32>(bits<u32>(sum) - static_cast<uint32_t>(offset))) / c * m), n - i);
  }
}

constexpr QElementwiseKernels kTable = {add, mul, lut, store_bytes, accumulate, average};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const QElementwiseKernels* DK_CAT(qelementwise_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
