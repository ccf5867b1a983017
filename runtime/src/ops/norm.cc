// batch_norm, layer_norm, rms_norm, group_norm, lrn.  f32 runs on the tensors in place; narrower floats go through f32
// buffers in scratch, f64 through the scalar forms here.
#include "kernels/norm/norm.h"

#include <cmath>

#include "ops/broadcast.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

// Bytes, rounded so that what follows stays aligned.
size_t room(int64_t n, size_t size) { return (static_cast<size_t>(n) * size + 63) / 64 * 64; }

Status check_float(const OpContext& c) {
  const Tensor& x = *c.in(0);
  return is_float(x.dtype) ? Status() : c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
}

Status check_vector(const OpContext& c, int i, const char* name, int64_t n) {
  if (!c.in(i)) return {};
  DK_TRY(same_dtype(c, 0, i));
  const Tensor& t = *c.in(i);
  if (t.rank == 1 && t.dims[0] == n) return {};
  return c.fail(Code::shape, "shape of %s; got %s, expected [%lld]", name, ShapeText(t).text,
                static_cast<long long>(n));
}

// ---- batch_norm: x is [outer, channels, inner]
struct BatchState {
  const NormKernels* kernels;
  const ElementwiseKernels* convert;
  int64_t outer, channels, inner;
};

Status infer_batch_norm(OpContext& c) {
  const Tensor& x = *c.in(0);
  DK_TRY(check_float(c));
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::batch_norm_::axis), x.rank, &axis));
  const char* const names[] = {"", "scale", "bias", "mean", "variance"};
  for (int i = 1; i <= 4; ++i) DK_TRY(check_vector(c, i, names[i], x.dims[axis]));
  return c.set_out_like(0, x);
}

Status prepare_batch_norm(OpContext& c) {
  BatchState* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::batch_norm_::axis), x.rank, &axis));
  s->kernels = DK_PICK_KERNELS(norm);
  s->convert = DK_PICK_KERNELS(elementwise);
  s->outer = product(x, 0, axis);
  s->channels = x.dims[axis];
  s->inner = product(x, axis + 1, x.rank);
  return c.need_scratch(3 * room(s->channels, 8));
}

// n elements of a tensor through T buffers: y = (x - mean[i]) * factor[i] + bias[i], or with one mean for all (step 0).
template <class T>
void affine_any(const BatchState& s, DType dtype, const void* x, const T* mean, const T* factor, const T* bias,
                int step, void* y, int64_t n) {
  const DType wide = sizeof(T) == 8 ? DType::f64 : DType::f32;
  const size_t size = dtype_size(dtype);
  T block[kStage];
  for (int64_t i = 0; i < n; i += kStage) {
    const int64_t m = n - i < kStage ? n - i : kStage;
    stage_in(s.convert, dtype, static_cast<const char*>(x) + static_cast<size_t>(i) * size, wide, block, m);
    for (int64_t k = 0; k < m; ++k) {
      const int64_t j = (i + k) * step;
      block[k] = (block[k] - mean[j]) * factor[j] + bias[j];
    }
    stage_out(s.convert, wide, block, dtype, static_cast<char*>(y) + static_cast<size_t>(i) * size, m);
  }
}

