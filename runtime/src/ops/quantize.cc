// quantize, dequantize, dynamic_quantize.  All arithmetic in float32, as in deploykit/ops/quantize.py.
//
// Whatever the granularity, the work is a list of rows in which the scale is constant or runs along (see Rows).
#include <cmath>

#include "base/convert.h"
#include "kernels/quantize/quantize.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_quantize;

namespace {

constexpr int64_t kPart = 512;  // elements converted at once, on the stack

// Integers of at most 16 bits, and the small floats but e8m0.
bool is_stored(DType t) {
  switch (t) {
    case DType::s8:
    case DType::u8:
    case DType::s16:
    case DType::u16:
    case DType::s4:
    case DType::u4:
    case DType::s2:
    case DType::u2:
    case DType::f8e4m3fn:
    case DType::f8e4m3fnuz:
    case DType::f8e5m2:
    case DType::f8e5m2fnuz:
    case DType::f4e2m1fn: return true;
    default: return false;
  }
}

// Fits scale (input 1) and zero_point (input 2) to x.
Status check_scale(const OpContext& c, int64_t axis_attr, int64_t block) {
  const Tensor& x = *c.in(0);
  const Tensor& scale = *c.in(1);
  if (!is_float(scale.dtype)) return c.fail(Code::shape, "scale must be floats; got %s", dtype_name(scale.dtype));
  if (c.in(2) && !same_dims(scale, *c.in(2))) return c.fail(Code::shape, "scale and zero_point differ in shape");
  if (block < 0) return c.fail(Code::shape, "block_size is %lld, expected 0 or more", static_cast<long long>(block));
  if (scale.rank == 0 || (scale.rank == 1 && scale.dims[0] == 1)) return Code::ok;
  int axis;
  DK_TRY(axis_of(c, axis_attr, x.rank, &axis));
  if (block == 0) {
    if (scale.rank != 1 || scale.dims[0] != x.dims[axis])
      return c.fail(Code::shape, "scale must be a scalar or a vector of %lld (the size of axis %d)",
                    static_cast<long long>(x.dims[axis]), axis);
    return Code::ok;
  }
  bool fits = scale.rank == x.rank;
  for (int i = 0; fits && i < x.rank; ++i) {
    const int64_t want = i == axis ? x.dims[i] / block + (x.dims[i] % block != 0) : x.dims[i];
    fits = scale.dims[i] == want;
  }
  if (!fits)
    return c.fail(Code::shape, "scale must have x's shape with one element per block of %lld along axis %d",
                  static_cast<long long>(block), axis);
  return Code::ok;
}

// x cut into rows in which the scale is constant (step 0) or runs along (step 1).
struct Rows {
  enum Kind { single, axis, last_axis, blocks, last_axis_blocks } kind;
  int64_t count, step;
  int64_t len;                         // of a row; the last block of the last axis may be shorter
  int64_t n, block = 1, n_blocks = 1;  // size of the axis, of a block, blocks in the axis

