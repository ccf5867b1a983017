// scatter_elements and scatter_nd: a copy of x with updates written or reduced into it, in row-major order of updates,
// so that duplicates give the same result everywhere (hence serial).
#include <type_traits>

#include "kernels/move/run.h"
#include "ops/index_util.h"

namespace dk {
extern const OpList ops_index_scatter;

namespace {

enum Reduction { none, add, mul, min, max };

struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};
struct Bool {
  uint8_t v;
};

template <class T>
inline T combine(T a, T b, Reduction r) {
  if constexpr (std::is_same_v<T, Half>) {
    return Half{f16_from_f32(combine(f32_from_f16(a.bits), f32_from_f16(b.bits), r))};
  } else if constexpr (std::is_same_v<T, Brain>) {
    return Brain{bf16_from_f32(combine(f32_from_bf16(a.bits), f32_from_bf16(b.bits), r))};
  } else if constexpr (std::is_same_v<T, Bool>) {
    const bool any = r == add || r == max;
    return Bool{static_cast<uint8_t>(any ? (a.v | b.v) : (a.v & b.v))};
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;  // wraps around
    switch (r) {
      case add: return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
      case mul: return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
      case min: return b < a ? b : a;
      default: return b > a ? b : a;
    }
  } else {
    switch (r) {
      case add: return a + b;
      case mul: return a * b;
      case min: return a != a || a < b ? a : b;  // NaN wins
      default: return a != a || a > b ? a : b;
    }
  }
}

// n updates, one behind the other, into as many elements: one function per dtype, called by address, since a copy of
// the walks over indices for each dtype would be 20 KB.
typedef void (*CombineFn)(void* to, const void* from, int64_t n, Reduction r);

template <class T>
void combine_run(void* to, const void* from, int64_t n, Reduction r) {
  T* y = static_cast<T*>(to);
  const T* x = static_cast<const T*>(from);
  for (int64_t i = 0; i < n; ++i) y[i] = combine(y[i], x[i], r);
}

// Null: no such dtype.
CombineFn combine_of(DType t) {
  switch (t) {
    case DType::f32: return combine_run<float>;
    case DType::f64: return combine_run<double>;
    case DType::f16: return combine_run<Half>;
    case DType::bf16: return combine_run<Brain>;
    case DType::s8: return combine_run<int8_t>;
    case DType::u8: return combine_run<uint8_t>;
    case DType::s16: return combine_run<int16_t>;
    case DType::u16: return combine_run<uint16_t>;
    case DType::s32: return combine_run<int32_t>;
    case DType::u32: return combine_run<uint32_t>;
    case DType::s64: return combine_run<int64_t>;
    case DType::u64: return combine_run<uint64_t>;
    case DType::b8: return combine_run<Bool>;
    default: return nullptr;
  }
}

Status scatter_check(OpContext& c, int reduction) {
  DK_TRY(index_input(c, 1));
  DK_TRY(same_dtype(c, 0, 2));
  if (reduction != none && !combine_of(c.in(0)->dtype))
    return c.fail(Code::unsupported, "no kernel to reduce dtype %s", dtype_name(c.in(0)->dtype));
  return c.set_out_like(0, *c.in(0));
}

// ---- scatter_elements

Status scatter_elements_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  const Tensor& updates = *c.in(2);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::scatter_elements_::axis), x.rank, &axis));
  if (indices.rank != x.rank) return c.fail(Code::shape, "indices have rank %d, x has %d", indices.rank, x.rank);
  if (!same_dims(indices, updates)) return c.fail(Code::shape, "indices and updates differ in shape");
  for (int i = 0; i < x.rank; ++i)
    if (i != axis && indices.dims[i] > x.dims[i])
      return c.fail(Code::shape, "dim %d of indices is %lld, x has %lld", i, static_cast<long long>(indices.dims[i]),
                    static_cast<long long>(x.dims[i]));
  return scatter_check(c, static_cast<int>(c.attr_int(attr::scatter_elements_::reduction)));
}

// Calls f(row of updates, offset in x without the axis' part, step of that offset along the row) for every row.
template <class F>
void each_update_row(const Tensor& x, const Tensor& indices, int axis, F&& f) {
  const int last = x.rank - 1;
  const int64_t rows = indices.count() / indices.dims[last];
  int64_t strides[kMaxRank];
  row_strides(x.rank, x.dims, strides);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t base = 0, rest = r;
    for (int k = last - 1; k >= 0; --k) {
      if (k != axis) base += rest % indices.dims[k] * strides[k];
      rest /= indices.dims[k];
    }
    f(r, base, axis == last ? 0 : 1, strides[axis]);
  }
}

