// 8-bit matrix product core: C = requantize(A * B + bias), used by qmatmul, every dense qconv and the dynamic products.
//
// A is bytes, in place, one pointer per row and tap as in kernels/gemm (indirect convolution).  B is packed in panels
// of nr columns, [taps][ceil(k / 4)][nr][4] signed bytes, zeros behind k and, for sets with tile registers, behind the
// last tap; 64-byte aligned.  A tile is mr x nr int32 sums; four terms per instruction (simd/dot.h).  Sums are exact,
// so results do not depend on tile, ISA or thread.
//
// Bytes of A are read in the ISA's own sign (QGemmKernels::a_signed); `a_flip` turns the other one into it.  The zero
// point of A is handled by the bias that the packer makes: bias - zero * (sum of the column of B).
//
// Over-read: up to 63 bytes behind the k bytes of a row (times zero), whole panels of B, bias and multiplier.  C is
// written, and the residual read, only where it exists (residual: up to 64 bytes behind the end of the tensor).
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

// From int32 sums to the result, defined in deploykit/ops/quantized.py:
//   v = float(acc) * multiplier;  mid: v = clip(round(v), mid_low, mid_high) * mid_scale;
//   residual: v += float(r - residual_zero) * residual_scale;  y = clip(round(v) + zero, low, high)
// Signed bytes are handled as unsigned ones 128 higher; *_flip is 0x80 for them, 0 else.
struct QEpilogue {
  const float* multiplier = nullptr;  // one per column, padded to whole panels
  bool small = false;                 // no multiplier is above 1/2, so sums times them convert to int32
  bool floats = false;                // the result is float32: v itself
  bool ints = false;                  // the result is the int32 sums
  bool mid = false;
  float mid_scale = 0, mid_low = 0, mid_high = 0;
  const uint8_t* residual = nullptr;
  int64_t ldr = 0;
  float residual_scale = 0;
  int32_t residual_zero = 0;
  uint8_t residual_flip = 0;
  int32_t zero = 0, low = 0, high = 255;
  uint8_t flip = 0;
  // For a B with a zero point of its own, or an A with one per row: acc += row_sum[i] * column_zero[j].
  const int32_t* row_sum = nullptr;
  const int32_t* column_zero = nullptr;
  // Float results: v = float(acc) * (row_scale[i] * multiplier[j]), then `after` on the stored tile.
  const float* row_scale = nullptr;
  void (*after)(const void* arg, const struct QGemmFinish* tile) = nullptr;
  const void* arg = nullptr;
};

// The epilogue of m x n sums.
struct QGemmFinish {
  const int32_t* acc;
  int64_t lda;
  int m, n;
  int64_t row, column;  // of the first element, in the whole product
  void* c;              // of the first element
  int64_t ldc;          // elements
  const QEpilogue* e;
};

struct QGemmTile {
  int64_t taps, k;
  const uint8_t* const* a;  // row i of tap t is a[t * a_stride + i] + a_shift
  int64_t a_stride, a_shift;
  uint32_t a_flip;  // 0 or 0x80808080
  const int8_t* b;
  const int32_t* bias;  // nr numbers, where the sums start
  const int16_t* wide;  // of pairs: rows of wide_k numbers, in place of a
  int64_t wide_k;
  int32_t* acc;               // rows of nr numbers; or
  const QGemmFinish* finish;  // the usual epilogues, done at once (qgemm_plain, qgemm_added)
  bool added;
};

typedef void (*QGemmTileFn)(const QGemmTile*);

struct QGemmShape {
  int mr, nr;
  const QGemmTileFn* fn;  // fn[m - 1] computes m rows, 1 <= m <= mr
};

struct QGemmProblem;

struct QGemmKernels {
  QGemmShape narrow, main;  // one and two vectors of columns
  bool a_signed;
  // 16-bit numbers of k bytes of m rows of A, k a multiple of four.  Null for sets that take bytes.
  void (*widen)(int16_t* to, int64_t stride, const uint8_t* const* from, int64_t shift, int64_t m, int64_t k,
                uint32_t flip);
  void (*finish)(const QGemmFinish*);
  // Adds the bias of its columns to the sums of a block, then does the epilogue; the sums may change.
  void (*finish_biased)(const QGemmFinish*, int32_t* acc, const int32_t* bias);
  // Sets with tile registers: most quads of k that a tile takes at once (0: none), and a run of their own.
  int tile_quads;
  void (*run)(const QGemmProblem&, int64_t m0, int64_t m1, int64_t p0, int64_t p1);
};

