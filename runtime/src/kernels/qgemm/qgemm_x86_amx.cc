// 8-bit products by tile registers, from the panels that the vector kernels read.  Sums are exact, so the bits are
// theirs too.  Rows of a plain matrix are read in place; rows of a convolution are first copied side by side.
#include "kernels/qgemm/qrows.h"
#include "simd/tiles_x86.h"

namespace dk {
namespace {
using namespace simd;

constexpr int kLeast = 5;                // fewer rows: bound by reading B, vectors are as good
constexpr int64_t kFarPanels = 1 << 20;  // bytes that do not stay in L2 beside the rest
constexpr int kLeastUnits = 6;           // fewer products: bound by the epilogue, vectors have no sums to store

DK_TILE_PRODUCTS(multiply, _tile_dpbusd)

// Copies k bytes of every row; reads up to 63 more.
inline void copy_rows(uint8_t* to, int64_t pitch, const uint8_t* const* from, int64_t shift, int64_t rows, int64_t k,
                      __m512i flip) {
  const int64_t whole = (k - 1) / 64 * 64;
  const __mmask64 last = ~uint64_t{0} >> (64 - (k - whole));
  for (int64_t r = 0; r < rows; ++r, to += pitch) {
    const uint8_t* a = from[r] + shift;
    for (int64_t i = 0; i < whole; i += 64)
      _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_loadu_si512(a + i), flip));
    _mm512_mask_storeu_epi8(to + whole, last, _mm512_xor_si512(_mm512_loadu_si512(a + whole), flip));
  }
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
  constexpr int64_t kL1 = 24 << 10;
  if (static_cast<int64_t>(l.bytes()) > kFarPanels) return most;
  int64_t rows = kL1 / (l.quads * 4 + result_bytes);
  if (rows < 4 * kTileRows) rows = 4 * kTileRows;
  return rows < most ? rows : most;
}

int64_t element(const QEpilogue& e) { return e.floats || e.ints ? 4 : 1; }

// The epilogue of n rows of sums of a panel, from row `row` of the whole product on.
void finish_rows(const QGemmProblem& p, const char* sums, int64_t panel, int64_t row, int64_t n) {
  const int64_t column = p.layout->column(panel);
  int32_t* acc = reinterpret_cast<int32_t*>(const_cast<char*>(sums));
  QGemmFinish f;
  f.acc = acc;
  f.lda = p.layout->shape(panel).nr;
  f.m = static_cast<int>(n);
  f.n = p.layout->columns(panel);
  f.row = row;
  f.column = column;
  f.c = static_cast<char*>(p.c) + (row * p.ldc + column) * element(*p.epilogue);
  f.ldc = p.ldc;
  f.e = p.epilogue;
  p.kernels->finish_biased(&f, acc, p.bias + column);
}

// The weights of a panel, and where those after them lie, if any are to come.
void point_at(TileBlock* t, const QGemmProblem& p, int64_t panel, int64_t end) {
  const QGemmLayout& l = *p.layout;
  t->columns = l.shape(panel).nr;
  t->b = p.packed + l.column(panel) * l.quads * 4;
  t->next = panel + 1 < end ? static_cast<const char*>(t->b) + t->columns * l.quads * 4 : nullptr;
}

