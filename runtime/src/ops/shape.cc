// Ops about shapes: shape_of, size_of, the views (reshape, flatten, squeeze, unsqueeze), fill and range.
// Movement of data (transpose, concat, slice, ...) is in shape_move.cc.
#include <cmath>

#include "base/convert.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_shape;

namespace {

void shape_range(const OpContext& c, int* from, int* to) {
  const int64_t rank = c.in(0)->rank;
  auto clamp = [rank](int64_t v) {
    if (v < 0) v += rank;
    return static_cast<int>(v < 0 ? 0 : v > rank ? rank : v);
  };
  *from = clamp(c.attr_int(attr::shape_of_::start));
  *to = clamp(c.attr_int(attr::shape_of_::end));
  if (*to < *from) *to = *from;
}

Status shape_of_infer(OpContext& c) {
  int from, to;
  shape_range(c, &from, &to);
  const int64_t n = to - from;
  return c.set_out(0, DType::s64, 1, &n);
}

Status shape_of_run(OpContext& c) {
  int from, to;
  shape_range(c, &from, &to);
  int64_t* y = c.out(0)->as<int64_t>();
  for (int i = from; i < to; ++i) *y++ = c.in(0)->dims[i];
  return Code::ok;
}

Status size_of_infer(OpContext& c) { return c.set_out(0, DType::s64, 0, nullptr); }

Status size_of_run(OpContext& c) {
  *c.out(0)->as<int64_t>() = c.in(0)->count();
  return Code::ok;
}

// ---- views

Status reshape_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int64_t dims[kMaxRank];
  int n = 0;
  if (c.in(1)->rank > 1) return c.fail(Code::shape, "shape must be a vector; got rank %d", c.in(1)->rank);
  DK_TRY(c.read_ints(1, dims, kMaxRank, &n));
  const bool allow_zero = c.attr_int(attr::reshape_::allow_zero) != 0;
  // `known` and `left` leave out the dims copied from x, so that [0, -1] of an empty [0, 3] still finds the 3.
  int64_t known = 1, left = 1;
  uint32_t copied = 0;
  int unknown = -1;
  for (int i = 0; i < n; ++i) {
    if (dims[i] == 0 && !allow_zero) {
      if (i >= x.rank) return c.fail(Code::shape, "dim %d of shape is 0 (copy), but x has rank %d", i, x.rank);
      dims[i] = x.dims[i];
      copied |= 1u << i;
    } else if (dims[i] == -1) {
      if (unknown >= 0) return c.fail(Code::shape, "shape has more than one -1 (dims %d and %d)", unknown, i);
      unknown = i;
    } else if (dims[i] < 0) {
      return c.fail(Code::shape, "dim %d of shape is negative; got %lld, expected -1 or more", i,
                    static_cast<long long>(dims[i]));
    } else if (__builtin_mul_overflow(known, dims[i], &known)) {
      return c.fail(Code::shape, "shape has more elements than can be counted");
    }
  }
  for (int i = 0; i < x.rank; ++i)
    if (!(copied >> i & 1)) left *= x.dims[i];
  if (unknown >= 0) {
    if (known == 0 || left % known != 0)
      return c.fail(Code::shape, "cannot find the -1 in shape: %lld elements do not divide by %lld",
                    static_cast<long long>(left), static_cast<long long>(known));
    dims[unknown] = left / known;
  } else if (known != left && x.count() != 0) {
    return c.fail(Code::shape, "shape has %lld elements, x has %lld",
                  static_cast<long long>(known * (x.count() / (left ? left : 1))), static_cast<long long>(x.count()));
  } else if (x.count() == 0 && product(dims, 0, n) != 0) {
    return c.fail(Code::shape, "shape has %lld elements, x has 0", static_cast<long long>(product(dims, 0, n)));
  }
  return c.set_out(0, x.dtype, n, dims);
}

