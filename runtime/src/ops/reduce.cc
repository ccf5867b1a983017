// Reductions over axes.
//
// The dims of x are merged into alternating groups of kept and reduced ones.  One output cell is a number when the last
// group is reduced (its elements are contiguous rows), or up to kFoldTile columns when it is kept; the reduced dims
// before the innermost rows are walked by an odometer.  f32 goes through the SIMD tables, all other dtypes through
// blocks of double, int64 or uint64.
#include "kernels/reduce/reduce.h"

#include <cmath>

#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

enum class Reduce : uint8_t { sum, mean, max, min, prod, l1, l2, sum_square, log_sum, log_sum_exp };

struct ReduceState {
  Reduce kind;
  DType dtype;
  DType wide;  // f32 (SIMD), f64, s64 or u64
  bool columns;
  int64_t count;          // elements per result
  int64_t cells;          // without the strips of columns
  int64_t strips;         // per cell
  int64_t width;          // columns
  int64_t rows;           // innermost reduced: length of a row, or number of rows of the columns
  int64_t repeats;        // of these rows, by the odometer
  int n_kept, n_reduced;  // groups, without the innermost
  int64_t kept[kMaxRank], kept_step[kMaxRank];
  int64_t reduced[kMaxRank], reduced_step[kMaxRank];
  int64_t grain;
  const ReduceKernels* kernels;
  const ElementwiseKernels* convert;
};

// ---- infer
Status read_axes(const OpContext& c, uint32_t* bits) {
  const int rank = c.in(0)->rank;
  const uint32_t all = (1u << rank) - 1;
  const Tensor* axes = c.in(1);
  if (axes && axes->rank > 1) return c.fail(Code::shape, "axes must be a vector; got rank %d", axes->rank);
  int64_t list[kMaxRank];
  int n = 0;
  if (axes) DK_TRY(c.read_ints(1, list, kMaxRank, &n));
  *bits = c.attr_int(attr::reduce_sum_::noop_if_empty) ? 0 : all;
  return n == 0 ? Status() : axis_set(c, list, n, rank, bits);
}

Status infer_reduce(OpContext& c, uint8_t kinds) {
  const Tensor& x = *c.in(0);
  if (!(kind_of(x.dtype) & kinds)) return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  uint32_t bits;
  DK_TRY(read_axes(c, &bits));
  const bool keep = c.attr_int(attr::reduce_sum_::keepdims) != 0;
  int64_t dims[kMaxRank];
  int rank = 0;
  for (int i = 0; i < x.rank; ++i)
    if (!(bits >> i & 1))
      dims[rank++] = x.dims[i];
    else if (keep)
      dims[rank++] = 1;
  return c.set_out(0, x.dtype, rank, dims);
}

// ---- run
bool in_double(Reduce kind) { return kind == Reduce::l2 || kind == Reduce::log_sum || kind == Reduce::log_sum_exp; }

