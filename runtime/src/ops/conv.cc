// conv: chooses an algorithm in prepare, packs weights, runs it.  The choice depends on shapes and attrs only, so it is
// the same on every run; all algorithms but winograd add in the same order (kernel positions, then channels).
#include "base/convert.h"
#include "base/mem.h"
#include "ops/conv_depthwise.h"
#include "ops/conv_strips.h"
#include "ops/conv_winograd.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_conv;

namespace {

constexpr WindowAttrs kWindow = {attr::conv_::strides, attr::conv_::dilations, attr::conv_::pads,
                                 attr::conv_::pad_mode};
constexpr ActivationAttrs kAct = {attr::conv_::act, attr::conv_::act_alpha, attr::conv_::act_beta,
                                  attr::conv_::act_after};

Status read_window(const OpContext& c, Window* w) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  return window_of(c, kWindow, x.rank - 2, x.dims + 1, weight.dims + 1, w);
}

Status conv_infer(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  if (!is_float(x.dtype))
    return c.fail(Code::shape, "x has dtype %s; expected a float. Integers have conv_integer", dtype_name(x.dtype));
  DK_TRY(expect_dtype(c, "weight", &weight));
  DK_TRY(expect_dtype(c, "bias", c.in(2)));
  DK_TRY(expect_dtype(c, "residual", c.in(3)));
  if (x.rank < 3 || x.rank > 5 || weight.rank != x.rank)
    return c.fail(Code::shape, "ranks of x and weight are %d and %d; expected the same, 3 to 5", x.rank, weight.rank);
  const int64_t groups = c.attr_int(attr::conv_::groups), channels = x.dims[x.rank - 1];
  const int64_t cg = weight.dims[x.rank - 1], o = weight.dims[0];
  if (groups < 1 || channels % groups || channels / groups != cg || o % groups)
    return c.fail(Code::shape, "channels do not fit: x has %lld, weight makes %lld of %lld, in %lld groups",
                  static_cast<long long>(channels), static_cast<long long>(o), static_cast<long long>(cg),
                  static_cast<long long>(groups));
  Window w;
  DK_TRY(read_window(c, &w));
  int64_t dims[kMaxRank];
  dims[0] = x.dims[0];
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  dims[x.rank - 1] = o;
  DK_TRY(expect_dims(c, "bias", c.in(2), 1, &o));
  DK_TRY(expect_dims(c, "residual", c.in(3), x.rank, dims));
  return c.set_out(0, x.dtype, x.rank, dims);
}

Algorithm choose(const ConvState& s) {
  const ConvGeometry& g = s.g;
  if (s.cg == 1 && s.groups > 1 && g.kernel[0] * g.kernel[1] <= kDepthwiseTaps) return Algorithm::depthwise;
  bool plain = true;
  for (int d = 0; d < 3; ++d)
    plain = plain && g.kernel[d] == 1 && g.stride[d] == 1 && g.before[d] == 0 && g.out[d] == g.in[d];
  if (plain) return Algorithm::pointwise;
  // A run must be longer than a tap's set-up, and is worth a copy of the image only when the taps are short.
  if (s.groups == 1 && g.dilation[2] == 1 && g.kernel[2] > 1 && g.c <= 8 &&
      g.kernel[0] * g.kernel[1] <= kGemmMaxPointers && ConvPadding(&g).modest())
    return Algorithm::runs;
  return g.taps() <= kGemmMaxPointers ? Algorithm::taps : Algorithm::direct;
}

// precision="fast": both operands rounded to bfloat16, where that is much faster and there is enough to do.
const GemmKernels* fast_kernels(const OpContext& c, const ConvState& s) {
  const bool product =
      s.algorithm == Algorithm::pointwise || s.algorithm == Algorithm::taps || s.algorithm == Algorithm::runs;
  const bool taken = product && c.is_const(1) && !s.convert && gemm_fast_takes(s.g.taps(), s.cg, s.og);
  return c.fast() && taken ? gemm_fast_kernels() : nullptr;
}

// ---- packing

// Weights [o, taps * cg] of all groups to panels, or to [taps][channels] for depthwise.
int64_t packed_floats(const ConvState& s) {
  if (s.algorithm == Algorithm::depthwise) return s.g.taps() * s.padded;
  if (s.algorithm == Algorithm::winograd) return s.winograd.positions() * s.layout.padded() * s.layout.rows;
  return s.groups * s.layout.padded() * s.layout.rows;
}

