// Compiled once per ISA.  See quantize.h for the contract.
#include "kernels/quantize/quantize.h"
#include "simd/bytes.h"

namespace dk {
namespace {
using namespace simd;

DK_INL f32 scale_at(const QuantizeRow& r, int64_t i, int n) {
  if (!r.scale_step) return splat<f32>(r.scale[0]);
  return n == kW ? load<f32>(r.scale + i) : load_n<f32>(r.scale + i, n);
}
DK_INL s32 zero_at(const QuantizeRow& r, int64_t i, int n) {
  if (!r.zero_step) return splat<s32>(r.zero[0]);
  return n == kW ? load<s32>(r.zero + i) : load_n<s32>(r.zero + i, n);
}

DK_INL s32 quantize_at(f32 x, f32 scale, s32 zero, s32 low, s32 high) {
  f32 q = vround(x / scale);
  q = select<f32>(q != q, f32{}, q);
  // the clamp before the conversion keeps it in range; all numbers here are small integers, exact in float
  q = vmin(to_f32(high - zero), vmax(to_f32(low - zero), q));
  return to_s32(q) + zero;
}

template <class T>
DK_INL void to_int(const QuantizeRow* row, const float* x, T* y, int32_t low, int32_t high) {
  const QuantizeRow r = *row;
  const s32 lo = splat<s32>(low), hi = splat<s32>(high);
  int64_t i = 0;
  if (!r.scale_step && !r.zero_step) {
    const f32 scale = splat<f32>(r.scale[0]);
    const s32 zero = splat<s32>(r.zero[0]);
    for (; i + kW <= r.n; i += kW) narrow(y + i, quantize_at(load<f32>(x + i), scale, zero, lo, hi));
  } else {
    for (; i + kW <= r.n; i += kW)
      narrow(y + i, quantize_at(load<f32>(x + i), scale_at(r, i, kW), zero_at(r, i, kW), lo, hi));
  }
  if (const int n = static_cast<int>(r.n - i); n > 0) {
    T last[kW];
    narrow(last, quantize_at(load_n<f32>(x + i, n), scale_at(r, i, n), zero_at(r, i, n), lo, hi));
    __builtin_memcpy(y + i, last, static_cast<size_t>(n) * sizeof(T));
  }
}

void to_u8(const QuantizeRow* r, const float* x, uint8_t* y) { to_int(r, x, y, 0, 255); }
void to_s8(const QuantizeRow* r, const float* x, int8_t* y) { to_int(r, x, y, -128, 127); }
void to_s32(const QuantizeRow* r, const float* x, int32_t* y, int32_t low, int32_t high) { to_int(r, x, y, low, high); }

template <class T>
DK_INL void from_int(const QuantizeRow* row, const T* x, float* y) {
  const QuantizeRow r = *row;
  int64_t i = 0;
  if (!r.scale_step && !r.zero_step) {
    const f32 scale = splat<f32>(r.scale[0]);
    const s32 zero = splat<s32>(r.zero[0]);
    for (; i + kW <= r.n; i += kW) store(y + i, to_f32(widen(x + i) - zero) * scale);
  } else {
    for (; i + kW <= r.n; i += kW) store(y + i, to_f32(widen(x + i) - zero_at(r, i, kW)) * scale_at(r, i, kW));
  }
  if (const int n = static_cast<int>(r.n - i); n > 0) {
    T last[kW] = {};
    __builtin_memcpy(last, x + i, static_cast<size_t>(n) * sizeof(T));
    store_n(y + i, to_f32(widen(last) - zero_at(r, i, n)) * scale_at(r, i, n), n);
  }
}

void from_u8(const QuantizeRow* r, const uint8_t* x, float* y) { from_int(r, x, y); }
void from_s8(const QuantizeRow* r, const int8_t* x, float* y) { from_int(r, x, y); }
void from_s32(const QuantizeRow* r, const int32_t* x, float* y) { from_int(r, x, y); }

void divide(const QuantizeRow* row, const float* x, float* y) {
  const QuantizeRow r = *row;
  int64_t i = 0;
  for (; i + kW <= r.n; i += kW) store(y + i, load<f32>(x + i) / scale_at(r, i, kW));
  if (const int n = static_cast<int>(r.n - i); n > 0) store_n(y + i, load_n<f32>(x + i, n) / scale_at(r, i, n), n);
}

void range(const float* x, int64_t n, float* low, float* high) {
  f32 lo = splat<f32>(*low), hi = splat<f32>(*high);
  int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    lo = vmin(load<f32>(x + i), lo);
    hi = vmax(load<f32>(x + i), hi);
  }
  float a = hmin(lo), b = hmax(hi);
  for (; i < n; ++i) {
    a = x[i] < a ? x[i] : a;
    b = x[i] > b ? x[i] : b;
  }
  *low = a;
  *high = b;
}

constexpr QuantizeKernels kTable = {to_u8, to_s8, to_s32, from_u8, from_s8, from_s32, divide, range};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const QuantizeKernels* DK_CAT(quantize_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