// The axes may be computed at run time, so the walk is laid out here and not in prepare.
Status lay_out(const OpContext& c, Reduce kind, ReduceState* s) {
  const Tensor& x = *c.in(0);
  uint32_t bits;
  DK_TRY(read_axes(c, &bits));
  s->kind = kind;
  s->dtype = x.dtype;
  s->wide = wide_dtype(x.dtype);
  if (s->wide == DType::f32 && (x.dtype != DType::f32 || kind == Reduce::log_sum_exp)) s->wide = DType::f64;
  if (s->wide != DType::f32 && in_double(kind)) s->wide = DType::f64;
  s->kernels = DK_PICK_KERNELS(reduce);
  s->convert = DK_PICK_KERNELS(elementwise);

  // groups from the last to the first
  int64_t size[kMaxRank], step[kMaxRank];
  bool reduced[kMaxRank];
  int n = 0;
  int64_t stride = 1;
  s->count = 1;
  for (int i = x.rank - 1; i >= 0; --i) {
    const bool r = bits >> i & 1;
    if (r) s->count *= x.dims[i];
    if (x.dims[i] == 1) continue;
    if (n > 0 && reduced[n - 1] == r) {
      size[n - 1] *= x.dims[i];
    } else {
      size[n] = x.dims[i];
      step[n] = stride;
      reduced[n++] = r;
    }
    stride *= x.dims[i];
  }
  int at = 0;
  s->columns = n > 0 && !reduced[0];
  s->width = s->columns ? size[at++] : 1;
  s->rows = at < n && reduced[at] ? size[at++] : 1;
  s->n_kept = s->n_reduced = 0;
  s->cells = s->repeats = 1;
  for (; at < n; ++at) {
    if (reduced[at]) {
      s->reduced[s->n_reduced] = size[at];
      s->reduced_step[s->n_reduced++] = step[at];
      s->repeats *= size[at];
    } else {
      s->kept[s->n_kept] = size[at];
      s->kept_step[s->n_kept++] = step[at];
      s->cells *= size[at];
    }
  }
  s->strips = (s->width + kFoldTile - 1) / kFoldTile;
  const double work = static_cast<double>(s->count) * static_cast<double>(s->width < kFoldTile ? s->width : kFoldTile);
  s->grain = grain_for(s->wide == DType::f32 ? 16384 : 2048, work);
  return {};
}

// Calls fn(offset) for the start of each run of innermost rows.
template <class F>
void each_repeat(const ReduceState& s, int64_t offset, F&& fn) {
  int64_t index[kMaxRank] = {0};
  for (int64_t r = 0; r < s.repeats; ++r) {
    fn(offset);
    for (int k = 0; k < s.n_reduced; ++k) {
      offset += s.reduced_step[k];
      if (++index[k] < s.reduced[k]) break;
      offset -= s.reduced_step[k] * s.reduced[k];
      index[k] = 0;
    }
  }
}

Fold fold_of(Reduce kind) {
  switch (kind) {
    case Reduce::max: return Fold::max;
    case Reduce::min: return Fold::min;
    case Reduce::prod: return Fold::product;
    case Reduce::l1: return Fold::sum_abs;
    case Reduce::l2:
    case Reduce::sum_square: return Fold::sum_square;
    default: return Fold::sum;
  }
}

template <class T>
T identity_of(Fold f) {
  constexpr T kLow = sizeof(T) == 8 && T(0.5) != 0 ? static_cast<T>(-INFINITY)
                     : T(-1) < 0                   ? static_cast<T>(INT64_MIN)
                                                   : T(0);
  constexpr T kHigh = T(0.5) != 0 ? static_cast<T>(INFINITY)
                      : T(-1) < 0 ? static_cast<T>(INT64_MAX)
                                  : static_cast<T>(UINT64_MAX);
  return f == Fold::max ? kLow : f == Fold::min ? kHigh : f == Fold::product ? T(1) : T(0);
}

// acc[i * step_acc] = fold with x[i].  Integers wrap: signed ones are folded as unsigned.
template <Fold kFold, class T>
void fold_block(T* acc, int step_acc, const T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    T& a = acc[i * step_acc];
    const T v = x[i];
    if constexpr (kFold == Fold::max) {
      a = v > a || v != v ? v : a;
    } else if constexpr (kFold == Fold::min) {
      a = v < a || v != v ? v : a;
    } else if constexpr (T(0.5) != 0) {
      a = kFold == Fold::product ? a * v : a + (kFold == Fold::sum ? v : kFold == Fold::sum_abs ? fabs(v) : v * v);
    } else {
      const uint64_t u = static_cast<uint64_t>(v), b = static_cast<uint64_t>(a);
      const uint64_t w = kFold == Fold::sum_abs && v < 0 ? 0 - u : kFold == Fold::sum_square ? u * u : u;
      a = static_cast<T>(kFold == Fold::product ? b * u : b + w);
    }
  }
}

