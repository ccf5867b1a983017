// Gathers, one_hot, tensor_scatter.  Every index is checked before anything is read with it.
#include "kernels/move/run.h"
#include "ops/index_util.h"

namespace dk {
extern const OpList ops_index;

namespace {

// ---- gather

Status gather_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::gather_::axis), x.rank, &axis));
  DK_TRY(index_input(c, 1));
  const int rank = x.rank - 1 + indices.rank;
  if (rank > kMaxRank) return c.fail(Code::unsupported, "result of rank %d; at most %d", rank, kMaxRank);
  int64_t dims[kMaxRank];
  int n = 0;
  for (int i = 0; i < axis; ++i) dims[n++] = x.dims[i];
  for (int i = 0; i < indices.rank; ++i) dims[n++] = indices.dims[i];
  for (int i = axis + 1; i < x.rank; ++i) dims[n++] = x.dims[i];
  if (const void* v = c.value(1)) DK_TRY(check_indices(c, 1, v, indices.dtype, indices.count(), x.dims[axis]));
  return c.set_out(0, x.dtype, n, dims);
}

Status gather_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::gather_::axis), x.rank, &axis));
  const int64_t n = indices.count(), size = x.dims[axis];
  DK_TRY(check_indices(c, 1, indices.data, indices.dtype, n, size));
  const int64_t run = product(x, axis + 1, x.rank) * static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t outer = product(x, 0, axis);
  if (c.out(0)->count() == 0) return Code::ok;
  auto part = [&](int64_t b, int64_t e) {
    with_mover(run, [&](auto move) {
      char* d = c.out(0)->as<char>() + b * run;
      int64_t i = b % n;
      const char* s = x.as<char>() + b / n * size * run;
      for (int64_t r = b; r < e; ++r, d += run) {
        const int64_t k = index_at(indices, i);
        move(d, s + (k < 0 ? k + size : k) * run);
        if (++i == n) i = 0, s += size * run;
      }
    });
  };
  if (outer * n * run <= 65536)
    part(0, outer * n);
  else
    c.parallel(outer * n, copy_grain(run), [&](int64_t b, int64_t e, int) { part(b, e); });
  return Code::ok;
}

// ---- gather_elements

Status gather_elements_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::gather_elements_::axis), x.rank, &axis));
  DK_TRY(index_input(c, 1));
  if (indices.rank != x.rank) return c.fail(Code::shape, "indices have rank %d, x has %d", indices.rank, x.rank);
  for (int i = 0; i < x.rank; ++i)
    if (i != axis && indices.dims[i] > x.dims[i])
      return c.fail(Code::shape, "dim %d of indices is %lld, x has %lld", i, static_cast<long long>(indices.dims[i]),
                    static_cast<long long>(x.dims[i]));
  return c.set_out(0, x.dtype, x.rank, indices.dims);
}

Status gather_elements_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::gather_elements_::axis), x.rank, &axis));
  const int64_t total = indices.count();
  if (total == 0) return Code::ok;
  DK_TRY(check_indices(c, 1, indices.data, indices.dtype, total, x.dims[axis]));
  const int last = x.rank - 1;
  const int64_t cols = indices.dims[last], size = x.dims[axis];
  const int64_t bytes = static_cast<int64_t>(dtype_size(x.dtype));
  int64_t strides[kMaxRank];
  row_strides(x.rank, x.dims, strides);
  c.parallel(total / cols, 8192 / cols + 1, [&](int64_t b, int64_t e, int) {
    with_mover(bytes, [&](auto move) {
      for (int64_t r = b; r < e; ++r) {
        int64_t base = 0, rest = r;
        for (int k = last - 1; k >= 0; --k) {
          if (k != axis) base += rest % indices.dims[k] * strides[k];
          rest /= indices.dims[k];
        }
        const int64_t step = axis == last ? 0 : 1;
        char* d = c.out(0)->as<char>() + r * cols * bytes;
        for (int64_t j = 0; j < cols; ++j) {
          int64_t k = index_at(indices, r * cols + j);
          if (k < 0) k += size;
          move(d + j * bytes, x.as<char>() + (base + j * step + k * strides[axis]) * bytes);
        }
      }
    });
  });
  return Code::ok;
}

// ---- gather_nd

