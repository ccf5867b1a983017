// conv_transpose, without adding into the output: an output pixel takes its sum from the taps that reach it.
//
// Along each dim, output o lies at f = o + before of the full result, and tap k reaches it from input i when
// f = i * stride + k * dilation.  So the residue of f modulo the stride selects the taps: one residue ("phase") after
// the other, it is an ordinary convolution with stride 1 and a part of the kernel, on the GEMM core with indirect rows.
// Weights are packed by residue; every tap is in one of them.
#include "base/mem.h"
#include "kernels/gemm/gemm.h"
#include "ops/epilogue.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_conv_transpose;

namespace {

constexpr ActivationAttrs kAct = {attr::conv_transpose_::act, attr::conv_transpose_::act_alpha,
                                  attr::conv_transpose_::act_beta};

// Mirrors transposed_window in deploykit/ops/conv.py.
Status read_window(const OpContext& c, Window* to) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  Window& w = *to;
  const int n = x.rank - 2, lead = 3 - n;
  w.rank = n;
  for (int i = 0; i < 3; ++i) {
    w.in[i] = w.kernel[i] = w.stride[i] = w.dilation[i] = w.out[i] = 1;
    w.before[i] = 0;
  }
  int64_t extra[3], pads[6], shape[3];
  DK_TRY(per_dim(c, attr::conv_transpose_::strides, "strides", n, 1, 1, w.stride + lead));
  DK_TRY(per_dim(c, attr::conv_transpose_::dilations, "dilations", n, 1, 1, w.dilation + lead));
  DK_TRY(per_dim(c, attr::conv_transpose_::output_padding, "output_padding", n, 0, 0, extra));
  DK_TRY(per_dim(c, attr::conv_transpose_::pads, "pads", 2 * n, 0, INT32_MIN, pads));
  DK_TRY(per_dim(c, attr::conv_transpose_::output_shape, "output_shape", n, 0, 0, shape));
  const bool given = !c.attr_ints(attr::conv_transpose_::output_shape).empty();
  const int64_t mode = c.attr_int(attr::conv_transpose_::pad_mode);
  for (int i = 0; i < n; ++i) {
    const int d = lead + i;
    const int64_t size = x.dims[1 + i], kernel = weight.dims[1 + i];
    if (kernel < 1 || kernel > INT32_MAX || size > INT32_MAX)
      return c.fail(Code::shape, "kernel size %lld over input size %lld; expected 1 to 2^31",
                    static_cast<long long>(kernel), static_cast<long long>(size));
    w.in[d] = size;
    w.kernel[d] = kernel;
    const int64_t reach = w.stride[d] * (size - 1) + w.dilation[d] * (kernel - 1) + 1;
    if (given || mode != choice::conv_transpose_::pad_mode::explicit_) {
      w.out[d] = given ? shape[i] : size * w.stride[d];
      int64_t total = reach + extra[i] - w.out[d];
      if (total < 0) total = 0;
      w.before[d] = mode == choice::conv_transpose_::pad_mode::same_upper_ ? total / 2 : total - total / 2;
    } else {
      w.before[d] = pads[i];
      w.out[d] = reach + extra[i] - pads[i] - pads[n + i];
      if (w.out[d] < 1)
        return c.fail(Code::shape, "no output is left after padding (dim %d); got size %lld", i + 1,
                      static_cast<long long>(w.out[d]));
    }
  }
  return Code::ok;
}

Status infer(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x has dtype %s; expected a float", dtype_name(x.dtype));
  DK_TRY(expect_dtype(c, "weight", &weight));
  DK_TRY(expect_dtype(c, "bias", c.in(2)));
  if (x.rank < 3 || x.rank > 5 || weight.rank != x.rank)
    return c.fail(Code::shape, "ranks of x and weight are %d and %d; expected the same, 3 to 5", x.rank, weight.rank);
  const int64_t groups = c.attr_int(attr::conv_transpose_::groups), channels = x.dims[x.rank - 1];
  if (groups < 1 || groups > INT32_MAX || channels % groups || weight.dims[0] != channels)
    return c.fail(Code::shape, "channels do not fit: x has %lld, weight %lld, in %lld groups",
                  static_cast<long long>(channels), static_cast<long long>(weight.dims[0]),
                  static_cast<long long>(groups));
  Window w;
  DK_TRY(read_window(c, &w));
  int64_t dims[kMaxRank];
  dims[0] = x.dims[0];
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  const int64_t og = weight.dims[x.rank - 1];
  if (og > INT64_MAX / groups) return c.fail(Code::shape, "too many output channels");
  dims[x.rank - 1] = og * groups;
  DK_TRY(expect_dims(c, "bias", c.in(2), 1, &dims[x.rank - 1]));
  return c.set_out(0, x.dtype, x.rank, dims);
}

