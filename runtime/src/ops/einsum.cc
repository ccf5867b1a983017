// einsum and det.
//
// einsum works from left to right: the product so far and the next operand become matrices [batch][m][k] and
// [batch][k][n] by one strided copy each, which also takes diagonals, spreads sizes of 1 and sums the indices that
// nobody else needs; then one batched product.  Everything is computed in the wide type of the dtype (base/convert.h).
#include <cmath>

#include "base/convert.h"
#include "kernels/gemm/gemm.h"
#include "ops/epilogue.h"

namespace dk {
extern const OpList ops_einsum;

namespace {

// Indices are small numbers: 0-51 letters, 52.. the dims behind an ellipsis, counted from the right.
constexpr int kLetters = 52;
constexpr int kMaxLabels = kLetters + kMaxRank;
constexpr int kMaxOperands = 32;

struct Term {
  int rank = 0;
  int8_t label[kMaxRank];
  bool has(int l) const {
    for (int i = 0; i < rank; ++i)
      if (label[i] == l) return true;
    return false;
  }
};

struct Equation {
  int n = 0;
  Term in[kMaxOperands];
  Term out;
  int64_t size[kMaxLabels];
};

int letter(char ch) { return ch >= 'A' && ch <= 'Z' ? ch - 'A' : ch >= 'a' && ch <= 'z' ? ch - 'a' + 26 : -1; }

// Reads one term up to ',' or '-' or the end; `hidden`: dims behind the ellipsis, or -1 to compute them from rank.
Status read_term(const OpContext& c, Span<const char> text, int64_t* at, int rank, int hidden, Term* to,
                 int* hidden_out) {
  int named = 0;
  bool dots = false;
  for (int64_t i = *at; i < text.size() && text[i] != ',' && text[i] != '-'; ++i) {
    if (letter(text[i]) >= 0) ++named;
    dots = dots || text[i] == '.';
  }
  if (hidden < 0) hidden = rank - named;
  if (hidden < 0 || (!dots && rank >= 0 && named != rank))
    return c.fail(Code::shape, "the equation names %d indices of an operand of rank %d", named, rank);
  *hidden_out = dots ? hidden : 0;
  to->rank = 0;
  bool seen = false;
  for (; *at < text.size() && text[*at] != ',' && text[*at] != '-'; ++*at) {
    const char ch = text[*at];
    if (ch == ' ') continue;
    if (letter(ch) >= 0) {
      if (to->rank == kMaxRank) return c.fail(Code::unsupported, "a term has more than %d indices", kMaxRank);
      to->label[to->rank++] = static_cast<int8_t>(letter(ch));
    } else if (ch == '.' && !seen && *at + 2 < text.size() && text[*at + 1] == '.' && text[*at + 2] == '.') {
      seen = true;
      *at += 2;
      for (int i = hidden - 1; i >= 0; --i) {
        if (to->rank == kMaxRank) return c.fail(Code::unsupported, "a term has more than %d indices", kMaxRank);
        to->label[to->rank++] = static_cast<int8_t>(kLetters + i);
      }
    } else {
      return c.fail(Code::shape, "cannot read the equation at '%c'; expected letters, ',', '...' and '->'", ch);
    }
  }
  return Code::ok;
}

Status read_equation(const OpContext& c, Equation* e) {
  Span<const char> text = c.attr_str(attr::einsum_::equation);
  e->n = c.n_in();
  if (e->n < 1 || e->n > kMaxOperands)
    return c.fail(Code::unsupported, "got %d operands; expected 1 to %d", e->n, kMaxOperands);
  int64_t at = 0;
  int most = 0;
  for (int i = 0; i < e->n; ++i) {
    if (i > 0) {
      if (at >= text.size() || text[at] != ',')
        return c.fail(Code::shape, "the equation has %d terms for %d operands", i, e->n);
      ++at;
    }
    int hidden;
    DK_TRY(read_term(c, text, &at, c.in(i)->rank, -1, &e->in[i], &hidden));
    if (hidden > most) most = hidden;
  }
  if (at < text.size() && text[at] == ',')
    return c.fail(Code::shape, "the equation has more terms than the %d operands", e->n);
  int uses[kMaxLabels] = {0};
  for (int i = 0; i < e->n; ++i)
    for (int d = 0; d < e->in[i].rank; ++d) ++uses[e->in[i].label[d]];
  if (at < text.size()) {  // "->"
    if (at + 1 >= text.size() || text[at + 1] != '>') return c.fail(Code::shape, "the equation has '-' without '>'");
    at += 2;
    int hidden;
    DK_TRY(read_term(c, text, &at, -1, most, &e->out, &hidden));
    if (at < text.size()) return c.fail(Code::shape, "the equation goes on behind the result");
  } else {  // the indices used once, in order, behind those of the ellipsis
    for (int i = most - 1; i >= 0; --i) e->out.label[e->out.rank++] = static_cast<int8_t>(kLetters + i);
    for (int l = 0; l < kLetters; ++l) {
      if (uses[l] != 1) continue;
      if (e->out.rank == kMaxRank) return c.fail(Code::unsupported, "the result has more than %d indices", kMaxRank);
      e->out.label[e->out.rank++] = static_cast<int8_t>(l);
    }
  }
  for (int d = 0; d < e->out.rank; ++d) {
    if (!uses[e->out.label[d]]) return c.fail(Code::shape, "the result has an index that no operand has");
    for (int k = 0; k < d; ++k)
      if (e->out.label[k] == e->out.label[d]) return c.fail(Code::shape, "the result repeats an index");
  }
  for (int64_t& s : e->size) s = 1;
  for (int i = 0; i < e->n; ++i)
    for (int d = 0; d < e->in[i].rank; ++d) {
      int64_t& s = e->size[e->in[i].label[d]];
      const int64_t n = c.in(i)->dims[d];
      if (s != 1 && n != 1 && s != n)
        return c.fail(Code::shape, "an index has sizes %lld and %lld", static_cast<long long>(s),
                      static_cast<long long>(n));
      if (s == 1) s = n;
    }
  return Code::ok;
}

Status einsum_infer(OpContext& c) {
  if (c.in(0)->dtype == DType::b8) return c.fail(Code::shape, "dtype is bool; expected a number");
  for (int i = 1; i < c.n_in(); ++i) DK_TRY(expect_dtype(c, "an operand", c.in(i)));
  Equation e;
  DK_TRY(read_equation(c, &e));
  int64_t dims[kMaxRank];
  for (int d = 0; d < e.out.rank; ++d) dims[d] = e.size[e.out.label[d]];
  return c.set_out(0, c.in(0)->dtype, e.out.rank, dims);
}

// One operand of one step: where its labels are.
struct View {
  Term term;
  int64_t dims[kMaxRank];
};

// A list of labels with the strides of a view: 0 where it lacks the label or has size 1 there, summed on diagonals.
struct Axes {
  int n = 0;
  int8_t label[kMaxLabels];
  int64_t size[kMaxLabels];
  int64_t stride[kMaxLabels];
  int64_t count() const {
    int64_t k = 1;
    for (int i = 0; i < n; ++i) k *= size[i];
    return k;
  }
};

void add_axis(Axes* a, int label, int64_t size, const View& v) {
  int64_t stride = 0, step = 1;
  for (int d = v.term.rank - 1; d >= 0; --d) {
    if (v.term.label[d] == label && v.dims[d] != 1) stride += step;
    step *= v.dims[d];
  }
  a->label[a->n] = static_cast<int8_t>(label);
  a->size[a->n] = size;
  a->stride[a->n++] = stride;
}

// to[i over kept] = sum of from over summed.
template <class T>
void gather(const T* from, const Axes& kept, const Axes& summed, T* to) {
  int64_t index[kMaxLabels] = {0}, inner[kMaxLabels] = {0};
  const int64_t count = kept.count(), sums = summed.count();
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    T sum = 0;
    int64_t in = at;
    for (int64_t k = 0; k < sums; ++k) {
      sum += from[in];
      for (int d = summed.n - 1; d >= 0; --d) {
        in += summed.stride[d];
        if (++inner[d] < summed.size[d]) break;
        in -= summed.stride[d] * summed.size[d];
        inner[d] = 0;
      }
    }
    to[i] = sum;
    for (int d = kept.n - 1; d >= 0; --d) {
      at += kept.stride[d];
      if (++index[d] < kept.size[d]) break;
      at -= kept.stride[d] * kept.size[d];
      index[d] = 0;
    }
  }
}

struct Step {
  Axes a, a_sum, b, b_sum;  // a is [batch, m, k], b [batch, n, k]
  int64_t batch, m, n, k;
  View result;
};

// The step that multiplies the product so far (operands before i) with operand i.
void plan_step(const Equation& e, const View& left, const View& right, int i, Step* s) {
  *s = Step{};
  bool needed[kMaxLabels] = {false};
  for (int d = 0; d < e.out.rank; ++d) needed[e.out.label[d]] = true;
  for (int k = i + 1; k < e.n; ++k)
    for (int d = 0; d < e.in[k].rank; ++d) needed[e.in[k].label[d]] = true;
  int8_t batch[kMaxLabels], m[kMaxLabels], n[kMaxLabels], k[kMaxLabels];
  int nb = 0, nm = 0, nn = 0, nk = 0;
  for (int l = 0; l < kMaxLabels; ++l) {
    const bool in_a = left.term.has(l), in_b = right.term.has(l);
    if (in_a && in_b)
      (needed[l] ? batch[nb++] : k[nk++]) = static_cast<int8_t>(l);
    else if (in_a && needed[l])
      m[nm++] = static_cast<int8_t>(l);
    else if (in_b && needed[l])
      n[nn++] = static_cast<int8_t>(l);
    // An index of size 1 here may be larger elsewhere: sum over its size in this view.
    else if (in_a || in_b) {
      const View& v = in_a ? left : right;
      int64_t size = 1;
      for (int d = 0; d < v.term.rank; ++d)
        if (v.term.label[d] == l && v.dims[d] != 1) size = v.dims[d];
      add_axis(in_a ? &s->a_sum : &s->b_sum, l, size, v);
    }
  }
  s->batch = s->m = s->n = s->k = 1;
  auto size_of = [&](int l) {
    int64_t size = 1;
    for (int side = 0; side < 2; ++side) {
      const View* v = side ? &right : &left;
      for (int d = 0; d < v->term.rank; ++d)
        if (v->term.label[d] == l && v->dims[d] != 1) size = v->dims[d];
    }
    return size;
  };
  auto keep = [&](int l, int64_t size) {
    s->result.term.label[s->result.term.rank] = static_cast<int8_t>(l);
    s->result.dims[s->result.term.rank++] = size;
  };
  for (int j = 0; j < nb; ++j) {
    const int64_t size = size_of(batch[j]);
    add_axis(&s->a, batch[j], size, left);
    add_axis(&s->b, batch[j], size, right);
    s->batch *= size;
    keep(batch[j], size);
  }
  for (int j = 0; j < nm; ++j) {
    add_axis(&s->a, m[j], size_of(m[j]), left);
    s->m *= size_of(m[j]);
    keep(m[j], size_of(m[j]));
  }
  for (int j = 0; j < nn; ++j) {
    add_axis(&s->b, n[j], size_of(n[j]), right);
    s->n *= size_of(n[j]);
    keep(n[j], size_of(n[j]));
  }
  for (int j = 0; j < nk; ++j) {
    add_axis(&s->a, k[j], size_of(k[j]), left);
    add_axis(&s->b, k[j], size_of(k[j]), right);
    s->k *= size_of(k[j]);
  }
}

View view_of(const OpContext& c, const Equation& e, int i) {
  View v;
  v.term = e.in[i];
  for (int d = 0; d < v.term.rank; ++d) v.dims[d] = c.in(i)->dims[d];
  return v;
}

struct EinsumState {
  Equation e;
  GemmLayout layout;
  const GemmKernels* gemm;
  size_t operand_at, left_at, a_at, b_at, product_at, packed_at, bias_at;
};

// Labels that a step's result keeps may be more than kMaxRank in a long chain.
Status einsum_prepare(OpContext& c) {
  EinsumState* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(read_equation(c, &s->e));
  const Wide wide = wide_of(c.in(0)->dtype);
  const int words = wide == Wide::f32 ? 1 : 2;
  s->gemm = gemm_kernels();
  int64_t operand = 1, a = 1, b = 1, product = 1, packed = 1, columns = 1;
  auto raise = [](int64_t* to, int64_t n) { *to = n > *to ? n : *to; };
  View left = view_of(c, s->e, 0);
  raise(&operand, c.in(0)->count());
  raise(&product, c.in(0)->count());
  Step step;
  for (int i = 1; i < s->e.n; ++i) {
    const View right = view_of(c, s->e, i);
    int labels = 0;
    for (int l = 0; l < kMaxLabels; ++l) labels += left.term.has(l) || right.term.has(l);
    if (labels > kMaxRank)  // an upper bound of what can be kept
      for (int l = 0, kept = 0; l < kMaxLabels; ++l) {
        bool needed = s->e.out.has(l);
        for (int k = i + 1; k < s->e.n; ++k) needed = needed || s->e.in[k].has(l);
        kept += needed && (left.term.has(l) || right.term.has(l));
        if (kept > kMaxRank)
          return c.fail(Code::unsupported, "an intermediate product has more than %d indices", kMaxRank);
      }
    plan_step(s->e, left, right, i, &step);
    raise(&operand, c.in(i)->count());
    raise(&a, step.a.count());
    raise(&b, step.b.count());
    raise(&product, step.result.term.rank ? step.batch * step.m * step.n : 1);
    const GemmLayout layout = gemm_layout(s->gemm, step.k, step.n);
    raise(&packed, layout.padded() * step.k);
    raise(&columns, layout.padded());
    left = step.result;
  }
  ScratchPlan scratch;
  s->operand_at = scratch.take(operand * words);
  s->left_at = scratch.take(product * words);
  s->a_at = scratch.take(a * words);
  s->b_at = scratch.take(b * words);
  s->product_at = scratch.take((product > c.out(0)->count() ? product : c.out(0)->count()) * words);
  s->packed_at = scratch.take(packed);
  s->bias_at = scratch.take(columns);
  return c.need_scratch(scratch.bytes);
}

template <class T>
void multiply(const OpContext& c, const EinsumState& s, const Step& p, const T* a, const T* b, T* y) {
  (void)s;
  c.parallel(p.batch * p.m, 1 + 50000 / (p.k * p.n + 1), [&](int64_t from, int64_t end, int) {
    for (int64_t r = from; r < end; ++r) {
      const T *row = a + r * p.k, *mat = b + r / p.m * p.n * p.k;
      for (int64_t n = 0; n < p.n; ++n) {
        T sum = 0;
        for (int64_t k = 0; k < p.k; ++k) sum += row[k] * mat[n * p.k + k];
        y[r * p.n + n] = sum;
      }
    }
  });
}

void multiply(const OpContext& c, const EinsumState& s, const Step& p, const float* a, const float* b, float* y) {
  char* scratch = static_cast<char*>(c.scratch());
  float* packed = reinterpret_cast<float*>(scratch + s.packed_at);
  float* bias = reinterpret_cast<float*>(scratch + s.bias_at);
  const GemmLayout layout = gemm_layout(s.gemm, p.k, p.n);
  for (int64_t i = 0; i < layout.padded(); ++i) bias[i] = 0.0f;
  GemmEpilogue epilogue;
  epilogue.bias = bias;
  GemmProblem g = {};
  g.kernels = s.gemm;
  g.layout = &layout;
  g.m = p.m;
  g.taps = 1;
  g.k = p.k;
  g.packed = packed;
  g.ldc = p.n;
  g.epilogue = &epilogue;
  const GemmSplit split = gemm_split(g, c.threads());
  for (int64_t i = 0; i < p.batch; ++i) {
    gemm_pack(s.gemm, layout, packed, b + i * p.n * p.k, 1, p.k, 0, layout.count());
    const GemmMatrix rows(a + i * p.m * p.k, p.k);
    g.rows = &rows;
    g.c = y + i * p.m * p.n;
    c.parallel(split.units, split.grain, [&](int64_t b0, int64_t e0, int) { gemm_run_units(g, split, b0, e0); });
  }
}

template <class T>
void einsum_in(const OpContext& c, const EinsumState& s) {
  Tensor& out = *c.out(0);
  char* scratch = static_cast<char*>(c.scratch());
  auto part = [scratch](size_t at) { return reinterpret_cast<T*>(scratch + at); };
  auto operand = [&](int i, size_t at) -> const T* {
    const Tensor& t = *c.in(i);
    if (dtype_size(t.dtype) == sizeof(T) && wide_of(t.dtype) != Wide::s64) return t.as<T>();
    if (t.dtype == DType::s64) return t.as<T>();
    load_wide(t.dtype, t.data, t.count(), part(at));
    return part(at);
  };
  View left = view_of(c, s.e, 0);
  const T* so_far = operand(0, s.left_at);
  for (int i = 1; i < s.e.n; ++i) {
    Step p;
    plan_step(s.e, left, view_of(c, s.e, i), i, &p);
    gather(so_far, p.a, p.a_sum, part(s.a_at));
    gather(operand(i, s.operand_at), p.b, p.b_sum, part(s.b_at));
    multiply(c, s, p, part(s.a_at), part(s.b_at), part(s.left_at));
    so_far = part(s.left_at);
    left = p.result;
  }
  // What is left: the order of the result, and sums of a single operand.
  Axes kept, summed;
  for (int d = 0; d < s.e.out.rank; ++d) add_axis(&kept, s.e.out.label[d], s.e.size[s.e.out.label[d]], left);
  for (int l = 0; l < kMaxLabels; ++l)
    if (left.term.has(l) && !s.e.out.has(l)) add_axis(&summed, l, s.e.size[l], left);
  T* y = part(s.product_at);
  gather(so_far, kept, summed, y);
  store_wide(out.dtype, y, out.count(), out.data);
}

Status einsum_run(OpContext& c) {
  const EinsumState& s = *c.state<EinsumState>();
  if (c.out(0)->count() == 0) return Code::ok;
  switch (wide_of(c.in(0)->dtype)) {
    case Wide::f32: einsum_in<float>(c, s); break;
    case Wide::f64: einsum_in<double>(c, s); break;
    case Wide::s64: einsum_in<int64_t>(c, s); break;
    case Wide::u64: einsum_in<uint64_t>(c, s); break;
  }
  return Code::ok;
}

// ---- det

Status det_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x has dtype %s; expected a float", dtype_name(x.dtype));
  if (x.rank < 2 || x.dims[x.rank - 1] != x.dims[x.rank - 2])
    return c.fail(Code::shape, "the last two dims must be there and equal; rank is %d", x.rank);
  return c.set_out(0, x.dtype, x.rank - 2, x.dims);
}

