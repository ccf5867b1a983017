// qadd, qmul, qlut: elementwise ops on bytes.
#include "kernels/qelementwise/qelementwise.h"
#include "ops/broadcast.h"
#include "ops/q_util.h"

namespace dk {
extern const OpList ops_qelementwise;

namespace {

constexpr int64_t kGrain = 32768;

constexpr QResultAttrs kAdd = {attr::qadd_::y_zero_point, attr::qadd_::low, attr::qadd_::high, attr::qadd_::dtype};
constexpr QResultAttrs kMul = {attr::qmul_::y_zero_point, attr::qmul_::low, attr::qmul_::high, attr::qmul_::dtype};

Status binary_infer(OpContext& c, const QResultAttrs& r, int a_zero, int b_zero) {
  DK_TRY(expect_bytes(c, "a", c.in(0)));
  DK_TRY(expect_bytes(c, "b", c.in(1)));
  DK_TRY(expect_zero_point(c, "a_zero_point", a_zero, c.in(0)->dtype));
  DK_TRY(expect_zero_point(c, "b_zero_point", b_zero, c.in(1)->dtype));
  DType t;
  DK_TRY(result_of(c, r, false, &t));
  const Tensor* both[2] = {c.in(0), c.in(1)};
  int64_t dims[kMaxRank];
  int rank;
  DK_TRY(broadcast_shapes(c, both, 2, dims, &rank));
  return c.set_out(0, t, rank, dims);
}

Status add_infer(OpContext& c) {
  namespace A = attr::qadd_;
  DK_TRY(expect_scale(c, "a_scale", A::a_scale));
  DK_TRY(expect_scale(c, "b_scale", A::b_scale));
  return binary_infer(c, kAdd, A::a_zero_point, A::b_zero_point);
}

Status mul_infer(OpContext& c) {
  namespace A = attr::qmul_;
  DK_TRY(expect_scale(c, "multiplier", A::multiplier));
  return binary_infer(c, kMul, A::a_zero_point, A::b_zero_point);
}

Status binary_run(OpContext& c, const QResultAttrs& r, int a_zero, int b_zero, void (*kernel)(const QBinary*),
                  float a_scale, float b_scale) {
  const Tensor &a = *c.in(0), &b = *c.in(1);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  QEpilogue e;
  set_result(c, r, y.dtype, &e);
  QBinary base = {};
  base.a_flip = flip_of(a.dtype);
  base.b_flip = flip_of(b.dtype);
  base.y_flip = e.flip;
  base.a_zero = static_cast<int32_t>(c.attr_int(a_zero)) + shift_of(a.dtype);
  base.b_zero = static_cast<int32_t>(c.attr_int(b_zero)) + shift_of(b.dtype);
  base.y_zero = e.zero;
  base.low = e.low;
  base.high = e.high;
  base.a_scale = a_scale;
  base.b_scale = b_scale;
  const Tensor* both[2] = {&a, &b};
  Broadcast plan;
  plan_broadcast(&plan, both, 2, y);
  const void* data[2] = {a.data, b.data};
  c.parallel(plan.count, kGrain, [&](int64_t from, int64_t to, int) {
    each_part(plan, data, from, to, [&](const Part& part) {
      QBinary t = base;
      t.a = static_cast<const uint8_t*>(part.in[0]);
      t.b = static_cast<const uint8_t*>(part.in[1]);
      t.a_step = part.step[0];
      t.b_step = part.step[1];
      t.n = part.n;
      t.y = y.as<uint8_t>() + part.at;
      kernel(&t);
    });
  });
  return Code::ok;
}

Status add_run(OpContext& c) {
  namespace A = attr::qadd_;
  return binary_run(c, kAdd, A::a_zero_point, A::b_zero_point, qelementwise_kernels()->add, c.attr_float(A::a_scale),
                    c.attr_float(A::b_scale));
}

Status mul_run(OpContext& c) {
  namespace A = attr::qmul_;
  return binary_run(c, kMul, A::a_zero_point, A::b_zero_point, qelementwise_kernels()->mul, c.attr_float(A::multiplier),
                    0.0f);
}

Status lut_infer(OpContext& c) {
  DK_TRY(expect_bytes(c, "x", c.in(0)));
  const Tensor& t = *c.in(1);
  if (!is_byte(t.dtype) && t.dtype != DType::f32)
    return c.fail(Code::shape, "table has dtype %s; expected int8, uint8 or float32", dtype_name(t.dtype));
  const int64_t n = 256;
  DK_TRY(expect_dims(c, "table", &t, 1, &n));
  return c.set_out(0, t.dtype, c.in(0)->rank, c.in(0)->dims);
}

Status lut_run(OpContext& c) {
  const uint8_t* x = c.in(0)->as<uint8_t>();
  Tensor& y = *c.out(0);
  const QElementwiseKernels* k = qelementwise_kernels();
  if (y.dtype == DType::f32) {
    const float* table = c.in(1)->as<float>();
    float* to = y.as<float>();
    c.parallel(y.count(), kGrain, [&](int64_t b, int64_t e, int) {
      for (int64_t i = b; i < e; ++i) to[i] = table[x[i]];
    });
    return Code::ok;
  }
  const uint8_t* table = c.in(1)->as<uint8_t>();
  uint8_t* to = y.as<uint8_t>();
  c.parallel(y.count(), kGrain, [&](int64_t b, int64_t e, int) { k->lut(x + b, table, to + b, e - b); });
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::qadd_, add_infer, nullptr, add_run},
    {Opcode::qmul_, mul_infer, nullptr, mul_run},
    {Opcode::qlut_, lut_infer, nullptr, lut_run},
};

}  // namespace

const OpList ops_qelementwise = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
