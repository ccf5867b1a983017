// resize: one small linear map per axis, tabulated in `prepare`.  The tables are those of deploykit/ops/resample.py,
// float32 where that computes float32: near a tie the last bit decides which pixel `nearest` takes.
//
// linear and cubic run over the last two resized axes at once, row by row: the taps of the first make one temporary row
// (which stays in cache), the taps of the second make the output row from it.  Earlier axes are done one at a time.
#include <cmath>

#include "base/convert.h"
#include "kernels/move/run.h"
#include "kernels/resize/resize.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_image_resize;

namespace {

namespace A = attr::resize_;
namespace C = choice::resize_;

struct Axis {
  int axis = 0;
  int64_t n_in = 1, n_out = 1;
  float scale = 1, length = 1, start = 0, end = 1;
  // tables
  int taps = 1;
  int32_t* index = nullptr;    // [n_out][taps], within the axis
  float* weight = nullptr;     // [n_out][taps]
  double* weight64 = nullptr;  // the same, for integers and float64
  uint8_t* outside = nullptr;  // [n_out], or null: elements that get the extrapolation value
};

// ---- sizes

// One number per axis as floats; need_value when they are not known yet.
Status read_floats(const OpContext& c, int input, int n, const char* what, float* to) {
  const Tensor& t = *c.in(input);
  if (t.count() != n)
    return c.fail(Code::shape, "%s has %lld numbers, expected %d", what, static_cast<long long>(t.count()), n);
  if (!is_float(t.dtype)) return c.fail(Code::shape, "%s must be floats; got %s", what, dtype_name(t.dtype));
  if (n == 0) return Code::ok;
  const void* v = c.value(input);
  if (!v) return c.need_value(input);
  if (t.dtype == DType::f64) {
    for (int i = 0; i < n; ++i) to[i] = static_cast<float>(static_cast<const double*>(v)[i]);
  } else {
    load_wide(t.dtype, v, n, to);
  }
  return Code::ok;
}

struct AxisList {
  int n = 0;
  Axis at[kMaxRank];
};

// Sizes, scales and regions of the axes.
Status read_axes(const OpContext& c, AxisList* list) {
  const Tensor& x = *c.in(0);
  const bool crop = c.attr_int(A::coordinates) == C::coordinates::tf_crop_and_resize_;
  const bool by_scale = c.in(2) != nullptr;
  if (by_scale == (c.in(3) != nullptr)) return c.fail(Code::shape, "exactly one of scales and sizes must be given");
  Span<const int64_t> axes = c.attr_ints(A::axes);
  int64_t all[kMaxRank];
  for (int i = 0; i < x.rank; ++i) all[i] = i;
  if (axes.len > x.rank) return c.fail(Code::shape, "%lld axes for rank %d", static_cast<long long>(axes.len), x.rank);
  const int64_t* where = axes.empty() ? all : axes.ptr;
  const int n = axes.empty() ? x.rank : static_cast<int>(axes.len);
  uint32_t seen;
  DK_TRY(axis_set(c, where, n, x.rank, &seen));
  float scales[kMaxRank], roi[2 * kMaxRank];
  int64_t sizes[kMaxRank];
  if (by_scale) {
    DK_TRY(read_floats(c, 2, n, "scales", scales));
  } else {
    int m = 0;
    DK_TRY(c.read_ints(3, sizes, kMaxRank, &m));
    if (m != n) return c.fail(Code::shape, "sizes has %d numbers, expected %d", m, n);
  }
  if (crop) {
    if (!c.in(1)) return c.fail(Code::shape, "tf_crop_and_resize needs a roi");
    DK_TRY(read_floats(c, 1, 2 * n, "roi", roi));
  }
  list->n = n;
  for (int i = 0; i < n; ++i) {
    Axis& a = list->at[i];
    a.axis = static_cast<int>(where[i] < 0 ? where[i] + x.rank : where[i]);
    a.n_in = x.dims[a.axis];
    if (a.n_in >= INT32_MAX) return c.fail(Code::unsupported, "axis %d is too long", a.axis);
    if (crop) a.start = roi[i], a.end = roi[n + i];
    if (by_scale) {
      a.scale = scales[i];
      a.length = a.scale * static_cast<float>(a.n_in);
      const float size = std::floor(a.length);
      if (!(a.scale > 0) || !(size < 2147483648.0f))
        return c.fail(Code::shape, "scale of axis %d is %g, expected a positive number", a.axis,
                      static_cast<double>(a.scale));
      a.n_out = static_cast<int64_t>(size);
    } else {
      if (sizes[i] < 0 || sizes[i] >= INT32_MAX)
        return c.fail(Code::shape, "size of axis %d is %lld, expected 0 to 2^31 - 2", a.axis,
                      static_cast<long long>(sizes[i]));
      a.n_out = sizes[i];
      a.scale = static_cast<float>(sizes[i]) / static_cast<float>(a.n_in);
      a.length = static_cast<float>(sizes[i]);
    }
  }
  const int64_t aspect = c.attr_int(A::aspect);
  if (!by_scale && aspect != C::aspect::stretch_ && n > 0) {
    float best = list->at[0].scale;
    for (int i = 1; i < n; ++i) {
      const float s = list->at[i].scale;
      if (aspect == C::aspect::not_larger_ ? s < best : s > best) best = s;
    }
    for (int i = 0; i < n; ++i) {
      Axis& a = list->at[i];
      a.scale = best;
      a.length = best * static_cast<float>(a.n_in);
      const float size = std::floor(a.length + 0.5f);
      if (!(size >= 0 && size < 2147483648.0f)) return c.fail(Code::shape, "size of axis %d is out of range", a.axis);
      a.n_out = static_cast<int64_t>(size);
    }
  }
  for (int i = 0; i < n; ++i)
    if (list->at[i].n_in == 0 && list->at[i].n_out > 0)
      return c.fail(Code::shape, "axis %d is empty and cannot be resized to %lld", list->at[i].axis,
                    static_cast<long long>(list->at[i].n_out));
  return Code::ok;
}

Status resize_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  AxisList list;
  DK_TRY(read_axes(c, &list));
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  for (int i = 0; i < list.n; ++i) dims[list.at[i].axis] = list.at[i].n_out;
  return c.set_out(0, x.dtype, x.rank, dims);
}