template <class T>
Status run_batch(OpContext& c) {
  const BatchState& s = *c.state<BatchState>();
  const Tensor& x = *c.in(0);
  char* y = c.out(0)->as<char>();
  const size_t size = dtype_size(x.dtype);
  if (x.count() == 0) return {};
  char* scratch = static_cast<char*>(c.scratch());
  T* mean = reinterpret_cast<T*>(scratch);
  T* factor = reinterpret_cast<T*>(scratch + room(s.channels, 8));
  T* bias = reinterpret_cast<T*>(scratch + 2 * room(s.channels, 8));
  const DType wide = sizeof(T) == 8 ? DType::f64 : DType::f32;
  const double epsilon = c.attr_double(attr::batch_norm_::epsilon);
  stage_in(s.convert, x.dtype, c.in(3)->data, wide, mean, s.channels);
  stage_in(s.convert, x.dtype, c.in(4)->data, wide, factor, s.channels);
  stage_in(s.convert, x.dtype, c.in(1)->data, wide, bias, s.channels);  // the scale, for a moment
  for (int64_t i = 0; i < s.channels; ++i)
    factor[i] = static_cast<T>(static_cast<double>(bias[i]) / sqrt(static_cast<double>(factor[i]) + epsilon));
  stage_in(s.convert, x.dtype, c.in(2)->data, wide, bias, s.channels);

  const bool rows = s.inner == 1;
  const int64_t n = rows ? s.channels : s.inner;
  c.parallel(rows ? s.outer : s.outer * s.channels, grain_for(16384, static_cast<double>(n)),
             [&](int64_t begin, int64_t end, int) {
               if (rows && x.dtype == DType::f32)
                 return s.kernels->affine(x.as<float>() + begin * n, reinterpret_cast<float*>(mean),
                                          reinterpret_cast<float*>(factor), reinterpret_cast<float*>(bias),
                                          c.out(0)->as<float>() + begin * n, end - begin, n);
               for (int64_t i = begin; i < end; ++i) {
                 const int64_t k = rows ? 0 : i % s.channels;
                 const size_t at = static_cast<size_t>(i * n) * size;
                 if (x.dtype == DType::f32)
                   s.kernels->affine_one(x.as<float>() + i * n, static_cast<float>(mean[k]),
                                         static_cast<float>(factor[k]), static_cast<float>(bias[k]),
                                         c.out(0)->as<float>() + i * n, n);
                 else
                   affine_any(s, x.dtype, x.as<char>() + at, mean + k, factor + k, bias + k, rows, y + at, n);
               }
             });
  return {};
}

Status run_batch_norm(OpContext& c) {
  return c.in(0)->dtype == DType::f64 ? run_batch<double>(c) : run_batch<float>(c);
}

// ---- layer_norm and rms_norm: rows of n
struct LayerState {
  const NormKernels* kernels;
  const ElementwiseKernels* convert;
  bool rms;
  double epsilon;
  int64_t rows, n, step;
  bool spread;          // scale and bias differ between rows or within broadcast dims: written out in full
  size_t operand_room;  // of each of the two in scratch; 0: used where they are
  Broadcast broadcast[2];
};

// An operand whose dims are those of the normalised ones, or absent.
bool is_row(const Tensor* t, const Tensor& x, int axis) {
  if (!t) return true;
  if (t->rank > x.rank) return false;
  for (int i = 0; i < x.rank; ++i) {
    const int k = i - (x.rank - t->rank);
    const int64_t d = k < 0 ? 1 : t->dims[k];
    if (d != (i < axis ? 1 : x.dims[i])) return false;
  }
  return true;
}

Status infer_layer_norm(OpContext& c) {
  const Tensor& x = *c.in(0);
  DK_TRY(check_float(c));
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::layer_norm_::axis), x.rank, &axis));
  const char* const names[] = {"", "scale", "bias"};
  for (int i = 1; i <= 2 && i < c.n_in(); ++i) {
    const Tensor* t = c.in(i);
    if (!t) continue;
    DK_TRY(same_dtype(c, 0, i));
    bool fits = t->rank <= x.rank;
    for (int k = 0; k < t->rank && fits; ++k) fits = t->dims[k] == 1 || t->dims[k] == x.dims[x.rank - t->rank + k];
    if (!fits)
      return c.fail(Code::shape, "shape of %s; got %s, expected one that broadcasts to %s", names[i],
                    ShapeText(*t).text, ShapeText(x).text);
  }
  return c.set_out_like(0, x);
}

