// qconv: chooses an algorithm in prepare, packs weights with their sums, runs it.  All algorithms give the same bits.
#include <cstring>

#include "base/mem.h"
#include "kernels/qdepthwise/qdepthwise.h"
#include "kernels/qgemm/qrows.h"
#include "ops/q_util.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_qconv;

namespace {

namespace A = attr::qconv_;
constexpr WindowAttrs kWindow = {A::strides, A::dilations, A::pads, A::pad_mode};
constexpr QResultAttrs kResult = {A::y_zero_point, A::low, A::high, A::dtype};
constexpr QResidualAttrs kResidual = {A::mid_scale, A::mid_low, A::mid_high, A::residual_scale, A::residual_zero_point};
enum Input { kX, kWeight, kMultiplier, kBias, kAdded };

enum class Algorithm : uint8_t {
  pointwise,  // pixels are rows of a matrix
  taps,       // indirect product, one tap per kernel position
  runs,       // few channels: one tap per kernel row, over a padded copy of the image
  depthwise,
  direct,  // plain loops, for what the others do not cover
};

constexpr int64_t kMaxKernelRows = 64;  // of the depthwise kernels

// What is made of weight, multiplier and bias; each part at a 64-byte boundary of one buffer.
struct Parts {
  size_t weights, sums, bias, multiplier, bytes;
};

struct State {
  Algorithm algorithm;
  ConvGeometry g;
  int64_t o, groups, cg, og, multiplier;
  int64_t lines, image;  // depthwise: lines per strip; bytes of a strip or image
  QEpilogue e;
  QOperand x;
  uint8_t zero;  // the byte of x_zero_point
  const QGemmKernels* gemm;
  const QDepthwiseKernels* depthwise;
  QGemmLayout layout;  // of one group
  int64_t padded;      // columns of one group (depthwise: all channels)
  Parts parts;
  const char* packed;  // null: made at run, in scratch
  const uint8_t* zeros;
  bool in_lines;       // taps and runs as QGemmLines
  int64_t room_bytes;  // for each thread, of products in tiles
  size_t packed_at, image_at, acc_at, room_at;
};

Status read_window(const OpContext& c, Window* w) {
  const Tensor &x = *c.in(kX), &weight = *c.in(kWeight);
  return window_of(c, kWindow, x.rank - 2, x.dims + 1, weight.dims + 1, w);
}

Status infer(OpContext& c) {
  const Tensor &x = *c.in(kX), &weight = *c.in(kWeight), &m = *c.in(kMultiplier);
  DK_TRY(expect_bytes(c, "x", &x));
  if (weight.dtype != DType::s8)
    return c.fail(Code::shape, "weight has dtype %s; expected int8", dtype_name(weight.dtype));
  if (m.dtype != DType::f32)
    return c.fail(Code::shape, "multiplier has dtype %s; expected float32", dtype_name(m.dtype));
  if (c.in(kBias) && c.in(kBias)->dtype != DType::s32)
    return c.fail(Code::shape, "bias has dtype %s; expected int32", dtype_name(c.in(kBias)->dtype));
  if (x.rank < 3 || x.rank > 5 || weight.rank != x.rank)
    return c.fail(Code::shape, "ranks of x and weight are %d and %d; expected the same, 3 to 5", x.rank, weight.rank);
  const int64_t groups = c.attr_int(A::groups), channels = x.dims[x.rank - 1];
  const int64_t cg = weight.dims[x.rank - 1], o = weight.dims[0];
  if (groups < 1 || channels % groups || channels / groups != cg || o % groups)
    return c.fail(Code::shape, "channels do not fit: x has %lld, weight makes %lld of %lld, in %lld groups",
                  static_cast<long long>(channels), static_cast<long long>(o), static_cast<long long>(cg),
                  static_cast<long long>(groups));
  DType t;
  DK_TRY(result_of(c, kResult, true, &t));
  DK_TRY(expect_zero_point(c, "x_zero_point", A::x_zero_point, x.dtype));
  DK_TRY(check_residual(c, kResidual, c.in(kAdded)));
  Window w;
  DK_TRY(read_window(c, &w));
  int64_t dims[kMaxRank];
  dims[0] = x.dims[0];
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  dims[x.rank - 1] = o;
  const int64_t one = 1;
  DK_TRY(expect_dims(c, "multiplier", &m, 1, m.rank == 1 && m.dims[0] == 1 ? &one : &o));
  DK_TRY(expect_dims(c, "bias", c.in(kBias), 1, &o));
  DK_TRY(expect_dims(c, "residual", c.in(kAdded), x.rank, dims));
  return c.set_out(0, t, x.rank, dims);
}

Algorithm choose(const State& s, bool residual) {
  const ConvGeometry& g = s.g;
  const bool plain_result = !s.e.floats && !s.e.mid && !residual;
  if (s.cg == 1 && s.groups > 1 && g.kernel[0] * g.kernel[1] <= kMaxKernelRows && plain_result &&
      ConvPadding(&g).modest())
    return Algorithm::depthwise;
  if (s.cg == 1 && s.groups > 1) return Algorithm::direct;
  bool plain = true;
  for (int d = 0; d < 3; ++d)
    plain = plain && g.kernel[d] == 1 && g.stride[d] == 1 && g.before[d] == 0 && g.out[d] == g.in[d];
  if (plain) return Algorithm::pointwise;
  if (s.groups == 1 && g.dilation[2] == 1 && g.kernel[2] > 1 && g.c % 4 != 0 && g.c <= 8 &&
      g.kernel[0] * g.kernel[1] <= kQGemmMaxPointers && ConvPadding(&g).modest())
    return Algorithm::runs;
  return g.taps() <= kQGemmMaxPointers ? Algorithm::taps : Algorithm::direct;
}

Parts plan_parts(const State& s) {
  Parts p;
  const bool dw = s.algorithm == Algorithm::depthwise, direct = s.algorithm == Algorithm::direct;
  const size_t weights = dw       ? qdepthwise_bytes(s.o, s.g.kernel[0] * s.g.kernel[1], s.g.kernel[2])
                         : direct ? 0
                                  : s.layout.bytes() * static_cast<size_t>(s.groups);
  const size_t numbers = static_cast<size_t>(dw || direct ? s.padded : s.groups * s.padded) * 4;
  auto up = [](size_t n) { return (n + kSlack + 63) / 64 * 64; };
  p.weights = 0;
  p.sums = up(weights);
  p.bias = p.sums + up(numbers);
  p.multiplier = p.bias + up(numbers);
  p.bytes = p.multiplier + up(numbers);
  return p;
}

// Everything that depends on weight, multiplier and bias.
void make_parts(const OpContext& c, const State& s, char* to) {
  int8_t* weights = reinterpret_cast<int8_t*>(to + s.parts.weights);
  int32_t* sums = reinterpret_cast<int32_t*>(to + s.parts.sums);
  int32_t* bias = reinterpret_cast<int32_t*>(to + s.parts.bias);
  float* multiplier = reinterpret_cast<float*>(to + s.parts.multiplier);
  memset(sums, 0, s.parts.bytes - s.parts.sums);
  const Tensor &w = *c.in(kWeight), &m = *c.in(kMultiplier);
  const int32_t* b = c.in(kBias) ? c.in(kBias)->as<int32_t>() : nullptr;
  const float* ms = m.as<float>();
  const int64_t step = m.count() == 1 ? 0 : 1, taps = s.g.taps();
  if (s.algorithm == Algorithm::direct) {
    for (int64_t i = 0; i < s.o; ++i) bias[i] = b ? b[i] : 0, multiplier[i] = ms[i * step];
    return;
  }
  if (s.algorithm == Algorithm::depthwise) {
    qdepthwise_pack(s.depthwise, s.o, s.g.kernel[0] * s.g.kernel[1], s.g.kernel[2], w.as<int8_t>(), weights, sums);
    for (int64_t i = 0; i < s.o; ++i) {
      const int64_t at = qdepthwise_place(s.depthwise, s.o, i);
      fold_zero_point(b ? b + i : nullptr, sums + i, s.x.zero, 1, bias + at);
      multiplier[at] = ms[i * step];
    }
    return;
  }
  const int64_t panels = s.layout.count(), per = s.og * taps * s.cg;
  c.parallel(s.groups * panels, 1 + 65536 / (s.layout.quads * s.layout.main.nr * 4 + 1),
             [&](int64_t p0, int64_t p1, int) {
               for (int64_t i = p0; i < p1; ++i) {
                 const int64_t gi = i / panels, p = i - gi * panels;
                 const QGemmSource from = {w.as<uint8_t>() + gi * per, s.layout.k, 1, taps * s.cg, 0};
                 qgemm_pack(s.layout, from, weights + static_cast<size_t>(gi) * s.layout.bytes(), sums + gi * s.padded,
                            p, p + 1);
               }
             });
  for (int64_t gi = 0; gi < s.groups; ++gi) {
    fold_zero_point(b ? b + gi * s.og : nullptr, sums + gi * s.padded, s.x.zero, s.og, bias + gi * s.padded);
    for (int64_t i = 0; i < s.og; ++i) multiplier[gi * s.padded + i] = ms[(gi * s.og + i) * step];
  }
}

// Lines of a depthwise output that are computed over one padded strip of the input, small enough for L2; all of them
// where the kernel is three-dimensional.
int64_t strip_lines(const State& s) {
  const ConvGeometry& g = s.g;
  if (g.in[0] != 1 || g.kernel[0] != 1 || g.out[0] != 1) return g.out[1];
  const int64_t line = ConvPadding(&g).width * s.o, reach = (g.kernel[1] - 1) * g.dilation[1] + 1;
  const int64_t lines = ((192 << 10) / (line + 1) - reach) / g.stride[1] + 1;
  return lines < 4 ? 4 : lines > g.out[1] ? g.out[1] : lines;
}

// The padded image or strip, followed by what the depthwise kernels and 4-byte loads may read.
int64_t image_bytes(const State& s) {
  const ConvPadding p(&s.g);
  const int64_t c = s.g.c * s.multiplier;
  int64_t rows = p.depth * p.height;
  if (s.algorithm == Algorithm::depthwise && s.lines < s.g.out[1])
    rows = (s.lines - 1) * s.g.stride[1] + (s.g.kernel[1] - 1) * s.g.dilation[1] + 1;
  return round_up(rows * p.width * c + 3 * s.g.dilation[2] * c + 2 * static_cast<int64_t>(kSlack), 64);
}

Status prepare(OpContext& c) {
  const Tensor &x = *c.in(kX), &weight = *c.in(kWeight), &y = *c.out(0);
  State* state;
  DK_TRY(c.make_state(&state));
  State& s = *state;
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
  if (y.count() == 0) return Code::ok;
  s.o = weight.dims[0];
  s.groups = c.attr_int(A::groups);
  s.cg = s.g.c / s.groups;
  s.og = s.o / s.groups;
  if (s.cg == 0)
    for (int64_t& k : s.g.kernel) k = 1;
  s.e = QEpilogue();
  set_result(c, kResult, y.dtype, &s.e);
  set_residual(c, kResidual, c.in(kAdded), &s.e);
  s.gemm = qgemm_kernels();
  s.depthwise = qdepthwise_kernels();
  s.algorithm = choose(s, c.in(kAdded) != nullptr);
  s.x = operand_of(x.dtype, c.attr_int(A::x_zero_point), s.gemm->a_signed);
  s.zero = static_cast<uint8_t>(c.attr_int(A::x_zero_point));
  s.multiplier = s.algorithm == Algorithm::depthwise ? s.og : 1;

  ScratchPlan scratch;
  static const char* const kNames[] = {"q_pointwise", "q_taps", "q_runs", "q_depthwise", "q_direct"};
  c.note(kNames[static_cast<int>(s.algorithm)],
         static_cast<uint64_t>(2.0 * static_cast<double>(y.count()) * static_cast<double>(s.g.taps() * s.cg)));
  if (s.algorithm == Algorithm::depthwise) {
    s.padded = qdepthwise_padded(s.o);
  } else if (s.algorithm == Algorithm::direct) {
    s.padded = round_up(s.o, 64);
    s.acc_at = scratch.take(s.padded * c.threads());
  } else {
    const bool runs = s.algorithm == Algorithm::runs;
    s.layout = qgemm_layout(s.gemm, runs ? s.g.kernel[0] * s.g.kernel[1] : s.g.taps(),
                            runs ? s.g.kernel[2] * s.g.c : s.cg, s.og);
    s.padded = s.layout.padded();
    s.in_lines = s.algorithm != Algorithm::pointwise && s.groups == 1 && qgemm_takes_lines(s.gemm, &s.layout, s.g);
    s.room_bytes = s.in_lines ? 0 : qgemm_room(s.gemm, s.layout, s.g.n * s.g.pixels(), c.threads());
    s.room_at = scratch.take(c.threads() * s.room_bytes / 4);
  }
  if (s.algorithm == Algorithm::depthwise) s.lines = strip_lines(s);
  if (s.algorithm == Algorithm::depthwise || (s.algorithm == Algorithm::runs && !s.in_lines)) {
    s.image = image_bytes(s);
    const bool strips = s.algorithm == Algorithm::depthwise && s.lines < s.g.out[1];
    s.image_at = scratch.take((strips ? c.threads() : 1) * s.image / 4);
  }
  if (s.algorithm == Algorithm::taps) {
    void* zero;
    bool fresh;
    const size_t bytes = static_cast<size_t>(s.g.c) + kSlack;
    DK_TRY(c.packed(0x300, bytes, &zero, &fresh));
    s.zeros = static_cast<const uint8_t*>(zero);
    if (fresh) memset(zero, s.zero, bytes);
  }
  s.parts = plan_parts(s);
  const bool fixed = c.is_const(kWeight) && c.is_const(kMultiplier) && (!c.in(kBias) || c.is_const(kBias));
  if (fixed) {
    DK_TRY(expect_multipliers(c, *c.in(kMultiplier)));
    s.e.small = small_multipliers(*c.in(kMultiplier));
    void* p;
    bool fresh;
    DK_TRY(c.packed(0x100u + static_cast<uint32_t>(s.algorithm), s.parts.bytes, &p, &fresh));
    s.packed = static_cast<const char*>(p);
    if (fresh) make_parts(c, s, static_cast<char*>(p));
  } else {
    s.packed_at = scratch.take(static_cast<int64_t>(s.parts.bytes / 4 + 1));
  }
  return c.need_scratch(scratch.bytes);
}

// ---- run
struct Pointers {
  const uint8_t* x;
  const int8_t* weights;
  const int32_t* bias;
  const float* multiplier;
  const uint8_t* residual;
  char* y;
};

void run_gemm(const OpContext& c, const State& s, const Pointers& p, const QGemmRows& rows, int64_t m0, int64_t m) {
  const int64_t element = s.e.floats ? 4 : 1;
  QEpilogue e = s.e;
  e.ldr = s.o;
  QGemmProblem problem = {};
  problem.kernels = s.gemm;
  problem.layout = &s.layout;
  problem.m = m;
  problem.rows = &rows;
  const QGemmLines lines = {&s.g, s.algorithm == Algorithm::runs, p.x, s.zero};
  if (s.in_lines) problem.lines = &lines;
  problem.a_flip = s.x.flip;
  problem.ldc = s.o;
  problem.epilogue = &e;
  problem.room_bytes = s.room_bytes;
  char* const room = static_cast<char*>(c.scratch()) + s.room_at;
  const QGemmSplit split = qgemm_split(problem, c.threads());
  c.parallel(s.groups * split.units, split.grain, [&](int64_t b, int64_t end, int lane) {
    QGemmProblem mine = problem;
    mine.room = room + lane * s.room_bytes;
    QEpilogue me = e;
    mine.epilogue = &me;
    while (b < end) {
      const int64_t gi = b / split.units, u0 = b - gi * split.units;
      const int64_t u1 = split.units < u0 + (end - b) ? split.units : u0 + (end - b);
      mine.a_shift = gi * s.cg;
      mine.packed = p.weights + static_cast<size_t>(gi) * s.layout.bytes();
      mine.bias = p.bias + gi * s.padded;
      mine.c = p.y + (m0 * s.o + gi * s.og) * element;
      me.multiplier = p.multiplier + gi * s.padded;
      me.residual = p.residual ? p.residual + m0 * s.o + gi * s.og : nullptr;
      qgemm_run_units(mine, split, u0, u1);
      b += u1 - u0;
    }
  });
}

void pad(const OpContext& c, const State& s, const ConvPadding& padding, const uint8_t* x, uint8_t* to) {
  const int64_t line = padding.width * s.g.c * s.multiplier;
  c.parallel(padding.depth * padding.height, 1 + 32768 / (line + 1),
             [&](int64_t b, int64_t e, int) { qpad_rows(s.g, padding, x, s.zero, s.multiplier, to + b * line, b, e); });
}

void run_depthwise(const OpContext& c, const State& s, const Pointers& p, uint8_t* image) {
  const ConvGeometry& g = s.g;
  const ConvPadding padding(&g);
  const int64_t in = g.in[0] * g.in[1] * g.in[2] * g.c, pixel = s.o, line = padding.width * pixel;
  const bool strips = s.lines < g.out[1];
  QEpilogue e = s.e;
  e.multiplier = p.multiplier;
  for (int64_t n = 0; n < g.n; ++n) {
    const uint8_t* x = p.x + n * in;
    if (!strips) pad(c, s, padding, x, image);
    uint8_t* y = reinterpret_cast<uint8_t*>(p.y) + n * g.pixels() * s.o;
    c.parallel(g.out[0] * g.out[1], 1 + 100000 / (g.out[2] * s.o * g.taps() + 1),
               [&](int64_t b, int64_t end, int lane) {
                 int64_t at[kMaxKernelRows];
                 for (int64_t kz = 0; kz < g.kernel[0]; ++kz)
                   for (int64_t ky = 0; ky < g.kernel[1]; ++ky)
                     at[kz * g.kernel[1] + ky] = (kz * g.dilation[0] * padding.height + ky * g.dilation[1]) * line;
                 QDepthwiseStrip t;
                 t.x_flip = s.x.flip;
                 t.rows = g.kernel[0] * g.kernel[1];
                 t.row_at = at;
                 t.kernel = g.kernel[2];
                 t.tap_step = g.dilation[2] * pixel;
                 t.step = g.stride[2] * pixel;
                 t.line_step = g.stride[1] * line;
                 t.out = g.out[2];
                 t.c = s.o;
                 t.weight = p.weights;
                 t.bias = p.bias;
                 t.e = &e;
                 uint8_t* mine = strips ? image + lane * s.image : image;
                 while (b < end) {
                   const int64_t z = b / g.out[1], first = b % g.out[1];
                   t.lines = g.out[1] - first < end - b ? g.out[1] - first : end - b;
                   if (t.lines > s.lines) t.lines = s.lines;
                   t.x = image + (z * g.stride[0] * padding.height + first * g.stride[1]) * line;
                   if (strips) {
                     const int64_t r0 = first * g.stride[1];
                     const int64_t r1 = r0 + (t.lines - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
                     qpad_rows(g, padding, x, s.zero, s.multiplier, mine, r0, r1);
                     t.x = mine;
                   }
                   t.y = y + b * g.out[2] * s.o;
                   s.depthwise->strip(&t);
                   b += t.lines;
                 }
               });
  }
}

void run_direct(const OpContext& c, const State& s, const Pointers& p, bool is_signed, int32_t* acc_all) {
  const ConvGeometry& g = s.g;
  const int64_t pixels = g.pixels(), taps = g.taps(), element = s.e.floats ? 4 : 1;
  const int32_t zero = is_signed ? static_cast<int8_t>(s.zero) : s.zero;
  const int8_t* weight = c.in(kWeight)->as<int8_t>();
  QEpilogue e = s.e;
  e.multiplier = p.multiplier;
  e.residual = p.residual;
  e.ldr = s.o;
  c.parallel(g.n * pixels, 1 + 100000 / (taps * s.cg * s.o + 1), [&](int64_t b, int64_t end, int lane) {
    int32_t* acc = acc_all + lane * s.padded;
    for (int64_t i = b; i < end; ++i) {
      const int64_t n = i / pixels, pixel = i % pixels;
      const int64_t at[3] = {pixel / (g.out[1] * g.out[2]), pixel / g.out[2] % g.out[1], pixel % g.out[2]};
      memcpy(acc, p.bias, static_cast<size_t>(s.padded) * 4);
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t k[3] = {t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1], t % g.kernel[2]};
        int64_t from = n;
        bool inside = true;
        for (int d = 0; d < 3; ++d) {
          const int64_t q = at[d] * g.stride[d] - g.before[d] + k[d] * g.dilation[d];
          inside = inside && q >= 0 && q < g.in[d];
          from = from * g.in[d] + q;
        }
        if (!inside) continue;
        for (int64_t o = 0; o < s.o; ++o) {
          const uint8_t* a = p.x + from * g.c + o / s.og * s.cg;
          const int8_t* v = weight + (o * taps + t) * s.cg;
          uint32_t sum = static_cast<uint32_t>(acc[o]);
          for (int64_t q = 0; q < s.cg; ++q)
            sum += static_cast<uint32_t>(((is_signed ? static_cast<int8_t>(a[q]) : a[q]) - zero) * v[q]);
          acc[o] = static_cast<int32_t>(sum);
        }
      }
      const QGemmFinish f = {acc, s.padded, 1, static_cast<int>(s.o), i, 0, p.y + i * s.o * element, s.o, &e};
      s.gemm->finish(&f);
    }
  });
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  char* scratch = static_cast<char*>(c.scratch());
  const char* packed = s.packed;
  if (!packed) {
    DK_TRY(expect_multipliers(c, *c.in(kMultiplier)));
    make_parts(c, s, scratch + s.packed_at);
    packed = scratch + s.packed_at;
  }
  Pointers p;
  p.x = c.in(kX)->as<uint8_t>();
  p.weights = reinterpret_cast<const int8_t*>(packed + s.parts.weights);
  p.bias = reinterpret_cast<const int32_t*>(packed + s.parts.bias);
  p.multiplier = reinterpret_cast<const float*>(packed + s.parts.multiplier);
  p.residual = c.in(kAdded) ? c.in(kAdded)->as<uint8_t>() : nullptr;
  p.y = y.as<char>();
  const ConvGeometry& g = s.g;
  uint8_t* image = reinterpret_cast<uint8_t*>(scratch + s.image_at);
  switch (s.algorithm) {
    case Algorithm::pointwise: run_gemm(c, s, p, QGemmMatrix(p.x, g.c), 0, g.n * g.pixels()); break;
    case Algorithm::taps: run_gemm(c, s, p, QConvTaps(&g, p.x, s.zeros), 0, g.n * g.pixels()); break;
    case Algorithm::runs: {
      if (s.in_lines) {
        run_gemm(c, s, p, QConvTaps(&g, p.x, nullptr), 0, g.n * g.pixels());
        break;
      }
      const ConvPadding padding(&g);
      for (int64_t n = 0; n < g.n; ++n) {
        pad(c, s, padding, p.x + n * g.in[0] * g.in[1] * g.in[2] * g.c, image);
        run_gemm(c, s, p, QConvRuns(&g, image, padding.height, padding.width), n * g.pixels(), g.pixels());
      }
      break;
    }
    case Algorithm::depthwise: run_depthwise(c, s, p, image); break;
    case Algorithm::direct:
      run_direct(c, s, p, c.in(kX)->dtype == DType::s8, reinterpret_cast<int32_t*>(scratch + s.acc_at));
  }
  return Code::ok;
}

const OpDef kDefs[] = {
    // in the residual's memory: an element of it is read before that of the result is written, and by the same thread
    {Opcode::qconv_, infer, prepare, run, 1u << kAdded},
};

}  // namespace

const OpList ops_qconv = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