// ---- tables

// Where output element i lies in the input.
float coordinate(const Axis& a, int64_t mode, int64_t i) {
  const float f = static_cast<float>(i);
  switch (mode) {
    case C::coordinates::asymmetric_: return f / a.scale;
    case C::coordinates::align_corners_:
      return a.length == 1.0f ? 0.0f : f * static_cast<float>(a.n_in - 1) / (a.length - 1.0f);
    case C::coordinates::tf_crop_and_resize_: {
      const float last = static_cast<float>(a.n_in - 1);
      if (a.n_out == 1) return 0.5f * (a.start + a.end) * last;
      return a.start * last + f * (a.end - a.start) * last / (a.length - 1.0f);
    }
    case C::coordinates::pytorch_half_pixel_:
      if (a.n_out == 1) return 0.0f;
      break;
    default: break;
  }
  const float x = (f + 0.5f) / a.scale - 0.5f;
  if (mode == C::coordinates::half_pixel_symmetric_)
    return static_cast<float>(a.n_in) / 2.0f * (1.0f - static_cast<float>(a.n_out) / a.length) + x;
  return x;
}

// Keys' kernel at distance x.
double cubic(double x, double a) {
  x = std::fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((x - 5) * x + 8) * x * a - 4 * a;
  return 0;
}

inline int64_t clamp_index(double v, int64_t n) {
  return v > 0 ? v < static_cast<double>(n - 1) ? static_cast<int64_t>(v) : n - 1 : 0;
}

struct Choices {
  int64_t mode, coordinates, nearest;
  double cubic_a;
  bool exclude_outside, antialias;
};

constexpr int kMostTaps = 1 << 28;

