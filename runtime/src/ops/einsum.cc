// einsum and det.
//
// Operands are combined two at a time, the pair with the smallest result first.  Each pair is brought to the form
// [batch, m, k] x [batch, n, k] by strided copies (skipped where the data lies so already) and becomes a batched matrix
// product; indices that only one operand has are summed beforehand.  Sums are made in float32 (GEMM core), float64, or
// 64-bit integers that wrap around.
#include <cmath>

#include "base/convert.h"
#include "kernels/gemm/gemm.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_einsum;

namespace {

constexpr int kLabels = 64;  // 52 letters, then the dims behind ellipses, counted from the right
constexpr int kDots = 52;
constexpr int kOperands = 16;
constexpr int kMostDims = 20;  // of an intermediate: what a CopyPlan can walk

size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

struct Equation {
  int operands = 0;
  int n[kOperands];
  uint8_t labels[kOperands][kMaxRank];
  int n_out = 0;
  uint8_t out[kMaxRank];
  int64_t size[kLabels] = {0};
};

// Labels of one term, its dots standing for `hidden` dims.  -1: cannot be read or too long.
int read_term(const char* s, int64_t len, int hidden, uint8_t* to) {
  int n = 0;
  bool dots = false;
  for (int64_t i = 0; i < len; ++i) {
    const char ch = s[i];
    if (ch == ' ') continue;
    if (ch == '.') {
      if (dots || i + 2 >= len || s[i + 1] != '.' || s[i + 2] != '.') return -1;
      dots = true;
      i += 2;
      for (int k = hidden - 1; k >= 0; --k) {
        if (n == kMaxRank) return -1;
        to[n++] = static_cast<uint8_t>(kDots + k);
      }
      continue;
    }
    const bool lower = ch >= 'a' && ch <= 'z', upper = ch >= 'A' && ch <= 'Z';
    if ((!lower && !upper) || n == kMaxRank) return -1;
    to[n++] = static_cast<uint8_t>(lower ? 26 + ch - 'a' : ch - 'A');  // in the order of sorted letters
  }
  return n;
}

Status bad_equation(const OpContext& c, Span<const char> text) {
  return c.fail(Code::shape, "cannot read the equation '%.*s'", static_cast<int>(text.len < 200 ? text.len : 200),
                text.ptr);
}

Status parse(const OpContext& c, Equation* e) {
  Span<const char> text = c.attr_str(attr::einsum_::equation);
  if (c.n_in() < 1 || c.n_in() > kOperands)
    return c.fail(Code::unsupported, "%d operands, expected 1 to %d", c.n_in(), kOperands);
  int64_t arrow = text.len;
  for (int64_t i = 0; i + 1 < text.len; ++i)
    if (text[i] == '-' && text[i + 1] == '>') {
      arrow = i;
      break;
    }
  int most = 0;
  uint64_t seen = 0, once = 0;
  int64_t begin = 0;
  for (int64_t i = 0; i <= arrow; ++i) {
    if (i < arrow && text[i] != ',') continue;
    if (e->operands >= c.n_in())
      return c.fail(Code::shape, "the equation has more operands than the %d given", c.n_in());
    const int k = e->operands++;
    const Tensor& x = *c.in(k);
    const int named = read_term(text.ptr + begin, i - begin, 0, e->labels[k]);
    if (named < 0) return bad_equation(c, text);
    bool dots = false;
    for (int64_t q = begin; q < i; ++q) dots |= text[q] == '.';
    const int hidden = dots ? x.rank - named : 0;
    if (hidden < 0 || named + hidden != x.rank)
      return c.fail(Code::shape, "operand %d has rank %d, its term has %d indices", k, x.rank, named);
    if (hidden > most) most = hidden;
    e->n[k] = read_term(text.ptr + begin, i - begin, hidden, e->labels[k]);
    if (e->n[k] != x.rank) return bad_equation(c, text);
    for (int q = 0; q < e->n[k]; ++q) {
      const uint64_t bit = uint64_t{1} << e->labels[k][q];
      once = seen & bit ? once & ~bit : once | bit;
      if (!(seen & bit)) e->size[e->labels[k][q]] = 1;
      seen |= bit;
      int64_t& size = e->size[e->labels[k][q]];
      const int64_t d = x.dims[q];
      if (size == 1)
        size = d;
      else if (d != 1 && d != size)
        return c.fail(Code::shape, "operand %d: dim %d is %lld, the same index was %lld before", k, q,
                      static_cast<long long>(d), static_cast<long long>(size));
    }
    begin = i + 1;
  }
  if (e->operands != c.n_in())
    return c.fail(Code::shape, "the equation has %d operands, %d are given", e->operands, c.n_in());
  if (arrow < text.len) {
    e->n_out = read_term(text.ptr + arrow + 2, text.len - arrow - 2, most, e->out);
    if (e->n_out < 0) return bad_equation(c, text);
    uint64_t used = 0;
    for (int i = 0; i < e->n_out; ++i) {
      const uint64_t bit = uint64_t{1} << e->out[i];
      if (used & bit || !(seen & bit)) return c.fail(Code::shape, "the result repeats or invents an index");
      used |= bit;
    }
  } else {
    for (int k = most - 1; k >= 0; --k) e->out[e->n_out++] = static_cast<uint8_t>(kDots + k);
    for (int k = 0; k < kDots; ++k)
      if (once >> k & 1) {
        if (e->n_out == kMaxRank) return c.fail(Code::unsupported, "result of more than %d dims", kMaxRank);
        e->out[e->n_out++] = static_cast<uint8_t>(k);
      }
  }
  return Code::ok;
}

Status einsum_infer(OpContext& c) {
  Equation e;
  DK_TRY(parse(c, &e));
  const DType t = c.in(0)->dtype;
  for (int i = 1; i < c.n_in(); ++i) DK_TRY(same_dtype(c, 0, i));
  if (t == DType::b8) return c.fail(Code::unsupported, "no kernel for dtype bool");
  int64_t dims[kMaxRank];
  for (int i = 0; i < e.n_out; ++i) dims[i] = e.size[e.out[i]];
  return c.set_out(0, t, e.n_out, dims);
}

// ---- plan

// An operand or intermediate: labels (each once) with strides; labels that it broadcasts are left out.
struct Operand {
  int n;
  uint8_t labels[kMostDims];
  int64_t strides[kMostDims];
  int input;      // of the op, or -1
  size_t offset;  // in scratch otherwise

