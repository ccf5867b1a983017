// Conversions between element types: scalar functions, and blocks to and from the four wide types that kernels without
// a native path compute in.
//
// Floats round to nearest even; NaN becomes the quiet NaN of the target.  The small formats are those of the OCP and
// ONNX float8/float4 definitions: e4m3fn has no infinity, the fnuz ones have one NaN (0x80) and no -0, e8m0 is a power
// of two without sign, e2m1 saturates always.
#pragma once
#include <cstring>

#include "base/dtype.h"

namespace dk {

static inline uint32_t f32_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}
static inline float f32_from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

// Branch-free, so that loops over it vectorise.  All intermediate values are normal floats: independent of
// flush-to-zero.
static inline float f32_from_f16(uint16_t h) {
  uint32_t o = (h & 0x7fffu) << 13;
  uint32_t e = o & 0x0f800000u;
  uint32_t normal = o + (112u << 23);
  uint32_t special = o + (224u << 23);  // infinity and NaN
  uint32_t tiny =
      f32_bits(f32_from_bits(o + (113u << 23)) - f32_from_bits(113u << 23));  // subnormal: renormalised by subtracting
  uint32_t r = e == 0x0f800000u ? special : normal;
  r = e == 0 ? tiny : r;
  return f32_from_bits(r | (h & 0x8000u) << 16);
}

static inline uint16_t f16_from_f32(float f) {
  uint32_t u = f32_bits(f);
  uint32_t sign = u >> 16 & 0x8000u;
  u &= 0x7fffffffu;
  uint32_t tiny =
      f32_bits(f32_from_bits(u) + 0.5f) - 0x3f000000u;        // the addition aligns the mantissa and rounds to even
  uint32_t normal = (u + 0xc8000fffu + (u >> 13 & 1)) >> 13;  // rebias the exponent by -112, round to even
  uint32_t r = u < 0x38800000u ? tiny : normal;
  r = u >= 0x47800000u ? 0x7c00u : r;
  r = u > 0x7f800000u ? 0x7e00u : r;
  return static_cast<uint16_t>(r | sign);
}

static inline float f32_from_bf16(uint16_t h) { return f32_from_bits(static_cast<uint32_t>(h) << 16); }

static inline uint16_t bf16_from_f32(float f) {
  uint32_t u = f32_bits(f);
  uint32_t r = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
  r = (u & 0x7fffffffu) > 0x7f800000u ? ((u >> 16 & 0x8000u) | 0x7fc0u) : r;
  return static_cast<uint16_t>(r);
}

// Nearest half of a double without rounding twice: to float by round-to-odd, then to half.
static inline uint16_t f16_from_f64(double d) {
  float f = static_cast<float>(d);
  double back = f;
  if (back != d && d == d) {
    uint32_t u = f32_bits(f);
    bool away = (d < 0 ? -back : back) > (d < 0 ? -d : d);
    f = f32_from_bits((away ? u - 1 : u) | 1);
  }
  return f16_from_f32(f);
}

// ---- float8 and float4 -------------------------------------------------------------------------------------------
struct SmallFloat {
  uint8_t ebits, mbits, bias;
  uint8_t max;       // code of the largest finite value
  uint8_t overflow;  // code of larger ones without saturation
  uint8_t nan;       // code of +NaN
  bool fnuz;         // one NaN, no -0
};

static inline SmallFloat small_float(DType t) {
  switch (t) {
    case DType::f8e4m3fnuz: return {4, 3, 8, 0x7f, 0x80, 0x80, true};
    case DType::f8e5m2: return {5, 2, 15, 0x7b, 0x7c, 0x7e, false};
    case DType::f8e5m2fnuz: return {5, 2, 16, 0x7f, 0x80, 0x80, true};
    case DType::f4e2m1fn: return {2, 1, 1, 0x07, 0x07, 0x80, false};
    default: return {4, 3, 7, 0x7e, 0x7f, 0x7f, false};  // f8e4m3fn
  }
}

