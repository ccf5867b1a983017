#include "kernels/gemm/gemm.h"

#include <cstring>

#include "base/convert.h"
#include "base/cpu.h"
#include "simd/tile_room.h"

namespace dk {

DK_KERNEL_SETS(gemm, GemmKernels)
const GemmKernels* gemm_kernels() { return DK_PICK_KERNELS(gemm); }

#if defined(__x86_64__)
const GemmKernels* gemm_x86_amx();
const GemmKernels* gemm_fast_kernels() {
  return best_dot_isa() == DotIsa::x86_amx && cpu_features().amx_bf16 ? gemm_x86_amx() : nullptr;
}
#else
const GemmKernels* gemm_fast_kernels() { return nullptr; }
#endif

bool gemm_fast_takes(int64_t taps, int64_t k, int64_t n) {
  // Pointers to 16 rows of every tap, and two rounded rows on the stack.
  return taps <= kGemmMaxPointers / 16 && taps * k >= 32 && taps * k <= 32768 && n >= 16;
}

GemmLayout gemm_layout(const GemmKernels* kernels, int64_t rows, int64_t n) {
  GemmLayout l;
  l.n = n;
  l.rows = rows;
  l.main = kernels->main;
  l.panels = n / l.main.nr;
  const int64_t rest = n - l.panels * l.main.nr;
  if (rest == 0) return l;
  l.has_last = true;
  // The narrowest panel that holds the rest; a wide one swallows the last main panel, rather than one half empty.
  if (rest > kernels->narrow.nr) {
    l.last = kernels->main;
  } else if (l.panels > 0) {
    l.last = kernels->wide;
    --l.panels;
  } else {
    l.last = kernels->narrow;
  }
  return l;
}

GemmLayout gemm_layout_taps(const GemmKernels* kernels, int64_t taps, int64_t k, int64_t n) {
  if (!kernels->run) return gemm_layout(kernels, taps * k, n);
  constexpr int64_t kMost = 16;  // pairs of rows in a tile
  const int64_t pairs = taps * ((k + 1) / 2), tiles = (pairs + kMost - 1) / kMost;
  const int64_t step = tiles > 0 ? (pairs + tiles - 1) / tiles : 1;
  GemmLayout l = gemm_layout(kernels, tiles * step, n);
  l.step = step;
  l.taps = taps;
  l.k = k;
  return l;
}

// One panel of rounded pairs: element (r, j) of B is at b + r * row + j * col.
static void pack_pairs(const GemmLayout& l, float* panel, const float* b, int n, int nr, int64_t row, int64_t col) {
  uint16_t* to = reinterpret_cast<uint16_t*>(panel);
  std::memset(panel, 0, static_cast<size_t>(l.rows * nr) * sizeof(float));
  for (int64_t tap = 0; tap < l.taps; ++tap, b += l.k * row, to += (l.k + 1) / 2 * nr * 2)
    for (int64_t r = 0; r < l.k; ++r)
      for (int j = 0; j < n; ++j) to[(r / 2 * nr + j) * 2 + r % 2] = bf16_from_f32(b[r * row + j * col]);
}

void gemm_pack(const GemmKernels* kernels, const GemmLayout& layout, float* packed, const float* b, int64_t row,
               int64_t col, int64_t p0, int64_t p1) {
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t column = layout.column(p);
    if (layout.step) {
      pack_pairs(layout, packed + column * layout.rows, b + column * col, layout.columns(p), layout.shape(p).nr, row,
                 col);
      continue;
    }
    kernels->pack(packed + column * layout.rows, b + column * col, layout.rows, layout.columns(p), layout.shape(p).nr,
                  row, col);
  }
}

void gemm_set_activation(GemmEpilogue* e, int act, float alpha, float beta) {
  switch (act) {
    case 0: return;
    case 1: e->low = 0.0f; return;
    case 2: e->low = 0.0f, e->high = 6.0f; return;
    case 3: e->low = alpha, e->high = beta; return;
    default:
      e->finish = true;
      e->act = act;
      e->alpha = alpha;
      e->beta = beta;
  }
}

