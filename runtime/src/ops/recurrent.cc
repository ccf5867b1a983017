// lstm, gru, rnn over time.
//
// The input's share of all gates at all steps is one matrix product; a step then is one product of the state with the
// recurrent weights, its epilogue adding the share, and elementwise work (fused kernels for the default activations,
// pass by pass otherwise).  Both directions run side by side; a single direction splits the products of a step among
// threads when they are large.  Constant weights are packed once.  float64 uses plain loops, narrower floats float32.
#include <cmath>

#include "kernels/gemm/gemm.h"
#include "kernels/recurrent/recurrent.h"
#include "ops/index_util.h"

namespace dk {
extern const OpList ops_recurrent;

namespace {

// The three ops share their first attrs.
namespace R = attr::lstm_;
static_assert(R::direction == attr::gru_::direction && R::direction == attr::rnn_::direction);
static_assert(R::activations == attr::gru_::activations && R::activations == attr::rnn_::activations);
static_assert(R::activation_beta == attr::gru_::activation_beta && R::activation_beta == attr::rnn_::activation_beta);
static_assert(R::clip == attr::gru_::clip && R::clip == attr::rnn_::clip);
static_assert(R::batch_first == attr::gru_::batch_first && R::batch_first == attr::rnn_::batch_first);

// ---- activations of gates
enum class Act : uint8_t {
  affine,
  elu,
  hardsigmoid,
  leakyrelu,
  relu,
  scaledtanh,
  sigmoid,
  softplus,
  softsign,
  tanh,
  thresholdedrelu
};

struct ActInfo {
  const char* name;
  bool has_alpha, has_beta;
  double alpha, beta;
};
constexpr ActInfo kActs[] = {
    {"affine", true, true, 1, 0},           {"elu", true, false, 1, 0},
    {"hardsigmoid", true, true, 0.2, 0.5},  {"leakyrelu", true, false, 0.01, 0},
    {"relu", false, false, 0, 0},           {"scaledtanh", true, true, 1, 1},
    {"sigmoid", false, false, 0, 0},        {"softplus", false, false, 0, 0},
    {"softsign", false, false, 0, 0},       {"tanh", false, false, 0, 0},
    {"thresholdedrelu", true, false, 1, 0},
};

struct Function {
  Act act;
  double alpha, beta;
};

template <class W>
W apply_one(W x, const Function& f) {
  const W a = static_cast<W>(f.alpha), b = static_cast<W>(f.beta);
  switch (f.act) {
    case Act::affine: return x * a + b;
    case Act::elu: return x > 0 ? x : a * std::expm1(x);
    case Act::hardsigmoid: x = a * x + b; return x > 0 ? x < 1 ? x : 1 : x == x ? 0 : x;
    case Act::leakyrelu: return x < 0 ? a * x : x;
    case Act::relu: return x < 0 ? 0 : x;
    case Act::scaledtanh: return std::tanh(x * b) * a;
    case Act::sigmoid: return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
    case Act::softplus: return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x)));
    case Act::softsign: return x / (1 + std::fabs(x));
    case Act::tanh: return std::tanh(x);
    case Act::thresholdedrelu: return x > a ? x : x == x ? 0 : x;
  }
  return x;
}

template <class W>
void apply(W* x, int64_t n, const Function& f) {
  if constexpr (sizeof(W) == 4) {
    if (f.act == Act::sigmoid) return recurrent_kernels()->sigmoid(x, n);
    if (f.act == Act::tanh) return recurrent_kernels()->tanh(x, n);
  }
  for (int64_t i = 0; i < n; ++i) x[i] = apply_one(x[i], f);
}

struct Config {
  int gates;  // 4 lstm, 3 gru, 1 rnn
  int dirs;
  bool reverse, batch_first;
  bool option;  // lstm: input_forget; gru: linear_before_reset
  double clip;
  Function f[2][3];
  bool standard;  // the default activations, and nothing between them

  int functions() const { return gates == 4 ? 3 : gates == 3 ? 2 : 1; }
};

