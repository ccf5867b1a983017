// conv_weight_gradient: sums over positions of rows[r] * read[c], tap by tap, cut along the lines of positions into
// chunks that do not depend on the number of threads: the same sums in the same order on any of them.
#include <cstring>

#include "kernels/gradient/gradient.h"
#include "ops/shape_util.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_conv_gradient;

namespace {

namespace W = attr::conv_weight_gradient_;

constexpr int64_t kMaxChunks = 8;
constexpr int64_t kBlock = 256;  // positions that a tile adds up before it is written: their operands stay in L2
constexpr int kMaxSegments = 128;

// Which operand lies along the vectors; the other one is taken number by number.
enum class Form : uint8_t { direct, read, rows, depthwise };

struct GradientState {
  Window w;
  int64_t n, c, r, groups;
  int64_t cg, rg;  // channels per group of read and rows
  int64_t positions;
  Form form;
  bool flat;            // 1 x 1 without stride: all positions are one line
  int64_t lines, line;  // lines of positions, positions in each (but the last)
  int64_t chunks;
};

Status read_geometry(const OpContext& c, GradientState* s) {
  const Tensor &rows = *c.in(0), &read = *c.in(1);
  const Span<const int64_t> kernel = c.attr_ints(W::kernel);
  if (kernel.len < 1 || kernel.len > 3)
    return c.fail(Code::shape, "kernel has %d sizes, expected 1 to 3", static_cast<int>(kernel.len));
  const int n = static_cast<int>(kernel.len);
  if (rows.dtype != read.dtype || (rows.dtype != DType::f32 && rows.dtype != DType::f64))
    return c.fail(Code::unsupported, "rows are %s, read is %s; expected float32 or float64 for both",
                  dtype_name(rows.dtype), dtype_name(read.dtype));
  if (rows.rank != n + 2 || read.rank != n + 2)
    return c.fail(Code::shape, "ranks of rows and read are %d and %d, expected %d", rows.rank, read.rank, n + 2);
  DK_TRY(window_of(c, {W::strides, W::dilations, W::pads}, n, read.dims + 1, kernel.ptr, &s->w));
  s->n = read.dims[0];
  s->c = read.dims[n + 1];
  s->r = rows.dims[n + 1];
  s->groups = c.attr_int(W::groups);
  if (s->groups < 1 || s->c % s->groups || s->r % s->groups)
    return c.fail(Code::shape, "groups is %lld, expected a divisor of %lld and %lld channels",
                  static_cast<long long>(s->groups), static_cast<long long>(s->c), static_cast<long long>(s->r));
  s->cg = s->c / s->groups;
  s->rg = s->r / s->groups;
  bool fits = rows.dims[0] == s->n;
  for (int i = 0; i < n; ++i) fits = fits && rows.dims[1 + i] == s->w.out[3 - n + i];
  if (!fits) return c.fail(Code::shape, "rows do not have one position per window of read");
  return {};
}

Status gradient_infer(OpContext& c) {
  GradientState s;
  DK_TRY(read_geometry(c, &s));
  int64_t dims[kMaxRank] = {s.r};
  for (int i = 0; i < s.w.rank; ++i) dims[1 + i] = s.w.kernel[3 - s.w.rank + i];
  dims[s.w.rank + 1] = s.cg;
  return c.set_out(0, c.in(0)->dtype, s.w.rank + 2, dims);
}

// The form that takes the fewest vectors.
Form form_of(const OpContext& c, const GradientState& s) {
  if (c.in(0)->dtype != DType::f32) return Form::direct;
  if (s.cg == 1 && s.rg == 1) return Form::depthwise;
  const int64_t w = gradient_kernels()->width;
  return s.cg * ((s.rg + w - 1) / w) < s.rg * ((s.cg + w - 1) / w) ? Form::rows : Form::read;
}

Status gradient_prepare(OpContext& c) {
  GradientState* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(read_geometry(c, s));
  const Window& w = s->w;
  s->positions = s->n * w.out_size();
  int64_t columns;
  if (__builtin_mul_overflow(w.kernel_size(), s->c, &columns)) return c.fail(Code::shape, "patches are too long");
  const int64_t results = c.out(0)->count();
  if (!results || !s->positions) return {};
  static const char* const names[] = {"direct", "read", "rows", "depthwise"};
  s->form = form_of(c, *s);
  c.note(names[static_cast<int>(s->form)], static_cast<uint64_t>(2 * s->positions) * static_cast<uint64_t>(results));
  s->flat = w.kernel_size() == 1;
  for (int d = 0; d < 3; ++d) s->flat = s->flat && w.stride[d] == 1 && w.before[d] == 0 && w.out[d] == w.in[d];
  s->line = s->flat ? (s->positions < 128 ? s->positions : 128) : w.out[2];
  s->lines = (s->positions + s->line - 1) / s->line;
  int64_t most = (int64_t{64} << 20) / (results * 8) + 1;
  if (most > kMaxChunks) most = kMaxChunks;
  s->chunks = (s->positions + 255) / 256;
  if (s->chunks > most) s->chunks = most;
  if (s->chunks > s->lines) s->chunks = s->lines;
  return c.need_scratch(static_cast<size_t>(s->chunks * results) * dtype_size(c.in(0)->dtype));
}

// Where tap (z, y, x) of a line reads: sets the segment, or says that no position of it hits the image.
bool segment(const GradientState& s, const float* rows, const float* read, int64_t line, const int64_t* tap,
             Segments* to, const float** a, const float** b, int64_t* n) {
  const Window& w = s.w;
  const int64_t p = line * s.line;
  if (s.flat) {
    *a = rows + p * s.r;
    *b = read + p * s.c;
    *n = s.positions - p < s.line ? s.positions - p : s.line;
    ++to->count;
    return true;
  }
  const int64_t z = line / w.out[1] % w.out[0] * w.stride[0] - w.before[0] + tap[0] * w.dilation[0];
  const int64_t y = line % w.out[1] * w.stride[1] - w.before[1] + tap[1] * w.dilation[1];
  if (z < 0 || z >= w.in[0] || y < 0 || y >= w.in[1]) return false;
  const int64_t shift = w.before[2] - tap[2] * w.dilation[2],
                stride = w.stride[2];  // x reads column x * stride - shift
  int64_t x0 = shift > 0 ? (shift + stride - 1) / stride : 0;
  int64_t x1 = w.in[2] - 1 + shift < 0 ? 0 : (w.in[2] - 1 + shift) / stride + 1;
  if (x1 > w.out[2]) x1 = w.out[2];
  if (x0 >= x1) return false;
  const int64_t image = line / (w.out[1] * w.out[0]);
  *a = rows + (p + x0) * s.r;
  *b = read + (((image * w.in[0] + z) * w.in[1] + y) * w.in[2] + x0 * stride - shift) * s.c;
  *n = x1 - x0;
  ++to->count;
  return true;
}

// Lines [l0, l1).  Sums lie as [R][taps][C / groups] (read along the vectors), [groups][taps][C / groups][R / groups]
// (rows along them), or [taps][C] (depthwise).
void chunk_by_tiles(const GradientState& s, const float* rows, const float* read, int64_t l0, int64_t l1, float* sums) {
  const GradientKernels* kernels = gradient_kernels();
  const Window& w = s.w;
  const int64_t taps = w.kernel_size();
  memset(sums, 0, static_cast<size_t>(s.r * taps * s.cg) * 4);
  const float *a[kMaxSegments], *b[kMaxSegments];
  int64_t n[kMaxSegments];
  int64_t step = kBlock / s.line + 1;
  if (step > kMaxSegments) step = kMaxSegments;
  for (int64_t l = l0; l < l1; l += step) {
    const int64_t end = l + step < l1 ? l + step : l1;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t tap[3] = {t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1], t % w.kernel[2]};
      Segments seg = {0, a, b, n, s.r, (s.flat ? 1 : w.stride[2]) * s.c};
      for (int64_t i = l; i < end; ++i)
        segment(s, rows, read, i, tap, &seg, a + seg.count, b + seg.count, n + seg.count);
      if (!seg.count) continue;
      if (s.form == Form::depthwise) {
        kernels->inner(seg, s.c, sums + t * s.c);
        continue;
      }
      for (int64_t g = 0;;) {
        if (s.form == Form::read) {
          kernels->outer(seg, s.rg, s.cg, sums + (g * s.rg * taps + t) * s.cg, taps * s.cg);
        } else {
          const Segments turned = {seg.count, b, a, n, seg.ldb, seg.lda};
          kernels->outer(turned, s.cg, s.rg, sums + (g * taps + t) * s.cg * s.rg, s.rg);
        }
        if (++g == s.groups) break;
        for (int64_t i = 0; i < seg.count; ++i) {
          a[i] += s.rg;
          b[i] += s.cg;
        }
      }
    }
  }
}

