// conv_integer: 8-bit operands less their zero points, sums in int32.  Constant weights run on the 8-bit GEMM core,
// zero points by way of sums of rows and columns; all else is plain loops over int16 copies.
#include <cstring>

#include "kernels/qgemm/qrows.h"
#include "ops/q_util.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_conv_integer;

namespace {

constexpr WindowAttrs kWindow = {attr::conv_integer_::strides, attr::conv_integer_::dilations,
                                 attr::conv_integer_::pads, attr::conv_integer_::pad_mode};

struct State {
  Window w;
  int64_t n, c, o, groups;
  size_t x_at, weight_at, by_tap_at;
  // On the GEMM core:
  bool fast;
  ConvGeometry g;
  const QGemmKernels* gemm;
  QGemmLayout layout;  // of one group
  const int8_t* packed;
  const int32_t *sums, *column_zero;  // groups * layout.padded()
  bool shifted;                       // some column has a zero point
  size_t bias_at, zeros_at, row_at;
};

// Whether the weights run on the GEMM core: constant, and more than one channel per group.
bool fits_core(const OpContext& c, const State& s) {
  return c.is_const(1) && (!c.in(3) || c.is_const(3)) && s.c > s.groups && s.w.kernel_size() <= kQGemmMaxPointers;
}

Status prepare_fast(OpContext& c, State& s) {
  const Tensor &weight = *c.in(1), *zero = c.in(3);
  const uint8_t flip = weight.dtype == DType::u8 ? 0x80 : 0;  // packed as signed bytes, 128 lower
  const int64_t cg = s.c / s.groups, og = s.o / s.groups, taps = s.w.kernel_size();
  s.fast = true;
  s.g.n = s.n;
  s.g.c = s.c;
  for (int d = 0; d < 3; ++d) {
    s.g.in[d] = s.w.in[d];
    s.g.kernel[d] = s.w.kernel[d];
    s.g.out[d] = s.w.out[d];
    s.g.stride[d] = s.w.stride[d];
    s.g.dilation[d] = s.w.dilation[d];
    s.g.before[d] = s.w.before[d];
  }
  s.gemm = qgemm_kernels();
  s.layout = qgemm_layout(s.gemm, taps, cg, og);
  const int64_t padded = s.layout.padded(), weights = round_up(static_cast<int64_t>(s.layout.bytes()) * s.groups, 64);
  void* p;
  bool fresh;
  DK_TRY(c.packed(0x100, static_cast<size_t>(weights + 2 * s.groups * padded * 4) + kSlack, &p, &fresh));
  int8_t* packed = static_cast<int8_t*>(p);
  int32_t* sums = reinterpret_cast<int32_t*>(packed + weights);
  int32_t* zeros = sums + s.groups * padded;  // less the weight's zero point, per column
  s.packed = packed;
  s.sums = sums;
  s.column_zero = zeros;
  for (int64_t i = 0; i < s.o; ++i) {
    const int64_t at = !zero ? 0 : zero->count() == 1 ? 0 : i;
    const int32_t z = !zero ? 0 : zero->dtype == DType::s8 ? zero->as<int8_t>()[at] : zero->as<uint8_t>()[at];
    const int32_t less = (flip ? 128 : 0) - z;
    if (fresh) zeros[i / og * padded + i % og] = less;
    if (less) s.shifted = true;
  }
  for (int64_t gi = 0; fresh && gi < s.groups; ++gi) {
    const QGemmSource from = {weight.as<uint8_t>() + gi * og * taps * cg, cg, 1, taps * cg, flip};
    qgemm_pack(s.layout, from, packed + static_cast<size_t>(gi) * s.layout.bytes(), sums + gi * padded, 0,
               s.layout.count());
  }
  c.note("q_taps",
         static_cast<uint64_t>(2.0 * static_cast<double>(c.out(0)->count()) * static_cast<double>(taps * cg)));
  ScratchPlan scratch;
  s.bias_at = scratch.take(s.groups * padded);
  s.zeros_at = scratch.take(s.c / 4 + 1);
  if (s.shifted) s.row_at = scratch.take(s.groups * s.n * s.g.pixels());
  return c.need_scratch(scratch.bytes);
}

// Per group, the sum of x - zero under the window of every output pixel.
void sum_rows(const OpContext& c, const State& s, const QConvTaps& rows, int32_t zero, int32_t* to) {
  const int64_t m = s.n * s.g.pixels(), cg = s.c / s.groups, taps = s.layout.taps;
  const bool is_signed = c.in(0)->dtype == DType::s8;
  const int64_t block = kQGemmMaxPointers / taps;
  c.parallel((m + block - 1) / block, 1, [&](int64_t b, int64_t end, int) {
    const uint8_t* pointers[kQGemmMaxPointers];
    for (; b < end; ++b) {
      const int64_t m0 = b * block, n = m - m0 < block ? m - m0 : block;
      rows.fill(&rows, m0, n, pointers, n);
      for (int64_t gi = 0; gi < s.groups; ++gi)
        for (int64_t i = 0; i < n; ++i) {
          int32_t sum = 0;
          for (int64_t t = 0; t < taps; ++t) {
            const uint8_t* p = pointers[t * n + i] + gi * cg;
            if (is_signed)
              for (int64_t q = 0; q < cg; ++q) sum += static_cast<int8_t>(p[q]);
            else
              for (int64_t q = 0; q < cg; ++q) sum += p[q];
          }
          to[gi * m + m0 + i] = sum - static_cast<int32_t>(taps * cg) * zero;
        }
    }
  });
}

void run_fast(const OpContext& c, const State& s) {
  const Tensor& x = *c.in(0);
  char* scratch = static_cast<char*>(c.scratch());
  int32_t* bias = reinterpret_cast<int32_t*>(scratch + s.bias_at);
  uint8_t* zeros = reinterpret_cast<uint8_t*>(scratch + s.zeros_at);
  const uint8_t byte = c.in(2) ? *c.in(2)->as<uint8_t>() : 0;
  const QOperand a = operand_of(x.dtype, x.dtype == DType::s8 ? static_cast<int8_t>(byte) : byte, s.gemm->a_signed);
  const int64_t padded = s.layout.padded(), cg = s.c / s.groups, og = s.o / s.groups;
  fold_zero_point(nullptr, s.sums, a.zero, s.groups * padded, bias);
  memset(zeros, byte, static_cast<size_t>(s.c));
  QEpilogue e;
  e.ints = true;
  const QConvTaps rows(&s.g, x.as<uint8_t>(), zeros);
  QGemmProblem problem = {};
  problem.kernels = s.gemm;
  problem.layout = &s.layout;
  problem.m = s.n * s.g.pixels();
  problem.rows = &rows;
  problem.a_flip = a.flip;
  problem.ldc = s.o;
  problem.epilogue = &e;
  int32_t* row_sums = s.shifted ? reinterpret_cast<int32_t*>(scratch + s.row_at) : nullptr;
  if (row_sums) sum_rows(c, s, rows, x.dtype == DType::s8 ? static_cast<int8_t>(byte) : byte, row_sums);
  const QGemmSplit split = qgemm_split(problem, c.threads());
  c.parallel(s.groups * split.units, split.grain, [&](int64_t b, int64_t end, int) {
    QGemmProblem mine = problem;
    QEpilogue me = e;
    mine.epilogue = &me;
    while (b < end) {
      const int64_t gi = b / split.units, u0 = b - gi * split.units;
      const int64_t u1 = split.units < u0 + (end - b) ? split.units : u0 + (end - b);
      mine.a_shift = gi * cg;
      mine.packed = s.packed + static_cast<size_t>(gi) * s.layout.bytes();
      mine.bias = bias + gi * padded;
      if (row_sums) {
        me.row_sum = row_sums + gi * problem.m;
        me.column_zero = s.column_zero + gi * padded;
      }
      mine.c = c.out(0)->as<int32_t>() + gi * og;
      qgemm_run_units(mine, split, u0, u1);
      b += u1 - u0;
    }
  });
}

Status infer(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  for (int i = 0; i < 2; ++i) {
    const Tensor &t = *c.in(i), *zero = c.in(2 + i);
    const char* what = i ? "weight" : "x";
    if (t.dtype != DType::s8 && t.dtype != DType::u8)
      return c.fail(Code::shape, "%s has dtype %s; expected int8 or uint8", what, dtype_name(t.dtype));
    if (zero && zero->dtype != t.dtype)
      return c.fail(Code::shape, "%s and its zero point differ in dtype; got %s and %s", what, dtype_name(t.dtype),
                    dtype_name(zero->dtype));
  }
  if (x.rank < 3 || x.rank > 5 || weight.rank != x.rank)
    return c.fail(Code::shape, "ranks of x and weight are %d and %d; expected the same, 3 to 5", x.rank, weight.rank);
  const int64_t groups = c.attr_int(attr::conv_integer_::groups), channels = x.dims[x.rank - 1];
  const int64_t cg = weight.dims[x.rank - 1], o = weight.dims[0];
  if (groups < 1 || channels % groups || channels / groups != cg || o % groups)
    return c.fail(Code::shape, "channels do not fit: x has %lld, weight makes %lld of %lld, in %lld groups",
                  static_cast<long long>(channels), static_cast<long long>(o), static_cast<long long>(cg),
                  static_cast<long long>(groups));
  if (c.in(2) && c.in(2)->count() != 1)
    return c.fail(Code::shape, "x_zero_point has %lld numbers; expected 1", static_cast<long long>(c.in(2)->count()));
  if (c.in(3) && c.in(3)->count() != 1 && c.in(3)->count() != o)
    return c.fail(Code::shape, "weight_zero_point has %lld numbers; expected 1 or %lld",
                  static_cast<long long>(c.in(3)->count()), static_cast<long long>(o));
  Window w;
  DK_TRY(window_of(c, kWindow, x.rank - 2, x.dims + 1, weight.dims + 1, &w));
  int64_t dims[kMaxRank];
  dims[0] = x.dims[0];
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  dims[x.rank - 1] = o;
  return c.set_out(0, DType::s32, x.rank, dims);
}

Status prepare(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  State* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(window_of(c, kWindow, x.rank - 2, x.dims + 1, weight.dims + 1, &s->w));
  s->n = x.dims[0];
  s->c = x.dims[x.rank - 1];
  s->o = weight.dims[0];
  s->groups = c.attr_int(attr::conv_integer_::groups);
  if (c.out(0)->count() > 0 && fits_core(c, *s)) return prepare_fast(c, *s);
  ScratchPlan scratch;
  s->x_at = scratch.take((x.count() + 1) / 2);
  s->weight_at = scratch.take((weight.count() + 1) / 2);
  s->by_tap_at = scratch.take((weight.count() + 1) / 2);
  return c.need_scratch(scratch.bytes);
}

int16_t get(const Tensor& t, int64_t i) { return t.dtype == DType::s8 ? t.as<int8_t>()[i] : t.as<uint8_t>()[i]; }

// t - zero_point, which may be one number per leading index.
void shift(const OpContext& c, const Tensor& t, const Tensor* zero, int16_t* to) {
  const int64_t count = t.count(), zeros = zero ? zero->count() : 0;
  const int64_t per_zero = zeros > 1 ? count / zeros : count;
  c.parallel(count, 16384, [&, to](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i)
      to[i] = static_cast<int16_t>(get(t, i) - (zero ? get(*zero, zeros > 1 ? i / per_zero : 0) : 0));
  });
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  const Window& w = s.w;
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  if (s.fast) {
    run_fast(c, s);
    return Code::ok;
  }
  char* scratch = static_cast<char*>(c.scratch());
  int16_t* x = reinterpret_cast<int16_t*>(scratch + s.x_at);
  int16_t* weight = reinterpret_cast<int16_t*>(scratch + s.weight_at);
  shift(c, *c.in(0), c.in(2), x);
  shift(c, *c.in(1), c.in(3), weight);
  const int64_t pixels = w.out_size(), taps = w.kernel_size(), cg = s.c / s.groups, og = s.o / s.groups;
  int32_t* out = y.as<int32_t>();
  int16_t* by_tap = reinterpret_cast<int16_t*>(scratch + s.by_tap_at);
  if (cg == 1 && og == 1)  // depthwise: [taps][o]
    for (int64_t o = 0; o < s.o; ++o)
      for (int64_t t = 0; t < taps; ++t) by_tap[t * s.o + o] = weight[o * taps + t];
  c.parallel(s.n * pixels, 1 + 50000 / (taps * cg * s.o + 1), [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t pixel = i % pixels;
      const int64_t at[3] = {pixel / (w.out[1] * w.out[2]), pixel / w.out[2] % w.out[1], pixel % w.out[2]};
      uint32_t* to = reinterpret_cast<uint32_t*>(out + i * s.o);  // sums wrap
      for (int64_t o = 0; o < s.o; ++o) to[o] = 0;
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t k[3] = {t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1], t % w.kernel[2]};
        int64_t from = i / pixels;
        bool inside = true;
        for (int d = 0; d < 3; ++d) {
          const int64_t p = at[d] * w.stride[d] - w.before[d] + k[d] * w.dilation[d];
          inside = inside && p >= 0 && p < w.in[d];
          from = from * w.in[d] + p;
        }
        if (!inside) continue;
        if (cg == 1 && og == 1) {
          const int16_t *a = x + from * s.c, *v = by_tap + t * s.o;
          for (int64_t o = 0; o < s.o; ++o) to[o] += static_cast<uint32_t>(a[o] * v[o]);
          continue;
        }
        for (int64_t o = 0; o < s.o; ++o) {
          const int16_t *a = x + from * s.c + o / og * cg, *v = weight + (o * taps + t) * cg;
          int32_t sum = 0;  // of at most cg products of 9-bit numbers: exact up to 32,000 channels, then it wraps
          for (int64_t q = 0; q < cg; ++q)
            sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(a[q] * v[q]));
          to[o] += static_cast<uint32_t>(sum);
        }
      }
    }
  });
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::conv_integer_, infer, prepare, run},
};

}  // namespace

const OpList ops_conv_integer = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