Status scatter_elements_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  const Tensor& updates = *c.in(2);
  Tensor& y = *c.out(0);
  const auto reduction = static_cast<Reduction>(c.attr_int(attr::scatter_elements_::reduction));
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::scatter_elements_::axis), x.rank, &axis));
  const int64_t n = indices.count();
  DK_TRY(check_indices(c, 1, indices.data, indices.dtype, n, x.dims[axis]));
  if (y.data != x.data) copy_bytes(c, y.data, x.data, x.bytes());
  if (n == 0) return Code::ok;
  const int64_t cols = indices.dims[x.rank - 1], size = x.dims[axis];
  const int64_t bytes = static_cast<int64_t>(dtype_size(x.dtype));
  auto each = [&](auto&& f) {
    each_update_row(x, indices, axis, [&](int64_t r, int64_t base, int64_t step, int64_t stride) {
      for (int64_t j = 0; j < cols; ++j) {
        int64_t k = index_at(indices, r * cols + j);
        if (k < 0) k += size;
        f(base + j * step + k * stride, r * cols + j);
      }
    });
  };
  if (reduction == none) {
    with_mover(bytes, [&](auto move) {
      each([&](int64_t to, int64_t from) { move(y.as<char>() + to * bytes, updates.as<char>() + from * bytes); });
    });
    return Code::ok;
  }
  const CombineFn fn = combine_of(x.dtype);
  if (!fn) return Code::unsupported;
  each([&](int64_t to, int64_t from) {
    fn(y.as<char>() + to * bytes, updates.as<char>() + from * bytes, 1, reduction);
  });
  return Code::ok;
}

// ---- scatter_nd

Status scatter_nd_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  const Tensor& updates = *c.in(2);
  if (indices.rank < 1 || x.rank < 1)
    return c.fail(Code::shape, "x and indices must have rank 1 or more; got %d and %d", x.rank, indices.rank);
  const int64_t depth = indices.dims[indices.rank - 1];
  if (depth > x.rank)
    return c.fail(Code::shape, "index tuples have %lld numbers, x has rank %d", static_cast<long long>(depth), x.rank);
  const int tail = static_cast<int>(depth);
  bool fits = updates.rank == indices.rank - 1 + x.rank - tail;
  for (int i = 0; fits && i < updates.rank; ++i)
    fits = updates.dims[i] == (i < indices.rank - 1 ? indices.dims[i] : x.dims[i - (indices.rank - 1) + tail]);
  if (!fits)
    return c.fail(Code::shape, "updates must have the leading dims of indices, then the dims of x behind %d", tail);
  return scatter_check(c, static_cast<int>(c.attr_int(attr::scatter_nd_::reduction)));
}

Status scatter_nd_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  const Tensor& updates = *c.in(2);
  Tensor& y = *c.out(0);
  const auto reduction = static_cast<Reduction>(c.attr_int(attr::scatter_nd_::reduction));
  const int depth = static_cast<int>(indices.dims[indices.rank - 1]);
  const int64_t tuples = product(indices, 0, indices.rank - 1);
  for (int64_t i = 0; i < tuples * depth; ++i) {
    const int64_t v = index_at(indices, i), size = x.dims[i % depth];
    if (v < -size || v >= size) return bad_index(c, 1, i, v, size);
  }
  if (y.data != x.data) copy_bytes(c, y.data, x.data, x.bytes());
  if (updates.count() == 0) return Code::ok;
  const int64_t inner = product(x, depth, x.rank);
  auto each = [&](auto&& f) {
    for (int64_t r = 0; r < tuples; ++r) {
      int64_t at = 0;
      for (int k = 0; k < depth; ++k) {
        const int64_t v = index_at(indices, r * depth + k), size = x.dims[k];
        at = at * size + (v < 0 ? v + size : v);
      }
      f(at * inner, r * inner);
    }
  };
  const int64_t bytes = static_cast<int64_t>(dtype_size(x.dtype));
  if (reduction == none) {
    with_mover(inner * bytes, [&](auto move) {
      each([&](int64_t to, int64_t from) { move(y.as<char>() + to * bytes, updates.as<char>() + from * bytes); });
    });
    return Code::ok;
  }
  const CombineFn fn = combine_of(x.dtype);
  if (!fn) return Code::unsupported;
  each([&](int64_t to, int64_t from) {
    fn(y.as<char>() + to * bytes, updates.as<char>() + from * bytes, inner, reduction);
  });
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::scatter_elements_, scatter_elements_infer, nullptr, scatter_elements_run, 1},
    {Opcode::scatter_nd_, scatter_nd_infer, nullptr, scatter_nd_run, 1},
};

}  // namespace

const OpList ops_index_scatter = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
