#include "ops/epilogue.h"

#include <cmath>

#include "base/convert.h"
#include "base/mem.h"

namespace dk {

Activation activation_of(const OpContext& c, const ActivationAttrs& attrs) {
  Activation a;
  a.kind = static_cast<int>(c.attr_int(attrs.act));
  a.alpha = c.attr_float(attrs.alpha);
  a.beta = c.attr_float(attrs.beta);
  a.after = attrs.after >= 0 && c.attr_int(attrs.after);
  return a;
}

static double softplus(double x) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x))); }
static double sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
// Like the vector forms: NaN stays.
static double clip(double x, double low, double high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

double activate(const Activation& a, double x) {
  const double alpha = a.alpha, beta = a.beta;
  switch (a.kind) {
    case 1: return x < 0 ? 0 : x;
    case 2: return clip(x, 0, 6);
    case 3: return clip(x, alpha, beta);
    case 4: return x < 0 ? x * alpha : x;
    case 5: return sigmoid(x);
    case 6: return std::tanh(x);
    case 7: return x * sigmoid(x);
    case 8: return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
    case 9: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case 10: return clip(alpha * x + beta, 0, 1);
    case 11: return x * clip(x / 6 + 0.5, 0, 1);
    case 12: return x > 0 ? x : alpha * std::expm1(x);
    case 13: return softplus(x);
    case 14: return x * std::tanh(softplus(x));
    default: return x;
  }
}

Status expect_dims(const OpContext& c, const char* what, const Tensor* t, int rank, const int64_t* dims) {
  if (!t) return Code::ok;
  if (t->rank != rank) return c.fail(Code::shape, "%s has the wrong rank; got %d, expected %d", what, t->rank, rank);
  for (int i = 0; i < rank; ++i)
    if (t->dims[i] != dims[i])
      return c.fail(Code::shape, "%s has the wrong size in dim %d; got %lld, expected %lld", what, i,
                    static_cast<long long>(t->dims[i]), static_cast<long long>(dims[i]));
  return Code::ok;
}

Status expect_dtype(const OpContext& c, const char* what, const Tensor* t) {
  if (t && t->dtype != c.in(0)->dtype)
    return c.fail(Code::shape, "%s has the wrong dtype; got %s, expected %s", what, dtype_name(t->dtype),
                  dtype_name(c.in(0)->dtype));
  return Code::ok;
}

constexpr int64_t kGrain = 16384;

void floats_from(const OpContext& c, const Tensor& from, float* to) {
  const char* p = from.as<char>();
  const int64_t size = static_cast<int64_t>(dtype_size(from.dtype));
  c.parallel(from.count(), kGrain,
             [=, &from](int64_t b, int64_t e, int) { load_wide(from.dtype, p + b * size, e - b, to + b); });
}

void floats_to(const OpContext& c, const float* from, Tensor& to) {
  char* p = to.as<char>();
  const int64_t size = static_cast<int64_t>(dtype_size(to.dtype));
  c.parallel(to.count(), kGrain,
             [=, &to](int64_t b, int64_t e, int) { store_wide(to.dtype, from + b, e - b, p + b * size); });
}

Status constant_floats(const OpContext& c, int i, const float** to, float** owned) {
  const Tensor& t = *c.in(i);
  *owned = nullptr;
  *to = t.as<float>();
  if (t.dtype == DType::f32) return Code::ok;
  *owned = static_cast<float*>(mem_alloc(static_cast<size_t>(t.count()) * 4));
  if (!*owned) return c.fail(Code::memory, "no memory to convert the weights");
  floats_from(c, t, *owned);
  *to = *owned;
  return Code::ok;
}

}  // namespace dk