template <class T>
void fold_any(Fold f, T* acc, int step_acc, const T* x, int64_t n) {
  switch (f) {
    case Fold::sum: return fold_block<Fold::sum, T>(acc, step_acc, x, n);
    case Fold::sum_abs: return fold_block<Fold::sum_abs, T>(acc, step_acc, x, n);
    case Fold::sum_square: return fold_block<Fold::sum_square, T>(acc, step_acc, x, n);
    case Fold::product: return fold_block<Fold::product, T>(acc, step_acc, x, n);
    case Fold::max: return fold_block<Fold::max, T>(acc, step_acc, x, n);
    default: return fold_block<Fold::min, T>(acc, step_acc, x, n);
  }
}

double finish_f64(const ReduceState& s, double v) {
  switch (s.kind) {
    case Reduce::mean: return v / static_cast<double>(s.count);
    case Reduce::l2: return sqrt(v);
    case Reduce::log_sum: return log(v);
    default: return v;
  }
}

// The columns (or the single number) of one cell in double, from f32 by the SIMD tables.
void cell_f32(const ReduceState& s, const float* x, int64_t offset, int width, double* acc) {
  const int f = static_cast<int>(fold_of(s.kind));
  if (s.columns) {
    each_repeat(s, offset, [&](int64_t at) { s.kernels->columns[f](x + at, s.rows, width, s.width, acc); });
  } else {
    each_repeat(s, offset, [&](int64_t at) {
      const double v = s.kernels->row[f](x + at, s.rows);
      fold_any<double>(
          fold_of(s.kind) == Fold::sum_abs || fold_of(s.kind) == Fold::sum_square ? Fold::sum : fold_of(s.kind), acc, 0,
          &v, 1);
    });
  }
}

// The same for any dtype; `map` changes a staged block before it is folded.
template <class T, class Map>
void cell_staged(const ReduceState& s, Fold f, const char* x, int64_t offset, int width, T* acc, Map&& map) {
  const size_t size = dtype_size(s.dtype);
  T block[kStage];
  auto take = [&](int64_t at, int64_t n, int step) {
    stage_in(s.convert, s.dtype, x + static_cast<size_t>(at) * size, s.wide, block, n);
    map(block, n);
    fold_any<T>(f, acc, step, block, n);
  };
  each_repeat(s, offset, [&](int64_t at) {
    if (s.columns) {
      for (int64_t r = 0; r < s.rows; ++r) take(at + r * s.width, width, 1);
    } else {
      for (int64_t i = 0; i < s.rows; i += kStage) take(at + i, s.rows - i < kStage ? s.rows - i : kStage, 0);
    }
  });
}

// log(sum(exp(x))): the largest first, then the sum of exp(x - largest).
void cell_log_sum_exp(const ReduceState& s, const char* x, int64_t offset, int width, double* acc) {
  double top[kFoldTile];
  for (int i = 0; i < width; ++i) top[i] = -INFINITY, acc[i] = 0;
  cell_staged<double>(s, Fold::max, x, offset, width, top, [](double*, int64_t) {});
  for (int i = 0; i < width; ++i) top[i] = top[i] - top[i] == 0 ? top[i] : 0;  // infinite or NaN: 0
  cell_staged<double>(s, Fold::sum, x, offset, width, acc, [&](double* block, int64_t n) {
    for (int64_t i = 0; i < n; ++i) block[i] = exp(block[i] - top[s.columns ? i : 0]);
  });
  for (int i = 0; i < width; ++i) acc[i] = log(acc[i]) + top[i];
}

