// Movement of data by shape: transpose, concat, split, slice, pad, expand, tile, depth_to_space, trilu, reverse, ...
// All work on elements of 1, 2, 4 or 8 bytes, whatever the dtype.  Shape-like inputs may change between runs of one
// plan, so `run` reads them again; building a CopyPlan costs less than a microsecond.
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_shape_move;

namespace {

// ---- transpose

Status read_perm(const OpContext& c, int* perm) {
  const Tensor& x = *c.in(0);
  Span<const int64_t> p = c.attr_ints(attr::transpose_::perm);
  if (p.empty()) {
    for (int i = 0; i < x.rank; ++i) perm[i] = x.rank - 1 - i;
    return Code::ok;
  }
  if (p.len != x.rank)
    return c.fail(Code::shape, "perm has %lld entries, x has rank %d", static_cast<long long>(p.len), x.rank);
  uint32_t seen;
  DK_TRY(axis_set(c, p.ptr, x.rank, x.rank, &seen));
  for (int i = 0; i < x.rank; ++i) perm[i] = static_cast<int>(p[i] < 0 ? p[i] + x.rank : p[i]);
  return Code::ok;
}

Status transpose_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int perm[kMaxRank];
  DK_TRY(read_perm(c, perm));
  int64_t dims[kMaxRank];
  for (int i = 0; i < x.rank; ++i) dims[i] = x.dims[perm[i]];
  return c.set_out(0, x.dtype, x.rank, dims);
}

Status transpose_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  int perm[kMaxRank];
  DK_TRY(read_perm(c, perm));
  int64_t in[kMaxRank], strides[kMaxRank];
  row_strides(x.rank, x.dims, in);
  for (int i = 0; i < x.rank; ++i) strides[i] = in[perm[i]];
  CopyPlan p;
  copy_plan(&p, dtype_size(x.dtype), x.rank, y.dims, strides, 0);
  copy_parallel(c, p, x.data, y.data);
  return Code::ok;
}

// ---- concat, split

Status concat_infer(OpContext& c) {
  if (c.n_in() < 1) return c.fail(Code::shape, "no inputs");
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::concat_::axis), x.rank, &axis));
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  for (int k = 1; k < c.n_in(); ++k) {
    const Tensor& t = *c.in(k);
    DK_TRY(same_dtype(c, 0, k));
    if (t.rank != x.rank) return c.fail(Code::shape, "input %d has rank %d, input 0 has %d", k, t.rank, x.rank);
    for (int i = 0; i < x.rank; ++i)
      if (i != axis && t.dims[i] != x.dims[i])
        return c.fail(Code::shape, "input %d: dim %d is %lld, expected %lld as in input 0", k, i,
                      static_cast<long long>(t.dims[i]), static_cast<long long>(x.dims[i]));
    if (__builtin_add_overflow(dims[axis], t.dims[axis], &dims[axis]))
      return c.fail(Code::shape, "axis %d of the result is too large", axis);
  }
  return c.set_out(0, x.dtype, x.rank, dims);
}

// Rows [0, outer) between one wide tensor and one piece of it, in parallel.
void move_piece(const OpContext& c, char* dst, int64_t dst_stride, const char* src, int64_t src_stride, int64_t run,
                int64_t outer) {
  if (outer == 1) return copy_bytes(c, dst, src, static_cast<size_t>(run));
  if (run * outer <= 65536) return copy_rows(dst, dst_stride, src, src_stride, run, outer);
  c.parallel(outer, copy_grain(run), [=](int64_t b, int64_t e, int) {
    copy_rows(dst + b * dst_stride, dst_stride, src + b * src_stride, src_stride, run, e - b);
  });
}

