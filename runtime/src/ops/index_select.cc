// Selection by value: top_k, non_zero, unique, compress, non_max_suppression.
//
// Comparisons go through 64-bit keys whose unsigned order is the order of the values: -0 equals 0, all NaN are equal
// and larger than everything.  The result shapes of all but top_k depend on the data, so `infer` does the counting.
#include <type_traits>

#include "kernels/move/run.h"
#include "ops/index_util.h"

namespace dk {
extern const OpList ops_index_select;

namespace {

constexpr uint64_t kTopBit = uint64_t(1) << 63;

inline uint64_t key_of(double d) {
  uint64_t u;
  if (d != d) return UINT64_MAX;
  d += 0.0;  // -0 becomes 0
  memcpy(&u, &d, 8);
  return u & kTopBit ? ~u : u | kTopBit;
}

template <class T>
inline uint64_t key_of(T v) {
  if constexpr (std::is_floating_point_v<T>)
    return key_of(static_cast<double>(v));
  else if constexpr (std::is_signed_v<T>)
    return static_cast<uint64_t>(static_cast<int64_t>(v)) ^ kTopBit;
  else
    return static_cast<uint64_t>(v);
}

template <class T>
uint64_t key_at(const void* p, int64_t i) {
  return key_of(static_cast<const T*>(p)[i]);
}
uint64_t f16_key_at(const void* p, int64_t i) { return key_of(f32_from_f16(static_cast<const uint16_t*>(p)[i])); }
uint64_t bf16_key_at(const void* p, int64_t i) { return key_of(f32_from_bf16(static_cast<const uint16_t*>(p)[i])); }

// Calls f(load) with load(data, i) -> key.  The usual dtypes have loops of their own, the others call a function.
template <class F>
auto with_keys(DType t, F&& f) {
  typedef uint64_t (*Load)(const void*, int64_t);
  Load load = nullptr;
  switch (t) {
    case DType::f32: return f([](const void* p, int64_t i) { return key_at<float>(p, i); });
    case DType::s64: return f([](const void* p, int64_t i) { return key_at<int64_t>(p, i); });
    case DType::f64: load = key_at<double>; break;
    case DType::s8:
    case DType::s4:
    case DType::s2: load = key_at<int8_t>; break;
    case DType::u8:
    case DType::u4:
    case DType::u2:
    case DType::b8: load = key_at<uint8_t>; break;
    case DType::s16: load = key_at<int16_t>; break;
    case DType::u16: load = key_at<uint16_t>; break;
    case DType::s32: load = key_at<int32_t>; break;
    case DType::u32: load = key_at<uint32_t>; break;
    case DType::u64: load = key_at<uint64_t>; break;
    case DType::f16: load = f16_key_at; break;
    case DType::bf16: load = bf16_key_at; break;
    default: break;
  }
  return f([t, load](const void* p, int64_t i) {
    if (load) return load(p, i);
    float v;
    load_wide(t, static_cast<const char*>(p) + i, 1, &v);
    return key_of(v);
  });
}

// ---- top_k

struct Candidate {
  uint64_t key;  // smaller is better
  int64_t index;
};

inline bool worse(const Candidate& a, const Candidate& b) { return a.key != b.key ? a.key > b.key : a.index > b.index; }

// Heap with the worst candidate on top.
void sift(Candidate* heap, int64_t at, int64_t n) {
  const Candidate v = heap[at];
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && worse(heap[child + 1], heap[child])) ++child;
    if (!worse(heap[child], v)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = v;
}

Status top_k_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::top_k_::axis), x.rank, &axis));
  int64_t k;
  int n = 0;
  DK_TRY(c.read_ints(1, &k, 1, &n));
  if (n != 1) return c.fail(Code::shape, "k must be one number");
  if (k < 0 || k > x.dims[axis])
    return c.fail(Code::shape, "k is %lld, expected 0 to %lld (the size of axis %d)", static_cast<long long>(k),
                  static_cast<long long>(x.dims[axis]), axis);
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  dims[axis] = k;
  if (c.out(0)) DK_TRY(c.set_out(0, x.dtype, x.rank, dims));
  return c.out(1) ? c.set_out(1, DType::s64, x.rank, dims) : Status();
}

