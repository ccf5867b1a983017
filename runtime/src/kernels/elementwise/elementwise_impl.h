// The source of all elementwise_<isa>.cc; see elementwise.h for the contract.
#include "base/convert.h"
#include "kernels/elementwise/elementwise.h"
#include "simd/bytes.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

// vsin and vcos end at 8192: lanes beyond are left to the C library.
__attribute__((noinline)) f32 far_trig(f32 x, f32 y, bool cosine) {
  for (int i = 0; i < kW; ++i)
    if (__builtin_fabsf(x[i]) > 8192.0f) y[i] = cosine ? __builtin_cosf(x[i]) : __builtin_sinf(x[i]);
  return y;
}
DK_INL f32 trig(f32 x, f32 y, bool cosine) { return hmax(vabs(x)) > 8192.0f ? far_trig(x, y, cosine) : y; }

// ---- unary: a functor per op with up to three splatted arguments
struct Args {
  f32 a, b, c;
  DK_INL explicit Args(const float* p) : a(splat<f32>(p[0])), b(splat<f32>(p[1])), c(splat<f32>(p[2])) {}
};

DK_INL f32 zero() { return f32{}; }
DK_INL f32 one() { return splat<f32>(1.0f); }

#define DK_FUNCTOR(name, expression)                          \
  struct name##_fn : Args {                                   \
    DK_INL explicit name##_fn(const float* p) : Args(p) {}    \
    DK_INL f32 operator()(f32 x) const { return expression; } \
  };
DK_FUNCTOR(abs, vabs(x))
DK_FUNCTOR(neg, -x)
DK_FUNCTOR(sign, select<f32>(x > 0.0f, one(), select<f32>(x < 0.0f, -one(), x)))
DK_FUNCTOR(floor, vfloor(x))
DK_FUNCTOR(ceil, vceil(x))
DK_FUNCTOR(round, vround(x))
DK_FUNCTOR(trunc, vtrunc(x))
DK_FUNCTOR(sqrt, vsqrt(x))
DK_FUNCTOR(rsqrt, one() / vsqrt(x))
DK_FUNCTOR(reciprocal, one() / x)
DK_FUNCTOR(square, x* x)
DK_FUNCTOR(exp, vexp(x))
DK_FUNCTOR(expm1, vexpm1(x))
DK_FUNCTOR(log, vlog(x))
DK_FUNCTOR(log1p, vlog1p(x))
DK_FUNCTOR(tanh, vtanh(x))
DK_FUNCTOR(erf, verf(x))
DK_FUNCTOR(relu, vrelu(x))
DK_FUNCTOR(relu6, vclip(x, zero(), splat<f32>(6.0f)))
DK_FUNCTOR(clip, vclip(x, a, b))
DK_FUNCTOR(leaky_relu, vleaky_relu(x, a))
DK_FUNCTOR(elu, velu(x, a))
DK_FUNCTOR(selu, b* velu(x, a))
DK_FUNCTOR(sigmoid, vsigmoid(x))
DK_FUNCTOR(hard_sigmoid, vhard_sigmoid(x, a, b))
DK_FUNCTOR(hard_swish, vhard_swish(x))
DK_FUNCTOR(silu, x* vsigmoid(a* x))
DK_FUNCTOR(gelu, vgelu(x))
DK_FUNCTOR(gelu_tanh, vgelu_tanh(x))
DK_FUNCTOR(softplus, vsoftplus(x))
DK_FUNCTOR(softsign, x / (1.0f + vabs(x)))
DK_FUNCTOR(mish, vmish(x))
DK_FUNCTOR(sin, trig(x, vsin(x), false))
DK_FUNCTOR(cos, trig(x, vcos(x), true))
DK_FUNCTOR(thresholded_relu, select<f32>(x > a, x, zero()))
DK_FUNCTOR(shrink, select<f32>(x < -a, x + b, select<f32>(x > a, x - b, zero())))
DK_FUNCTOR(celu, vmax(zero(), x) + vmin(zero(), a* vexpm1(vmin(zero(), x) / a)))
#undef DK_FUNCTOR

template <class Fn>
void unary(const void* px, void* py, int64_t n, const void* args) {
  const float* x = static_cast<const float*>(px);
  float* y = static_cast<float*>(py);
  const Fn fn(static_cast<const float*>(args));
  for (int64_t i = 0; i < n; i += kW) {  // one copy of the (long) body for whole and partial vectors
    const bool whole = n - i >= kW;
    const int m = whole ? kW : static_cast<int>(n - i);
    f32 v = fn(whole ? load<f32>(x + i) : load_n<f32>(x + i, m));
    if (whole)
      store(y + i, v);
    else
      store_n(y + i, v, m);
  }
}

// ---- binary
#define DK_FUNCTOR(name, expression)                             \
  struct name##_fn2 {                                            \
    static DK_INL f32 apply(f32 x, f32 y) { return expression; } \
  };
DK_FUNCTOR(add, x + y)
DK_FUNCTOR(sub, x - y)
DK_FUNCTOR(mul, x* y)
DK_FUNCTOR(div, x / y)
// vmin and vmax give the second operand when either is NaN
DK_FUNCTOR(minimum, select<f32>(x != x, x, vmin(x, y)))
DK_FUNCTOR(maximum, select<f32>(x != x, x, vmax(x, y)))
DK_FUNCTOR(squared_difference, (x - y) * (x - y))
DK_FUNCTOR(prelu, select<f32>(x < 0.0f, x* y, x))
#undef DK_FUNCTOR