// The taps of one dim, ordered by residue: those of residue index r are tap[first[r]] to tap[first[r + 1]].
struct Taps {
  int64_t residues;
  const int64_t* value;  // of the residues
  const int64_t* first;
  const int64_t* tap;

  int64_t count(int64_t r) const { return r < 0 ? 0 : first[r + 1] - first[r]; }
  int64_t index_of(int64_t residue) const {
    for (int64_t r = 0; r < residues; ++r)
      if (value[r] == residue) return r;
    return -1;
  }
};

struct State {
  Window w;
  int64_t n, c, o, groups, cg, og;
  Activation act;
  bool direct, convert;
  Taps taps[3];
  const GemmKernels* gemm;
  GemmLayout layout;  // of one group; rows varies with the phase
  const float* packed;
  const float* bias;
  const float* zero;
  size_t x_at, weight_at, bias_at, y_at, packed_at;
};

// Calls f(index of the residues (3), floats before in the packed weights, taps).
template <class F>
void each_phase(const State& s, F f) {
  int64_t at = 0;
  int64_t r[3];
  for (r[0] = 0; r[0] < s.taps[0].residues; ++r[0])
    for (r[1] = 0; r[1] < s.taps[1].residues; ++r[1])
      for (r[2] = 0; r[2] < s.taps[2].residues; ++r[2]) {
        const int64_t taps = s.taps[0].count(r[0]) * s.taps[1].count(r[1]) * s.taps[2].count(r[2]);
        f(r, at, taps);
        at += taps * s.c * s.layout.padded();
      }
}

// Weights [C, kernel..., og] to, per phase and group, panels of [taps, cg].
void pack_weights(const State& s, const float* weight, float* to) {
  const int64_t all = s.w.kernel_size();
  each_phase(s, [&](const int64_t* r, int64_t at, int64_t taps) {
    for (int64_t g = 0; g < s.groups; ++g) {
      for (int64_t p = 0; p < s.layout.count(); ++p) {
        const int nr = s.layout.shape(p).nr;
        float* panel = to + at + (g * s.layout.padded() + s.layout.column(p)) * taps * s.cg;
        const Taps *z = &s.taps[0], *y = &s.taps[1], *x = &s.taps[2];
        for (int64_t a = z->first[r[0]]; a < z->first[r[0] + 1]; ++a)
          for (int64_t b = y->first[r[1]]; b < y->first[r[1] + 1]; ++b)
            for (int64_t d = x->first[r[2]]; d < x->first[r[2] + 1]; ++d) {
              const int64_t tap = (z->tap[a] * s.w.kernel[1] + y->tap[b]) * s.w.kernel[2] + x->tap[d];
              const float* from = weight + (g * s.cg * all + tap) * s.og + s.layout.column(p);
              s.gemm->pack(panel, from, s.cg, s.layout.columns(p), nr, all * s.og, 1);
              panel += s.cg * nr;
            }
      }
    }
  });
}

void pack_bias(const State& s, const float* bias, float* to) {
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t i = 0; i < s.layout.padded(); ++i) *to++ = bias && i < s.og ? bias[g * s.og + i] : 0.0f;
}

void sort_taps(const Window& w, int d, int64_t* memory, Taps* to) {
  const int64_t k = w.kernel[d], s = w.stride[d];
  int64_t *value = memory, *first = memory + k, *tap = first + k + 1;
  int64_t residues = 0, n = 0;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t residue = i * w.dilation[d] % s;
    bool known = false;
    for (int64_t r = 0; r < residues; ++r) known = known || value[r] == residue;
    if (known) continue;
    value[residues] = residue;
    first[residues++] = n;
    for (int64_t j = i; j < k; ++j)
      if (j * w.dilation[d] % s == residue) tap[n++] = j;
  }
  first[residues] = n;
  *to = {residues, value, first, tap};
}