Status gather_nd_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  const int64_t batch = c.attr_int(attr::gather_nd_::batch_dims);
  DK_TRY(index_input(c, 1));
  if (indices.rank < 1 || x.rank < 1)
    return c.fail(Code::shape, "x and indices must have rank 1 or more; got %d and %d", x.rank, indices.rank);
  if (batch < 0 || batch >= indices.rank || batch >= x.rank)
    return c.fail(Code::shape, "batch_dims is %lld, expected 0 to %d", static_cast<long long>(batch),
                  (indices.rank < x.rank ? indices.rank : x.rank) - 1);
  const int64_t depth = indices.dims[indices.rank - 1];
  if (depth < 0 || batch + depth > x.rank)
    return c.fail(Code::shape, "index tuples have %lld numbers, x has only %lld dims behind batch_dims",
                  static_cast<long long>(depth), static_cast<long long>(x.rank - batch));
  for (int i = 0; i < batch; ++i)
    if (indices.dims[i] != x.dims[i])
      return c.fail(Code::shape, "batch dim %d differs: x has %lld, indices have %lld", i,
                    static_cast<long long>(x.dims[i]), static_cast<long long>(indices.dims[i]));
  const int tail = static_cast<int>(batch + depth);
  const int rank = indices.rank - 1 + x.rank - tail;
  if (rank > kMaxRank) return c.fail(Code::unsupported, "result of rank %d; at most %d", rank, kMaxRank);
  int64_t dims[kMaxRank];
  int n = 0;
  for (int i = 0; i + 1 < indices.rank; ++i) dims[n++] = indices.dims[i];
  for (int i = tail; i < x.rank; ++i) dims[n++] = x.dims[i];
  return c.set_out(0, x.dtype, n, dims);
}

Status gather_nd_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& indices = *c.in(1);
  if (c.out(0)->count() == 0) return Code::ok;
  const int batch = static_cast<int>(c.attr_int(attr::gather_nd_::batch_dims));
  const int depth = static_cast<int>(indices.dims[indices.rank - 1]);
  const int64_t tuples = product(indices, 0, indices.rank - 1);
  const int64_t per_batch = product(indices, batch, indices.rank - 1);
  for (int64_t i = 0; i < tuples * depth; ++i) {
    const int64_t v = index_at(indices, i), size = x.dims[batch + i % depth];
    if (v < -size || v >= size) return bad_index(c, 1, i, v, size);
  }
  const int64_t run = product(x, batch + depth, x.rank) * static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t slab = product(x, batch, x.rank) * static_cast<int64_t>(dtype_size(x.dtype));
  c.parallel(tuples, copy_grain(run + 8 * depth), [&](int64_t b, int64_t e, int) {
    with_mover(run, [&](auto move) {
      for (int64_t r = b; r < e; ++r) {
        int64_t at = 0;
        for (int k = 0; k < depth; ++k) {
          const int64_t v = index_at(indices, r * depth + k), size = x.dims[batch + k];
          at = at * size + (v < 0 ? v + size : v);
        }
        move(c.out(0)->as<char>() + r * run, x.as<char>() + r / per_batch * slab + at * run);
      }
    });
  });
  return Code::ok;
}

// ---- one_hot

Status one_hot_axis(const OpContext& c, int* axis) {
  return axis_of(c, c.attr_int(attr::one_hot_::axis), c.in(0)->rank + 1, axis);
}

Status one_hot_infer(OpContext& c) {
  const Tensor& indices = *c.in(0);
  const Tensor& values = *c.in(2);
  int axis;
  DK_TRY(one_hot_axis(c, &axis));
  if (c.in(1)->count() != 1) return c.fail(Code::shape, "depth must be one number");
  if (values.rank != 1 || values.dims[0] != 2) return c.fail(Code::shape, "values must be [off, on]");
  if (indices.rank + 1 > kMaxRank)
    return c.fail(Code::unsupported, "result of rank %d; at most %d", indices.rank + 1, kMaxRank);
  const void* v = c.value(1);
  if (!v) return c.need_value(1);
  int64_t depth;
  if (!number_at(v, c.in(1)->dtype, 0, &depth) || depth < 0)
    return c.fail(Code::shape, "depth is negative or not a number");
  int64_t dims[kMaxRank];
  for (int i = 0, k = 0; i <= indices.rank; ++i) dims[i] = i == axis ? depth : indices.dims[k++];
  return c.set_out(0, values.dtype, indices.rank + 1, dims);
}

