// The 8-bit tiles and their epilogue, compiled once per ISA.  See qgemm.h for the contract.
#include "base/cpu.h"
#include "kernels/qgemm/qgemm.h"
#include "simd/dot.h"
#include "simd/requant.h"

namespace dk {
namespace {
using namespace simd;

DK_INL int32_t load4(const uint8_t* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

// The first n <= kBytes of part R of 4 * kW bytes in parts of kBytes, to c.
template <int R, int kBytes>
DK_INL void store_part(uint8_t* c, s32 v, int n) {
#if defined(__AVX512F__) && !defined(DK_SIMD_SCALAR)
  const uint32_t mask = n >= 32 ? ~0u : (1u << n) - 1;
  if constexpr (kBytes == 32) {
    const __m256i half = _mm512_maskz_extracti64x4_epi64(0xff, bits<__m512i>(v), R);
    _mm256_mask_storeu_epi8(c, mask, half);
  } else {
    const __m128i quarter = _mm512_maskz_extracti32x4_epi32(0xff, bits<__m512i>(v), R);
    _mm_mask_storeu_epi8(c, static_cast<__mmask16>(mask), quarter);
  }
#else
#if defined(__AVX2__) && !defined(DK_SIMD_SCALAR)
  if (kBytes == 16 && n == 16)
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(c), _mm256_extracti128_si256(bits<__m256i>(v), R & 1));
#endif
  char part[4 * kW];
  store(part, v);
  if (n == kBytes)
    __builtin_memcpy(c, part + R * kBytes, kBytes);
  else
    __builtin_memcpy(c, part + R * kBytes, static_cast<size_t>(n));
#endif
}

// The epilogue of sums in registers: bytes, with or without a residual that is added after a first rounding.
template <int M, int NV, bool Added>
DK_INL void finish_tile(const QGemmFinish* f, s32 (&acc)[M][NV]) {
  const QEpilogue& e = *f->e;
  const Clamp<s32> clamp(e.zero, e.low, e.high, e.flip);
  constexpr int kRows = 4 / NV, kBytes = NV * kW;
  f32 multiplier[NV];
  DK_UNROLL
  for (int j = 0; j < NV; ++j) multiplier[j] = load<f32>(e.multiplier + f->column + j * kW);
  const f32 low = splat<f32>(e.mid_low), high = splat<f32>(e.mid_high), mid = splat<f32>(e.mid_scale),
            scale = splat<f32>(e.residual_scale);
  const s32 flip = splat<s32>(static_cast<int32_t>(e.residual_flip)), zero = splat<s32>(e.residual_zero);
  uint8_t* c = static_cast<uint8_t*>(f->c);
  const uint8_t* residual = Added ? e.residual + f->row * e.ldr + f->column : nullptr;
  const int n = f->n;
  DK_UNROLL
  for (int i = 0; i < M; i += kRows) {
    s32 q[4];
    DK_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int at = i + r < M ? i + r : M - 1;
      DK_UNROLL
      for (int j = 0; j < NV; ++j) {
        f32 v = to_f32(acc[at][j]) * multiplier[j];
        if constexpr (Added) {
          v = vmin(high, vmax(low, vround(v))) * mid;
          v = capped(v + to_f32((widen(residual + at * e.ldr + j * kW) ^ flip) - zero) * scale);
        }
        q[r * NV + j] = nearest(v);
      }
    }
    const s32 bytes = in_order(clamp.pack(q[0], q[1], q[2], q[3]));
    store_part<0, kBytes>(c, bytes, n);
    if (i + 1 < M) store_part<1, kBytes>(c + f->ldc, bytes, n);
    if constexpr (NV == 1) {
      if (i + 2 < M) store_part<2, kBytes>(c + 2 * f->ldc, bytes, n);
      if (i + 3 < M) store_part<3, kBytes>(c + 3 * f->ldc, bytes, n);
    }
    c += kRows * f->ldc;
  }
}

// Sums start at the bias, and go through an epilogue at once or to where the general one finds them.
template <int M, int NV>
DK_INL void begin_tile(const QGemmTile* t, s32 (&acc)[M][NV]) {
  DK_UNROLL
  for (int j = 0; j < NV; ++j) {
    const s32 bias = load<s32>(t->bias + j * kW);
    DK_UNROLL
    for (int i = 0; i < M; ++i) acc[i][j] = bias;
  }
}

template <int M, int NV>
DK_INL void end_tile(const QGemmTile* t, s32 (&acc)[M][NV]) {
  if (t->finish) return t->added ? finish_tile<M, NV, true>(t->finish, acc) : finish_tile<M, NV, false>(t->finish, acc);
  DK_UNROLL
  for (int i = 0; i < M; ++i) {
    DK_UNROLL
    for (int j = 0; j < NV; ++j) store(t->acc + (i * NV + j) * kW, acc[i][j]);
  }
}

// AVX2 without VNNI multiplies pairs of 16-bit numbers.
#if defined(__AVX2__) && !defined(DK_SIMD_SCALAR) && !defined(__AVX512F__) && !defined(__AVXVNNI__)
#define DK_QGEMM_PAIRS
DK_INL s32 widen_signed(const int8_t* p) {
  return bits<s32>(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
DK_INL s32 widen_bytes(const uint8_t* p) {
  return bits<s32>(_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
DK_INL s32 pair_sums(s32 a, s32 b) { return bits<s32>(_mm256_madd_epi16(bits<__m256i>(a), bits<__m256i>(b))); }

// m rows of k bytes from from[i] + shift on; k is a multiple of four.
void widen_rows(int16_t* to, int64_t stride, const uint8_t* const* from, int64_t shift, int64_t m, int64_t k,
                uint32_t flip) {
  const s32 turn = splat<s32>(static_cast<int32_t>(flip & 0x00ff00ff));
  for (int64_t i = 0; i < m; ++i, to += stride) {
    const uint8_t* a = from[i] + shift;
    int64_t j = 0;
    for (; j + 2 * kW <= k; j += 2 * kW) store(to + j, widen_bytes(a + j) ^ turn);
    if (j < k) {
      const s32 rest = widen_bytes(a + j) ^ turn;
      for (int64_t e = 0; e < (k - j) / 2; ++e)
        __builtin_memcpy(to + j + 2 * e, reinterpret_cast<const char*>(&rest) + 4 * e, 4);
    }
  }
}

// M x (NV vectors) of sums.  Per two k: NV loads of B, M broadcasts of a pair of A, M * NV products and additions.
template <int M, int NV>
void tile(const QGemmTile* t) {
  s32 acc[M][NV];
  begin_tile(t, acc);
  const int8_t* b = t->b;
  const int64_t k1 = t->wide_k;
  const int16_t* a[M];
  DK_UNROLL
  for (int i = 0; i < M; ++i) a[i] = t->wide + i * k1;
  for (int64_t k = 0; k < k1; k += 2, b += NV * kW * 2) {
    s32 bv[NV];
    DK_UNROLL
    for (int j = 0; j < NV; ++j) bv[j] = widen_signed(b + j * kW * 2);
    DK_UNROLL
    for (int i = 0; i < M; ++i) {
      int32_t pair;
      __builtin_memcpy(&pair, a[i] + k, 4);
      const s32 av = splat<s32>(pair);
      DK_UNROLL
      for (int j = 0; j < NV; ++j) {
        acc[i][j] = wrapping_add(acc[i][j], pair_sums(av, bv[j]));
        DK_PIN(acc[i][j]);
      }
    }
  }
  end_tile(t, acc);
}
#else
// M x (NV vectors) of sums.  Per four k: NV loads of B, M broadcasts of four bytes of A, M * NV dots.
template <int M, int NV, bool Flip>
DK_INL void add_terms(const QGemmTile* t, s32 (&acc)[M][NV]) {
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
        for (int j = 0; j < NV; ++j) {
          acc[i][j] = dot4(acc[i][j], av, bv[j]);
          DK_PIN(acc[i][j]);
        }
      }
    }
  }
}

template <int M, int NV>
DK_INL void tile_of(const QGemmTile* t) {
  s32 acc[M][NV];
  begin_tile(t, acc);
  if (t->a_flip)
    add_terms<M, NV, true>(t, acc);
  else
    add_terms<M, NV, false>(t, acc);
  end_tile(t, acc);
}

// One row: four sets of sums take the terms in turns, to hide the latency of the dots; this is bound by reading B.
template <int NV, bool Flip>
DK_INL void row_of(const QGemmTile* t) {
  constexpr int kTurns = 4;
  s32 part[kTurns][NV];
  DK_UNROLL
  for (int u = 0; u < kTurns; ++u) {
    DK_UNROLL
    for (int j = 0; j < NV; ++j) part[u][j] = u ? s32{} : load<s32>(t->bias + j * kW);
  }
  const int8_t* b = t->b;
  const s32 flip = splat<s32>(static_cast<int32_t>(t->a_flip));
  auto step = [&](int u, const uint8_t* a) __attribute__((always_inline)) {
    s32 av = splat<s32>(load4(a));
    if constexpr (Flip) av ^= flip;
    DK_UNROLL
    for (int j = 0; j < NV; ++j) part[u][j] = dot4(part[u][j], av, load<s32>(b + j * kW * 4));
    b += NV * kW * 4;
  };
  for (int64_t tap = 0; tap < t->taps; ++tap) {
    const uint8_t* a = t->a[tap * t->a_stride] + t->a_shift;
    int64_t k = 0;
    for (; k + 4 * kTurns <= t->k; k += 4 * kTurns) {
      DK_UNROLL
      for (int u = 0; u < kTurns; ++u) step(u, a + k + 4 * u);
    }
    for (; k < t->k; k += 4) step(0, a + k);
  }
  s32 acc[1][NV];
  DK_UNROLL
  for (int j = 0; j < NV; ++j)
    acc[0][j] = wrapping_add(wrapping_add(part[0][j], part[1][j]), wrapping_add(part[2][j], part[3][j]));
  end_tile(t, acc);
}

template <int M, int NV>
void tile(const QGemmTile* t) {
  if constexpr (M == 1) return t->a_flip ? row_of<NV, true>(t) : row_of<NV, false>(t);
  tile_of<M, NV>(t);
}

#endif

// ---- epilogue
// v before the last rounding, of one vector of sums.  `n` columns exist.
template <bool Mid, bool Residual>
DK_INL f32 scaled(const QEpilogue& e, s32 acc, int64_t column, const uint8_t* residual, int n) {
  f32 v = to_f32(acc) * load<f32>(e.multiplier + column);
  if constexpr (Mid) v = vmin(splat<f32>(e.mid_high), vmax(splat<f32>(e.mid_low), vround(v))) * splat<f32>(e.mid_scale);
  if constexpr (Residual) {
    uint8_t r[kW];
    const uint8_t* from = residual;
    if (n < kW) {
      __builtin_memset(r, 0, sizeof r);
      __builtin_memcpy(r, residual, static_cast<size_t>(n > 0 ? n : 0));
      from = r;
    }
    const s32 rv = widen(from) ^ static_cast<int32_t>(e.residual_flip);
    v += to_f32(rv - e.residual_zero) * splat<f32>(e.residual_scale);
  }
  return v;
}

DK_INL s32 sums(const QGemmFinish* f, int i, int j) {
  const QEpilogue& e = *f->e;
  s32 a = load<s32>(f->acc + i * f->lda + j);
  if (e.row_sum) {
    const u32 p = splat<u32>(static_cast<uint32_t>(e.row_sum[f->row + i])) * load<u32>(e.column_zero + f->column + j);
    a = wrapping_add(a, bits<s32>(p));
  }
  return a;
}

template <bool Mid, bool Residual>
DK_INL const uint8_t* residual_at(const QGemmFinish* f, int i) {
  return Residual ? f->e->residual + (f->row + i) * f->e->ldr + f->column : nullptr;
}

void finish_rows(const QGemmFinish* f) {
  const QEpilogue& e = *f->e;
  for (int i = 0; i < f->m; ++i) {
    const f32 scale = splat<f32>(e.row_scale[f->row + i]);
    for (int j = 0; j < f->n; j += kW) {
      const f32 v = to_f32(sums(f, i, j)) * (scale * load<f32>(e.multiplier + f->column + j));
      store_n(static_cast<float*>(f->c) + i * f->ldc + j, v, f->n - j < kW ? f->n - j : kW);
    }
  }
}

template <bool Mid, bool Residual>
DK_INL void finish_floats(const QGemmFinish* f) {
  for (int i = 0; i < f->m; ++i) {
    const uint8_t* r = residual_at<Mid, Residual>(f, i);
    for (int j = 0; j < f->n; j += kW) {
      const int n = f->n - j < kW ? f->n - j : kW;
      const f32 v = scaled<Mid, Residual>(*f->e, sums(f, i, j), f->column + j, r + j, n);
      store_n(static_cast<float*>(f->c) + i * f->ldc + j, v, n);
    }
  }
}

// Bytes: four vectors of sums at a time, 4 / NV rows of NV vectors.  Rows that do not exist repeat the last one.
template <int NV, bool Mid, bool Residual, bool Small>
DK_INL void finish_bytes(const QGemmFinish* f, int j0) {
  const QEpilogue& e = *f->e;
  const Clamp<s32> clamp(e.zero, e.low, e.high, e.flip);
  constexpr int kRows = 4 / NV, kBytes = NV * kW;
  const int n = f->n - j0 < kBytes ? f->n - j0 : kBytes;
  for (int i0 = 0; i0 < f->m; i0 += kRows) {
    s32 q[4];
    DK_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int i = i0 + r < f->m ? i0 + r : f->m - 1;
      const uint8_t* residual = residual_at<Mid, Residual>(f, i);
      DK_UNROLL
      for (int v = 0; v < NV; ++v) {
        const int j = j0 + v * kW;
        const f32 x = scaled<Mid, Residual>(e, sums(f, i, j), f->column + j, residual + j, f->n - j);
        q[r * NV + v] = nearest(Small ? x : capped(x));
      }
    }
    const s32 bytes = in_order(clamp.pack(q[0], q[1], q[2], q[3]));
    uint8_t part[4 * kW];
    store(part, bytes);
    uint8_t* c = static_cast<uint8_t*>(f->c) + i0 * f->ldc + j0;
    if (n == kBytes) {
      DK_UNROLL
      for (int r = 0; r < kRows; ++r)
        if (i0 + r < f->m) __builtin_memcpy(c + r * f->ldc, part + r * kBytes, kBytes);
    } else {
      for (int r = 0; r < kRows && i0 + r < f->m; ++r)
        __builtin_memcpy(c + r * f->ldc, part + r * kBytes, static_cast<size_t>(n));
    }
  }
}

template <bool Mid, bool Residual, bool Small>
DK_INL void finish_panels(const QGemmFinish* f) {
  if (f->e->floats) return finish_floats<Mid, Residual>(f);
  int j = 0;
  for (; f->n - j > kW; j += 2 * kW) finish_bytes<2, Mid, Residual, Small>(f, j);
  if (j < f->n) finish_bytes<1, Mid, Residual, Small>(f, j);
}

void finish(const QGemmFinish* f) {
  const QEpilogue& e = *f->e;
  if (e.ints) {
    for (int i = 0; i < f->m; ++i)
      for (int j = 0; j < f->n; j += kW)
        store_n(static_cast<int32_t*>(f->c) + i * f->ldc + j, bits<f32>(sums(f, i, j)), f->n - j < kW ? f->n - j : kW);
    return;
  }
  if (e.row_scale) {
    finish_rows(f);
    if (e.after) e.after(e.arg, f);
    return;
  }
  if (e.mid) return e.residual ? finish_panels<true, true, false>(f) : finish_panels<true, false, false>(f);
  if (e.residual) return finish_panels<false, true, false>(f);
  return e.small ? finish_panels<false, false, true>(f) : finish_panels<false, false, false>(f);
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
constexpr int kNarrow = kDotFast ? 10 : 6, kMain = 6;
#elif defined(__ARM_NEON)
constexpr int kNarrow = 8, kMain = kDotFast ? 8 : 4;
#else
constexpr int kNarrow = kDotFast ? 6 : 4, kMain = kDotFast ? 6 : 3;
#endif

#if defined(__AVX512VNNI__) && !defined(DK_SIMD_SCALAR)
// Whether no sum plus residual needs `capped`.
inline bool bounded(const QEpilogue& e) {
  auto size = [](float v) { return v < 0 ? -v : v; };
  const float most = size(e.mid_low) > size(e.mid_high) ? size(e.mid_low) : size(e.mid_high);
  return most * size(e.mid_scale) + 256 * size(e.residual_scale) < 1e9f;
}

// The epilogues of finish_tile for a block of stored sums.  What does not change from row to row is read once: the
// compiler could not know that storing bytes leaves the epilogue's own numbers alone.  Added: needs bounded(e).
template <int NV, bool Added>
DK_INL void finish_block(const QGemmFinish* f, const int32_t* sums, const int32_t* bias) {
  const QEpilogue& e = *f->e;
  constexpr int kRows = 4 / NV, kBytes = NV * kW;
  // Adding `magic` rounds to an integer, ties to even; bytes in the lowest bits of 2^23 are integers above it.
  const f32 magic = splat<f32>(12582912.0f), low = splat<f32>(e.mid_low), high = splat<f32>(e.mid_high),
            mid = splat<f32>(e.mid_scale), scale = splat<f32>(e.residual_scale),
            zero = splat<f32>(static_cast<float>(8388608 + e.residual_zero));
  const s32 flip = splat<s32>(static_cast<int32_t>(e.residual_flip)), above = splat<s32>(0x4b000000);
  const Clamp<s32> clamp(e.zero, e.low, e.high, e.flip);
  s32 b[NV];
  f32 multiplier[NV];
  DK_UNROLL
  for (int j = 0; j < NV; ++j) {
    b[j] = load<s32>(bias + j * kW);
    multiplier[j] = load<f32>(e.multiplier + f->column + j * kW);
  }
  const int64_t lda = f->lda, ldc = f->ldc, ldr = e.ldr;
  const int m = f->m, n = f->n;
  const uint8_t* residual = Added ? e.residual + f->row * ldr + f->column : nullptr;
  uint8_t* c = static_cast<uint8_t*>(f->c);
  for (int i = 0; i < m; i += kRows, c += kRows * ldc) {
    s32 q[4];
    DK_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int at = i + r < m ? i + r : m - 1;  // rows that do not exist are not written
      DK_UNROLL
      for (int j = 0; j < NV; ++j) {
        f32 v = to_f32(wrapping_add(load<s32>(sums + at * lda + j * kW), b[j])) * multiplier[j];
        if constexpr (Added) {
          v = ((vmin(high, vmax(low, v)) + magic) - magic) * mid;
          v += (bits<f32>((widen(residual + at * ldr + j * kW) ^ flip) | above) - zero) * scale;
        }
        q[r * NV + j] = nearest(v);
      }
    }
    const s32 bytes = in_order(clamp.pack(q[0], q[1], q[2], q[3]));
    if (n == kBytes && i + kRows <= m) {
      char part[4 * kW];
      store(part, bytes);
      DK_UNROLL
      for (int r = 0; r < kRows; ++r) __builtin_memcpy(c + r * ldc, part + r * kBytes, kBytes);
      continue;
    }
    store_part<0, kBytes>(c, bytes, n);
    if (i + 1 < m) store_part<1, kBytes>(c + ldc, bytes, n);
    if constexpr (NV == 1) {
      if (i + 2 < m) store_part<2, kBytes>(c + 2 * ldc, bytes, n);
      if (i + 3 < m) store_part<3, kBytes>(c + 3 * ldc, bytes, n);
    }
  }
}

void finish_biased(const QGemmFinish* f, int32_t* acc, const int32_t* bias) {
  const bool added = qgemm_added(*f->e) && bounded(*f->e);
  if (added || qgemm_plain(*f->e)) {
    if (f->lda == kW) return added ? finish_block<1, true>(f, acc, bias) : finish_block<1, false>(f, acc, bias);
    return added ? finish_block<2, true>(f, acc, bias) : finish_block<2, false>(f, acc, bias);
  }
  for (int i = 0; i < f->m; ++i)
    for (int64_t j = 0; j < f->lda; j += kW)
      store(acc + i * f->lda + j, wrapping_add(load<s32>(acc + i * f->lda + j), load<s32>(bias + j)));
  finish(f);
}
#endif

constexpr QGemmKernels kTable = {
    {kNarrow, kW, MakeTable<1, kNarrow>::fn},
    {kMain, 2 * kW, MakeTable<2, kMain>::fn},
    kDotSigned,
#if defined(DK_QGEMM_PAIRS)
    widen_rows,
#else
    nullptr,
#endif
    finish,
    nullptr,
    0,
    nullptr,
};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
#if defined(__wasm_relaxed_simd__)
const QGemmKernels* qgemm_wasm_relaxed() {
  static QGemmKernels table = kTable;
  table.a_signed = relaxed_dot() == RelaxedDot::s8;
  return &table;
}
#else
const QGemmKernels* DK_CAT(qgemm_, DK_DOT_SUFFIX)() { return &kTable; }
#endif

#if defined(__AVX512VNNI__) && !defined(DK_SIMD_SCALAR)
const QGemmKernels* qgemm_x86_amx() {
  static constexpr QGemmKernels kTiles = {kTable.narrow, kTable.main, kTable.a_signed, nullptr, finish,
                                          finish_biased, 16,          qgemm_run_amx};
  return &kTiles;
}
#endif

}  // namespace dk
