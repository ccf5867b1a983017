// Vectors of bytes to and from vectors of 32-bit integers.
#pragma once
#include "simd/vec.h"

namespace dk::simd {
namespace {

// kW bytes at p as integers, and back (the low bytes of integers in range).  g++ 12 takes __builtin_convertvector
// between vectors of different width apart into single elements.
template <class T>
DK_INL s32 widen(const T* p) {
  [[maybe_unused]] constexpr bool is_signed = static_cast<T>(-1) < 0;
#if defined(DK_SIMD_SCALAR) || !defined(__SSE4_1__)
  typedef T V __attribute__((vector_size(kW)));
  return __builtin_convertvector(load<V>(p), s32);
#elif defined(__AVX512F__)
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return bits<s32>(is_signed ? _mm512_maskz_cvtepi8_epi32(0xffff, v) : _mm512_maskz_cvtepu8_epi32(0xffff, v));
#elif defined(__AVX2__)
  const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return bits<s32>(is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
#else
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  const __m128i v = _mm_cvtsi32_si128(four);
  return bits<s32>(is_signed ? _mm_cvtepi8_epi32(v) : _mm_cvtepu8_epi32(v));
#endif
}
DK_INL s32 widen(const int32_t* p) { return load<s32>(p); }

template <class T>
DK_INL void narrow(T* p, s32 v) {
#if defined(DK_SIMD_SCALAR) || !defined(__SSE4_1__)
  typedef T V __attribute__((vector_size(kW)));
  store(p, __builtin_convertvector(v, V));
#elif defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, bits<__m512i>(v)));
#else
  const __m128i low_bytes = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
#if defined(__AVX2__)
  const __m256i b = bits<__m256i>(v);
  const __m128i halves = _mm_unpacklo_epi32(_mm_shuffle_epi8(_mm256_castsi256_si128(b), low_bytes),
                                            _mm_shuffle_epi8(_mm256_extracti128_si256(b, 1), low_bytes));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), halves);
#else
  const int32_t four = _mm_cvtsi128_si32(_mm_shuffle_epi8(bits<__m128i>(v), low_bytes));
  __builtin_memcpy(p, &four, 4);
#endif
#endif
}
DK_INL void narrow(int32_t* p, s32 v) { store(p, v); }

}  // namespace
}  // namespace dk::simd