Status top_k_prepare(OpContext& c) {
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::top_k_::axis), c.in(0)->rank, &axis));
  const Tensor* y = c.out(0) ? c.out(0) : c.out(1);
  return c.need_scratch(sizeof(Candidate) * static_cast<size_t>(y->dims[axis]) * static_cast<size_t>(c.threads()));
}

// The candidates of one slice from the best to the worst, to both outputs at `out`; `base`: where the slice begins in
// x.
void top_k_write(const OpContext& c, Candidate* heap, int64_t k, int64_t base, int64_t out, int64_t inner) {
  for (int64_t left = k - 1; left > 0; --left) {
    const Candidate worst = heap[0];
    heap[0] = heap[left];
    heap[left] = worst;
    sift(heap, 0, left);
  }
  const Tensor& x = *c.in(0);
  const size_t size = dtype_size(x.dtype);
  for (int64_t j = 0; j < k; ++j) {
    if (c.out(0))
      memcpy(c.out(0)->as<char>() + static_cast<size_t>(out + j * inner) * size,
             x.as<char>() + static_cast<size_t>(base + heap[j].index * inner) * size, size);
    if (c.out(1)) c.out(1)->as<int64_t>()[out + j * inner] = heap[j].index;
  }
}

Status top_k_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const bool largest = c.attr_int(attr::top_k_::largest) != 0;
  int axis;
  DK_TRY(axis_of(c, c.attr_int(attr::top_k_::axis), x.rank, &axis));
  const Tensor* y = c.out(0) ? c.out(0) : c.out(1);
  const int64_t k = y->dims[axis], n = x.dims[axis];
  if (y->count() == 0) return Code::ok;
  const int64_t inner = product(x, axis + 1, x.rank), rows = product(x, 0, axis) * inner;
  c.parallel(rows, 16384 / n + 1, [&](int64_t b, int64_t e, int lane) {
    Candidate* heap = static_cast<Candidate*>(c.scratch()) + lane * k;
    with_keys(x.dtype, [&](auto key) {
      for (int64_t r = b; r < e; ++r) {
        const int64_t base = r / inner * n * inner + r % inner;
        const uint64_t flip = largest ? ~uint64_t(0) : 0;
        int64_t i = 0;
        for (; i < k; ++i) heap[i] = {key(x.data, base + i * inner) ^ flip, i};
        for (int64_t h = k / 2 - 1; h >= 0; --h) sift(heap, h, k);
        for (; i < n; ++i) {
          const uint64_t v = key(x.data, base + i * inner) ^ flip;
          if (v >= heap[0].key) continue;  // equal keys lose: their index is higher
          heap[0] = {v, i};
          sift(heap, 0, k);
        }
        top_k_write(c, heap, k, base, r / inner * k * inner + r % inner, inner);
      }
    });
  });
  return Code::ok;
}

// ---- non_zero

// Calls f(test) with test(data, i) -> bool.
template <class F>
void with_non_zero(DType t, F&& f) {
  auto bits = [&](auto mask) {
    using T = decltype(mask);
    f([mask](const void* p, int64_t i) { return (static_cast<const T*>(p)[i] & mask) != 0; });
  };
  switch (t) {
    case DType::f32: return bits(uint32_t(0x7fffffffu));
    case DType::f64: return bits(~kTopBit);
    case DType::f16:
    case DType::bf16: return bits(uint16_t(0x7fff));
    case DType::f8e4m3fn:
    case DType::f8e5m2: return bits(uint8_t(0x7f));
    case DType::f4e2m1fn: return bits(uint8_t(0x07));
    case DType::f8e8m0fnu: return f([](const void*, int64_t) { return true; });  // has no zero
    default: break;
  }
  switch (dtype_size(t)) {
    case 1: return bits(uint8_t(0xff));
    case 2: return bits(uint16_t(0xffff));
    case 4: return bits(~uint32_t(0));
    default: return bits(~uint64_t(0));
  }
}

int64_t count_non_zero(const void* data, DType t, int64_t n) {
  int64_t count = 0;
  with_non_zero(t, [&](auto test) {
    for (int64_t i = 0; i < n; ++i) count += test(data, i);
  });
  return count;
}

