// Products in tile registers (AMX, Intel 64 manual volume 1, chapter 18), of bytes or of bfloat16 pairs: both take four
// bytes of a row of A against four bytes of a column of B at a time, here called a unit.
//
// B lies in panels of 16, 32 or 48 columns, [units][columns][4 bytes], as vector kernels read them.  A tile reads rows
// of A at one distance: rows that do not lie so are first copied side by side.  Tile time goes with the number of rows:
// they are shared out evenly, and the last tile of a run overlaps the one before rather than being shorter, since one
// configuration serves the whole run.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace dk::simd {
namespace {

constexpr int kTileRows = 16, kTileColumns = 16;
constexpr int64_t kTileCopied = 144 << 10;  // bytes of rows side by side, on the stack, where the caller has no room
constexpr int kTileNumbers = 2 * kTileRows * 48;
constexpr int kTilePieces = 4;

// A block of one or two tiles of rows.
struct TileBlock {
  const uint8_t *a, *a2;  // of the first and second tile
  int64_t lda, units, step;
  const void* b;
  const char* next;     // what will be read after this panel, or null; fetched meanwhile, since panels come from L3
  int64_t fetch, part;  // where a block begins with it, and its bytes of every step
  void* sums;           // rows of `columns` numbers
  int columns;
  int64_t second;       // rows from the first tile to the second; 0: there is none
  const int32_t* hops;  // bytes from the A of a step to that of the next; null: steps follow each other
};

// Sums that wait for their epilogue.  It is done in pieces between the products of the next block, which may be one of
// another panel: tiles and vectors then work at the same time.  It comes before that block's own sums are stored: loads
// that alias earlier stores would wait for them.
template <class Finish>
struct TilePending {
  Finish finish;  // finish(sums, panel, row, n): n rows of sums of a panel, from row `row` on
  const char* sums = nullptr;
  int64_t panel = 0, row = 0, left = 0, piece = 0, row_bytes = 0;

  explicit TilePending(Finish f) : finish(f) {}
  void set(const char* at, int64_t p, int64_t first, int64_t n, int64_t bytes, int64_t steps) {
    const int64_t pieces = steps < kTilePieces ? steps : kTilePieces;
    sums = at, panel = p, row = first, left = n, row_bytes = bytes;
    piece = ((n + pieces - 1) / pieces + 3) / 4 * 4;
  }
  __attribute__((noinline)) void some() {
    const int64_t n = left < piece ? left : piece;
    finish(sums, panel, row, n);
    sums += n * row_bytes, row += n, left -= n;
  }
  void all() {
    while (left) some();
  }
};

struct TileRun {
  int64_t m, units, step;
  int64_t pitch;   // bytes from one copied row to the next
  int64_t copies;  // rows that fit side by side
  int64_t tiles, tile_rows;
  int64_t line_tiles, line_rows, line_bytes;  // tiles do not cross lines; a matrix is one line

  // Copied rows lie an odd number of cache lines apart, or all rows of a tile would share a few sets of the cache.  A
  // copy may write up to 63 bytes more than it should.  room: bytes for them.
  TileRun(int64_t m, int64_t units, int64_t step, int64_t room)
      : m(m), units(units), step(step), pitch(((units * 4 + 63) / 64 | 1) * 64), copies((room - 64) / pitch) {
    const int64_t most = copies < kTileRows ? (copies > 0 ? copies : 1) : kTileRows;
    tiles = (m + most - 1) / most;
    tile_rows = (m + tiles - 1) / tiles;
    line_tiles = tiles, line_rows = m, line_bytes = 0;
  }
  // Lines of `line_rows` rows in place.
  TileRun(int64_t lines, int64_t line_rows, int64_t line_bytes, int64_t units, int64_t step)
      : m(lines * line_rows),
        units(units),
        step(step),
        pitch(0),
        copies(0),
        line_rows(line_rows),
        line_bytes(line_bytes) {
    line_tiles = (line_rows + kTileRows - 1) / kTileRows;
    tile_rows = (line_rows + line_tiles - 1) / line_tiles;
    tiles = lines * line_tiles;
  }
  int64_t place(int64_t tile) const {  // in its line; the last tile of a line overlaps the one before
    const int64_t at = tile % line_tiles * tile_rows;
    return at < line_rows - tile_rows ? at : line_rows - tile_rows;
  }
  int64_t first_row(int64_t tile) const { return tile / line_tiles * line_rows + place(tile); }
  int64_t fresh_row(int64_t tile) const { return tile / line_tiles * line_rows + tile % line_tiles * tile_rows; }
  int64_t address(int64_t tile, int64_t lda) const { return tile / line_tiles * line_bytes + place(tile) * lda; }

  void configure() const {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      const bool c = i < 4, a = i == 4 || i == 5;
      config.rows[i] = static_cast<uint8_t>(c || a ? tile_rows : step);
      config.bytes[i] = static_cast<uint16_t>(a ? step * 4 : 64);
    }
    asm volatile("" : : "r"(&config) : "memory");  // g++ 12 believes that only the first bytes are read
    _tile_loadconfig(&config);
  }