// The epilogues that tiles do by themselves: bytes without more, and bytes of a rounded product plus a residual.
__attribute__((always_inline)) inline bool qgemm_plain(const QEpilogue& e) {
  return e.small && !e.floats && !e.ints && !e.mid && !e.residual && !e.row_sum;
}
__attribute__((always_inline)) inline bool qgemm_added(const QEpilogue& e) {
  return !e.floats && e.mid && e.residual && !e.row_sum;
}

const QGemmKernels* qgemm_kernels();  // for this CPU

constexpr int kQGemmMaxTile = 24 * 32;  // sums of the largest tile

// ---- packed B
struct QGemmLayout {
  int64_t n = 0, taps = 0, k = 0;
  int64_t quads = 0;   // taps * ceil(k / 4), rounded up to whole tiles
  int64_t step = 0;    // quads of one tile, for sets with tile registers
  int64_t panels = 0;  // main panels, then at most one `last`
  QGemmShape main, last;
  bool has_last = false;
  bool pairs = false;  // of terms side by side, not quads: for sets that widen

  __attribute__((always_inline)) int64_t count() const { return panels + (has_last ? 1 : 0); }
  __attribute__((always_inline)) const QGemmShape& shape(int64_t p) const { return p < panels ? main : last; }
  __attribute__((always_inline)) int64_t column(int64_t p) const { return p * main.nr; }
  __attribute__((always_inline)) int columns(int64_t p) const {
    return p < panels ? main.nr : static_cast<int>(n - panels * main.nr);
  }
  __attribute__((always_inline)) int64_t padded() const { return panels * main.nr + (has_last ? last.nr : 0); }
  __attribute__((always_inline)) size_t bytes() const { return static_cast<size_t>(padded() * quads * 4); }
};

QGemmLayout qgemm_layout(const QGemmKernels* kernels, int64_t taps, int64_t k, int64_t n);

// Where element (tap, r, j) of B is: b + tap * tap_stride + r * row + j * col.
struct QGemmSource {
  const uint8_t* b;
  int64_t tap_stride, row, col;
  uint8_t flip;  // 0x80 for unsigned bytes: packed as b - 128
};

// Packs panels [p0, p1) to `packed` (the start of the whole buffer) and writes the sums of their packed columns.
void qgemm_pack(const QGemmLayout& layout, const QGemmSource& from, int8_t* packed, int32_t* sums, int64_t p0,
                int64_t p1);

// ---- products
struct QGemmRows {
  void (*fill)(const QGemmRows* self, int64_t m0, int64_t m, const uint8_t** to, int64_t stride);
};

struct QGemmMatrix : QGemmRows {
  const uint8_t* a;
  int64_t lda;
  QGemmMatrix(const uint8_t* a, int64_t lda);
};

constexpr int kQGemmMaxPointers = 1024;

struct ConvGeometry;

// A two-dimensional convolution for sets with tile registers: its rows are pixels, and instead of copying the input of
// every row they copy a few lines of x, padded with `zero`, and multiply from there.  See qgemm_takes_lines.
struct QGemmLines {
  const ConvGeometry* g;
  bool runs;  // a tap is a whole row of the kernel
  const uint8_t* x;
  uint8_t zero;
};

struct QGemmProblem {
  const QGemmKernels* kernels;
  const QGemmLayout* layout;
  int64_t m;
  const QGemmRows* rows;
  const QGemmLines* lines = nullptr;  // the same rows, where the set takes them so
  int64_t a_shift = 0;
  uint32_t a_flip = 0;
  const int8_t* packed;
  const int32_t* bias;  // layout.padded() numbers, zero point of A included
  void* c;
  int64_t ldc;
  const QEpilogue* epilogue;
  void* room = nullptr;  // of the calling thread, qgemm_room bytes, 64-byte aligned; null: less, on the stack
  int64_t room_bytes = 0;
};

// Bytes that sets with tile registers can use for copied rows, for each of `threads` that share m rows; 0: no use.
int64_t qgemm_room(const QGemmKernels* kernels, const QGemmLayout& layout, int64_t m, int threads);

// Whether rows of this convolution of one group can be taken as lines; then no step of the layout crosses taps.
bool qgemm_takes_lines(const QGemmKernels* kernels, QGemmLayout* layout, const ConvGeometry& g);

// Computes rows [m0, m1) and panels [p0, p1); of lines, whole ones.
void qgemm_run(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1);
// The same by vectors, whatever the set: what sets with tile registers do with few rows.
void qgemm_run_vectors(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1);

// The run of x86_amx (qgemm_x86_amx.cc).
void qgemm_run_amx(const QGemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1);

struct QGemmSplit {
  bool by_panels;
  int64_t units, grain;
  int64_t rows;  // of a unit that is not a panel
};
QGemmSplit qgemm_split(const QGemmProblem& p, int threads);
void qgemm_run_units(const QGemmProblem& p, const QGemmSplit& s, int64_t u0, int64_t u1);

}  // namespace dk