Status non_zero_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t n = x.count();
  int64_t dims[2] = {x.rank ? x.rank : 1, 0};
  if (n > 0) {
    const void* v = c.value(0);
    if (!v) return c.need_value(0);
    dims[1] = count_non_zero(v, x.dtype, n);
  }
  return c.set_out(0, DType::s64, 2, dims);
}

Status non_zero_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int64_t n = x.count(), count = c.out(0)->dims[1];
  int64_t* y = c.out(0)->as<int64_t>();
  int64_t found = 0;
  int64_t at[kMaxRank] = {0};
  with_non_zero(x.dtype, [&](auto test) {
    for (int64_t i = 0; i < n; ++i) {
      if (test(x.data, i) && found < count) {
        y[found] = at[0];
        for (int k = 1; k < x.rank; ++k) y[k * count + found] = at[k];
        ++found;
      }
      for (int k = x.rank - 1; k >= 0; --k) {
        if (++at[k] < x.dims[k]) break;
        at[k] = 0;
      }
    }
  });
  return Code::ok;
}

// ---- unique

// Slices of x along an axis (or single elements of the flattened x), their order, and where groups of equals begin.
struct Slices {
  int64_t n = 0, len = 0;  // number of slices, elements in each
  int64_t inner = 1;       // elements behind the axis
  TempMemory keys, order, temp;
  int64_t groups = 0;

  bool less(int64_t a, int64_t b) const { return compare(a, b) < 0; }
  int compare(int64_t a, int64_t b) const {
    const uint64_t *p = keys.as<uint64_t>() + a * len, *q = keys.as<uint64_t>() + b * len;
    for (int64_t i = 0; i < len; ++i)
      if (p[i] != q[i]) return p[i] < q[i] ? -1 : 1;
    return 0;
  }
};

Status slice_layout(const OpContext& c, Slices* s, int* axis) {
  const Tensor& x = *c.in(0);
  const int64_t a = c.attr_int(attr::unique_::axis);
  if (a == INT32_MAX) {
    *axis = -1;
    s->n = x.count();
    s->len = 1;
    return Code::ok;
  }
  DK_TRY(axis_of(c, a, x.rank, axis));
  s->n = x.dims[*axis];
  s->inner = product(x, *axis + 1, x.rank);
  s->len = product(x, 0, *axis) * s->inner;
  return Code::ok;
}

// Sorts the slices (merge sort from the bottom up: stable, so the first of a group has the lowest index).
Status sort_slices(const OpContext& c, const void* data, Slices* s) {
  const int64_t n = s->n, len = s->len;
  DK_TRY(s->keys.get(c, sizeof(uint64_t) * static_cast<size_t>(n * len)));
  DK_TRY(s->order.get(c, sizeof(int64_t) * static_cast<size_t>(n)));
  DK_TRY(s->temp.get(c, sizeof(int64_t) * static_cast<size_t>(n)));
  uint64_t* keys = s->keys.as<uint64_t>();
  with_keys(c.in(0)->dtype, [&](auto key) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < len; ++k) keys[i * len + k] = key(data, (k / s->inner * n + i) * s->inner + k % s->inner);
  });
  int64_t *from = s->order.as<int64_t>(), *to = s->temp.as<int64_t>();
  for (int64_t i = 0; i < n; ++i) from[i] = i;
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t left = 0; left < n; left += 2 * width) {
      const int64_t middle = left + width < n ? left + width : n, right = left + 2 * width < n ? left + 2 * width : n;
      int64_t a = left, b = middle;
      for (int64_t i = left; i < right; ++i)
        to[i] = a < middle && (b >= right || !s->less(from[b], from[a])) ? from[a++] : from[b++];
    }
    int64_t* swap = from;
    from = to;
    to = swap;
  }
  if (from != s->order.as<int64_t>()) {
    void* swap = s->order.p;
    s->order.p = s->temp.p;
    s->temp.p = swap;
  }
  s->groups = n > 0;
  for (int64_t i = 1; i < n; ++i)
    s->groups += s->compare(s->order.as<int64_t>()[i - 1], s->order.as<int64_t>()[i]) != 0;
  return Code::ok;
}