GemmFinish gemm_finish_of(const GemmProblem& p, int64_t row, int64_t column, int64_t m, int n) {
  const GemmEpilogue& e = *p.epilogue;
  GemmFinish f;
  f.c = p.c + row * p.ldc + column;
  f.ldc = p.ldc;
  f.m = static_cast<int>(m);
  f.n = n;
  f.scale = e.scale;
  f.bias = e.bias2 ? e.bias2 + row * e.bias2_row + column * e.bias2_col : nullptr;
  f.bias_row = e.bias2_row;
  f.bias_col = e.bias2_col;
  f.act = e.act;
  f.alpha = e.alpha;
  f.beta = e.beta;
  f.residual = e.residual ? e.residual + row * e.ldr + column : nullptr;
  f.ldr = e.ldr;
  f.residual_first = e.residual_first;
  return f;
}

static void fill_matrix(const GemmRows* self, int64_t m0, int64_t m, const float** to, int64_t) {
  const GemmMatrix* a = static_cast<const GemmMatrix*>(self);
  const float* row = a->a + m0 * a->lda;
  for (int64_t i = 0; i < m; ++i, row += a->lda) to[i] = row;
}

GemmMatrix::GemmMatrix(const float* a, int64_t lda) : GemmRows{fill_matrix}, a(a), lda(lda) {}

bool gemm_in_place(const GemmLayout& layout) {
  // The last row is read to the end of the last panel.
  return (layout.padded() - layout.n) * 4 <= 64;
}

// Rows of A that go through all panels before the next ones.
//
// Either few: B stays in L2 and is read from there for every tile, A is read once, and C is written in the order of its
// addresses.  Or, when B is large or the rows are soon through, as many as stay in L2 beside a panel: then every weight
// comes from far only once, and is fetched one panel ahead.
static int64_t chunk_rows(const GemmProblem& p, int64_t m, int64_t columns) {
  constexpr int64_t kSmallB = 256 << 10, kSmallA = 128 << 10, kMostA = 400 << 10;
  const int mr = p.layout->panels > 0 ? p.layout->main.mr : p.layout->last.mr;
  // Taps of neighbouring rows overlap; with stride 2 a row adds four pixels.
  const int64_t row_bytes = p.k * (p.taps < 4 ? p.taps : 4) * 4 + 1;
  int64_t rows = kMostA / row_bytes;
  if (columns * p.layout->rows * 4 <= kSmallB && m * row_bytes > kSmallA) rows = mr;
  if (rows < 2 * mr && rows != mr) rows = 2 * mr;
  const int64_t most = kGemmMaxPointers / (p.taps > 0 ? p.taps : 1);
  if (rows > most) rows = most;
  if (rows < 1) rows = 1;
  return rows;
}

// Rows per tile.  Rows that lie a multiple of 4 KB apart share one set of a typical L1 (8 ways of 64 sets): more than 8
// of them throw each other out at every step, so such tiles stay below that.  Results do not depend on it.
static int tile_rows(const GemmShape& shape, const float* const* a, int64_t rows) {
  if (rows < 2 || shape.mr <= 8) return shape.mr;
  return (reinterpret_cast<uintptr_t>(a[1]) - reinterpret_cast<uintptr_t>(a[0])) % 4096 ? shape.mr : 7;
}

