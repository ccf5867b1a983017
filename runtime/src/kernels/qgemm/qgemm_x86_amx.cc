// 8-bit products by tile registers, from the panels that the vector kernels read.  Sums are exact, so the bits are
// theirs too.  Rows of a plain matrix are read in place; rows of a convolution are first copied side by side.
#include "kernels/qgemm/qgemm.h"
#include "simd/tiles_x86.h"

namespace dk {
namespace {
using namespace simd;

constexpr int kLeast = 5;       // fewer rows: bound by reading B, vectors are as good
constexpr int kLeastUnits = 6;  // fewer products: bound by the epilogue, vectors have no sums to store

DK_TILE_PRODUCTS(multiply, _tile_dpbusd)

// Copies k bytes, and up to 63 more of what follows; `to` has room for them.
inline void copy_row(uint8_t* to, const uint8_t* from, int64_t k, __m512i flip) {
  for (int64_t i = 0; i < k; i += 64) _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_loadu_si512(from + i), flip));
}

bool evenly_spaced(const uint8_t* const* rows, int64_t n, int64_t* distance) {
  const int64_t d = n > 1 ? rows[1] - rows[0] : 0;
  for (int64_t i = 2; i < n; ++i)
    if (rows[i] - rows[i - 1] != d) return false;
  *distance = d;
  return d >= 0;
}

// Rows that go through all panels before the next ones, at most `most`: with their results they fit half of L1, unless
// the panels come from memory each time.
int64_t near(const QGemmLayout& l, int64_t result_bytes, int64_t most) {
  constexpr int64_t kL1 = 24 << 10, kL2 = 1 << 20;
  if (static_cast<int64_t>(l.bytes()) > kL2) return most;
  int64_t rows = kL1 / (l.quads * 4 + result_bytes);
  if (rows < 4 * kTileRows) rows = 4 * kTileRows;
  return rows < most ? rows : most;
}

}  // namespace

void qgemm_run_amx(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const QGemmLayout& l = *p.layout;
  const QEpilogue& e = *p.epilogue;
  const int64_t m = m1 - m0, k4 = (l.k + 3) / 4 * 4;
  if (m < kLeast || l.quads < kLeastUnits || l.taps * kTileRows > kQGemmMaxPointers)
    return qgemm_run_vectors(p, m0, m1, p0, p1);
  const TileRun run(m, l.quads, l.step, p.room_bytes > kTileCopied ? p.room_bytes : kTileCopied);
  if (run.copies < kLeast) return qgemm_run_vectors(p, m0, m1, p0, p1);

  const uint8_t* pointers[kQGemmMaxPointers];
  alignas(64) uint8_t stack[kTileCopied];
  uint8_t* const copied = p.room_bytes > kTileCopied ? static_cast<uint8_t*>(p.room) : stack;
  alignas(64) int32_t sums[kTileNumbers];
  run.configure();
  const bool one_tap = l.taps == 1 && !p.a_flip;
  const int64_t pointed = kQGemmMaxPointers / l.taps;
  const int64_t element = e.floats || e.ints ? 4 : 1;
  const int64_t rows_at_once = near(l, p.ldc * element, run.copies < pointed ? run.copies : pointed);
  const int64_t chunks = run.chunks(rows_at_once);
  const __m512i flip = _mm512_set1_epi32(static_cast<int>(p.a_flip));

  QGemmFinish f;
  f.ldc = p.ldc;
  f.e = &e;
  auto finish = [&](const char* at, int64_t panel, int64_t row, int64_t n) {
    const int64_t column = l.column(panel);
    int32_t* acc = reinterpret_cast<int32_t*>(const_cast<char*>(at));
    f.acc = acc;
    f.lda = l.shape(panel).nr;
    f.m = static_cast<int>(n);
    f.n = l.columns(panel);
    f.row = m0 + row;
    f.column = column;
    f.c = static_cast<char*>(p.c) + ((m0 + row) * p.ldc + column) * element;
    p.kernels->finish_biased(&f, acc, p.bias + column);
  };
  TilePending<decltype(finish)> pending(finish);
  TileBlock t;
  t.units = l.quads;
  t.step = l.step;
  t.sums = sums;
  for (int64_t i = 0; i < chunks; ++i) {
    const TileRun::Chunk chunk = run.chunk(i, chunks);
    p.rows->fill(p.rows, m0 + chunk.start, chunk.rows, pointers, chunk.rows);
    const uint8_t* a = pointers[0] + p.a_shift;
    if (!one_tap || !evenly_spaced(pointers, chunk.rows, &t.lda)) {
      // Whole vectors are copied, taps in order, so that what follows one is overwritten by the next.
      t.lda = run.pitch;
      a = copied;
      for (int64_t r = 0; r < chunk.rows; ++r)
        for (int64_t tap = 0; tap < l.taps; ++tap)
          copy_row(copied + r * run.pitch + tap * k4, pointers[tap * chunk.rows + r] + p.a_shift, l.k, flip);
    }
    for (int64_t panel = p0; panel < p1; ++panel) {
      t.columns = l.shape(panel).nr;
      t.b = p.packed + l.column(panel) * l.quads * 4;
      tile_blocks(run, chunk, t, a, panel, multiply<decltype(pending)>, pending);
    }
  }
  pending.all();
  _tile_release();
}

}  // namespace dk