Status prepare_layer(OpContext& c, bool rms) {
  LayerState* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::layer_norm_::axis), x.rank, &axis));
  s->kernels = DK_PICK_KERNELS(norm);
  s->convert = DK_PICK_KERNELS(elementwise);
  s->rms = rms;
  s->epsilon = c.attr_double(attr::layer_norm_::epsilon);
  s->rows = product(x, 0, axis);
  s->n = product(x, axis, x.rank);
  s->spread = !is_row(c.in(1), x, axis) || !is_row(c.in(2), x, axis);
  s->step = s->spread ? s->n : 0;
  for (int i = 0; i < 2; ++i)
    if (const Tensor* t = c.in(i + 1)) plan_broadcast(&s->broadcast[i], &t, 1, x);
  const bool in_place = x.dtype == DType::f32;
  s->operand_room = in_place && !s->spread ? 0 : room(s->spread ? s->rows * s->n : s->n, 8);
  const size_t lanes = in_place ? 0 : static_cast<size_t>(c.threads()) * room(s->n, 8);
  return c.need_scratch(2 * s->operand_room + lanes);
}

// One row in double; scale and bias may be null.
void layer_row(const LayerState& s, double* x, const double* scale, const double* bias) {
  const double n = static_cast<double>(s.n);
  double mean = 0, square = 0;
  for (int64_t i = 0; i < s.n && !s.rms; ++i) mean += x[i];
  mean /= n;
  for (int64_t i = 0; i < s.n; ++i) square += (x[i] - mean) * (x[i] - mean);
  const double factor = 1 / sqrt(square / n + s.epsilon);
  for (int64_t i = 0; i < s.n; ++i) x[i] = (x[i] - mean) * factor * (scale ? scale[i] : 1) + (bias ? bias[i] : 0);
}

void layer_rows(const LayerState& s, const float* x, const float* scale, const float* bias, float* y, int64_t rows) {
  const float epsilon = static_cast<float>(s.epsilon);
  if (s.rms)
    s.kernels->rms(x, scale, y, rows, s.n, s.step, epsilon);
  else
    s.kernels->layer(x, scale, bias, y, rows, s.n, s.step, epsilon);
}

// scale or bias as the kernels want it: in place, or in scratch as an array of the wide type.
const void* operand(const OpContext& c, const LayerState& s, int i, DType wide) {
  const Tensor* t = c.in(i + 1);
  if (!t || s.operand_room == 0) return t ? t->data : nullptr;
  char* to = static_cast<char*>(c.scratch()) + static_cast<size_t>(i) * s.operand_room;
  const size_t size = dtype_size(wide);
  if (!s.spread) {
    stage_in(s.convert, t->dtype, t->data, wide, to, s.n);
    return to;
  }
  each_part(s.broadcast[i], &t->data, 0, s.broadcast[i].count, [&](const Part& p) {
    char* at = to + static_cast<size_t>(p.at) * size;
    stage_in(s.convert, t->dtype, p.in[0], wide, at, p.step[0] ? p.n : 1);
    for (int64_t k = 1; k < p.n && !p.step[0]; ++k) memcpy(at + static_cast<size_t>(k) * size, at, size);
  });
  return to;
}

Status run_layer(OpContext& c) {
  const LayerState& s = *c.state<LayerState>();
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return {};
  const DType wide = wide_dtype(x.dtype);
  const char* scale = static_cast<const char*>(operand(c, s, 0, wide));
  const char* bias = static_cast<const char*>(operand(c, s, 1, wide));
  const size_t size = dtype_size(x.dtype), wide_size = dtype_size(wide);
  char* lanes = static_cast<char*>(c.scratch()) + 2 * s.operand_room;
  c.parallel(s.rows, grain_for(8192, static_cast<double>(s.n)), [&](int64_t begin, int64_t end, int lane) {
    const auto of_row = [&](const char* p, int64_t r) {
      return p ? p + static_cast<size_t>(r * s.step) * wide_size : p;
    };
    if (x.dtype == DType::f32)
      return layer_rows(s, x.as<float>() + begin * s.n, reinterpret_cast<const float*>(of_row(scale, begin)),
                        reinterpret_cast<const float*>(of_row(bias, begin)), y.as<float>() + begin * s.n, end - begin);
    char* row = lanes + static_cast<size_t>(lane) * room(s.n, 8);
    for (int64_t r = begin; r < end; ++r) {
      const size_t at = static_cast<size_t>(r * s.n) * size;
      stage_in(s.convert, x.dtype, x.as<char>() + at, wide, row, s.n);
      const char *a = of_row(scale, r), *b = of_row(bias, r);
      if (wide == DType::f64)
        layer_row(s, reinterpret_cast<double*>(row), reinterpret_cast<const double*>(a),
                  reinterpret_cast<const double*>(b));
      else
        layer_rows(s, reinterpret_cast<float*>(row), reinterpret_cast<const float*>(a),
                   reinterpret_cast<const float*>(b), reinterpret_cast<float*>(row), 1);
      stage_out(s.convert, wide, row, x.dtype, y.as<char>() + at, s.n);
    }
  });
  return {};
}