Status flatten_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int64_t axis = c.attr_int(attr::flatten_::axis);
  if (axis < -x.rank || axis > x.rank)
    return c.fail(Code::shape, "axis is out of range; got %lld, expected -%d to %d", static_cast<long long>(axis),
                  x.rank, x.rank);
  if (axis < 0) axis += x.rank;
  const int64_t dims[2] = {product(x, 0, static_cast<int>(axis)), product(x, static_cast<int>(axis), x.rank)};
  return c.set_out(0, x.dtype, 2, dims);
}

Status squeeze_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  uint32_t drop = 0;
  if (c.in(1)) {
    int64_t axes[kMaxRank];
    int n = 0;
    DK_TRY(c.read_ints(1, axes, kMaxRank, &n));
    DK_TRY(axis_set(c, axes, n, x.rank, &drop));
  } else {
    for (int i = 0; i < x.rank; ++i) drop |= static_cast<uint32_t>(x.dims[i] == 1) << i;
  }
  int64_t dims[kMaxRank];
  int n = 0;
  for (int i = 0; i < x.rank; ++i) {
    if (!(drop >> i & 1))
      dims[n++] = x.dims[i];
    else if (x.dims[i] != 1)
      return c.fail(Code::shape, "axis %d cannot be dropped; its size is %lld, expected 1", i,
                    static_cast<long long>(x.dims[i]));
  }
  return c.set_out(0, x.dtype, n, dims);
}

Status unsqueeze_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int64_t axes[kMaxRank];
  int n = 0;
  DK_TRY(c.read_ints(1, axes, kMaxRank, &n));
  const int rank = x.rank + n;
  if (rank > kMaxRank) return c.fail(Code::unsupported, "result of rank %d; at most %d", rank, kMaxRank);
  uint32_t added;
  DK_TRY(axis_set(c, axes, n, rank, &added));
  int64_t dims[kMaxRank];
  int k = 0;
  for (int i = 0; i < rank; ++i) dims[i] = added >> i & 1 ? 1 : x.dims[k++];
  return c.set_out(0, x.dtype, rank, dims);
}

// ---- fill, range

Status read_dims(OpContext& c, int input, int64_t* dims, int* n) {
  if (c.in(input)->rank > 1) return c.fail(Code::shape, "shape must be a vector; got rank %d", c.in(input)->rank);
  DK_TRY(c.read_ints(input, dims, kMaxRank, n));
  for (int i = 0; i < *n; ++i)
    if (dims[i] < 0)
      return c.fail(Code::shape, "dim %d of shape is negative; got %lld", i, static_cast<long long>(dims[i]));
  return Code::ok;
}

Status fill_infer(OpContext& c) {
  if (c.in(1)->count() != 1)
    return c.fail(Code::shape, "value must be a scalar; got %lld elements", static_cast<long long>(c.in(1)->count()));
  int64_t dims[kMaxRank];
  int n = 0;
  DK_TRY(read_dims(c, 0, dims, &n));
  return c.set_out(0, c.in(1)->dtype, n, dims);
}

Status fill_run(OpContext& c) {
  Tensor& y = *c.out(0);
  const void* value = c.in(1)->data;
  const size_t size = dtype_size(y.dtype);
  const int64_t n = y.count();
  if (n == 0) return Code::ok;
  c.parallel(n, static_cast<int64_t>(65536 / size), [&](int64_t b, int64_t e, int) {
    dk::fill_run(y.as<char>() + static_cast<size_t>(b) * size, value, size, e - b);
  });
  return Code::ok;
}

// Elements of a range of integers, or -1 when there are too many to count.
template <class T>
int64_t range_count(T start, T limit, T delta) {
  // 64-bit differences may overflow as signed numbers but never as unsigned ones.
  const bool up = delta > 0;
  if (up ? start >= limit : start <= limit) return 0;
  const uint64_t span = up ? static_cast<uint64_t>(limit) - static_cast<uint64_t>(start)
                           : static_cast<uint64_t>(start) - static_cast<uint64_t>(limit);
  const uint64_t step = up ? static_cast<uint64_t>(delta) : 0 - static_cast<uint64_t>(delta);
  const uint64_t n = span / step + (span % step != 0);
  return n > INT64_MAX ? -1 : static_cast<int64_t>(n);
}

