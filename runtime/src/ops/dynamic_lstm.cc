// dynamic_lstm: the input's share of the gates at all steps is one 8-bit product; each step quantizes the state and
// adds its product in the epilogue.
#include <cstring>

#include "kernels/recurrent/recurrent.h"
#include "ops/dynamic_util.h"
#include "ops/q_util.h"

namespace dk {
extern const OpList ops_dynamic_lstm;

namespace {

namespace A = attr::dynamic_lstm_;
enum Input { kX, kW, kR, kWScale, kRScale, kB, kH0, kC0 };

size_t up(size_t n) { return (n + kSlack + 63) / 64 * 64; }

// One packed matrix of one direction: weights, sums of columns, zeros, scales.
struct Matrix {
  QGemmLayout layout;
  size_t weights, numbers;  // bytes
  size_t bytes() const { return up(weights) + 3 * up(numbers); }
};

struct State {
  int64_t t, b, i, h;
  int dirs;
  bool reverse;
  const QGemmKernels* gemm;
  const GemmKernels* floats;
  const QuantizeKernels* quantize;
  const RecurrentKernels* cells;
  Matrix w, r;
  const char* packed;  // null: made at run
  size_t packed_at, q_at, scale_at, zero_at, range_at, gates_at, step_at, bias_at, h_at, c_at;
};

Status infer(OpContext& c) {
  const Tensor &x = *c.in(kX), &w = *c.in(kW), &r = *c.in(kR);
  for (int i = 0; i <= kC0; ++i) {
    const DType want = i == kW || i == kR ? DType::s8 : DType::f32;
    if (c.in(i) && c.in(i)->dtype != want)
      return c.fail(Code::shape, "input %d has dtype %s; expected %s", i, dtype_name(c.in(i)->dtype), dtype_name(want));
  }
  if (x.rank != 3 || r.rank != 3)
    return c.fail(Code::shape, "x and r have ranks %d and %d; expected 3", x.rank, r.rank);
  const int64_t d = c.attr_int(A::direction) == choice::dynamic_lstm_::direction::bidirectional_ ? 2 : 1;
  const int64_t h = r.dims[1];
  if (h > INT32_MAX / 16) return c.fail(Code::shape, "%lld hidden numbers are too many", static_cast<long long>(h));
  const int64_t w_dims[] = {d, x.dims[2], 4 * h}, r_dims[] = {d, h, 4 * h}, b_dims[] = {d, 8 * h},
                state[] = {d, x.dims[1], h}, y[] = {x.dims[0], d, x.dims[1], h};
  DK_TRY(expect_dims(c, "w", &w, 3, w_dims));
  DK_TRY(expect_dims(c, "r", &r, 3, r_dims));
  for (int i = kWScale; i <= kRScale; ++i) {
    const Tensor& s = *c.in(i);
    const int64_t want[] = {d, s.rank == 2 && s.dims[1] == 1 ? 1 : 4 * h};
    DK_TRY(expect_dims(c, i == kWScale ? "w_scale" : "r_scale", &s, 2, want));
  }
  DK_TRY(expect_dims(c, "b", c.in(kB), 2, b_dims));
  DK_TRY(expect_dims(c, "h0", c.in(kH0), 3, state));
  DK_TRY(expect_dims(c, "c0", c.in(kC0), 3, state));
  if (c.out(0)) DK_TRY(c.set_out(0, DType::f32, 4, y));
  if (c.out(1)) DK_TRY(c.set_out(1, DType::f32, 3, state));
  return c.out(2) ? c.set_out(2, DType::f32, 3, state) : Status();
}

struct Parts {
  int8_t* weights;
  int32_t *sums, *bias;
  float* scale;
};

Parts parts_of(const Matrix& m, char* p) {
  Parts t;
  t.weights = reinterpret_cast<int8_t*>(p);
  t.sums = reinterpret_cast<int32_t*>(p += up(m.weights));
  t.bias = reinterpret_cast<int32_t*>(p += up(m.numbers));
  t.scale = reinterpret_cast<float*>(p += up(m.numbers));
  return t;
}

void make_matrix(const Matrix& m, const Tensor& w, const Tensor& scale, int64_t d, char* to) {
  const Parts t = parts_of(m, to);
  memset(t.sums, 0, 3 * up(m.numbers));
  const int64_t k = m.layout.k, n = m.layout.n, step = scale.dims[1] == 1 ? 0 : 1;
  const QGemmSource from = {w.as<uint8_t>() + d * k * n, 0, n, 1, 0};
  qgemm_pack(m.layout, from, t.weights, t.sums, 0, m.layout.count());
  for (int64_t i = 0; i < n; ++i) t.scale[i] = scale.as<float>()[d * scale.dims[1] + i * step];
}

void make_parts(const OpContext& c, const State& s, char* to) {
  for (int64_t d = 0; d < s.dirs; ++d, to += s.w.bytes() + s.r.bytes()) {
    make_matrix(s.w, *c.in(kW), *c.in(kWScale), d, to);
    make_matrix(s.r, *c.in(kR), *c.in(kRScale), d, to + s.w.bytes());
  }
}

Matrix matrix_of(const QGemmKernels* kernels, int64_t k, int64_t n) {
  Matrix m;
  m.layout = qgemm_layout(kernels, 1, k, n);
  m.weights = m.layout.bytes();
  m.numbers = static_cast<size_t>(m.layout.padded()) * 4;
  return m;
}

Status prepare(OpContext& c) {
  const Tensor &x = *c.in(kX), &r = *c.in(kR);
  State* state;
  DK_TRY(c.make_state(&state));
  State& s = *state;
  s.t = x.dims[0];
  s.b = x.dims[1];
  s.i = x.dims[2];
  s.h = r.dims[1];
  s.dirs = static_cast<int>(r.dims[0]);
  s.reverse = c.attr_int(A::direction) == choice::dynamic_lstm_::direction::reverse_;
  if (s.b == 0 || s.h == 0) return Code::ok;
  s.gemm = qgemm_kernels();
  s.floats = gemm_kernels();
  s.quantize = quantize_kernels();
  s.cells = recurrent_kernels();
  s.w = matrix_of(s.gemm, s.i, 4 * s.h);
  s.r = matrix_of(s.gemm, s.h, 4 * s.h);
  const int64_t rows = s.t * s.b > s.b ? s.t * s.b : s.b, k = s.i > s.h ? s.i : s.h;
  ScratchPlan scratch;
  s.q_at = scratch.take(rows * k / 4 + 1);
  s.scale_at = scratch.take(rows);
  s.zero_at = scratch.take(rows);
  s.range_at = scratch.take(32 * c.threads());
  s.gates_at = scratch.take(s.t * s.b * 4 * s.h);
  s.step_at = scratch.take(s.b * 4 * s.h);
  s.bias_at = scratch.take(4 * s.h);
  s.h_at = scratch.take(s.b * s.h);
  s.c_at = scratch.take(s.b * s.h);
  const size_t bytes = static_cast<size_t>(s.dirs) * (s.w.bytes() + s.r.bytes());
  if (c.is_const(kW) && c.is_const(kR) && c.is_const(kWScale) && c.is_const(kRScale)) {
    void* p;
    bool fresh;
    DK_TRY(c.packed(0x100, bytes, &p, &fresh));
    s.packed = static_cast<const char*>(p);
    if (fresh) make_parts(c, s, static_cast<char*>(p));
  } else {
    s.packed_at = scratch.take(static_cast<int64_t>(bytes / 4 + 1));
  }
  const double macs = static_cast<double>(s.t * s.b * s.dirs) * static_cast<double>(4 * s.h * (s.i + s.h));
  c.note("q_lstm", static_cast<uint64_t>(2.0 * macs));
  return c.need_scratch(scratch.bytes);
}

// Adds a vector, or rows of another matrix, to the stored tile.
struct Tail {
  const GemmKernels* floats;
  const float *bias, *rows;
  int64_t ldr;
};

void add_tail(const void* arg, const QGemmFinish* t) {
  const Tail& tail = *static_cast<const Tail*>(arg);
  GemmFinish f = {};
  f.c = static_cast<float*>(t->c);
  f.ldc = t->ldc;
  f.m = t->m;
  f.n = t->n;
  f.scale = 1.0f;
  f.bias = tail.bias ? tail.bias + t->column : nullptr;
  f.bias_col = 1;
  f.residual = tail.rows ? tail.rows + t->row * tail.ldr + t->column : nullptr;
  f.ldr = tail.ldr;
  tail.floats->finish(&f);
}

struct Room {
  uint8_t* q;
  float* scale;
  int32_t* zero;
  float* ranges;
};

// y = scaled product of m rows of x, quantized as one tensor, plus the tail.
void product(const OpContext& c, const State& s, const Matrix& matrix, const char* packed, const float* x, int64_t m,
             const Tail& tail, float* y, const Room& room) {
  const Parts t = parts_of(matrix, const_cast<char*>(packed));
  const int64_t k = matrix.layout.k, n = matrix.layout.n;
  dynamic_bytes(c, s.quantize, x, m, k, false, room.q, room.scale, room.zero, room.ranges);
  const QOperand a = operand_of(DType::u8, 0, s.gemm->a_signed);
  for (int64_t i = 0; i < m; ++i) room.zero[i] = -(room.zero[i] + a.zero);
  QEpilogue e;
  e.multiplier = t.scale;
  e.floats = true;
  e.row_sum = room.zero;
  e.column_zero = t.sums;
  e.row_scale = room.scale;
  if (tail.bias || tail.rows) {
    e.after = add_tail;
    e.arg = &tail;
  }
  const QGemmMatrix rows(room.q, k);
  QGemmProblem p = {};
  p.kernels = s.gemm;
  p.layout = &matrix.layout;
  p.m = m;
  p.rows = &rows;
  p.a_flip = a.flip;
  p.packed = t.weights;
  p.bias = t.bias;
  p.c = y;
  p.ldc = n;
  p.epilogue = &e;
  const QGemmSplit split = qgemm_split(p, c.threads());
  const bool at_once = m * n <= 16384;  // in L1: one pass over all tiles is cheaper than one call for each
  if (at_once) e.after = nullptr;
  c.parallel(split.units, split.grain, [&](int64_t b, int64_t end, int) { qgemm_run_units(p, split, b, end); });
  if (at_once && e.arg) {
    const QGemmFinish all = {nullptr, n, static_cast<int>(m), static_cast<int>(n), 0, 0, y, n, &e};
    add_tail(&tail, &all);
  }
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  if (s.b == 0 || s.h == 0) return Code::ok;
  char* scratch = static_cast<char*>(c.scratch());
  const char* packed = s.packed;
  if (!packed) {
    make_parts(c, s, scratch + s.packed_at);
    packed = scratch + s.packed_at;
  }
  auto part = [scratch](size_t at) { return reinterpret_cast<float*>(scratch + at); };
  const Room room = {reinterpret_cast<uint8_t*>(scratch + s.q_at), part(s.scale_at),
                     reinterpret_cast<int32_t*>(scratch + s.zero_at), part(s.range_at)};
  float *gates = part(s.gates_at), *step = part(s.step_at), *bias = part(s.bias_at), *h = part(s.h_at),
        *cell = part(s.c_at);
  const int64_t g = 4 * s.h, state = s.b * s.h;
  for (int64_t d = 0; d < s.dirs; ++d, packed += s.w.bytes() + s.r.bytes()) {
    const bool back = s.reverse || d == 1;
    if (c.in(kB)) {
      const float* b = c.in(kB)->as<float>() + d * 2 * g;
      for (int64_t i = 0; i < g; ++i) bias[i] = b[i] + b[g + i];
    }
    const Tail with_bias = {s.floats, c.in(kB) ? bias : nullptr, nullptr, 0};
    if (s.t) product(c, s, s.w, packed, c.in(kX)->as<float>(), s.t * s.b, with_bias, gates, room);
    for (int k = 0; k < 2; ++k) {
      float* to = k ? cell : h;
      const Tensor* from = c.in(k ? kC0 : kH0);
      if (from)
        memcpy(to, from->as<float>() + d * state, static_cast<size_t>(state) * 4);
      else
        memset(to, 0, static_cast<size_t>(state) * 4);
    }
    for (int64_t i = 0; i < s.t; ++i) {
      const int64_t t = back ? s.t - 1 - i : i;
      const Tail with_input = {s.floats, nullptr, gates + t * s.b * g, g};
      product(c, s, s.r, packed + s.w.bytes(), h, s.b, with_input, step, room);
      for (int64_t b = 0; b < s.b; ++b) s.cells->lstm(step + b * g, cell + b * s.h, h + b * s.h, s.h);
      if (c.out(0)) memcpy(c.out(0)->as<float>() + (t * s.dirs + d) * state, h, static_cast<size_t>(state) * 4);
    }
    if (c.out(1)) memcpy(c.out(1)->as<float>() + d * state, h, static_cast<size_t>(state) * 4);
    if (c.out(2)) memcpy(c.out(2)->as<float>() + d * state, cell, static_cast<size_t>(state) * 4);
  }
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::dynamic_lstm_, infer, prepare, run},
};

}  // namespace

const OpList ops_dynamic_lstm = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