// float64: for tests of gradients.
void chunk_direct(const GradientState& s, const double* rows, const double* read, int64_t p0, int64_t p1,
                  double* sums) {
  const Window& w = s.w;
  const int64_t pixels = w.out_size(), taps = w.kernel_size();
  memset(sums, 0, static_cast<size_t>(s.r * taps * s.cg) * sizeof(double));
  for (int64_t p = p0; p < p1; ++p) {
    const double* g = rows + p * s.r;
    const double* image = read + p / pixels * w.in_size() * s.c;
    const int64_t at[3] = {p % pixels / (w.out[1] * w.out[2]), p / w.out[2] % w.out[1], p % w.out[2]};
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t k[3] = {t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1], t % w.kernel[2]};
      int64_t from = 0;
      bool inside = true;
      for (int d = 0; d < 3; ++d) {
        const int64_t q = at[d] * w.stride[d] - w.before[d] + k[d] * w.dilation[d];
        inside = inside && q >= 0 && q < w.in[d];
        from = from * w.in[d] + q;
      }
      if (!inside) continue;
      const double* x = image + from * s.c;
      for (int64_t r = 0; r < s.r; ++r) {
        const double* mine = x + r / s.rg * s.cg;
        double* to = sums + (r * taps + t) * s.cg;
        for (int64_t i = 0; i < s.cg; ++i) to[i] += g[r] * mine[i];
      }
    }
  }
}