Status concat_run(OpContext& c) {
  Tensor& y = *c.out(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::concat_::axis), y.rank, &axis));
  if (y.count() == 0) return Code::ok;
  const int64_t outer = product(y, 0, axis);
  const int64_t inner = product(y, axis + 1, y.rank) * static_cast<int64_t>(dtype_size(y.dtype));
  const int64_t stride = y.dims[axis] * inner;
  char* d = y.as<char>();
  if (stride * outer <= 65536 || outer < c.threads()) {
    for (int k = 0; k < c.n_in(); ++k) {
      const int64_t run = c.in(k)->dims[axis] * inner;
      move_piece(c, d, stride, c.in(k)->as<char>(), run, run, outer);
      d += run;
    }
    return Code::ok;
  }
  // Large: each thread writes whole destination rows, in blocks that stay in cache between inputs.
  c.parallel(outer, copy_grain(stride), [&](int64_t b, int64_t e, int) {
    const int64_t block = stride < 32768 ? 32768 / stride : 1;
    for (int64_t r = b; r < e; r += block) {
      const int64_t rows = e - r < block ? e - r : block;
      char* to = d + r * stride;
      for (int k = 0; k < c.n_in(); ++k) {
        const int64_t run = c.in(k)->dims[axis] * inner;
        copy_rows(to, stride, c.in(k)->as<char>() + r * run, run, run, rows);
        to += run;
      }
    }
  });
  return Code::ok;
}

Status split_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int pieces = c.n_out();
  if (pieces < 1) return c.fail(Code::shape, "no outputs");
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::split_::axis), x.rank, &axis));
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  const void* sizes = nullptr;
  if (const Tensor* t = c.in(1)) {
    if (!is_index(t->dtype) || t->rank != 1 || t->dims[0] != pieces)
      return c.fail(Code::shape, "sizes must be an int64 vector with %d elements, one per output", pieces);
    sizes = c.value(1);
    if (!sizes) return c.need_value(1);
    int64_t sum = 0;
    for (int i = 0; i < pieces; ++i) {
      const int64_t n = index_at(sizes, t->dtype, i);
      if (n < 0 || __builtin_add_overflow(sum, n, &sum))
        return c.fail(Code::shape, "size %d is %lld, expected 0 or more", i, static_cast<long long>(n));
    }
    if (sum != x.dims[axis])
      return c.fail(Code::shape, "sizes add up to %lld, axis %d has %lld", static_cast<long long>(sum), axis,
                    static_cast<long long>(x.dims[axis]));
  }
  const int64_t each = (x.dims[axis] + pieces - 1) / pieces;
  int64_t left = x.dims[axis];
  for (int i = 0; i < pieces; ++i) {
    dims[axis] = sizes ? index_at(sizes, c.in(1)->dtype, i) : left < each ? left : each;
    left -= dims[axis];
    if (c.out(i)) DK_TRY(c.set_out(i, x.dtype, x.rank, dims));
  }
  return Code::ok;
}

Status split_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::split_::axis), x.rank, &axis));
  if (x.count() == 0) return Code::ok;
  const int64_t outer = product(x, 0, axis);
  const int64_t inner = product(x, axis + 1, x.rank) * static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t stride = x.dims[axis] * inner;
  const int64_t each = (x.dims[axis] + c.n_out() - 1) / c.n_out();
  const char* s = x.as<char>();
  int64_t left = x.dims[axis];
  for (int k = 0; k < c.n_out(); ++k) {
    const int64_t size = c.in(1) ? index_at(*c.in(1), k) : left < each ? left : each;
    const int64_t run = size * inner;
    left -= size;
    if (c.out(k) && run > 0) move_piece(c, c.out(k)->as<char>(), run, s, stride, run, outer);
    s += run;
  }
  return Code::ok;
}

// ---- slice

struct Cut {
  int64_t start[kMaxRank], step[kMaxRank], dims[kMaxRank];
};

// Python's rules for x[start:end:step]: clamp, then count.
void cut_axis(int64_t n, int64_t start, int64_t end, int64_t step, Cut* cut, int axis) {
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
  if (start < 0) start += n;
  if (end < 0) end += n;
  start = start < low ? low : start > high ? high : start;
  end = end < low ? low : end > high ? high : end;
  // a step longer than the axis takes one element; shortening it keeps the strides from overflowing
  if (step > n) step = n > 0 ? n : 1;
  if (step < -n) step = n > 0 ? -n : -1;
  int64_t count = 0;
  if (step > 0 && end > start) count = (end - start + step - 1) / step;
  if (step < 0 && start > end) count = (start - end - step - 1) / -step;
  cut->start[axis] = count > 0 ? start : 0;
  cut->step[axis] = step;
  cut->dims[axis] = count;
}