Status one_hot_run(OpContext& c) {
  const Tensor& indices = *c.in(0);
  Tensor& y = *c.out(0);
  int axis;
  DK_TRY(one_hot_axis(c, &axis));
  if (y.count() == 0) return Code::ok;
  const size_t size = dtype_size(y.dtype);
  const char* values = c.in(2)->as<char>();
  const int64_t depth = y.dims[axis], inner = product(y, axis + 1, y.rank), n = indices.count();
  c.parallel(y.count(), static_cast<int64_t>(65536 / size), [&](int64_t b, int64_t e, int) {
    dk::fill_run(y.as<char>() + static_cast<size_t>(b) * size, values, size, e - b);
  });
  for (int64_t i = 0; i < n; ++i) {
    int64_t k;
    if (!number_at(indices.data, indices.dtype, i, &k) || k < -depth || k >= depth) continue;
    if (k < 0) k += depth;
    memcpy(y.as<char>() + static_cast<size_t>((i / inner * depth + k) * inner + i % inner) * size, values + size, size);
  }
  return Code::ok;
}

// ---- tensor_scatter

Status tensor_scatter_infer(OpContext& c) {
  const Tensor& past = *c.in(0);
  const Tensor& update = *c.in(1);
  int axis;
  DK_TRY(same_dtype(c, 0, 1));
  DK_TRY(axis_of(c, c.attr_int(attr::tensor_scatter_::axis), past.rank, &axis));
  if (axis == 0) return c.fail(Code::shape, "axis 0 is the batch; expected another");
  if (update.rank != past.rank) return c.fail(Code::shape, "update has rank %d, past has %d", update.rank, past.rank);
  for (int i = 0; i < past.rank; ++i)
    if (i == axis ? update.dims[i] > past.dims[i] : update.dims[i] != past.dims[i])
      return c.fail(Code::shape, "dim %d of update is %lld, past has %lld", i, static_cast<long long>(update.dims[i]),
                    static_cast<long long>(past.dims[i]));
  if (c.in(2)) {
    DK_TRY(index_input(c, 2));
    if (c.in(2)->rank != 1 || c.in(2)->dims[0] != past.dims[0])
      return c.fail(Code::shape, "write_index must have one number per batch (%lld)",
                    static_cast<long long>(past.dims[0]));
  }
  return c.set_out_like(0, past);
}

Status tensor_scatter_run(OpContext& c) {
  const Tensor& past = *c.in(0);
  const Tensor& update = *c.in(1);
  Tensor& y = *c.out(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::tensor_scatter_::axis), past.rank, &axis));
  const bool circular = c.attr_int(attr::tensor_scatter_::mode) == choice::tensor_scatter_::mode::circular_;
  const int64_t room = past.dims[axis], steps = update.dims[axis];
  if (c.in(2))
    for (int64_t b = 0; b < past.dims[0]; ++b) {
      const int64_t at = index_at(*c.in(2), b);
      if (at < 0 || (circular ? at > INT64_MAX / 2 : at > room - steps))
        return c.fail(Code::index, "write_index[%lld] is %lld, expected 0 to %lld", static_cast<long long>(b),
                      static_cast<long long>(at), static_cast<long long>(room - steps));
    }
  if (y.data != past.data) copy_bytes(c, y.data, past.data, past.bytes());
  if (update.count() == 0) return Code::ok;
  const int64_t run = product(past, axis + 1, past.rank) * static_cast<int64_t>(dtype_size(past.dtype));
  const int64_t middle = product(past, 1, axis);
  c.parallel(past.dims[0] * middle, copy_grain(steps * run), [&](int64_t b, int64_t e, int) {
    for (int64_t r = b; r < e; ++r) {
      const int64_t first = c.in(2) ? index_at(*c.in(2), r / middle) % room : 0;
      const int64_t before_end = steps < room - first ? steps : room - first;
      char* d = y.as<char>() + r * room * run;
      const char* s = update.as<char>() + r * steps * run;
      memcpy(d + first * run, s, static_cast<size_t>(before_end * run));
      memcpy(d, s + before_end * run, static_cast<size_t>((steps - before_end) * run));
    }
  });
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::gather_, gather_infer, nullptr, gather_run},
    {Opcode::gather_elements_, gather_elements_infer, nullptr, gather_elements_run},
    {Opcode::gather_nd_, gather_nd_infer, nullptr, gather_nd_run},
    {Opcode::one_hot_, one_hot_infer, nullptr, one_hot_run},
    {Opcode::tensor_scatter_, tensor_scatter_infer, nullptr, tensor_scatter_run, 1},
};

}  // namespace

const OpList ops_index = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