// The three numbers as T: double for floats, 64-bit integers else.
template <class T>
Status read_range(const OpContext& c, T* to) {
  const DType wide = is_float(c.in(0)->dtype) ? DType::f64 : static_cast<T>(-1) < 0 ? DType::s64 : DType::u64;
  for (int i = 0; i < 3; ++i) {
    const void* v = c.value(i);
    if (!v) return c.need_value(i);
    convert(c.in(i)->dtype, v, wide, to + i, 1);
  }
  if (to[2] == 0) return c.fail(Code::shape, "delta is 0");
  return Code::ok;
}

Status range_infer(OpContext& c) {
  static const char* const names[] = {"start", "limit", "delta"};
  const DType t = c.in(0)->dtype;
  if (t == DType::b8) return c.fail(Code::shape, "start is bool, expected a number");
  for (int i = 0; i < 3; ++i) {
    if (c.in(i)->count() != 1)
      return c.fail(Code::shape, "%s must be a scalar; got %lld elements", names[i],
                    static_cast<long long>(c.in(i)->count()));
    DK_TRY(same_dtype(c, 0, i));
  }
  int64_t n;
  if (is_float(t)) {
    double v[3];
    DK_TRY(read_range(c, v));
    if (!std::isfinite(v[0]) || !std::isfinite(v[1]) || std::isnan(v[2]))
      return c.fail(Code::shape, "start, limit and delta must be finite; got %g, %g, %g", v[0], v[1], v[2]);
    const double count = std::ceil((v[1] - v[0]) / v[2]);
    n = count >= 9.0e18 ? -1 : count > 0 ? static_cast<int64_t>(count) : 0;
  } else if (t == DType::u64) {
    uint64_t v[3];
    DK_TRY(read_range(c, v));
    n = range_count(v[0], v[1], v[2]);
  } else {
    int64_t v[3];
    DK_TRY(read_range(c, v));
    n = range_count(v[0], v[1], v[2]);
  }
  if (n < 0) return c.fail(Code::shape, "the range has too many elements");
  return c.set_out(0, t, 1, &n);
}

// Floats in float64, rounded once; integers modulo 2^64.
template <class T>
Status fill_range(const OpContext& c, DType wide) {
  Tensor& y = *c.out(0);
  T v[3];
  DK_TRY(read_range(c, v));
  const int64_t n = y.count();
  const size_t size = dtype_size(y.dtype);
  T part[256];
  for (int64_t i = 0; i < n; i += 256) {
    const int64_t m = n - i < 256 ? n - i : 256;
    for (int64_t k = 0; k < m; ++k) part[k] = v[0] + static_cast<T>(i + k) * v[2];
    convert(wide, part, y.dtype, y.as<char>() + static_cast<size_t>(i) * size, m);
  }
  return Code::ok;
}

Status range_run(OpContext& c) {
  if (is_float(c.out(0)->dtype)) return fill_range<double>(c, DType::f64);
  return fill_range<uint64_t>(c, DType::u64);
}

const OpDef defs[] = {
    {Opcode::shape_of_, shape_of_infer, nullptr, shape_of_run},
    {Opcode::size_of_, size_of_infer, nullptr, size_of_run},
    {Opcode::reshape_, reshape_infer, nullptr, nullptr},
    {Opcode::flatten_, flatten_infer, nullptr, nullptr},
    {Opcode::squeeze_, squeeze_infer, nullptr, nullptr},
    {Opcode::unsqueeze_, unsqueeze_infer, nullptr, nullptr},
    {Opcode::fill_, fill_infer, nullptr, fill_run},
    {Opcode::range_, range_infer, nullptr, range_run},
};

}  // namespace

const OpList ops_shape = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