Status read_cut(const OpContext& c, Cut* cut) {
  const Tensor& x = *c.in(0);
  int64_t starts[kMaxRank], ends[kMaxRank], axes[kMaxRank], steps[kMaxRank];
  int n = 0, m = 0;
  DK_TRY(c.read_ints(1, starts, kMaxRank, &n));
  DK_TRY(c.read_ints(2, ends, kMaxRank, &m));
  if (n != m) return c.fail(Code::shape, "got %d starts and %d ends", n, m);
  if (c.in(3)) {
    DK_TRY(c.read_ints(3, axes, kMaxRank, &m));
    if (n != m) return c.fail(Code::shape, "got %d starts and %d axes", n, m);
  } else {
    for (int i = 0; i < n; ++i) axes[i] = i;
  }
  if (c.in(4)) {
    DK_TRY(c.read_ints(4, steps, kMaxRank, &m));
    if (n != m) return c.fail(Code::shape, "got %d starts and %d steps", n, m);
  } else {
    for (int i = 0; i < n; ++i) steps[i] = 1;
  }
  uint32_t seen;
  DK_TRY(axis_set(c, axes, n, x.rank, &seen));
  for (int i = 0; i < x.rank; ++i) {
    cut->start[i] = 0;
    cut->step[i] = 1;
    cut->dims[i] = x.dims[i];
  }
  for (int i = 0; i < n; ++i) {
    const int a = static_cast<int>(axes[i] < 0 ? axes[i] + x.rank : axes[i]);
    if (steps[i] == 0) return c.fail(Code::shape, "step %d is 0", i);
    cut_axis(x.dims[a], starts[i], ends[i], steps[i], cut, a);
  }
  return Code::ok;
}

Status slice_infer(OpContext& c) {
  Cut cut;
  DK_TRY(read_cut(c, &cut));
  return c.set_out(0, c.in(0)->dtype, c.in(0)->rank, cut.dims);
}

Status slice_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Cut cut;
  DK_TRY(read_cut(c, &cut));
  int64_t strides[kMaxRank], offset = 0;
  row_strides(x.rank, x.dims, strides);
  for (int i = 0; i < x.rank; ++i) {
    offset += cut.start[i] * strides[i];
    strides[i] *= cut.step[i];
  }
  CopyPlan p;
  copy_plan(&p, dtype_size(x.dtype), x.rank, cut.dims, strides, offset);
  copy_parallel(c, p, x.data, c.out(0)->data);
  return Code::ok;
}

// ---- pad

struct Pads {
  int64_t before[kMaxRank], after[kMaxRank];
};

Status read_pads(const OpContext& c, Pads* pads) {
  const Tensor& x = *c.in(0);
  int64_t values[2 * kMaxRank], axes[kMaxRank];
  int n = 0, m = x.rank;
  DK_TRY(c.read_ints(1, values, 2 * kMaxRank, &n));
  for (int i = 0; i < x.rank; ++i) {
    axes[i] = i;
    pads->before[i] = pads->after[i] = 0;
  }
  if (c.in(3)) DK_TRY(c.read_ints(3, axes, kMaxRank, &m));
  if (n != 2 * m) return c.fail(Code::shape, "got %d pads for %d axes, expected %d", n, m, 2 * m);
  uint32_t seen;
  DK_TRY(axis_set(c, axes, m, x.rank, &seen));
  for (int i = 0; i < m; ++i) {
    const int a = static_cast<int>(axes[i] < 0 ? axes[i] + x.rank : axes[i]);
    constexpr int64_t limit = int64_t(1) << 48;  // keeps every sum below in range
    if (values[i] < -limit || values[i] > limit || values[m + i] < -limit || values[m + i] > limit)
      return c.fail(Code::shape, "pads of axis %d are too large", a);
    pads->before[a] = values[i];
    pads->after[a] = values[m + i];
  }
  return Code::ok;
}