  uint64_t mask() const {
    uint64_t m = 0;
    for (int i = 0; i < n; ++i) m |= uint64_t{1} << labels[i];
    return m;
  }
  int64_t stride(uint8_t label) const {
    for (int i = 0; i < n; ++i)
      if (labels[i] == label) return strides[i];
    return 0;
  }
};

// An operand laid out densely in a given order of labels, other labels of it summed.
struct Dense {
  Operand from;
  int n;
  uint8_t labels[kMostDims];
  bool copy;      // false: the data lies so already
  size_t offset;  // of the copy
};

struct Step {
  Dense a, b;
  int64_t batch, m, n, k;
  size_t result;
  size_t packs, pack_bytes;  // room of a lane for packed B
  GemmLayout layout;
};

struct Plan {
  Wide wide;  // f32, f64 or u64
  bool own;   // the inputs are of that type already
  int64_t size[kLabels];
  size_t copies[kOperands];
  int steps;
  Step step[kOperands];
  Dense last;       // the result in the order of the output
  bool direct;      // the last step writes the output itself
  size_t y_offset;  // of the result before conversion
  size_t bias;      // zeros for the GEMM core
};

struct Planner {
  const OpContext& c;
  Plan& p;
  size_t at = 0;
  size_t item;

  Status take(int64_t count, size_t* offset) {
    size_t bytes;
    if (count < 0 || __builtin_mul_overflow(static_cast<size_t>(count), item, &bytes) || bytes > SIZE_MAX / 4)
      return c.fail(Code::memory, "an intermediate result is too large");
    *offset = at;
    at += align64(bytes + kSlack);
    return Code::ok;
  }
  Status count(const uint8_t* labels, int n, int64_t* to) const {
    *to = 1;
    for (int i = 0; i < n; ++i)
      if (__builtin_mul_overflow(*to, p.size[labels[i]], to))
        return c.fail(Code::memory, "an intermediate result is too large");
    return Code::ok;
  }
  // Lays `from` out as labels; sums what is not among them.
  Status dense(const Operand& from, const uint8_t* labels, int n, Dense* to) {
    to->from = from;
    to->n = n;
    int64_t want = 1;
    bool same = true;
    uint64_t kept = 0;
    for (int i = n - 1; i >= 0; --i) {
      to->labels[i] = labels[i];
      kept |= uint64_t{1} << labels[i];
      same &= p.size[labels[i]] == 1 || from.stride(labels[i]) == want;
      want *= p.size[labels[i]];
    }
    to->copy = !same || (from.mask() & ~kept);
    if (!to->copy) return Code::ok;
    int64_t cells;
    DK_TRY(count(labels, n, &cells));
    return take(cells, &to->offset);
  }
};

// Adds the labels of `from` that are in `mask`, in the order of `from`.
int pick(const uint8_t* from, int n, uint64_t mask, uint8_t* to, int at) {
  for (int i = 0; i < n; ++i)
    if (mask >> from[i] & 1) to[at++] = from[i];
  return at;
}

int64_t product_of(const Plan& p, uint64_t mask) {
  int64_t n = 1;
  for (int i = 0; i < kLabels; ++i)
    if (mask >> i & 1 && __builtin_mul_overflow(n, p.size[i], &n)) return INT64_MAX;
  return n;
}

Status plan_step(Planner& planner, const OpContext& c, const Equation& e, const Operand& x, const Operand& y,
                 uint64_t needed, bool final, Operand* result) {
  Plan& p = planner.p;
  Step& s = p.step[p.steps++];
  const uint64_t am = x.mask(), bm = y.mask();
  const Operand *a = &x, *b = &y;
  uint8_t all[kLabels];  // the order of labels: that of the output, then of appearance
  int n_all = 0;
  uint64_t seen = 0;
  auto add = [&](uint8_t l) {
    if (!(seen >> l & 1)) all[n_all++] = l;
    seen |= uint64_t{1} << l;
  };
  for (int i = 0; i < e.n_out; ++i) add(e.out[i]);
  for (int i = 0; i < x.n; ++i) add(x.labels[i]);
  for (int i = 0; i < y.n; ++i) add(y.labels[i]);
  // When the output wants the columns before the rows, the operands change places.
  if (final) {
    for (int i = 0; i < e.n_out; ++i) {
      const uint64_t bit = uint64_t{1} << e.out[i];
      if (am & bm & bit) continue;
      if (bm & bit) a = &y, b = &x;
      if ((am | bm) & bit) break;
    }
  }
  const uint64_t in_a = a->mask(), in_b = b->mask();
  const uint64_t batch = in_a & in_b & needed, inner = in_a & in_b & ~needed;
  const uint64_t rows = in_a & ~in_b & needed, cols = in_b & ~in_a & needed;
  uint8_t labels[kLabels];
  int n = pick(all, n_all, batch, labels, 0);
  const int n_batch = n;
  n = pick(all, n_all, rows, labels, n);
  const int n_rows = n;
  n = pick(all, n_all, inner, labels, n);
  if (n > kMostDims) return c.fail(Code::unsupported, "an intermediate result of %d dims; at most %d", n, kMostDims);
  DK_TRY(planner.dense(*a, labels, n, &s.a));
  int q = pick(all, n_all, cols, labels, n_batch);
  const int n_cols = q;
  q = pick(all, n_all, inner, labels, q);
  if (q > kMostDims) return c.fail(Code::unsupported, "an intermediate result of %d dims; at most %d", q, kMostDims);
  DK_TRY(planner.dense(*b, labels, q, &s.b));
  s.batch = product_of(p, batch), s.m = product_of(p, rows), s.n = product_of(p, cols), s.k = product_of(p, inner);
  // the result: batch, rows, cols
  result->n = pick(all, n_all, batch, result->labels, 0);
  if (n_rows + (n_cols - n_batch) > kMostDims)
    return c.fail(Code::unsupported, "an intermediate result of %d dims; at most %d", n_rows + n_cols - n_batch,
                  kMostDims);
  result->n = pick(all, n_all, rows, result->labels, result->n);
  result->n = pick(all, n_all, cols, result->labels, result->n);
  int64_t step = 1;
  for (int i = result->n - 1; i >= 0; --i) {
    result->strides[i] = step;
    if (__builtin_mul_overflow(step, p.size[result->labels[i]], &step))
      return c.fail(Code::memory, "an intermediate result is too large");
  }
  result->input = -1;
  DK_TRY(planner.take(step, &s.result));
  result->offset = s.result;
  if (p.wide == Wide::f32) {
    s.layout = gemm_layout(gemm_kernels(), s.k, s.n);
    s.pack_bytes = align64(s.layout.bytes());
    DK_TRY(planner.take(static_cast<int64_t>(s.pack_bytes / planner.item) * c.threads(), &s.packs));
  }
  return Code::ok;
}

Status einsum_prepare(OpContext& c) {
  Equation e;
  DK_TRY(parse(c, &e));
  Plan* p;
  DK_TRY(c.make_state(&p));
  const DType t = c.in(0)->dtype;
  p->wide = wide_of(t) == Wide::s64 ? Wide::u64 : wide_of(t);  // the low bits are the same
  p->own = t == DType::f32 || t == DType::f64 || t == DType::s64 || t == DType::u64;
  memcpy(p->size, e.size, sizeof e.size);
  Planner planner{c, *p, 0, p->wide == Wide::f32 ? size_t{4} : size_t{8}};
  Operand list[kOperands] = {};
  int left = e.operands;
  for (int i = 0; i < left; ++i) {
    Operand& o = list[i];
    const Tensor& x = *c.in(i);
    o.n = 0;
    o.input = i;
    o.offset = 0;
    int64_t strides[kMaxRank];
    row_strides(x.rank, x.dims, strides);
    for (int k = 0; k < x.rank; ++k) {
      const uint8_t l = e.labels[i][k];
      if (x.dims[k] == 1 && e.size[l] != 1) continue;  // broadcasts
      int at = 0;
      while (at < o.n && o.labels[at] != l) ++at;
      if (at == o.n) {
        o.labels[o.n] = l;
        o.strides[o.n++] = 0;
      }
      o.strides[at] += strides[k];  // an index named twice walks the diagonal
    }
    if (!p->own) DK_TRY(planner.take(x.count(), &p->copies[i]));
  }
  uint64_t out = 0;
  for (int i = 0; i < e.n_out; ++i) out |= uint64_t{1} << e.out[i];
  while (left > 1) {
    int best_i = 0, best_k = 1;
    int64_t best = INT64_MAX;
    for (int i = 0; i < left; ++i)
      for (int k = i + 1; k < left; ++k) {
        uint64_t others = out;
        for (int q = 0; q < left; ++q)
          if (q != i && q != k) others |= list[q].mask();
        const int64_t cells = product_of(*p, (list[i].mask() | list[k].mask()) & others);
        if (cells < best) best = cells, best_i = i, best_k = k;
      }
    uint64_t needed = out;
    for (int q = 0; q < left; ++q)
      if (q != best_i && q != best_k) needed |= list[q].mask();
    Operand result{};
    DK_TRY(plan_step(planner, c, e, list[best_i], list[best_k], needed, left == 2, &result));
    list[best_i] = result;
    list[best_k] = list[--left];
  }
  DK_TRY(planner.dense(list[0], e.out, e.n_out, &p->last));
  p->direct = p->own && p->steps > 0 && !p->last.copy;
  if (!p->own) DK_TRY(planner.take(c.out(0)->count(), &p->y_offset));
  int64_t widest = 1;
  for (int i = 0; i < p->steps && p->wide == Wide::f32; ++i)
    if (p->step[i].layout.padded() > widest) widest = p->step[i].layout.padded();
  DK_TRY(planner.take(widest, &p->bias));
  uint64_t flops = 0;
  for (int i = 0; i < p->steps; ++i) {
    const Step& s = p->step[i];
    flops += 2 * static_cast<uint64_t>(s.batch) * static_cast<uint64_t>(s.m) * static_cast<uint64_t>(s.n) *
             static_cast<uint64_t>(s.k);
  }
  c.note(p->steps ? "products" : "sums", flops);
  return c.need_scratch(planner.at);
}

// ---- run

template <class W>
struct Runner {
  OpContext& c;
  const Plan& p;
  char* scratch;
  const W* inputs[kOperands];

