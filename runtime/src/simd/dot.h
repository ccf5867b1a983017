// Sums of four 8-bit products per 32-bit lane, exact on every ISA:
//
//   dot4(acc, a, b):  acc[i] + a[4i] * b[4i] + ... + a[4i+3] * b[4i+3]
//
// a holds bytes of activations, b signed bytes of weights.  kDotSigned says how this ISA reads a: as signed bytes where
// the instruction wants that (Arm's sdot), else as unsigned ones.  Callers flip the top bit of a byte (x ^ 0x80, which
// is x - 128 or x + 128) to change between the two, and move the zero point by 128.
//
// Without a dot instruction, bytes are split into even and odd ones as 16-bit numbers and multiplied in pairs
// (pmaddwd), which cannot saturate; pmaddubsw would.
//
// WebAssembly's relaxed dot reads its second operand as the machine likes, and may saturate: relaxed_dot() of
// base/cpu.h finds out at the start.  Its sign is then known at run time only (the tables' a_signed).
#pragma once
#include "simd/bytes.h"

#if defined(DK_SIMD_SCALAR)
#define DK_DOT_SUFFIX scalar
#elif defined(__AVX512VNNI__)
#define DK_DOT_SUFFIX x86_avx512vnni
#elif defined(__AVX512F__)
#define DK_DOT_SUFFIX x86_avx512
#elif defined(__AVXVNNI__)
#define DK_DOT_SUFFIX x86_avxvnni
#elif defined(__ARM_FEATURE_MATMUL_INT8)
#define DK_DOT_SUFFIX arm_i8mm
#elif defined(__ARM_FEATURE_DOTPROD)
#define DK_DOT_SUFFIX arm_neondot
#else
#define DK_DOT_SUFFIX DK_ISA_SUFFIX
#endif

namespace dk::simd {
namespace {

#if defined(__ARM_FEATURE_DOTPROD) && !defined(__ARM_FEATURE_MATMUL_INT8) && !defined(DK_SIMD_SCALAR)
constexpr bool kDotSigned = true;
#else
constexpr bool kDotSigned = false;
#endif
// One instruction does it: there are registers for large tiles.
#if (defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD) || \
     defined(__wasm_relaxed_simd__)) &&                                                   \
    !defined(DK_SIMD_SCALAR)
constexpr bool kDotFast = true;
#else
constexpr bool kDotFast = false;
#endif

// Sums wrap like int32; in signed vectors that would be undefined.
template <class V>
DK_INL V wrapping_add(V a, V b) {
  return bits<V>(bits<uint_of<V>>(a) + bits<uint_of<V>>(b));
}

#if defined(DK_SIMD_SCALAR) || !(defined(__SSE4_1__) || defined(__ARM_NEON) || defined(__wasm_simd128__))
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  DK_UNROLL
  for (int i = 0; i < 4; ++i) {
    const s32x4 weight = bits<s32x4>(bits<u32x4>(b) << (24 - 8 * i)) >> 24;
    acc = wrapping_add(acc, ((a >> (8 * i)) & 255) * weight);
  }
  return acc;
}
#elif defined(__SSE4_1__)
#if defined(__AVX512VNNI__)
DK_INL s32x16 dot4(s32x16 acc, s32x16 a, s32x16 b) {
  return bits<s32x16>(_mm512_dpbusd_epi32(bits<__m512i>(acc), bits<__m512i>(a), bits<__m512i>(b)));
}
DK_INL s32x8 dot4(s32x8 acc, s32x8 a, s32x8 b) {
  return bits<s32x8>(_mm256_dpbusd_epi32(bits<__m256i>(acc), bits<__m256i>(a), bits<__m256i>(b)));
}
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  return bits<s32x4>(_mm_dpbusd_epi32(bits<__m128i>(acc), bits<__m128i>(a), bits<__m128i>(b)));
}
#elif defined(__AVXVNNI__)
DK_INL s32x8 dot4(s32x8 acc, s32x8 a, s32x8 b) {
  return bits<s32x8>(_mm256_dpbusd_avx_epi32(bits<__m256i>(acc), bits<__m256i>(a), bits<__m256i>(b)));
}
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  return bits<s32x4>(_mm_dpbusd_avx_epi32(bits<__m128i>(acc), bits<__m128i>(a), bits<__m128i>(b)));
}
#else
#define DK_DOT4_PAIRS(V, M, P)                                                                                         \
  DK_INL V dot4(V acc, V a, V b) {                                                                                     \
    const V even = bits<V>(P##_madd_epi16(bits<M>(a & 0x00ff00ff), P##_srai_epi16(P##_slli_epi16(bits<M>(b), 8), 8))); \
    const V odd = bits<V>(P##_madd_epi16(P##_srli_epi16(bits<M>(a), 8), P##_srai_epi16(bits<M>(b), 8)));               \
    return wrapping_add(acc, even + odd);                                                                              \
  }
DK_DOT4_PAIRS(s32x4, __m128i, _mm)
#if defined(__AVX2__)
DK_DOT4_PAIRS(s32x8, __m256i, _mm256)
#endif
#if defined(__AVX512F__)
DK_DOT4_PAIRS(s32x16, __m512i, _mm512)
#endif
#undef DK_DOT4_PAIRS
#endif
#elif defined(__ARM_NEON)
#if defined(__ARM_FEATURE_MATMUL_INT8)
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  return bits<s32x4>(vusdotq_s32(bits<int32x4_t>(acc), bits<uint8x16_t>(a), bits<int8x16_t>(b)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  return bits<s32x4>(vdotq_s32(bits<int32x4_t>(acc), bits<int8x16_t>(a), bits<int8x16_t>(b)));
}
#else
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  const uint8x16_t ua = bits<uint8x16_t>(a);
  const int8x16_t sb = bits<int8x16_t>(b);
  const int16x8_t a0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(ua)));
  const int16x8_t a1 = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(ua)));
  const int16x8_t b0 = vmovl_s8(vget_low_s8(sb)), b1 = vmovl_s8(vget_high_s8(sb));
  const int32x4_t p0 =
      vpaddq_s32(vmull_s16(vget_low_s16(a0), vget_low_s16(b0)), vmull_s16(vget_high_s16(a0), vget_high_s16(b0)));
  const int32x4_t p1 =
      vpaddq_s32(vmull_s16(vget_low_s16(a1), vget_low_s16(b1)), vmull_s16(vget_high_s16(a1), vget_high_s16(b1)));
  return wrapping_add(acc, bits<s32x4>(vpaddq_s32(p0, p1)));
}
#endif
#elif defined(__wasm_relaxed_simd__)
// The first operand is signed, the second what relaxed_dot() found.
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  return bits<s32x4>(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(bits<v128_t>(b), bits<v128_t>(a), bits<v128_t>(acc)));
}
#elif defined(__wasm_simd128__)
DK_INL s32x4 dot4(s32x4 acc, s32x4 a, s32x4 b) {
  const v128_t va = bits<v128_t>(a), vb = bits<v128_t>(b);
  const v128_t even =
      wasm_i32x4_dot_i16x8(wasm_v128_and(va, wasm_i16x8_splat(255)), wasm_i16x8_shr(wasm_i16x8_shl(vb, 8), 8));
  const v128_t odd = wasm_i32x4_dot_i16x8(wasm_u16x8_shr(va, 8), wasm_i16x8_shr(vb, 8));
  return wrapping_add(acc, bits<s32x4>(wasm_i32x4_add(even, odd)));
}
#endif

}  // namespace
}  // namespace dk::simd