Status pad_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t mode = c.attr_int(attr::pad_::mode);
  Pads pads;
  DK_TRY(read_pads(c, &pads));
  if (c.in(2)) {
    DK_TRY(same_dtype(c, 0, 2));
    if (c.in(2)->count() != 1)
      return c.fail(Code::shape, "value must be a scalar; got %lld elements", static_cast<long long>(c.in(2)->count()));
  }
  int64_t dims[kMaxRank];
  for (int i = 0; i < x.rank; ++i) {
    dims[i] = x.dims[i] + pads.before[i] + pads.after[i];
    if (dims[i] < 0)
      return c.fail(Code::shape, "axis %d of size %lld is cropped by more than it has", i,
                    static_cast<long long>(x.dims[i]));
    if (mode == choice::pad_::mode::constant_) continue;
    if (x.dims[i] == 0 && dims[i] > 0) return c.fail(Code::shape, "axis %d has no element to pad with", i);
  }
  return c.set_out(0, x.dtype, x.rank, dims);
}

// Where element `i` of a padded axis of n comes from; i may be negative.  Cropped elements (negative pads) still count.
inline int64_t mirror(int64_t i, int64_t n, int64_t mode) {
  if (i >= 0 && i < n) return i;
  if (mode == choice::pad_::mode::edge_) return i < 0 ? 0 : n - 1;
  const int64_t period = mode == choice::pad_::mode::wrap_ ? n : n > 1 ? 2 * (n - 1) : 1;
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

Status pad_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const int64_t mode = c.attr_int(attr::pad_::mode);
  const size_t size = dtype_size(x.dtype);
  const bool constant = mode == choice::pad_::mode::constant_;
  Pads pads;
  DK_TRY(read_pads(c, &pads));
  if (y.count() == 0) return Code::ok;
  const uint64_t zero = 0;
  const void* value = c.in(2) ? c.in(2)->data : &zero;
  if (x.count() == 0) {
    dk::fill_run(y.data, value, size, y.count());
    return Code::ok;
  }
  // Everything behind the last padded axis is one run.
  int last = x.rank - 1;
  while (last > 0 && pads.before[last] == 0 && pads.after[last] == 0) --last;
  if (x.rank == 0) {
    memcpy(y.data, x.data, size);
    return Code::ok;
  }
  const int64_t run = product(x, last + 1, x.rank) * static_cast<int64_t>(size);
  const int64_t n = x.dims[last], out_n = y.dims[last];
  const int64_t row = out_n * run;
  int64_t strides[kMaxRank];
  row_strides(x.rank, x.dims, strides);
  // The part of a row that is copied: y[from, to) comes from x[from - before ...].
  const int64_t before = pads.before[last];
  const int64_t from = before > 0 ? before : 0;
  int64_t to = before + n < out_n ? before + n : out_n;
  if (to < from) to = from;
  // Where index i of outer axis k comes from; -1: from outside.
  auto source = [&](int k, int64_t i) {
    i -= pads.before[k];
    if (!constant) return mirror(i, x.dims[k], mode);
    return i < 0 || i >= x.dims[k] ? int64_t{-1} : i;
  };
  const int64_t per = run / static_cast<int64_t>(size);
  auto one_row = [&](char* d, const char* s) {
    if (constant) {
      if (from > 0) dk::fill_run(d, value, size, (from < out_n ? from : out_n) * per);
      if (to < out_n) dk::fill_run(d + to * run, value, size, (out_n - to) * per);
    } else {
      auto border = [&](int64_t i, int64_t end) {
        for (; i < end; ++i) {
          const int64_t k = mirror(i - before, n, mode);
          copy_rows(d + i * run, run, s + k * run, run, run, 1);
        }
      };
      border(0, from < out_n ? from : out_n);
      border(to, out_n);
    }
    if (to > from) memcpy(d + from * run, s + (from - before) * run, static_cast<size_t>((to - from) * run));
  };
  // Rows in lines along the axis before the last padded one: the divisions are made once per line.
  const int64_t line = last > 0 ? y.dims[last - 1] : 1;
  c.parallel(product(y, 0, last), copy_grain(row), [&](int64_t b, int64_t e, int) {
    for (int64_t r = b; r < e;) {
      int64_t offset = 0, rest = r / line;
      bool outside = false;
      for (int k = last - 2; k >= 0; --k) {
        const int64_t i = source(k, rest % y.dims[k]);
        rest /= y.dims[k];
        outside |= i < 0;
        offset += i * strides[k];
      }
      const int64_t first = r % line, end = first + (e - r) < line ? first + (e - r) : line;
      for (int64_t i = first; i < end; ++i, ++r) {
        const int64_t at = outside ? -1 : last > 0 ? source(last - 1, i) : 0;
        char* d = y.as<char>() + r * row;
        if (at < 0)
          dk::fill_run(d, value, size, out_n * per);
        else
          one_row(d, x.as<char>() + (offset + (last > 0 ? at * strides[last - 1] : 0)) * static_cast<int64_t>(size));
      }
    }
  });
  return Code::ok;
}

