// max_pool, avg_pool, lp_pool over channels-last images of one to three spatial dims; max_unpool.
//
// An output pixel folds the channel vectors of the input pixels under its window: pointers to them go to the SIMD
// tables (f32 max, mean, L2; 8-bit max), or to the blocks of a wide type here (all else, and indices).
#include "kernels/pool/pool.h"

#include <cmath>

#include "ops/pool_util.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

enum class Pool : uint8_t { max, avg, lp, gradient };

struct PoolState {
  Window w;
  Pool kind;
  DType dtype;
  const PoolKernels* kernels;
  const ElementwiseKernels* convert;
  int64_t channels, samples;
  int64_t after[3];  // padding that counts for avg with count_include_pad
  bool include_pad, column_major, indices, direct;
  int64_t p;
  int64_t grain;
};

static_assert(attr::max_pool_::kernel == attr::avg_pool_::kernel && attr::max_pool_::kernel == attr::lp_pool_::kernel &&
              attr::max_pool_::ceil_mode == attr::avg_pool_::ceil_mode &&
              attr::max_pool_::ceil_mode == attr::lp_pool_::ceil_mode);

Status infer_pool(OpContext& c, Pool kind) {
  const Tensor& x = *c.in(0);
  if (x.dtype == DType::b8 || (kind != Pool::max && !is_float(x.dtype)))
    return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  if (kind == Pool::lp && c.attr_int(attr::lp_pool_::p) < 1)
    return c.fail(Code::shape, "p; got %lld, expected at least 1",
                  static_cast<long long>(c.attr_int(attr::lp_pool_::p)));
  Window w;
  DK_TRY(pool_window(c, &w));
  int64_t dims[kMaxRank] = {x.dims[0]};
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  dims[x.rank - 1] = x.dims[x.rank - 1];
  DK_TRY(c.set_out(0, x.dtype, x.rank, dims));
  return kind == Pool::max ? c.set_out(1, DType::s64, x.rank, dims) : Status();
}

Status prepare_pool(OpContext& c, Pool kind) {
  PoolState* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(0);
  DK_TRY(pool_window(c, &s->w));
  const Window& w = s->w;
  s->kind = kind;
  s->dtype = x.dtype;
  s->kernels = DK_PICK_KERNELS(pool);
  s->convert = DK_PICK_KERNELS(elementwise);
  s->samples = x.dims[0];
  s->channels = x.dims[x.rank - 1];
  s->indices = kind == Pool::max && c.out(1);
  s->column_major = kind == Pool::max && c.attr_int(attr::max_pool_::column_major);
  s->include_pad = kind == Pool::avg && c.attr_int(attr::avg_pool_::count_include_pad);
  s->p = kind == Pool::lp ? c.attr_int(attr::lp_pool_::p) : 0;
  padding_after(c, w, s->after);
  s->direct =
      !s->indices && (s->dtype == DType::f32 ? kind != Pool::lp || s->p == 2
                                             : kind == Pool::max && (s->dtype == DType::s8 || s->dtype == DType::u8));
  const double taps =
      static_cast<double>(w.kernel[0]) * static_cast<double>(w.kernel[1]) * static_cast<double>(w.kernel[2]);
  s->grain = grain_for(s->direct ? 16384 : 1024, taps * static_cast<double>(s->channels));
  return {};
}

// Pointers to the taps in groups of kPoolTaps; fn(taps, n, more, last).
template <class T, class F>
void each_group(const PoolState& s, const Reach& r, const T* plane, F&& fn) {
  const T* taps[kPoolTaps];
  int n = 0;
  bool more = false;
  each_tap(s.w, r, [&](int64_t pixel) {
    if (n == kPoolTaps) {
      fn(taps, n, more, false);
      n = 0;
      more = true;
    }
    taps[n++] = plane + pixel * s.channels;
  });
  fn(taps, n, more, true);
}

void pixel_direct(const PoolState& s, const Reach& r, const char* plane, char* y) {
  const int64_t c = s.channels;
  if (s.dtype == DType::s8 || s.dtype == DType::u8) {
    if (r.count() == 0) {
      memset(y, s.dtype == DType::s8 ? 0x80 : 0, static_cast<size_t>(c));
    } else if (s.dtype == DType::s8) {
      int8_t* to = reinterpret_cast<int8_t*>(y);
      each_group(s, r, reinterpret_cast<const int8_t*>(plane),
                 [&](const int8_t* const* taps, int n, bool more, bool) { s.kernels->max_s8(taps, n, c, more, to); });
    } else {
      uint8_t* to = reinterpret_cast<uint8_t*>(y);
      each_group(s, r, reinterpret_cast<const uint8_t*>(plane),
                 [&](const uint8_t* const* taps, int n, bool more, bool) { s.kernels->max_u8(taps, n, c, more, to); });
    }
    return;
  }
  float* to = reinterpret_cast<float*>(y);
  const float factor = s.kind == Pool::avg ? static_cast<float>(1 / divisor(s.w, s.after, s.include_pad, r)) : 1.0f;
  each_group(s, r, reinterpret_cast<const float*>(plane), [&](const float* const* taps, int n, bool more, bool last) {
    if (s.kind == Pool::max)
      s.kernels->max_f32(taps, n, c, more, to);
    else if (s.kind == Pool::avg)
      s.kernels->sum(taps, n, c, more, last ? factor : 1.0f, to);
    else
      s.kernels->sum_square(taps, n, c, more, 1.0f, to);
  });
  for (int64_t i = 0; i < c && s.kind == Pool::lp; ++i) to[i] = sqrtf(to[i]);
}