Status prepare(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  Window w;
  DK_TRY(read_window(c, &w));
  if (x.dims[x.rank - 1] == 0)  // nothing to add: a kernel of any size will do
    for (int64_t& k : w.kernel) k = 1;
  constexpr int64_t kMostTaps = 4096;  // per dim; longer kernels go through plain loops
  const bool tables = w.kernel[0] <= kMostTaps && w.kernel[1] <= kMostTaps && w.kernel[2] <= kMostTaps;
  const int64_t numbers = tables ? 3 * (w.kernel[0] + w.kernel[1] + w.kernel[2]) + 3 : 0;
  void* memory;
  DK_TRY(c.make_state(sizeof(State) + static_cast<size_t>(numbers) * 8, &memory));
  State& s = *static_cast<State*>(memory);
  s.w = w;
  s.n = x.dims[0];
  s.c = x.dims[x.rank - 1];
  s.groups = c.attr_int(attr::conv_transpose_::groups);
  s.cg = s.c / s.groups;
  s.og = weight.dims[x.rank - 1];
  s.o = s.og * s.groups;
  s.act = activation_of(c, kAct);
  s.convert = x.dtype != DType::f32 && x.dtype != DType::f64;
  s.direct = x.dtype == DType::f64 || !tables;
  if (c.out(0)->count() == 0) return Code::ok;
  if (!s.direct) {
    int64_t* at = reinterpret_cast<int64_t*>(static_cast<char*>(memory) + sizeof(State));
    int64_t most = 1;
    for (int d = 0; d < 3; ++d) {
      sort_taps(w, d, at, &s.taps[d]);
      at += 3 * w.kernel[d] + 1;
      int64_t longest = 0;
      for (int64_t r = 0; r < s.taps[d].residues; ++r)
        if (s.taps[d].count(r) > longest) longest = s.taps[d].count(r);
      most *= longest;
    }
    s.direct = most > kGemmMaxPointers;
  }
  ScratchPlan scratch;
  if (s.convert) {
    s.x_at = scratch.take(x.count());
    if (!c.is_const(1) || s.direct) s.weight_at = scratch.take(weight.count());
    s.y_at = scratch.take(c.out(0)->count());
  }
  if (s.direct) {
    if (s.convert) s.bias_at = scratch.take(s.o);
    return c.need_scratch(scratch.bytes);
  }
  s.gemm = gemm_kernels();
  s.layout = gemm_layout(s.gemm, s.cg, s.og);
  const int64_t packed = s.groups * s.layout.padded() * w.kernel_size() * s.cg;
  const int64_t biases = s.groups * s.layout.padded();
  const uint32_t tag = 0x100u | static_cast<uint32_t>(s.gemm->main.nr);
  void* p;
  bool fresh;
  if (c.is_const(1)) {
    DK_TRY(c.packed(tag, static_cast<size_t>(packed) * 4, &p, &fresh));
    s.packed = static_cast<float*>(p);
    if (fresh) {
      const float* from;
      float* owned;
      DK_TRY(constant_floats(c, 1, &from, &owned));
      pack_weights(s, from, static_cast<float*>(p));
      mem_free(owned);
    }
  } else {
    s.packed_at = scratch.take(packed);
  }
  if (!c.in(2) || c.is_const(2)) {
    DK_TRY(c.packed(tag | 0x1000u, static_cast<size_t>(biases) * 4, &p, &fresh));
    s.bias = static_cast<float*>(p);
    if (fresh) {
      const float* from = nullptr;
      float* owned = nullptr;
      if (c.in(2)) DK_TRY(constant_floats(c, 2, &from, &owned));
      pack_bias(s, from, static_cast<float*>(p));
      mem_free(owned);
    }
  } else {
    s.bias_at = scratch.take(2 * biases);
  }
  const size_t zero = static_cast<size_t>(s.c) * 4 + kSlack;
  DK_TRY(c.packed(0x300, zero, &p, &fresh));
  if (fresh) memset(p, 0, zero);
  s.zero = static_cast<float*>(p);
  return c.need_scratch(scratch.bytes);
}

// Rows of A for output pixels ox, ox + stride, ... of one output row.
struct PhaseRows : GemmRows {
  const State* s;
  const float* image;
  int64_t fz, fy, fx;  // coordinates of the first pixel in the full result
  int64_t r[3];        // residue indices
};

