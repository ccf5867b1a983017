// conv_weight_gradient: one long product, rows^T [R, positions] times patches [positions, taps * C], cut along the
// positions into chunks that do not depend on the number of threads: the same sums in the same order on any of them.
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "ops/shape_util.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_conv_gradient;

namespace {

namespace W = attr::conv_weight_gradient_;

constexpr int64_t kMaxChunks = 8;
constexpr int64_t kBlockBytes = 256 << 10;  // of patches at a time: with their packed copy they stay in L2

struct GradientState {
  Window w;
  int64_t n, c, r, groups;
  int64_t cg, rg;              // channels per group of read and rows
  int64_t positions, columns;  // of the product; columns = taps * C
  bool gemm;
  GemmLayout layout;
  int64_t block, chunks;  // positions per block
  int lanes;
  size_t patches_at, packed_at, turned_at, lane_bytes, sums_at, bias_at;
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

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64 + 64; }

Status gradient_prepare(OpContext& c) {
  GradientState* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(read_geometry(c, s));
  s->positions = s->n * s->w.out_size();
  if (__builtin_mul_overflow(s->w.kernel_size(), s->c, &s->columns)) return c.fail(Code::shape, "patches are too long");
  const int64_t results = c.out(0)->count();
  if (!results || !s->positions) return {};
  s->gemm = s->groups == 1 && c.in(0)->dtype == DType::f32;
  c.note(s->gemm ? "gemm" : "direct", static_cast<uint64_t>(2 * s->positions) * static_cast<uint64_t>(results));
  int64_t most = (int64_t{64} << 20) / (results * 8) + 1;
  if (most > kMaxChunks) most = kMaxChunks;
  s->chunks = (s->positions + 255) / 256;
  if (s->chunks > most) s->chunks = most;
  s->lanes = c.threads() < s->chunks ? c.threads() : static_cast<int>(s->chunks);
  const size_t element = dtype_size(c.in(0)->dtype);
  size_t bytes = 0;
  auto take = [&bytes](size_t n) {
    const size_t at = bytes;
    bytes += aligned(n);
    return at;
  };
  if (s->gemm) {
    s->block = kBlockBytes / (s->columns * 4) + 1;
    if (s->block < 32) s->block = 32;
    if (s->block > 256) s->block = 256;
    s->layout = gemm_layout(gemm_kernels(), s->block, s->columns);
    s->patches_at = take(static_cast<size_t>(s->block * s->columns) * 4);
    s->packed_at = take(s->layout.bytes());
    s->turned_at = take(static_cast<size_t>(s->block * s->r) * 4);
    s->lane_bytes = bytes;
    bytes *= static_cast<size_t>(s->lanes);
    s->bias_at = take(static_cast<size_t>(s->layout.padded()) * 4);
  }
  s->sums_at = take(static_cast<size_t>(s->chunks * results) * element);
  return c.need_scratch(bytes);
}

// Patches of positions [p0, p0 + count), one after the other.
void gather(const GradientState& s, const float* read, int64_t p0, int64_t count, float* to) {
  const Window& w = s.w;
  const int64_t pixels = w.out_size();
  const size_t run = static_cast<size_t>(s.c) * 4;
  for (int64_t p = p0; p < p0 + count; ++p) {
    const float* image = read + p / pixels * w.in_size() * s.c;
    const int64_t z0 = p % pixels / (w.out[1] * w.out[2]) * w.stride[0] - w.before[0];
    const int64_t y0 = p / w.out[2] % w.out[1] * w.stride[1] - w.before[1];
    const int64_t x0 = p % w.out[2] * w.stride[2] - w.before[2];
    for (int64_t i = 0; i < w.kernel[0]; ++i)
      for (int64_t j = 0; j < w.kernel[1]; ++j) {
        const int64_t z = z0 + i * w.dilation[0], y = y0 + j * w.dilation[1];
        const bool inside = z >= 0 && z < w.in[0] && y >= 0 && y < w.in[1];
        const float* line = image + (z * w.in[1] + y) * w.in[2] * s.c;
        if (inside && w.dilation[2] == 1 && x0 >= 0 && x0 + w.kernel[2] <= w.in[2]) {
          memcpy(to, line + x0 * s.c, run * static_cast<size_t>(w.kernel[2]));
          to += s.c * w.kernel[2];
          continue;
        }
        for (int64_t k = 0; k < w.kernel[2]; ++k, to += s.c) {
          const int64_t x = x0 + k * w.dilation[2];
          if (inside && x >= 0 && x < w.in[2])
            memcpy(to, line + x * s.c, run);
          else
            memset(to, 0, run);
        }
      }
  }
}

// [count, r] to [r, count], by squares that stay in registers and L1.
void turn(const float* from, int64_t count, int64_t r, int64_t stride, float* to) {
  constexpr int64_t kSide = 16;
  for (int64_t i0 = 0; i0 < count; i0 += kSide)
    for (int64_t j0 = 0; j0 < r; j0 += kSide) {
      const int64_t i1 = i0 + kSide < count ? i0 + kSide : count, j1 = j0 + kSide < r ? j0 + kSide : r;
      for (int64_t j = j0; j < j1; ++j)
        for (int64_t i = i0; i < i1; ++i) to[j * stride + i] = from[i * r + j];
    }
}

void chunk_by_gemm(const GradientState& s, const float* rows, const float* read, const float* zeros, char* lane,
                   int64_t p0, int64_t p1, float* sums) {
  const GemmKernels* kernels = gemm_kernels();
  float* patches = reinterpret_cast<float*>(lane + s.patches_at);
  float* packed = reinterpret_cast<float*>(lane + s.packed_at);
  float* turned = reinterpret_cast<float*>(lane + s.turned_at);
  bool first = true;
  for (int64_t p = p0; p < p1; p += s.block) {
    const int64_t count = p + s.block < p1 ? s.block : p1 - p;
    gather(s, read, p, count, patches);
    GemmLayout layout = s.layout;
    layout.rows = count;
    gemm_pack(kernels, layout, packed, patches, s.columns, 1, 0, layout.count());
    turn(rows + p * s.r, count, s.r, s.block, turned);
    GemmEpilogue e;
    e.bias = zeros;
    if (!first) {
      e.residual = sums;
      e.ldr = s.columns;
    }
    const GemmMatrix a(turned, s.block);
    GemmProblem problem = {};
    problem.kernels = kernels;
    problem.layout = &layout;
    problem.m = s.r;
    problem.taps = 1;
    problem.k = count;
    problem.rows = &a;
    problem.packed = packed;
    problem.c = sums;
    problem.ldc = s.columns;
    problem.epilogue = &e;
    gemm_run(problem, 0, s.r, 0, layout.count());
    first = false;
  }
}

template <class T>
void chunk_direct(const GradientState& s, const T* rows, const T* read, int64_t p0, int64_t p1, T* sums) {
  const Window& w = s.w;
  const int64_t pixels = w.out_size(), taps = w.kernel_size();
  memset(sums, 0, static_cast<size_t>(s.r * taps * s.cg) * sizeof(T));
  const bool depthwise = s.cg == 1 && s.rg == 1;
  // depthwise: sums lie as [taps][C] while adding up, so that the inner loop runs over channels
  for (int64_t p = p0; p < p1; ++p) {
    const T* g = rows + p * s.r;
    const T* image = read + p / pixels * w.in_size() * s.c;
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
      const T* x = image + from * s.c;
      if (depthwise) {
        T* to = sums + t * s.c;
        for (int64_t i = 0; i < s.c; ++i) to[i] += g[i] * x[i];
        continue;
      }
      for (int64_t r = 0; r < s.r; ++r) {
        const T* mine = x + r / s.rg * s.cg;
        T* to = sums + (r * taps + t) * s.cg;
        for (int64_t i = 0; i < s.cg; ++i) to[i] += g[r] * mine[i];
      }
    }
  }
}

