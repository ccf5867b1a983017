// matmul_weight_only: weights stay narrow in memory.  Up to four rows read them directly; more rows widen one panel at
// a time, which then serves all of them through the GEMM core.
#include <cstring>

#include "base/convert.h"
#include "base/mem.h"
#include "kernels/widen/widen.h"
#include "ops/epilogue.h"

namespace dk {
extern const OpList ops_weight_only;

namespace {

namespace A = attr::matmul_weight_only_;
constexpr ActivationAttrs kAct = {A::act, A::act_alpha, A::act_beta, A::act_after};
enum Input { kX, kWeight, kScale, kZero, kBias, kAdded };
constexpr int kMaxPanel = 64;  // columns of the widest panel (48), rounded up

size_t up(size_t n) { return (n + kSlack + 63) / 64 * 64; }

struct State {
  int64_t m, k, n, block, blocks;
  bool turned;
  Narrow type;
  Activation act;
  const GemmKernels* gemm;
  const WidenKernels* widen;
  GemmLayout layout;
  GemmEpilogue epilogue;
  size_t weight_bytes, scale_bytes;
  const char* packed;  // weights, scales, zero points, bias
  size_t packed_at, panel_at, sums_at;
};

bool is_four(DType t) { return t == DType::s4 || t == DType::u4; }
bool is_half(DType t) { return t == DType::f16 || t == DType::bf16; }

// Blocks of k numbers; block 0 means one for all.
int64_t blocks_of(int64_t k, int64_t block) { return block ? k / block + (k % block != 0) : 1; }

Status infer(OpContext& c) {
  const Tensor &x = *c.in(kX), &w = *c.in(kWeight);
  const Tensor *scale = c.in(kScale), *zero = c.in(kZero);
  const bool turned = c.attr_int(A::transpose_b);
  const int64_t block = c.attr_int(A::block_size);
  constexpr int kFloats[] = {kX, kBias, kAdded};
  for (int i : kFloats)
    if (c.in(i) && c.in(i)->dtype != DType::f32)
      return c.fail(Code::shape, "input %d has dtype %s; expected float32", i, dtype_name(c.in(i)->dtype));
  if (scale ? !is_four(w.dtype) && w.dtype != DType::s8 && w.dtype != DType::u8 : !is_half(w.dtype))
    return c.fail(Code::shape, "weight has dtype %s; expected %s", dtype_name(w.dtype),
                  scale ? "int8, uint8, int4 or uint4" : "float16 or bfloat16 without a scale");
  if (x.rank < 2 || w.rank != 2)
    return c.fail(Code::shape, "x has rank %d and weight %d; expected 2 or more, and 2", x.rank, w.rank);
  const int64_t k = w.dims[turned ? 1 : 0], n = w.dims[turned ? 0 : 1];
  if (x.dims[x.rank - 1] != k)
    return c.fail(Code::shape, "inner sizes differ: %lld and %lld", static_cast<long long>(x.dims[x.rank - 1]),
                  static_cast<long long>(k));
  if (block < 0 || (!scale && (zero || block)))
    return c.fail(Code::shape, "block_size is %lld%s", static_cast<long long>(block),
                  scale ? "" : ", but there is no scale");
  if (scale) {
    if (scale->dtype != DType::f32 && scale->dtype != DType::f16)
      return c.fail(Code::shape, "scale has dtype %s; expected float32 or float16", dtype_name(scale->dtype));
    if (zero && zero->dtype != w.dtype)
      return c.fail(Code::shape, "zero_point has dtype %s; expected that of weight, %s", dtype_name(zero->dtype),
                    dtype_name(w.dtype));
    const int64_t one = 1, blocks = blocks_of(k, block);
    const int64_t grid[2] = {turned ? n : blocks, turned ? blocks : n};
    const Tensor* const both[] = {scale, zero};
    for (const Tensor* t : both) {
      const char* what = t == scale ? "scale" : "zero_point";
      if (!t || t->rank == 0) continue;
      if (block && t->rank == 2)
        DK_TRY(expect_dims(c, what, t, 2, grid));
      else
        DK_TRY(expect_dims(c, what, t, 1, block || t->dims[0] == 1 ? &one : &n));
    }
    if (zero && zero->count() != scale->count()) return c.fail(Code::shape, "scale and zero_point differ in shape");
  }
  int64_t dims[kMaxRank];
  for (int i = 0; i < x.rank; ++i) dims[i] = x.dims[i];
  dims[x.rank - 1] = n;
  DK_TRY(expect_dims(c, "bias", c.in(kBias), 1, &n));
  DK_TRY(expect_dims(c, "residual", c.in(kAdded), x.rank, dims));
  return c.set_out(0, DType::f32, x.rank, dims);
}

struct Parts {
  uint8_t* weights;
  float *scale, *zero, *bias;
};

Parts parts_of(const State& s, char* p) {
  Parts t;
  t.weights = reinterpret_cast<uint8_t*>(p);
  t.scale = reinterpret_cast<float*>(p += up(s.weight_bytes));
  t.zero = reinterpret_cast<float*>(p += up(s.scale_bytes));
  t.bias = reinterpret_cast<float*>(p += up(s.scale_bytes));
  return t;
}

int64_t panel_bytes(const State& s, int64_t columns) {
  return s.type == Narrow::u4 ? (s.k + 1) / 2 * columns : s.k * columns * (s.type == Narrow::s8 ? 1 : 2);
}

// Everything that depends on weight, scale, zero_point and bias.
void make_parts(const OpContext& c, const State& s, char* to) {
  const Parts t = parts_of(s, to);
  const Tensor& w = *c.in(kWeight);
  const Tensor *scale = c.in(kScale), *zero = c.in(kZero), *bias = c.in(kBias);
  memset(t.weights, 0, up(s.weight_bytes) + 2 * up(s.scale_bytes));
  memset(t.bias, 0, static_cast<size_t>(s.layout.padded()) * 4);
  if (bias) memcpy(t.bias, bias->data, static_cast<size_t>(s.n) * 4);
  const uint8_t* from = w.as<uint8_t>();
  const int64_t row = s.turned ? 1 : s.n, col = s.turned ? s.k : 1;
  // Unsigned bytes become signed ones, signed 4-bit numbers unsigned ones; zero points move along.
  const uint8_t flip = w.dtype == DType::u8 ? 0x80 : 0;
  const int shift = w.dtype == DType::s4 ? 8 : 0;
  const float moved = w.dtype == DType::u8 ? -128.0f : w.dtype == DType::s4 ? 8.0f : 0.0f;
  c.parallel(s.layout.count(), 1, [&](int64_t p0, int64_t p1, int) {
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t first = s.layout.column(p), n = s.layout.columns(p), nr = s.layout.shape(p).nr;
      uint8_t* d = t.weights + panel_bytes(s, first);
      for (int64_t k = 0; k < s.k; ++k)
        for (int64_t j = 0; j < n; ++j) {
          const int64_t at = k * row + (first + j) * col;
          if (s.type == Narrow::s8)
            d[k * nr + j] = from[at] ^ flip;
          else if (s.type == Narrow::u4)
            d[k / 2 * nr + j] |= static_cast<uint8_t>(((from[at] + shift) & 15) << (k % 2 * 4));
          else
            memcpy(d + (k * nr + j) * 2, from + at * 2, 2);
        }
      if (!scale || s.k == 0) continue;
      for (int64_t b = 0; b < s.blocks; ++b)
        for (int64_t j = 0; j < nr; ++j) {
          const int64_t to_at = first * s.blocks + b * nr + j;
          if (j >= n) continue;
          const bool grid = s.block && scale->rank == 2;
          const int64_t at = scale->count() == 1 ? 0
                             : grid              ? s.turned ? (first + j) * s.blocks + b : b * s.n + first + j
                                                 : first + j;
          convert(scale->dtype, scale->as<char>() + at * static_cast<int64_t>(dtype_size(scale->dtype)), DType::f32,
                  t.scale + to_at, 1);
          float z = 0;
          if (zero) convert(zero->dtype, zero->as<char>() + at, DType::f32, &z, 1);
          t.zero[to_at] = z + moved;
        }
    }
  });
}

Status prepare(OpContext& c) {
  const Tensor& w = *c.in(kWeight);
  State* state;
  DK_TRY(c.make_state(&state));
  State& s = *state;
  if (c.out(0)->count() == 0) return Code::ok;
  s.turned = c.attr_int(A::transpose_b);
  s.k = w.dims[s.turned ? 1 : 0];
  s.n = w.dims[s.turned ? 0 : 1];
  s.m = c.out(0)->count() / s.n;
  s.block = c.attr_int(A::block_size);
  s.blocks = s.k ? blocks_of(s.k, s.block) : 1;
  if (s.block > s.k) s.block = s.k;
  s.type = is_four(w.dtype)         ? Narrow::u4
           : w.dtype == DType::f16  ? Narrow::f16
           : w.dtype == DType::bf16 ? Narrow::bf16
                                    : Narrow::s8;
  s.act = activation_of(c, kAct);
  s.gemm = gemm_kernels();
  s.widen = widen_kernels();
  s.layout = gemm_layout(s.gemm, s.k, s.n);
  s.epilogue = GemmEpilogue{};
  s.epilogue.residual_first = s.act.after;
  gemm_set_activation(&s.epilogue, s.act.kind, s.act.alpha, s.act.beta);
  s.weight_bytes = static_cast<size_t>(panel_bytes(s, s.layout.padded()));
  s.scale_bytes = static_cast<size_t>(s.blocks * s.layout.padded()) * 4;
  c.note(s.m == 1 ? "narrow_row" : "widened",
         static_cast<uint64_t>(2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k)));
  const size_t bytes = up(s.weight_bytes) + 2 * up(s.scale_bytes) + up(static_cast<size_t>(s.layout.padded()) * 4);
  ScratchPlan scratch;
  bool fixed = true;
  for (int i = kWeight; i <= kBias; ++i) fixed = fixed && (!c.in(i) || c.is_const(i));
  if (fixed) {
    void* p;
    bool fresh;
    DK_TRY(c.packed(0x100u | static_cast<uint32_t>(s.layout.main.nr), bytes, &p, &fresh));
    s.packed = static_cast<const char*>(p);
    if (fresh) make_parts(c, s, static_cast<char*>(p));
  } else {
    s.packed_at = scratch.take(static_cast<int64_t>(bytes / 4 + 1));
  }
  if (s.m == 1) s.sums_at = scratch.take(s.blocks);
  if (s.m > 1) s.panel_at = scratch.take(c.threads() * round_up(s.k * kMaxPanel + 16, 16));
  return c.need_scratch(scratch.bytes);
}