  const W* data(const Operand& o) const {
    return o.input >= 0 ? inputs[o.input] : reinterpret_cast<const W*>(scratch + o.offset);
  }

  // Walks the dims `labels` of o and calls f(offset) for each cell [begin, end).
  template <class F>
  void walk(const Operand& o, const uint8_t* labels, int n, int64_t begin, int64_t end, F&& f) const {
    if (begin >= end) return;
    int64_t index[kLabels], at = 0, rest = begin;
    for (int i = n - 1; i >= 0; --i) {
      index[i] = rest % p.size[labels[i]];
      rest /= p.size[labels[i]];
      at += index[i] * o.stride(labels[i]);
    }
    for (int64_t k = begin; k < end; ++k) {
      f(k, at);
      for (int i = n - 1; i >= 0; --i) {
        at += o.stride(labels[i]);
        if (++index[i] < p.size[labels[i]]) break;
        at -= o.stride(labels[i]) * p.size[labels[i]];
        index[i] = 0;
      }
    }
  }

  const W* layout(const Dense& d, W* to) const {
    const W* from = data(d.from);
    int64_t cells = 1;
    for (int i = 0; i < d.n; ++i) cells *= p.size[d.labels[i]];
    uint64_t kept = 0;
    for (int i = 0; i < d.n; ++i) kept |= uint64_t{1} << d.labels[i];
    const uint64_t summed = d.from.mask() & ~kept;
    if (cells == 0) return to;
    if (!summed) {
      int64_t dims[kMostDims], strides[kMostDims];
      for (int i = 0; i < d.n; ++i) {
        dims[i] = p.size[d.labels[i]];
        strides[i] = d.from.stride(d.labels[i]);
      }
      CopyPlan plan;
      copy_plan(&plan, sizeof(W), d.n, dims, strides, 0);
      copy_parallel(c, plan, from, to);
      return to;
    }
    uint8_t inner[kLabels];
    const int n_inner = pick(d.from.labels, d.from.n, summed, inner, 0);
    const int64_t count = product_of(p, summed);
    c.parallel(cells, 8192 / (count + 1) + 1, [&](int64_t b, int64_t e, int) {
      walk(d.from, d.labels, d.n, b, e, [&](int64_t cell, int64_t base) {
        if constexpr (sizeof(W) == 4) {
          double sum = 0;  // long sums in float32 would lose digits
          walk(d.from, inner, n_inner, 0, count,
               [&](int64_t, int64_t at) { sum += static_cast<double>(from[base + at]); });
          to[cell] = static_cast<W>(sum);
        } else {
          W sum = 0;
          walk(d.from, inner, n_inner, 0, count, [&](int64_t, int64_t at) { sum += from[base + at]; });
          to[cell] = sum;
        }
      });
    });
    return to;
  }