Status parse_functions(const OpContext& c, Config* k) {
  static constexpr Act defaults[3] = {Act::sigmoid, Act::tanh, Act::tanh};
  const int n = k->functions();
  Span<const char> text = c.attr_str(R::activations);
  Span<const double> alphas = c.attr_floats(R::activation_alpha), betas = c.attr_floats(R::activation_beta);
  int64_t next_alpha = 0, next_beta = 0, at = 0;
  for (int i = 0; i < n * k->dirs; ++i) {
    Act act = k->gates == 1 ? Act::tanh : defaults[i % n];
    if (!text.empty()) {
      if (at > text.len) return c.fail(Code::shape, "activations has fewer than %d names", n * k->dirs);
      int64_t end = at;
      while (end < text.len && text[end] != ',') ++end;
      int64_t b = at, e = end;
      while (b < e && text[b] == ' ') ++b;
      while (e > b && text[e - 1] == ' ') --e;
      int found = -1;
      for (int a = 0; a < static_cast<int>(sizeof(kActs) / sizeof(kActs[0])); ++a) {
        int64_t m = 0;
        const char* name = kActs[a].name;
        while (m < e - b && name[m] && (text[b + m] | 0x20) == name[m]) ++m;
        if (m == e - b && !name[m]) found = a;
      }
      if (found < 0)
        return c.fail(Code::unsupported, "activation '%.*s' is not known", static_cast<int>(e - b < 40 ? e - b : 40),
                      text.ptr + b);
      act = static_cast<Act>(found);
      at = end + 1;
    }
    const ActInfo& info = kActs[static_cast<int>(act)];
    Function& f = k->f[i / n][i % n];
    f = {act, info.alpha, info.beta};
    if (info.has_alpha && next_alpha < alphas.len) f.alpha = alphas[next_alpha++];
    if (info.has_beta && next_beta < betas.len) f.beta = betas[next_beta++];
    k->standard &= act == (k->gates == 1 ? Act::tanh : defaults[i % n]);
  }
  if (!text.empty() && at <= text.len) return c.fail(Code::shape, "activations has more than %d names", n * k->dirs);
  return Code::ok;
}

Status read_config(const OpContext& c, int gates, Config* k) {
  *k = Config{};
  k->gates = gates;
  const int64_t direction = c.attr_int(R::direction);
  k->dirs = direction == choice::lstm_::direction::bidirectional_ ? 2 : 1;
  k->reverse = direction == choice::lstm_::direction::reverse_;
  k->batch_first = c.attr_int(R::batch_first) != 0;
  k->clip = c.attr_double(R::clip);
  if (gates == 4) k->option = c.attr_int(attr::lstm_::input_forget) != 0;
  if (gates == 3) k->option = c.attr_int(attr::gru_::linear_before_reset) != 0;
  k->standard = k->clip == 0 && !(gates == 4 && (k->option || c.in(7)));
  return parse_functions(c, k);
}

// ---- shapes
struct Sizes {
  int64_t t, b, i, h;
};

Status want_dims(const OpContext& c, int input, const char* what, int rank, const int64_t* dims) {
  const Tensor* t = c.in(input);
  if (!t) return Code::ok;
  if (t->rank != rank) return c.fail(Code::shape, "%s has rank %d, expected %d", what, t->rank, rank);
  for (int k = 0; k < rank; ++k)
    if (t->dims[k] != dims[k])
      return c.fail(Code::shape, "dim %d of %s is %lld, expected %lld", k, what, static_cast<long long>(t->dims[k]),
                    static_cast<long long>(dims[k]));
  return Code::ok;
}