Status unique_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  Slices s;
  int axis;
  DK_TRY(slice_layout(c, &s, &axis));
  if (x.count() > 0) {
    const void* v = c.value(0);
    if (!v) return c.need_value(0);
    DK_TRY(sort_slices(c, v, &s));
  } else {
    s.groups = s.n > 0;  // slices without elements are all equal
  }
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  if (axis >= 0) {
    dims[axis] = s.groups;
    if (c.out(0)) DK_TRY(c.set_out(0, x.dtype, x.rank, dims));
  } else if (c.out(0)) {
    DK_TRY(c.set_out(0, x.dtype, 1, &s.groups));
  }
  if (c.out(1)) DK_TRY(c.set_out(1, DType::s64, 1, &s.groups));
  if (c.out(2)) DK_TRY(c.set_out(2, DType::s64, 1, &s.n));
  return c.out(3) ? c.set_out(3, DType::s64, 1, &s.groups) : Status();
}

Status unique_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Slices s;
  int axis;
  DK_TRY(slice_layout(c, &s, &axis));
  if (s.n == 0) return Code::ok;
  DK_TRY(sort_slices(c, x.data, &s));
  const int64_t* order = s.order.as<int64_t>();
  int64_t* rank = s.temp.as<int64_t>();  // group of slice i, in sorted order
  TempMemory heads;                      // first slice of each group
  DK_TRY(heads.get(c, 2 * sizeof(int64_t) * static_cast<size_t>(s.groups)));
  int64_t* first = heads.as<int64_t>();
  int64_t* place = first + s.groups;  // where the group goes in the output
  int64_t g = -1;
  for (int64_t i = 0; i < s.n; ++i) {
    if (i == 0 || s.compare(order[i - 1], order[i]) != 0) first[++g] = order[i];
    rank[order[i]] = g;
  }
  if (c.attr_int(attr::unique_::sorted)) {
    for (int64_t i = 0; i < s.groups; ++i) place[i] = i;
  } else {
    int64_t next = 0;
    for (int64_t i = 0; i < s.n; ++i)
      if (first[rank[i]] == i) place[rank[i]] = next++;
  }
  const size_t size = dtype_size(x.dtype);
  for (int64_t i = 0; i < s.groups; ++i) {
    if (c.out(1)) c.out(1)->as<int64_t>()[place[i]] = first[i];
    if (c.out(3)) c.out(3)->as<int64_t>()[place[i]] = 0;
    if (!c.out(0) || s.len == 0) continue;
    const int64_t run = s.inner * static_cast<int64_t>(size);
    copy_rows(c.out(0)->as<char>() + place[i] * run, s.groups * run, x.as<char>() + first[i] * run, s.n * run, run,
              s.len / s.inner);
  }
  for (int64_t i = 0; i < s.n; ++i) {
    if (c.out(2)) c.out(2)->as<int64_t>()[i] = place[rank[i]];
    if (c.out(3)) ++c.out(3)->as<int64_t>()[place[rank[i]]];
  }
  return Code::ok;
}

// ---- compress

Status compress_axis(const OpContext& c, int* axis, int64_t* n) {
  const int64_t a = c.attr_int(attr::compress_::axis);
  *axis = -1;
  *n = c.in(0)->count();
  if (a == INT32_MAX) return Code::ok;
  DK_TRY(axis_of(c, a, c.in(0)->rank, axis));
  *n = c.in(0)->dims[*axis];
  return Code::ok;
}

Status compress_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& condition = *c.in(1);
  int axis;
  int64_t n;
  DK_TRY(compress_axis(c, &axis, &n));
  if (condition.dtype != DType::b8 || condition.rank != 1)
    return c.fail(Code::shape, "condition must be a bool vector; got %s of rank %d", dtype_name(condition.dtype),
                  condition.rank);
  int64_t count = 0;
  if (condition.dims[0] > 0) {
    const auto* v = static_cast<const uint8_t*>(c.value(1));
    if (!v) return c.need_value(1);
    for (int64_t i = 0; i < condition.dims[0]; ++i) {
      if (v[i] && i >= n)
        return c.fail(Code::index, "condition[%lld] is true, but there are only %lld slices", static_cast<long long>(i),
                      static_cast<long long>(n));
      count += v[i] != 0;
    }
  }
  if (axis < 0) return c.set_out(0, x.dtype, 1, &count);
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  dims[axis] = count;
  return c.set_out(0, x.dtype, x.rank, dims);
}

