// Portable vectors: one kernel source, compiled once per ISA by files named <family>_<isa>.cc.
//
//   f32 / s32 / u32      vectors of the ISA's own width, kW lanes each (f32x4, f32x8, f32x16 by name are there too)
//   load<V>(p), store(p, v), load_n<V>(p, n), store_n(p, v, n), splat<V>(x), lane arithmetic with the plain operators
//   fma, vmin, vmax, select, vabs, vsqrt, vround, vfloor, vceil, vtrunc, to_s32, to_f32, sum, hmax, hmin
//
// GCC vector extensions, which g++ and clang share; intrinsics only where an operator has no good translation.
// Everything lives in anonymous namespaces: two kernel files compiled for different ISAs must not share a symbol, or
// the linker may hand AVX-512 code to a CPU without it (tests/kernels checks that kernel objects export no weak
// symbol). For the same reason kernel files use no std templates that are not always inlined.
//
// What is exact: fma() is fused on AVX2, AVX-512, NEON and relaxed WASM, and multiply-then-add elsewhere; everything
// else gives the same bits on every ISA.  The tree is compiled with -ffp-contract=off, so nothing is fused by chance.
//
// Put DK_UNROLL before every loop over an array of vectors that should stay in registers: without it g++ keeps the
// array on the stack.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(DK_SIMD_SCALAR)
// The portable set: nothing but the operators.
#elif defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#if defined(DK_SIMD_SCALAR)  // for tests and for CPUs without vectors: small, not unrolled
#define DK_INL inline
#define DK_UNROLL _Pragma("GCC unroll 1")
#else
#define DK_INL inline __attribute__((always_inline))
#define DK_UNROLL _Pragma("GCC unroll 64")
#endif
#define DK_RESTRICT __restrict__

// v is computed here, not later.  Browsers' compilers keep the order of instructions, and LLVM, which does not know
// that they have 16 registers, would load everything first.
#if defined(__wasm_simd128__)
#define DK_PIN(v) asm volatile("" : "+r"(v)::"memory")
#else
#define DK_PIN(v)
#endif

