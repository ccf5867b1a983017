// Ops along one axis: arg_max, arg_min, cumsum, cumprod.  x is seen as [outer, n, inner]; a task is a strip of columns.
#include "kernels/reduce/reduce.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

constexpr int kStrip = 64;

struct Along {
  int64_t outer, n, inner, strips;
};

Along along(const Tensor& x, int axis) {
  Along a;
  a.outer = product(x, 0, axis);
  a.n = x.dims[axis];
  a.inner = product(x, axis + 1, x.rank);
  a.strips = (a.inner + kStrip - 1) / kStrip;
  return a;
}

// Calls fn(offset of the strip's first element, its width) for tasks [begin, end).
template <class F>
void each_strip(const Along& a, int64_t begin, int64_t end, F&& fn) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = i % a.strips * kStrip;
    fn(i / a.strips * a.n * a.inner + first, static_cast<int>(a.inner - first < kStrip ? a.inner - first : kStrip));
  }
}

int64_t strip_grain(const Along& a) {
  return grain_for(8192, static_cast<double>(a.n) * static_cast<double>(a.inner < kStrip ? a.inner : kStrip));
}

// ---- arg_max, arg_min
Status infer_arg(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.dtype == DType::b8) return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::arg_max_::axis), x.rank, &axis));
  if (x.dims[axis] == 0) return c.fail(Code::shape, "nothing to choose from along axis %d", axis);
  const bool keep = c.attr_int(attr::arg_max_::keepdims) != 0;
  int64_t dims[kMaxRank];
  int rank = 0;
  for (int i = 0; i < x.rank; ++i)
    if (i != axis)
      dims[rank++] = x.dims[i];
    else if (keep)
      dims[rank++] = 1;
  return c.set_out(0, DType::s64, rank, dims);
}

struct Choice {
  bool min, last;  // last: the last of equals
  template <class T>
  bool takes(T v, T best) const {
    return (min ? v < best : v > best) || (last && v == best);
  }
};

template <class T>
void arg_strip(const Along& a, Choice choice, DType dtype, DType wide, const char* x, int width, int64_t* to) {
  const ElementwiseKernels* k = DK_PICK_KERNELS(elementwise);
  const size_t size = dtype_size(dtype);
  T best[kStrip], block[kStage];
  for (int i = 0; i < width; ++i) to[i] = 0;
  stage_in(k, dtype, x, wide, best, width);
  if (a.inner == 1) {
    for (int64_t begin = 0; begin < a.n; begin += kStage) {
      const int64_t n = a.n - begin < kStage ? a.n - begin : kStage;
      stage_in(k, dtype, x + static_cast<size_t>(begin) * size, wide, block, n);
      for (int64_t i = begin == 0; i < n; ++i)
        if (choice.takes(block[i], best[0])) best[0] = block[i], to[0] = begin + i;
    }
    return;
  }
  for (int64_t r = 1; r < a.n; ++r) {
    stage_in(k, dtype, x + static_cast<size_t>(r * a.inner) * size, wide, block, width);
    for (int i = 0; i < width; ++i)
      if (choice.takes(block[i], best[i])) best[i] = block[i], to[i] = r;
  }
}

// A row of f32: the extreme by SIMD, then where it is.
bool arg_row(const Along& a, Choice choice, const float* x, int64_t* to) {
  const ReduceKernels* k = DK_PICK_KERNELS(reduce);
  const double v = k->row[static_cast<int>(choice.min ? Fold::min : Fold::max)](x, a.n);
  *to = k->find(x, a.n, static_cast<float>(v), choice.last);
  return *to >= 0;  // false: it is a NaN
}

void arg_any(const Along& a, Choice choice, DType dtype, const char* x, int width, int64_t* to) {
  if (dtype == DType::f32 && a.inner == 1 && arg_row(a, choice, reinterpret_cast<const float*>(x), to)) return;
  const DType wide = wide_dtype(dtype);
  switch (wide) {
    case DType::f32: return arg_strip<float>(a, choice, dtype, wide, x, width, to);
    case DType::f64: return arg_strip<double>(a, choice, dtype, wide, x, width, to);
    case DType::u64: return arg_strip<uint64_t>(a, choice, dtype, wide, x, width, to);
    default: return arg_strip<int64_t>(a, choice, dtype, wide, x, width, to);
  }
}

template <bool kMin>
Status run_arg(OpContext& c) {
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::arg_max_::axis), x.rank, &axis));
  const Along a = along(x, axis);
  const Choice choice = {kMin, c.attr_int(attr::arg_max_::select_last) != 0};
  int64_t* y = c.out(0)->as<int64_t>();
  const size_t size = dtype_size(x.dtype);
  c.parallel(a.outer * a.strips, strip_grain(a), [&](int64_t begin, int64_t end, int) {
    each_strip(a, begin, end, [&](int64_t at, int width) {
      const char* from = x.as<char>() + static_cast<size_t>(at) * size;
      int64_t* to = y + at / (a.n * a.inner) * a.inner + at % a.inner;
      arg_any(a, choice, x.dtype, from, width, to);
    });
  });
  return {};
}