// ---- expand, tile

Status expand_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int64_t shape[kMaxRank], dims[kMaxRank];
  int n = 0;
  if (c.in(1)->rank > 1) return c.fail(Code::shape, "shape must be a vector; got rank %d", c.in(1)->rank);
  DK_TRY(c.read_ints(1, shape, kMaxRank, &n));
  const int rank = n > x.rank ? n : x.rank;
  for (int i = 0; i < rank; ++i) {
    const int64_t a = i < rank - x.rank ? 1 : x.dims[i - (rank - x.rank)];
    const int64_t b = i < rank - n ? 1 : shape[i - (rank - n)];
    if (b < 0 || (a != b && a != 1 && b != 1))
      return c.fail(Code::shape, "dim %d: x has %lld, shape has %lld; expected equal or 1", i,
                    static_cast<long long>(a), static_cast<long long>(b));
    dims[i] = a == 1 ? b : a;
  }
  return c.set_out(0, x.dtype, rank, dims);
}

Status expand_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  int64_t in[kMaxRank], strides[kMaxRank];
  row_strides(x.rank, x.dims, in);
  const int lead = y.rank - x.rank;
  for (int i = 0; i < y.rank; ++i) strides[i] = i < lead || x.dims[i - lead] == 1 ? 0 : in[i - lead];
  CopyPlan p;
  copy_plan(&p, dtype_size(x.dtype), y.rank, y.dims, strides, 0);
  copy_parallel(c, p, x.data, y.data);
  return Code::ok;
}

Status read_repeats(const OpContext& c, int64_t* repeats) {
  const Tensor& x = *c.in(0);
  int n = 0;
  DK_TRY(c.read_ints(1, repeats, kMaxRank, &n));
  if (n != x.rank) return c.fail(Code::shape, "got %d repeats, x has rank %d", n, x.rank);
  for (int i = 0; i < n; ++i)
    if (repeats[i] < 0)
      return c.fail(Code::shape, "repeat %d is negative; got %lld", i, static_cast<long long>(repeats[i]));
  return Code::ok;
}

Status tile_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int64_t repeats[kMaxRank], dims[kMaxRank];
  DK_TRY(read_repeats(c, repeats));
  for (int i = 0; i < x.rank; ++i)
    if (__builtin_mul_overflow(x.dims[i], repeats[i], &dims[i]))
      return c.fail(Code::shape, "axis %d of the result is too large", i);
  return c.set_out(0, x.dtype, x.rank, dims);
}

Status tile_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  int64_t repeats[kMaxRank], in[kMaxRank], dims[2 * kMaxRank], strides[2 * kMaxRank];
  DK_TRY(read_repeats(c, repeats));
  row_strides(x.rank, x.dims, in);
  for (int i = 0; i < x.rank; ++i) {
    dims[2 * i] = repeats[i];
    strides[2 * i] = 0;
    dims[2 * i + 1] = x.dims[i];
    strides[2 * i + 1] = in[i];
  }
  CopyPlan p;
  copy_plan(&p, dtype_size(x.dtype), 2 * x.rank, dims, strides, 0);
  copy_parallel(c, p, x.data, c.out(0)->data);
  return Code::ok;
}