// Position in the plane, flattened column-major: the first spatial dim runs fastest.
int64_t column_major(const Window& w, int64_t pixel) {
  const int64_t k = pixel % w.in[2], j = pixel / w.in[2] % w.in[1], i = pixel / w.in[2] / w.in[1];
  return (k * w.in[1] + j) * w.in[0] + i;
}

// T: the wide type of the dtype.
template <class T>
void pixel_max(const PoolState& s, const Reach& r, const char* plane, char* y, int64_t* index) {
  const DType wide = wide_dtype(s.dtype);
  const size_t size = dtype_size(s.dtype);
  T best[kStage], block[kStage];
  int64_t at[kStage];
  const double lowest = -INFINITY;
  for (int64_t c = 0; c < s.channels; c += kStage) {
    const int64_t n = s.channels - c < kStage ? s.channels - c : kStage;
    for (int64_t i = 0; i < n; ++i) at[i] = -1;
    each_tap(s.w, r, [&](int64_t pixel) {
      stage_in(s.convert, s.dtype, plane + static_cast<size_t>(pixel * s.channels + c) * size, wide, block, n);
      const int64_t position = s.column_major ? column_major(s.w, pixel) : pixel;
      for (int64_t i = 0; i < n; ++i)
        if (at[i] < 0 || block[i] > best[i] || (block[i] != block[i] && best[i] == best[i])) {
          best[i] = block[i];
          at[i] = position;
        }
    });
    if (y && r.count())
      stage_out(s.convert, wide, best, s.dtype, y + static_cast<size_t>(c) * size, n);
    else if (y)
      for (int64_t i = 0; i < n; ++i) convert(DType::f64, &lowest, s.dtype, y + static_cast<size_t>(c + i) * size, 1);
    if (index) memcpy(index + c, at, static_cast<size_t>(n) * sizeof *at);
  }
}

// avg and lp of any float dtype, in double.
void pixel_sum(const PoolState& s, const Reach& r, const char* plane, char* y) {
  const size_t size = dtype_size(s.dtype);
  double total[kStage], block[kStage];
  const double count = s.kind == Pool::avg ? divisor(s.w, s.after, s.include_pad, r) : 1;
  const double p = static_cast<double>(s.p);
  for (int64_t c = 0; c < s.channels; c += kStage) {
    const int64_t n = s.channels - c < kStage ? s.channels - c : kStage;
    for (int64_t i = 0; i < n; ++i) total[i] = 0;
    each_tap(s.w, r, [&](int64_t pixel) {
      stage_in(s.convert, s.dtype, plane + static_cast<size_t>(pixel * s.channels + c) * size, DType::f64, block, n);
      for (int64_t i = 0; i < n; ++i) total[i] += s.kind == Pool::avg ? block[i] : pow(fabs(block[i]), p);
    });
    for (int64_t i = 0; i < n; ++i) total[i] = s.kind == Pool::avg ? total[i] / count : pow(total[i], 1 / p);
    stage_out(s.convert, DType::f64, total, s.dtype, y + static_cast<size_t>(c) * size, n);
  }
}