Status recurrent_infer(OpContext& c, int gates) {
  const Tensor &x = *c.in(0), &r = *c.in(2);
  Config k;
  DK_TRY(read_config(c, gates, &k));
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x must be floats; got %s", dtype_name(x.dtype));
  static const int floats[] = {1, 2, 3, 5, 6, 7};
  for (int i : floats)
    if (c.in(i)) DK_TRY(same_dtype(c, 0, i));
  if (x.rank != 3 || r.rank != 3) return c.fail(Code::shape, "x and r must have rank 3; got %d and %d", x.rank, r.rank);
  const int64_t t = x.dims[k.batch_first ? 1 : 0], b = x.dims[k.batch_first ? 0 : 1], h = r.dims[2], d = k.dirs;
  int64_t rows;
  if (__builtin_mul_overflow(h, int64_t{2} * gates, &rows)) return c.fail(Code::shape, "hidden size is too large");
  rows /= 2;
  const int64_t w_dims[3] = {d, rows, x.dims[2]}, r_dims[3] = {d, rows, h}, b_dims[2] = {d, 2 * rows};
  const int64_t state[3] = {k.batch_first ? b : d, k.batch_first ? d : b, h}, peep[2] = {d, 3 * h};
  DK_TRY(want_dims(c, 1, "w", 3, w_dims));
  DK_TRY(want_dims(c, 2, "r", 3, r_dims));
  DK_TRY(want_dims(c, 3, "b", 2, b_dims));
  DK_TRY(want_dims(c, 4, "lengths", 1, &b));
  DK_TRY(want_dims(c, 5, "h0", 3, state));
  if (c.in(4)) DK_TRY(index_input(c, 4));
  if (gates == 4) {
    DK_TRY(want_dims(c, 6, "c0", 3, state));
    DK_TRY(want_dims(c, 7, "peephole", 2, peep));
  }
  const int64_t y[4] = {k.batch_first ? b : t, k.batch_first ? t : d, k.batch_first ? d : b, h};
  if (c.out(0)) DK_TRY(c.set_out(0, x.dtype, 4, y));
  if (c.out(1)) DK_TRY(c.set_out(1, x.dtype, 3, state));
  return gates == 4 && c.out(2) ? c.set_out(2, x.dtype, 3, state) : Status();
}

// ---- plan
size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

// A weight matrix as the right side of products: [k, n] from rows of k numbers.
template <class W>
struct Matrix;
template <>
struct Matrix<float> {
  const float* packed;
  GemmLayout layout;
};
template <>
struct Matrix<double> {
  const double* rows;
  int64_t n, k;
};

constexpr int kInputs = 8;

struct Plan {
  Config config;
  Sizes size;
  const GemmKernels* gemm;
  bool wide;          // float64
  bool prepacked[3];  // w, r, r of the new gate (gru): packed when the model was loaded
  const float* packs[3][2];
  GemmLayout layouts[3];   // of one direction
  bool split_steps;        // share the products of a step among threads
  size_t copies[kInputs];  // of inputs in float32
  size_t pack_room[3];
  size_t bias, late, share, dirs, dir_bytes;    // late: recurrent bias of gru's new gate
  size_t gates, past, reset, state_h, state_c;  // within a direction
  int64_t bias_len, late_len;
};

// Rows of r that gru multiplies apart: its last gate.
struct Part {
  int input;
  int64_t first, rows, k;
};
int parts_of(const Plan& p, Part* parts) {
  const int64_t h = p.size.h, g = p.config.gates;
  parts[0] = {1, 0, g * h, p.size.i};
  if (g != 3) {
    parts[1] = {2, 0, g * h, h};
    return 2;
  }
  parts[1] = {2, 0, 2 * h, h};
  parts[2] = {2, 2 * h, h, h};
  return 3;
}