  // Rows [start, end) of chunk `of` of tiles [t0, t1); the first ones before t0 * tile_rows only help the last tile.
  struct Chunk {
    int64_t t0, t1, start, rows;
  };
  int64_t chunks(int64_t rows_at_once) const {
    int64_t most = rows_at_once / tile_rows;
    if (most > 2) most -= most % 2;
    if (most < 1) most = 1;
    return (tiles + most - 1) / most;
  }
  Chunk chunk(int64_t i, int64_t of) const {
    Chunk c;
    c.t0 = tiles * i / of;
    c.t1 = tiles * (i + 1) / of;
    const int64_t end = c.t1 * tile_rows < m ? c.t1 * tile_rows : m;
    c.start = first_row(c.t0);
    c.rows = end - c.start;
    return c;
  }
};

// The blocks of a chunk against a panel; the epilogue of the last one is left to the next call or to pending.all().
// a: the first row of the chunk; base: added to the numbers of rows.
template <class Multiply, class Pending>
inline __attribute__((always_inline)) void tile_blocks(const TileRun& r, const TileRun::Chunk& chunk, TileBlock t,
                                                       const uint8_t* a, int64_t base, int64_t panel, Multiply multiply,
                                                       Pending& pending) {
  const int64_t start = r.address(chunk.t0, t.lda), blocks = (chunk.t1 - chunk.t0 + 1) / 2;
  t.part = t.next ? (t.step * t.columns * 4 + blocks * 64 - 1) / (blocks * 64) * 64 : 0;
  t.fetch = 0;
  for (int64_t i = chunk.t0; i < chunk.t1; i += 2) {
    const int64_t first = r.first_row(i), last = i + 1 < chunk.t1 ? r.first_row(i + 1) : first;
    t.a = a + (r.address(i, t.lda) - start);
    t.a2 = t.a;
    if (i + 1 < chunk.t1) t.a2 = a + (r.address(i + 1, t.lda) - start);
    t.second = last - first;
    multiply(t, pending);
    t.fetch += t.part * (t.units / t.step);
    const int64_t row = r.fresh_row(i), bytes = t.columns * 4;
    pending.set(static_cast<const char*>(t.sums) + (row - first) * bytes, panel, base + row, last + r.tile_rows - row,
                bytes, t.units / t.step);
  }
}

#define DK_TILE_PRODUCTS(name, dot)                                                                          \
  template <bool Two, bool Wide, class Pending>                                                              \
  inline __attribute__((always_inline)) void name##_part(const TileBlock& t, int column, Pending& pending) { \
    const int64_t ldb = t.columns * 4, lda = t.lda, tiles = t.units / t.step;                                \
    const uint8_t *a0 = t.a, *a1 = t.a2;                                                                     \
    const char *fetch = t.next + t.fetch, *end = fetch + (column == 0 ? t.part : 0);                         \
    const char* b = static_cast<const char*>(t.b) + column * 4;                                              \
    char *c0 = static_cast<char*>(t.sums) + column * 4, *c1 = c0 + t.second * ldb;                           \
    _tile_zero(0);                                                                                           \
    if (Wide) _tile_zero(1);                                                                                 \
    if (Two) _tile_zero(2);                                                                                  \
    if (Two && Wide) _tile_zero(3);                                                                          \
    for (int64_t i = 0; i < tiles; ++i) {                                                                    \
      _tile_loadd(6, b, ldb);                                                                                \
      _tile_loadd(4, a0, lda);                                                                               \
      dot(0, 4, 6);                                                                                          \
      if (Wide) {                                                                                            \
        _tile_loadd(7, b + kTileColumns * 4, ldb);                                                           \
        dot(1, 4, 7);                                                                                        \
      }                                                                                                      \
      if (Two) {                                                                                             \
        _tile_loadd(5, a1, lda);                                                                             \
        dot(2, 5, 6);                                                                                        \
        if (Wide) dot(3, 5, 7);                                                                              \
      }                                                                                                      \
      for (const char* f = fetch; f < end; f += 64) _mm_prefetch(f, _MM_HINT_T1);                            \
      fetch += t.part, end += t.part;                                                                        \
      const int64_t hop = t.hops ? t.hops[i] : t.step * 4;                                                   \
      a0 += hop;                                                                                             \
      a1 += hop;                                                                                             \
      b += t.step * ldb;                                                                                     \
      if (pending.left) pending.some();                                                                      \
    }                                                                                                        \
    _tile_stored(0, c0, ldb);                                                                                \
    if (Wide) _tile_stored(1, c0 + kTileColumns * 4, ldb);                                                   \
    if (Two) _tile_stored(2, c1, ldb);                                                                       \
    if (Two && Wide) _tile_stored(3, c1 + kTileColumns * 4, ldb);                                            \
  }                                                                                                          \
  template <class Pending>                                                                                   \
  inline void name(const TileBlock& t, Pending& p) {                                                         \
    int column = 0;                                                                                          \
    for (; column + 2 * kTileColumns <= t.columns; column += 2 * kTileColumns)                               \
      t.second ? name##_part<true, true>(t, column, p) : name##_part<false, true>(t, column, p);             \
    if (column >= t.columns) return;                                                                         \
    t.second ? name##_part<true, false>(t, column, p) : name##_part<false, false>(t, column, p);             \
  }

}  // namespace
}  // namespace dk::simd