void pack_weights(const OpContext& c, const ConvState& s, const float* weight, float* to) {
  const int64_t taps = s.g.taps();
  if (s.algorithm == Algorithm::depthwise) {
    for (int64_t t = 0; t < taps; ++t, to += s.padded) {
      for (int64_t i = 0; i < s.o; ++i) to[i] = weight[i * taps + t];
      for (int64_t i = s.o; i < s.padded; ++i) to[i] = 0.0f;
    }
    return;
  }
  const int64_t panels = s.layout.count(), rows = taps * s.cg;
  const int64_t group = s.layout.padded() * s.layout.rows;
  c.parallel(s.groups * panels, 1 + 16384 / (rows * s.layout.main.nr + 1), [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t gi = i / panels, p = i - gi * panels;
      gemm_pack(s.gemm, s.layout, to + gi * group, weight + gi * s.og * rows, 1, rows, p, p + 1);
    }
  });
}

void pack_bias(const ConvState& s, const float* bias, float* to) {
  const int64_t groups = s.algorithm == Algorithm::depthwise ? 1 : s.groups, n = s.o / groups;
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t i = 0; i < s.padded; ++i) *to++ = i < n && bias ? bias[g * n + i] : 0.0f;
}

Status conv_prepare(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1), &y = *c.out(0);
  ConvState* state;
  DK_TRY(c.make_state(&state));
  ConvState& s = *state;
  Window w;
  DK_TRY(read_window(c, &w));
  s.g.n = x.dims[0];
  s.g.c = x.dims[x.rank - 1];
  for (int d = 0; d < 3; ++d) {
    s.g.in[d] = w.in[d];
    s.g.kernel[d] = w.kernel[d];
    s.g.out[d] = w.out[d];
    s.g.stride[d] = w.stride[d];
    s.g.dilation[d] = w.dilation[d];
    s.g.before[d] = w.before[d];
  }
  s.o = weight.dims[0];
  s.groups = c.attr_int(attr::conv_::groups);
  s.cg = s.g.c / s.groups;
  s.og = s.o / s.groups;
  s.act = activation_of(c, kAct);
  s.convert = x.dtype != DType::f32 && x.dtype != DType::f64;
  if (y.count() == 0) return Code::ok;
  if (s.cg == 0)  // nothing to add: a kernel of any size will do
    for (int64_t& k : s.g.kernel) k = 1;
  s.algorithm = x.dtype == DType::f64 ? Algorithm::direct : choose(s);
  const GemmKernels* fast = fast_kernels(c, s);
  if (!fast && s.algorithm == Algorithm::taps && (s.winograd.r = winograd_tile(c, s)) != 0)
    s.algorithm = Algorithm::winograd;

  static const char* const kNames[] = {"pointwise", "taps", "runs", "depthwise", "winograd", "direct"};
  static const char* const kFastNames[] = {"pointwise_bf16", "taps_bf16", "runs_bf16"};
  const char* name = fast ? kFastNames[static_cast<int>(s.algorithm)]
                     : s.algorithm == Algorithm::winograd && s.winograd.r == 4 ? "winograd_f4"
                     : s.algorithm == Algorithm::winograd                      ? "winograd_f2"
                                                                               : kNames[static_cast<int>(s.algorithm)];
  c.note(name, static_cast<uint64_t>(2.0 * static_cast<double>(y.count()) * static_cast<double>(s.g.taps() * s.cg)));
  ScratchPlan scratch;
  if (s.convert) {
    s.x_at = scratch.take(x.count());
    if (!c.is_const(1)) s.weight_at = scratch.take(weight.count());
    s.y_at = scratch.take(y.count());
    if (c.in(3)) s.residual_at = scratch.take(y.count());
  }
  if (s.algorithm == Algorithm::direct) {
    if (s.convert && c.is_const(1)) s.weight_at = scratch.take(weight.count());
    if (s.convert && c.in(2)) s.bias_at = scratch.take(s.o);
    return c.need_scratch(scratch.bytes);
  }

  s.epilogue = GemmEpilogue{};
  s.epilogue.residual_first = s.act.after;
  gemm_set_activation(&s.epilogue, s.act.kind, s.act.alpha, s.act.beta);
  s.gemm = fast ? fast : gemm_kernels();
  uint32_t tag;
  if (s.algorithm == Algorithm::depthwise) {
    s.depthwise = depthwise_kernels();
    s.multiplier = s.og;
    s.padded = round_up(s.o, s.depthwise->width);
    tag = 0x200u | static_cast<uint32_t>(s.depthwise->width);
    if (s.multiplier > 1) s.expanded_at = scratch.take(s.g.n * w.in_size() * s.o);
  } else {
    const bool runs = s.algorithm == Algorithm::runs;
    // winograd multiplies channels, one position at a time
    const int64_t taps = s.algorithm == Algorithm::winograd ? 1 : runs ? s.g.kernel[0] * s.g.kernel[1] : s.g.taps();
    s.layout = gemm_layout_taps(s.gemm, taps, runs ? s.g.kernel[2] * s.cg : s.cg, s.og);
    s.padded = s.layout.padded();
    tag = (fast ? 0x180u : 0x100u) | static_cast<uint32_t>(s.gemm->main.nr);
  }
  if (s.algorithm == Algorithm::winograd) {
    winograd_plan(c, &s, &scratch);
    tag += static_cast<uint32_t>(s.winograd.r) << 16;
  }
  if (fast) {
    s.rounded = s.algorithm == Algorithm::taps && s.cg % 2 == 0;
    if (s.rounded) s.rounded_at = scratch.take(x.count() / 2 + static_cast<int64_t>(kSlack));
    s.room_bytes = gemm_room(s.layout, s.g.n * s.g.pixels(), c.threads());
    s.room_at = scratch.take(c.threads() * s.room_bytes / 4);
  }
  if (s.algorithm == Algorithm::runs) {
    ConvPadding padding(&s.g);
    if (padding.needed()) s.image_at = scratch.take(static_cast<int64_t>(padding.bytes() / 4));
  }
  if (s.algorithm == Algorithm::taps || s.algorithm == Algorithm::winograd) {
    void* zero;
    bool fresh;
    const size_t bytes = static_cast<size_t>(s.g.c > s.padded ? s.g.c : s.padded) * 4 + kSlack;
    DK_TRY(c.packed(0x300, bytes, &zero, &fresh));
    s.zero = static_cast<float*>(zero);
    if (fresh) memset(zero, 0, bytes);
  }

  const int64_t packed = packed_floats(s);
  if (c.is_const(1)) {
    void* p;
    bool fresh;
    DK_TRY(c.packed(tag, static_cast<size_t>(packed) * 4, &p, &fresh));
    s.packed = static_cast<float*>(p);
    if (fresh) {
      const float* from;
      float* owned;
      DK_TRY(constant_floats(c, 1, &from, &owned));
      Status status = Code::ok;
      if (s.algorithm == Algorithm::winograd)
        status = winograd_pack(c, s, from, static_cast<float*>(p));
      else
        pack_weights(c, s, from, static_cast<float*>(p));
      mem_free(owned);
      DK_TRY(status);
    }
  } else {
    s.packed_at = scratch.take(packed);
  }
  const int64_t biases = s.algorithm == Algorithm::depthwise ? s.padded : s.groups * s.padded;
  if (!c.in(2) || c.is_const(2)) {
    void* p;
    bool fresh;
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
    s.bias_at = scratch.take(2 * biases);  // converted, then spread
  }
  return c.need_scratch(scratch.bytes);
}