// Reach of the kernel to the left, in elements; shrinking with antialias widens the kernel so that it covers all input
// elements under one output element.
int first_tap(const Axis& a, const Choices& k, double* squeeze) {
  *squeeze = k.antialias && a.scale < 1.0f ? static_cast<double>(a.scale) : 1.0;
  const double first = std::floor(-(k.mode == C::mode::linear_ ? 1 : 2) / *squeeze) + 1;
  return first > -kMostTaps / 2 ? static_cast<int>(first) : -kMostTaps / 2;
}

int tap_count(const Axis& a, const Choices& k) {
  double squeeze;
  if (a.n_out == 0) return 1;
  return k.mode == C::mode::nearest_ ? 1 : 2 - 2 * first_tap(a, k, &squeeze);
}

void fill_tables(Axis& a, const Choices& k) {
  for (int64_t i = 0; i < a.n_out; ++i) {
    const float x = coordinate(a, k.coordinates, i);
    if (a.outside) a.outside[i] = x < 0 || x > static_cast<float>(a.n_in - 1);
    if (k.mode == C::mode::nearest_) {
      float pick;
      switch (k.nearest) {
        case C::nearest::round_prefer_floor_: pick = std::ceil(x - 0.5f); break;
        case C::nearest::round_prefer_ceil_: pick = std::floor(x + 0.5f); break;
        case C::nearest::floor_: pick = std::floor(x); break;
        default: pick = std::ceil(x);
      }
      a.index[i] = static_cast<int32_t>(clamp_index(pick, a.n_in));
      continue;
    }
    double squeeze;
    const int first = first_tap(a, k, &squeeze);
    const double at = x, base = std::ceil(at) - 1;
    double total = 0;
    double* w = a.weight64 + i * a.taps;
    for (int t = 0; t < a.taps; ++t) {
      const double index = base + (first + t), distance = (index - at) * squeeze;
      double v;
      if (k.mode == C::mode::linear_) {
        v = 1 - std::fabs(distance);
        v = v > 0 ? v < 1 ? v : 1 : 0;
      } else {
        v = cubic(distance, k.cubic_a);
      }
      if (k.exclude_outside && (index < 0 || index >= static_cast<double>(a.n_in))) v = 0;
      w[t] = v;
      total += v;
      a.index[i * a.taps + t] = static_cast<int32_t>(clamp_index(index, a.n_in));
    }
    for (int t = 0; t < a.taps; ++t) {
      if ((k.exclude_outside || k.antialias) && total != 0) w[t] /= total;
      a.weight[i * a.taps + t] = static_cast<float>(w[t]);
    }
  }
}

// ---- plan

struct Plan {
  int n = 0;  // axes that change, in order
  Axis axes[kMaxRank];
  bool any_outside = false;
  Wide wide = Wide::f32;  // f32, or f64 for integers and float64
  const ResizeKernels* kernels = nullptr;
  int64_t row_in = 0, row_out = 0;  // elements of a temporary and an output row of the fused last two axes
  size_t buffers[2] = {0, 0};       // scratch offsets of the results of earlier axes
  size_t lanes = 0, lane_bytes = 0;
};

size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

// The last two axes of the plan over a tensor of these dims: [outer, a, middle, b, inner], missing ones being 1.
struct Fused {
  const Axis* a;  // may be null
  const Axis* b;  // may be null
  int64_t outer, middle, inner, a_in, a_out, b_in, b_out;
};

Fused fuse(const Plan& p, const int64_t* dims, int rank) {
  Fused f{nullptr, nullptr, 1, 1, 1, 1, 1, 1, 1};
  const Axis& last = p.axes[p.n - 1];
  const int64_t inner = product(dims, last.axis + 1, rank);
  if (p.n >= 2) {
    f.a = &p.axes[p.n - 2];
    f.b = &last;
    f.middle = product(dims, f.a->axis + 1, last.axis);
    f.inner = inner;
  } else if (inner >= 16) {
    f.a = &last;
    f.middle = inner;
  } else {
    f.b = &last;
    f.inner = inner;
  }
  f.outer = product(dims, 0, f.a ? f.a->axis : f.b->axis);
  if (f.a) f.a_in = f.a->n_in, f.a_out = f.a->n_out;
  if (f.b) f.b_in = f.b->n_in, f.b_out = f.b->n_out;
  return f;
}

