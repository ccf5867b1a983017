// batch_norm_train and its gradient.  x is [outer, channels, inner].  With inner = 1 and f32, the kernels take rows of
// channels; sums are taken over chunks of rows that depend on the shape alone, so threads do not change them.  All else
// goes through double, channel by channel.
#include <cmath>

#include "kernels/norm/norm.h"
#include "ops/broadcast.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

namespace at = attr::batch_norm_train_;
static_assert(at::epsilon == attr::batch_norm_train_gradient_::epsilon &&
              at::axis == attr::batch_norm_train_gradient_::axis && at::act == attr::batch_norm_train_gradient_::act);

constexpr int64_t kChunks = 32, kSampled = 16;

struct State {
  const NormKernels* kernels;
  int64_t outer, channels, inner, chunk, chunks;
  size_t vector;  // bytes of a vector of floats or doubles in scratch
  bool direct, clamp;
  float limits[2];
};

Status check(OpContext& c, int x_at) {
  const Tensor& x = *c.in(x_at);
  if (x.dtype != DType::f32 && x.dtype != DType::f64)
    return c.fail(Code::unsupported, "no kernel for dtype %s; train in float32 or float64", dtype_name(x.dtype));
  int axis;
  DK_TRY(axis_of(c, c.attr_int(at::axis), x.rank, &axis));
  for (int i = x_at + 1; i < c.n_in(); ++i) {
    DK_TRY(same_dtype(c, x_at, i));
    const Tensor& t = *c.in(i);
    if (t.rank != 1 || t.dims[0] != x.dims[axis])
      return c.fail(Code::shape, "shape of input %d; got %s, expected [%lld]", i, ShapeText(t).text,
                    static_cast<long long>(x.dims[axis]));
  }
  const int64_t n = x.dims[axis];
  DK_TRY(c.set_out_like(0, x));
  DK_TRY(c.set_out(1, x.dtype, 1, &n));
  return c.set_out(2, x.dtype, 1, &n);
}

Status infer_train(OpContext& c) { return check(c, 0); }

Status infer_gradient(OpContext& c) {
  const Tensor &g = *c.in(0), &x = *c.in(1);
  DK_TRY(same_dtype(c, 1, 0));
  bool same = g.rank == x.rank;
  for (int i = 0; i < x.rank && same; ++i) same = g.dims[i] == x.dims[i];
  if (!same) return c.fail(Code::shape, "shape of g; got %s, expected %s", ShapeText(g).text, ShapeText(x).text);
  return check(c, 1);
}

Status prepare(OpContext& c, int x_at) {
  State* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(x_at);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(at::axis), x.rank, &axis));
  s->kernels = DK_PICK_KERNELS(norm);
  s->outer = product(x, 0, axis);
  s->channels = x.dims[axis];
  s->inner = product(x, axis + 1, x.rank);
  s->direct = s->inner == 1 && x.dtype == DType::f32;
  s->chunk = (s->outer + kChunks - 1) / kChunks > 64 ? (s->outer + kChunks - 1) / kChunks : 64;
  s->chunks = (s->outer + s->chunk - 1) / s->chunk;
  s->vector = (static_cast<size_t>(s->channels) * 8 + 63) / 64 * 64;
  const int64_t act = c.attr_int(at::act);
  s->clamp = act != choice::batch_norm_train_::act::none_;
  s->limits[1] = act == choice::batch_norm_train_::act::relu6_ ? 6.0f : INFINITY;
  // four vectors, then two of sums per chunk
  return c.need_scratch(s->direct ? static_cast<size_t>(4 + 2 * s->chunks) * s->vector : 0);
}

Status prepare_train(OpContext& c) { return prepare(c, 0); }
Status prepare_gradient(OpContext& c) { return prepare(c, 1); }

// Vector i in scratch.
template <class T>
T* vec(const OpContext& c, const State& s, int64_t i) {
  return reinterpret_cast<T*>(static_cast<char*>(c.scratch()) + static_cast<size_t>(i) * s.vector);
}

// fn(first row, rows, sums, other sums) for all chunks, then both added up in the vectors of the first chunk.
template <class Fn>
void sum_chunks(OpContext& c, const State& s, double** one, double** two, Fn&& fn) {
  const int64_t grain = grain_for(16384, static_cast<double>(s.chunk) * static_cast<double>(s.channels));
  c.parallel(s.chunks, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      double *a = vec<double>(c, s, 4 + 2 * k), *b = vec<double>(c, s, 5 + 2 * k);
      for (int64_t i = 0; i < s.channels; ++i) a[i] = b[i] = 0;
      const int64_t first = k * s.chunk;
      fn(first, s.outer - first < s.chunk ? s.outer - first : s.chunk, a, b);
    }
  });
  *one = vec<double>(c, s, 4), *two = vec<double>(c, s, 5);
  for (int64_t k = 1; k < s.chunks; ++k) {
    const double *a = vec<double>(c, s, 4 + 2 * k), *b = vec<double>(c, s, 5 + 2 * k);
    for (int64_t i = 0; i < s.channels; ++i) (*one)[i] += a[i], (*two)[i] += b[i];
  }
}

