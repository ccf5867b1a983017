#include "kernels/qgemm/qgemm.h"

#include <cstring>

#include "base/cpu.h"
#include "kernels/qgemm/qrows.h"
#include "simd/tile_room.h"

namespace dk {

DK_DOT_SETS(qgemm, QGemmKernels)
#if defined(__x86_64__)
const QGemmKernels* qgemm_x86_amx();
const QGemmKernels* qgemm_kernels() { return best_dot_isa() == DotIsa::x86_amx ? qgemm_x86_amx() : DK_PICK_DOT(qgemm); }
#else
const QGemmKernels* qgemm_kernels() { return DK_PICK_DOT(qgemm); }
#endif

constexpr int64_t kWide = 32 << 10;  // numbers that are widened at once, on the stack

QGemmLayout qgemm_layout(const QGemmKernels* kernels, int64_t taps, int64_t k, int64_t n) {
  QGemmLayout l;
  l.n = n;
  l.taps = taps;
  l.k = k;
  l.quads = taps * ((k + 3) / 4);
  if (kernels->tile_quads && l.quads > 0) {
    // As few tiles as possible, all alike: less than one quad of zeros for each.
    const int64_t tiles = (l.quads + kernels->tile_quads - 1) / kernels->tile_quads;
    l.step = (l.quads + tiles - 1) / tiles;
    l.quads = l.step * tiles;
  }
  l.pairs = kernels->widen != nullptr;
  l.main = kernels->main;
  l.panels = n / l.main.nr;
  const int64_t rest = n - l.panels * l.main.nr;
  l.has_last = rest > 0;
  l.last = rest <= kernels->narrow.nr ? kernels->narrow : kernels->main;
  return l;
}

// Where term r of column j of a panel of nr columns is.
static int64_t packed_at(bool pairs, int64_t r, int64_t j, int64_t nr) {
  return pairs ? (r / 2 * nr + j) * 2 + r % 2 : (r / 4 * nr + j) * 4 + r % 4;
}

// Up to kColumns columns of k contiguous bytes each, four at a time to every nr-th quad; their sums are added up.  By
// lines of 64 bytes, so that what is read and written stays in L1.
constexpr int kColumns = 8;
template <bool Pairs>
static void pack_columns(const uint8_t* b, int64_t col, int n, int64_t k, uint8_t flip, int64_t nr, int8_t* to,
                         int32_t* sums) {
  const uint32_t turn = flip * 0x01010101u;
  const int64_t whole = k / 4 * 4;
  for (int64_t r0 = 0; r0 < whole; r0 += 64) {
    const int64_t r1 = r0 + 64 < whole ? r0 + 64 : whole;
    for (int64_t r = r0; r < r1; r += 4)
      for (int j = 0; j < n; ++j) {
        uint32_t quad;
        std::memcpy(&quad, b + j * col + r, 4);
        quad ^= turn;
        if constexpr (Pairs) {
          const uint16_t first = static_cast<uint16_t>(quad), second = static_cast<uint16_t>(quad >> 16);
          std::memcpy(to + r * nr + j * 2, &first, 2);
          std::memcpy(to + (r + 2) * nr + j * 2, &second, 2);
        } else {
          std::memcpy(to + r * nr + j * 4, &quad, 4);
        }
      }
  }
  for (int j = 0; j < n; ++j) {
    const uint8_t* column = b + j * col;
    for (int64_t r = whole; r < k; ++r) to[packed_at(Pairs, r, j, nr)] = static_cast<int8_t>(column[r] ^ flip);
    int32_t sum = 0;
    for (int64_t r = 0; r < k; ++r) sum += static_cast<int8_t>(column[r] ^ flip);
    sums[j] += sum;
  }
}

void qgemm_pack(const QGemmLayout& layout, const QGemmSource& from, int8_t* packed, int32_t* sums, int64_t p0,
                int64_t p1) {
  const int64_t k4 = (layout.k + 3) / 4;
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t column = layout.column(p);
    const int nr = layout.shape(p).nr, n = layout.columns(p);
    int8_t* panel = packed + column * layout.quads * 4;
    std::memset(panel, 0, static_cast<size_t>(nr * layout.quads * 4));
    std::memset(sums + column, 0, static_cast<size_t>(nr) * sizeof(int32_t));
    for (int64_t t = 0; t < layout.taps; ++t) {
      const uint8_t* b = from.b + t * from.tap_stride + column * from.col;
      int8_t* to = panel + t * k4 * nr * 4;
      if (from.row == 1) {
        for (int j = 0; j < n; j += kColumns) {
          const auto pack = layout.pairs ? pack_columns<true> : pack_columns<false>;
          pack(b + j * from.col, from.col, n - j < kColumns ? n - j : kColumns, layout.k, from.flip, nr,
               to + j * (layout.pairs ? 2 : 4), sums + column + j);
        }
        continue;
      }
      for (int64_t r = 0; r < layout.k; ++r, b += from.row)
        for (int j = 0; j < n; ++j) {
          const int8_t v = static_cast<int8_t>(b[j * from.col] ^ from.flip);
          to[packed_at(layout.pairs, r, j, nr)] = v;
          sums[column + j] += v;
        }
    }
  }
}

