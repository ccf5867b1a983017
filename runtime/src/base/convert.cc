#include "base/convert.h"

namespace dk {
namespace {

constexpr int kBlock = 256;

bool is_small_float(DType t) { return t >= DType::f8e4m3fn && t <= DType::f4e2m1fn && t != DType::f8e8m0fnu; }

template <class To, class From>
void copy(const void* in, int64_t n, void* out) {
  const From* a = static_cast<const From*>(in);
  To* b = static_cast<To*>(out);
  for (int64_t i = 0; i < n; ++i) b[i] = static_cast<To>(a[i]);
}

// Sign-extends or masks sub-byte integers: the upper bits of their bytes are not trusted.
void load_bits(const void* in, int64_t n, int bits, bool sign, int64_t* out) {
  const uint8_t* a = static_cast<const uint8_t*>(in);
  int64_t mask = (1 << bits) - 1;
  int64_t top = sign ? 1 << (bits - 1) : 0;
  for (int64_t i = 0; i < n; ++i) out[i] = ((a[i] & mask) ^ top) - top;
}

// Truncation toward zero with clamping to [lo, hi]; NaN gives 0.  Bounds are compared in the float type: hi + 1 is a
// power of two and lo is one or zero, so both are exact.
template <class Int, class Float>
Int to_int(Float x, Int lo, Int hi) {
  Float above = static_cast<Float>(hi / 2 + 1) * 2;
  if (x >= above) return hi;
  if (x <= static_cast<Float>(lo)) return lo;
  return x == x ? static_cast<Int>(x) : 0;
}

struct Range {
  int64_t lo, hi;
};
Range int_range(DType t) {
  switch (t) {
    case DType::s8: return {-128, 127};
    case DType::u8: return {0, 255};
    case DType::s16: return {-32768, 32767};
    case DType::u16: return {0, 65535};
    case DType::s32: return {INT32_MIN, INT32_MAX};
    case DType::u32: return {0, UINT32_MAX};
    default: return {INT64_MIN, INT64_MAX};
  }
}

template <class Float>
void float_to_int(DType to, const Float* in, int64_t n, int64_t* out) {
  if (to == DType::b8) {
    for (int64_t i = 0; i < n; ++i) out[i] = in[i] != 0;
    return;
  }
  Range r = int_range(to);
  for (int64_t i = 0; i < n; ++i) out[i] = to_int<int64_t>(in[i], r.lo, r.hi);
}

template <class Float>
void float_to_u64(const Float* in, int64_t n, uint64_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = to_int<uint64_t>(in[i], 0, UINT64_MAX);
}

// One block of wide values `w` to dtype `to`.
void store_from(DType to, const float* w, int64_t n, void* out, bool saturate) {
  union {
    double d[kBlock];
    int64_t s[kBlock];
    uint64_t u[kBlock];
  } t;
  switch (wide_of(to)) {
    case Wide::f32: return store_wide(to, w, n, out, saturate);
    case Wide::f64: return copy<double, float>(w, n, out);
    case Wide::s64: float_to_int(to, w, n, t.s); return store_wide(to, t.s, n, out);
    case Wide::u64: return float_to_u64(w, n, static_cast<uint64_t*>(out));
  }
}

void store_from(DType to, const double* w, int64_t n, void* out, bool saturate) {
  union {
    float f[kBlock];
    int64_t s[kBlock];
  } t;
  switch (wide_of(to)) {
    case Wide::f32:
      if (to == DType::f16) {
        for (int64_t i = 0; i < n; ++i) static_cast<uint16_t*>(out)[i] = f16_from_f64(w[i]);
        return;
      }
      copy<float, double>(w, n, t.f);
      return store_wide(to, t.f, n, out, saturate);
    case Wide::f64: return copy<double, double>(w, n, out);
    case Wide::s64: float_to_int(to, w, n, t.s); return store_wide(to, t.s, n, out);
    case Wide::u64: return float_to_u64(w, n, static_cast<uint64_t*>(out));
  }
}

template <class Int>
void store_from_int(DType to, const Int* w, int64_t n, void* out, bool saturate) {
  float f[kBlock];
  switch (wide_of(to)) {
    case Wide::f32: copy<float, Int>(w, n, f); return store_wide(to, f, n, out, saturate);
    case Wide::f64: return copy<double, Int>(w, n, out);
    case Wide::s64: return store_wide(to, reinterpret_cast<const int64_t*>(w), n, out);  // low bits
    case Wide::u64: return store_wide(to, reinterpret_cast<const uint64_t*>(w), n, out);
  }
}
void store_from(DType to, const int64_t* w, int64_t n, void* out, bool saturate) {
  store_from_int(to, w, n, out, saturate);
}
void store_from(DType to, const uint64_t* w, int64_t n, void* out, bool saturate) {
  store_from_int(to, w, n, out, saturate);
}

template <class W>
void convert_blocks(DType from, const void* in, DType to, void* out, int64_t n, bool saturate) {
  W w[kBlock];
  const char* a = static_cast<const char*>(in);
  char* b = static_cast<char*>(out);
  size_t sa = dtype_size(from), sb = dtype_size(to);
  for (int64_t i = 0; i < n; i += kBlock) {
    int64_t m = n - i < kBlock ? n - i : kBlock;
    load_wide(from, a + static_cast<size_t>(i) * sa, m, w);
    store_from(to, w, m, b + static_cast<size_t>(i) * sb, saturate);
  }
}

constexpr int pair_of(DType a, DType b) { return static_cast<int>(a) * 32 + static_cast<int>(b); }

// Frequent pairs in one pass.
bool convert_direct(DType from, const void* in, DType to, void* out, int64_t n) {
  switch (pair_of(from, to)) {
    case pair_of(DType::s64, DType::s32): copy<uint32_t, uint64_t>(in, n, out); return true;
    case pair_of(DType::s32, DType::s64): copy<int64_t, int32_t>(in, n, out); return true;
    case pair_of(DType::s64, DType::f32): copy<float, int64_t>(in, n, out); return true;
    case pair_of(DType::s32, DType::f32): copy<float, int32_t>(in, n, out); return true;
    case pair_of(DType::u8, DType::f32): copy<float, uint8_t>(in, n, out); return true;
    case pair_of(DType::s8, DType::f32): copy<float, int8_t>(in, n, out); return true;
    case pair_of(DType::f64, DType::f32): copy<float, double>(in, n, out); return true;
    case pair_of(DType::b8, DType::f32): {
      const uint8_t* a = static_cast<const uint8_t*>(in);
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(out)[i] = a[i] ? 1.0f : 0.0f;
      return true;
    }
    case pair_of(DType::f32, DType::b8): {
      const float* a = static_cast<const float*>(in);
      for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(out)[i] = a[i] != 0;
      return true;
    }
    case pair_of(DType::f32, DType::s32): {
      const float* a = static_cast<const float*>(in);
      for (int64_t i = 0; i < n; ++i) static_cast<int32_t*>(out)[i] = to_int<int32_t>(a[i], INT32_MIN, INT32_MAX);
      return true;
    }
    case pair_of(DType::f32, DType::s64):
      float_to_int(to, static_cast<const float*>(in), n, static_cast<int64_t*>(out));
      return true;
    case pair_of(DType::f32, DType::f16):
    case pair_of(DType::f32, DType::bf16): store_wide(to, static_cast<const float*>(in), n, out); return true;
    case pair_of(DType::f16, DType::f32):
    case pair_of(DType::bf16, DType::f32): load_wide(from, in, n, static_cast<float*>(out)); return true;
    default: return false;
  }
}

}  // namespace

Wide wide_of(DType t) {
  if (t == DType::f64) return Wide::f64;
  if (t == DType::u64) return Wide::u64;
  return is_float(t) ? Wide::f32 : Wide::s64;
}

void load_wide(DType t, const void* in, int64_t n, float* out) {
  const uint8_t* b = static_cast<const uint8_t*>(in);
  const uint16_t* h = static_cast<const uint16_t*>(in);
  if (t == DType::f32) {
    if (in != out) memcpy(out, in, static_cast<size_t>(n) * 4);
  } else if (t == DType::f16) {
    for (int64_t i = 0; i < n; ++i) out[i] = f32_from_f16(h[i]);
  } else if (t == DType::bf16) {
    for (int64_t i = 0; i < n; ++i) out[i] = f32_from_bf16(h[i]);
  } else if (t == DType::f8e8m0fnu) {
    for (int64_t i = 0; i < n; ++i) out[i] = f32_from_e8m0(b[i]);
  } else {
    SmallFloat s = small_float(t);
    for (int64_t i = 0; i < n; ++i) out[i] = f32_from_small(b[i], s);
  }
}

void store_wide(DType t, const float* in, int64_t n, void* out, bool saturate) {
  uint8_t* b = static_cast<uint8_t*>(out);
  uint16_t* h = static_cast<uint16_t*>(out);
  if (t == DType::f32) {
    if (in != out) memcpy(out, in, static_cast<size_t>(n) * 4);
  } else if (t == DType::f16) {
    for (int64_t i = 0; i < n; ++i) h[i] = f16_from_f32(in[i]);
  } else if (t == DType::bf16) {
    for (int64_t i = 0; i < n; ++i) h[i] = bf16_from_f32(in[i]);
  } else if (t == DType::f8e8m0fnu) {
    for (int64_t i = 0; i < n; ++i) b[i] = e8m0_from_f32(in[i], saturate);
  } else if (is_small_float(t)) {
    SmallFloat s = small_float(t);
    for (int64_t i = 0; i < n; ++i) b[i] = small_from_f32(in[i], s, saturate);
  }
}

void load_wide(DType, const void* in, int64_t n, double* out) {
  if (in != out) memcpy(out, in, static_cast<size_t>(n) * 8);
}
void store_wide(DType, const double* in, int64_t n, void* out) {
  if (in != out) memcpy(out, in, static_cast<size_t>(n) * 8);
}
void load_wide(DType, const void* in, int64_t n, uint64_t* out) {
  if (in != out) memcpy(out, in, static_cast<size_t>(n) * 8);
}
void store_wide(DType, const uint64_t* in, int64_t n, void* out) {
  if (in != out) memcpy(out, in, static_cast<size_t>(n) * 8);
}

void load_wide(DType t, const void* in, int64_t n, int64_t* out) {
  switch (t) {
    case DType::s8: return copy<int64_t, int8_t>(in, n, out);
    case DType::u8: return copy<int64_t, uint8_t>(in, n, out);
    case DType::s16: return copy<int64_t, int16_t>(in, n, out);
    case DType::u16: return copy<int64_t, uint16_t>(in, n, out);
    case DType::s32: return copy<int64_t, int32_t>(in, n, out);
    case DType::u32: return copy<int64_t, uint32_t>(in, n, out);
    case DType::b8:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<const uint8_t*>(in)[i] != 0;
      return;
    case DType::s4: return load_bits(in, n, 4, true, out);
    case DType::u4: return load_bits(in, n, 4, false, out);
    case DType::s2: return load_bits(in, n, 2, true, out);
    case DType::u2: return load_bits(in, n, 2, false, out);
    default:
      if (in != out) memcpy(out, in, static_cast<size_t>(n) * 8);
  }
}

void store_wide(DType t, const int64_t* in, int64_t n, void* out) {
  uint8_t* b = static_cast<uint8_t*>(out);
  switch (t) {
    case DType::b8:
      for (int64_t i = 0; i < n; ++i) b[i] = in[i] != 0;
      return;
    case DType::s4:
    case DType::u4:
      for (int64_t i = 0; i < n; ++i) b[i] = in[i] & 15;
      return;
    case DType::s2:
    case DType::u2:
      for (int64_t i = 0; i < n; ++i) b[i] = in[i] & 3;
      return;
    default: break;
  }
  switch (dtype_size(t)) {
    case 1: return copy<uint8_t, int64_t>(in, n, out);
    case 2: return copy<uint16_t, int64_t>(in, n, out);
    case 4: return copy<uint32_t, int64_t>(in, n, out);
    default:
      if (in != out) memcpy(out, in, static_cast<size_t>(n) * 8);
  }
}

void convert(DType from, const void* in, DType to, void* out, int64_t n, bool saturate) {
  if (from == to) {
    if (in != out && n) memcpy(out, in, static_cast<size_t>(n) * dtype_size(to));
    return;
  }
  if (convert_direct(from, in, to, out, n)) return;
  switch (wide_of(from)) {
    case Wide::f32: return convert_blocks<float>(from, in, to, out, n, saturate);
    case Wide::f64: return convert_blocks<double>(from, in, to, out, n, saturate);
    case Wide::s64: return convert_blocks<int64_t>(from, in, to, out, n, saturate);
    case Wide::u64: return convert_blocks<uint64_t>(from, in, to, out, n, saturate);
  }
}

}  // namespace dk
