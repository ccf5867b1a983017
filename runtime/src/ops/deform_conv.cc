// deform_conv: samples the input at the shifted positions of one output row, then multiplies on the GEMM core.
#include <cmath>

#include "base/mem.h"
#include "kernels/gemm/gemm.h"
#include "ops/epilogue.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_deform_conv;

namespace {

constexpr WindowAttrs kWindow = {attr::deform_conv_::strides, attr::deform_conv_::dilations, attr::deform_conv_::pads};

struct State {
  Window w;
  int64_t n, c, o, groups, offset_groups, cg, og;
  bool convert;
  const GemmKernels* gemm;
  GemmLayout layout;  // of one group
  const float* packed;
  // Bytes into scratch.
  size_t x_at, weight_at, offset_at, bias_at, mask_at, y_at, packed_at, columns_at, columns_size;
};

Status infer(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x has dtype %s; expected a float", dtype_name(x.dtype));
  DK_TRY(expect_dtype(c, "weight", &weight));
  DK_TRY(expect_dtype(c, "offset", c.in(2)));
  DK_TRY(expect_dtype(c, "bias", c.in(3)));
  DK_TRY(expect_dtype(c, "mask", c.in(4)));
  if (x.rank != 4 || weight.rank != 4)
    return c.fail(Code::shape, "ranks of x and weight are %d and %d; expected 4", x.rank, weight.rank);
  const int64_t groups = c.attr_int(attr::deform_conv_::groups);
  const int64_t offset_groups = c.attr_int(attr::deform_conv_::offset_groups);
  const int64_t channels = x.dims[3], o = weight.dims[0];
  if (groups < 1 || channels % groups || channels / groups != weight.dims[3] || o % groups)
    return c.fail(Code::shape, "channels do not fit: x has %lld, weight makes %lld of %lld, in %lld groups",
                  static_cast<long long>(channels), static_cast<long long>(o), static_cast<long long>(weight.dims[3]),
                  static_cast<long long>(groups));
  if (offset_groups < 1 || offset_groups > INT32_MAX || channels % offset_groups)
    return c.fail(Code::shape, "offset_groups is %lld; expected a divisor of %lld channels",
                  static_cast<long long>(offset_groups), static_cast<long long>(channels));
  Window w;
  DK_TRY(window_of(c, kWindow, 2, x.dims + 1, weight.dims + 1, &w));
  if (w.kernel_size() > kGemmMaxPointers)
    return c.fail(Code::unsupported, "the kernel has %lld positions; expected at most %d",
                  static_cast<long long>(w.kernel_size()), kGemmMaxPointers);
  const int64_t dims[4] = {x.dims[0], w.out[1], w.out[2], o};
  int64_t points = 0;
  if (__builtin_mul_overflow(w.kernel_size(), 2 * offset_groups, &points))
    return c.fail(Code::shape, "the kernel is too large");
  int64_t want[4] = {dims[0], dims[1], dims[2], points};
  DK_TRY(expect_dims(c, "offset", c.in(2), 4, want));
  want[3] = points / 2;
  DK_TRY(expect_dims(c, "mask", c.in(4), 4, want));
  DK_TRY(expect_dims(c, "bias", c.in(3), 1, &o));
  return c.set_out(0, x.dtype, 4, dims);
}

void pack_weights(const State& s, const float* weight, float* to) {
  for (int64_t g = 0; g < s.groups; ++g)
    gemm_pack(s.gemm, s.layout, to + g * s.layout.padded() * s.layout.rows, weight + g * s.og * s.layout.rows, 1,
              s.layout.rows, 0, s.layout.count());
}

Status prepare(OpContext& c) {
  const Tensor &x = *c.in(0), &weight = *c.in(1);
  State* state;
  DK_TRY(c.make_state(&state));
  State& s = *state;
  DK_TRY(window_of(c, kWindow, 2, x.dims + 1, weight.dims + 1, &s.w));
  s.n = x.dims[0];
  s.c = x.dims[3];
  s.o = weight.dims[0];
  s.groups = c.attr_int(attr::deform_conv_::groups);
  s.offset_groups = c.attr_int(attr::deform_conv_::offset_groups);
  s.cg = s.c / s.groups;
  s.og = s.o / s.groups;
  s.convert = x.dtype != DType::f32 && x.dtype != DType::f64;
  if (c.out(0)->count() == 0 || x.dtype == DType::f64) return Code::ok;
  s.gemm = gemm_kernels();
  s.layout = gemm_layout(s.gemm, s.w.kernel_size() * s.cg, s.og);
  ScratchPlan scratch;
  if (s.convert) {
    s.x_at = scratch.take(x.count());
    if (!c.is_const(1)) s.weight_at = scratch.take(weight.count());
    s.offset_at = scratch.take(c.in(2)->count());
    if (c.in(4)) s.mask_at = scratch.take(c.in(4)->count());
    s.y_at = scratch.take(c.out(0)->count());
  }
  s.bias_at = scratch.take(s.groups * s.layout.padded() + s.o);
  const int64_t packed = s.groups * s.layout.padded() * s.layout.rows;
  if (c.is_const(1)) {
    void* p;
    bool fresh;
    DK_TRY(c.packed(0x100u | static_cast<uint32_t>(s.gemm->main.nr), static_cast<size_t>(packed) * 4, &p, &fresh));
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
  // One row of samples, [ow, taps, c], for each thread.
  s.columns_at = scratch.take(0);
  ScratchPlan row;
  row.take(s.w.out[2] * s.w.kernel_size() * s.c);
  s.columns_size = row.bytes;
  return c.need_scratch(scratch.bytes + row.bytes * static_cast<size_t>(c.threads()));
}

// Bilinear sample of channels [c0, c1) of one image at (y, x), times `scale`; corners outside count as zero.
template <class T>
void sample(const State& s, const T* image, T y, T x, T scale, int64_t c0, int64_t c1, T* to) {
  const int64_t height = s.w.in[1], width = s.w.in[2];
  for (int64_t c = c0; c < c1; ++c) to[c] = 0;
  // Also false for NaN.
  if (!(y > -1 && y < static_cast<T>(height) && x > -1 && x < static_cast<T>(width))) return;
  const T fy = std::floor(y), fx = std::floor(x);
  const int64_t y0 = static_cast<int64_t>(fy), x0 = static_cast<int64_t>(fx);
  for (int64_t dy = 0; dy < 2; ++dy)
    for (int64_t dx = 0; dx < 2; ++dx) {
      const int64_t yi = y0 + dy, xi = x0 + dx;
      if (yi < 0 || yi >= height || xi < 0 || xi >= width) continue;
      const T weight = scale * (dy ? y - fy : 1 - (y - fy)) * (dx ? x - fx : 1 - (x - fx));
      const T* from = image + (yi * width + xi) * s.c;
      for (int64_t c = c0; c < c1; ++c) to[c] += weight * from[c];
    }
}

// Samples of output row `row` (of all images): to[ow][taps][c].
template <class T>
void sample_row(const State& s, const T* x, const T* offset, const T* mask, int64_t row, T* to) {
  const Window& w = s.w;
  const int64_t n = row / w.out[1], oy = row % w.out[1], taps = w.kernel_size(), step = s.c / s.offset_groups;
  const T* image = x + n * w.in_size() * s.c;
  for (int64_t ox = 0; ox < w.out[2]; ++ox) {
    const int64_t pixel = row * w.out[2] + ox;
    for (int64_t t = 0; t < taps; ++t, to += s.c)
      for (int64_t g = 0; g < s.offset_groups; ++g) {
        const int64_t point = (pixel * s.offset_groups + g) * taps + t;
        const int64_t base_y = oy * w.stride[1] - w.before[1] + t / w.kernel[2] * w.dilation[1];
        const int64_t base_x = ox * w.stride[2] - w.before[2] + t % w.kernel[2] * w.dilation[2];
        sample<T>(s, image, offset[2 * point] + static_cast<T>(base_y), offset[2 * point + 1] + static_cast<T>(base_x),
                  mask ? mask[point] : T{1}, g * step, (g + 1) * step, to);
      }
  }
}

// Tap t of pixel m is at (m * taps + t) * c.
struct SampleRows : GemmRows {
  const float* columns;
  int64_t taps, c;
};

void fill_samples(const GemmRows* self, int64_t m0, int64_t m, const float** to, int64_t stride) {
  const SampleRows& r = *static_cast<const SampleRows*>(self);
  for (int64_t t = 0; t < r.taps; ++t)
    for (int64_t i = 0; i < m; ++i) to[t * stride + i] = r.columns + ((m0 + i) * r.taps + t) * r.c;
}

void run_f64(const OpContext& c, const State& s) {
  // Rare enough for one sample at a time.
  const Window& w = s.w;
  const int64_t taps = w.kernel_size(), step = s.c / s.offset_groups;
  const double *x = c.in(0)->as<double>(), *weight = c.in(1)->as<double>(), *offset = c.in(2)->as<double>();
  const double *bias = c.in(3) ? c.in(3)->as<double>() : nullptr, *mask = c.in(4) ? c.in(4)->as<double>() : nullptr;
  double* y = c.out(0)->as<double>();
  c.parallel(s.n * w.out_size(), 1, [&](int64_t b, int64_t e, int) {
    for (int64_t pixel = b; pixel < e; ++pixel) {
      const int64_t oy = pixel / w.out[2] % w.out[1], ox = pixel % w.out[2];
      const double* image = x + pixel / w.out_size() * w.in_size() * s.c;
      double* to = y + pixel * s.o;
      for (int64_t o = 0; o < s.o; ++o) to[o] = bias ? bias[o] : 0;
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t q = 0; q < s.c; ++q) {
          const int64_t point = (pixel * s.offset_groups + q / step) * taps + t;
          const int64_t base_y = oy * w.stride[1] - w.before[1] + t / w.kernel[2] * w.dilation[1];
          const int64_t base_x = ox * w.stride[2] - w.before[2] + t % w.kernel[2] * w.dilation[2];
          double v;
          sample<double>(s, image + q, offset[2 * point] + static_cast<double>(base_y),
                         offset[2 * point + 1] + static_cast<double>(base_x), mask ? mask[point] : 1.0, 0, 1, &v);
          const int64_t g = q / s.cg;
          for (int64_t o = g * s.og; o < (g + 1) * s.og; ++o) to[o] += v * weight[(o * taps + t) * s.cg + q % s.cg];
        }
    }
  });
}

Status run(OpContext& c) {
  const State& s = *c.state<State>();
  Tensor& out = *c.out(0);
  if (out.count() == 0) return Code::ok;
  if (out.dtype == DType::f64) {
    run_f64(c, s);
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
  const int64_t padded = s.layout.padded(), taps = s.w.kernel_size();
  const float *x = floats(0, s.x_at), *offset = floats(2, s.offset_at), *mask = floats(4, s.mask_at);
  const float* packed = s.packed;
  if (!packed) {
    pack_weights(s, floats(1, s.weight_at), part(s.packed_at));
    packed = part(s.packed_at);
  }
  float* bias = part(s.bias_at);
  const float* given = floats(3, s.bias_at + static_cast<size_t>(s.groups * padded) * 4);
  for (int64_t i = 0; i < s.groups * padded; ++i)
    bias[i] = given && i % padded < s.og ? given[i / padded * s.og + i % padded] : 0.0f;
  float* y = s.convert ? part(s.y_at) : out.as<float>();
  c.parallel(s.n * s.w.out[1], 1, [&](int64_t b, int64_t e, int lane) {
    float* columns = part(s.columns_at + s.columns_size * static_cast<size_t>(lane));
    SampleRows rows;
    rows.fill = fill_samples;
    rows.columns = columns;
    rows.taps = taps;
    rows.c = s.c;
    GemmEpilogue epilogue;
    GemmProblem p = {};
    p.kernels = s.gemm;
    p.layout = &s.layout;
    p.m = s.w.out[2];
    p.taps = taps;
    p.k = s.cg;
    p.rows = &rows;
    p.ldc = s.o;
    p.epilogue = &epilogue;
    for (int64_t row = b; row < e; ++row) {
      sample_row(s, x, offset, mask, row, columns);
      for (int64_t g = 0; g < s.groups; ++g) {
        p.a_shift = g * s.cg;
        p.packed = packed + g * padded * s.layout.rows;
        p.c = y + row * s.w.out[2] * s.o + g * s.og;
        epilogue.bias = bias + g * padded;
        gemm_run(p, 0, p.m, 0, s.layout.count());
      }
    }
  });
  if (s.convert) floats_to(c, y, out);
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::deform_conv_, infer, prepare, run},
};

}  // namespace

const OpList ops_deform_conv = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