struct DetState {
  size_t matrix_at, result_at;
};

Status det_prepare(OpContext& c) {
  const Tensor& x = *c.in(0);
  DetState* s;
  DK_TRY(c.make_state(&s));
  const int64_t n = x.dims[x.rank - 1];
  ScratchPlan scratch;
  s->matrix_at = scratch.take(n * n * 3);  // of doubles, behind as many floats
  s->result_at = scratch.take(c.out(0)->count() * 2);
  return c.need_scratch(scratch.bytes);
}

// Gaussian elimination with the largest pivot of each column, in place.
double determinant(double* a, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(a[i * n + k]) > std::fabs(a[pivot * n + k])) pivot = i;
    const double p = a[pivot * n + k];
    if (p == 0) return 0;
    if (pivot != k) {
      det = -det;
      for (int64_t j = 0; j < n; ++j) {
        const double t = a[k * n + j];
        a[k * n + j] = a[pivot * n + j];
        a[pivot * n + j] = t;
      }
    }
    det *= p;
    for (int64_t i = k + 1; i < n; ++i) {
      const double f = a[i * n + k] / p;
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= f * a[k * n + j];
    }
  }
  return det;
}

Status det_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  const DetState& s = *c.state<DetState>();
  Tensor& y = *c.out(0);
  const int64_t n = x.dims[x.rank - 1], size = n * n, count = y.count();
  double* a = reinterpret_cast<double*>(static_cast<char*>(c.scratch()) + s.matrix_at);
  double* result = reinterpret_cast<double*>(static_cast<char*>(c.scratch()) + s.result_at);
  float* f = reinterpret_cast<float*>(a + size);
  for (int64_t i = 0; i < count; ++i) {
    const char* from = x.as<char>() + static_cast<size_t>(i * size) * dtype_size(x.dtype);
    if (x.dtype == DType::f64) {
      load_wide(x.dtype, from, size, a);
    } else {
      load_wide(x.dtype, from, size, f);
      for (int64_t k = 0; k < size; ++k) a[k] = static_cast<double>(f[k]);
    }
    result[i] = determinant(a, n);
  }
  if (y.dtype == DType::f64) {
    store_wide(y.dtype, result, count, y.data);
  } else {
    float* r = reinterpret_cast<float*>(result);  // in place: each double is read before its place is overwritten
    for (int64_t i = 0; i < count; ++i) {
      const double d = result[i];
      r[i] = static_cast<float>(d);
    }
    store_wide(y.dtype, r, count, y.data);
  }
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::einsum_, einsum_infer, einsum_prepare, einsum_run},
    {Opcode::det_, det_infer, det_prepare, det_run},
};

}  // namespace

const OpList ops_einsum = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
