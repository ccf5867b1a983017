// adam_update and gelu_gradient: one pass over memory each; float64 in plain loops.
#include <cmath>

#include "kernels/gradient/gradient.h"
#include "ops/broadcast.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

Status alike(OpContext& c, int first, int last) {
  const Tensor& x = *c.in(first);
  if (x.dtype != DType::f32 && x.dtype != DType::f64)
    return c.fail(Code::unsupported, "no kernel for dtype %s; train in float32 or float64", dtype_name(x.dtype));
  for (int i = first + 1; i <= last; ++i) {
    const Tensor& t = *c.in(i);
    DK_TRY(same_dtype(c, first, i));
    bool same = t.rank == x.rank;
    for (int d = 0; d < x.rank && same; ++d) same = t.dims[d] == x.dims[d];
    if (!same)
      return c.fail(Code::shape, "shape of input %d; got %s, expected %s", i, ShapeText(t).text, ShapeText(x).text);
  }
  return {};
}

Status adam_infer(OpContext& c) {
  DK_TRY(alike(c, 0, 3));
  DK_TRY(same_dtype(c, 0, 4));
  if (c.in(4)->rank != 0)
    return c.fail(Code::shape, "shape of rate; got %s, expected a scalar", ShapeText(*c.in(4)).text);
  for (int i = 0; i < 3; ++i) DK_TRY(c.set_out_like(i, *c.in(0)));
  return {};
}

// Element by element, for double and where a result is not wanted.
template <class T>
void adam_plain(OpContext& c, int64_t begin, int64_t end, double b1, double b2, double epsilon) {
  const T *p = c.in(0)->as<T>(), *m = c.in(1)->as<T>(), *v = c.in(2)->as<T>(), *g = c.in(3)->as<T>();
  const T rate = *c.in(4)->as<T>();
  T* out[3];
  for (int i = 0; i < 3; ++i) out[i] = c.out(i) ? c.out(i)->as<T>() : nullptr;
  for (int64_t i = begin; i < end; ++i) {
    const T nm = m[i] + (g[i] - m[i]) * static_cast<T>(b1), nv = v[i] + (g[i] * g[i] - v[i]) * static_cast<T>(b2);
    const T np = p[i] - nm * rate / (std::sqrt(nv) + static_cast<T>(epsilon));
    if (out[0]) out[0][i] = np;
    if (out[1]) out[1][i] = nm;
    if (out[2]) out[2][i] = nv;
  }
}

Status adam_run(OpContext& c) {
  namespace at = attr::adam_update_;
  const double b1 = 1 - c.attr_double(at::beta_1), b2 = 1 - c.attr_double(at::beta_2);
  const double epsilon = c.attr_double(at::epsilon);
  const GradientKernels* kernels = gradient_kernels();
  const bool f32 = c.in(0)->dtype == DType::f32, whole = c.out(0) && c.out(1) && c.out(2);
  c.parallel(c.in(0)->count(), 16384, [&](int64_t b, int64_t e, int) {
    if (f32 && whole) {
      const float* in[4];
      float* out[3];
      for (int i = 0; i < 4; ++i) in[i] = c.in(i)->as<float>() + b;
      for (int i = 0; i < 3; ++i) out[i] = c.out(i)->as<float>() + b;
      kernels->adam(in[0], in[1], in[2], in[3], out[0], out[1], out[2], e - b, *c.in(4)->as<float>(),
                    static_cast<float>(b1), static_cast<float>(b2), static_cast<float>(epsilon));
      return;
    }
    f32 ? adam_plain<float>(c, b, e, b1, b2, epsilon) : adam_plain<double>(c, b, e, b1, b2, epsilon);
  });
  return {};
}

Status gelu_infer(OpContext& c) {
  DK_TRY(alike(c, 0, 1));
  return c.set_out_like(0, *c.in(0));
}

double gelu_slope(double x, bool approximate) {
  if (!approximate) return 0.5 * (1 + erf(x * 0.70710678118654752)) + x * exp(-0.5 * x * x) * 0.39894228040143268;
  const double t = tanh(0.79788456080286536 * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t + x * (1 - t * t) * 0.79788456080286536 * (1 + 3 * 0.044715 * x * x));
}

Status gelu_run(OpContext& c) {
  const bool approximate = c.attr_int(attr::gelu_gradient_::approximate) != 0;
  const GradientKernels* kernels = gradient_kernels();
  const bool f32 = c.in(0)->dtype == DType::f32;
  c.parallel(c.in(0)->count(), 8192, [&](int64_t b, int64_t e, int) {
    if (f32) {
      kernels->gelu(c.in(0)->as<float>() + b, c.in(1)->as<float>() + b, c.out(0)->as<float>() + b, e - b, approximate);
      return;
    }
    const double *g = c.in(0)->as<double>(), *x = c.in(1)->as<double>();
    for (int64_t i = b; i < e; ++i) c.out(0)->as<double>()[i] = g[i] * gelu_slope(x[i], approximate);
  });
  return {};
}

const OpDef kDefs[] = {
    {Opcode::adam_update_, adam_infer, nullptr, adam_run, kEachInplace},
    {Opcode::gelu_gradient_, gelu_infer, nullptr, gelu_run},
};

}  // namespace

extern const OpList ops_train_step;
const OpList ops_train_step = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