static_assert(attr::layer_norm_::axis == attr::rms_norm_::axis &&
              attr::layer_norm_::epsilon == attr::rms_norm_::epsilon);

template <bool kRms>
Status prepare_layer_op(OpContext& c) {
  return prepare_layer(c, kRms);
}

// ---- group_norm: x is [samples, space, channels].  Sums per channel are taken over chunks of space that depend on the
// shape alone, so threads do not change them.
struct GroupState {
  const NormKernels* kernels;
  const ElementwiseKernels* convert;
  int64_t samples, space, channels, groups, chunks, chunk;
  int64_t grain;        // in chunks
  size_t sample_room;   // a whole sample as f32 or f64, for other dtypes than f32
  size_t channel_room;  // a vector of channels
};

Status infer_group_norm(OpContext& c) {
  const Tensor& x = *c.in(0);
  DK_TRY(check_float(c));
  if (x.rank < 2) return c.fail(Code::shape, "shape of x; got %s, expected rank 2 or more", ShapeText(x).text);
  const int64_t groups = c.attr_int(attr::group_norm_::groups), channels = x.dims[x.rank - 1];
  if (groups < 1 || channels % groups)
    return c.fail(Code::shape, "groups; got %lld, expected a divisor of the %lld channels",
                  static_cast<long long>(groups), static_cast<long long>(channels));
  DK_TRY(check_vector(c, 1, "scale", channels));
  DK_TRY(check_vector(c, 2, "bias", channels));
  return c.set_out_like(0, x);
}

Status prepare_group_norm(OpContext& c) {
  GroupState* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(0);
  s->kernels = DK_PICK_KERNELS(norm);
  s->convert = DK_PICK_KERNELS(elementwise);
  s->samples = x.dims[0];
  s->channels = x.dims[x.rank - 1];
  s->space = product(x, 1, x.rank - 1);
  s->groups = c.attr_int(attr::group_norm_::groups);
  s->chunk = (s->space + 15) / 16 > 64 ? (s->space + 15) / 16 : 64;
  s->chunks = s->space ? (s->space + s->chunk - 1) / s->chunk : 0;
  s->grain = grain_for(16384, static_cast<double>(s->chunk) * static_cast<double>(s->channels));
  s->sample_room = x.dtype == DType::f32 ? 0 : room(s->space * s->channels, 8);
  s->channel_room = room(s->channels, 8);
  // vectors: mean, factor, bias, then one of sums per chunk
  return c.need_scratch(s->sample_room + static_cast<size_t>(3 + s->chunks) * s->channel_room);
}

// Sets to[c] for all channels to the mean over the group of sums[chunk][c].
template <class Fn>
void each_group(const GroupState& s, const char* sums, Fn&& fn) {
  const int64_t width = s.channels / s.groups;
  for (int64_t g = 0; g < s.groups; ++g) {
    double total = 0;
    for (int64_t k = 0; k < s.chunks; ++k) {
      const double* row = reinterpret_cast<const double*>(sums + static_cast<size_t>(k) * s.channel_room);
      for (int64_t i = g * width; i < (g + 1) * width; ++i) total += row[i];
    }
    const double mean = total / (static_cast<double>(s.space) * static_cast<double>(width));
    for (int64_t i = g * width; i < (g + 1) * width; ++i) fn(i, mean);
  }
}