Status run_pool(OpContext& c) {
  const PoolState& s = *c.state<PoolState>();
  const Window& w = s.w;
  const char* x = c.in(0)->as<char>();
  char* y = c.out(0) ? c.out(0)->as<char>() : nullptr;  // the winners' positions may be wanted alone
  int64_t* index = s.indices ? c.out(1)->as<int64_t>() : nullptr;
  const Tensor* any = c.out(0) ? c.out(0) : c.out(1);
  if (!any || any->count() == 0) return {};
  const size_t pixel_bytes = static_cast<size_t>(s.channels) * dtype_size(s.dtype);
  const DType wide = wide_dtype(s.dtype);
  c.parallel(s.samples * w.out_size(), s.grain, [&](int64_t begin, int64_t end, int) {
    Reach r;
    const char* plane = x;
    int64_t column = begin % w.out[2];
    for (int64_t i = begin; i < end; ++i, column = column + 1 < w.out[2] ? column + 1 : 0) {
      if (column == 0 || i == begin) {
        const int64_t row = i / w.out[2];
        r.set(w, 1, row % w.out[1]);
        r.set(w, 0, row / w.out[1] % w.out[0]);
        plane = x + static_cast<size_t>(row / (w.out[1] * w.out[0]) * w.in_size()) * pixel_bytes;
      }
      r.set(w, 2, column);
      char* to = y ? y + static_cast<size_t>(i) * pixel_bytes : nullptr;
      int64_t* to_index = index ? index + i * s.channels : nullptr;
      if (s.direct)
        pixel_direct(s, r, plane, to);
      else if (s.kind != Pool::max)
        pixel_sum(s, r, plane, to);
      else if (wide == DType::f32)
        pixel_max<float>(s, r, plane, to, to_index);
      else if (wide == DType::f64)
        pixel_max<double>(s, r, plane, to, to_index);
      else if (wide == DType::u64)
        pixel_max<uint64_t>(s, r, plane, to, to_index);
      else
        pixel_max<int64_t>(s, r, plane, to, to_index);
    }
  });
  return {};
}

template <Pool kKind>
Status infer_op(OpContext& c) {
  return infer_pool(c, kKind);
}
template <Pool kKind>
Status prepare_op(OpContext& c) {
  return prepare_pool(c, kKind);
}

// ---- max_pool_gradient: x, y, g.  Samples are independent; windows of one may overlap.
static_assert(attr::max_pool_gradient_::kernel == attr::max_pool_::kernel &&
              attr::max_pool_gradient_::strides == attr::max_pool_::strides &&
              attr::max_pool_gradient_::dilations == attr::max_pool_::dilations &&
              attr::max_pool_gradient_::pads == attr::max_pool_::pads &&
              attr::max_pool_gradient_::pad_mode == attr::max_pool_::pad_mode &&
              attr::max_pool_gradient_::ceil_mode == attr::max_pool_::ceil_mode);

Status infer_gradient(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.dtype != DType::f32 && x.dtype != DType::f64)
    return c.fail(Code::unsupported, "no kernel for dtype %s; train in float32 or float64", dtype_name(x.dtype));
  Window w;
  DK_TRY(pool_window(c, &w));
  Tensor y = x;
  for (int i = 0; i < w.rank; ++i) y.dims[1 + i] = w.out[3 - w.rank + i];
  for (int i = 1; i <= 2; ++i) {
    DK_TRY(same_dtype(c, 0, i));
    if (!same_dims(*c.in(i), y))
      return c.fail(Code::shape, "shape of %s; got %s, expected %s", i == 1 ? "y" : "g", ShapeText(*c.in(i)).text,
                    ShapeText(y).text);
  }
  return c.set_out_like(0, x);
}

Status prepare_gradient(OpContext& c) { return prepare_pool(c, Pool::gradient); }

template <class T>
void pixel_gradient(const PoolState& s, const Reach& r, const T* plane, const T* y, const T* g, T* to) {
  if (sizeof(T) == 4 && r.count() <= kPoolTaps) {
    const float* taps[kPoolTaps];
    float* outs[kPoolTaps];
    int n = 0;
    each_tap(s.w, r, [&](int64_t pixel) {
      taps[n] = reinterpret_cast<const float*>(plane + pixel * s.channels);
      outs[n++] = reinterpret_cast<float*>(to + pixel * s.channels);
    });
    s.kernels->max_gradient(taps, outs, n, s.channels, reinterpret_cast<const float*>(y),
                            reinterpret_cast<const float*>(g));
    return;
  }
  for (int64_t i = 0; i < s.channels; ++i) {
    bool open = true;
    each_tap(s.w, r, [&](int64_t pixel) {
      const T x = plane[pixel * s.channels + i];
      if (!open || (x != y[i] && x == x)) return;
      to[pixel * s.channels + i] += g[i];
      open = false;
    });
  }
}

template <class T>
void sample_gradient(OpContext& c, const PoolState& s, int64_t n) {
  const Window& w = s.w;
  const int64_t in = w.in_size() * s.channels, out = w.out_size() * s.channels;
  const T *x = c.in(0)->as<T>() + n * in, *y = c.in(1)->as<T>() + n * out, *g = c.in(2)->as<T>() + n * out;
  T* to = c.out(0)->as<T>() + n * in;
  memset(static_cast<void*>(to), 0, static_cast<size_t>(in) * sizeof(T));
  Reach r;
  for (int64_t i = 0; i < w.out[0]; ++i) {
    r.set(w, 0, i);
    for (int64_t j = 0; j < w.out[1]; ++j) {
      r.set(w, 1, j);
      for (int64_t k = 0; k < w.out[2]; ++k, y += s.channels, g += s.channels) {
        r.set(w, 2, k);
        pixel_gradient(s, r, x, y, g, to);
      }
    }
  }
}