Status compress_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& condition = *c.in(1);
  int axis;
  int64_t n;
  DK_TRY(compress_axis(c, &axis, &n));
  if (c.out(0)->count() == 0) return Code::ok;
  const int64_t outer = axis < 0 ? 1 : product(x, 0, axis);
  const int64_t run = (axis < 0 ? 1 : product(x, axis + 1, x.rank)) * static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t kept = axis < 0 ? c.out(0)->dims[0] : c.out(0)->dims[axis];
  const uint8_t* v = condition.as<uint8_t>();
  const int64_t m = condition.dims[0] < n ? condition.dims[0] : n;
  with_mover(run, [&](auto move) {
    for (int64_t o = 0; o < outer; ++o) {
      char* d = c.out(0)->as<char>() + o * kept * run;
      for (int64_t i = 0; i < m; ++i)
        if (v[i]) {
          move(d, x.as<char>() + (o * n + i) * run);
          d += run;
        }
    }
  });
  return Code::ok;
}

// ---- non_max_suppression

struct Box {
  float y1, x1, y2, x2, area;
};

inline Box box_at(const float* p, bool center) {
  Box b;
  if (center) {
    const float hw = p[2] / 2, hh = p[3] / 2;
    b = {p[1] - hh, p[0] - hw, p[1] + hh, p[0] + hw, 0};
  } else {
    b = {p[0] < p[2] ? p[0] : p[2], p[1] < p[3] ? p[1] : p[3], p[0] < p[2] ? p[2] : p[0], p[1] < p[3] ? p[3] : p[1], 0};
  }
  b.area = (b.y2 - b.y1) * (b.x2 - b.x1);
  return b;
}

inline bool overlaps(const Box& a, const Box& b, float threshold) {
  const float y1 = a.y1 > b.y1 ? a.y1 : b.y1, y2 = a.y2 < b.y2 ? a.y2 : b.y2;
  const float x1 = a.x1 > b.x1 ? a.x1 : b.x1, x2 = a.x2 < b.x2 ? a.x2 : b.x2;
  const float h = y2 - y1, w = x2 - x1;
  if (!(h > 0) || !(w > 0) || !(a.area > 0) || !(b.area > 0)) return false;
  const float both = h * w;
  return both / (a.area + b.area - both) > threshold;
}

struct Suppression {
  const float* boxes;
  const float* scores;
  int64_t batches, classes, n, limit;
  float iou, score;
  bool any_score, center;
};

Status read_suppression(const OpContext& c, Suppression* s) {
  static const char* const names[] = {"", "", "max_per_class", "iou_threshold", "score_threshold"};
  const void* v[5];
  for (int i = 0; i < 5; ++i) {
    v[i] = nullptr;
    if (!c.in(i)) continue;
    if (i >= 2 && c.in(i)->count() != 1) return c.fail(Code::shape, "%s must be one number", names[i]);
    v[i] = c.value(i);
    if (!v[i] && c.in(i)->count() > 0) return c.need_value(i);
  }
  s->boxes = static_cast<const float*>(v[0]);
  s->scores = static_cast<const float*>(v[1]);
  s->batches = c.in(1)->dims[0];
  s->classes = c.in(1)->dims[1];
  s->n = c.in(1)->dims[2];
  s->limit = v[2] ? index_at(v[2], c.in(2)->dtype, 0) : 0;
  s->iou = v[3] ? *static_cast<const float*>(v[3]) : 0.0f;
  s->any_score = v[4] == nullptr;
  s->score = v[4] ? *static_cast<const float*>(v[4]) : 0.0f;
  s->center = c.attr_int(attr::non_max_suppression_::center_box) != 0;
  return Code::ok;
}