  // Where row r starts in x, how long it is, and where its scale is.
  void row(int64_t r, int64_t* start, int64_t* length, int64_t* scale) const {
    *start = r * len;
    *length = len;
    switch (kind) {
      case single:
      case last_axis: *scale = 0; break;
      case axis: *scale = r % n; break;
      case blocks: *scale = (r / n * n_blocks + r % n / block) * len; break;
      case last_axis_blocks: {
        const int64_t first = r % n_blocks * block;
        *start = r / n_blocks * n + first;
        *length = n - first < block ? n - first : block;
        *scale = r;
      }
    }
  }
};

Rows rows_of(const Tensor& x, const Tensor& scale, int64_t axis_attr, int64_t block) {
  const int64_t total = x.count();
  if (scale.count() == 1 || total == 0) return {Rows::single, 1, 0, total, 1};
  const int a = static_cast<int>(axis_attr < 0 ? axis_attr + x.rank : axis_attr);
  const int64_t n = x.dims[a], inner = product(x, a + 1, x.rank);
  if (block == 0)
    return inner == 1 ? Rows{Rows::last_axis, total / n, 1, n, n} : Rows{Rows::axis, total / inner, 0, inner, n};
  const int64_t count = (n + block - 1) / block;
  if (inner == 1) return {Rows::last_axis_blocks, total / n * count, 0, block, n, block, count};
  return {Rows::blocks, total / inner, 1, inner, n, block, count};
}

// float32 scales and s32 zero points, converted when they are not.
struct Params {
  const float* scale;
  const int32_t* zero;
  bool has_zero;
};

Status params_prepare(OpContext& c) {
  const size_t n = static_cast<size_t>(c.in(1)->count());
  return c.need_scratch(8 * n);
}

Params params_run(const OpContext& c) {
  static const int32_t none = 0;
  const Tensor& scale = *c.in(1);
  const int64_t n = scale.count();
  Params p{scale.as<float>(), &none, c.in(2) != nullptr && !is_float(c.in(2)->dtype)};
  float* room = static_cast<float*>(c.scratch());
  if (scale.dtype != DType::f32) {
    convert(scale.dtype, scale.data, DType::f32, room, n);
    p.scale = room;
  }
  if (p.has_zero) {
    int32_t* z = static_cast<int32_t*>(c.scratch()) + n;
    convert(c.in(2)->dtype, c.in(2)->data, DType::s32, z, n);
    p.zero = z;
  }
  return p;
}

// Splits rows into parts of at most kPart elements and calls f(row parameters, offset of the part in x).
template <class F>
void each_part(const OpContext& c, const Rows& rows, const Params& p, F&& f) {
  auto go = [&](int64_t r, int64_t from, int64_t to) {
    int64_t start, length, scale = 0;
    rows.row(r, &start, &length, &scale);
    if (to > length) to = length;
    for (int64_t i = from; i < to; i += kPart) {
      const int64_t k = scale + (rows.step ? i : 0);
      const QuantizeRow row{p.scale + k, rows.step, p.has_zero ? p.zero + k : p.zero, p.has_zero ? rows.step : 0,
                            to - i < kPart ? to - i : kPart};
      f(row, start + i);
    }
  };
  if (rows.count == 1) {  // one long row: split it
    c.parallel((rows.len + kPart - 1) / kPart, 16, [&](int64_t b, int64_t e, int) { go(0, b * kPart, e * kPart); });
  } else {
    c.parallel(rows.count, 8192 / rows.len + 1, [&](int64_t b, int64_t e, int) {
      for (int64_t r = b; r < e; ++r) go(r, 0, rows.len);
    });
  }
}

// ---- quantize

namespace Q = attr::quantize_;

Status quantize_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (!is_float(x.dtype) && x.dtype != DType::s32)
    return c.fail(Code::shape, "x must be floats or int32; got %s", dtype_name(x.dtype));
  const DType t = c.in(2) ? c.in(2)->dtype : static_cast<DType>(c.attr_int(Q::dtype));
  if (!is_stored(t)) return c.fail(Code::shape, "cannot quantize to %s", dtype_name(t));
  DK_TRY(check_scale(c, c.attr_int(Q::axis), c.attr_int(Q::block_size)));
  return c.set_out(0, t, x.rank, x.dims);
}

Status quantize_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  const Rows rows = rows_of(x, *c.in(1), c.attr_int(Q::axis), c.attr_int(Q::block_size));
  const Params p = params_run(c);
  const QuantizeKernels* k = quantize_kernels();
  const size_t in_size = dtype_size(x.dtype), out_size = dtype_size(y.dtype);
  const bool saturate = c.attr_int(Q::saturate) != 0;
  int32_t low = 0, high = 0;
  switch (y.dtype) {
    case DType::s16: low = -32768, high = 32767; break;
    case DType::u16: high = 65535; break;
    case DType::s4: low = -8, high = 7; break;
    case DType::u4: high = 15; break;
    case DType::s2: low = -2, high = 1; break;
    case DType::u2: high = 3; break;
    default: break;
  }
  each_part(c, rows, p, [&](const QuantizeRow& row, int64_t at) {
    float from[kPart];
    int32_t ints[kPart];
    const char* s = x.as<char>() + static_cast<size_t>(at) * in_size;
    char* d = y.as<char>() + static_cast<size_t>(at) * out_size;
    const float* v = reinterpret_cast<const float*>(s);
    if (x.dtype != DType::f32) {
      convert(x.dtype, s, DType::f32, from, row.n);
      v = from;
    }
    if (y.dtype == DType::u8) return k->to_u8(&row, v, reinterpret_cast<uint8_t*>(d));
    if (y.dtype == DType::s8) return k->to_s8(&row, v, reinterpret_cast<int8_t*>(d));
    if (is_float(y.dtype)) {
      k->divide(&row, v, from);
      return store_wide(y.dtype, from, row.n, d, saturate);
    }
    k->to_s32(&row, v, ints, low, high);
    convert(DType::s32, ints, y.dtype, d, row.n);
  });
  return Code::ok;
}

// ---- dequantize

namespace D = attr::dequantize_;