template <class Fn>
void each_rows(OpContext& c, const State& s, Fn&& fn) {
  c.parallel(s.outer, grain_for(16384, static_cast<double>(s.channels)),
             [&](int64_t begin, int64_t end, int) { fn(begin * s.channels, end - begin); });
}

double inverse_deviation(float variance, double epsilon) { return 1 / sqrt(static_cast<double>(variance) + epsilon); }

void train_direct(OpContext& c, const State& s, double epsilon) {
  const float *x = c.in(0)->as<float>(), *scale = c.in(1)->as<float>(), *bias = c.in(2)->as<float>();
  float *shift = vec<float>(c, s, 0), *factor = vec<float>(c, s, 1), *moved = vec<float>(c, s, 2);
  // results that nobody reads are absent: the upper halves of vectors take their place
  float* mean = c.out(1) ? c.out(1)->as<float>() : shift + s.channels;
  float* variance = c.out(2) ? c.out(2)->as<float>() : factor + s.channels;
  double* rest = vec<double>(c, s, 3);  // of the mean, when it was rounded to float
  // Sums are taken about a value near the mean: that of a few rows.  Where it was not near, compared with the
  // deviation, they are taken again about the mean.
  const int64_t few = s.outer < kSampled ? s.outer : kSampled;
  for (int64_t i = 0; i < s.channels; ++i) shift[i] = 0;
  for (int64_t k = 0; k < few; ++k) {
    const float* row = x + k * (s.outer / few) * s.channels;
    for (int64_t i = 0; i < s.channels; ++i) shift[i] += row[i] / static_cast<float>(few);
  }
  const double n = static_cast<double>(s.outer);
  bool far = true;
  for (int round = 0; round < 2 && far; ++round) {
    double *sum, *square;
    sum_chunks(c, s, &sum, &square, [&](int64_t first, int64_t rows, double* a, double* b) {
      s.kernels->column_moments(x + first * s.channels, shift, rows, s.channels, a, b);
    });
    far = false;
    for (int64_t i = 0; i < s.channels; ++i) {
      const double m = sum[i] / n, v = square[i] / n - m * m;
      far = far || m * m > 64 * v;
      mean[i] = static_cast<float>(static_cast<double>(shift[i]) + m);
      variance[i] = static_cast<float>(v < 0 ? 0 : v);
      rest[i] = static_cast<double>(shift[i]) + m - static_cast<double>(mean[i]);
    }
    if (far)
      for (int64_t i = 0; i < s.channels; ++i) shift[i] = mean[i];
  }
  for (int64_t i = 0; i < s.channels; ++i) {
    const double f = static_cast<double>(scale[i]) * inverse_deviation(variance[i], epsilon);
    factor[i] = static_cast<float>(f);
    moved[i] = static_cast<float>(static_cast<double>(bias[i]) - rest[i] * f);
  }
  if (!c.out(0)) return;
  each_rows(c, s, [&](int64_t from, int64_t rows) {
    s.kernels->affine_clamp(x + from, mean, factor, moved, s.clamp ? s.limits : nullptr, c.out(0)->as<float>() + from,
                            rows, s.channels);
  });
}

void gradient_direct(OpContext& c, const State& s, double epsilon) {
  const float *g = c.in(0)->as<float>(), *x = c.in(1)->as<float>(), *scale = c.in(2)->as<float>(),
              *bias = c.in(3)->as<float>(), *mean = c.in(4)->as<float>(), *variance = c.in(5)->as<float>();
  const float* limits = s.clamp ? s.limits : nullptr;
  float *factor = vec<float>(c, s, 0), *slope = vec<float>(c, s, 1), *rest = vec<float>(c, s, 2);
  for (int64_t i = 0; i < s.channels; ++i)
    factor[i] = static_cast<float>(static_cast<double>(scale[i]) * inverse_deviation(variance[i], epsilon));
  double *sum, *moved;
  sum_chunks(c, s, &sum, &moved, [&](int64_t first, int64_t rows, double* a, double* b) {
    const int64_t from = first * s.channels;
    s.kernels->train_sums(g + from, x + from, mean, factor, bias, limits, rows, s.channels, a, b);
  });
  const double n = static_cast<double>(s.outer);
  for (int64_t i = 0; i < s.channels; ++i) {
    const double r = inverse_deviation(variance[i], epsilon), f = static_cast<double>(scale[i]) * r;
    if (c.out(1)) c.out(1)->as<float>()[i] = static_cast<float>(moved[i] * r);
    if (c.out(2)) c.out(2)->as<float>()[i] = static_cast<float>(sum[i]);
    slope[i] = static_cast<float>(-f * r * r * moved[i] / n);
    rest[i] = static_cast<float>(-f * sum[i] / n);
  }
  if (!c.out(0)) return;
  each_rows(c, s, [&](int64_t from, int64_t rows) {
    s.kernels->train_gradient(g + from, x + from, mean, factor, bias, limits, slope, rest, c.out(0)->as<float>() + from,
                              rows, s.channels);
  });
}

