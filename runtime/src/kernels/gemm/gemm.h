// fp32 matrix product core: C = epilogue(A * B), used by matmul and every dense convolution.
//
// B is packed in panels of nr columns, [taps * k][nr], zero-padded to whole panels, 64-byte aligned.  A is never
// copied: each row of it is given by one pointer per tap, to k contiguous floats (a plain matrix has one tap; a
// convolution has one per kernel position, and points at a row of zeros where the kernel hangs over the border).  This
// is the indirect convolution of Dukhan, "The Indirect Convolution Algorithm" (2019).
//
// A tile is mr x nr numbers of C held in registers: acc starts at zero, then for every tap and k, in this order in
// every tile of an ISA, acc += a * b; the bias comes last.  So a result does not depend on tile, blocking or thread.
// Starting at the bias costs one add less, but every partial sum is then rounded at the bias's magnitude: with batch
// norm folded in, biases are large, and a 41-layer network was 3x further from double precision (9.7e-5, now 3.3e-5).
//
// Over-read: B panels and bias are read in whole panels (padded by the packer).  A is not over-read.  C is written, and
// the residual read, only where it exists.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

struct GemmTile {
  int64_t taps, k;
  const float* const* a;  // row i of tap t is a[t * a_stride + i] + a_shift
  int64_t a_stride;
  int64_t a_shift;
  const float* b;  // row r of B is b + r * ldb; ldb = nr when packed
  int64_t ldb;
  const float* bias;  // nr floats
  float* c;
  int64_t ldc;
  int n;                  // columns to store, 1..nr
  const float* residual;  // null, or added: row i at residual + i * ldr
  int64_t ldr;
  bool residual_first;  // before the clamp
  float low, high;      // clamp; infinities when there is none
  const char* ahead;    // what is fetched into L2 meanwhile: one line at each k, ahead_step bytes apart
  int64_t ahead_step;
};

// What is left for tiles whose epilogue is more than bias, clamp and residual; runs on the stored tile while it is in
// L1:
//   x = scale * c + bias;  act(x) + residual, or act(x + residual) when residual_first
struct GemmFinish {
  float* c;
  int64_t ldc;
  int m, n;
  float scale;
  const float* bias;  // null, or element (i, j) at i * bias_row + j * bias_col
  int64_t bias_row, bias_col;
  int act;  // index in ACTIVATIONS of deploykit/ops/activation.py
  float alpha, beta;
  const float* residual;  // null, or row i at residual + i * ldr
  int64_t ldr;
  bool residual_first;
};

typedef void (*GemmTileFn)(const GemmTile*);

struct GemmShape {
  int mr, nr;            // 0, 0: this set has no such shape
  const GemmTileFn* fn;  // fn[m - 1] computes m rows, 1 <= m <= mr
};

struct GemmProblem;

struct GemmKernels {
  // By columns: one, two and three vectors wide.  Panels are main; the last one is whatever pads least.
  GemmShape narrow, main, wide;
  // One row times `panels` (1..4) packed main panels at once, `panel_stride` floats apart: the tile with m = 1 has too
  // few accumulators to hide the latency of the additions.  t->n counts over all panels.
  void (*row)(const GemmTile* t, int panels, int64_t panel_stride);
  void (*finish)(const GemmFinish*);
  // Copies columns of B into one panel: element (r, j) of B is at b + r * row + j * col; columns n..nr-1 become zeros.
  void (*pack)(float* panel, const float* b, int64_t rows, int n, int nr, int64_t row, int64_t col);
  // Sets that round both operands to bfloat16 (below), else null.
  void (*run)(const GemmProblem&, int64_t m0, int64_t m1, int64_t p0, int64_t p1) = nullptr;
  // n floats to bfloat16; an odd number is followed by a zero.
  void (*round)(uint8_t* to, const float* from, int64_t n) = nullptr;
};

const GemmKernels* gemm_kernels();  // for this CPU
// For this CPU where it multiplies bfloat16 many times faster than float32 (tile registers), else null.  A and B are
// rounded to bfloat16, sums are float32, two terms at a time.  B is packed in pairs of rows, [taps][ceil(k /
// 2)][nr][2], with zeros behind k and the last tap; it cannot be read in place.
const GemmKernels* gemm_fast_kernels();
// Is a product with B = [taps * k, n] of a form that they take, and large enough to gain?
bool gemm_fast_takes(int64_t taps, int64_t k, int64_t n);

// ---- layout of packed B
struct GemmLayout {
  int64_t n = 0;                      // columns
  int64_t rows = 0;                   // taps * k; of sets that round: pairs of rows, rounded up to whole tiles
  int64_t step = 0, taps = 0, k = 0;  // of sets that round: rows of a tile; what `rows` holds
  int64_t panels = 0;                 // main panels, then at most one `last`
  GemmShape main, last;
  bool has_last = false;