template <class T>
void add_up(const OpContext& c, const GradientState& s, const T* sums, T* y, int64_t results) {
  const bool depthwise = !s.gemm && s.cg == 1 && s.rg == 1;
  const int64_t taps = s.w.kernel_size();
  c.parallel(results, 16384, [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t at = depthwise ? i % taps * s.c + i / taps : i;
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
  char* scratch = static_cast<char*>(c.scratch());
  T* sums = reinterpret_cast<T*>(scratch + s.sums_at);
  const float* zeros = nullptr;
  if (s.gemm) {
    zeros = reinterpret_cast<float*>(scratch + s.bias_at);
    memset(scratch + s.bias_at, 0, static_cast<size_t>(s.layout.padded()) * 4);
  }
  c.parallel(s.chunks, 1, [&](int64_t b, int64_t e, int lane) {
    for (int64_t k = b; k < e; ++k) {
      const int64_t p0 = s.positions * k / s.chunks, p1 = s.positions * (k + 1) / s.chunks;
      if constexpr (sizeof(T) == 4) {
        if (s.gemm) {
          chunk_by_gemm(s, rows, read, zeros, scratch + static_cast<size_t>(lane) * s.lane_bytes, p0, p1,
                        sums + k * results);
          continue;
        }
      }
      chunk_direct(s, rows, read, p0, p1, sums + k * results);
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
