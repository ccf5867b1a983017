// conv_integer: 8-bit operands less their zero points, sums in int32.  Plain loops over int16 copies.
#include "ops/epilogue.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_conv_integer;

namespace {

constexpr WindowAttrs kWindow = {attr::conv_integer_::strides, attr::conv_integer_::dilations,
                                 attr::conv_integer_::pads, attr::conv_integer_::pad_mode};

struct State {
  Window w;
  int64_t n, c, o, groups;
  size_t x_at, weight_at;
};

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
  ScratchPlan scratch;
  s->x_at = scratch.take((x.count() + 1) / 2);
  s->weight_at = scratch.take((weight.count() + 1) / 2);
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
  char* scratch = static_cast<char*>(c.scratch());
  int16_t* x = reinterpret_cast<int16_t*>(scratch + s.x_at);
  int16_t* weight = reinterpret_cast<int16_t*>(scratch + s.weight_at);
  shift(c, *c.in(0), c.in(2), x);
  shift(c, *c.in(1), c.in(3), weight);
  const int64_t pixels = w.out_size(), taps = w.kernel_size(), cg = s.c / s.groups, og = s.o / s.groups;
  int32_t* out = y.as<int32_t>();
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