// ---- cumsum, cumprod
Status read_axis(const OpContext& c, int* axis) {
  int64_t value;
  int n;
  DK_TRY(c.read_ints(1, &value, 1, &n));
  if (n != 1) return c.fail(Code::shape, "axis is not a scalar; got %d elements", n);
  return axis_of(c, value, c.in(0)->rank, axis);
}

Status infer_running(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.dtype == DType::b8) return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  int axis;
  Status s = read_axis(c, &axis);
  if (!s.ok() && s.code != Code::need_value) return s;  // the shape of the result does not depend on it
  return c.set_out_like(0, x);
}

template <class T>
T accumulate(bool is_product, T a, T x) {  // integers wrap
  if constexpr (T(0.5) != 0) return is_product ? a * x : a + x;
  const uint64_t b = static_cast<uint64_t>(a), u = static_cast<uint64_t>(x);
  return static_cast<T>(is_product ? b * u : b + u);
}

struct Running {
  bool product, exclusive, reverse;
  DType dtype, wide;  // wide: double, int64 or uint64
};

template <class T>
void running_strip(const Along& a, const Running& p, const char* x, int width, char* y) {
  const ElementwiseKernels* k = DK_PICK_KERNELS(elementwise);
  const size_t size = dtype_size(p.dtype);
  T acc[kStrip], block[kStage];
  for (int i = 0; i < width; ++i) acc[i] = p.product;
  if (a.inner == 1) {  // contiguous: many elements at a time
    for (int64_t done = 0; done < a.n; done += kStage) {
      const int64_t n = a.n - done < kStage ? a.n - done : kStage;
      const size_t at = static_cast<size_t>(p.reverse ? a.n - done - n : done) * size;
      stage_in(k, p.dtype, x + at, p.wide, block, n);
      for (int64_t i = 0; i < n; ++i) {
        T& v = block[p.reverse ? n - 1 - i : i];
        const T before = acc[0];
        acc[0] = accumulate(p.product, before, v);
        v = p.exclusive ? before : acc[0];
      }
      stage_out(k, p.wide, block, p.dtype, y + at, n);
    }
    return;
  }
  for (int64_t r = 0; r < a.n; ++r) {
    const size_t at = static_cast<size_t>((p.reverse ? a.n - 1 - r : r) * a.inner) * size;
    stage_in(k, p.dtype, x + at, p.wide, block, width);
    if (p.exclusive) stage_out(k, p.wide, acc, p.dtype, y + at, width);
    for (int i = 0; i < width; ++i) acc[i] = accumulate(p.product, acc[i], block[i]);
    if (!p.exclusive) stage_out(k, p.wide, acc, p.dtype, y + at, width);
  }
}

template <bool kProduct>
Status run_running(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  int axis;
  DK_TRY(read_axis(c, &axis));
  if (y.count() == 0) return {};
  const Along a = along(x, axis);
  Running p;
  p.product = kProduct;
  p.exclusive = c.attr_int(attr::cumsum_::exclusive) != 0;
  p.reverse = c.attr_int(attr::cumsum_::reverse) != 0;
  p.dtype = x.dtype;
  p.wide = is_float(x.dtype) ? DType::f64 : wide_dtype(x.dtype);
  const size_t size = dtype_size(x.dtype);
  c.parallel(a.outer * a.strips, strip_grain(a), [&](int64_t begin, int64_t end, int) {
    each_strip(a, begin, end, [&](int64_t at, int width) {
      const char* from = x.as<char>() + static_cast<size_t>(at) * size;
      char* to = y.as<char>() + static_cast<size_t>(at) * size;
      if (p.wide == DType::f64)
        running_strip<double>(a, p, from, width, to);
      else if (p.wide == DType::u64)
        running_strip<uint64_t>(a, p, from, width, to);
      else
        running_strip<int64_t>(a, p, from, width, to);
    });
  });
  return {};
}

static_assert(attr::arg_max_::axis == attr::arg_min_::axis && attr::cumsum_::reverse == attr::cumprod_::reverse);

const OpDef kDefs[] = {
    {Opcode::arg_max_, infer_arg, nullptr, run_arg<false>, 0},
    {Opcode::arg_min_, infer_arg, nullptr, run_arg<true>, 0},
    {Opcode::cumsum_, infer_running, nullptr, run_running<false>, 0},
    {Opcode::cumprod_, infer_running, nullptr, run_running<true>, 0},
};

}  // namespace

extern const OpList ops_reduce_along;
const OpList ops_reduce_along = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