namespace dk::simd {
namespace {

#if defined(DK_SIMD_SCALAR)
#define DK_ISA_SUFFIX scalar
constexpr int kW = 4;
#elif defined(__AVX512F__)
#define DK_ISA_SUFFIX x86_avx512
constexpr int kW = 16;
#elif defined(__AVX2__)
#define DK_ISA_SUFFIX x86_avx2
constexpr int kW = 8;
#elif defined(__SSE4_1__)
#define DK_ISA_SUFFIX x86_sse41
constexpr int kW = 4;
#elif defined(__ARM_NEON)
#define DK_ISA_SUFFIX arm_neon
constexpr int kW = 4;
#elif defined(__wasm_relaxed_simd__)
#define DK_ISA_SUFFIX wasm_relaxed
constexpr int kW = 4;
#elif defined(__wasm_simd128__)
#define DK_ISA_SUFFIX wasm_simd128
constexpr int kW = 4;
#else
#define DK_ISA_SUFFIX scalar
constexpr int kW = 4;
#endif

#if (defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_NEON) || defined(__wasm_relaxed_simd__)) && \
    !defined(DK_SIMD_SCALAR)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t s32x4 __attribute__((vector_size(16)));
typedef int32_t s32x8 __attribute__((vector_size(32)));
typedef int32_t s32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

template <int W>
struct VecOf;
template <>
struct VecOf<4> {
  typedef f32x4 f;
  typedef s32x4 i;
  typedef u32x4 u;
};
template <>
struct VecOf<8> {
  typedef f32x8 f;
  typedef s32x8 i;
  typedef u32x8 u;
};
template <>
struct VecOf<16> {
  typedef f32x16 f;
  typedef s32x16 i;
  typedef u32x16 u;
};

template <class V>
constexpr int lanes = static_cast<int>(sizeof(V) / 4);  // for vectors of 32-bit lanes
template <class V>
using int_of = typename VecOf<lanes<V>>::i;  // comparison results and bit patterns: 0 or -1 per lane
template <class V>
using uint_of = typename VecOf<lanes<V>>::u;
template <class V>
using float_of = typename VecOf<lanes<V>>::f;

using f32 = VecOf<kW>::f;
using s32 = VecOf<kW>::i;
using u32 = VecOf<kW>::u;

// ---- memory.  No alignment needed.
template <class V>
DK_INL V load(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}
template <class V>
DK_INL void store(void* p, V v) {
  __builtin_memcpy(p, &v, sizeof(V));
}
template <class V, class T>
DK_INL V splat(T x) {
  return V{} + x;
}
template <>
DK_INL f32x4 splat<f32x4, float>(float x) {
  return f32x4{x, x, x, x};
}
template <>
DK_INL f32x8 splat<f32x8, float>(float x) {
  return f32x8{x, x, x, x, x, x, x, x};
}
template <>
DK_INL f32x16 splat<f32x16, float>(float x) {
  return f32x16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
// Reinterpret the bits.
template <class To, class V>
DK_INL To bits(V v) {
  static_assert(sizeof(To) == sizeof(V));
  To r;
  __builtin_memcpy(&r, &v, sizeof r);
  return r;
}
template <class V>
DK_INL int_of<V> iota() {
  int_of<V> v;
  for (int i = 0; i < lanes<V>; ++i) v[i] = i;
  return v;
}
// Mask of the first n lanes.
template <class V>
DK_INL int_of<V> first(int n) {
  return iota<V>() < n;
}

// Halves.
DK_INL f32x4 low(f32x8 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3); }
DK_INL f32x4 high(f32x8 v) { return __builtin_shufflevector(v, v, 4, 5, 6, 7); }
DK_INL f32x8 low(f32x16 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
DK_INL f32x8 high(f32x16 v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }

template <class V>
using elem_of = __typeof__(V{}[0] + 0);

// The first n lanes (0 <= n <= lanes) from memory, zero in the others; memory behind them is not touched.
template <class V>
DK_INL V load_n(const void* p, int n) {
  V v = {};
#if defined(__AVX512F__) && !defined(DK_SIMD_SCALAR)
  if constexpr (sizeof(V) == 64) return bits<V>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
#endif
#if defined(__AVX2__) && !defined(DK_SIMD_SCALAR)
  if constexpr (sizeof(V) == 32)
    return bits<V>(_mm256_maskload_ps(static_cast<const float*>(p), bits<__m256i>(first<V>(n))));
#endif
  if constexpr (sizeof(V) == 16) {
    const char* q = static_cast<const char*>(p);
    uint32_t t[4] = {0, 0, 0, 0};
    if (n & 4) return load<V>(p);
    if (n & 2) __builtin_memcpy(t, q, 8);
    if (n & 1) __builtin_memcpy(t + (n & 2), q + (n & 2) * 4, 4);
    return load<V>(t);
  }
  __builtin_memcpy(&v, p, static_cast<size_t>(n) * 4);
  return v;
}
// Writes the first n lanes only.
template <class V>
DK_INL void store_n(void* p, V v, int n) {
#if defined(__AVX512F__) && !defined(DK_SIMD_SCALAR)
  if constexpr (sizeof(V) == 64) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), bits<__m512>(v));
    return;
  }
#endif
  if constexpr (sizeof(V) == 32) {  // in pieces: AMD's masked stores take 40 operations
    f32x8 w = bits<f32x8>(v);
    float* q = static_cast<float*>(p);
    f32x4 part = low(w);
    if (n & 8) return store(p, v);
    if (n & 4) {
      store(q, part);
      q += 4;
      part = high(w);
    }
    return store_n(q, part, n & 3);
  }
  if constexpr (sizeof(V) == 16) {
    char* q = static_cast<char*>(p);
    if (n & 4) return store(p, v);
    uint32_t t[4];
    store(t, v);
    if (n & 2) __builtin_memcpy(q, t, 8);
    if (n & 1) __builtin_memcpy(q + (n & 2) * 4, t + (n & 2), 4);
    return;
  }
  __builtin_memcpy(p, &v, static_cast<size_t>(n) * 4);
}