Status resize_prepare(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& y = *c.out(0);
  const bool crop = c.attr_int(A::coordinates) == C::coordinates::tf_crop_and_resize_;
  const Choices choices = {
      c.attr_int(A::mode),       c.attr_int(A::coordinates),          c.attr_int(A::nearest),
      c.attr_double(A::cubic_a), c.attr_int(A::exclude_outside) != 0, c.attr_int(A::antialias) != 0};
  AxisList list;
  DK_TRY(read_axes(c, &list));
  Plan plan;
  size_t bytes = align64(sizeof(Plan));
  for (int i = 0; i < x.rank; ++i)
    for (int k = 0; k < list.n; ++k) {
      Axis& a = list.at[k];
      if (a.axis != i || (a.n_in == a.n_out && a.scale == 1.0f && !crop)) continue;
      a.taps = tap_count(a, choices);
      if (a.taps > kMostTaps) return c.fail(Code::unsupported, "axis %d shrinks too much for antialias", a.axis);
      plan.axes[plan.n++] = a;
      const size_t cells = static_cast<size_t>(a.n_out) * static_cast<size_t>(a.taps);
      bytes += align64(cells * 4) * 2 + align64(cells * 8) + align64(static_cast<size_t>(a.n_out));
    }
  char* memory;
  DK_TRY(c.make_state(bytes, reinterpret_cast<void**>(&memory)));
  char* next = memory + align64(sizeof(Plan));
  auto take = [&](size_t n) {
    char* p = next;
    next += align64(n);
    return static_cast<void*>(p);
  };
  for (int i = 0; i < plan.n; ++i) {
    Axis& a = plan.axes[i];
    const size_t cells = static_cast<size_t>(a.n_out) * static_cast<size_t>(a.taps);
    a.index = static_cast<int32_t*>(take(cells * 4));
    a.weight = static_cast<float*>(take(cells * 4));
    a.weight64 = static_cast<double*>(take(cells * 8));
    if (crop) a.outside = static_cast<uint8_t*>(take(static_cast<size_t>(a.n_out)));
    fill_tables(a, choices);
    for (int64_t k = 0; a.outside && k < a.n_out; ++k) plan.any_outside |= a.outside[k] != 0;
  }
  plan.wide = wide_of(x.dtype) == Wide::f32 ? Wide::f32 : Wide::f64;
  plan.kernels = resize_kernels();
  if (choices.mode != C::mode::nearest_ && plan.n > 0 && y.count() > 0) {
    const size_t size = plan.wide == Wide::f32 ? 4 : 8;
    size_t scratch = 0;
    int64_t dims[kMaxRank];
    memcpy(dims, x.dims, sizeof dims);
    for (int i = 0; i + 2 < plan.n; ++i) {  // earlier axes go through whole buffers, two of them in turn
      dims[plan.axes[i].axis] = plan.axes[i].n_out;
      const size_t need = align64(static_cast<size_t>(product(dims, 0, x.rank)) * size);
      if (need > plan.buffers[i & 1]) plan.buffers[i & 1] = need;
    }
    scratch = plan.buffers[0] + plan.buffers[1];
    const Fused f = fuse(plan, dims, x.rank);
    plan.row_in = f.middle * f.b_in * f.inner;
    plan.row_out = f.middle * f.b_out * f.inner;
    // per lane: a temporary row, a converted input row, an output row before conversion
    const int64_t longest = product(x, 0, x.rank) > 0 ? plan.row_in : 0;
    int64_t convert_row = longest;
    if (plan.n > 2) {
      const int64_t r = product(x, plan.axes[0].axis + 1, x.rank);
      if (r > convert_row) convert_row = r;
    }
    plan.lane_bytes = align64(static_cast<size_t>(plan.row_in) * size) +
                      align64(static_cast<size_t>(convert_row) * size) +
                      align64(static_cast<size_t>(plan.row_out) * size);
    DK_TRY(c.need_scratch(scratch + plan.lane_bytes * static_cast<size_t>(c.threads())));
  }
  memcpy(memory, &plan, sizeof plan);
  return Code::ok;
}