// Lines of an image.  Every step of a tap reads its tile of A from the padded lines, at the tap's own offset.
void run_lines(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const QGemmLayout& l = *p.layout;
  const ConvGeometry& g = *p.lines->g;
  const ConvPadding padding(&g);
  const int64_t width = g.out[2], pitch = padding.width * g.c, height = g.out[1];
  const int64_t lda = g.stride[2] * g.c, reach = (g.kernel[1] - 1) * g.dilation[1] + 1;
  alignas(64) uint8_t copied[kTileCopied];
  alignas(64) int32_t sums[kTileNumbers];

  int32_t hops[kQGemmMaxPointers];
  const int64_t step = l.step * 4, steps = l.quads / l.step, across = p.lines->runs ? 1 : g.kernel[2];
  for (int64_t i = 0, tap = 0, at = 0, k = 0; i < steps; ++i) {
    if ((k += step) >= l.k) k = 0, ++tap;
    const int64_t next = tap / across * g.dilation[1] * pitch + tap % across * g.dilation[2] * g.c + k;
    hops[i] = static_cast<int32_t>(next - at);
    at = next;
  }

  // Lines at once: the copy fits most of L1, or where the panels come from memory, as many as there is room for.
  const bool far = static_cast<int64_t>(l.bytes()) > kFarPanels;
  int64_t most = ((far ? kTileCopied - 64 : 36 << 10) / pitch - reach) / g.stride[1] + 1;
  if (most < 1) most = 1;
  const bool one = g.stride[1] == 1 && g.stride[2] == 1 && width < 14;  // all pixels of the copy, as one line
  const int64_t row_step = one ? padding.width : width;
  auto finish = [&](const char* at, int64_t panel, int64_t row, int64_t n) {
    if (!one) return finish_rows(p, at, panel, row, n);
    const int64_t bytes = l.shape(panel).nr * 4;
    while (n > 0) {
      const int64_t line = row / row_step, x = row - line * row_step, all = row_step - x < n ? row_step - x : n;
      if (x < width) finish_rows(p, at, panel, line * width + x, all < width - x ? all : width - x);
      at += all * bytes, row += all, n -= all;
    }
  };
  TilePending<decltype(finish)> pending(finish);
  TileBlock t;
  t.units = l.quads;
  t.step = l.step;
  t.lda = lda;
  t.sums = sums;
  t.hops = hops;
  bool ready = false;
  int64_t shape = 0;
  for (int64_t line = m0 / width, end = m1 / width; line < end;) {
    const int64_t image = line / height, y = line - image * height;
    int64_t rest = height - y < end - line ? height - y : end - line;
    const int64_t parts = (rest + most - 1) / most, lines = (rest + parts - 1) / parts;
    const int64_t r0 = y * g.stride[1], copies = (lines - 1) * g.stride[1] + reach;
    qpad_rows(g, padding, p.lines->x + image * g.in[1] * g.in[2] * g.c, p.lines->zero, 1, copied, r0, r0 + copies);
    if (p.a_flip)
      for (int64_t i = 0; i < copies * pitch; i += 64)
        _mm512_store_si512(copied + i, _mm512_xor_si512(_mm512_load_si512(copied + i), _mm512_set1_epi8(-128)));
    const TileRun run = one ? TileRun(1, (lines - 1) * row_step + width, 0, l.quads, l.step)
                            : TileRun(lines, width, g.stride[1] * pitch, l.quads, l.step);
    if (!ready || shape != run.tile_rows) run.configure();
    ready = true, shape = run.tile_rows;
    for (int64_t panel = p0; panel < p1; ++panel) {
      point_at(&t, p, panel, p1);
      tile_blocks(run, {0, run.tiles, 0, run.m}, t, copied, line * row_step, panel, multiply<decltype(pending)>,
                  pending);
    }
    line += lines;
  }
  pending.all();
  _tile_release();
}

}  // namespace

void qgemm_run_amx(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const QGemmLayout& l = *p.layout;
  if (p.lines) return run_lines(p, m0, m1, p0, p1);
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
  const int64_t rows_at_once = near(l, p.ldc * element(*p.epilogue), run.copies < pointed ? run.copies : pointed);
  const int64_t chunks = run.chunks(rows_at_once);
  const __m512i flip = _mm512_set1_epi32(static_cast<int>(p.a_flip));

  auto finish = [&](const char* at, int64_t panel, int64_t row, int64_t n) { finish_rows(p, at, panel, m0 + row, n); };
  TilePending<decltype(finish)> pending(finish);
  TileBlock t;
  t.units = l.quads;
  t.step = l.step;
  t.sums = sums;
  t.hops = nullptr;
  for (int64_t i = 0; i < chunks; ++i) {
    const TileRun::Chunk chunk = run.chunk(i, chunks);
    p.rows->fill(p.rows, m0 + chunk.start, chunk.rows, pointers, chunk.rows);
    const uint8_t* a = pointers[0] + p.a_shift;
    if (!one_tap || !evenly_spaced(pointers, chunk.rows, &t.lda)) {
      t.lda = run.pitch;
      a = copied;
      for (int64_t tap = 0; tap < l.taps; ++tap)
        copy_rows(copied + tap * k4, run.pitch, pointers + tap * chunk.rows, p.a_shift, chunk.rows, k4, flip);
    }
    for (int64_t panel = p0; panel < p1; ++panel) {
      point_at(&t, p, panel, p1);
      tile_blocks(run, chunk, t, a, 0, panel, multiply<decltype(pending)>, pending);
    }
  }
  pending.all();
  _tile_release();
}

}  // namespace dk