  const W* layout(const Dense& d) const {
    return d.copy ? layout(d, reinterpret_cast<W*>(scratch + d.offset)) : data(d.from);
  }

  void step(const Step& s, W* to) const {
    const W *a = layout(s.a), *b = layout(s.b);
    const int64_t mn = s.m * s.n;
    if (s.batch * mn == 0) return;
    if constexpr (sizeof(W) == 4) {
      if (s.k > 1 && mn * s.k >= 4096) return gemm(s, a, b, to);
    }
    c.parallel(s.batch * s.m, 16384 / (s.n * (s.k + 1)) + 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const W* row = a + r * s.k;
        const W* cols = b + r / s.m * s.n * s.k;
        W* out = to + r * s.n;
        if (s.k == 1) {
          for (int64_t j = 0; j < s.n; ++j) out[j] = row[0] * cols[j];
          continue;
        }
        for (int64_t j = 0; j < s.n; ++j) {
          W sum = 0;
          for (int64_t q = 0; q < s.k; ++q) sum += row[q] * cols[j * s.k + q];
          out[j] = sum;
        }
      }
    });
  }

  void gemm(const Step& s, const float* a, const float* b, float* to) const {
    GemmEpilogue epilogue;
    epilogue.bias = reinterpret_cast<const float*>(scratch + p.bias);
    auto problem = [&](int64_t i, const GemmRows& rows, const float* packed) {
      GemmProblem g{};
      g.kernels = gemm_kernels();
      g.layout = &s.layout;
      g.m = s.m, g.taps = 1, g.k = s.k;
      g.rows = &rows;
      g.packed = packed;
      g.c = to + i * s.m * s.n, g.ldc = s.n;
      g.epilogue = &epilogue;
      return g;
    };
    auto pack = [&](int64_t i, float* room, int64_t p0, int64_t p1) {
      gemm_pack(gemm_kernels(), s.layout, room, b + i * s.n * s.k, 1, s.k, p0, p1);
    };
    if (s.batch >= c.threads()) {
      c.parallel(s.batch, 1, [&](int64_t begin, int64_t end, int lane) {
        float* room = reinterpret_cast<float*>(scratch + s.packs + static_cast<size_t>(lane) * s.pack_bytes);
        for (int64_t i = begin; i < end; ++i) {
          pack(i, room, 0, s.layout.count());
          const GemmMatrix rows(a + i * s.m * s.k, s.k);
          gemm_run(problem(i, rows, room), 0, s.m, 0, s.layout.count());
        }
      });
      return;
    }
    float* room = reinterpret_cast<float*>(scratch + s.packs);
    for (int64_t i = 0; i < s.batch; ++i) {
      c.parallel(s.layout.count(), 1, [&](int64_t begin, int64_t end, int) { pack(i, room, begin, end); });
      const GemmMatrix rows(a + i * s.m * s.k, s.k);
      const GemmProblem g = problem(i, rows, room);
      const GemmSplit split = gemm_split(g, c.threads());
      c.parallel(split.units, split.grain,
                 [&](int64_t begin, int64_t end, int) { gemm_run_units(g, split, begin, end); });
    }
  }

  void run() {
    const Tensor& y = *c.out(0);
    const DType own = sizeof(W) == 4 ? DType::f32 : p.wide == Wide::f64 ? DType::f64 : DType::u64;
    for (int i = 0; i < c.n_in(); ++i) {
      inputs[i] = c.in(i)->as<W>();
      if (p.own) continue;
      W* copy = reinterpret_cast<W*>(scratch + p.copies[i]);
      convert(c.in(i)->dtype, c.in(i)->data, own, copy, c.in(i)->count());
      inputs[i] = copy;
    }
    if (p.wide == Wide::f32) {
      int64_t widest = 1;
      for (int i = 0; i < p.steps; ++i)
        if (p.step[i].layout.padded() > widest) widest = p.step[i].layout.padded();
      memset(scratch + p.bias, 0, static_cast<size_t>(widest) * 4);
    }
    W* target = p.own ? static_cast<W*>(y.data) : reinterpret_cast<W*>(scratch + p.y_offset);
    for (int i = 0; i < p.steps; ++i) {
      const bool last = i + 1 == p.steps;
      step(p.step[i], last && !p.last.copy ? target : reinterpret_cast<W*>(scratch + p.step[i].result));
    }
    if (p.last.copy)
      layout(p.last, target);
    else if (p.steps == 0)
      copy_bytes(c, target, data(p.last.from), static_cast<size_t>(y.count()) * sizeof(W));
    if (!p.own) convert(own, target, y.dtype, y.data, y.count());
  }
};

