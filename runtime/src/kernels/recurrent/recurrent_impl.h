// Compiled once per ISA.  See recurrent.h for the contract.
#include "kernels/recurrent/recurrent.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

// Calls f(load, store, at) for whole vectors, then once for the rest with partial loads and stores.
template <class F>
DK_INL void each_vector(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kW <= n; i += kW)
    f([i](const float* p) { return load<f32>(p + i); }, [i](float* p, f32 v) { store(p + i, v); });
  if (const int left = static_cast<int>(n - i); left > 0)
    f([i, left](const float* p) { return load_n<f32>(p + i, left); },
      [i, left](float* p, f32 v) { store_n(p + i, v, left); });
}

void sigmoid(float* x, int64_t n) {
  each_vector(n, [=](auto get, auto put) { put(x, vsigmoid(get(x))); });
}

void tanh(float* x, int64_t n) {
  each_vector(n, [=](auto get, auto put) { put(x, vtanh(get(x))); });
}

void lstm(const float* gates, float* c, float* h, int64_t n) {
  each_vector(n, [=](auto get, auto put) {
    const f32 i = vsigmoid(get(gates)), o = vsigmoid(get(gates + n)), f = vsigmoid(get(gates + 2 * n));
    const f32 cell = f * get(c) + i * vtanh(get(gates + 3 * n));
    put(c, cell);
    put(h, o * vtanh(cell));
  });
}

void gru(const float* z, const float* r, const float* x, const float* past, float* h, int64_t n) {
  each_vector(n, [=](auto get, auto put) {
    f32 p = get(past);
    if (r) p = get(r) * p;
    const f32 fresh = vtanh(get(x) + p), keep = get(z);
    put(h, (1.0f - keep) * fresh + keep * get(h));
  });
}

constexpr RecurrentKernels kTable = {sigmoid, tanh, lstm, gru};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const RecurrentKernels* DK_CAT(recurrent_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
