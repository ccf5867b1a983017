// Error of the vector functions in ulp, over every stride-th float, against the C library's double precision.
//   g++ -O2 -std=gnu++20 -mavx2 -mfma -ffp-contract=off -Iruntime/src runtime/bench/vmath_error.cc -o vmath_error &&
//   ./vmath_error [stride]
// Compile with -msse4.2 or -DDK_SIMD_SCALAR for the sets without fused multiply-add.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "simd/vmath.h"
using namespace dk::simd;

static double ulp_of(double y) {
  if (y == 0 || std::isinf(y)) return 1.401298464324817e-45;
  int e = std::ilogb(y);
  return std::ldexp(1.0, (e < -126 ? -126 : e) - 23);
}

template <class F, class R>
static void check(const char* name, F f, R ref, uint32_t stride) {
  double worst = 0, worst_normal = 0;
  float at = 0;
  long bad = 0;
  for (uint64_t b = 0; b < (1ull << 32); b += static_cast<uint64_t>(stride) * kW) {
    u32 v;
    for (int i = 0; i < kW; ++i) v[i] = static_cast<uint32_t>(b + static_cast<uint64_t>(i) * stride);
    f32 x = bits<f32>(v), y = f(x);
    for (int i = 0; i < kW; ++i) {
      double want = ref(static_cast<double>(x[i]));
      float got = y[i], rounded = static_cast<float>(want);
      if (std::isnan(want)) {
        bad += !std::isnan(got);
        continue;
      }
      if (std::isinf(rounded) || std::isinf(got)) {
        if (got != rounded) {
          if (bad < 3) std::printf("  %s(%a) = %a, want %a\n", name, x[i], got, rounded);
          ++bad;
        }
        continue;
      }
      double err = std::fabs(got - want) / ulp_of(want);
      if (std::isnan(got)) {
        if (bad < 3) std::printf("  %s(%a) is NaN\n", name, x[i]);
        ++bad;
        continue;
      }
      if (err > worst) {
        worst = err;
        at = x[i];
      }
      if (std::fabs(want) >= 1.18e-38 && err > worst_normal) worst_normal = err;
    }
  }
  std::printf("%-12s max %.3g ulp at %g (%a), %.3g where the result is normal, %ld wrong specials\n", name, worst, at,
              at, worst_normal, bad);
}

int main(int argc, char** argv) {
  uint32_t stride = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 1009;
  check("exp", [](f32 x) { return vexp(x); }, [](double x) { return std::exp(x); }, stride);
  check("expm1", [](f32 x) { return vexpm1(x); }, [](double x) { return std::expm1(x); }, stride);
  check(
      "log", [](f32 x) { return vlog(x); },
      [](double x) { return std::log(std::fabs(x) < 1.17549435e-38 && x != 0 ? std::copysign(1.17549435e-38, x) : x); },
      stride);
  check("log1p", [](f32 x) { return vlog1p(x); }, [](double x) { return std::log1p(x); }, stride);
  check("tanh", [](f32 x) { return vtanh(x); }, [](double x) { return std::tanh(x); }, stride);
  check("erf", [](f32 x) { return verf(x); }, [](double x) { return std::erf(x); }, stride);
  check("sigmoid", [](f32 x) { return vsigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, stride);
  check(
      "softplus", [](f32 x) { return vsoftplus(x); },
      [](double x) { return x > 30 ? x + std::exp(-x) : std::log1p(std::exp(x)); }, stride);
  // a quarter of the floats lie beyond 8192: not computed by these
  const auto in_range = [](f32 x) { return select<f32>(vabs(x) <= 8192.0f, x, f32{}); };
  const auto one = [](double x) { return std::fabs(x) <= 8192 || std::isnan(x) ? x : 0; };
  check(
      "sin", [&](f32 x) { return vsin(select<f32>(x != x, x, in_range(x))); },
      [&](double x) { return std::sin(one(x)); }, stride);
  check(
      "cos", [&](f32 x) { return vcos(select<f32>(x != x, x, in_range(x))); },
      [&](double x) { return std::cos(one(x)); }, stride);
  check(
      "silu", [](f32 x) { return vsilu(x); }, [](double x) { return x == -INFINITY ? NAN : x / (1 + std::exp(-x)); },
      stride);
  check(
      "elu", [](f32 x) { return velu(x, splat<f32>(1.0f)); }, [](double x) { return x > 0 ? x : std::expm1(x); },
      stride);
  check(
      "mish", [](f32 x) { return vmish(x); },
      [](double x) { return x * std::tanh(x > 30 ? x : std::log1p(std::exp(x))); }, stride);
  return 0;
}