// ---- run: nearest

void nearest_rows(const Plan& p, const Tensor& x, Tensor& y, int64_t begin, int64_t end) {
  // Rows end at the last resized axis; what lies behind it is one run.
  const int last = p.axes[p.n - 1].axis;
  const int64_t run = product(x, last + 1, x.rank) * static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t cols = y.dims[last];
  const int32_t* index = p.axes[p.n - 1].index;
  int64_t strides[kMaxRank];  // bytes in x
  int64_t bytes = run;
  for (int k = last; k >= 0; --k) {
    strides[k] = bytes;
    bytes *= x.dims[k];
  }
  const int32_t* map[kMaxRank] = {nullptr};
  for (int i = 0; i < p.n; ++i) map[p.axes[i].axis] = p.axes[i].index;
  with_mover(run, [&](auto move) {
    const char* before = nullptr;
    for (int64_t r = begin; r < end; ++r) {
      int64_t rest = r;
      const char* s = x.as<char>();
      for (int k = last - 1; k >= 0; --k) {
        const int64_t i = rest % y.dims[k];
        rest /= y.dims[k];
        s += (map[k] ? map[k][i] : i) * strides[k];
      }
      char* d = y.as<char>() + r * cols * run;
      if (s == before) {
        memcpy(d, d - cols * run, static_cast<size_t>(cols * run));  // the same input row as for the row above
      } else {
        for (int64_t j = 0; j < cols; ++j) move(d + j * run, s + index[j] * run);
      }
      before = s;
    }
  });
}

// ---- run: linear, cubic

template <class W>
struct Math;
template <>
struct Math<float> {
  static const float* weight(const Axis& a) { return a.weight; }
  static void rows(const Plan& p, float* to, const float* const* rows, const float* w, int taps, int64_t n) {
    p.kernels->rows(to, rows, w, taps, n);
  }
  static void cols(const Plan& p, float* to, const float* from, const Axis& a, int64_t c) {
    p.kernels->cols(to, from, a.index, a.weight, a.taps, a.n_out, c);
  }
};
template <>
struct Math<double> {
  static const double* weight(const Axis& a) { return a.weight64; }
  static void rows(const Plan& p, double* to, const double* const* rows, const double* w, int taps, int64_t n) {
    p.kernels->rows64(to, rows, w, taps, n);
  }
  static void cols(const Plan& p, double* to, const double* from, const Axis& a, int64_t c) {
    p.kernels->cols64(to, from, a.index, a.weight64, a.taps, a.n_out, c);
  }
};

// Elements of any dtype as the wide type; null buffer: they already are.
template <class W>
const W* widen(const Plan& plan, DType t, const void* data, int64_t at, int64_t n, W* buffer) {
  if (!buffer) return static_cast<const W*>(data) + at;
  const char* p = static_cast<const char*>(data) + static_cast<size_t>(at) * dtype_size(t);
  if constexpr (sizeof(W) == 4) {
    load_wide(t, p, n, buffer);
  } else if (t == DType::u8) {
    plan.kernels->from_u8(buffer, reinterpret_cast<const uint8_t*>(p), n);
  } else {
    int64_t part[256];
    uint64_t* upart = reinterpret_cast<uint64_t*>(part);
    for (int64_t i = 0; i < n; i += 256) {
      const int64_t m = n - i < 256 ? n - i : 256;
      const char* q = p + static_cast<size_t>(i) * dtype_size(t);
      if (wide_of(t) == Wide::u64) {
        load_wide(t, q, m, upart);
        for (int64_t k = 0; k < m; ++k) buffer[i + k] = static_cast<double>(upart[k]);
      } else {
        load_wide(t, q, m, part);
        for (int64_t k = 0; k < m; ++k) buffer[i + k] = static_cast<double>(part[k]);
      }
    }
  }
  return buffer;
}