// ---- depth_to_space, space_to_depth (channels last)

Status check_block(const OpContext& c, int64_t b) {
  if (c.in(0)->rank != 4) return c.fail(Code::shape, "x must be [N,H,W,C]; got rank %d", c.in(0)->rank);
  if (b < 1 || b > 32768) return c.fail(Code::shape, "block is %lld, expected 1 or more", static_cast<long long>(b));
  return Code::ok;
}

Status depth_to_space_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t b = c.attr_int(attr::depth_to_space_::block);
  DK_TRY(check_block(c, b));
  if (x.dims[3] % (b * b) != 0)
    return c.fail(Code::shape, "%lld channels do not divide by block * block = %lld", static_cast<long long>(x.dims[3]),
                  static_cast<long long>(b * b));
  const int64_t dims[4] = {x.dims[0], x.dims[1] * b, x.dims[2] * b, x.dims[3] / (b * b)};
  return c.set_out(0, x.dtype, 4, dims);
}

Status depth_to_space_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t b = c.attr_int(attr::depth_to_space_::block);
  const bool dcr = c.attr_int(attr::depth_to_space_::mode) == choice::depth_to_space_::mode::dcr_;
  const int64_t h = x.dims[1], w = x.dims[2], depth = x.dims[3], each = depth / (b * b);
  const int64_t dims[6] = {x.dims[0], h, b, w, b, each};
  const int64_t strides[6] = {h * w * depth, w * depth, dcr ? b * each : b, depth, dcr ? each : 1, dcr ? 1 : b * b};
  CopyPlan p;
  copy_plan(&p, dtype_size(x.dtype), 6, dims, strides, 0);
  copy_parallel(c, p, x.data, c.out(0)->data);
  return Code::ok;
}

Status space_to_depth_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t b = c.attr_int(attr::space_to_depth_::block);
  DK_TRY(check_block(c, b));
  for (int i = 1; i < 3; ++i)
    if (x.dims[i] % b != 0)
      return c.fail(Code::shape, "dim %d of size %lld does not divide by block %lld", i,
                    static_cast<long long>(x.dims[i]), static_cast<long long>(b));
  int64_t depth;
  if (__builtin_mul_overflow(x.dims[3], b * b, &depth)) return c.fail(Code::shape, "too many channels");
  const int64_t dims[4] = {x.dims[0], x.dims[1] / b, x.dims[2] / b, depth};
  return c.set_out(0, x.dtype, 4, dims);
}

Status space_to_depth_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t b = c.attr_int(attr::space_to_depth_::block);
  const bool dcr = c.attr_int(attr::space_to_depth_::mode) == choice::space_to_depth_::mode::dcr_;
  const int64_t w = x.dims[2], ch = x.dims[3], oh = x.dims[1] / b, ow = w / b;
  const int64_t line = w * ch;
  CopyPlan p;
  if (dcr) {
    const int64_t dims[6] = {x.dims[0], oh, ow, b, b, ch};
    const int64_t strides[6] = {x.dims[1] * line, b * line, b * ch, line, ch, 1};
    copy_plan(&p, dtype_size(x.dtype), 6, dims, strides, 0);
  } else {
    const int64_t dims[6] = {x.dims[0], oh, ow, ch, b, b};
    const int64_t strides[6] = {x.dims[1] * line, b * line, b * ch, 1, line, ch};
    copy_plan(&p, dtype_size(x.dtype), 6, dims, strides, 0);
  }
  copy_parallel(c, p, x.data, c.out(0)->data);
  return Code::ok;
}

// ---- trilu, eye_like

Status trilu_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.rank < 2) return c.fail(Code::shape, "x must have rank 2 or more; got %d", x.rank);
  if (c.in(1) && (c.in(1)->count() != 1 || !is_index(c.in(1)->dtype)))
    return c.fail(Code::shape, "k must be one int64");
  return c.set_out_like(0, x);
}