void run_cell(const ReduceState& s, const char* x, int64_t offset, int width, char* y) {
  union {
    double f[kFoldTile];
    int64_t i[kFoldTile];
    uint64_t u[kFoldTile];
  } acc;
  const Fold f = fold_of(s.kind);
  const auto nothing = [](auto*, int64_t) {};
  if (s.wide == DType::s64) {
    for (int k = 0; k < width; ++k) acc.i[k] = identity_of<int64_t>(f);
    cell_staged<int64_t>(s, f, x, offset, width, acc.i, nothing);
    for (int k = 0; k < width && s.kind == Reduce::mean; ++k) acc.i[k] = s.count ? acc.i[k] / s.count : 0;
    if (s.count == 0 && (f == Fold::max || f == Fold::min)) {
      const double end = f == Fold::max ? -INFINITY : INFINITY;  // the end of the range of the narrower dtype
      for (int k = 0; k < width; ++k)
        convert(DType::f64, &end, s.dtype, y + static_cast<size_t>(k) * dtype_size(s.dtype), 1);
      if (s.dtype == DType::b8) memset(y, f == Fold::min, static_cast<size_t>(width));
      return;
    }
  } else if (s.wide == DType::u64) {
    for (int k = 0; k < width; ++k) acc.u[k] = identity_of<uint64_t>(f);
    cell_staged<uint64_t>(s, f, x, offset, width, acc.u, nothing);
    for (int k = 0; k < width && s.kind == Reduce::mean; ++k)
      acc.u[k] = s.count ? acc.u[k] / static_cast<uint64_t>(s.count) : 0;
  } else {
    for (int k = 0; k < width; ++k) acc.f[k] = identity_of<double>(f);
    if (s.kind == Reduce::log_sum_exp)
      cell_log_sum_exp(s, x, offset, width, acc.f);
    else if (s.wide == DType::f32)
      cell_f32(s, reinterpret_cast<const float*>(x), offset, width, acc.f);
    else
      cell_staged<double>(s, f, x, offset, width, acc.f, nothing);
    for (int k = 0; k < width; ++k) acc.f[k] = finish_f64(s, acc.f[k]);
  }
  const DType from = s.wide == DType::f32 ? DType::f64 : s.wide;
  convert(from, &acc, s.dtype, y, width, false);
}

Status run_reduce(OpContext& c, Reduce kind) {
  ReduceState s;
  DK_TRY(lay_out(c, kind, &s));
  const char* x = c.in(0)->as<char>();
  char* y = c.out(0)->as<char>();
  if (c.out(0)->count() == 0) return {};
  const size_t size = dtype_size(s.dtype);
  c.parallel(s.cells * s.strips, s.grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t cell = i / s.strips;
      const int64_t first = i % s.strips * kFoldTile;
      const int width = static_cast<int>(s.width - first < kFoldTile ? s.width - first : kFoldTile);
      char* to = y + static_cast<size_t>(cell * s.width + first) * size;
      int64_t offset = first;
      for (int k = 0; k < s.n_kept; ++k) {
        offset += cell % s.kept[k] * s.kept_step[k];
        cell /= s.kept[k];
      }
      run_cell(s, x, offset, width, to);
    }
  });
  return {};
}

template <uint8_t kKinds>
Status infer_op(OpContext& c) {
  return infer_reduce(c, kKinds);
}
template <Reduce kKind>
Status run_op(OpContext& c) {
  return run_reduce(c, kKind);
}

#define DK_REDUCE(name, kinds)                                                     \
  static_assert(attr::reduce_##name##_::keepdims == attr::reduce_sum_::keepdims && \
                attr::reduce_##name##_::noop_if_empty == attr::reduce_sum_::noop_if_empty);
DK_REDUCE(mean, 0)
DK_REDUCE(log_sum_exp, 0)
#undef DK_REDUCE
#define DK_REDUCE(name, kinds) {Opcode::reduce_##name##_, infer_op<kinds>, nullptr, run_op<Reduce::name>, 0}
const OpDef kDefs[] = {
    DK_REDUCE(sum, kF | kI),         DK_REDUCE(mean, kF | kI),       DK_REDUCE(max, kF | kI | kB),
    DK_REDUCE(min, kF | kI | kB),    DK_REDUCE(prod, kF | kI),       DK_REDUCE(l1, kF | kI),
    DK_REDUCE(l2, kF | kI),          DK_REDUCE(sum_square, kF | kI), DK_REDUCE(log_sum, kF | kI),
    DK_REDUCE(log_sum_exp, kF | kI),
};
#undef DK_REDUCE

}  // namespace

extern const OpList ops_reduce;
const OpList ops_reduce = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
