// softmax and log_softmax along one axis.
#include "kernels/softmax/softmax.h"

#include <cmath>

#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

constexpr int kColumns = 64;  // columns per task when the axis is not the last

struct SoftmaxState {
  const SoftmaxKernels* kernels;
  const ElementwiseKernels* convert;
  bool logarithm;
  int64_t outer, n, inner;
};

Status infer_softmax(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (!is_float(x.dtype)) return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::softmax_::axis), x.rank, &axis));
  return c.set_out_like(0, x);
}

Status prepare_softmax(OpContext& c, bool logarithm) {
  SoftmaxState* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::softmax_::axis), x.rank, &axis));
  s->kernels = DK_PICK_KERNELS(softmax);
  s->convert = DK_PICK_KERNELS(elementwise);
  s->logarithm = logarithm;
  s->outer = product(x, 0, axis);
  s->n = x.dims[axis];
  s->inner = product(x, axis + 1, x.rank);
  if (x.dtype != DType::f32) return c.need_scratch(static_cast<size_t>(c.threads()) * static_cast<size_t>(s->n) * 8);
  return {};
}

void softmax_f64(double* x, int64_t n, bool logarithm) {
  double max = -INFINITY, total = 0;
  for (int64_t i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  for (int64_t i = 0; i < n; ++i) {
    const double e = exp(x[i] - max);
    total += e;
    x[i] = logarithm ? x[i] - max : e;
  }
  const double log_total = log(total);
  for (int64_t i = 0; i < n; ++i) x[i] = logarithm ? x[i] - log_total : x[i] / total;
}

// One row or column of another dtype than f32, by way of a buffer: f32 for narrow floats, f64 for itself.
void run_line(const SoftmaxState& s, DType dtype, const char* x, char* y, int64_t step, void* buffer) {
  const DType wide = wide_dtype(dtype);
  const size_t size = dtype_size(dtype), wide_size = dtype_size(wide);
  char* b = static_cast<char*>(buffer);
  if (step == 1)
    stage_in(s.convert, dtype, x, wide, b, s.n);
  else
    for (int64_t i = 0; i < s.n; ++i)
      stage_in(s.convert, dtype, x + static_cast<size_t>(i * step) * size, wide, b + static_cast<size_t>(i) * wide_size,
               1);
  if (wide == DType::f32)
    s.kernels->rows(static_cast<float*>(buffer), static_cast<float*>(buffer), 1, s.n, s.logarithm);
  else
    softmax_f64(static_cast<double*>(buffer), s.n, s.logarithm);
  if (step == 1)
    stage_out(s.convert, wide, b, dtype, y, s.n);
  else
    for (int64_t i = 0; i < s.n; ++i)
      stage_out(s.convert, wide, b + static_cast<size_t>(i) * wide_size, dtype,
                y + static_cast<size_t>(i * step) * size, 1);
}

Status run_softmax(OpContext& c) {
  const SoftmaxState& s = *c.state<SoftmaxState>();
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return {};
  const int64_t grain = 4096 / (s.n < 4096 ? s.n : 4096);
  if (x.dtype != DType::f32) {
    const size_t size = dtype_size(x.dtype);
    c.parallel(s.outer * s.inner, grain, [&](int64_t begin, int64_t end, int lane) {
      char* buffer = static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * static_cast<size_t>(s.n) * 8;
      for (int64_t i = begin; i < end; ++i) {
        const size_t at = static_cast<size_t>(i / s.inner * s.n * s.inner + i % s.inner) * size;
        run_line(s, x.dtype, x.as<char>() + at, y.as<char>() + at, s.inner, buffer);
      }
    });
  } else if (s.inner == 1) {
    c.parallel(s.outer, grain, [&](int64_t begin, int64_t end, int) {
      s.kernels->rows(x.as<float>() + begin * s.n, y.as<float>() + begin * s.n, end - begin, s.n, s.logarithm);
    });
  } else {
    const int64_t strips = (s.inner + kColumns - 1) / kColumns;
    c.parallel(s.outer * strips, (grain + kColumns - 1) / kColumns, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % strips * kColumns;
        const int64_t at = i / strips * s.n * s.inner + first;
        const int64_t columns = s.inner - first < kColumns ? s.inner - first : kColumns;
        s.kernels->columns(x.as<float>() + at, y.as<float>() + at, s.n, columns, s.inner, s.logarithm);
      }
    });
  }
  return {};
}

template <bool kLogarithm>
Status prepare_op(OpContext& c) {
  return prepare_softmax(c, kLogarithm);
}

static_assert(attr::softmax_::axis == attr::log_softmax_::axis);

const OpDef kDefs[] = {
    {Opcode::softmax_, infer_softmax, prepare_op<false>, run_softmax, 1},
    {Opcode::log_softmax_, infer_softmax, prepare_op<true>, run_softmax, 1},
};

}  // namespace

extern const OpList ops_softmax;
const OpList ops_softmax = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