// ---- run

void run_gemm(const OpContext& c, const ConvState& s, const ConvPointers& p, const GemmRows& rows, int64_t m0,
              int64_t m, int64_t taps, int64_t k) {
  GemmEpilogue e = s.epilogue;
  e.ldr = s.o;
  GemmProblem problem = product_of(s, &e);
  problem.m = m;
  problem.taps = taps;
  problem.k = k;
  problem.rows = &rows;
  char* const room = static_cast<char*>(c.scratch()) + s.room_at;
  const GemmSplit split = gemm_split(problem, c.threads());
  const int64_t group = s.layout.padded() * s.layout.rows;
  c.parallel(s.groups * split.units, split.grain, [&](int64_t b, int64_t end, int lane) {
    GemmProblem mine = problem;
    GemmEpilogue me = e;
    mine.epilogue = &me;
    mine.room = room + lane * s.room_bytes;
    while (b < end) {
      const int64_t gi = b / split.units, u0 = b - gi * split.units;
      const int64_t u1 = split.units < u0 + (end - b) ? split.units : u0 + (end - b);
      mine.a_shift = gi * k;
      mine.packed = p.packed + gi * group;
      mine.c = p.y + m0 * s.o + gi * s.og;
      me.bias = p.bias + gi * s.padded;
      me.residual = p.residual ? p.residual + m0 * s.o + gi * s.og : nullptr;
      gemm_run_units(mine, split, u0, u1);
      b += u1 - u0;
    }
  });
}