// Lowest and highest number of an integer dtype, as doubles.
void int_range(DType t, double* low, double* high) {
  const int bits = t == DType::s4 || t == DType::u4   ? 4
                   : t == DType::s2 || t == DType::u2 ? 2
                                                      : static_cast<int>(dtype_size(t)) * 8;
  const bool is_signed =
      t == DType::s8 || t == DType::s16 || t == DType::s32 || t == DType::s64 || t == DType::s4 || t == DType::s2;
  *low = is_signed ? -std::ldexp(1.0, bits - 1) : 0;
  *high = std::ldexp(1.0, is_signed ? bits - 1 : bits) - 1;
}

// Back to the dtype of x: floats round once, integers to nearest even with saturation (in place in `from`).
template <class W>
void narrow(const Plan& plan, DType t, W* from, int64_t n, void* data, int64_t at) {
  char* p = static_cast<char*>(data) + static_cast<size_t>(at) * dtype_size(t);
  if constexpr (sizeof(W) == 4) {
    store_wide(t, from, n, p);
  } else if (t == DType::u8) {
    plan.kernels->to_u8(reinterpret_cast<uint8_t*>(p), from, n);
  } else {
    double low, high;
    int_range(t, &low, &high);
    if (t == DType::b8) {
      for (int64_t i = 0; i < n; ++i) p[i] = from[i] != 0;
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      const double v = std::nearbyint(from[i]);
      from[i] = v < low ? low : v > high ? high : v;
    }
    convert(DType::f64, from, t, p, n);
  }
}

// One axis of a whole tensor: [outer, n_in, inner] -> [outer, n_out, inner].
template <class W>
void whole_axis(const OpContext& c, const Plan& p, const Axis& a, DType t, const void* from, const int64_t* dims,
                int rank, W* to, char* lanes) {
  const int64_t outer = product(dims, 0, a.axis), inner = product(dims, a.axis + 1, rank);
  const bool convert_rows = !((sizeof(W) == 4 && t == DType::f32) || (sizeof(W) == 8 && t == DType::f64));
  c.parallel(outer * a.n_out, 16384 / inner + 1, [&](int64_t b, int64_t e, int lane) {
    W* buffer = convert_rows ? reinterpret_cast<W*>(lanes + static_cast<size_t>(lane) * p.lane_bytes +
                                                    align64(static_cast<size_t>(p.row_in) * sizeof(W)))
                             : nullptr;
    for (int64_t r = b; r < e; ++r) {
      const int64_t base = r / a.n_out * a.n_in, j = r % a.n_out;
      W* d = to + r * inner;
      for (int k = 0; k < a.taps; ++k) {
        const W* s = widen<W>(p, t, from, (base + a.index[j * a.taps + k]) * inner, inner, buffer);
        const W w = Math<W>::weight(a)[j * a.taps + k];
        if (k == 0)
          for (int64_t i = 0; i < inner; ++i) d[i] = s[i] * w;
        else
          for (int64_t i = 0; i < inner; ++i) d[i] += s[i] * w;
      }
    }
  });
}