// Calls f(batch, class, box) for every selected box; the number of them in *count.
template <class F>
Status suppress(const OpContext& c, const Suppression& s, int64_t* count, F&& f) {
  *count = 0;
  if (s.limit <= 0 || s.n == 0) return Code::ok;
  const int64_t most = s.limit < s.n ? s.limit : s.n;
  TempMemory heaps, kept;
  DK_TRY(heaps.get(c, sizeof(Candidate) * static_cast<size_t>(s.n)));
  DK_TRY(kept.get(c, sizeof(Box) * static_cast<size_t>(most)));
  Candidate* heap = heaps.as<Candidate>();
  Box* chosen = kept.as<Box>();
  for (int64_t b = 0; b < s.batches; ++b)
    for (int64_t k = 0; k < s.classes; ++k) {
      const float* score = s.scores + (b * s.classes + k) * s.n;
      int64_t m = 0, got = 0;
      // the heap keeps the greatest (key, index) on top: the highest score, and of equals the lowest index
      for (int64_t i = 0; i < s.n; ++i)
        if (s.any_score || score[i] > s.score) heap[m++] = {key_of(score[i]), -i};
      for (int64_t h = m / 2 - 1; h >= 0; --h) sift(heap, h, m);
      while (m > 0 && got < most) {
        const int64_t i = -heap[0].index;
        heap[0] = heap[--m];
        sift(heap, 0, m);
        const Box box = box_at(s.boxes + (b * s.n + i) * 4, s.center);
        bool free = true;
        for (int64_t j = 0; free && j < got; ++j) free = !overlaps(box, chosen[j], s.iou);
        if (!free) continue;
        chosen[got++] = box;
        f(b, k, i);
        ++*count;
      }
    }
  return Code::ok;
}

Status non_max_suppression_infer(OpContext& c) {
  const Tensor& boxes = *c.in(0);
  const Tensor& scores = *c.in(1);
  if (boxes.rank != 3 || boxes.dims[2] != 4) return c.fail(Code::shape, "boxes must be [batches, boxes, 4]");
  if (scores.rank != 3 || scores.dims[0] != boxes.dims[0] || scores.dims[2] != boxes.dims[1])
    return c.fail(Code::shape, "scores must be [%lld, classes, %lld]", static_cast<long long>(boxes.dims[0]),
                  static_cast<long long>(boxes.dims[1]));
  for (int i = 0; i < 5; ++i)
    if (i != 2 && c.in(i) && c.in(i)->dtype != DType::f32)
      return c.fail(Code::unsupported, "input %d is %s; only float32 has a kernel", i, dtype_name(c.in(i)->dtype));
  if (c.in(2)) DK_TRY(index_input(c, 2));
  Suppression s;
  DK_TRY(read_suppression(c, &s));
  if (!(s.iou >= 0 && s.iou <= 1))
    return c.fail(Code::shape, "iou_threshold is %g, expected 0 to 1", static_cast<double>(s.iou));
  int64_t dims[2] = {0, 3};
  DK_TRY(suppress(c, s, &dims[0], [](int64_t, int64_t, int64_t) {}));
  return c.set_out(0, DType::s64, 2, dims);
}

Status non_max_suppression_run(OpContext& c) {
  Suppression s;
  DK_TRY(read_suppression(c, &s));
  int64_t* y = c.out(0)->as<int64_t>();
  const int64_t room = c.out(0)->dims[0];
  int64_t count = 0, at = 0;
  return suppress(c, s, &count, [&](int64_t b, int64_t k, int64_t i) {
    if (at == room) return;
    y[3 * at] = b;
    y[3 * at + 1] = k;
    y[3 * at++ + 2] = i;
  });
}

const OpDef defs[] = {
    {Opcode::top_k_, top_k_infer, top_k_prepare, top_k_run},
    {Opcode::non_zero_, non_zero_infer, nullptr, non_zero_run},
    {Opcode::unique_, unique_infer, nullptr, unique_run},
    {Opcode::compress_, compress_infer, nullptr, compress_run},
    {Opcode::non_max_suppression_, non_max_suppression_infer, nullptr, non_max_suppression_run},
};

}  // namespace

const OpList ops_index_select = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