void gemm_run(const GemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  if (p.layout->step) return p.kernels->run(p, m0, m1, p0, p1);
  const GemmLayout& l = *p.layout;
  const GemmEpilogue& e = *p.epilogue;
  if (p.taps > kGemmMaxPointers) __builtin_trap();  // callers split such kernels
  const float* pointers[kGemmMaxPointers];
  if (p0 >= p1) return;
  const int64_t columns = l.column(p1 - 1) + l.shape(p1 - 1).nr - l.column(p0);
  const int64_t chunk = chunk_rows(p, m1 - m0, columns);
  const int64_t chunks = (m1 - m0 + chunk - 1) / chunk;

  GemmTile t;
  t.taps = p.taps;
  t.k = p.k;
  t.a_shift = p.a_shift;
  t.ldc = p.ldc;
  t.ldr = e.ldr;
  t.low = e.finish ? -__builtin_inff() : e.low;
  t.high = e.finish ? __builtin_inff() : e.high;
  t.residual_first = e.residual_first;

  for (int64_t ch = 0; ch < chunks; ++ch) {
    const int64_t c0 = m0 + (m1 - m0) * ch / chunks, c1 = m0 + (m1 - m0) * (ch + 1) / chunks;
    const int64_t rows = c1 - c0;
    p.rows->fill(p.rows, c0, rows, pointers, rows);
    t.a_stride = rows;
    int64_t panel = p0;
    while (panel < p1) {
      const int64_t column = l.column(panel);
      const GemmShape& shape = l.shape(panel);
      t.b = p.packed ? p.packed + column * l.rows : p.b + column;
      t.ldb = p.packed ? shape.nr : p.ldb;
      t.bias = e.bias + column;
      int together = 1;  // panels
      if (rows == 1 && p.packed && panel < l.panels) {
        int64_t most = (p1 < l.panels ? p1 : l.panels) - panel;
        together = static_cast<int>(most < 4 ? most : 4);
      }
      t.n = together > 1 ? together * shape.nr : l.columns(panel);
      const int mr = tile_rows(shape, pointers, rows);
      const int64_t blocks = (rows + mr - 1) / mr, least = rows / blocks, more = rows % blocks;
      // Panels that have been through are in L2, unless they are too many.
      const bool fetch = p.packed && (ch == 0 || rows > 2 * mr) && blocks <= 32;
      t.ahead_step = fetch ? (shape.nr * 4 + blocks - 1) / blocks : 0;
      for (int64_t block = 0, r0 = 0, r1; block < blocks; ++block, r0 = r1) {
        r1 = r0 + least + (block < more);
        const int m = static_cast<int>(r1 - r0);
        t.a = pointers + r0;
        t.ahead = reinterpret_cast<const char*>(t.b) +
                  (fetch ? shape.nr * 4 * l.rows + block * l.rows * t.ahead_step : int64_t{0});
        t.c = p.c + (c0 + r0) * p.ldc + column;
        const float* residual = e.residual ? e.residual + (c0 + r0) * e.ldr + column : nullptr;
        t.residual = e.finish ? nullptr : residual;
        if (together > 1)
          p.kernels->row(&t, together, shape.nr * l.rows);
        else
          shape.fn[m - 1](&t);
        if (e.finish) {
          const GemmFinish f = gemm_finish_of(p, c0 + r0, column, m, t.n);
          p.kernels->finish(&f);
        }
      }
      panel += together;
    }
  }
}

int64_t gemm_room(const GemmLayout& layout, int64_t m, int threads) {
  return layout.step ? tile_room(layout.rows, m, threads) : 0;
}

GemmSplit gemm_split(const GemmProblem& p, int threads) {
  const GemmLayout& l = *p.layout;
  const int64_t blocks = (p.m + l.main.mr - 1) / l.main.mr, panels = l.count();
  GemmSplit s;
  // Every thread reads all of what is not split: split the larger side, unless it has too few units to share evenly.
  s.by_panels = l.n > p.m;
  if (s.by_panels ? panels < 4 * threads && blocks > panels : blocks < 4 * threads && panels > blocks)
    s.by_panels = !s.by_panels;
  s.units = s.by_panels ? panels : blocks;
  // A thread needs about 2 us of work: 150,000 multiply-adds; a third of that where B is read for one row only, which
  // takes as long as reading it (an LSTM step of 256 x 1024 takes 15 us).
  const int64_t unit = l.rows * (s.by_panels ? p.m * l.main.nr : l.n * l.main.mr);
  const int64_t worth = l.step     ? 600000
                        : p.m == 1 ? 50000
                                   : 150000;  // tiles count pairs, and are some four times as fast
  s.grain = 1 + worth / (unit > 0 ? unit : 1);
  return s;
}

void gemm_run_units(const GemmProblem& p, const GemmSplit& s, int64_t u0, int64_t u1) {
  if (s.by_panels) return gemm_run(p, 0, p.m, u0, u1);
  const int64_t mr = p.layout->main.mr;
  const int64_t m1 = u1 * mr < p.m ? u1 * mr : p.m;
  gemm_run(p, u0 * mr, m1, 0, p.layout->count());
}

}  // namespace dk
