#include "ops/q_util.h"

namespace dk {

static void range_of(DType t, int64_t* low, int64_t* high) {
  *low = t == DType::s8 ? -128 : 0;
  *high = t == DType::s8 ? 127 : 255;
}

Status expect_bytes(const OpContext& c, const char* what, const Tensor* t) {
  if (t && !is_byte(t->dtype))
    return c.fail(Code::shape, "%s has dtype %s; expected int8 or uint8", what, dtype_name(t->dtype));
  return Code::ok;
}

Status expect_zero_point(const OpContext& c, const char* what, int attr, DType t) {
  int64_t low, high;
  range_of(t, &low, &high);
  const int64_t z = c.attr_int(attr);
  if (z < low || z > high)
    return c.fail(Code::shape, "%s is %lld; expected %lld to %lld, the range of %s", what, static_cast<long long>(z),
                  static_cast<long long>(low), static_cast<long long>(high), dtype_name(t));
  return Code::ok;
}

static bool fits(float v) { return v >= -0x1p64f && v <= 0x1p64f; }  // false for NaN

Status expect_scale(const OpContext& c, const char* what, int attr) {
  if (!fits(c.attr_float(attr)))
    return c.fail(Code::shape, "%s is %g; expected a finite number, at most 2^64 in size", what,
                  static_cast<double>(c.attr_float(attr)));
  return Code::ok;
}

Status expect_multipliers(const OpContext& c, const Tensor& t) {
  const float* v = t.as<float>();
  for (int64_t i = 0, n = t.count(); i < n; ++i)
    if (!fits(v[i]))
      return c.fail(Code::shape, "multiplier %lld is %g; expected a finite number, at most 2^64 in size",
                    static_cast<long long>(i), static_cast<double>(v[i]));
  return Code::ok;
}

bool small_multipliers(const Tensor& t) {
  const float* v = t.as<float>();
  for (int64_t i = 0, n = t.count(); i < n; ++i)
    if (!(v[i] >= -0.5f && v[i] <= 0.5f)) return false;
  return true;
}

Status result_of(const OpContext& c, const QResultAttrs& a, bool floats, DType* to) {
  DType t = static_cast<DType>(c.attr_int(a.dtype));
  if (t == DType::none) t = c.in(0)->dtype;
  *to = t;
  if (floats && t == DType::f32) return Code::ok;
  if (!is_byte(t))
    return c.fail(Code::shape, "the result would be %s; expected int8%s", dtype_name(t),
                  floats ? ", uint8 or float32" : " or uint8");
  DK_TRY(expect_zero_point(c, "y_zero_point", a.zero_point, t));
  int64_t low, high;
  range_of(t, &low, &high);
  if (c.attr_int(a.low) > low) low = c.attr_int(a.low);
  if (c.attr_int(a.high) < high) high = c.attr_int(a.high);
  if (low > high)
    return c.fail(Code::shape, "low and high are %lld and %lld; expected a range that meets that of %s",
                  static_cast<long long>(c.attr_int(a.low)), static_cast<long long>(c.attr_int(a.high)), dtype_name(t));
  return Code::ok;
}

void set_result(const OpContext& c, const QResultAttrs& a, DType t, QEpilogue* e) {
  e->floats = t == DType::f32;
  if (e->floats) return;
  int64_t low, high;
  range_of(t, &low, &high);
  if (c.attr_int(a.low) > low) low = c.attr_int(a.low);
  if (c.attr_int(a.high) < high) high = c.attr_int(a.high);
  const int32_t shift = shift_of(t);
  e->zero = static_cast<int32_t>(c.attr_int(a.zero_point)) + shift;
  e->low = static_cast<int32_t>(low) + shift;
  e->high = static_cast<int32_t>(high) + shift;
  e->flip = flip_of(t);
}

Status check_residual(const OpContext& c, const QResidualAttrs& a, const Tensor* residual) {
  DK_TRY(expect_bytes(c, "residual", residual));
  if (residual) DK_TRY(expect_zero_point(c, "residual_zero_point", a.residual_zero_point, residual->dtype));
  DK_TRY(expect_scale(c, "mid_scale", a.mid_scale));
  DK_TRY(expect_scale(c, "residual_scale", a.residual_scale));
  const int64_t low = c.attr_int(a.mid_low), high = c.attr_int(a.mid_high);
  if (low < -(1 << 20) || high > 1 << 20 || low > high)
    return c.fail(Code::shape, "mid_low and mid_high are %lld and %lld; expected an ascending pair within +-2^20",
                  static_cast<long long>(low), static_cast<long long>(high));
  return Code::ok;
}

void set_residual(const OpContext& c, const QResidualAttrs& a, const Tensor* residual, QEpilogue* e) {
  e->mid_scale = c.attr_float(a.mid_scale);
  e->mid = e->mid_scale != 0.0f;
  e->mid_low = static_cast<float>(c.attr_int(a.mid_low));
  e->mid_high = static_cast<float>(c.attr_int(a.mid_high));
  e->residual_scale = c.attr_float(a.residual_scale);
  if (!residual) return;
  e->residual_zero = static_cast<int32_t>(c.attr_int(a.residual_zero_point)) + shift_of(residual->dtype);
  e->residual_flip = flip_of(residual->dtype);
}

QOperand operand_of(DType t, int64_t zero_point, bool a_signed) {
  const bool turn = (t == DType::s8) != a_signed;
  const int32_t shift = !turn ? 0 : a_signed ? -128 : 128;
  return {static_cast<int32_t>(zero_point) + shift, turn ? 0x80808080u : 0u};
}

void fold_zero_point(const int32_t* bias, const int32_t* sums, int32_t zero, int64_t n, int32_t* to) {
  for (int64_t i = 0; i < n; ++i)
    to[i] = static_cast<int32_t>((bias ? static_cast<uint32_t>(bias[i]) : 0u) -
                                 static_cast<uint32_t>(zero) * static_cast<uint32_t>(sums[i]));
}

}  // namespace dk
