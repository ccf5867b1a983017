// From float32 to clamped bytes, four vectors at once: y = clip(round_half_even(v) + zero, low, high) ^ flip.
//
//   Clamp c(zero, low, high, flip);          // 0 <= zero, low, high <= 255
//   bytes = c.pack(q0, q1, q2, q3);          // of nearest(v); by 128-bit lanes: four of q0, four of q1, ...
//   bytes = in_order(bytes);                 // all of q0, all of q1, ...
//
// Saturating narrowing does most of the clamp: to 16 bits, add the zero point, to 8 bits.  `nearest` needs v < 2^31,
// for which `capped` sees; far negative numbers become the lowest integer by themselves.
#pragma once
#include "simd/bytes.h"

namespace dk::simd {
namespace {

typedef uint8_t u8x16 __attribute__((vector_size(16)));

// v, or a large number that still converts.
template <class V>
DK_INL V capped(V v) {
#if defined(__SSE4_1__) && !defined(DK_SIMD_SCALAR)
  return vmin(splat<V>(1073741824.0f), v);
#else
  return vmin(splat<V>(1073741824.0f), vmax(splat<V>(-1073741824.0f), v));
#endif
}

#if defined(__SSE4_1__) && !defined(DK_SIMD_SCALAR)
DK_INL s32x4 nearest(f32x4 v) { return bits<s32x4>(_mm_cvtps_epi32(bits<__m128>(v))); }
#if defined(__AVX2__)
DK_INL s32x8 nearest(f32x8 v) { return bits<s32x8>(_mm256_cvtps_epi32(bits<__m256>(v))); }
#endif
#if defined(__AVX512F__)
DK_INL s32x16 nearest(f32x16 v) { return bits<s32x16>(_mm512_maskz_cvtps_epi32(0xffff, bits<__m512>(v))); }
#endif
#elif defined(__wasm_relaxed_simd__) && !defined(DK_SIMD_SCALAR)
DK_INL s32x4
nearest(f32x4 v) {  // one instruction where the saturating form takes six; for what `capped` leaves the same
  return bits<s32x4>(wasm_i32x4_relaxed_trunc_f32x4(bits<v128_t>(vround(v))));
}
#else
DK_INL s32x4 nearest(f32x4 v) { return to_s32(vround(v)); }
#endif

template <class V>
struct Clamp;

#if defined(__SSE4_1__) && !defined(DK_SIMD_SCALAR)
#define DK_CLAMP(V, M, P, S)                                                       \
  template <>                                                                      \
  struct Clamp<V> {                                                                \
    M zero, low, high, flip;                                                       \
    DK_INL Clamp(int z, int l, int h, int f)                                       \
        : zero(P##_set1_epi16(static_cast<int16_t>(z))),                           \
          low(P##_set1_epi8(static_cast<char>(l))),                                \
          high(P##_set1_epi8(static_cast<char>(h))),                               \
          flip(P##_set1_epi8(static_cast<char>(f))) {}                             \
    DK_INL V pack(V q0, V q1, V q2, V q3) const {                                  \
      const M a = P##_adds_epi16(P##_packs_epi32(bits<M>(q0), bits<M>(q1)), zero); \
      const M b = P##_adds_epi16(P##_packs_epi32(bits<M>(q2), bits<M>(q3)), zero); \
      const M y = P##_min_epu8(P##_max_epu8(P##_packus_epi16(a, b), low), high);   \
      return bits<V>(P##_xor_si##S(y, flip));                                      \
    }                                                                              \
  };
DK_CLAMP(s32x4, __m128i, _mm, 128)
DK_INL s32x4 in_order(s32x4 v) { return v; }
#if defined(__AVX2__)
DK_CLAMP(s32x8, __m256i, _mm256, 256)
DK_INL s32x8 in_order(s32x8 v) { return __builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7); }
#endif
#if defined(__AVX512F__)
DK_CLAMP(s32x16, __m512i, _mm512, 512)
DK_INL s32x16 in_order(s32x16 v) {
  return __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
#endif
#undef DK_CLAMP
#elif defined(__wasm_simd128__) && !defined(DK_SIMD_SCALAR)
template <>
struct Clamp<s32x4> {
  v128_t zero, low, high, flip;
  DK_INL Clamp(int z, int l, int h, int f)
      : zero(wasm_i16x8_splat(static_cast<int16_t>(z))),
        low(wasm_i8x16_splat(static_cast<int8_t>(l))),
        high(wasm_i8x16_splat(static_cast<int8_t>(h))),
        flip(wasm_i8x16_splat(static_cast<int8_t>(f))) {}
  DK_INL s32x4 pack(s32x4 q0, s32x4 q1, s32x4 q2, s32x4 q3) const {
    const v128_t a = wasm_i16x8_add_sat(wasm_i16x8_narrow_i32x4(bits<v128_t>(q0), bits<v128_t>(q1)), zero);
    const v128_t b = wasm_i16x8_add_sat(wasm_i16x8_narrow_i32x4(bits<v128_t>(q2), bits<v128_t>(q3)), zero);
    return bits<s32x4>(wasm_v128_xor(wasm_u8x16_min(wasm_u8x16_max(wasm_u8x16_narrow_i16x8(a, b), low), high), flip));
  }
};
DK_INL s32x4 in_order(s32x4 v) { return v; }
#else
template <>
struct Clamp<s32x4> {
  s32x4 zero, low, high, flip;
  DK_INL Clamp(int z, int l, int h, int f)
      : zero(splat<s32x4>(z)), low(splat<s32x4>(l)), high(splat<s32x4>(h)), flip(splat<s32x4>(f)) {}
  DK_INL s32x4 one(s32x4 q) const {
    q += zero;
    q = bits<s32x4>(select<f32x4>(q < low, bits<f32x4>(low), bits<f32x4>(q)));
    return bits<s32x4>(select<f32x4>(q > high, bits<f32x4>(high), bits<f32x4>(q))) ^ flip;
  }
  DK_INL s32x4 pack(s32x4 q0, s32x4 q1, s32x4 q2, s32x4 q3) const {
    const u8x16 a = bits<u8x16>(one(q0)), b = bits<u8x16>(one(q1)), c = bits<u8x16>(one(q2)), d = bits<u8x16>(one(q3));
    const u8x16 ab = __builtin_shufflevector(a, b, 0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const u8x16 cd = __builtin_shufflevector(c, d, 0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    return bits<s32x4>(__builtin_shufflevector(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23));
  }
};
DK_INL s32x4 in_order(s32x4 v) { return v; }
#endif

}  // namespace
}  // namespace dk::simd