Status trilu_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const bool upper = c.attr_int(attr::trilu_::upper) != 0;
  const int64_t rows = x.dims[x.rank - 2], cols = x.dims[x.rank - 1];
  const int64_t size = static_cast<int64_t>(dtype_size(x.dtype));
  int64_t k = 0;
  if (c.in(1)) k = index_at(*c.in(1), 0);
  k = k < -rows - 1 ? -rows - 1 : k > cols + 1 ? cols + 1 : k;
  if (x.count() == 0) return Code::ok;
  c.parallel(x.count() / cols, copy_grain(cols * size), [&](int64_t b, int64_t e, int) {
    for (int64_t r = b; r < e; ++r) {
      // upper keeps columns >= edge, lower keeps columns <= row + k, that is < edge
      int64_t edge = r % rows + k + (upper ? 0 : 1);
      edge = edge < 0 ? 0 : edge > cols ? cols : edge;
      const char* s = x.as<char>() + r * cols * size;
      char* d = y.as<char>() + r * cols * size;
      const size_t left = static_cast<size_t>(edge * size), right = static_cast<size_t>((cols - edge) * size);
      if (upper) {
        memset(d, 0, left);
        if (d != s) memcpy(d + left, s + left, right);
      } else {
        if (d != s) memcpy(d, s, left);
        memset(d + left, 0, right);
      }
    }
  });
  return Code::ok;
}

// The bits of the number 1, little endian.
uint64_t one_bits(DType t) {
  switch (t) {
    case DType::f32: return 0x3f800000u;
    case DType::f64: return 0x3ff0000000000000u;
    case DType::f16: return 0x3c00;
    case DType::bf16: return 0x3f80;
    case DType::f8e4m3fn: return 0x38;
    case DType::f8e5m2: return 0x3c;
    case DType::f8e4m3fnuz:
    case DType::f8e5m2fnuz: return 0x40;
    case DType::f8e8m0fnu: return 0x7f;
    case DType::f4e2m1fn: return 0x2;
    default: return 1;
  }
}

Status eye_like_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.rank != 2) return c.fail(Code::shape, "x must be a matrix; got rank %d", x.rank);
  const DType t = static_cast<DType>(c.attr_int(attr::eye_like_::dtype));
  return c.set_out(0, t == DType::none ? x.dtype : t, 2, x.dims);
}

Status eye_like_run(OpContext& c) {
  Tensor& y = *c.out(0);
  const size_t size = dtype_size(y.dtype);
  const uint64_t one = one_bits(y.dtype);
  const int64_t rows = y.dims[0], cols = y.dims[1];
  const int64_t k = c.attr_int(attr::eye_like_::k);
  if (y.count() == 0) return Code::ok;
  if (y.dtype == DType::f8e8m0fnu) {  // has no zero: the conversion gives NaN
    return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(y.dtype));
  }
  memset(y.data, 0, y.bytes());
  if (k >= cols || k <= -rows) return Code::ok;
  for (int64_t r = k < 0 ? -k : 0; r < rows && r + k < cols; ++r)
    memcpy(y.as<char>() + static_cast<size_t>(r * cols + r + k) * size, &one, size);
  return Code::ok;
}

// ---- reverse, reverse_sequence

Status reverse_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  Span<const int64_t> axes = c.attr_ints(attr::reverse_::axes);
  uint32_t bits;
  if (axes.len > kMaxRank) return c.fail(Code::shape, "too many axes: %lld", static_cast<long long>(axes.len));
  DK_TRY(axis_set(c, axes.ptr, static_cast<int>(axes.len), x.rank, &bits));
  return c.set_out_like(0, x);
}