Status dequantize_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (!is_stored(x.dtype) && x.dtype != DType::s32)
    return c.fail(Code::shape, "cannot dequantize %s", dtype_name(x.dtype));
  if (c.in(2)) DK_TRY(same_dtype(c, 0, 2));
  DK_TRY(check_scale(c, c.attr_int(D::axis), c.attr_int(D::block_size)));
  DType t = static_cast<DType>(c.attr_int(D::dtype));
  if (t == DType::none) t = c.in(1)->dtype;
  if (!is_float(t)) return c.fail(Code::shape, "cannot dequantize to %s; expected a float", dtype_name(t));
  return c.set_out(0, t, x.rank, x.dims);
}

Status dequantize_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  const Rows rows = rows_of(x, *c.in(1), c.attr_int(D::axis), c.attr_int(D::block_size));
  const Params p = params_run(c);
  const QuantizeKernels* k = quantize_kernels();
  const size_t in_size = dtype_size(x.dtype), out_size = dtype_size(y.dtype);
  each_part(c, rows, p, [&](const QuantizeRow& row, int64_t at) {
    float out[kPart];
    int32_t ints[kPart];
    const char* s = x.as<char>() + static_cast<size_t>(at) * in_size;
    char* d = y.as<char>() + static_cast<size_t>(at) * out_size;
    float* to = y.dtype == DType::f32 ? reinterpret_cast<float*>(d) : out;
    if (x.dtype == DType::u8) {
      k->from_u8(&row, reinterpret_cast<const uint8_t*>(s), to);
    } else if (x.dtype == DType::s8) {
      k->from_s8(&row, reinterpret_cast<const int8_t*>(s), to);
    } else if (is_float(x.dtype)) {
      load_wide(x.dtype, s, row.n, to);
      for (int64_t i = 0; i < row.n; ++i) to[i] *= row.scale[i * row.scale_step];
    } else {
      const int32_t* v = reinterpret_cast<const int32_t*>(s);
      if (x.dtype != DType::s32) {
        convert(x.dtype, s, DType::s32, ints, row.n);
        v = ints;
      }
      k->from_s32(&row, v, to);
    }
    if (to == out) convert(DType::f32, out, y.dtype, d, row.n);
  });
  return Code::ok;
}

// ---- dynamic_quantize

Status dynamic_quantize_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.dtype != DType::f32) return c.fail(Code::shape, "x must be float32; got %s", dtype_name(x.dtype));
  if (c.out(0)) DK_TRY(c.set_out(0, DType::u8, x.rank, x.dims));
  if (c.out(1)) DK_TRY(c.set_out(1, DType::f32, 0, nullptr));
  return c.out(2) ? c.set_out(2, DType::u8, 0, nullptr) : Status();
}

Status dynamic_quantize_prepare(OpContext& c) {
  return c.need_scratch(128 * static_cast<size_t>(c.threads()));  // a cache line or more for each lane's range
}

Status dynamic_quantize_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const QuantizeKernels* k = quantize_kernels();
  const int64_t n = x.count();
  float* ranges = static_cast<float*>(c.scratch());
  for (int i = 0; i < c.threads(); ++i) ranges[32 * i] = ranges[32 * i + 1] = 0;
  c.parallel(n, 16384, [&](int64_t b, int64_t e, int lane) {
    k->range(x.as<float>() + b, e - b, ranges + 32 * lane, ranges + 32 * lane + 1);
  });
  float low = 0, high = 0;
  for (int i = 0; i < c.threads(); ++i) {
    if (ranges[32 * i] < low) low = ranges[32 * i];
    if (ranges[32 * i + 1] > high) high = ranges[32 * i + 1];
  }
  const float scale = high > low ? (high - low) / 255.0f : 1.0f;
  const float point = std::nearbyint(-low / scale);
  const int32_t zero = point > 0 ? point < 255 ? static_cast<int32_t>(point) : 255 : 0;
  if (c.out(1)) *c.out(1)->as<float>() = scale;
  if (c.out(2)) *c.out(2)->as<uint8_t>() = static_cast<uint8_t>(zero);
  if (c.out(0))
    c.parallel(n, 16384, [&](int64_t b, int64_t e, int) {
      const QuantizeRow row{&scale, 0, &zero, 0, e - b};
      k->to_u8(&row, x.as<float>() + b, c.out(0)->as<uint8_t>() + b);
    });
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::quantize_, quantize_infer, params_prepare, quantize_run},
    {Opcode::dequantize_, dequantize_infer, params_prepare, dequantize_run},
    {Opcode::dynamic_quantize_, dynamic_quantize_infer, dynamic_quantize_prepare, dynamic_quantize_run},
};

}  // namespace

const OpList ops_quantize = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