// ---- arithmetic the operators lack.  Generic forms first; the ISA's own forms are plain overloads, which win.
// a * b + c, fused where kFused.
template <class V>
DK_INL V fma(V a, V b, V c) {
  return a * b + c;
}
// mask lane ? a : b.  Masks come from comparisons.
template <class V>
DK_INL V select(int_of<V> mask, V a, V b) {
  return bits<V>((mask & bits<int_of<V>>(a)) | (~mask & bits<int_of<V>>(b)));
}
// a < b ? a : b, so b when either is NaN: vmax(zero, x) keeps a NaN in x, vmax(x, zero) does not.
template <class V>
DK_INL V vmin(V a, V b) {
  return select<V>(a < b, a, b);
}
template <class V>
DK_INL V vmax(V a, V b) {
  return select<V>(a > b, a, b);
}
template <class V>
DK_INL V vabs(V a) {
  return bits<V>(bits<int_of<V>>(a) & 0x7fffffff);
}
template <class V>
DK_INL V copysign(V magnitude, V sign) {
  return bits<V>((bits<int_of<V>>(magnitude) & 0x7fffffff) | (bits<int_of<V>>(sign) & INT32_MIN));
}
template <class V>
DK_INL V vsqrt(V a) {
  for (int i = 0; i < lanes<V>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
// To integer by truncation; out-of-range lanes and NaN give an unspecified number.
template <class V>
DK_INL int_of<V> to_s32(V a) {
  return __builtin_convertvector(a, int_of<V>);
}
template <class V>
DK_INL float_of<V> to_f32(V a) {
  return __builtin_convertvector(a, float_of<V>);
}
// To nearest, ties to even.
template <class V>
DK_INL V vround(V a) {
  const V big = splat<V>(8388608.0f);  // 2^23: adding it pushes the fraction out, under round-to-nearest
  V r = (vabs(a) + big) - big;
  return select<V>(vabs(a) < big, copysign(r, a), a);
}
template <class V>
DK_INL V vfloor(V a) {
  V r = vround(a);
  return copysign(r - select<V>(r > a, splat<V>(1.0f), V{}), a);
}
template <class V>
DK_INL V vceil(V a) {
  V r = vround(a);
  return copysign(r + select<V>(r < a, splat<V>(1.0f), V{}), a);
}
template <class V>
DK_INL V vtrunc(V a) {
  return copysign(vfloor(vabs(a)), a);
}
// Reductions, always as the same tree: halves added until one is left.
DK_INL float sum(f32x4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
DK_INL float hmax(f32x4 v) {
  float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
  return a > b ? a : b;
}
DK_INL float hmin(f32x4 v) {
  float a = v[0] < v[2] ? v[0] : v[2], b = v[1] < v[3] ? v[1] : v[3];
  return a < b ? a : b;
}

#if defined(DK_SIMD_SCALAR)
#elif defined(__SSE4_1__)
#define DK_VEC_X86(V, M, P)                                                       \
  DK_INL V vmin(V a, V b) { return bits<V>(P##_min_ps(bits<M>(a), bits<M>(b))); } \
  DK_INL V vmax(V a, V b) { return bits<V>(P##_max_ps(bits<M>(a), bits<M>(b))); } \
  DK_INL V vsqrt(V a) { return bits<V>(P##_sqrt_ps(bits<M>(a))); }
#define DK_VEC_X86_ROUND(V, M, P)                                                                                   \
  DK_INL V vround(V a) { return bits<V>(P##_round_ps(bits<M>(a), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); } \
  DK_INL V vfloor(V a) { return bits<V>(P##_floor_ps(bits<M>(a))); }                                                \
  DK_INL V vceil(V a) { return bits<V>(P##_ceil_ps(bits<M>(a))); }                                                  \
  DK_INL V vtrunc(V a) { return bits<V>(P##_round_ps(bits<M>(a), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)); }
DK_VEC_X86(f32x4, __m128, _mm)
DK_VEC_X86_ROUND(f32x4, __m128, _mm)
DK_INL f32x4 select(s32x4 m, f32x4 a, f32x4 b) {
  return bits<f32x4>(_mm_blendv_ps(bits<__m128>(b), bits<__m128>(a), bits<__m128>(m)));
}
#if defined(__FMA__)
DK_INL f32x4 fma(f32x4 a, f32x4 b, f32x4 c) {
  return bits<f32x4>(_mm_fmadd_ps(bits<__m128>(a), bits<__m128>(b), bits<__m128>(c)));
}
#endif
#if defined(__AVX2__)
DK_VEC_X86(f32x8, __m256, _mm256)
DK_VEC_X86_ROUND(f32x8, __m256, _mm256)
DK_INL f32x8 select(s32x8 m, f32x8 a, f32x8 b) {
  return bits<f32x8>(_mm256_blendv_ps(bits<__m256>(b), bits<__m256>(a), bits<__m256>(m)));
}
DK_INL f32x8 fma(f32x8 a, f32x8 b, f32x8 c) {
  return bits<f32x8>(_mm256_fmadd_ps(bits<__m256>(a), bits<__m256>(b), bits<__m256>(c)));
}
#endif
#if defined(__AVX512F__)
// The maskz forms with a full mask: g++ 12 warns about the header's undefined operand in the plain ones.
DK_INL f32x16 vmin(f32x16 a, f32x16 b) {
  return bits<f32x16>(_mm512_maskz_min_ps(0xffff, bits<__m512>(a), bits<__m512>(b)));
}
DK_INL f32x16 vmax(f32x16 a, f32x16 b) {
  return bits<f32x16>(_mm512_maskz_max_ps(0xffff, bits<__m512>(a), bits<__m512>(b)));
}
DK_INL f32x16 vsqrt(f32x16 a) { return bits<f32x16>(_mm512_maskz_sqrt_ps(0xffff, bits<__m512>(a))); }
DK_INL f32x16 vround(f32x16 a) { return bits<f32x16>(_mm512_maskz_roundscale_ps(0xffff, bits<__m512>(a), 0x08)); }
DK_INL f32x16 vfloor(f32x16 a) { return bits<f32x16>(_mm512_maskz_roundscale_ps(0xffff, bits<__m512>(a), 0x09)); }
DK_INL f32x16 vceil(f32x16 a) { return bits<f32x16>(_mm512_maskz_roundscale_ps(0xffff, bits<__m512>(a), 0x0a)); }
DK_INL f32x16 vtrunc(f32x16 a) { return bits<f32x16>(_mm512_maskz_roundscale_ps(0xffff, bits<__m512>(a), 0x0b)); }
DK_INL f32x16 select(s32x16 m, f32x16 a, f32x16 b) {
  return bits<f32x16>(_mm512_mask_blend_ps(_mm512_movepi32_mask(bits<__m512i>(m)), bits<__m512>(b), bits<__m512>(a)));
}
DK_INL f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return bits<f32x16>(_mm512_fmadd_ps(bits<__m512>(a), bits<__m512>(b), bits<__m512>(c)));
}
#endif
#undef DK_VEC_X86
#undef DK_VEC_X86_ROUND
#elif defined(__ARM_NEON)
// min and max stay compare-and-select: vminq_f32 treats NaN and -0 differently from x86.
DK_INL f32x4 fma(f32x4 a, f32x4 b, f32x4 c) {
  return bits<f32x4>(vfmaq_f32(bits<float32x4_t>(c), bits<float32x4_t>(a), bits<float32x4_t>(b)));
}
DK_INL f32x4 vsqrt(f32x4 a) { return bits<f32x4>(vsqrtq_f32(bits<float32x4_t>(a))); }
DK_INL f32x4 vround(f32x4 a) { return bits<f32x4>(vrndnq_f32(bits<float32x4_t>(a))); }
DK_INL f32x4 vfloor(f32x4 a) { return bits<f32x4>(vrndmq_f32(bits<float32x4_t>(a))); }
DK_INL f32x4 vceil(f32x4 a) { return bits<f32x4>(vrndpq_f32(bits<float32x4_t>(a))); }
DK_INL f32x4 vtrunc(f32x4 a) { return bits<f32x4>(vrndq_f32(bits<float32x4_t>(a))); }
#elif defined(__wasm_simd128__)
#if defined(__wasm_relaxed_simd__)
DK_INL f32x4 fma(f32x4 a, f32x4 b, f32x4 c) {
  return bits<f32x4>(wasm_f32x4_relaxed_madd(bits<v128_t>(a), bits<v128_t>(b), bits<v128_t>(c)));
}
#endif
// pmin(a, b) is b < a ? b : a
DK_INL f32x4 vmin(f32x4 a, f32x4 b) { return bits<f32x4>(wasm_f32x4_pmin(bits<v128_t>(b), bits<v128_t>(a))); }
DK_INL f32x4 vmax(f32x4 a, f32x4 b) { return bits<f32x4>(wasm_f32x4_pmax(bits<v128_t>(b), bits<v128_t>(a))); }
DK_INL f32x4 vsqrt(f32x4 a) { return bits<f32x4>(wasm_f32x4_sqrt(bits<v128_t>(a))); }
DK_INL f32x4 vround(f32x4 a) { return bits<f32x4>(wasm_f32x4_nearest(bits<v128_t>(a))); }
DK_INL f32x4 vfloor(f32x4 a) { return bits<f32x4>(wasm_f32x4_floor(bits<v128_t>(a))); }
DK_INL f32x4 vceil(f32x4 a) { return bits<f32x4>(wasm_f32x4_ceil(bits<v128_t>(a))); }
DK_INL f32x4 vtrunc(f32x4 a) { return bits<f32x4>(wasm_f32x4_trunc(bits<v128_t>(a))); }
#endif

DK_INL float sum(f32x8 v) { return sum(low(v) + high(v)); }
DK_INL float sum(f32x16 v) { return sum(low(v) + high(v)); }
DK_INL float hmax(f32x8 v) { return hmax(vmax(low(v), high(v))); }
DK_INL float hmin(f32x8 v) { return hmin(vmin(low(v), high(v))); }
DK_INL float hmax(f32x16 v) { return hmax(vmax(low(v), high(v))); }
DK_INL float hmin(f32x16 v) { return hmin(vmin(low(v), high(v))); }

}  // namespace
}  // namespace dk::simd