  __attribute__((always_inline)) int64_t count() const { return panels + (has_last ? 1 : 0); }
  __attribute__((always_inline)) const GemmShape& shape(int64_t p) const { return p < panels ? main : last; }
  __attribute__((always_inline)) int64_t column(int64_t p) const { return p * main.nr; }
  __attribute__((always_inline)) int columns(int64_t p) const {
    return p < panels ? main.nr : static_cast<int>(n - panels * main.nr);
  }
  __attribute__((always_inline)) int64_t padded() const { return panels * main.nr + (has_last ? last.nr : 0); }
  __attribute__((always_inline)) size_t bytes() const { return static_cast<size_t>(padded() * rows) * sizeof(float); }
};

GemmLayout gemm_layout(const GemmKernels* kernels, int64_t rows, int64_t n);
// The same for any set, those that round included, of B = [taps * k, n].
GemmLayout gemm_layout_taps(const GemmKernels* kernels, int64_t taps, int64_t k, int64_t n);

// Packs panels [p0, p1) of B to `packed` (the start of the whole buffer).  Element (r, j) at b + r * row + j * col.
void gemm_pack(const GemmKernels* kernels, const GemmLayout& layout, float* packed, const float* b, int64_t row,
               int64_t col, int64_t p0, int64_t p1);

// ---- epilogue of a whole product
struct GemmEpilogue {
  const float* bias = nullptr;  // layout.padded() floats (zeros when there is none); may not be null
  const float* residual = nullptr;
  int64_t ldr = 0;
  bool residual_first = false;
  float low = -__builtin_inff(), high = __builtin_inff();
  bool finish = false;  // the members below count
  float scale = 1.0f;
  const float* bias2 = nullptr;  // added after the scale
  int64_t bias2_row = 0, bias2_col = 0;
  int act = 0;
  float alpha = 0, beta = 0;
};

// Sets act, its parameters and the choice between clamp and finish.
void gemm_set_activation(GemmEpilogue* e, int act, float alpha, float beta);

// Where the rows of A are: writes, for rows m0 .. m0+m of tap t, the pointers to[t * stride + i].
struct GemmRows {
  void (*fill)(const GemmRows* self, int64_t m0, int64_t m, const float** to, int64_t stride);
};

// Rows of a plain matrix.
struct GemmMatrix : GemmRows {
  const float* a;
  int64_t lda;
  GemmMatrix(const float* a, int64_t lda);
};

constexpr int kGemmMaxPointers = 1024;  // row pointers gathered at once, on the stack

struct GemmProblem {
  const GemmKernels* kernels;
  const GemmLayout* layout;
  int64_t m, taps, k;
  const GemmRows* rows;
  int64_t a_shift = 0;
  const float* packed = nullptr;  // panels, or
  const float* b = nullptr;       // B itself, rows ldb apart (only when gemm_in_place says so)
  int64_t ldb = 0;
  float* c;
  int64_t ldc;
  const GemmEpilogue* epilogue;
  // Of sets that round: A is bfloat16 already, k and a_shift count pairs; and memory of the calling thread as in
  // qgemm.h.
  bool a_rounded = false;
  void* room = nullptr;
  int64_t room_bytes = 0;
};

// Bytes of room that sets that round can use for each of `threads` that share m rows; 0: no use.
int64_t gemm_room(const GemmLayout& layout, int64_t m, int threads);

// What the epilogue leaves for m x n numbers of C from (row, column) on, once they are stored.
GemmFinish gemm_finish_of(const GemmProblem& p, int64_t row, int64_t column, int64_t m, int n);

// May B, k x n with contiguous rows, be read without packing?  Needs no more than kSlack bytes behind its end.
bool gemm_in_place(const GemmLayout& layout);

// Computes rows [m0, m1) and panels [p0, p1).
void gemm_run(const GemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1);

// The parts of gemm_fast_kernels in gemm_x86_amx.cc.
void gemm_round_amx(uint8_t* to, const float* from, int64_t n);
void gemm_run_amx(const GemmProblem& p, int64_t m0, int64_t m1, int64_t p0, int64_t p1);

// How to split the product among threads: units of work, and the part of it that units [u0, u1) are.
struct GemmSplit {
  bool by_panels;
  int64_t units;  // row blocks or panels
  int64_t grain;  // fewest units worth a thread
};
GemmSplit gemm_split(const GemmProblem& p, int threads);
void gemm_run_units(const GemmProblem& p, const GemmSplit& s, int64_t u0, int64_t u1);

}  // namespace dk