template <class W>
void smooth(const OpContext& c, const Plan& p) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const DType own = sizeof(W) == 4 ? DType::f32 : DType::f64;
  char* scratch = static_cast<char*>(c.scratch());
  char* lanes = scratch + p.buffers[0] + p.buffers[1];
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  const void* from = x.data;
  DType t = x.dtype;
  for (int i = 0; i + 2 < p.n; ++i) {
    W* to = reinterpret_cast<W*>(scratch + (i & 1 ? p.buffers[0] : 0));
    whole_axis<W>(c, p, p.axes[i], t, from, dims, x.rank, to, lanes);
    dims[p.axes[i].axis] = p.axes[i].n_out;
    from = to;
    t = own;
  }
  const Fused f = fuse(p, dims, x.rank);
  c.parallel(f.outer * f.a_out, 16384 / (p.row_in + p.row_out) + 1, [&](int64_t b, int64_t e, int lane) {
    char* mine = lanes + static_cast<size_t>(lane) * p.lane_bytes;
    W* temp = reinterpret_cast<W*>(mine);
    mine += align64(static_cast<size_t>(p.row_in) * sizeof(W));
    W* wide = t == own ? nullptr : reinterpret_cast<W*>(mine);
    W* out = reinterpret_cast<W*>(lanes + static_cast<size_t>(lane + 1) * p.lane_bytes -
                                  align64(static_cast<size_t>(p.row_out) * sizeof(W)));
    for (int64_t r = b; r < e; ++r) {
      const int64_t o = r / f.a_out, j = r % f.a_out;
      W* target = y.dtype == own ? y.as<W>() + r * p.row_out : out;
      const W* row;
      if (!f.a) {
        row = widen<W>(p, t, from, r * p.row_in, p.row_in, wide);
      } else {
        const int32_t* index = f.a->index + j * f.a->taps;
        const W* weight = Math<W>::weight(*f.a) + j * f.a->taps;
        W* sum = f.b ? temp : target;
        if (!wide && f.a->taps <= 4) {
          const W* rows[4];
          for (int k = 0; k < f.a->taps; ++k)
            rows[k] = static_cast<const W*>(from) + (o * f.a_in + index[k]) * p.row_in;
          Math<W>::rows(p, sum, rows, weight, f.a->taps, p.row_in);
        } else {
          for (int k = 0; k < f.a->taps; ++k) {
            const W* s = widen<W>(p, t, from, (o * f.a_in + index[k]) * p.row_in, p.row_in, wide);
            if (k == 0)
              for (int64_t i = 0; i < p.row_in; ++i) sum[i] = s[i] * weight[0];
            else
              for (int64_t i = 0; i < p.row_in; ++i) sum[i] += s[i] * weight[k];
          }
        }
        row = sum;
      }
      for (int64_t m = 0; f.b && m < f.middle; ++m)
        Math<W>::cols(p, target + m * f.b_out * f.inner, row + m * f.b_in * f.inner, *f.b, f.inner);
      if (y.dtype != own) narrow<W>(p, y.dtype, out, p.row_out, y.data, r * p.row_out);
    }
  });
}

// tf_crop_and_resize: elements outside the input get a constant.
void extrapolate(const OpContext& c, const Plan& p) {
  Tensor& y = *c.out(0);
  const double v = c.attr_double(A::extrapolation);
  const size_t size = dtype_size(y.dtype);
  uint64_t bits = 0;
  if (c.attr_int(A::mode) == C::mode::nearest_ || is_float(y.dtype)) {
    convert(DType::f64, &v, y.dtype, &bits, 1);
  } else {
    double w = v;
    narrow<double>(p, y.dtype, &w, 1, &bits, 0);
  }
  for (int i = 0; i < p.n; ++i) {
    const Axis& a = p.axes[i];
    const int64_t inner = product(y, a.axis + 1, y.rank), outer = product(y, 0, a.axis);
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t j = 0; j < a.n_out; ++j)
        if (a.outside[j])
          dk::fill_run(y.as<char>() + static_cast<size_t>((o * a.n_out + j) * inner) * size, &bits, size, inner);
  }
}

Status resize_run(OpContext& c) {
  const Plan& p = *c.state<Plan>();
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  if (p.n == 0) {
    copy_bytes(c, y.data, x.data, x.bytes());
  } else if (c.attr_int(A::mode) == C::mode::nearest_) {
    const int last = p.axes[p.n - 1].axis;
    const int64_t row = product(y, last, y.rank) * static_cast<int64_t>(dtype_size(y.dtype));
    c.parallel(product(y, 0, last), copy_grain(row), [&](int64_t b, int64_t e, int) { nearest_rows(p, x, y, b, e); });
  } else if (p.wide == Wide::f32) {
    smooth<float>(c, p);
  } else {
    smooth<double>(c, p);
  }
  if (p.any_outside) extrapolate(c, p);
  return Code::ok;
}

const OpDef defs[] = {{Opcode::resize_, resize_infer, resize_prepare, resize_run}};

}  // namespace

const OpList ops_image_resize = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