static void fill_matrix(const QGemmRows* self, int64_t m0, int64_t m, const uint8_t** to, int64_t) {
  const QGemmMatrix* a = static_cast<const QGemmMatrix*>(self);
  const uint8_t* row = a->a + m0 * a->lda;
  for (int64_t i = 0; i < m; ++i, row += a->lda) to[i] = row;
}

QGemmMatrix::QGemmMatrix(const uint8_t* a, int64_t lda) : QGemmRows{fill_matrix}, a(a), lda(lda) {}

// Rows that go through all panels before the next ones: they stay in L1 or L2, and a panel is read once per chunk.
static int64_t chunk_rows(const QGemmProblem& p) {
  const int64_t row_bytes = p.layout->quads * 4;
  const int mr = p.layout->main.mr;
  int64_t rows = (p.layout->pairs ? kWide : 64 << 10) / (row_bytes > 0 ? row_bytes : 1);
  if (p.layout->pairs)
    rows -= rows > mr ? rows % mr : 0;
  else if (rows < 2 * mr)
    rows = 2 * mr;
  const int64_t most = kQGemmMaxPointers / p.layout->taps;
  if (rows > most) rows = most;
  return rows < 1 ? 1 : rows;
}

void qgemm_run(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  if (p.kernels->run) return p.kernels->run(p, m0, m1, p0, p1);
  qgemm_run_vectors(p, m0, m1, p0, p1);
}

// Terms [k0, k1) of m rows, all taps of a row in one, as 16-bit numbers; both are multiples of four.
static void widen_rows(const QGemmProblem& p, const uint8_t* const* rows, int64_t tap_stride, int64_t m, int64_t k0,
                       int64_t k1, int16_t* to) {
  const int64_t k4 = (p.layout->k + 3) / 4 * 4, stride = k1 - k0;
  if (stride == 0) return;  // no terms at all: k4 is 0 as well
  for (int64_t k = k0, t = k0 / k4; k < k1; ++t) {
    const int64_t end = (t + 1) * k4 < k1 ? (t + 1) * k4 : k1;
    p.kernels->widen(to + (k - k0), stride, rows + t * tap_stride, p.a_shift + (k - t * k4), m, end - k, p.a_flip);
    k = end;
  }
}

template <bool Pairs>
static void run_tiles(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const QGemmLayout& l = *p.layout;
  const QEpilogue& e = *p.epilogue;
  if (l.taps > kQGemmMaxPointers) __builtin_trap();  // callers split such kernels
  const uint8_t* pointers[kQGemmMaxPointers];
  alignas(64) int32_t acc[kQGemmMaxTile];
  alignas(64) int16_t wide[Pairs ? kWide + 32 : 1];
  const int64_t chunk = chunk_rows(p), chunks = (m1 - m0 + chunk - 1) / chunk;
  const int64_t element = e.floats || e.ints ? 4 : 1;

  QGemmTile t;
  t.taps = l.taps;
  t.k = l.k;
  t.a_shift = p.a_shift;
  t.a_flip = p.a_flip;
  t.acc = acc;
  const int64_t terms = l.quads * 4;
  t.wide_k = terms;
  QGemmFinish f;
  f.acc = acc;
  f.ldc = p.ldc;
  f.e = &e;
  t.added = qgemm_added(e);
  t.finish = t.added || qgemm_plain(e) ? &f : nullptr;
  for (int64_t ch = 0; ch < chunks; ++ch) {
    const int64_t c0 = m0 + (m1 - m0) * ch / chunks, c1 = m0 + (m1 - m0) * (ch + 1) / chunks;
    const int64_t rows = c1 - c0;
    p.rows->fill(p.rows, c0, rows, pointers, rows);
    t.a_stride = rows;
    if (Pairs && terms <= kWide) widen_rows(p, pointers, rows, rows, 0, terms, wide);
    for (int64_t panel = p0; panel < p1; ++panel) {
      const int64_t column = l.column(panel);
      const QGemmShape& shape = l.shape(panel);
      t.b = p.packed + column * l.quads * 4;
      t.bias = p.bias + column;
      f.lda = shape.nr;
      f.n = l.columns(panel);
      f.column = column;
      const int64_t blocks = (rows + shape.mr - 1) / shape.mr, least = rows / blocks, more = rows % blocks;
      for (int64_t block = 0, r0 = 0, r1; block < blocks; ++block, r0 = r1) {
        r1 = r0 + least + (block < more);
        t.a = pointers + r0;
        t.wide = wide + (Pairs && terms <= kWide ? r0 * terms : 0);
        f.m = static_cast<int>(r1 - r0);
        f.row = c0 + r0;
        f.c = static_cast<char*>(p.c) + ((c0 + r0) * p.ldc + column) * element;
        if (Pairs && terms > kWide) {  // one row, in parts that add up; widened again for every panel
          const QGemmTile whole = t;
          t.finish = nullptr;
          for (int64_t k = 0; k < terms; k += t.wide_k) {
            t.wide_k = terms - k < kWide ? terms - k : kWide;
            widen_rows(p, pointers + r0, rows, 1, k, k + t.wide_k, wide);
            if (k + t.wide_k == terms) t.finish = whole.finish;
            shape.fn[0](&t);
            t.b += t.wide_k * shape.nr;
            t.bias = acc;
          }
          t = whole;
        } else {
          shape.fn[f.m - 1](&t);
        }
        if (!t.finish) p.kernels->finish(&f);
      }
    }
  }
}

