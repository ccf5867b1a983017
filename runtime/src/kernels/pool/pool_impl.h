// The source of all pool_<isa>.cc; see pool.h for the contract.
#include "kernels/pool/pool.h"
#include "simd/vec.h"

namespace dk {
namespace {
using namespace simd;

// Several vectors of channels at a time hide the latency of the folds.
template <class Fold, int kVectors>
DK_INL void strip(const float* const* taps, int n, int64_t c, bool more, float factor, float* y) {
  f32 a[kVectors];
  DK_UNROLL
  for (int k = 0; k < kVectors; ++k) a[k] = more ? load<f32>(y + c + k * kW) : Fold::start();
  for (int t = 0; t < n; ++t) {
    const float* p = taps[t] + c;
    DK_UNROLL
    for (int k = 0; k < kVectors; ++k) a[k] = Fold::fold(a[k], load<f32>(p + k * kW));
  }
  DK_UNROLL
  for (int k = 0; k < kVectors; ++k) store(y + c + k * kW, Fold::finish(a[k], factor));
}

template <class Fold>
DK_INL void pixel(const float* const* taps, int n, int64_t channels, bool more, float factor, float* y) {
  int64_t c = 0;
  for (; c + 4 * kW <= channels; c += 4 * kW) strip<Fold, 4>(taps, n, c, more, factor, y);
  for (; c + kW <= channels; c += kW) strip<Fold, 1>(taps, n, c, more, factor, y);
  if (c < channels) {
    const int m = static_cast<int>(channels - c);
    f32 a = more ? load_n<f32>(y + c, m) : Fold::start();
    for (int t = 0; t < n; ++t) a = Fold::fold(a, load_n<f32>(taps[t] + c, m));
    store_n(y + c, Fold::finish(a, factor), m);
  }
}

struct Max {
  static DK_INL f32 start() { return splat<f32>(-__builtin_inff()); }
  static DK_INL f32 fold(f32 a, f32 x) { return select<f32>(x != x, x, vmax(x, a)); }  // NaN stays
  static DK_INL f32 finish(f32 a, float) { return a; }
};
struct Sum {
  static DK_INL f32 start() { return f32{}; }
  static DK_INL f32 fold(f32 a, f32 x) { return a + x; }
  static DK_INL f32 finish(f32 a, float factor) { return a * factor; }
};
struct SumSquare : Sum {
  static DK_INL f32 fold(f32 a, f32 x) { return fma(x, x, a); }
};

void max_f32(const float* const* taps, int n, int64_t channels, bool more, float* y) {
  pixel<Max>(taps, n, channels, more, 0.0f, y);
}
void sum_f32(const float* const* taps, int n, int64_t channels, bool more, float factor, float* y) {
  pixel<Sum>(taps, n, channels, more, factor, y);
}
void sum_square(const float* const* taps, int n, int64_t channels, bool more, float factor, float* y) {
  pixel<SumSquare>(taps, n, channels, more, factor, y);
}

template <class T, int kBytes>
DK_INL void max_strip(const T* const* taps, int n, int64_t c, bool more, T* y) {
  typedef T V __attribute__((vector_size(kBytes)));
  V best = load<V>((more ? y : taps[0]) + c);
  for (int t = more ? 0 : 1; t < n; ++t) {
    const V v = load<V>(taps[t] + c);
    best = v > best ? v : best;  // compilers know this as a packed maximum
  }
  store(y + c, best);
}

template <class T>
void max_bytes(const T* const* taps, int n, int64_t channels, bool more, T* y) {
  constexpr int kBytes = 4 * kW;
  int64_t c = 0;
  for (; c + kBytes <= channels; c += kBytes) max_strip<T, kBytes>(taps, n, c, more, y);
  for (; c + 8 <= channels; c += 8) max_strip<T, 8>(taps, n, c, more, y);
  for (; c < channels; ++c) {
    T best = more ? y[c] : taps[0][c];
    for (int t = more ? 0 : 1; t < n; ++t) best = taps[t][c] > best ? taps[t][c] : best;
    y[c] = best;
  }
}

void max_gradient(const float* const* taps, float* const* to, int n, int64_t channels, const float* y, const float* g) {
  for (int64_t c = 0; c < channels; c += kW) {
    const int m = channels - c < kW ? static_cast<int>(channels - c) : kW;
    const f32 best = load_n<f32>(y + c, m), gradient = load_n<f32>(g + c, m);
    int_of<f32> open = ~int_of<f32>{};
    for (int t = 0; t < n; ++t) {
      const f32 x = load_n<f32>(taps[t] + c, m);
      const int_of<f32> hit = open & ((x == best) | (x != x));
      store_n(to[t] + c, load_n<f32>(to[t] + c, m) + select<f32>(hit, gradient, f32{}), m);
      open = open & ~hit;
    }
  }
}

const PoolKernels kTable = {max_f32, max_bytes<int8_t>, max_bytes<uint8_t>, sum_f32, sum_square, max_gradient};
}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const PoolKernels* DK_CAT(pool_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