static inline float f32_from_small(uint8_t code, const SmallFloat& s) {
  uint32_t width = s.ebits + s.mbits;
  uint32_t magnitude = code & ((1u << width) - 1);
  uint32_t sign = static_cast<uint32_t>(code >> width & 1) << 31;
  if (s.fnuz && code == 0x80) return f32_from_bits(0x7fc00000u);
  if (magnitude > s.max)
    return f32_from_bits(sign | (magnitude == s.overflow && s.nan != s.overflow ? 0x7f800000u : 0x7fc00000u));
  uint32_t e = magnitude >> s.mbits;
  float m = static_cast<float>(magnitude & ((1u << s.mbits) - 1));
  float unit = f32_from_bits(static_cast<uint32_t>(127 - s.bias + static_cast<int>(e ? e : 1) - s.mbits) << 23);
  float v = (e ? m + static_cast<float>(1u << s.mbits) : m) * unit;
  return f32_from_bits(f32_bits(v) | sign);
}

// saturate: everything beyond the largest finite value, infinity too, becomes that value.
static inline uint8_t small_from_f32(float f, const SmallFloat& s, bool saturate) {
  uint32_t u = f32_bits(f);
  uint32_t width = s.ebits + s.mbits;
  uint32_t sign = (u >> 31) << width;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) {                                             // NaN
    if (s.ebits == 2) return static_cast<uint8_t>(sign ? 0 : 0x08);  // e2m1 has none: a zero, as ml_dtypes does
    return static_cast<uint8_t>(s.fnuz ? s.nan : (s.nan | sign));
  }
  int e = static_cast<int>(u >> 23) - 127;
  int lowest = 1 - s.bias;
  int shift = 23 - s.mbits + (e < lowest ? lowest - e : 0);
  uint32_t code = 0;
  if (shift < 25 && u >> 23) {
    uint32_t m = (u & 0x7fffffu) | 0x800000u;
    uint32_t half = (1u << (shift - 1)) - 1 + (m >> shift & 1);
    uint32_t q = (m + half) >> shift;  // a carry moves into the exponent by itself
    code = e < lowest ? q : q + (static_cast<uint32_t>(e - lowest) << s.mbits);
  }
  if (code > s.max) code = saturate ? s.max : s.overflow;
  if (s.fnuz) return static_cast<uint8_t>(code == 0x80 || code == 0 ? code : code | sign);
  return static_cast<uint8_t>(code | sign);
}

static inline float f32_from_e8m0(uint8_t code) {
  if (code == 0xff) return f32_from_bits(0x7fc00000u);
  return f32_from_bits(code ? static_cast<uint32_t>(code) << 23 : 0x00400000u);
}

// Nearest power of two, halves up (what ml_dtypes does); negative numbers, zero and NaN give NaN.  saturate: beyond
// 2^127 gives 2^127, otherwise NaN.
static inline uint8_t e8m0_from_f32(float f, bool saturate = false) {
  uint32_t u = f32_bits(f);
  if (saturate && u > 0x7f000000u && u <= 0x7f800000u) return 0xfe;
  if (u == 0 || u >= 0x7f800000u) return 0xff;
  if (u < 0x00800000u) return u > 0x00400000u ? 1 : 0;  // subnormal: 2^-127 or below, or above it
  return static_cast<uint8_t>((u + 0x00400000u) >> 23);
}

// ---- blocks ------------------------------------------------------------------------------------------------------
// The wide type a dtype computes in: f32 for f32 and all narrower floats, f64, u64, and s64 for bool and all other
// ints.
enum class Wide : uint8_t { f32, f64, s64, u64 };
Wide wide_of(DType t);

// n elements of dtype t, whose wide type must be the one of the pointer, to the wide type and back.  Integers keep the
// low bits, bool is != 0; floats round to nearest even.  In place is allowed (in == out) where sizes are equal.
void load_wide(DType t, const void* in, int64_t n, float* out);
void load_wide(DType t, const void* in, int64_t n, double* out);
void load_wide(DType t, const void* in, int64_t n, int64_t* out);
void load_wide(DType t, const void* in, int64_t n, uint64_t* out);
void store_wide(DType t, const float* in, int64_t n, void* out, bool saturate = true);
void store_wide(DType t, const double* in, int64_t n, void* out);
void store_wide(DType t, const int64_t* in, int64_t n, void* out);
void store_wide(DType t, const uint64_t* in, int64_t n, void* out);

// Any dtype to any other with the rules of the op `cast`: float to int truncates toward zero and clamps to the range of
// the target (4-bit and 2-bit targets keep the low bits of that as 64-bit integer), NaN gives 0; int to int keeps the
// low bits; to bool tests != 0.  saturate is for float8 targets.  in == out is allowed for equal sizes.
void convert(DType from, const void* in, DType to, void* out, int64_t n, bool saturate = true);

}  // namespace dk
