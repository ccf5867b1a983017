// The 8-bit tiles and their epilogue, compiled once per ISA.  See qgemm.h for the contract.
#include "base/cpu.h"
#include "kernels/qgemm/qgemm.h"
#include "simd/dot.h"

namespace dk {
namespace {
using namespace simd;

DK_INL int32_t load4(const uint8_t* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

// M x (NV vectors) of sums.  Per four k: NV loads of B, M broadcasts of four bytes of A, M * NV dots.
template <int M, int NV, bool Flip>
DK_INL void tile_of(const QGemmTile* t) {
  s32 acc[M][NV];
  DK_UNROLL
  for (int j = 0; j < NV; ++j) {
    const s32 bias = load<s32>(t->bias + j * kW);
    DK_UNROLL
    for (int i = 0; i < M; ++i) acc[i][j] = bias;
  }
  const int8_t* b = t->b;
  const int64_t k1 = t->k;
  const uint8_t* const* rows = t->a;
  [[maybe_unused]] const s32 flip = splat<s32>(static_cast<int32_t>(t->a_flip));
  for (int64_t tap = 0; tap < t->taps; ++tap, rows += t->a_stride) {
    const uint8_t* a[M];
    DK_UNROLL
    for (int i = 0; i < M; ++i) a[i] = rows[i] + t->a_shift;
    for (int64_t k = 0; k < k1; k += 4, b += NV * kW * 4) {
      s32 bv[NV];
      DK_UNROLL
      for (int j = 0; j < NV; ++j) bv[j] = load<s32>(b + j * kW * 4);
      DK_UNROLL
      for (int i = 0; i < M; ++i) {
        s32 av = splat<s32>(load4(a[i] + k));
        if constexpr (Flip) av ^= flip;
        DK_UNROLL
        for (int j = 0; j < NV; ++j) acc[i][j] = dot4(acc[i][j], av, bv[j]);
      }
    }
  }
  DK_UNROLL
  for (int i = 0; i < M; ++i) {
    DK_UNROLL
    for (int j = 0; j < NV; ++j) store(t->acc + (i * NV + j) * kW, acc[i][j]);
  }
}

template <int M, int NV>
void tile(const QGemmTile* t) {
  if (t->a_flip)
    tile_of<M, NV, true>(t);
  else
    tile_of<M, NV, false>(t);
}

// ---- epilogue
// v before the last rounding, of one vector of sums.  `n` columns exist.
template <bool Mid, bool Residual>
DK_INL f32 scaled(const QEpilogue& e, s32 acc, int64_t column, const uint8_t* residual, int n) {
  f32 v = to_f32(acc) * load<f32>(e.multiplier + column);
  if constexpr (Mid) v = vmin(splat<f32>(e.mid_high), vmax(splat<f32>(e.mid_low), vround(v))) * splat<f32>(e.mid_scale);
  if constexpr (Residual) {
    uint8_t r[kW > 4 ? kW : 4];
    const uint8_t* from = residual;
    if (n < kW) {
      __builtin_memset(r, 0, sizeof r);
      __builtin_memcpy(r, residual, static_cast<size_t>(n));
      from = r;
    }
    const s32 rv = widen(from) ^ static_cast<int32_t>(e.residual_flip);
    v += to_f32(rv - e.residual_zero) * splat<f32>(e.residual_scale);
  }
  return v;
}

template <bool Mid, bool Residual>
DK_INL void finish_rows(const QGemmFinish* f) {
  const QEpilogue& e = *f->e;
  const f32 low = splat<f32>(static_cast<float>(e.low - e.zero)),
            high = splat<f32>(static_cast<float>(e.high - e.zero));
  const s32 zero = splat<s32>(e.zero), flip = splat<s32>(static_cast<int32_t>(e.flip));
  for (int i = 0; i < f->m; ++i) {
    const int32_t* acc = f->acc + i * f->lda;
    const uint8_t* residual = Residual ? e.residual + (f->row + i) * e.ldr + f->column : nullptr;
    const int32_t row_sum = e.row_sum ? e.row_sum[f->row + i] : 0;
    for (int j = 0; j < f->n; j += kW) {
      const int n = f->n - j < kW ? f->n - j : kW;
      s32 a = load<s32>(acc + j);
      if (e.row_sum) a += splat<s32>(row_sum) * load<s32>(e.column_zero + f->column + j);
      const f32 v = scaled<Mid, Residual>(e, a, f->column + j, residual + j, n);
      if (e.floats) {
        store_n(static_cast<float*>(f->c) + i * f->ldc + j, v, n);
        continue;
      }
      // Bounds are integers, so the clamp may come before the rounding.
      const s32 q = (to_s32(vround(vmin(high, vmax(low, v)))) + zero) ^ flip;
      uint8_t* c = static_cast<uint8_t*>(f->c) + i * f->ldc + j;
      if (n == kW) {
        narrow(c, q);
      } else {
        uint8_t last[kW];
        narrow(last, q);
        __builtin_memcpy(c, last, static_cast<size_t>(n));
      }
    }
  }
}

void finish(const QGemmFinish* f) {
  const QEpilogue& e = *f->e;
  if (e.mid) return e.residual ? finish_rows<true, true>(f) : finish_rows<true, false>(f);
  return e.residual ? finish_rows<false, true>(f) : finish_rows<false, false>(f);
}

// fn[m - 1] for all row counts.
template <int NV, int... I>
struct TileTable {
  static constexpr QGemmTileFn fn[] = {tile<I, NV>...};
};
template <int NV, int M, int... I>
struct MakeTable : MakeTable<NV, M - 1, M, I...> {};
template <int NV, int... I>
struct MakeTable<NV, 0, I...> : TileTable<NV, I...> {};

#if defined(DK_SIMD_SCALAR)
constexpr int kNarrow = 2, kMain = 2;
#elif defined(__AVX512F__)
constexpr int kNarrow = kDotFast ? 14 : 12, kMain = kDotFast ? 14 : 10;
#elif defined(__AVX2__)
constexpr int kNarrow = kDotFast ? 10 : 6, kMain = kDotFast ? 6 : 4;
#elif defined(__ARM_NEON)
constexpr int kNarrow = 8, kMain = kDotFast ? 8 : 4;
#else
constexpr int kNarrow = 4, kMain = 3;
#endif

constexpr QGemmKernels kTable = {
    {kNarrow, kW, MakeTable<1, kNarrow>::fn},
    {kMain, 2 * kW, MakeTable<2, kMain>::fn},
    kDotSigned,
    finish,
};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const QGemmKernels* DK_CAT(qgemm_, DK_DOT_SUFFIX)() { return &kTable; }

}  // namespace dk