void group_sums(OpContext& c, const GroupState& s, const float* x, const float* mean, bool square, char* sums) {
  c.parallel(s.chunks, s.grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      double* to = reinterpret_cast<double*>(sums + static_cast<size_t>(k) * s.channel_room);
      for (int64_t i = 0; i < s.channels; ++i) to[i] = 0;
      const int64_t first = k * s.chunk, rows = s.space - first < s.chunk ? s.space - first : s.chunk;
      s.kernels->column_sums(x + first * s.channels, mean, rows, s.channels, square, to);
    }
  });
}

double one_of(const GroupState& s, const Tensor* t, int64_t i, double absent) {
  if (!t) return absent;
  double v;
  convert(t->dtype, t->as<char>() + static_cast<size_t>(i) * dtype_size(t->dtype), DType::f64, &v, 1);
  return v;
}

void group_f32(OpContext& c, const GroupState& s, const float* x, float* y, char* vectors, double epsilon) {
  float* mean = reinterpret_cast<float*>(vectors);
  float* factor = reinterpret_cast<float*>(vectors + s.channel_room);
  float* bias = reinterpret_cast<float*>(vectors + 2 * s.channel_room);
  char* sums = vectors + 3 * s.channel_room;
  for (int64_t i = 0; i < s.channels; ++i) mean[i] = 0;
  group_sums(c, s, x, mean, false, sums);
  each_group(s, sums, [&](int64_t i, double m) { mean[i] = static_cast<float>(m); });
  group_sums(c, s, x, mean, true, sums);
  each_group(s, sums, [&](int64_t i, double variance) {
    factor[i] = static_cast<float>(one_of(s, c.in(1), i, 1) / sqrt(variance + epsilon));
    bias[i] = static_cast<float>(one_of(s, c.in(2), i, 0));
  });
  c.parallel(s.space, grain_for(16384, static_cast<double>(s.channels)), [&](int64_t begin, int64_t end, int) {
    s.kernels->affine(x + begin * s.channels, mean, factor, bias, y + begin * s.channels, end - begin, s.channels);
  });
}

void group_f64(OpContext& c, const GroupState& s, double* x, double epsilon) {
  const int64_t width = s.channels / s.groups;
  const double count = static_cast<double>(s.space) * static_cast<double>(width);
  for (int64_t g = 0; g < s.groups; ++g) {
    double mean = 0, square = 0;
    const auto each = [&](auto&& fn) {
      for (int64_t r = 0; r < s.space; ++r)
        for (int64_t i = g * width; i < (g + 1) * width; ++i) fn(x[r * s.channels + i], i);
    };
    each([&](double& v, int64_t) { mean += v; });
    mean /= count;
    each([&](double& v, int64_t) { square += (v - mean) * (v - mean); });
    const double factor = 1 / sqrt(square / count + epsilon);
    each([&](double& v, int64_t i) { v = (v - mean) * factor * one_of(s, c.in(1), i, 1) + one_of(s, c.in(2), i, 0); });
  }
}

Status run_group_norm(OpContext& c) {
  const GroupState& s = *c.state<GroupState>();
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return {};
  const double epsilon = c.attr_double(attr::group_norm_::epsilon);
  char* sample = static_cast<char*>(c.scratch());
  char* vectors = sample + s.sample_room;
  const int64_t n = s.space * s.channels;
  const DType wide = wide_dtype(x.dtype);
  for (int64_t i = 0; i < s.samples; ++i) {
    if (x.dtype == DType::f32) {
      group_f32(c, s, x.as<float>() + i * n, y.as<float>() + i * n, vectors, epsilon);
      continue;
    }
    const size_t at = static_cast<size_t>(i * n) * dtype_size(x.dtype);
    stage_in(s.convert, x.dtype, x.as<char>() + at, wide, sample, n);
    if (wide == DType::f32)
      group_f32(c, s, reinterpret_cast<float*>(sample), reinterpret_cast<float*>(sample), vectors, epsilon);
    else
      group_f64(c, s, reinterpret_cast<double*>(sample), epsilon);
    stage_out(s.convert, wide, sample, x.dtype, y.as<char>() + at, n);
  }
  return {};
}