Status recurrent_prepare(OpContext& c, int gates) {
  Plan* p;
  DK_TRY(c.make_state(&p));
  DK_TRY(read_config(c, gates, &p->config));
  const Config& k = p->config;
  const Tensor& x = *c.in(0);
  p->size = {x.dims[k.batch_first ? 1 : 0], x.dims[k.batch_first ? 0 : 1], x.dims[2], c.in(2)->dims[2]};
  const Sizes& s = p->size;
  p->gemm = gemm_kernels();
  p->wide = x.dtype == DType::f64;
  const bool narrow = !p->wide && x.dtype != DType::f32;
  const size_t size = p->wide ? 8 : 4;
  size_t at = 0;
  auto take = [&](int64_t count) {
    const size_t here = at;
    at += align64(static_cast<size_t>(count) * size);
    return here;
  };
  Part parts[3];
  const int n_parts = parts_of(*p, parts);
  bool need_copy[kInputs] = {true, false, false, true, false, true, true, true};
  for (int i = 0; i < n_parts; ++i) {
    const Part& part = parts[i];
    p->layouts[i] = gemm_layout(p->gemm, part.k, part.rows);
    if (p->wide) continue;
    p->prepacked[i] = c.is_const(part.input);
    if (!p->prepacked[i]) {
      need_copy[part.input] = true;
      p->pack_room[i] = take(static_cast<int64_t>(align64(p->layouts[i].bytes()) / 4) * k.dirs);
      continue;
    }
    const Tensor& w = *c.in(part.input);
    for (int d = 0; d < k.dirs; ++d) {
      void* pack;
      bool fresh;
      DK_TRY(c.packed(static_cast<uint32_t>(0x10 * (i + 1) + d), p->layouts[i].bytes(), &pack, &fresh));
      p->packs[i][d] = static_cast<const float*>(pack);
      if (!fresh) continue;
      const int64_t first = (d * w.dims[1] + part.first) * part.k, count = part.rows * part.k;
      const char* from = w.as<char>() + static_cast<size_t>(first) * dtype_size(w.dtype);
      TempMemory temp;
      if (narrow) {
        DK_TRY(temp.get(c, static_cast<size_t>(count) * 4));
        convert(w.dtype, from, DType::f32, temp.p, count);
        from = temp.as<char>();
      }
      gemm_pack(p->gemm, p->layouts[i], static_cast<float*>(pack), reinterpret_cast<const float*>(from), 1, part.k, 0,
                p->layouts[i].count());
    }
  }
  for (int i = 0; narrow && i < kInputs; ++i)
    if (need_copy[i] && i != 4 && c.in(i)) p->copies[i] = take(c.in(i)->count());
  p->bias_len = p->layouts[0].padded();
  p->late_len = gates == 3 ? p->layouts[2].padded() : 0;
  p->bias = take(k.dirs * p->bias_len);
  // A row of zeros for products without a bias lies behind the late biases.
  p->late = take((k.dirs + 1) * (p->late_len > p->bias_len ? p->late_len : p->bias_len));
  p->share = take(s.t * s.b * gates * s.h * k.dirs);
  p->dirs = at;
  at = 0;
  p->gates = take(s.b * gates * s.h);
  p->past = take(gates == 3 ? s.b * s.h : 0);
  p->reset = take(gates == 3 ? s.b * s.h : 0);
  p->state_h = take(s.b * s.h);
  p->state_c = take(s.b * s.h);
  p->dir_bytes = at;
  c.note(k.standard ? "fused cell" : "cell by gates", 2 * static_cast<uint64_t>(k.dirs * s.t * s.b) *
                                                          static_cast<uint64_t>(gates * s.h) *
                                                          static_cast<uint64_t>(s.i + s.h));
  p->split_steps = k.dirs == 1 && c.threads() > 1 && s.b * gates * s.h * s.h >= 200000;
  return c.need_scratch(p->dirs + p->dir_bytes * static_cast<size_t>(k.dirs));
}

// ---- products: out[m, n] = a[m, k] w' + bias + residual

struct Threads {
  const OpContext* c;  // null: this thread only
};

void product(const Plan& p, Threads threads, const Matrix<float>& w, const float* a, int64_t lda, int64_t m, float* out,
             int64_t ldo, const float* bias, const float* residual, int64_t ldr) {
  const GemmMatrix rows(a, lda);
  GemmEpilogue e;
  e.bias = bias;
  e.residual = residual;
  e.ldr = ldr;
  GemmProblem g{};
  g.kernels = p.gemm;
  g.layout = &w.layout;
  g.m = m, g.taps = 1, g.k = w.layout.rows;
  g.rows = &rows;
  g.packed = w.packed;
  g.c = out, g.ldc = ldo;
  g.epilogue = &e;
  if (m == 0) return;
  if (!threads.c) return gemm_run(g, 0, m, 0, w.layout.count());
  const GemmSplit split = gemm_split(g, threads.c->threads());
  threads.c->parallel(split.units, split.grain, [&](int64_t b, int64_t e, int) { gemm_run_units(g, split, b, e); });
}

void product(const Plan&, Threads, const Matrix<double>& w, const double* a, int64_t lda, int64_t m, double* out,
             int64_t ldo, const double* bias, const double* residual, int64_t ldr) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < w.n; ++j) {
      double v = bias[j] + (residual ? residual[i * ldr + j] : 0);
      for (int64_t q = 0; q < w.k; ++q) v += a[i * lda + q] * w.rows[j * w.k + q];
      out[i * ldo + j] = v;
    }
}

// ---- run

template <class W>
struct Run {
  const OpContext& c;
  const Plan& p;
  const W* in[kInputs] = {};
  Matrix<W> weights[3][2] = {};
  const W* bias = nullptr;
  const W* late = nullptr;
  const W* zeros = nullptr;
  W* share = nullptr;

