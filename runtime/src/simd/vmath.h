// Elementary functions on vectors.  Polynomials are minimax fits made for this file (weighted least squares, iterated
// after Lawson); range reductions are the textbook ones (Cody and Waite 1980).  Errors in ulp of the correctly rounded
// result, measured over all floats (runtime/bench/vmath_error.cc), with and without fused multiply-add:
//
//   vexp 1  vexpm1 2  vlog 1  vlog1p 2  vtanh 3  verf 2  vsigmoid 3  vsoftplus 2  vsin 2  vcos 3 (to |x| = 8192)
//
// vsigmoid, vsoftplus and what is built on them are 0 where e^x is subnormal (below -87.3).  NaN gives NaN, infinities
// and zeros give the limits, signed zeros are kept; subnormal results are right unless the caller runs with
// flush-to-zero, subnormal arguments of vlog count as the smallest normal number.
#pragma once
#include "simd/vec.h"

namespace dk::simd {
namespace {

// c[0] + c[1] x + ... by Horner's rule.
template <class V>
DK_INL V poly(V, float c0) {
  return splat<V>(c0);
}
template <class V, class... C>
DK_INL V poly(V x, float c0, C... rest) {
  return fma(x, poly(x, rest...), splat<V>(c0));
}

constexpr float kLog2e = 1.44269502f;
constexpr float kLn2Hi = 0.693359375f;  // 10 bits: n * kLn2Hi is exact for |n| < 2^14
constexpr float kLn2Lo = -2.12194440e-4f;

// x * 2^n for -252 <= n <= 254, rounding once (subnormal results included).
template <class V>
DK_INL V scale2(V x, int_of<V> n) {
  int_of<V> half = n >> 1;
  return x * bits<V>((half + 127) << 23) * bits<V>((n - half + 127) << 23);
}

// e^x
template <class V>
DK_INL V vexp(V x) {
  // Beyond these bounds the result is 0 or inf; vmin's order keeps NaN.
  x = vmin(splat<V>(89.0f), vmax(splat<V>(-104.0f), x));
  V n = vround(x * splat<V>(kLog2e));
  V r = fma(n, splat<V>(-kLn2Hi), x);
  r = fma(n, splat<V>(-kLn2Lo), r);
  V p = poly(r, 0.5f, 0.166665122f, 0.0416661873f, 0.00836959854f, 0.00139517197f);
  p = fma(r * r, p, r) + 1.0f;
  return scale2(p, to_s32(n));
}

// e^x for x <= 0 at two thirds of the cost of vexp; results below the smallest normal number are 0.
template <class V>
DK_INL V vexp_low(V x) {
  const V low = splat<V>(-87.336544f);
  const V xc = vmax(low, x);  // keeps NaN
  const V n = vround(xc * splat<V>(kLog2e));
  V r = fma(n, splat<V>(-kLn2Hi), xc);
  r = fma(n, splat<V>(-kLn2Lo), r);
  V p = poly(r, 0.5f, 0.166665122f, 0.0416661873f, 0.00836959854f, 0.00139517197f);
  p = fma(r * r, p, r) + 1.0f;
  // unsigned: for x > 0, which has no meaning here, the sum may leave the signed range
  return bits<V>(bits<int_of<V>>(bits<uint_of<V>>(p) + (bits<uint_of<V>>(to_s32(n)) << 23)) & ~(x < low));
}

// e^x - 1, accurate near 0: with x = n ln2 + r, it is 2^n (e^r - 1) + (2^n - 1).
template <class V>
DK_INL V vexpm1(V x) {
  V xc = vmin(splat<V>(89.0f), vmax(splat<V>(-18.0f), x));
  V n = vround(xc * splat<V>(kLog2e));
  V r = fma(n, splat<V>(-kLn2Hi), xc);
  r = fma(n, splat<V>(-kLn2Lo), r);
  V p = poly(r, 0.5f, 0.166666672f, 0.0416663438f, 0.00833327044f, 0.00139420456f, 0.000199156231f);
  p = fma(r * r, p, r);
  int_of<V> i = to_s32(n);
  // 2^n as a product of two floats, since n may be 128
  V s = bits<V>(((i >> 1) + 127) << 23), t = bits<V>((i - (i >> 1) + 127) << 23);
  V y = p * s * t + (s * t - 1.0f);
  y = select<V>(i == 128, (p + 1.0f) * s * t, y);
  return select<V>(i == 0, select<V>(x == 0.0f, x, p), y);
}

// ln x for x >= 0; NaN below.
template <class V>
DK_INL V vlog(V x) {
  using I = int_of<V>;
  V tiny = splat<V>(1.17549435e-38f);
  I b = bits<I>(vmax(tiny, x));
  // x = 2^e m with m in [sqrt(1/2), sqrt(2))
  I k = b - 0x3f3504f3;
  V e = to_f32(k >> 23);
  V f = bits<V>((k & 0x007fffff) + 0x3f3504f3) - 1.0f;
  V z = f * f;
  V p = poly(f, 0.333333105f, -0.249999851f, 0.200022712f, -0.166693598f, 0.142177522f, -0.123817645f, 0.118776388f,
             -0.118079931f, 0.069265902f);
  V y = fma(e, splat<V>(kLn2Lo), f * z * p);
  y = fma(z, splat<V>(-0.5f), y);
  y = fma(e, splat<V>(kLn2Hi), f + y);
  const V inf = splat<V>(__builtin_inff());
  y = select<V>(x == inf, inf, y);
  y = select<V>(x == 0.0f, -inf, y);
  return select<V>((x < 0.0f) | (x != x), splat<V>(__builtin_nanf("")), y);
}

// ln(1 + x) for x >= -1: log of the rounded sum, corrected by what the rounding lost (Goldberg 1991, theorem 4).
template <class V>
DK_INL V vlog1p(V x) {
  V u = x + 1.0f;
  V lost = select<V>(vabs(x) < 1.0f, x - (u - 1.0f), 1.0f - (u - x));
  V y = vlog(u) + select<V>((u == splat<V>(__builtin_inff())) | (u == 0.0f), V{}, lost / u);  // -inf at -1
  return select<V>(u == 1.0f, x, y);
}

// tanh x = -t / (t + 2) with t = e^(-2|x|) - 1, taken as in vexpm1: accurate from zero to one in a single path.
template <class V>
DK_INL V vtanh(V x) {
  const V z = vmin(splat<V>(9.1f), vabs(x)) * -2.0f;  // beyond 9.1 the result is 1; keeps NaN
  const V n = vround(z * splat<V>(kLog2e));
  V r = fma(n, splat<V>(-kLn2Hi), z);
  r = fma(n, splat<V>(-kLn2Lo), r);
  V p = poly(r, 0.5f, 0.166666672f, 0.0416663438f, 0.00833327044f, 0.00139420456f, 0.000199156231f);
  p = fma(r * r, p, r);
  const V s = bits<V>((to_s32(n) + 127) << 23);
  const V t = fma(p, s, s - 1.0f);
  return copysign(t / (t + 2.0f), x);
}

// The error function: x (1 + q(x^2)) up to 1, 1 - exp(p(|x|)) above, where p fits ln erfc.
template <class V>
DK_INL V verf(V x) {
  V a = vmin(splat<V>(4.0f), vabs(x)), z = a * a;
  V small = fma(x,
                poly(z, 0.128379166f, -0.37612626f, 0.112836003f, -0.0268544443f, 0.00518953567f, -0.000802084222f,
                     7.88912294e-05f),
                x);
  V p = poly(a, -0.000312469259f, -1.12720227f, -0.637965024f, -0.103256203f, 0.0219064765f, -0.00296400627f,
             0.000187971702f);
  V large = copysign(1.0f - vexp_low(p), x);
  V y = select<V>(a < 1.0f, small, large);
  return select<V>(x != x, x, y);
}

// 1 / (1 + e^-x), without overflow and accurate in both tails.
template <class V>
DK_INL V vsigmoid(V x) {
  V e = vexp_low(-vabs(x));
  V one = splat<V>(1.0f);
  return select<V>(x < 0.0f, e, one) / (one + e);
}

// ln(1 + e^x).  Not -vabs(x): it would turn a NaN's sign, and of a sum of two NaNs compilers choose the sign.
template <class V>
DK_INL V vsoftplus(V x) {
  return vmax(V{}, x) + vlog1p(vexp_low(select<V>(x > 0.0f, -x, x)));
}

// sin(x + quarters * pi/2) for |x| <= 8192 (NaN for NaN, anything beyond): x = q pi/2 + r with |r| <= pi/4.  pi/2 in
// four parts: products of the first three, of 11 bits each, with q are exact.
template <class V>
DK_INL V vsin_quarters(V x, int quarters) {
  const V q = vround(x * splat<V>(0.636619747f));
  V r = fma(q, splat<V>(-1.5703125f), x);
  r = fma(q, splat<V>(-4.837512969970703e-4f), r);
  r = fma(q, splat<V>(-7.549533620476723e-8f), r);
  r = fma(q, splat<V>(-2.5633440682570896e-12f), r);
  const V z = r * r;
  const V sine = fma(r * z, poly(z, -0.166666552f, 0.00833215564f, -0.00019514632f), r);
  const V cosine =
      fma(z * z, poly(z, 0.0416666456f, -0.00138873095f, 2.44324128e-05f), fma(z, splat<V>(-0.5f), splat<V>(1.0f)));
  const int_of<V> i = to_s32(q) + quarters;
  const V y = select<V>((i & 1) != 0, cosine, sine);
  return bits<V>(bits<int_of<V>>(y) ^ ((i & 2) << 30));
}
template <class V>
DK_INL V vsin(V x) {
  return select<V>(x == 0.0f, x, vsin_quarters(x, 0));
}
template <class V>
DK_INL V vcos(V x) {
  return vsin_quarters(x, 1);
}

// ---- activations, with the formulas of deploykit/ops/activation.py
template <class V>
DK_INL V vrelu(V x) {
  return vmax(V{}, x);
}  // NaN stays
template <class V>
DK_INL V vclip(V x, V low, V high) {
  return vmin(high, vmax(low, x));
}
template <class V>
DK_INL V vleaky_relu(V x, V slope) {
  return select<V>(x < 0.0f, x * slope, x);
}
template <class V>
DK_INL V vsilu(V x) {
  return x * vsigmoid(x);
}
template <class V>
DK_INL V vgelu(V x) {
  return 0.5f * x * (1.0f + verf(x * 0.707106769f));
}
template <class V>
DK_INL V vgelu_tanh(V x) {
  V inner = 0.797884583f * fma(0.044715f * x * x, x, x);
  return 0.5f * x * (1.0f + vtanh(inner));
}
template <class V>
DK_INL V vhard_sigmoid(V x, V alpha, V beta) {
  return vclip(alpha * x + beta, V{}, splat<V>(1.0f));
}
template <class V>
DK_INL V vhard_swish(V x) {
  return x * vclip(x * splat<V>(1.0f / 6.0f) + 0.5f, V{}, splat<V>(1.0f));
}
template <class V>
DK_INL V velu(V x, V alpha) {
  return select<V>(x > 0.0f, x, alpha * vexpm1(vmin(V{}, x)));
}
// x tanh(ln(1 + e^x)) = x (e^2 + 2e) / (e^2 + 2e + 2) with e = e^x; above 20 the quotient is 1.
template <class V>
DK_INL V vmish(V x) {
  V e = vexp(vmin(splat<V>(20.0f), x));
  V n = e * (e + 2.0f);
  return x * (n / (n + 2.0f));
}

}  // namespace
}  // namespace dk::simd
