// Compiled once per ISA.  See widen.h for the contract.
#include "base/convert.h"
#include "base/cpu.h"
#include "kernels/widen/widen.h"
#include "simd/bytes.h"

namespace dk {
namespace {
using namespace simd;

// kW numbers at p as floats, without scale.
template <Narrow T>
DK_INL f32 wide_at(const uint8_t* p) {
  if constexpr (T == Narrow::s8) return to_f32(widen(reinterpret_cast<const int8_t*>(p)));
  if constexpr (T == Narrow::f16) {
#if defined(__AVX512F__) && !defined(DK_SIMD_SCALAR)
    return bits<f32>(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__) && !defined(DK_SIMD_SCALAR)
    return bits<f32>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__ARM_NEON) && !defined(DK_SIMD_SCALAR)
    return bits<f32>(vcvt_f32_f16(vld1_f16(reinterpret_cast<const float16_t*>(p))));
#else
    float v[kW];
    convert(DType::f16, p, DType::f32, v, kW);
    return load<f32>(v);
#endif
  }
  if constexpr (T == Narrow::bf16) {
    uint32_t v[kW];
    uint16_t h[kW];
    __builtin_memcpy(h, p, sizeof h);
    DK_UNROLL
    for (int i = 0; i < kW; ++i) v[i] = static_cast<uint32_t>(h[i]) << 16;
    return load<f32>(v);
  }
  return f32{};
}

template <Narrow T>
constexpr int kBytes = T == Narrow::f16 || T == Narrow::bf16 ? 2 : 1;

// Calls f(k, vector j, value without scale) for rows [k0, k1) of a panel.
template <Narrow T, int NV, class F>
DK_INL void each(const WidenPanel* p, int64_t k0, int64_t k1, F f) {
  const uint8_t* base = static_cast<const uint8_t*>(p->panel);
  if constexpr (T == Narrow::u4) {
    for (int64_t k = k0; k < k1;) {
      const uint8_t* from = base + k / 2 * NV * kW;
      s32 v[NV];
      DK_UNROLL
      for (int j = 0; j < NV; ++j) v[j] = widen(from + j * kW);
      if (k % 2 == 0) {
        DK_UNROLL
        for (int j = 0; j < NV; ++j) f(k, j, to_f32(v[j] & 15));
        ++k;
      }
      if (k < k1 && k % 2) {
        DK_UNROLL
        for (int j = 0; j < NV; ++j) f(k, j, to_f32(v[j] >> 4));
        ++k;
      }
    }
  } else {
    for (int64_t k = k0; k < k1; ++k) {
      const uint8_t* from = base + k * NV * kW * kBytes<T>;
      DK_UNROLL
      for (int j = 0; j < NV; ++j) f(k, j, wide_at<T>(from + j * kW * kBytes<T>));
    }
  }
}

// The same for rows k and k + 1, k even; f also gets 0 or 1.
template <Narrow T, int NV, class F>
DK_INL void two(const WidenPanel* p, int64_t k, F f) {
  const uint8_t* from = static_cast<const uint8_t*>(p->panel);
  if constexpr (T == Narrow::u4) {
    from += k / 2 * NV * kW;
    DK_UNROLL
    for (int j = 0; j < NV; ++j) {
      const s32 v = widen(from + j * kW);
      f(0, k, j, to_f32(v & 15));
      f(1, k + 1, j, to_f32(v >> 4));
    }
  } else {
    from += k * NV * kW * kBytes<T>;
    DK_UNROLL
    for (int j = 0; j < NV; ++j) {
      f(0, k, j, wide_at<T>(from + j * kW * kBytes<T>));
      f(1, k + 1, j, wide_at<T>(from + (NV + j) * kW * kBytes<T>));
    }
  }
}

template <Narrow T, int NV>
void panel_of(const WidenPanel* p, float* to) {
  constexpr int nr = NV * kW;
  if (!p->scale) return each<T, NV>(p, 0, p->k, [=](int64_t k, int j, f32 v) { store(to + k * nr + j * kW, v); });
  for (int64_t k0 = 0, b = 0; k0 < p->k; k0 += p->block, ++b) {
    const int64_t k1 = k0 + p->block < p->k ? k0 + p->block : p->k;
    const float *s = p->scale + b * nr, *z = p->zero + b * nr;
    each<T, NV>(p, k0, k1, [=](int64_t k, int j, f32 v) {
      store(to + k * nr + j * kW, (v - load<f32>(z + j * kW)) * load<f32>(s + j * kW));
    });
  }
}

// Terms go in turns into four sums, to hide the latency of the additions.
template <Narrow T, int NV>
void row_of(const WidenPanel* p, const float* x, const float* bias, float* y) {
  constexpr int nr = NV * kW, kTurns = 4;
  f32 total[NV];
  DK_UNROLL
  for (int j = 0; j < NV; ++j) total[j] = load<f32>(bias + j * kW);
  const int64_t block = p->scale ? p->block : p->k;
  for (int64_t k0 = 0, b = 0; k0 < p->k; k0 += block, ++b) {
    const int64_t k1 = k0 + block < p->k ? k0 + block : p->k;
    f32 acc[kTurns][NV];
    DK_UNROLL
    for (int u = 0; u < kTurns; ++u) {
      DK_UNROLL
      for (int j = 0; j < NV; ++j) acc[u][j] = f32{};
    }
    int64_t k = k0;
    for (; k + kTurns <= k1 && k % 2 == 0; k += kTurns) {
      DK_UNROLL
      for (int u = 0; u < kTurns; u += 2)
        two<T, NV>(p, k + u, [&](int t, int64_t kk, int j, f32 v) __attribute__((always_inline)) {
          acc[u + t][j] = fma(splat<f32>(x[kk]), v, acc[u + t][j]);
        });
    }
    each<T, NV>(p, k, k1, [&](int64_t kk, int j, f32 v) __attribute__((always_inline)) {
      acc[0][j] = fma(splat<f32>(x[kk]), v, acc[0][j]);
    });
    DK_UNROLL
    for (int j = 0; j < NV; ++j) {
      f32 v = (acc[0][j] + acc[1][j]) + (acc[2][j] + acc[3][j]);
      if (p->scale)
        v = (v - load<f32>(p->zero + b * nr + j * kW) * splat<f32>(p->sums[b])) * load<f32>(p->scale + b * nr + j * kW);
      total[j] += v;
    }
  }
  DK_UNROLL
  for (int j = 0; j < NV; ++j) store(y + j * kW, total[j]);
}

template <Narrow T>
void panel_type(const WidenPanel* p, float* to) {
  switch (p->nv) {
    case 1: return panel_of<T, 1>(p, to);
    case 2: return panel_of<T, 2>(p, to);
    default: return panel_of<T, 3>(p, to);
  }
}

template <Narrow T>
void row_type(const WidenPanel* p, const float* x, const float* bias, float* y) {
  switch (p->nv) {
    case 1: return row_of<T, 1>(p, x, bias, y);
    case 2: return row_of<T, 2>(p, x, bias, y);
    default: return row_of<T, 3>(p, x, bias, y);
  }
}

void panel(Narrow type, const WidenPanel* p, float* to) {
  switch (type) {
    case Narrow::s8: return panel_type<Narrow::s8>(p, to);
    case Narrow::u4: return panel_type<Narrow::u4>(p, to);
    case Narrow::f16: return panel_type<Narrow::f16>(p, to);
    default: return panel_type<Narrow::bf16>(p, to);
  }
}

void row(Narrow type, const WidenPanel* p, const float* x, const float* bias, float* y) {
  switch (type) {
    case Narrow::s8: return row_type<Narrow::s8>(p, x, bias, y);
    case Narrow::u4: return row_type<Narrow::u4>(p, x, bias, y);
    case Narrow::f16: return row_type<Narrow::f16>(p, x, bias, y);
    default: return row_type<Narrow::bf16>(p, x, bias, y);
  }
}

constexpr WidenKernels kTable = {panel, row};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const WidenKernels* DK_CAT(widen_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