template <class Fn, bool kVecX, bool kVecY>
DK_INL void binary_loop(const float* x, const float* y, float* z, int64_t n) {
  f32 a = splat<f32>(*x), b = splat<f32>(*y);
  int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    if constexpr (kVecX) a = load<f32>(x + i);
    if constexpr (kVecY) b = load<f32>(y + i);
    store(z + i, Fn::apply(a, b));
  }
  if (i < n) {
    const int m = static_cast<int>(n - i);
    if constexpr (kVecX) a = load_n<f32>(x + i, m);
    if constexpr (kVecY) b = load_n<f32>(y + i, m);
    store_n(z + i, Fn::apply(a, b), m);
  }
}

template <class Fn>
void binary(const void* px, const void* py, void* pz, int64_t n, int step_x, int step_y) {
  const float* x = static_cast<const float*>(px);
  const float* y = static_cast<const float*>(py);
  float* z = static_cast<float*>(pz);
  if (step_x && step_y) return binary_loop<Fn, true, true>(x, y, z, n);
  if (step_x) return binary_loop<Fn, true, false>(x, y, z, n);
  return binary_loop<Fn, false, true>(x, y, z, n);  // both 0 with n = 1 is covered by the tail
}

// ---- comparison.  One value for all is spread over a block first, and > is < with the sides exchanged, which keeps
// this at four loops per ISA.
enum Relation { kEqual, kNotEqual, kLess, kLessEqual };

template <Relation kRelation>
__attribute__((noinline)) void compare_loop(const float* DK_RESTRICT x, const float* DK_RESTRICT y,
                                            uint8_t* DK_RESTRICT z, int n) {
  int i = 0;
#if !defined(__wasm__)  // there the plain loop is smaller
  for (; i + kW <= n; i += kW) {
    const f32 a = load<f32>(x + i), b = load<f32>(y + i);
    const s32 holds = kRelation == kEqual      ? a == b
                      : kRelation == kNotEqual ? a != b
                      : kRelation == kLess     ? a < b
                                               : a <= b;
    narrow(z + i, -holds);
  }
#endif
  for (; i < n; ++i)
    z[i] = kRelation == kEqual      ? x[i] == y[i]
           : kRelation == kNotEqual ? x[i] != y[i]
           : kRelation == kLess     ? x[i] < y[i]
                                    : x[i] <= y[i];
}

template <Relation kRelation, bool kSwap>
void compare(const void* px, const void* py, void* pz, int64_t n, int step_x, int step_y) {
  const float* x = static_cast<const float*>(px);
  const float* y = static_cast<const float*>(py);
  uint8_t* z = static_cast<uint8_t*>(pz);
  constexpr int kBlock = 128;
  float spread[2][kBlock];
  const int m0 = n < kBlock ? static_cast<int>(n) : kBlock;
  for (int i = 0; !step_x && i < m0; ++i) spread[0][i] = *x;
  for (int i = 0; !step_y && i < m0; ++i) spread[1][i] = *y;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int m = n - i < kBlock ? static_cast<int>(n - i) : kBlock;
    const float* a = step_x ? x + i : spread[0];
    const float* b = step_y ? y + i : spread[1];
    compare_loop<kRelation>(kSwap ? b : a, kSwap ? a : b, z + i, m);
  }
}

// ---- selection
template <bool kVecX, bool kVecY>
DK_INL void where_loop(const uint8_t* condition, const int32_t* x, const int32_t* y, int32_t* z, int64_t n) {
  s32 a = splat<s32>(*x), b = splat<s32>(*y);
  int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    const s32 mask = widen(condition + i) != 0;
    if constexpr (kVecX) a = load<s32>(x + i);
    if constexpr (kVecY) b = load<s32>(y + i);
    store(z + i, bits<s32>(select<f32>(mask, bits<f32>(a), bits<f32>(b))));
  }
  for (; i < n; ++i) z[i] = condition[i] ? x[kVecX ? i : 0] : y[kVecY ? i : 0];
}

void where32(const uint8_t* condition, const void* x, const void* y, void* z, int64_t n, int step_x, int step_y) {
  const int32_t* a = static_cast<const int32_t*>(x);
  const int32_t* b = static_cast<const int32_t*>(y);
  int32_t* to = static_cast<int32_t*>(z);
  if (step_x && step_y) return where_loop<true, true>(condition, a, b, to, n);
  if (step_x) return where_loop<true, false>(condition, a, b, to, n);
  if (step_y) return where_loop<false, true>(condition, a, b, to, n);
  return where_loop<false, false>(condition, a, b, to, n);
}

// ---- conversions
template <class T>
void from_int(const T* DK_RESTRICT x, float* DK_RESTRICT y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]);
}

#if defined(__F16C__) && !defined(DK_SIMD_SCALAR)
void from_f16(const uint16_t* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  for (; i < n; ++i) y[i] = f32_from_f16(x[i]);
}
void to_f16(const float* x, uint16_t* y, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) y[i] = f16_from_f32(x[i]);
}
#else
void from_f16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = f32_from_f16(x[i]);
}
void to_f16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = f16_from_f32(x[i]);
}
#endif
void from_bf16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = f32_from_bf16(x[i]);
}
void to_bf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = bf16_from_f32(x[i]);
}

const ElementwiseKernels kTable = {
    {
#define X(name) unary<name##_fn>,
        DK_UNARY_F32(X)
#undef X
    },
    {
#define X(name) binary<name##_fn2>,
        DK_BINARY_F32(X)
#undef X
    },
    {
        compare<kEqual, false>,
        compare<kNotEqual, false>,
        compare<kLess, false>,
        compare<kLessEqual, false>,
        compare<kLess, true>,
        compare<kLessEqual, true>,
    },
    where32,
    from_f16,
    to_f16,
    from_bf16,
    to_bf16,
    from_int<uint8_t>,
    from_int<int8_t>,
    from_int<int32_t>,
};
}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const ElementwiseKernels* DK_CAT(elementwise_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