// ---- channel by channel.  fn(element) for all of a channel.
template <class Fn>
void each_of(const State& s, int64_t channel, Fn&& fn) {
  for (int64_t o = 0; o < s.outer; ++o)
    for (int64_t i = 0; i < s.inner; ++i) fn((o * s.channels + channel) * s.inner + i);
}

template <class T>
void train_channel(OpContext& c, const State& s, int64_t k, double epsilon) {
  const T* x = c.in(0)->as<T>();
  const double n = static_cast<double>(s.outer * s.inner > 0 ? s.outer * s.inner : 1);
  double mean = 0, square = 0;
  each_of(s, k, [&](int64_t i) { mean += static_cast<double>(x[i]); });
  mean /= n;
  each_of(s, k, [&](int64_t i) {
    const double d = static_cast<double>(x[i]) - mean;
    square += d * d;
  });
  if (c.out(1)) c.out(1)->as<T>()[k] = static_cast<T>(mean);
  if (c.out(2)) c.out(2)->as<T>()[k] = static_cast<T>(square / n);
  if (!c.out(0)) return;
  T* y = c.out(0)->as<T>();
  const double factor = static_cast<double>(c.in(1)->as<T>()[k]) / sqrt(square / n + epsilon);
  const double bias = static_cast<double>(c.in(2)->as<T>()[k]);
  each_of(s, k, [&](int64_t i) {
    double v = (static_cast<double>(x[i]) - mean) * factor + bias;
    if (s.clamp && v < 0) v = 0;
    if (s.clamp && v > static_cast<double>(s.limits[1])) v = static_cast<double>(s.limits[1]);
    y[i] = static_cast<T>(v);
  });
}

template <class T>
void gradient_channel(OpContext& c, const State& s, int64_t k, double epsilon) {
  const T *g = c.in(0)->as<T>(), *x = c.in(1)->as<T>();
  const auto one = [&](int i) { return static_cast<double>(c.in(i)->as<T>()[k]); };
  const double n = static_cast<double>(s.outer * s.inner > 0 ? s.outer * s.inner : 1);
  const double r = 1 / sqrt(one(5) + epsilon), factor = one(2) * r, bias = one(3), mean = one(4);
  double sum = 0, moved = 0;
  const auto masked = [&](int64_t i, double d) {
    const double v = d * factor + bias;
    return !s.clamp || (v > 0 && v < static_cast<double>(s.limits[1])) ? static_cast<double>(g[i]) : 0.0;
  };
  each_of(s, k, [&](int64_t i) {
    const double d = static_cast<double>(x[i]) - mean, h = masked(i, d);
    sum += h, moved += h * d;
  });
  if (c.out(0)) {
    T* to = c.out(0)->as<T>();
    each_of(s, k, [&](int64_t i) {
      const double d = static_cast<double>(x[i]) - mean;
      to[i] = static_cast<T>(factor * (masked(i, d) - sum / n - d * moved * r * r / n));
    });
  }
  if (c.out(1)) c.out(1)->as<T>()[k] = static_cast<T>(moved * r);
  if (c.out(2)) c.out(2)->as<T>()[k] = static_cast<T>(sum);
}

template <bool kGradient>
Status run(OpContext& c) {
  const State& s = *c.state<State>();
  const double epsilon = c.attr_double(at::epsilon);
  if (s.direct && s.outer > 0) {
    kGradient ? gradient_direct(c, s, epsilon) : train_direct(c, s, epsilon);
    return {};
  }
  const bool f64 = c.in(0)->dtype == DType::f64;
  const int64_t grain = grain_for(4096, static_cast<double>(s.outer * s.inner));
  c.parallel(s.channels, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      if (kGradient)
        f64 ? gradient_channel<double>(c, s, k, epsilon) : gradient_channel<float>(c, s, k, epsilon);
      else
        f64 ? train_channel<double>(c, s, k, epsilon) : train_channel<float>(c, s, k, epsilon);
    }
  });
  return {};
}

const OpDef kDefs[] = {
    {Opcode::batch_norm_train_, infer_train, prepare_train, run<false>, 1},
    {Opcode::batch_norm_train_gradient_, infer_gradient, prepare_gradient, run<true>, 3},
};

}  // namespace

extern const OpList ops_norm_train;
const OpList ops_norm_train = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