// Taps over an image of bfloat16 numbers, two of which look like one float here.
void run_rounded(const OpContext& c, const ConvState& s, const ConvPointers& p, float* image) {
  c.parallel(s.g.n * s.g.in[0] * s.g.in[1] * s.g.in[2], 1 + 16384 / s.g.c, [&](int64_t b, int64_t e, int) {
    s.gemm->round(reinterpret_cast<uint8_t*>(image) + b * s.g.c * 2, p.x + b * s.g.c, (e - b) * s.g.c);
  });
  ConvGeometry pairs = s.g;
  pairs.c /= 2;
  const ConvTaps rows(&pairs, image, s.zero);
  run_gemm(c, s, p, rows, 0, s.g.n * s.g.pixels(), s.g.taps(), s.cg / 2);
}

void run_depthwise(const OpContext& c, const ConvState& s, const ConvPointers& p) {
  const ConvGeometry& g = s.g;
  const int64_t all = g.n * g.out[0] * g.out[1];
  // Too few rows to share evenly: a thread takes a part of the columns of all of them.
  const int64_t parts = all < 4 * c.threads() && g.out[2] >= 8 * c.threads() ? c.threads() : 1;
  const int64_t work = g.out[2] / parts * s.o * g.taps();
  c.parallel(all * parts, 1 + 100000 / (work + 1), [&](int64_t i, int64_t end, int) {
    while (i < end) {
      const int64_t part = i / all, b = i - part * all, y0 = b % g.out[1];
      int64_t rows = g.out[1] - y0 < end - i ? g.out[1] - y0 : end - i;
      if (rows > kStripRows) rows = kStripRows;
      ConvPointers here = p;
      here.y += b * g.out[2] * s.o;
      if (here.residual) here.residual += b * g.out[2] * s.o;
      depthwise_rows(
          s, here, b, rows, g.out[2] * part / parts, g.out[2] * (part + 1) / parts,
          [&](int64_t n, int64_t z, int64_t y) { return p.x + ((n * g.in[0] + z) * g.in[1] + y) * g.in[2] * s.o; });
      i += rows;
    }
  });
}

// Every channel of x `multiplier` times, so that the plain depthwise kernel fits.
void expand(const OpContext& c, const ConvState& s, const float* x, float* to) {
  const int64_t m = s.multiplier;
  c.parallel(s.g.n * s.g.in[0] * s.g.in[1] * s.g.in[2] * s.g.c, 16384, [=](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i)
      for (int64_t j = 0; j < m; ++j) to[i * m + j] = x[i];
  });
}

template <class T>
void run_direct(const OpContext& c, const ConvState& s, const T* x, const T* weight, const T* bias, const T* residual,
                T* out) {
  const ConvGeometry& g = s.g;
  const int64_t pixels = g.pixels(), taps = g.taps();
  c.parallel(g.n * pixels, 1 + 100000 / (taps * s.cg * s.o + 1), [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t n = i / pixels, pixel = i % pixels;
      const int64_t at[3] = {pixel / (g.out[1] * g.out[2]), pixel / g.out[2] % g.out[1], pixel % g.out[2]};
      for (int64_t o = 0; o < s.o; ++o) {
        double sum = bias ? static_cast<double>(bias[o]) : 0.0;
        const T* w = weight + o * taps * s.cg;
        for (int64_t t = 0; t < taps; ++t, w += s.cg) {
          const int64_t k[3] = {t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1], t % g.kernel[2]};
          int64_t from = n;
          bool inside = true;
          for (int d = 0; d < 3; ++d) {
            const int64_t p = at[d] * g.stride[d] - g.before[d] + k[d] * g.dilation[d];
            inside = inside && p >= 0 && p < g.in[d];
            from = from * g.in[d] + p;
          }
          if (!inside) continue;
          const T* a = x + from * g.c + o / s.og * s.cg;
          for (int64_t q = 0; q < s.cg; ++q) sum += static_cast<double>(a[q]) * static_cast<double>(w[q]);
        }
        const double r = residual ? static_cast<double>(residual[i * s.o + o]) : 0.0;
        out[i * s.o + o] = static_cast<T>(finish(s.act, sum, r));
      }
    }
  });
}

