// qmatmul: 8-bit matrix products.  A constant B is packed once, with the sums of its columns; any other B per run.
#include <cstring>

#include "ops/broadcast.h"
#include "ops/q_util.h"

namespace dk {
extern const OpList ops_qmatmul;

namespace {

namespace A = attr::qmatmul_;
constexpr QResultAttrs kResult = {A::y_zero_point, A::low, A::high, A::dtype};
constexpr QResidualAttrs kResidual = {A::mid_scale, A::mid_low, A::mid_high, A::residual_scale, A::residual_zero_point};
enum Input { kA, kB, kMultiplier, kBias, kAdded };

struct State {
  int64_t m, k, n, batch;  // of one product; number of products
  bool one_b;              // the same B for all rows
  bool ta;
  QEpilogue e;
  QOperand a;
  int32_t b_zero;  // of packed B
  const QGemmKernels* gemm;
  QGemmLayout layout;
  QGemmSource from;                            // strides and flip
  int64_t a_step[kMaxRank], b_step[kMaxRank];  // matrices, per batch dim
  int rank;
  size_t weights_bytes, numbers;
  const char* packed;  // B, sums, bias, multiplier, column_zero
  size_t packed_at, a_at, sums_at;
};

size_t up(size_t n) { return (n + kSlack + 63) / 64 * 64; }

Status infer(OpContext& c) {
  const Tensor &a = *c.in(kA), &b = *c.in(kB), &m = *c.in(kMultiplier);
  DK_TRY(expect_bytes(c, "a", &a));
  DK_TRY(expect_bytes(c, "b", &b));
  if (m.dtype != DType::f32)
    return c.fail(Code::shape, "multiplier has dtype %s; expected float32", dtype_name(m.dtype));
  if (c.in(kBias) && c.in(kBias)->dtype != DType::s32)
    return c.fail(Code::shape, "bias has dtype %s; expected int32", dtype_name(c.in(kBias)->dtype));
  if (a.rank < 2 || b.rank < 2)
    return c.fail(Code::shape, "ranks of a and b are %d and %d; expected 2 or more", a.rank, b.rank);
  DType t;
  DK_TRY(result_of(c, kResult, true, &t));
  DK_TRY(expect_zero_point(c, "x_zero_point", A::x_zero_point, a.dtype));
  DK_TRY(expect_zero_point(c, "b_zero_point", A::b_zero_point, b.dtype));
  DK_TRY(check_residual(c, kResidual, c.in(kAdded)));
  const bool ta = c.attr_int(A::transpose_a), tb = c.attr_int(A::transpose_b);
  const int64_t rows = a.dims[a.rank - (ta ? 1 : 2)], k = a.dims[a.rank - (ta ? 2 : 1)];
  const int64_t kb = b.dims[b.rank - (tb ? 1 : 2)], n = b.dims[b.rank - (tb ? 2 : 1)];
  if (k != kb)
    return c.fail(Code::shape, "inner sizes differ: %lld and %lld", static_cast<long long>(k),
                  static_cast<long long>(kb));
  Tensor batch[2] = {a, b};
  batch[0].rank = static_cast<uint8_t>(a.rank - 2);
  batch[1].rank = static_cast<uint8_t>(b.rank - 2);
  const Tensor* both[2] = {&batch[0], &batch[1]};
  int64_t dims[kMaxRank];
  int rank;
  DK_TRY(broadcast_shapes(c, both, 2, dims, &rank));
  if (rank + 2 > kMaxRank)
    return c.fail(Code::shape, "the result has rank %d; expected at most %d", rank + 2, kMaxRank);
  dims[rank] = rows;
  dims[rank + 1] = n;
  const int64_t one = 1;
  DK_TRY(expect_dims(c, "multiplier", &m, 1, m.rank == 1 && m.dims[0] == 1 ? &one : &n));
  DK_TRY(expect_dims(c, "bias", c.in(kBias), 1, &n));
  DK_TRY(expect_dims(c, "residual", c.in(kAdded), rank + 2, dims));
  return c.set_out(0, t, rank + 2, dims);
}

struct Parts {
  int8_t* weights;
  int32_t *sums, *bias, *column_zero;
  float* multiplier;
};

Parts parts_of(const State& s, char* p) {
  Parts t;
  t.weights = reinterpret_cast<int8_t*>(p);
  p += up(s.weights_bytes);
  t.sums = reinterpret_cast<int32_t*>(p);
  p += up(s.numbers);
  t.bias = reinterpret_cast<int32_t*>(p);
  p += up(s.numbers);
  t.multiplier = reinterpret_cast<float*>(p);
  p += up(s.numbers);
  t.column_zero = reinterpret_cast<int32_t*>(p);
  return t;
}

size_t parts_bytes(const State& s) { return up(s.weights_bytes) + 4 * up(s.numbers); }

void make_parts(const OpContext& c, const State& s, const uint8_t* b, char* to) {
  const Parts t = parts_of(s, to);
  memset(t.sums, 0, 4 * up(s.numbers));
  QGemmSource from = s.from;
  from.b = b;
  c.parallel(s.layout.count(), 1 + 65536 / (s.layout.quads * s.layout.main.nr * 4 + 1),
             [&](int64_t p0, int64_t p1, int) { qgemm_pack(s.layout, from, t.weights, t.sums, p0, p1); });
  fold_zero_point(c.in(kBias) ? c.in(kBias)->as<int32_t>() : nullptr, t.sums, s.a.zero, s.n, t.bias);
  const Tensor& m = *c.in(kMultiplier);
  const int64_t step = m.count() == 1 ? 0 : 1;
  for (int64_t i = 0; i < s.n; ++i) {
    t.multiplier[i] = m.as<float>()[i * step];
    t.column_zero[i] = -s.b_zero;
  }
}

Status prepare(OpContext& c) {
  const Tensor &a = *c.in(kA), &b = *c.in(kB), &y = *c.out(0);
  State* state;
  DK_TRY(c.make_state(&state));
  State& s = *state;
  if (y.count() == 0) return Code::ok;
  s.ta = c.attr_int(A::transpose_a);
  const bool tb = c.attr_int(A::transpose_b);
  s.m = y.dims[y.rank - 2];
  s.n = y.dims[y.rank - 1];
  s.k = a.dims[a.rank - (s.ta ? 2 : 1)];
  s.rank = y.rank - 2;
  s.batch = 1;
  int64_t an = 1, bn = 1;
  for (int i = s.rank - 1; i >= 0; --i) {
    const int ia = i + a.rank - y.rank, ib = i + b.rank - y.rank;
    const int64_t da = ia >= 0 ? a.dims[ia] : 1, db = ib >= 0 ? b.dims[ib] : 1;
    s.a_step[i] = da == 1 ? 0 : an;
    s.b_step[i] = db == 1 ? 0 : bn;
    an *= da;
    bn *= db;
    s.batch *= y.dims[i];
  }
  s.one_b = bn == 1;
  if (s.one_b && an == s.batch && !s.ta) {  // one product with all rows
    s.m *= s.batch;
    s.batch = 1;
    s.rank = 0;
  }
  s.e = QEpilogue();
  set_result(c, kResult, y.dtype, &s.e);
  set_residual(c, kResidual, c.in(kAdded), &s.e);
  s.gemm = qgemm_kernels();
  s.a = operand_of(a.dtype, c.attr_int(A::x_zero_point), s.gemm->a_signed);
  s.layout = qgemm_layout(s.gemm, 1, s.k, s.n);
  s.from = {nullptr, 0, tb ? 1 : s.n, tb ? s.k : 1, static_cast<uint8_t>(b.dtype == DType::u8 ? 0x80 : 0)};
  s.b_zero = static_cast<int32_t>(c.attr_int(A::b_zero_point)) - (b.dtype == DType::u8 ? 128 : 0);
  s.weights_bytes = s.layout.bytes();
  s.numbers = static_cast<size_t>(s.layout.padded()) * 4;
  c.note("q_matmul", static_cast<uint64_t>(2.0 * static_cast<double>(y.count()) * static_cast<double>(s.k)));

  ScratchPlan scratch;
  const bool fixed = s.one_b && c.is_const(kB) && c.is_const(kMultiplier) && (!c.in(kBias) || c.is_const(kBias));
  if (fixed) {
    DK_TRY(expect_multipliers(c, *c.in(kMultiplier)));
    s.e.small = small_multipliers(*c.in(kMultiplier));
    void* p;
    bool fresh;
    DK_TRY(c.packed(0x100, parts_bytes(s), &p, &fresh));
    s.packed = static_cast<const char*>(p);
    if (fresh) make_parts(c, s, b.as<uint8_t>(), static_cast<char*>(p));
  } else {
    s.packed_at = scratch.take(static_cast<int64_t>(parts_bytes(s) / 4 + 1));
  }
  if (s.ta) s.a_at = scratch.take(s.m * s.k / 4 + 1 + static_cast<int64_t>(kSlack));
  if (s.b_zero) s.sums_at = scratch.take(s.m);
  return c.need_scratch(scratch.bytes);
}

void one_product(const OpContext& c, const State& s, const Parts& t, const uint8_t* a, const uint8_t* residual, char* y,
                 int32_t* row_sums, bool is_signed) {
  QEpilogue e = s.e;
  e.multiplier = t.multiplier;
  e.residual = residual;
  e.ldr = s.n;
  if (s.b_zero) {
    const int32_t zero = static_cast<int32_t>(c.attr_int(A::x_zero_point));
    c.parallel(s.m, 1 + 32768 / (s.k + 1), [&](int64_t b, int64_t end, int) {
      for (int64_t i = b; i < end; ++i) {
        const uint8_t* row = a + i * s.k;
        uint32_t sum = 0;
        for (int64_t q = 0; q < s.k; ++q)
          sum += static_cast<uint32_t>((is_signed ? static_cast<int8_t>(row[q]) : row[q]) - zero);
        row_sums[i] = static_cast<int32_t>(sum);
      }
    });
    e.row_sum = row_sums;
    e.column_zero = t.column_zero;
  }
  const QGemmMatrix rows(a, s.k);
  QGemmProblem p = {};
  p.kernels = s.gemm;
  p.layout = &s.layout;
  p.m = s.m;
  p.rows = &rows;
  p.a_flip = s.a.flip;
  p.packed = t.weights;
  p.bias = t.bias;
  p.c = y;
  p.ldc = s.n;
  p.epilogue = &e;
  const QGemmSplit split = qgemm_split(p, c.threads());
  c.parallel(split.units, split.grain, [&](int64_t b, int64_t end, int) { qgemm_run_units(p, split, b, end); });
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  const Tensor &a = *c.in(kA), &b = *c.in(kB);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  char* scratch = static_cast<char*>(c.scratch());
  char* packed = const_cast<char*>(s.packed);
  if (!packed) {
    DK_TRY(expect_multipliers(c, *c.in(kMultiplier)));
    packed = scratch + s.packed_at;
    if (s.one_b) make_parts(c, s, b.as<uint8_t>(), packed);
  }
  const Parts t = parts_of(s, packed);
  int64_t index[kMaxRank] = {0};
  int64_t ia = 0, ib = 0, done_b = -1;
  for (int64_t i = 0; i < s.batch; ++i) {
    if (!s.one_b && ib != done_b) {
      make_parts(c, s, b.as<uint8_t>() + ib * s.k * s.n, packed);
      done_b = ib;
    }
    const uint8_t* from = a.as<uint8_t>() + ia * s.m * s.k;
    if (s.ta) {
      uint8_t* to = reinterpret_cast<uint8_t*>(scratch + s.a_at);
      c.parallel(s.m, 1 + 16384 / (s.k + 1), [&](int64_t r0, int64_t r1, int) {
        for (int64_t r = r0; r < r1; ++r)
          for (int64_t q = 0; q < s.k; ++q) to[r * s.k + q] = from[q * s.m + r];
      });
      from = to;
    }
    const int64_t at = i * s.m * s.n;
    one_product(c, s, t, from, c.in(kAdded) ? c.in(kAdded)->as<uint8_t>() + at : nullptr,
                y.as<char>() + at * (s.e.floats ? 4 : 1), reinterpret_cast<int32_t*>(scratch + s.sums_at),
                a.dtype == DType::s8);
    for (int d = s.rank - 1; d >= 0; --d) {  // the next batch index
      ia += s.a_step[d];
      ib += s.b_step[d];
      if (++index[d] < y.dims[d]) break;
      ia -= s.a_step[d] * y.dims[d];
      ib -= s.b_step[d] * y.dims[d];
      index[d] = 0;
    }
  }
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::qmatmul_, infer, prepare, run},
};

}  // namespace

const OpList ops_qmatmul = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