void fill_phase(const GemmRows* self, int64_t m0, int64_t m, const float** to, int64_t stride) {
  const PhaseRows& t = *static_cast<const PhaseRows*>(self);
  const State& s = *t.s;
  const Window& w = s.w;
  const Taps *zs = &s.taps[0], *ys = &s.taps[1], *xs = &s.taps[2];
  for (int64_t a = zs->first[t.r[0]]; a < zs->first[t.r[0] + 1]; ++a)
    for (int64_t b = ys->first[t.r[1]]; b < ys->first[t.r[1] + 1]; ++b) {
      // Exact divisions: that is what makes it this phase.
      const int64_t iz = (t.fz - zs->tap[a] * w.dilation[0]) / w.stride[0];
      const int64_t iy = (t.fy - ys->tap[b] * w.dilation[1]) / w.stride[1];
      const bool inside = iz >= 0 && iz < w.in[0] && iy >= 0 && iy < w.in[1];
      const float* row = inside ? t.image + (iz * w.in[1] + iy) * w.in[2] * s.c : nullptr;
      for (int64_t d = xs->first[t.r[2]]; d < xs->first[t.r[2] + 1]; ++d, to += stride) {
        const int64_t ix = (t.fx - xs->tap[d] * w.dilation[2]) / w.stride[2] + m0;
        for (int64_t i = 0; i < m; ++i) to[i] = row && ix + i >= 0 && ix + i < w.in[2] ? row + (ix + i) * s.c : s.zero;
      }
    }
}

int64_t residue(int64_t f, int64_t stride) { return (f % stride + stride) % stride; }

void run_gemm(const OpContext& c, const State& s, const float* x, const float* packed, const float* bias, float* y) {
  const Window& w = s.w;
  GemmEpilogue epilogue;
  gemm_set_activation(&epilogue, s.act.kind, s.act.alpha, s.act.beta);
  const int64_t phases = w.stride[2] < w.out[2] ? w.stride[2] : w.out[2];
  const int64_t longest = (w.out[2] + w.stride[2] - 1) / w.stride[2];  // pixels of one phase in a row
  const int64_t parts = (longest + 95) / 96;
  const int64_t rows = s.n * w.out[0] * w.out[1];
  const int64_t image = w.in_size() * s.c;
  const int64_t work = s.c * s.og * (w.kernel_size() * 96 / (w.stride[0] * w.stride[1] * w.stride[2]) + 1);
  c.parallel(rows * parts, 1 + 100000 / (work + 1), [&](int64_t begin, int64_t end, int) {
    GemmEpilogue e = epilogue;
    GemmLayout layout = s.layout;
    GemmProblem p = {};
    p.kernels = s.gemm;
    p.layout = &layout;
    p.ldc = w.stride[2] * s.o;
    p.epilogue = &e;
    PhaseRows row;
    row.fill = fill_phase;
    row.s = &s;
    p.rows = &row;
    for (int64_t i = begin; i < end; ++i) {
      // Rows of the same residue follow each other, so that their weights stay in cache.
      const int64_t part = i % parts;
      int64_t at = i / parts % w.out[1], oy = 0;
      for (;; ++oy) {
        const int64_t count = (w.out[1] - oy + w.stride[1] - 1) / w.stride[1];
        if (at < count) break;
        at -= count;
      }
      oy += at * w.stride[1];
      const int64_t oz = i / parts / w.out[1] % w.out[0], n = i / parts / w.out[1] / w.out[0];
      row.image = x + n * image;
      row.fz = oz + w.before[0];
      row.fy = oy + w.before[1];
      row.r[0] = s.taps[0].index_of(residue(row.fz, w.stride[0]));
      row.r[1] = s.taps[1].index_of(residue(row.fy, w.stride[1]));
      for (int64_t q = 0; q < phases; ++q) {
        const int64_t count = (w.out[2] - q + w.stride[2] - 1) / w.stride[2];
        const int64_t x0 = longest * part / parts, x1 = longest * (part + 1) / parts;
        if (x0 >= count) continue;
        const int64_t m = (x1 < count ? x1 : count) - x0;
        row.fx = q + x0 * w.stride[2] + w.before[2];
        row.r[2] = s.taps[2].index_of(residue(row.fx, w.stride[2]));
        const bool reached = row.r[0] >= 0 && row.r[1] >= 0 && row.r[2] >= 0;
        p.m = m;
        p.taps = 0;
        p.k = s.cg;
        layout.rows = 0;
        const float* weights = packed;
        if (reached) {
          each_phase(s, [&](const int64_t* r, int64_t before, int64_t taps) {
            if (r[0] != row.r[0] || r[1] != row.r[1] || r[2] != row.r[2]) return;
            weights = packed + before;
            p.taps = taps;
          });
          layout.rows = p.taps * s.cg;
        }
        float* to = y + (((n * w.out[0] + oz) * w.out[1] + oy) * w.out[2] + q + x0 * w.stride[2]) * s.o;
        for (int64_t g = 0; g < s.groups; ++g) {
          p.a_shift = g * s.cg;
          p.packed = weights + g * layout.padded() * layout.rows;
          p.c = to + g * s.og;
          e.bias = bias + g * layout.padded();
          gemm_run(p, 0, m, 0, layout.count());
        }
      }
    }
  });
}