Status reverse_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Span<const int64_t> axes = c.attr_ints(attr::reverse_::axes);
  uint32_t bits;
  DK_TRY(axis_set(c, axes.ptr, static_cast<int>(axes.len), x.rank, &bits));
  int64_t strides[kMaxRank], offset = 0;
  row_strides(x.rank, x.dims, strides);
  for (int i = 0; i < x.rank; ++i) {
    if (!(bits >> i & 1)) continue;
    offset += (x.dims[i] - 1) * strides[i];
    strides[i] = -strides[i];
  }
  CopyPlan p;
  copy_plan(&p, dtype_size(x.dtype), x.rank, x.dims, strides, offset);
  copy_parallel(c, p, x.data, c.out(0)->data);
  return Code::ok;
}

Status reverse_sequence_axes(const OpContext& c, int* batch, int* time) {
  DK_TRY(axis_of(c, c.attr_int(attr::reverse_sequence_::batch_axis), c.in(0)->rank, batch, "batch_axis"));
  DK_TRY(axis_of(c, c.attr_int(attr::reverse_sequence_::time_axis), c.in(0)->rank, time, "time_axis"));
  if (*batch == *time) return c.fail(Code::shape, "batch_axis and time_axis are both %d", *batch);
  return Code::ok;
}

Status reverse_sequence_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& lengths = *c.in(1);
  int batch, time;
  if (x.rank < 2) return c.fail(Code::shape, "x must have rank 2 or more; got %d", x.rank);
  DK_TRY(reverse_sequence_axes(c, &batch, &time));
  if (!is_index(lengths.dtype) || lengths.rank != 1 || lengths.dims[0] != x.dims[batch])
    return c.fail(Code::shape, "lengths must be an int64 vector with %lld elements",
                  static_cast<long long>(x.dims[batch]));
  return c.set_out_like(0, x);
}

Status reverse_sequence_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& lengths = *c.in(1);
  int batch, time;
  DK_TRY(reverse_sequence_axes(c, &batch, &time));
  const int64_t steps = x.dims[time];
  for (int64_t b = 0; b < lengths.dims[0]; ++b) {
    const int64_t n = index_at(lengths, b);
    if (n < 0 || n > steps)
      return c.fail(Code::index, "lengths[%lld] is %lld, expected 0 to %lld", static_cast<long long>(b),
                    static_cast<long long>(n), static_cast<long long>(steps));
  }
  if (x.count() == 0) return Code::ok;
  const int last = batch > time ? batch : time;
  const int64_t run = product(x, last + 1, x.rank) * static_cast<int64_t>(dtype_size(x.dtype));
  int64_t strides[kMaxRank];
  row_strides(x.rank, x.dims, strides);
  const int64_t unit = product(x, last + 1, x.rank);
  const int64_t time_stride = strides[time] / unit;
  c.parallel(product(x, 0, last + 1), copy_grain(run), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t flat = r * unit;
      const int64_t b = flat / strides[batch] % x.dims[batch], t = flat / strides[time] % steps;
      const int64_t n = index_at(lengths, b);
      const int64_t from = t < n ? r + (n - 1 - 2 * t) * time_stride : r;
      copy_rows(c.out(0)->as<char>() + r * run, run, x.as<char>() + from * run, run, run, 1);
    }
  });
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::transpose_, transpose_infer, nullptr, transpose_run},
    {Opcode::concat_, concat_infer, nullptr, concat_run},
    {Opcode::split_, split_infer, nullptr, split_run},
    {Opcode::slice_, slice_infer, nullptr, slice_run},
    {Opcode::pad_, pad_infer, nullptr, pad_run},
    {Opcode::expand_, expand_infer, nullptr, expand_run},
    {Opcode::tile_, tile_infer, nullptr, tile_run},
    {Opcode::depth_to_space_, depth_to_space_infer, nullptr, depth_to_space_run},
    {Opcode::space_to_depth_, space_to_depth_infer, nullptr, space_to_depth_run},
    {Opcode::trilu_, trilu_infer, nullptr, trilu_run, 1},
    {Opcode::eye_like_, eye_like_infer, nullptr, eye_like_run},
    {Opcode::reverse_, reverse_infer, nullptr, reverse_run},
    {Opcode::reverse_sequence_, reverse_sequence_infer, nullptr, reverse_sequence_run},
};

}  // namespace

const OpList ops_shape_move = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