// Where result (r, tap, i) lies among the sums.
int64_t place(const GradientState& s, int64_t taps, int64_t at) {
  if (s.form == Form::direct || s.form == Form::read) return at;
  const int64_t i = at % s.cg, t = at / s.cg % taps, r = at / (s.cg * taps);
  if (s.form == Form::depthwise) return t * s.c + r;
  return (((r / s.rg) * taps + t) * s.cg + i) * s.rg + r % s.rg;
}

template <class T>
void add_up(const OpContext& c, const GradientState& s, const T* sums, T* y, int64_t results) {
  const int64_t taps = s.w.kernel_size();
  c.parallel(results, 16384, [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t at = place(s, taps, i);
      T total = sums[at];
      for (int64_t k = 1; k < s.chunks; ++k) total += sums[k * results + at];
      y[i] = total;
    }
  });
}

template <class T>
Status run(OpContext& c) {
  const GradientState& s = *c.state<GradientState>();
  const T *rows = c.in(0)->as<T>(), *read = c.in(1)->as<T>();
  T* y = c.out(0)->as<T>();
  const int64_t results = c.out(0)->count();
  if (!results) return {};
  if (!s.positions) {
    memset(y, 0, static_cast<size_t>(results) * sizeof(T));
    return {};
  }
  T* sums = static_cast<T*>(c.scratch());
  c.parallel(s.chunks, 1, [&](int64_t b, int64_t e, int) {
    for (int64_t k = b; k < e; ++k) {
      if constexpr (sizeof(T) == 4)
        chunk_by_tiles(s, rows, read, s.lines * k / s.chunks, s.lines * (k + 1) / s.chunks, sums + k * results);
      else
        chunk_direct(s, rows, read, s.positions * k / s.chunks, s.positions * (k + 1) / s.chunks, sums + k * results);
    }
  });
  add_up(c, s, sums, y, results);
  return {};
}

Status gradient_run(OpContext& c) { return c.in(0)->dtype == DType::f32 ? run<float>(c) : run<double>(c); }

const OpDef defs[] = {
    {Opcode::conv_weight_gradient_, gradient_infer, gradient_prepare, gradient_run},
};

}  // namespace

const OpList ops_conv_gradient = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