  int64_t length(int64_t b) const { return c.in(4) ? index_at(*c.in(4), b) : p.size.t; }
};

// A row of H numbers to an output that may be absent or of a narrower dtype.
template <class W>
void put_row(Tensor* t, int64_t row, const W* from, int64_t h) {
  if (!t) return;
  char* to = t->as<char>() + static_cast<size_t>(row * h) * dtype_size(t->dtype);
  const DType own = sizeof(W) == 4 ? DType::f32 : DType::f64;
  if (t->dtype == own)
    memcpy(to, from, static_cast<size_t>(h) * sizeof(W));
  else
    convert(own, from, t->dtype, to, h);
}

template <class W>
void clip(W* x, int64_t n, double bound) {
  if (bound == 0) return;
  const W high = static_cast<W>(bound), low = -high;
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}

// The elementwise part of an LSTM step for one sequence, gate by gate.
template <class W>
void lstm_cell(const Plan& p, int d, const W* peep, W* gates, W* cell, W* h) {
  const Config& k = p.config;
  const int64_t n = p.size.h;
  if constexpr (sizeof(W) == 4) {
    if (k.standard) return recurrent_kernels()->lstm(gates, cell, h, n);
  }
  const Function* f = k.f[d];
  W *i = gates, *o = gates + n, *forget = gates + 2 * n, *g = gates + 3 * n;
  for (int64_t j = 0; peep && j < n; ++j) {
    i[j] += cell[j] * peep[j];
    forget[j] += cell[j] * peep[2 * n + j];
  }
  clip(i, n, k.clip);
  apply(i, n, f[0]);
  if (k.option) {
    for (int64_t j = 0; j < n; ++j) forget[j] = 1 - i[j];
  } else {
    clip(forget, n, k.clip);
    apply(forget, n, f[0]);
  }
  clip(g, n, k.clip);
  apply(g, n, f[1]);
  for (int64_t j = 0; j < n; ++j) cell[j] = forget[j] * cell[j] + i[j] * g[j];
  for (int64_t j = 0; peep && j < n; ++j) o[j] += cell[j] * peep[n + j];
  clip(o, n, k.clip);
  apply(o, n, f[0]);
  for (int64_t j = 0; j < n; ++j) h[j] = cell[j];
  apply(h, n, f[2]);
  for (int64_t j = 0; j < n; ++j) h[j] *= o[j];
}

template <class W>
void gru_cell(const Plan& p, int d, const W* z, const W* r, const W* x, W* past, W* h) {
  const Config& k = p.config;
  const int64_t n = p.size.h;
  if constexpr (sizeof(W) == 4) {
    if (k.standard) return recurrent_kernels()->gru(z, r, x, past, h, n);
  }
  for (int64_t j = 0; j < n; ++j) past[j] = x[j] + (r ? r[j] * past[j] : past[j]);
  clip(past, n, k.clip);
  apply(past, n, k.f[d][1]);
  for (int64_t j = 0; j < n; ++j) h[j] = (1 - z[j]) * past[j] + z[j] * h[j];
}