Status conv_run(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  Tensor& y = *c.out(0);
  const ConvState& s = *c.state<ConvState>();
  if (y.count() == 0) return Code::ok;
#if !defined(__wasm__)
  if (s.before) {
    conv_strips_run(c, s);
    return Code::ok;
  }
#endif
  if (x.dtype == DType::f64) {
    run_direct(c, s, x.as<double>(), weight.as<double>(), c.in(2) ? c.in(2)->as<double>() : nullptr,
               c.in(3) ? c.in(3)->as<double>() : nullptr, y.as<double>());
    return Code::ok;
  }
  char* scratch = static_cast<char*>(c.scratch());
  auto part = [scratch](size_t at) { return reinterpret_cast<float*>(scratch + at); };
  auto floats = [&](const Tensor& t, size_t at) -> const float* {
    if (!s.convert) return t.as<float>();
    floats_from(c, t, part(at));
    return part(at);
  };
  ConvPointers p = {};
  p.x = floats(x, s.x_at);
  p.residual = c.in(3) ? floats(*c.in(3), s.residual_at) : nullptr;
  p.y = s.convert ? part(s.y_at) : y.as<float>();

  if (s.algorithm == Algorithm::direct) {
    const float* bias = c.in(2) ? floats(*c.in(2), s.bias_at) : nullptr;
    run_direct(c, s, p.x, floats(weight, s.weight_at), bias, p.residual, p.y);
    if (s.convert) floats_to(c, p.y, y);
    return Code::ok;
  }

  p.packed = s.packed;
  if (!p.packed) {
    pack_weights(c, s, floats(weight, s.weight_at), part(s.packed_at));
    p.packed = part(s.packed_at);
  }
  p.bias = s.bias;
  if (!p.bias) {
    const int64_t biases = s.algorithm == Algorithm::depthwise ? s.padded : s.groups * s.padded;
    float* spread = part(s.bias_at);
    pack_bias(s, floats(*c.in(2), s.bias_at + static_cast<size_t>(biases) * 4), spread);
    p.bias = spread;
  }

  const ConvGeometry& g = s.g;
  switch (s.algorithm) {
    case Algorithm::pointwise: {
      const GemmMatrix rows(p.x, g.c);
      run_gemm(c, s, p, rows, 0, g.n * g.pixels(), 1, s.cg);
      break;
    }
    case Algorithm::taps: {
      if (s.rounded) {
        run_rounded(c, s, p, part(s.rounded_at));
        break;
      }
      const ConvTaps rows(&g, p.x, s.zero);
      run_gemm(c, s, p, rows, 0, g.n * g.pixels(), g.taps(), s.cg);
      break;
    }
    case Algorithm::winograd: {
      winograd_run(c, s, p, scratch + s.winograd.lane_at);
      break;
    }
    case Algorithm::runs: {
      const ConvPadding padding(&g);
      const int64_t image = g.in[0] * g.in[1] * g.in[2] * g.c;
      for (int64_t n = 0; n < g.n; ++n) {
        const float* from = p.x + n * image;
        if (padding.needed()) {
          float* to = part(s.image_at);
          c.parallel(padding.depth * padding.height, 1 + 16384 / (padding.width * g.c + 1),
                     [&](int64_t b, int64_t e, int) { padding.copy(from, to, b, e); });
          from = to;
        }
        run_gemm(c, s, p, ConvRuns(&g, from, padding.height, padding.width), n * g.pixels(), g.pixels(),
                 g.kernel[0] * g.kernel[1], g.kernel[2] * g.c);
      }
      break;
    }
    default: {
      if (s.multiplier > 1) {
        expand(c, s, p.x, part(s.expanded_at));
        p.x = part(s.expanded_at);
      }
      run_depthwise(c, s, p);
    }
  }
  if (s.convert) floats_to(c, p.y, y);
  return Code::ok;
}

const OpDef kDefs[] = {
#if defined(__wasm__)
    {Opcode::conv_, conv_infer, conv_prepare, conv_run},
#else
    {Opcode::conv_, conv_infer, conv_prepare, conv_run, 0, conv_strips_join},
#endif
};

}  // namespace

const OpList ops_conv = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