// ---- lrn: rows of channels
Status infer_lrn(OpContext& c) {
  const Tensor& x = *c.in(0);
  DK_TRY(check_float(c));
  if (x.rank < 1) return c.fail(Code::shape, "x is a scalar, expected rank 1 or more");
  const int64_t size = c.attr_int(attr::lrn_::size);
  if (size < 1) return c.fail(Code::shape, "size; got %lld, expected at least 1", static_cast<long long>(size));
  return c.set_out_like(0, x);
}

// Per lane: the row, its squares between zeros, the sums over windows.
size_t lrn_room(int64_t n) { return room(n, 8) + room(n, 24) + room(n, 8); }

Status prepare_lrn(OpContext& c) {
  const Tensor& x = *c.in(0);
  return c.need_scratch(static_cast<size_t>(c.threads()) * lrn_room(x.dims[x.rank - 1]));
}

template <class T>
void lrn_row(const OpContext& c, const T* x, T* y, int64_t n, char* buffer) {
  const int64_t size = c.attr_int(attr::lrn_::size);
  const int64_t before = (size - 1) / 2 < n ? (size - 1) / 2 : n, after = size - 1 - (size - 1) / 2 < n ? size / 2 : n;
  T* square = reinterpret_cast<T*>(buffer);
  T* total = reinterpret_cast<T*>(buffer + room(n, 24));
  for (int64_t i = 0; i < before; ++i) square[i] = 0;
  for (int64_t i = 0; i < n; ++i) square[before + i] = x[i] * x[i], total[i] = 0;
  for (int64_t i = 0; i < after; ++i) square[before + n + i] = 0;
  for (int64_t k = 0; k <= before + after; ++k)
    for (int64_t i = 0; i < n; ++i) total[i] += square[i + k];
  const double alpha = c.attr_double(attr::lrn_::alpha) / static_cast<double>(size),
               beta = c.attr_double(attr::lrn_::beta), bias = c.attr_double(attr::lrn_::bias);
  if constexpr (sizeof(T) == 4)
    DK_PICK_KERNELS(norm)->lrn(x, total, y, n, static_cast<float>(alpha), static_cast<float>(beta),
                               static_cast<float>(bias));
  else
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] / pow(bias + alpha * total[i], beta);
}

Status run_lrn(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return {};
  const int64_t n = x.dims[x.rank - 1];
  const ElementwiseKernels* k = DK_PICK_KERNELS(elementwise);
  const DType wide = wide_dtype(x.dtype);
  const size_t size = dtype_size(x.dtype);
  c.parallel(x.count() / n, grain_for(2048, static_cast<double>(n)), [&](int64_t begin, int64_t end, int lane) {
    char* row = static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * lrn_room(n);
    for (int64_t r = begin; r < end; ++r) {
      const size_t at = static_cast<size_t>(r * n) * size;
      stage_in(k, x.dtype, x.as<char>() + at, wide, row, n);
      if (wide == DType::f64)
        lrn_row(c, reinterpret_cast<double*>(row), reinterpret_cast<double*>(row), n, row + room(n, 8));
      else
        lrn_row(c, reinterpret_cast<float*>(row), reinterpret_cast<float*>(row), n, row + room(n, 8));
      stage_out(k, wide, row, x.dtype, y.as<char>() + at, n);
    }
  });
  return {};
}

const OpDef kDefs[] = {
    {Opcode::batch_norm_, infer_batch_norm, prepare_batch_norm, run_batch_norm, 1},
    {Opcode::layer_norm_, infer_layer_norm, prepare_layer_op<false>, run_layer, 1},
    {Opcode::rms_norm_, infer_layer_norm, prepare_layer_op<true>, run_layer, 1},
    {Opcode::group_norm_, infer_group_norm, prepare_group_norm, run_group_norm, 1},
    {Opcode::lrn_, infer_lrn, prepare_lrn, run_lrn, 1},
};

}  // namespace

extern const OpList ops_norm;
const OpList ops_norm = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