template <class W>
void run_einsum(OpContext& c, const Plan& p) {
  Runner<W> r{c, p, static_cast<char*>(c.scratch()), {}};
  r.run();
}

Status einsum_run(OpContext& c) {
  const Plan& p = *c.state<Plan>();
  if (c.out(0)->count() == 0) return Code::ok;
  switch (p.wide) {
    case Wide::f32: run_einsum<float>(c, p); break;
    case Wide::f64: run_einsum<double>(c, p); break;
    default: run_einsum<uint64_t>(c, p); break;
  }
  return Code::ok;
}

// ---- det: LU decomposition with partial pivoting, in float64

Status det_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x must be floats; got %s", dtype_name(x.dtype));
  if (x.rank < 2 || x.dims[x.rank - 1] != x.dims[x.rank - 2])
    return c.fail(Code::shape, "the last two dims of x must be equal");
  return c.set_out(0, x.dtype, x.rank - 2, x.dims);
}

Status det_prepare(OpContext& c) {
  const int64_t n = c.in(0)->dims[c.in(0)->rank - 1];
  return c.need_scratch(align64(static_cast<size_t>(n * n) * 8) * static_cast<size_t>(c.threads()));
}

double determinant(double* a, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(a[i * n + k]) > std::fabs(a[pivot * n + k])) pivot = i;
    if (pivot != k) {
      det = -det;
      for (int64_t j = k; j < n; ++j) {
        const double t = a[k * n + j];
        a[k * n + j] = a[pivot * n + j];
        a[pivot * n + j] = t;
      }
    }
    const double d = a[k * n + k];
    det *= d;
    if (d == 0) return det;
    for (int64_t i = k + 1; i < n; ++i) {
      const double f = a[i * n + k] / d;
      if (f == 0) continue;
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= f * a[k * n + j];
    }
  }
  return det;
}

Status det_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const int64_t n = x.dims[x.rank - 1];
  const size_t room = align64(static_cast<size_t>(n * n) * 8);
  c.parallel(y.count(), 16384 / (n * n * n + 1) + 1, [&](int64_t b, int64_t e, int lane) {
    double* a = reinterpret_cast<double*>(static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * room);
    for (int64_t i = b; i < e; ++i) {
      convert(x.dtype, x.as<char>() + static_cast<size_t>(i * n * n) * dtype_size(x.dtype), DType::f64, a, n * n);
      const double d = determinant(a, n);
      convert(DType::f64, &d, y.dtype, y.as<char>() + static_cast<size_t>(i) * dtype_size(y.dtype), 1);
    }
  });
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::einsum_, einsum_infer, einsum_prepare, einsum_run},
    {Opcode::det_, det_infer, det_prepare, det_run},
};

}  // namespace

const OpList ops_einsum = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