Status run_gradient(OpContext& c) {
  const PoolState& s = *c.state<PoolState>();
  if (c.out(0)->count() == 0) return {};
  c.parallel(s.samples, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n)
      s.dtype == DType::f32 ? sample_gradient<float>(c, s, n) : sample_gradient<double>(c, s, n);
  });
  return {};
}

// ---- max_unpool
Status infer_unpool(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  const int rank = static_cast<int>(c.attr_ints(attr::max_unpool_::kernel).size());
  if (x.dtype == DType::b8) return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  if (rank < 1 || rank > 3 || x.rank != rank + 2)
    return c.fail(Code::shape, "kernel has %d sizes for x of shape %s, expected one per spatial dim, 1 to 3", rank,
                  ShapeText(x).text);
  if (!is_index(indices.dtype) || !same_dims(indices, x))
    return c.fail(Code::shape, "indices; got %s%s, expected int64 or int32 of shape %s", dtype_name(indices.dtype),
                  ShapeText(indices).text, ShapeText(x).text);
  int64_t dims[kMaxRank] = {x.dims[0]};
  dims[x.rank - 1] = x.dims[x.rank - 1];
  if (c.in(2)) {
    int n;
    DK_TRY(c.read_ints(2, dims, kMaxRank, &n));
    if (n != x.rank || dims[0] != x.dims[0] || dims[n - 1] != x.dims[n - 1])
      return c.fail(Code::shape, "output_shape does not fit x of %s; expected its first and last dim, and %d dims",
                    ShapeText(x).text, x.rank);
    for (int i = 0; i < n; ++i)
      if (dims[i] < 0) return c.fail(Code::shape, "output_shape has a negative entry");
  } else {
    int64_t strides[3], pads[6];
    DK_TRY(per_dim(c, attr::max_unpool_::strides, "strides", rank, 1, 1, strides));
    DK_TRY(per_dim(c, attr::max_unpool_::pads, "pads", 2 * rank, 0, 0, pads));
    for (int i = 0; i < rank; ++i) {
      const int64_t kernel = c.attr_ints(attr::max_unpool_::kernel)[i];
      if (kernel < 1 || kernel >= int64_t{1} << 31 || x.dims[1 + i] >= int64_t{1} << 31)
        return c.fail(Code::shape, "kernel size %lld, expected 1 to 2^31", static_cast<long long>(kernel));
      dims[1 + i] = (x.dims[1 + i] - 1) * strides[i] - pads[i] - pads[rank + i] + kernel;
      if (dims[1 + i] < 0) return c.fail(Code::shape, "pads leave nothing of dim %d", i + 1);
    }
  }
  return c.set_out(0, x.dtype, x.rank, dims);
}

template <class T>
bool scatter(const Tensor& x, const Tensor& indices, Tensor& y) {
  const int64_t channels = x.dims[x.rank - 1], plane = product(y, 1, y.rank - 1), pixels = product(x, 1, x.rank - 1);
  const T* from = x.as<T>();
  T* to = y.as<T>();
  int64_t i = 0;
  for (int64_t n = 0; n < x.dims[0]; ++n, to += plane * channels)
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < channels; ++c, ++i) {
        const int64_t at = index_at(indices, i);
        if (at < 0 || at >= plane) return false;
        to[at * channels + c] = from[i];
      }
  return true;
}

Status run_unpool(OpContext& c) {
  const Tensor &x = *c.in(0), &indices = *c.in(1);
  Tensor& y = *c.out(0);
  if (y.count()) memset(y.data, 0, y.bytes());
  bool good;
  switch (dtype_size(x.dtype)) {
    case 1: good = scatter<uint8_t>(x, indices, y); break;
    case 2: good = scatter<uint16_t>(x, indices, y); break;
    case 4: good = scatter<uint32_t>(x, indices, y); break;
    default: good = scatter<uint64_t>(x, indices, y); break;
  }
  if (!good) return c.fail(Code::index, "an index lies outside the plane of %s", ShapeText(y).text);
  return {};
}

const OpDef kDefs[] = {
    {Opcode::max_pool_, infer_op<Pool::max>, prepare_op<Pool::max>, run_pool, 0},
    {Opcode::avg_pool_, infer_op<Pool::avg>, prepare_op<Pool::avg>, run_pool, 0},
    {Opcode::lp_pool_, infer_op<Pool::lp>, prepare_op<Pool::lp>, run_pool, 0},
    {Opcode::max_pool_gradient_, infer_gradient, prepare_gradient, run_gradient, 0},
    {Opcode::max_unpool_, infer_unpool, nullptr, run_unpool, 0},
};

}  // namespace

extern const OpList ops_pool;
const OpList ops_pool = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
