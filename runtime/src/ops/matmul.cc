// matmul: NumPy's matrix product with transposes, scale, bias, activation and residual.
//
// float32 runs on the GEMM core, narrower floats in float32 copies.  float64 and integers are plain loops.
#include <cstring>

#include "base/convert.h"
#include "base/mem.h"
#include "kernels/gradient/gradient.h"
#include "ops/epilogue.h"

namespace dk {
extern const OpList ops_matmul;

namespace {

constexpr ActivationAttrs kAct = {attr::matmul_::act, attr::matmul_::act_alpha, attr::matmul_::act_beta,
                                  attr::matmul_::act_after};

// Where matrix i of a product is in each operand, in elements.
struct Batches {
  int rank = 0;
  int64_t count = 1;
  int64_t dims[kMaxRank];
  int64_t a[kMaxRank], b[kMaxRank], bias[kMaxRank];  // strides, 0 where broadcast

  int64_t offset(const int64_t* strides, int64_t i) const {
    int64_t at = 0;
    for (int d = rank - 1; d >= 0; --d) {
      at += i % dims[d] * strides[d];
      i /= dims[d];
    }
    return at;
  }
};

struct Product {
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  Batches batch;
  int rank;                // of the product, without what a bias adds
  int64_t dims[kMaxRank];  // of the product
};

Status expected_shape(const OpContext& c, const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b,
                      Product* p) {
  if (a.rank == 0 || b.rank == 0)
    return c.fail(Code::shape, "operands have ranks %d and %d; expected at least 1", a.rank, b.rank);
  p->transpose_a = transpose_a && a.rank >= 2;
  p->transpose_b = transpose_b && b.rank >= 2;
  const int64_t a1 = a.dims[a.rank - 1], a0 = a.rank > 1 ? a.dims[a.rank - 2] : 1;
  const int64_t b1 = b.rank > 1 ? b.dims[b.rank - 1] : 1, b0 = b.rank > 1 ? b.dims[b.rank - 2] : b.dims[0];
  p->m = p->transpose_a ? a1 : a0;
  p->k = p->transpose_a ? a0 : a1;
  p->n = p->transpose_b ? b0 : b1;
  const int64_t bk = p->transpose_b ? b1 : b0;
  if (p->k != bk)
    return c.fail(Code::shape, "inner sizes differ; got %lld and %lld", static_cast<long long>(p->k),
                  static_cast<long long>(bk));
  const int ar = a.rank > 2 ? a.rank - 2 : 0, br = b.rank > 2 ? b.rank - 2 : 0;
  Batches& t = p->batch;
  t = Batches{};
  t.rank = ar > br ? ar : br;
  int64_t as = p->m * p->k, bs = p->k * p->n;
  for (int i = t.rank - 1; i >= 0; --i) {
    const int ai = i - (t.rank - ar), bi = i - (t.rank - br);
    const int64_t ad = ai >= 0 ? a.dims[ai] : 1, bd = bi >= 0 ? b.dims[bi] : 1;
    if (ad != bd && ad != 1 && bd != 1)
      return c.fail(Code::shape, "batch dims do not broadcast; got %lld and %lld", static_cast<long long>(ad),
                    static_cast<long long>(bd));
    t.dims[i] = ad == 1 ? bd : ad;
    t.a[i] = ad == 1 ? 0 : as;
    t.b[i] = bd == 1 ? 0 : bs;
    t.bias[i] = 0;
    as *= ad;
    bs *= bd;
  }
  for (int i = 0; i < t.rank; ++i) t.count *= t.dims[i];
  p->rank = 0;
  for (int i = 0; i < t.rank; ++i) p->dims[p->rank++] = t.dims[i];
  if (a.rank > 1) p->dims[p->rank++] = p->m;
  if (b.rank > 1) p->dims[p->rank++] = p->n;
  return Code::ok;
}

Status product_of(const OpContext& c, Product* p) {
  return expected_shape(c, *c.in(0), *c.in(1), c.attr_int(attr::matmul_::transpose_a) != 0,
                        c.attr_int(attr::matmul_::transpose_b) != 0, p);
}

Status matmul_infer(OpContext& c) {
  const Tensor& a = *c.in(0);
  const bool acts = c.attr_int(attr::matmul_::act) != 0;
  if (a.dtype == DType::b8 || (acts && !is_float(a.dtype)))
    return c.fail(Code::shape, "dtype is %s; expected a %s", dtype_name(a.dtype), acts ? "float" : "number");
  DK_TRY(expect_dtype(c, "b", c.in(1)));
  DK_TRY(expect_dtype(c, "bias", c.in(2)));
  DK_TRY(expect_dtype(c, "residual", c.in(3)));
  Product p;
  DK_TRY(product_of(c, &p));
  if (const Tensor* bias = c.in(2)) {  // may add dims and stretch ones
    if (bias->rank > p.rank) {
      const int more = bias->rank - p.rank;
      for (int i = bias->rank - 1; i >= 0; --i) p.dims[i] = i >= more ? p.dims[i - more] : 1;
      p.rank = bias->rank;
    }
    for (int i = 0; i < bias->rank; ++i) {
      int64_t& d = p.dims[p.rank - bias->rank + i];
      if (d == 1) d = bias->dims[i];
      if (bias->dims[i] != d && bias->dims[i] != 1)
        return c.fail(Code::shape, "bias does not broadcast to the product; got %lld for %lld",
                      static_cast<long long>(bias->dims[i]), static_cast<long long>(d));
    }
  }
  DK_TRY(expect_dims(c, "residual", c.in(3), p.rank, p.dims));
  return c.set_out(0, a.dtype, p.rank, p.dims);
}

// ---- float32

constexpr int64_t kOuterTerms = 128, kOuterRows = 96, kTileRows = 12;  // a multiple of every tile's rows

enum class BiasForm : uint8_t {
  none,
  columns,  // one per column, the same for all rows: accumulators start with it
  matrix,   // broadcasts without changing the product's shape
  stretch,  // changes the shape: added in a last pass
};

struct MatmulState {
  Product p;
  Activation act;
  float alpha;
  BiasForm bias_form;
  int64_t bias_row, bias_col;
  bool convert;        // narrow floats: compute in f32 copies
  bool in_place;       // read B where it is
  bool outer;          // A transposed and nothing but the product: neither side is copied
  int64_t b_matrices;  // different ones; their packed forms follow each other
  const GemmKernels* gemm;
  GemmLayout layout;
  const float* packed;
  const float* columns;  // bias per column, padded; null: copy at run
  // Bytes into scratch.
  size_t a_at, b_at, bias_at, residual_at, y_at, packed_at, columns_at, transposed_at, product_at;
};

// How the bias broadcasts over the product [batch..., m, n].
BiasForm bias_form(const OpContext& c, const Tensor* bias, Product* p, int64_t* row, int64_t* col) {
  *row = *col = 0;
  if (!bias) return BiasForm::none;
  const Tensor& y = *c.out(0);
  if (y.rank != p->rank) return BiasForm::stretch;
  for (int i = 0; i < y.rank; ++i)
    if (y.dims[i] != p->dims[i]) return BiasForm::stretch;
  const bool has_m = c.in(0)->rank > 1, has_n = c.in(1)->rank > 1;
  int64_t stride = 1;
  int at = p->rank - 1;  // dim of the product
  bool batches = false;
  for (int i = bias->rank - 1; i >= 0; --i, --at) {
    const int64_t d = bias->dims[i];
    const int64_t s = d == 1 ? 0 : stride;
    if (has_n && at == p->rank - 1) {
      *col = s;
    } else if (has_m && at == p->rank - 1 - has_n) {
      *row = s;
    } else {
      p->batch.bias[at] = s;
      batches = batches || s;
    }
    stride *= d;
  }
  return !batches && *row == 0 ? BiasForm::columns : BiasForm::matrix;
}

void pack_b(const OpContext& c, const MatmulState& s, const float* b, float* to) {
  const Product& p = s.p;
  const int64_t panels = s.layout.count(), size = s.layout.padded() * s.layout.rows;
  const int64_t row = p.transpose_b ? 1 : p.n, col = p.transpose_b ? p.k : 1;
  c.parallel(s.b_matrices * panels, 1 + 32768 / (p.k * s.layout.main.nr + 1), [&](int64_t from, int64_t end, int) {
    for (int64_t i = from; i < end; ++i) {
      const int64_t matrix = i / panels, panel = i % panels;
      gemm_pack(s.gemm, s.layout, to + matrix * size, b + matrix * p.k * p.n, row, col, panel, panel + 1);
    }
  });
}

void spread_bias(const MatmulState& s, const float* bias, float* to) {
  for (int64_t i = 0; i < s.layout.padded(); ++i) to[i] = bias && i < s.p.n ? bias[i * s.bias_col] : 0.0f;
}

Status prepare_f32(OpContext& c, MatmulState& s) {
  const Tensor &a = *c.in(0), &b = *c.in(1), &y = *c.out(0);
  Product& p = s.p;
  s.bias_form = bias_form(c, c.in(2), &p, &s.bias_row, &s.bias_col);
  s.alpha = c.attr_float(attr::matmul_::alpha);
  const bool rows_alike = s.bias_form == BiasForm::none || s.bias_form == BiasForm::columns;
  // The scale comes before the bias: then accumulators cannot start with it.
  if (s.alpha != 1.0f && s.bias_form == BiasForm::columns) s.bias_form = BiasForm::matrix;
  s.convert = a.dtype != DType::f32;
  s.gemm = gemm_kernels();
  // One B for all batches: they are more rows.
  bool shared = !p.transpose_a && (rows_alike || s.bias_form == BiasForm::stretch);
  for (int i = 0; i < p.batch.rank; ++i) shared = shared && p.batch.b[i] == 0;
  if (shared) {
    bool whole = true;  // every row of a once and in order
    for (int i = 0; i < p.batch.rank; ++i) whole = whole && (p.batch.a[i] != 0 || p.batch.dims[i] == 1);
    if (whole) {
      p.m *= p.batch.count;
      p.batch.rank = 0;
      p.batch.count = 1;
    }
  }
  const bool taken = c.is_const(1) && !s.convert && gemm_fast_takes(1, p.k, p.n);
  const GemmKernels* fast = c.fast() && taken ? gemm_fast_kernels() : nullptr;
  if (fast) s.gemm = fast;
  s.layout = gemm_layout_taps(s.gemm, 1, p.k, p.n);
  const int64_t b_size = p.k * p.n;
  s.b_matrices = b_size > 0 ? b.count() / b_size : 0;
  s.outer = p.transpose_a && !p.transpose_b && p.batch.count == 1 && !s.convert && !c.in(2) && !c.in(3) &&
            s.alpha == 1.0f && c.attr_int(attr::matmul_::act) == 0 && p.m > 1 && p.k > 1 && !c.is_const(1);
  if (s.outer) return c.need_scratch(static_cast<size_t>(c.threads() * kOuterTerms * kOuterRows) * 4);
  s.in_place = !c.is_const(1) && !p.transpose_b && p.m <= 6 * s.layout.main.mr && gemm_in_place(s.layout);

  ScratchPlan scratch;
  if (s.convert) {
    s.a_at = scratch.take(a.count());
    if (!c.is_const(1)) s.b_at = scratch.take(b.count());
    if (c.in(2)) s.bias_at = scratch.take(c.in(2)->count());
    if (c.in(3)) s.residual_at = scratch.take(y.count());
    s.y_at = scratch.take(y.count());
  }
  if (p.transpose_a) s.transposed_at = scratch.take(a.count());
  if (s.bias_form == BiasForm::stretch) s.product_at = scratch.take(p.batch.count * p.m * p.n);
  if (c.is_const(1)) {
    void* to;
    bool fresh;
    const uint32_t tag = (fast ? 0x180u : 0x100u) | static_cast<uint32_t>(s.layout.main.nr);
    DK_TRY(c.packed(tag, s.layout.bytes() * static_cast<size_t>(s.b_matrices), &to, &fresh));
    s.packed = static_cast<float*>(to);
    if (fresh) {
      const float* from;
      float* owned;
      DK_TRY(constant_floats(c, 1, &from, &owned));
      pack_b(c, s, from, static_cast<float*>(to));
      mem_free(owned);
    }
  } else if (!s.in_place) {
    s.packed_at = scratch.take(s.layout.padded() * p.k * s.b_matrices);
  }
  const bool columns = s.bias_form == BiasForm::columns;
  if (!columns || c.is_const(2)) {
    void* to;
    bool fresh;
    const uint32_t tag = (columns ? 0x1100u : 0x1200u) | static_cast<uint32_t>(s.layout.main.nr);
    DK_TRY(c.packed(tag, static_cast<size_t>(s.layout.padded()) * 4, &to, &fresh));
    s.columns = static_cast<float*>(to);
    if (fresh) {
      const float* from = nullptr;
      float* owned = nullptr;
      if (columns) DK_TRY(constant_floats(c, 2, &from, &owned));
      spread_bias(s, from, static_cast<float*>(to));
      mem_free(owned);
    }
  } else {
    s.columns_at = scratch.take(s.layout.padded());
  }
  return c.need_scratch(scratch.bytes);
}

// y[i] = f(product, bias, i) over the dims of y.
template <class T, class F>
void plain_finish(const OpContext& c, const Product& p, const T* product, const T* bias, T* y, F f) {
  const Tensor& out = *c.out(0);
  int64_t ps[kMaxRank], bs[kMaxRank];
  int64_t pn = 1, bn = 1;
  for (int i = out.rank - 1; i >= 0; --i) {
    const int pi = i - (out.rank - p.rank), bi = bias ? i - (out.rank - c.in(2)->rank) : -1;
    const int64_t pd = pi >= 0 ? p.dims[pi] : 1, bd = bi >= 0 ? c.in(2)->dims[bi] : 1;
    ps[i] = pd == 1 ? 0 : pn;
    bs[i] = bd == 1 ? 0 : bn;
    pn *= pd;
    bn *= bd;
  }
  c.parallel(out.count(), 4096, [&](int64_t from, int64_t end, int) {
    for (int64_t i = from; i < end; ++i) {
      int64_t rest = i, pa = 0, ba = 0;
      for (int d = out.rank - 1; d >= 0; --d) {
        const int64_t at = rest % out.dims[d];
        rest /= out.dims[d];
        pa += at * ps[d];
        ba += at * bs[d];
      }
      y[i] = f(product[pa], bias ? bias[ba] : T{0}, i);
    }
  });
}

// The gradient of a weight: rows of y by lanes, as many terms of the sums at a time as stay in the caches.  These of A
// are copied together first: its own rows may lie so far apart that they compete for the same cache lines.
void run_outer(const OpContext& c, const Product& p) {
  const GradientKernels* kernels = gradient_kernels();
  const float *a = c.in(0)->as<float>(), *b = c.in(1)->as<float>();
  float *y = c.out(0)->as<float>(), *scratch = static_cast<float*>(c.scratch());
  // As many blocks for one thread as for the next.
  int64_t blocks = (p.m + kOuterRows - 1) / kOuterRows;
  blocks += (c.threads() - blocks % c.threads()) % c.threads();
  const int64_t most = ((p.m + blocks - 1) / blocks + kTileRows - 1) / kTileRows * kTileRows;
  c.parallel((p.m + most - 1) / most, 1 + 100000 / (p.k * p.n), [&](int64_t from, int64_t end, int lane) {
    float* near = scratch + lane * kOuterTerms * kOuterRows;
    for (; from < end; ++from) {
      const int64_t r = from * most, rows = p.m - r < most ? p.m - r : most;
      memset(y + r * p.n, 0, static_cast<size_t>(rows * p.n) * 4);
      for (int64_t k = 0; k < p.k; k += kOuterTerms) {
        const int64_t n = p.k - k < kOuterTerms ? p.k - k : kOuterTerms;
        for (int64_t i = 0; i < n; ++i) memcpy(near + i * rows, a + (k + i) * p.m + r, static_cast<size_t>(rows) * 4);
        const float *ak = near, *bk = b + k * p.n;
        kernels->outer({1, &ak, &bk, &n, rows, p.n}, rows, p.n, y + r * p.n, p.n);
      }
    }
  });
}

void run_f32(const OpContext& c, const MatmulState& s) {
  const Product& p = s.p;
  if (s.outer) return run_outer(c, p);
  char* scratch = static_cast<char*>(c.scratch());
  auto part = [scratch](size_t at) { return reinterpret_cast<float*>(scratch + at); };
  auto floats = [&](int i, size_t at) -> const float* {
    if (!c.in(i)) return nullptr;
    if (!s.convert) return c.in(i)->as<float>();
    floats_from(c, *c.in(i), part(at));
    return part(at);
  };
  const float* a = floats(0, s.a_at);
  const float* b = s.packed ? nullptr : floats(1, s.b_at);
  const float* bias = floats(2, s.bias_at);
  const float* residual = floats(3, s.residual_at);
  float* out = s.convert ? part(s.y_at) : c.out(0)->as<float>();
  float* y = s.bias_form == BiasForm::stretch ? part(s.product_at) : out;

  if (p.transpose_a && p.m > 1 && p.k > 1) {
    // The packer transposes when its "panel" is a whole row.
    const int64_t matrices = c.in(0)->count() / (p.m * p.k);
    float* to = part(s.transposed_at);
    for (int64_t i = 0; i < matrices; ++i) {
      c.parallel((p.m + 15) / 16, 1 + 2048 / p.k, [&](int64_t from, int64_t end, int) {
        const int64_t r0 = from * 16, r1 = end * 16 < p.m ? end * 16 : p.m;
        s.gemm->pack(to + (i * p.m + r0) * p.k, a + i * p.m * p.k + r0, r1 - r0, static_cast<int>(p.k),
                     static_cast<int>(p.k), 1, p.m);
      });
    }
    a = to;
  }
  const float* packed = s.packed;
  if (!packed && !s.in_place) {
    pack_b(c, s, b, part(s.packed_at));
    packed = part(s.packed_at);
  }
  const float* columns = s.columns;
  if (!columns) {
    spread_bias(s, bias, part(s.columns_at));
    columns = part(s.columns_at);
  }

  GemmEpilogue e;
  e.bias = columns;
  e.ldr = p.n;
  e.residual_first = s.act.after;
  if (s.bias_form != BiasForm::stretch) {
    gemm_set_activation(&e, s.act.kind, s.act.alpha, s.act.beta);
    if (s.bias_form == BiasForm::matrix) {
      e.finish = true;
      e.bias2_row = s.bias_row;
      e.bias2_col = s.bias_col;
    }
  }
  if (s.alpha != 1.0f) {
    e.finish = true;
    e.scale = s.alpha;
  }
  if (e.finish && s.bias_form != BiasForm::stretch) {  // does what the clamp would
    e.act = s.act.kind;
    e.alpha = s.act.alpha;
    e.beta = s.act.beta;
  }
  GemmProblem problem = {};
  problem.kernels = s.gemm;
  problem.layout = &s.layout;
  problem.m = p.m;
  problem.taps = 1;
  problem.k = p.k;
  problem.ldb = p.n;
  problem.ldc = p.n;
  problem.epilogue = &e;
  const int64_t matrix = s.layout.padded() * s.layout.rows;
  const GemmSplit split = gemm_split(problem, c.threads());
  c.parallel(p.batch.count * split.units, split.grain, [&](int64_t from, int64_t end, int) {
    GemmProblem mine = problem;
    GemmEpilogue me = e;
    mine.epilogue = &me;
    while (from < end) {
      const int64_t i = from / split.units, u0 = from - i * split.units;
      const int64_t u1 = split.units < u0 + (end - from) ? split.units : u0 + (end - from);
      const GemmMatrix rows(a + p.batch.offset(p.batch.a, i), p.k);
      mine.rows = &rows;
      const int64_t b_at = p.batch.offset(p.batch.b, i);
      if (s.in_place)
        mine.b = b + b_at;
      else
        mine.packed = packed + (b_at > 0 ? b_at / (p.k * p.n) * matrix : 0);
      mine.c = y + i * p.m * p.n;
      if (s.bias_form == BiasForm::matrix) me.bias2 = bias + p.batch.offset(p.batch.bias, i);
      if (residual && s.bias_form != BiasForm::stretch) me.residual = residual + i * p.m * p.n;
      gemm_run_units(mine, split, u0, u1);
      from += u1 - u0;
    }
  });
  if (s.bias_form == BiasForm::stretch)
    plain_finish(c, p, y, bias, out, [&](float x, float v, int64_t i) {
      const double r = residual ? static_cast<double>(residual[i]) : 0.0;
      return static_cast<float>(finish(s.act, static_cast<double>(x) + static_cast<double>(v), r));
    });
  if (s.convert) floats_to(c, out, *c.out(0));
}

// ---- float64 and integers

// Walks all elements of the output with the offsets of product row, column and bias.
template <class T, class Last>
void plain_product(const OpContext& c, const Product& p, const T* a, const T* b, T* y, Last last) {
  const int64_t am = p.transpose_a ? 1 : p.k, ak = p.transpose_a ? p.m : 1;
  const int64_t bk = p.transpose_b ? 1 : p.n, bn = p.transpose_b ? p.k : 1;
  c.parallel(p.batch.count * p.m, 1 + 50000 / (p.k * p.n + 1), [&](int64_t from, int64_t end, int) {
    for (int64_t r = from; r < end; ++r) {
      const int64_t i = r / p.m, m = r % p.m;
      const T* row = a + p.batch.offset(p.batch.a, i) + m * am;
      const T* mat = b + p.batch.offset(p.batch.b, i);
      T* to = y + r * p.n;
      for (int64_t n = 0; n < p.n; ++n) to[n] = 0;
      for (int64_t k = 0; k < p.k; ++k) {
        const T v = row[k * ak];
        for (int64_t n = 0; n < p.n; ++n) to[n] += v * mat[k * bk + n * bn];
      }
      for (int64_t n = 0; n < p.n; ++n) last(to[n]);
    }
  });
}

Status prepare_plain(OpContext& c, MatmulState& s) {
  const Product& p = s.p;
  ScratchPlan scratch;
  const int words = 2;  // of 4 bytes in a wide number
  s.product_at = scratch.take(p.batch.count * p.m * p.n * words);
  if (c.in(0)->dtype != DType::f64) {
    s.a_at = scratch.take(c.in(0)->count() * words);
    s.b_at = scratch.take(c.in(1)->count() * words);
    if (c.in(2)) s.bias_at = scratch.take(c.in(2)->count() * words);
    if (c.in(3)) s.residual_at = scratch.take(c.in(3)->count() * words);
    s.y_at = scratch.take(c.out(0)->count() * words);
  }
  return c.need_scratch(scratch.bytes);
}

void run_f64(const OpContext& c, const MatmulState& s) {
  double* product = reinterpret_cast<double*>(static_cast<char*>(c.scratch()) + s.product_at);
  const double alpha = c.attr_double(attr::matmul_::alpha);
  plain_product(c, s.p, c.in(0)->as<double>(), c.in(1)->as<double>(), product, [alpha](double& v) { v *= alpha; });
  const double* residual = c.in(3) ? c.in(3)->as<double>() : nullptr;
  plain_finish(c, s.p, product, c.in(2) ? c.in(2)->as<double>() : nullptr, c.out(0)->as<double>(),
               [&](double x, double bias, int64_t i) { return finish(s.act, x + bias, residual ? residual[i] : 0.0); });
}

// Integers wrap: all sums are taken modulo 2^64, and keep the low bits of the dtype.
void run_integer(const OpContext& c, const MatmulState& s) {
  char* scratch = static_cast<char*>(c.scratch());
  auto part = [scratch](size_t at) { return reinterpret_cast<uint64_t*>(scratch + at); };
  const bool is_u64 = c.in(0)->dtype == DType::u64;
  auto wide = [&](int i, size_t at) -> const uint64_t* {
    const Tensor* t = c.in(i);
    if (!t) return nullptr;
    if (is_u64) return t->as<uint64_t>();
    load_wide(t->dtype, t->data, t->count(), reinterpret_cast<int64_t*>(part(at)));
    return part(at);
  };
  const uint64_t *a = wide(0, s.a_at), *b = wide(1, s.b_at), *bias = wide(2, s.bias_at);
  const uint64_t* residual = wide(3, s.residual_at);
  const uint64_t alpha = static_cast<uint64_t>(static_cast<int64_t>(c.attr_double(attr::matmul_::alpha)));
  uint64_t* product = part(s.product_at);
  plain_product(c, s.p, a, b, product, [alpha](uint64_t& v) { v *= alpha; });
  Tensor& out = *c.out(0);
  uint64_t* y = is_u64 ? out.as<uint64_t>() : part(s.y_at);
  plain_finish(c, s.p, product, bias, y,
               [&](uint64_t x, uint64_t v, int64_t i) { return x + v + (residual ? residual[i] : 0); });
  if (!is_u64) store_wide(out.dtype, reinterpret_cast<int64_t*>(y), out.count(), out.data);
}

Status matmul_prepare(OpContext& c) {
  MatmulState* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(product_of(c, &s->p));
  s->act = activation_of(c, kAct);
  if (c.out(0)->count() == 0) return Code::ok;
  const DType t = c.in(0)->dtype;
  return t == DType::f64 || !is_float(t) ? prepare_plain(c, *s) : prepare_f32(c, *s);
}

Status matmul_run(OpContext& c) {
  const MatmulState& s = *c.state<MatmulState>();
  const DType t = c.in(0)->dtype;
  if (c.out(0)->count() == 0) return Code::ok;
  if (t == DType::f64)
    run_f64(c, s);
  else if (!is_float(t))
    run_integer(c, s);
  else
    run_f32(c, s);
  return Code::ok;
}

// ---- matmul_integer

Status integer_infer(OpContext& c) {
  for (int i = 0; i < 2; ++i) {
    const DType t = c.in(i)->dtype;
    if (t != DType::s8 && t != DType::u8)
      return c.fail(Code::shape, "%s has dtype %s; expected int8 or uint8", i ? "b" : "a", dtype_name(t));
    const Tensor* z = c.in(2 + i);
    if (z && z->dtype != t)
      return c.fail(Code::shape, "%s and its zero point differ in dtype; got %s and %s", i ? "b" : "a", dtype_name(t),
                    dtype_name(z->dtype));
  }
  Product p;
  const Tensor &a = *c.in(0), &b = *c.in(1);
  DK_TRY(expected_shape(c, a, b, false, false, &p));
  for (int i = 0; i < 2; ++i) {
    const Tensor* z = c.in(2 + i);
    if (!z || z->count() == 1) continue;
    const Tensor& t = i ? b : a;
    const int64_t size = i ? p.n : p.m;
    // [size], or the operand's rank with 1 in the summed dim and the operand's sizes or 1 in the others
    bool good = z->rank == 1 && z->dims[0] == size;
    if (!good && z->rank == t.rank && t.rank > 1) {
      good = true;
      for (int d = 0; d < t.rank; ++d) {
        const bool summed = d == t.rank - (i ? 2 : 1);
        good = good && (z->dims[d] == 1 || (!summed && z->dims[d] == t.dims[d]));
      }
    }
    if (!good)
      return c.fail(Code::shape, "the zero point of %s is neither a scalar, nor %lld numbers, nor of its rank",
                    i ? "b" : "a", static_cast<long long>(size));
  }
  return c.set_out(0, DType::s32, p.rank, p.dims);
}

// x - zero_point for a whole operand, as int32.  `kept` is its dim that is not summed, counted from the end.
void shift(const Tensor& x, const Tensor* zero, int kept, int32_t* to) {
  auto get = [](const Tensor& t, int64_t i) -> int32_t {
    return t.dtype == DType::s8 ? t.as<int8_t>()[i] : t.as<uint8_t>()[i];
  };
  int64_t strides[kMaxRank] = {0};
  if (zero && zero->count() > 1) {
    if (zero->rank == 1) {
      strides[x.rank > 1 ? x.rank - kept : 0] = 1;
      if (x.rank == 1) strides[0] = 0;
    } else {
      int64_t n = 1;
      for (int d = x.rank - 1; d >= 0; --d) {
        strides[d] = zero->dims[d] == 1 ? 0 : n;
        n *= zero->dims[d];
      }
    }
  }
  const int64_t count = x.count();
  int64_t index[kMaxRank] = {0}, at = 0;
  for (int64_t i = 0; i < count; ++i) {
    to[i] = get(x, i) - (zero ? get(*zero, at) : 0);
    for (int d = x.rank - 1; d >= 0; --d) {
      at += strides[d];
      if (++index[d] < x.dims[d]) break;
      at -= strides[d] * x.dims[d];
      index[d] = 0;
    }
  }
}

struct IntegerState {
  Product p;
  size_t a_at, b_at;
};

Status integer_prepare(OpContext& c) {
  IntegerState* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(expected_shape(c, *c.in(0), *c.in(1), false, false, &s->p));
  ScratchPlan scratch;
  s->a_at = scratch.take(c.in(0)->count());
  s->b_at = scratch.take(c.in(1)->count());
  return c.need_scratch(scratch.bytes);
}

Status integer_run(OpContext& c) {
  const IntegerState& s = *c.state<IntegerState>();
  if (c.out(0)->count() == 0) return Code::ok;
  char* scratch = static_cast<char*>(c.scratch());
  int32_t* a = reinterpret_cast<int32_t*>(scratch + s.a_at);
  int32_t* b = reinterpret_cast<int32_t*>(scratch + s.b_at);
  shift(*c.in(0), c.in(2), 2, a);
  shift(*c.in(1), c.in(3), 1, b);
  // Products of 9-bit numbers; sums wrap, hence unsigned.
  plain_product(c, s.p, reinterpret_cast<const uint32_t*>(a), reinterpret_cast<const uint32_t*>(b),
                c.out(0)->as<uint32_t>(), [](uint32_t&) {});
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::matmul_, matmul_infer, matmul_prepare, matmul_run},
    {Opcode::matmul_integer_, integer_infer, integer_prepare, integer_run},
};

}  // namespace

const OpList ops_matmul = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