void qgemm_run_vectors(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
#if defined(__x86_64__)
  if (p.layout->pairs) return run_tiles<true>(p, m0, m1, p0, p1);
#endif
  run_tiles<false>(p, m0, m1, p0, p1);
}

int64_t qgemm_room(const QGemmKernels* kernels, const QGemmLayout& layout, int64_t m, int threads) {
  return kernels->run && layout.taps > 1 ? tile_room(layout.quads, m, threads) : 0;
}

bool qgemm_takes_lines(const QGemmKernels* kernels, QGemmLayout* l, const ConvGeometry& g) {
  constexpr int64_t kMost = 128 << 10;  // of copied lines, on the stack
  if (!kernels->run || l->step == 0 || l->taps < 2) return false;
  if (g.in[0] != 1 || g.kernel[0] != 1 || g.out[0] != 1) return false;
  const int64_t quads = (l->k + 3) / 4, parts = (quads + kernels->tile_quads - 1) / kernels->tile_quads;
  // More steps than the layout has cost more than copying rows.
  if (quads % parts || l->taps * parts > 3 * (l->quads / l->step) || l->taps * parts > kQGemmMaxPointers) return false;
  const ConvPadding padding(&g);
  if (!padding.modest() || padding.width * g.c > kMost || g.stride[2] * g.c > 1 << 20) return false;
  // Short lines become one of all pixels, those between the lines too; with strides there would be too many of these.
  const bool turns = g.stride[1] == 1 && g.stride[2] == 1;
  if (g.out[2] < (turns ? 5 : 10) || ((g.kernel[1] - 1) * g.dilation[1] + 1) * padding.width * g.c > kMost)
    return false;
  l->step = quads / parts;
  l->quads = l->taps * quads;
  return true;
}

QGemmSplit qgemm_split(const QGemmProblem& p, int threads) {
  const QGemmLayout& l = *p.layout;
  QGemmSplit s;
  s.rows = p.lines ? p.lines->g->out[2] : l.main.mr;
  const int64_t blocks = (p.m + s.rows - 1) / s.rows, panels = l.count();
  // Every thread reads all of what is not split: split the larger side, unless it has too few units to share evenly.
  s.by_panels = l.n > p.m;
  if (s.by_panels ? panels < 4 * threads && blocks > panels : blocks < 4 * threads && panels > blocks)
    s.by_panels = !s.by_panels;
  s.units = s.by_panels ? panels : blocks;
  // A thread needs about 2 us of work.
  const int64_t unit = l.quads * 4 * (s.by_panels ? p.m * l.main.nr : l.n * s.rows);
  s.grain = 1 + 400000 / (unit > 0 ? unit : 1);
  return s;
}

void qgemm_run_units(const QGemmProblem& p, const QGemmSplit& s, int64_t u0, int64_t u1) {
  if (s.by_panels) return qgemm_run(p, 0, p.m, u0, u1);
  const int64_t m1 = u1 * s.rows < p.m ? u1 * s.rows : p.m;
  qgemm_run(p, u0 * s.rows, m1, 0, p.layout->count());
}

}  // namespace dk