// Plain loops in double.
template <class T>
void run_direct(const OpContext& c, const State& s, const T* x, const T* weight, const T* bias, T* y) {
  const Window& w = s.w;
  const int64_t taps = w.kernel_size(), pixels = w.out_size();
  c.parallel(s.n * pixels, 1 + 50000 / (taps * s.cg * s.o + 1), [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t pixel = i % pixels;
      const int64_t at[3] = {pixel / (w.out[1] * w.out[2]), pixel / w.out[2] % w.out[1], pixel % w.out[2]};
      for (int64_t o = 0; o < s.o; ++o) {
        const int64_t g = o / s.og;
        double sum = bias ? static_cast<double>(bias[o]) : 0.0;
        for (int64_t t = 0; t < taps; ++t) {
          const int64_t k[3] = {t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1], t % w.kernel[2]};
          int64_t from = i / pixels;
          bool inside = true;
          for (int d = 0; d < 3; ++d) {
            const int64_t f = at[d] + w.before[d] - k[d] * w.dilation[d], p = f / w.stride[d];
            inside = inside && f >= 0 && f % w.stride[d] == 0 && p < w.in[d];
            from = from * w.in[d] + p;
          }
          if (!inside) continue;
          for (int64_t q = g * s.cg; q < (g + 1) * s.cg; ++q)
            sum +=
                static_cast<double>(x[from * s.c + q]) * static_cast<double>(weight[(q * taps + t) * s.og + o % s.og]);
        }
        y[i * s.o + o] = static_cast<T>(activate(s.act, sum));
      }
    }
  });
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  if (y.dtype == DType::f64) {
    run_direct(c, s, c.in(0)->as<double>(), c.in(1)->as<double>(), c.in(2) ? c.in(2)->as<double>() : nullptr,
               y.as<double>());
    return Code::ok;
  }
  char* scratch = static_cast<char*>(c.scratch());
  auto part = [scratch](size_t at) { return reinterpret_cast<float*>(scratch + at); };
  auto floats = [&](int i, size_t at) -> const float* {
    if (!c.in(i)) return nullptr;
    if (!s.convert) return c.in(i)->as<float>();
    floats_from(c, *c.in(i), part(at));
    return part(at);
  };
  const float* x = floats(0, s.x_at);
  float* out = s.convert ? part(s.y_at) : y.as<float>();
  if (s.direct) {
    run_direct(c, s, x, floats(1, s.weight_at), floats(2, s.bias_at), out);
  } else {
    const float *packed = s.packed, *bias = s.bias;
    if (!packed) {
      pack_weights(s, floats(1, s.weight_at), part(s.packed_at));
      packed = part(s.packed_at);
    }
    if (!bias) {
      const int64_t biases = s.groups * s.layout.padded();
      pack_bias(s, floats(2, s.bias_at + static_cast<size_t>(biases) * 4), part(s.bias_at));
      bias = part(s.bias_at);
    }
    run_gemm(c, s, x, packed, bias, out);
  }
  if (s.convert) floats_to(c, out, y);
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::conv_transpose_, infer, prepare, run},
};

}  // namespace

const OpList ops_conv_transpose = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
