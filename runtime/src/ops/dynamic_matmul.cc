// dynamic_matmul: float32 rows are quantized to bytes, multiplied in integers, and scaled back in the tile.
#include <cstring>

#include "ops/dynamic_util.h"
#include "ops/q_util.h"

namespace dk {
extern const OpList ops_dynamic_matmul;

namespace {

namespace A = attr::dynamic_matmul_;
constexpr ActivationAttrs kAct = {A::act, A::act_alpha, A::act_beta, A::act_after};
enum Input { kX, kWeight, kScale, kBias, kAdded };

size_t up(size_t n) { return (n + kSlack + 63) / 64 * 64; }

struct State {
  int64_t m, k, n;
  bool per_row;
  Activation act;
  const QGemmKernels* gemm;
  const GemmKernels* floats;
  const QuantizeKernels* quantize;
  QGemmLayout layout;
  size_t weights_bytes, numbers;
  const char* packed;  // weights, sums of columns, scales
  size_t packed_at, q_at, scale_at, zero_at, range_at;
};

Status infer(OpContext& c) {
  const Tensor &x = *c.in(kX), &w = *c.in(kWeight), &s = *c.in(kScale);
  for (int i = 0; i < 5; ++i)
    if (i != kWeight && c.in(i) && c.in(i)->dtype != DType::f32)
      return c.fail(Code::shape, "input %d has dtype %s; expected float32", i, dtype_name(c.in(i)->dtype));
  if (w.dtype != DType::s8) return c.fail(Code::shape, "weight has dtype %s; expected int8", dtype_name(w.dtype));
  if (x.rank < 2 || w.rank != 2)
    return c.fail(Code::shape, "x has rank %d and weight %d; expected 2 or more, and 2", x.rank, w.rank);
  if (x.dims[x.rank - 1] != w.dims[0])
    return c.fail(Code::shape, "inner sizes differ: %lld and %lld", static_cast<long long>(x.dims[x.rank - 1]),
                  static_cast<long long>(w.dims[0]));
  int64_t dims[kMaxRank];
  for (int i = 0; i < x.rank; ++i) dims[i] = x.dims[i];
  dims[x.rank - 1] = w.dims[1];
  const int64_t one = 1;
  DK_TRY(expect_dims(c, "scale", &s, 1, s.rank == 1 && s.dims[0] == 1 ? &one : &w.dims[1]));
  DK_TRY(expect_dims(c, "bias", c.in(kBias), 1, &w.dims[1]));
  DK_TRY(expect_dims(c, "residual", c.in(kAdded), x.rank, dims));
  return c.set_out(0, DType::f32, x.rank, dims);
}

struct Parts {
  int8_t* weights;
  int32_t *sums, *bias;
  float* scale;
};

Parts parts_of(const State& s, char* p) {
  Parts t;
  t.weights = reinterpret_cast<int8_t*>(p);
  t.sums = reinterpret_cast<int32_t*>(p += up(s.weights_bytes));
  t.bias = reinterpret_cast<int32_t*>(p += up(s.numbers));  // zeros
  t.scale = reinterpret_cast<float*>(p += up(s.numbers));
  return t;
}

void make_parts(const OpContext& c, const State& s, char* to) {
  const Parts t = parts_of(s, to);
  memset(t.sums, 0, 3 * up(s.numbers));
  const QGemmSource from = {c.in(kWeight)->as<uint8_t>(), 0, s.n, 1, 0};
  c.parallel(s.layout.count(), 1 + 65536 / (s.layout.quads * s.layout.main.nr * 4 + 1),
             [&](int64_t p0, int64_t p1, int) { qgemm_pack(s.layout, from, t.weights, t.sums, p0, p1); });
  const Tensor& scale = *c.in(kScale);
  const int64_t step = scale.count() == 1 ? 0 : 1;
  for (int64_t i = 0; i < s.n; ++i) t.scale[i] = scale.as<float>()[i * step];
}

Status prepare(OpContext& c) {
  const Tensor &x = *c.in(kX), &w = *c.in(kWeight);
  State* state;
  DK_TRY(c.make_state(&state));
  State& s = *state;
  if (c.out(0)->count() == 0) return Code::ok;
  s.k = w.dims[0];
  s.n = w.dims[1];
  s.m = c.out(0)->count() / s.n;
  s.per_row = c.attr_int(A::per_row);
  s.act = activation_of(c, kAct);
  s.gemm = qgemm_kernels();
  s.floats = gemm_kernels();
  s.quantize = quantize_kernels();
  s.layout = qgemm_layout(s.gemm, 1, s.k, s.n);
  s.weights_bytes = s.layout.bytes();
  s.numbers = static_cast<size_t>(s.layout.padded()) * 4;
  c.note("q_dynamic",
         static_cast<uint64_t>(2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k)));
  ScratchPlan scratch;
  s.q_at = scratch.take(x.count() / 4 + 1);
  s.scale_at = scratch.take(s.m);
  s.zero_at = scratch.take(s.m);
  s.range_at = scratch.take(32 * c.threads());
  const size_t bytes = up(s.weights_bytes) + 3 * up(s.numbers);
  if (c.is_const(kWeight) && c.is_const(kScale)) {
    void* p;
    bool fresh;
    DK_TRY(c.packed(0x100, bytes, &p, &fresh));
    s.packed = static_cast<const char*>(p);
    if (fresh) make_parts(c, s, static_cast<char*>(p));
  } else {
    s.packed_at = scratch.take(static_cast<int64_t>(bytes / 4 + 1));
  }
  return c.need_scratch(scratch.bytes);
}

struct Tail {
  const State* s;
  const float *bias, *residual;
};

void finish_tile(const void* arg, const QGemmFinish* t) {
  const Tail& tail = *static_cast<const Tail*>(arg);
  const State& s = *tail.s;
  GemmFinish f = {};
  f.c = static_cast<float*>(t->c);
  f.ldc = t->ldc;
  f.m = t->m;
  f.n = t->n;
  f.scale = 1.0f;
  f.bias = tail.bias ? tail.bias + t->column : nullptr;
  f.bias_col = 1;
  f.act = s.act.kind;
  f.alpha = s.act.alpha;
  f.beta = s.act.beta;
  f.residual = tail.residual ? tail.residual + t->row * s.n + t->column : nullptr;
  f.ldr = s.n;
  f.residual_first = s.act.after;
  s.floats->finish(&f);
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  char* scratch = static_cast<char*>(c.scratch());
  char* packed = const_cast<char*>(s.packed);
  if (!packed) {
    packed = scratch + s.packed_at;
    make_parts(c, s, packed);
  }
  const Parts t = parts_of(s, packed);
  uint8_t* q = reinterpret_cast<uint8_t*>(scratch + s.q_at);
  float* scale = reinterpret_cast<float*>(scratch + s.scale_at);
  int32_t* zero = reinterpret_cast<int32_t*>(scratch + s.zero_at);
  dynamic_bytes(c, s.quantize, c.in(kX)->as<float>(), s.m, s.k, s.per_row, q, scale, zero,
                reinterpret_cast<float*>(scratch + s.range_at));
  const QOperand a = operand_of(DType::u8, 0, s.gemm->a_signed);
  for (int64_t i = 0; i < s.m; ++i) zero[i] = -(zero[i] + a.zero);
  const Tail tail = {&s, c.in(kBias) ? c.in(kBias)->as<float>() : nullptr,
                     c.in(kAdded) ? c.in(kAdded)->as<float>() : nullptr};
  QEpilogue e;
  e.multiplier = t.scale;
  e.floats = true;
  e.row_sum = zero;
  e.column_zero = t.sums;
  e.row_scale = scale;
  if (tail.bias || tail.residual || s.act.kind) {
    e.after = finish_tile;
    e.arg = &tail;
  }
  const QGemmMatrix rows(q, s.k);
  QGemmProblem p = {};
  p.kernels = s.gemm;
  p.layout = &s.layout;
  p.m = s.m;
  p.rows = &rows;
  p.a_flip = a.flip;
  p.packed = t.weights;
  p.bias = t.bias;
  p.c = y.data;
  p.ldc = s.n;
  p.epilogue = &e;
  const QGemmSplit split = qgemm_split(p, c.threads());
  c.parallel(split.units, split.grain, [&](int64_t b, int64_t end, int) { qgemm_run_units(p, split, b, end); });
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::dynamic_matmul_, infer, prepare, run},
};

}  // namespace

const OpList ops_dynamic_matmul = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