// All steps of direction d.
template <class W>
void run_direction(const Run<W>& run, int d, Threads threads) {
  const Plan& p = run.p;
  const Config& k = p.config;
  const Sizes& s = p.size;
  const OpContext& c = run.c;
  const int64_t n = s.h, width = k.gates * n, dirs = k.dirs;
  char* mine = static_cast<char*>(c.scratch()) + p.dirs + static_cast<size_t>(d) * p.dir_bytes;
  W* gates = reinterpret_cast<W*>(mine + p.gates);
  W* past = reinterpret_cast<W*>(mine + p.past);
  W* reset = reinterpret_cast<W*>(mine + p.reset);
  W* h = reinterpret_cast<W*>(mine + p.state_h);
  W* cell = reinterpret_cast<W*>(mine + p.state_c);
  auto state_row = [&](int64_t b) { return k.batch_first ? b * dirs + d : d * s.b + b; };
  for (int64_t b = 0; b < s.b; ++b)
    for (int q = 0; q < (k.gates == 4 ? 2 : 1); ++q) {
      W* to = (q ? cell : h) + b * n;
      if (const W* from = run.in[5 + q])
        memcpy(to, from + state_row(b) * n, static_cast<size_t>(n) * sizeof(W));
      else
        memset(to, 0, static_cast<size_t>(n) * sizeof(W));
    }
  const bool backward = k.reverse || d == 1;
  const W* share = run.share + d * s.t * s.b * width;
  const int64_t step = k.batch_first ? width : s.b * width, sequence = k.batch_first ? s.t * width : width;
  const W* peep = run.in[7] ? run.in[7] + d * 3 * n : nullptr;
  for (int64_t t = 0; t < s.t; ++t) {
    // The input's share at this step; with lengths every sequence is at its own place in time.
    const W* now = share + (backward ? s.t - 1 - t : t) * step;
    int64_t ld = sequence;
    if (c.in(4)) {
      for (int64_t b = 0; b < s.b; ++b) {
        const int64_t len = run.length(b), at = !backward || t >= len ? t : len - 1 - t;
        memcpy(gates + b * width, share + at * step + b * sequence, static_cast<size_t>(width) * sizeof(W));
      }
      now = gates;
      ld = width;
    }
    if (k.gates == 3) {
      product(p, threads, run.weights[1][d], h, n, s.b, gates, width, run.zeros, now, ld);
      for (int64_t b = 0; b < s.b; ++b) {
        W* zr = gates + b * width;
        if (now != gates) memcpy(zr + 2 * n, now + b * ld + 2 * n, static_cast<size_t>(n) * sizeof(W));
        clip(zr, 2 * n, k.clip);
        apply(zr, 2 * n, k.f[d][0]);
        for (int64_t j = 0; !k.option && j < n; ++j) reset[b * n + j] = zr[n + j] * h[b * n + j];
      }
      product(p, threads, run.weights[2][d], k.option ? h : reset, n, s.b, past, n, run.late + d * p.late_len,
              static_cast<const W*>(nullptr), 0);
    } else {
      product(p, threads, run.weights[1][d], h, n, s.b, gates, width, run.zeros, now, ld);
    }
    for (int64_t b = 0; b < s.b; ++b) {
      const int64_t len = run.length(b);
      const bool alive = t < len;
      const int64_t at = !alive ? t : backward ? len - 1 - t : t;
      W *g = gates + b * width, *hb = h + b * n;
      if (alive) {
        if (k.gates == 4) {
          lstm_cell(p, d, peep, g, cell + b * n, hb);
        } else if (k.gates == 3) {
          gru_cell<W>(p, d, g, k.option ? g + n : nullptr, g + 2 * n, past + b * n, hb);
        } else {
          clip(g, n, k.clip);
          apply(g, n, k.f[d][0]);
          memcpy(hb, g, static_cast<size_t>(n) * sizeof(W));
        }
      } else {
        memset(g, 0, static_cast<size_t>(n) * sizeof(W));
      }
      const int64_t row = k.batch_first ? (b * s.t + at) * dirs + d : (at * dirs + d) * s.b + b;
      put_row(c.out(0), row, alive ? hb : g, n);
    }
  }
  for (int64_t b = 0; b < s.b; ++b) {
    put_row(c.out(1), state_row(b), h + b * n, n);
    if (k.gates == 4) put_row(c.out(2), state_row(b), cell + b * n, n);
  }
}

Matrix<float> matrix_of(const Plan& p, const OpContext& c, const Part& part, int i, int d, const float* from) {
  Matrix<float> m{nullptr, p.layouts[i]};
  if (p.prepacked[i]) {
    m.packed = p.packs[i][d];
  } else {
    float* pack = reinterpret_cast<float*>(static_cast<char*>(c.scratch()) + p.pack_room[i] +
                                           static_cast<size_t>(d) * align64(p.layouts[i].bytes()));
    c.parallel(m.layout.count(), 1,
               [&](int64_t b, int64_t e, int) { gemm_pack(p.gemm, p.layouts[i], pack, from, 1, part.k, b, e); });
    m.packed = pack;
  }
  return m;
}
Matrix<double> matrix_of(const Plan&, const OpContext&, const Part& part, int, int, const double* from) {
  return {from, part.rows, part.k};
}

