// The source of all softmax_<isa>.cc.  Three passes over a row that stays in cache: the largest, the sum of exp(x -
// max) (with the exponentials stored), the scaling.  NaN anywhere makes the whole row NaN through the sum.
#include "kernels/softmax/softmax.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

constexpr float kLowest = -__builtin_inff();

// Loads m of kW elements, -inf in the others: their exponentials are zeros.
DK_INL f32 load_tail(const float* p, int m) {
  return select<f32>(first<f32>(m), load_n<f32>(p, m), splat<f32>(kLowest));
}

DK_INL float row_max(const float* x, int64_t n) {
  f32 a = splat<f32>(kLowest), b = a;
  int64_t i = 0;
  for (; i + 2 * kW <= n; i += 2 * kW) {
    a = vmax(a, load<f32>(x + i));
    b = vmax(b, load<f32>(x + i + kW));
  }
  for (; i + kW <= n; i += kW) a = vmax(a, load<f32>(x + i));
  if (i < n) b = vmax(b, load_tail(x + i, static_cast<int>(n - i)));
  return hmax(vmax(a, b));
}

// Sums exp(x - max); stores the exponentials if kStore.
template <bool kStore>
DK_INL float row_exp(const float* x, float* y, int64_t n, float max) {
  const f32 shift = splat<f32>(max);
  f32 total = {};
  int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    const f32 e = vexp_low(load<f32>(x + i) - shift);
    total = total + e;
    if (kStore) store(y + i, e);
  }
  if (i < n) {
    const int m = static_cast<int>(n - i);
    const f32 e = vexp_low(load_tail(x + i, m) - shift);
    total = total + e;
    if (kStore) store_n(y + i, e, m);
  }
  return sum(total);
}

// y = x - a - b, or x * a
template <bool kLogarithm>
DK_INL void finish(const float* x, float* y, int64_t n, f32 a, f32 b) {
  int64_t i = 0;
  for (; i + kW <= n; i += kW) store(y + i, kLogarithm ? load<f32>(x + i) - a - b : load<f32>(x + i) * a);
  if (i < n) {
    const int m = static_cast<int>(n - i);
    store_n(y + i, kLogarithm ? load_n<f32>(x + i, m) - a - b : load_n<f32>(x + i, m) * a, m);
  }
}

void rows(const float* x, float* y, int64_t count, int64_t n, bool logarithm) {
  for (int64_t r = 0; r < count; ++r, x += n, y += n) {
    const float max = row_max(x, n);
    const float total = logarithm ? row_exp<false>(x, y, n, max) : row_exp<true>(x, y, n, max);
    const f32 a = splat<f32>(logarithm ? max : 1.0f / total);
    const f32 b = vlog(splat<f32>(total));
    int64_t i = 0;
    for (; i + kW <= n; i += kW) store(y + i, logarithm ? load<f32>(x + i) - a - b : load<f32>(y + i) * a);
    if (i < n) {
      const int m = static_cast<int>(n - i);
      store_n(y + i, logarithm ? load_n<f32>(x + i, m) - a - b : load_n<f32>(y + i, m) * a, m);
    }
  }
}

void columns(const float* x, float* y, int64_t n, int64_t count, int64_t stride, bool logarithm) {
  for (int64_t c = 0; c < count; c += kW) {
    const int m = count - c < kW ? static_cast<int>(count - c) : kW;
    const float* from = x + c;
    float* to = y + c;
    f32 max = splat<f32>(kLowest), total = {};
    for (int64_t i = 0; i < n; ++i) max = vmax(max, load_n<f32>(from + i * stride, m));
    for (int64_t i = 0; i < n; ++i) {
      const f32 e = vexp_low(load_n<f32>(from + i * stride, m) - max);
      total = total + e;
      if (!logarithm) store_n(to + i * stride, e, m);
    }
    const f32 a = logarithm ? max : 1.0f / total;
    const f32 b = vlog(total);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = i * stride;
      store_n(to + at, logarithm ? load_n<f32>(from + at, m) - a - b : load_n<f32>(to + at, m) * a, m);
    }
  }
}

const SoftmaxKernels kTable = {rows, columns};
}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const SoftmaxKernels* DK_CAT(softmax_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