// One row of one panel, then the epilogue on it.
void one_row(const State& s, const WidenPanel& p, int64_t panel, const float* x, const float* residual,
             const float* bias, float* y) {
  const int64_t column = s.layout.column(panel), n = s.layout.columns(panel);
  float part[kMaxPanel];
  s.widen->row(s.type, &p, x, bias + column, part);
  memcpy(y + column, part, static_cast<size_t>(n) * 4);
  if (!s.act.kind && !residual) return;
  GemmFinish f = {};
  f.c = y + column;
  f.ldc = f.ldr = s.n;
  f.m = 1;
  f.n = static_cast<int>(n);
  f.scale = 1.0f;
  f.act = s.act.kind;
  f.alpha = s.act.alpha;
  f.beta = s.act.beta;
  f.residual = residual ? residual + column : nullptr;
  f.residual_first = s.act.after;
  s.gemm->finish(&f);
}

// All rows of one panel through the GEMM core.
void many_rows(const State& s, const WidenPanel& p, int64_t panel, const float* x, const float* residual,
               const float* bias, float* y, float* room) {
  const int64_t column = s.layout.column(panel);
  s.widen->panel(s.type, &p, room);
  GemmLayout one;
  one.n = s.layout.columns(panel);
  one.rows = s.k;
  one.main = one.last = s.layout.shape(panel);
  one.panels = one.n == one.main.nr ? 1 : 0;
  one.has_last = one.panels == 0;
  GemmEpilogue e = s.epilogue;
  e.bias = bias + column;
  e.residual = residual ? residual + column : nullptr;
  e.ldr = s.n;
  const GemmMatrix rows(x, s.k);
  GemmProblem problem = {};
  problem.kernels = s.gemm;
  problem.layout = &one;
  problem.m = s.m;
  problem.taps = 1;
  problem.k = s.k;
  problem.rows = &rows;
  problem.packed = room;
  problem.c = y + column;
  problem.ldc = s.n;
  problem.epilogue = &e;
  gemm_run(problem, 0, s.m, 0, 1);
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  char* scratch = static_cast<char*>(c.scratch());
  char* packed = const_cast<char*>(s.packed);
  if (!packed) {
    packed = scratch + s.packed_at;
    make_parts(c, s, packed);
  }
  const Parts t = parts_of(s, packed);
  const float* x = c.in(kX)->as<float>();
  const float* residual = c.in(kAdded) ? c.in(kAdded)->as<float>() : nullptr;
  float* rooms = reinterpret_cast<float*>(scratch + s.panel_at);
  const int64_t room = round_up(s.k * kMaxPanel + 16, 16);
  float* sums = reinterpret_cast<float*>(scratch + s.sums_at);
  for (int64_t b = 0; s.m == 1 && b < s.blocks; ++b) {
    const int64_t k0 = b * s.block, k1 = s.block && k0 + s.block < s.k ? k0 + s.block : s.k;
    float part[8] = {};
    int64_t i = k0;
    for (; i + 8 <= k1; i += 8)
      for (int u = 0; u < 8; ++u) part[u] += x[i + u];
    for (; i < k1; ++i) part[0] += x[i];
    sums[b] = ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
  }
  const int64_t work = s.k * s.layout.main.nr * s.m;
  c.parallel(s.layout.count(), 1 + 40000 / (work + 1), [&](int64_t p0, int64_t p1, int lane) {
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t column = s.layout.column(p);
      WidenPanel panel;
      panel.panel = t.weights + panel_bytes(s, column);
      panel.k = s.k;
      panel.block = s.block ? s.block : s.k > 0 ? s.k : 1;
      panel.scale = c.in(kScale) ? t.scale + column * s.blocks : nullptr;
      panel.sums = sums;
      panel.zero = t.zero + column * s.blocks;
      panel.nv = s.layout.shape(p).nr / s.gemm->narrow.nr;
      if (s.m == 1)
        one_row(s, panel, p, x, residual, t.bias, y.as<float>());
      else
        many_rows(s, panel, p, x, residual, t.bias, y.as<float>(), rooms + lane * room);
    }
  });
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::matmul_weight_only_, infer, prepare, run},
};

}  // namespace

const OpList ops_weight_only = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