template <class W>
Status run_all(OpContext& c, const Plan& p) {
  const Config& k = p.config;
  const Sizes& s = p.size;
  const DType own = sizeof(W) == 4 ? DType::f32 : DType::f64;
  char* scratch = static_cast<char*>(c.scratch());
  Run<W> run{c, p};
  Part parts[3];
  const int n_parts = parts_of(p, parts);
  bool packed_only[kInputs] = {};
  for (int i = 0; i < n_parts; ++i) packed_only[parts[i].input] = p.prepacked[i];
  for (int i = 0; i < kInputs; ++i) {
    if (!c.in(i) || i == 4 || (i > 5 && k.gates != 4) || packed_only[i]) continue;
    run.in[i] = c.in(i)->as<W>();
    if (c.in(i)->dtype == own) continue;
    W* copy = reinterpret_cast<W*>(scratch + p.copies[i]);
    convert(c.in(i)->dtype, c.in(i)->data, own, copy, c.in(i)->count());
    run.in[i] = copy;
  }
  for (int i = 0; i < n_parts; ++i)
    for (int d = 0; d < k.dirs; ++d) {
      const Part& part = parts[i];
      const W* from = run.in[part.input];
      if (from) from += (d * k.gates * s.h + part.first) * part.k;
      run.weights[i][d] = matrix_of(p, c, part, i, d, from);
    }
  // Biases: the input's, and the recurrent ones wherever they add to the same sum.
  const int64_t width = k.gates * s.h, early = k.gates == 3 ? 2 * s.h : width;
  const int64_t late_row = p.late_len > p.bias_len ? p.late_len : p.bias_len;
  W* bias = reinterpret_cast<W*>(scratch + p.bias);
  W* late = reinterpret_cast<W*>(scratch + p.late);
  memset(static_cast<void*>(bias), 0, static_cast<size_t>(k.dirs * p.bias_len) * sizeof(W));
  memset(static_cast<void*>(late), 0, static_cast<size_t>((k.dirs + 1) * late_row) * sizeof(W));
  for (int d = 0; run.in[3] && d < k.dirs; ++d) {
    const W* b = run.in[3] + d * 2 * width;
    for (int64_t j = 0; j < width; ++j) {
      bias[d * p.bias_len + j] = b[j] + (j < early ? b[width + j] : 0);
      if (j >= early) late[d * p.late_len + j - early] = b[width + j];
    }
  }
  run.bias = bias;
  run.late = late;
  run.zeros = late + k.dirs * late_row;
  W* share = reinterpret_cast<W*>(scratch + p.share);
  run.share = share;
  for (int d = 0; d < k.dirs; ++d)
    product(p, {&c}, run.weights[0][d], run.in[0], s.i, s.t * s.b, share + d * s.t * s.b * width, width,
            run.bias + d * p.bias_len, static_cast<const W*>(nullptr), 0);
  if (k.dirs == 1) {
    run_direction(run, 0, {p.split_steps ? &c : nullptr});
  } else {
    c.parallel(k.dirs, 1, [&](int64_t b, int64_t e, int) {
      for (int64_t d = b; d < e; ++d) run_direction(run, static_cast<int>(d), {nullptr});
    });
  }
  return Code::ok;
}

Status recurrent_run(OpContext& c) {
  const Plan& p = *c.state<Plan>();
  if (c.in(4))
    for (int64_t b = 0; b < p.size.b; ++b) {
      const int64_t n = index_at(*c.in(4), b);
      if (n < 0 || n > p.size.t)
        return c.fail(Code::index, "lengths[%lld] is %lld, expected 0 to %lld", static_cast<long long>(b),
                      static_cast<long long>(n), static_cast<long long>(p.size.t));
    }
  if (p.size.b == 0 || p.size.h == 0) return Code::ok;
  return p.wide ? run_all<double>(c, p) : run_all<float>(c, p);
}

template <int G>
Status infer(OpContext& c) {
  return recurrent_infer(c, G);
}
template <int G>
Status prepare(OpContext& c) {
  return recurrent_prepare(c, G);
}

const OpDef defs[] = {
    {Opcode::lstm_, infer<4>, prepare<4>, recurrent_run},
    {Opcode::gru_, infer<3>, prepare<3>, recurrent_run},
    {Opcode::rnn_, infer<1>, prepare<1>, recurrent_run},
};

}  // namespace

const OpList ops_recurrent = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
