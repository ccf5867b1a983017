// Products of operands rounded to bfloat16, by tile registers: gemm_fast_kernels.  Rows of A are rounded while they are
// copied side by side (to nearest, ties to even; subnormals become zero, as in the products).  A tile adds the terms in
// pairs, in the order of k, so results depend on neither rows, panels nor threads.
#include "kernels/gemm/gemm.h"
#include "simd/tiles_x86.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

DK_TILE_PRODUCTS(multiply, _tile_dpbf16ps)

// k pairs, and up to 15 of what follows.
inline void copy_row(uint8_t* to, const float* from, int64_t k) {
  for (int64_t i = 0; i < k; i += 16) _mm512_storeu_ps(to + i * 4, _mm512_loadu_ps(from + i));
}

// Bias, residual and clamp of n rows of sums.
void store_rows(const float* sums, int64_t lds, int64_t m, int n, const float* bias, float* c, int64_t ldc,
                const float* residual, const GemmEpilogue& e) {
  const f32 low = splat<f32>(e.finish ? -__builtin_inff() : e.low),
            high = splat<f32>(e.finish ? __builtin_inff() : e.high);
  for (int64_t i = 0; i < m; ++i, sums += lds, c += ldc) {
    for (int j = 0; j < n; j += kW) {
      const int part = n - j < kW ? n - j : kW;
      f32 v = load<f32>(sums + j) + load<f32>(bias + j);
      const f32 r = residual ? load_n<f32>(residual + i * e.ldr + j, part) : f32{};
      if (residual && e.residual_first) v += r;
      v = vclip(v, low, high);
      if (residual && !e.residual_first) v += r;
      part == kW ? store(c + j, v) : store_n(c + j, v, part);
    }
  }
}

}  // namespace

void gemm_round_amx(uint8_t* to, const float* from, int64_t n) {
  for (; n >= 32; n -= 32, from += 32, to += 64)
    _mm512_storeu_si512(
        to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from))));
  if (n <= 0) return;
  const uint32_t mask = (1u << n) - 1;
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 16);
  const __mmask16 pairs = static_cast<__mmask16>((1u << (n + 1) / 2) - 1);
  _mm512_mask_storeu_epi32(to, pairs, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
}

void gemm_run_amx(const GemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const GemmLayout& l = *p.layout;
  const GemmEpilogue& e = *p.epilogue;
  const int64_t m = m1 - m0, tap_bytes = p.a_rounded ? p.k * 4 : (p.k + 1) / 2 * 4;
  if (m <= 0) return;
  const float* pointers[kGemmMaxPointers];
  alignas(64) uint8_t stack[kTileCopied];
  uint8_t* const copied = p.room_bytes > kTileCopied ? static_cast<uint8_t*>(p.room) : stack;
  alignas(64) float sums[kTileNumbers];
  const TileRun run(m, l.rows, l.step, p.room_bytes > kTileCopied ? p.room_bytes : kTileCopied);
  const int64_t pointed = kGemmMaxPointers / p.taps;
  const int64_t chunks = run.chunks(run.copies < pointed ? run.copies : pointed);
  run.configure();

  auto finish = [&](const char* at, int64_t panel, int64_t row, int64_t rows) {
    const int64_t column = l.column(panel);
    const int n = l.columns(panel);
    float* c = p.c + (m0 + row) * p.ldc + column;
    const float* residual = e.residual ? e.residual + (m0 + row) * e.ldr + column : nullptr;
    store_rows(reinterpret_cast<const float*>(at), l.shape(panel).nr, rows, n, e.bias + column, c, p.ldc,
               e.finish ? nullptr : residual, e);
    if (!e.finish) return;
    const GemmFinish f = gemm_finish_of(p, m0 + row, column, rows, n);
    p.kernels->finish(&f);
  };
  TilePending<decltype(finish)> pending(finish);
  TileBlock t;
  t.units = l.rows;
  t.step = l.step;
  t.lda = run.pitch;
  t.sums = sums;
  t.hops = nullptr;
  for (int64_t i = 0; i < chunks; ++i) {
    const TileRun::Chunk chunk = run.chunk(i, chunks);
    p.rows->fill(p.rows, m0 + chunk.start, chunk.rows, pointers, chunk.rows);
    for (int64_t r = 0; r < chunk.rows; ++r) {
      uint8_t* to = copied + r * run.pitch;
      for (int64_t tap = 0; tap < p.taps; ++tap) {
        const float* from = pointers[tap * chunk.rows + r] + p.a_shift;
        if (p.a_rounded)
          copy_row(to + tap * tap_bytes, from, p.k);
        else
          gemm_round_amx(to + tap * tap_bytes, from, p.k);
      }
      __builtin_memset(to + p.taps * tap_bytes, 0, static_cast<size_t>(l.rows * 4 - p.taps * tap_bytes));
    }
    for (int64_t panel = p0; panel < p1; ++panel) {
      t.columns = l.shape(panel).nr;
      t.b = p.packed + l.column(panel) * l.rows;
      t.next = panel + 1 < p1 ? static_cast<const char*>(t.b) + t.columns * l.rows * 4 : nullptr;
      tile_blocks(run, chunk, t, copied, 0, panel, multiply<decltype(pending)>, pending);
    }
  }
  pending.all();
  _tile_release();
}

}  // namespace dk
