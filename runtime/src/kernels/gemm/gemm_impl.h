// The fp32 tiles, compiled once per ISA.  See gemm.h for the contract.
#include "base/cpu.h"
#include "kernels/gemm/gemm.h"
#include "simd/vec.h"
#include "simd/vmath.h"

namespace dk {
namespace {
using namespace simd;

// The epilogue of a tile that stores fewer columns than it has, from a copy of its accumulators.
__attribute__((noinline)) void store_part(const GemmTile* t, const float* acc, int m, int nr) {
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  const float* r = t->residual;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < t->n; j += kW) {
      const int n = t->n - j < kW ? t->n - j : kW;
      f32 v = load<f32>(acc + i * nr + j);
      f32 rv = r ? load_n<f32>(r + i * t->ldr + j, n) : f32{};
      if (r && t->residual_first) v += rv;
      v = vclip(v, low, high);
      if (r && !t->residual_first) v += rv;
      store_n(t->c + i * t->ldc + j, v, n);
    }
  }
}

// Asks for the lines of a tile.
template <int M, int NV>
DK_INL void touch(const float* c, int64_t ldc) {
  constexpr int kLine = 64 / sizeof(float), kStep = kW < kLine ? kLine : kW;
  DK_UNROLL
  for (int i = 0; i < M; ++i, c += ldc) {
    DK_UNROLL
    for (int j = 0; j < NV * kW; j += kStep) __builtin_prefetch(c + j, 0, 3);
  }
}

// M x (NV vectors) of C.  Per k: NV loads of B, M broadcasts of A, M * NV multiply-adds, all in registers.
template <int M, int NV>
void tile(const GemmTile* t) {
  f32 acc[M][NV];
  DK_UNROLL
  for (int j = 0; j < NV; ++j) {
    DK_UNROLL
    for (int i = 0; i < M; ++i) acc[i][j] = f32{};
  }
  // C lies in other rows than what was written last, so no processor guesses that it comes next.
  touch<M, NV>(t->c, t->ldc);
  if (t->residual) touch<M, NV>(t->residual, t->ldr);
  const char* ahead = t->ahead;
  const float* b = t->b;
  const int64_t ldb = t->ldb, k1 = t->k, ahead_step = t->ahead_step;
  const float* const* rows = t->a;
  for (int64_t tap = 0; tap < t->taps; ++tap, rows += t->a_stride) {
    const float* a[M];
    DK_UNROLL
    for (int i = 0; i < M; ++i) a[i] = rows[i] + t->a_shift;
    for (int64_t k = 0; k < k1; ++k, b += ldb, ahead += ahead_step) {
      __builtin_prefetch(ahead, 0, 2);
      f32 bv[NV];
      DK_UNROLL
      for (int j = 0; j < NV; ++j) bv[j] = load<f32>(b + j * kW);
      DK_UNROLL
      for (int i = 0; i < M; ++i) {
        f32 av = splat<f32>(a[i][k]);
        DK_UNROLL
        for (int j = 0; j < NV; ++j) {
          acc[i][j] = fma(av, bv[j], acc[i][j]);
          DK_PIN(acc[i][j]);
        }
      }
    }
  }
  DK_UNROLL
  for (int j = 0; j < NV; ++j) {
    f32 bias = load<f32>(t->bias + j * kW);
    DK_UNROLL
    for (int i = 0; i < M; ++i) acc[i][j] += bias;
  }
  if (t->n < NV * kW) {
    float tmp[M * NV * kW];
    DK_UNROLL
    for (int i = 0; i < M; ++i) {
      DK_UNROLL
      for (int j = 0; j < NV; ++j) store(tmp + (i * NV + j) * kW, acc[i][j]);
    }
    return store_part(t, tmp, M, NV * kW);
  }
  if (t->residual && t->residual_first) {
    const float* r = t->residual;
    DK_UNROLL
    for (int i = 0; i < M; ++i, r += t->ldr) {
      DK_UNROLL
      for (int j = 0; j < NV; ++j) acc[i][j] += load<f32>(r + j * kW);
    }
  }
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  DK_UNROLL
  for (int i = 0; i < M; ++i) {
    DK_UNROLL
    for (int j = 0; j < NV; ++j) acc[i][j] = vclip(acc[i][j], low, high);
  }
  if (t->residual && !t->residual_first) {
    const float* r = t->residual;
    DK_UNROLL
    for (int i = 0; i < M; ++i, r += t->ldr) {
      DK_UNROLL
      for (int j = 0; j < NV; ++j) acc[i][j] += load<f32>(r + j * kW);
    }
  }
  float* c = t->c;
  DK_UNROLL
  for (int i = 0; i < M; ++i, c += t->ldc) {
    DK_UNROLL
    for (int j = 0; j < NV; ++j) store(c + j * kW, acc[i][j]);
  }
}

// One row of C, P main panels of NV vectors at once.
template <int P, int NV>
void row_of(const GemmTile* t, int64_t panel_stride) {
  f32 acc[P][NV];
  DK_UNROLL
  for (int p = 0; p < P; ++p) DK_UNROLL
  for (int j = 0; j < NV; ++j) acc[p][j] = f32{};
  const float* b = t->b;
  for (int64_t tap = 0; tap < t->taps; ++tap) {
    const float* a = t->a[tap * t->a_stride] + t->a_shift;
    for (int64_t k = 0; k < t->k; ++k, b += NV * kW) {
      f32 av = splat<f32>(a[k]);
      DK_UNROLL
      for (int p = 0; p < P; ++p) DK_UNROLL
      for (int j = 0; j < NV; ++j) acc[p][j] = fma(av, load<f32>(b + p * panel_stride + j * kW), acc[p][j]);
    }
  }
  const f32 low = splat<f32>(t->low), high = splat<f32>(t->high);
  DK_UNROLL
  for (int q = 0; q < P * NV; ++q) {
    int n = t->n - q * kW;
    n = n < kW ? n : kW;
    if (n > 0) {
      f32 v = acc[q / NV][q % NV] + load<f32>(t->bias + q * kW);
      f32 r = t->residual ? load_n<f32>(t->residual + q * kW, n) : f32{};
      if (t->residual && t->residual_first) v += r;
      v = vclip(v, low, high);
      if (t->residual && !t->residual_first) v += r;
      store_n(t->c + q * kW, v, n);
    }
  }
}

template <int NV>
void row(const GemmTile* t, int panels, int64_t panel_stride) {
  switch (panels) {
    case 1: return row_of<1, NV>(t, panel_stride);
    case 2: return row_of<2, NV>(t, panel_stride);
    case 3: return row_of<3, NV>(t, panel_stride);
    default: return row_of<4, NV>(t, panel_stride);
  }
}

// ---- epilogue on a stored tile
// f(vector, row, column) of m x n numbers, in place.
template <class F>
DK_INL void each_vector(float* c, int64_t ldc, int64_t m, int64_t n, F f) {
  for (int64_t i = 0; i < m; ++i, c += ldc)
    for (int64_t j = 0; j < n; j += kW) {
      const int part = n - j < kW ? static_cast<int>(n - j) : kW;
      const f32 v = f(part == kW ? load<f32>(c + j) : load_n<f32>(c + j, part), i, j, part);  // f once: it may be long
      part == kW ? store(c + j, v) : store_n(c + j, v, part);
    }
}

// Scale, bias, and a residual that comes before the activation, of rows [from, from + m).
void finish_before(const GemmFinish* t, int64_t from, int64_t m) {
  const f32 scale = splat<f32>(t->scale);
  const bool scaled = t->scale != 1.0f;
  each_vector(t->c + from * t->ldc, t->ldc, m, t->n, [=](f32 v, int64_t i, int64_t j, int n) {
    i += from;
    if (scaled) v = v * scale;
    if (t->bias) {
      const float* bias = t->bias + i * t->bias_row;
      v += t->bias_col ? load_n<f32>(bias + j, n) : splat<f32>(*bias);
    }
    return t->residual && t->residual_first ? v + load_n<f32>(t->residual + i * t->ldr + j, n) : v;
  });
}

void finish_act(const GemmFinish* t, float* c, int64_t ldc, int64_t m, int64_t n) {
  const f32 alpha = splat<f32>(t->alpha), beta = splat<f32>(t->beta);
  auto act = [=](auto f) { each_vector(c, ldc, m, n, [=](f32 x, int64_t, int64_t, int) { return f(x); }); };
  switch (t->act) {
    case 1: return act([](f32 x) { return vrelu(x); });
    case 2: return act([](f32 x) { return vclip(x, f32{}, splat<f32>(6.0f)); });
    case 3: return act([=](f32 x) { return vclip(x, alpha, beta); });
    case 4: return act([=](f32 x) { return vleaky_relu(x, alpha); });
    case 5: return act([](f32 x) { return vsigmoid(x); });
    case 6: return act([](f32 x) { return vtanh(x); });
    case 7: return act([](f32 x) { return vsilu(x); });
    case 8: return act([](f32 x) { return vgelu(x); });
    case 9: return act([](f32 x) { return vgelu_tanh(x); });
    case 10: return act([=](f32 x) { return vhard_sigmoid(x, alpha, beta); });
    case 11: return act([](f32 x) { return vhard_swish(x); });
    case 12: return act([=](f32 x) { return velu(x, alpha); });
    case 13: return act([](f32 x) { return vsoftplus(x); });
    case 14: return act([](f32 x) { return vmish(x); });
    default: return;
  }
}

// Pass by pass, over as many rows as stay in L1.
void finish(const GemmFinish* t) {
  const bool after = t->residual && !t->residual_first;
  const bool before = t->scale != 1.0f || t->bias || (t->residual && !after);
  if (!before && !after)
    return t->ldc == t->n ? finish_act(t, t->c, 0, 1, t->ldc * t->m) : finish_act(t, t->c, t->ldc, t->m, t->n);
  const int64_t most = t->n < 4096 ? 4096 / (t->n > 0 ? t->n : 1) : 1;
  for (int64_t i = 0; i < t->m; i += most) {
    const int64_t m = t->m - i < most ? t->m - i : most;
    if (before) finish_before(t, i, m);
    finish_act(t, t->c + i * t->ldc, t->ldc, m, t->n);
    if (after)
      each_vector(t->c + i * t->ldc, t->ldc, m, t->n, [=](f32 v, int64_t r, int64_t j, int n) {
        return v + load_n<f32>(t->residual + (i + r) * t->ldr + j, n);
      });
  }
}

// ---- packing
// Four rows of four floats, transposed.
DK_INL void transpose4(const float* from, int64_t stride, float* to, int64_t to_stride) {
  f32x4 a = load<f32x4>(from), b = load<f32x4>(from + stride), c = load<f32x4>(from + 2 * stride),
        d = load<f32x4>(from + 3 * stride);
  f32x4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  f32x4 cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store(to, __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5));
  store(to + to_stride, __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7));
  store(to + 2 * to_stride, __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5));
  store(to + 3 * to_stride, __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7));
}

void pack(float* to, const float* b, int64_t rows, int n, int nr, int64_t row_stride, int64_t col_stride) {
  if (col_stride == 1) {
    for (int64_t r = 0; r < rows; ++r, to += nr, b += row_stride) {
      int j = 0;
      for (; j + kW <= n; j += kW) store(to + j, load<f32>(b + j));
      for (; j < n; ++j) to[j] = b[j];
      for (; j < nr; ++j) to[j] = 0.0f;
    }
    return;
  }
  int64_t r = 0;
  if (row_stride == 1) {  // the usual order of weights, [column][row]: transpose in 4 x 4 blocks
    for (; r + 4 <= rows; r += 4) {
      int j = 0;
      for (; j + 4 <= n; j += 4) transpose4(b + r + j * col_stride, col_stride, to + r * nr + j, nr);
      for (; j < nr; ++j)
        for (int i = 0; i < 4; ++i) to[(r + i) * nr + j] = j < n ? b[r + i + j * col_stride] : 0.0f;
    }
  }
  for (; r < rows; ++r)
    for (int j = 0; j < nr; ++j) to[r * nr + j] = j < n ? b[r * row_stride + j * col_stride] : 0.0f;
}

// fn[m - 1] for all row counts.
template <int NV, int... I>
struct TileTable {
  static constexpr GemmTileFn fn[] = {tile<I, NV>...};
};
template <int NV, int M, int... I>
struct MakeTable : MakeTable<NV, M - 1, M, I...> {};
template <int NV, int... I>
struct MakeTable<NV, 0, I...> : TileTable<NV, I...> {};

#define DK_GEMM_TABLE(NARROW, MAIN, WIDE)     \
  {                                           \
      {NARROW, kW, MakeTable<1, NARROW>::fn}, \
      {MAIN, 2 * kW, MakeTable<2, MAIN>::fn}, \
      {WIDE, 3 * kW, MakeTable<3, WIDE>::fn}, \
      row<2>,                                 \
      finish,                                 \
      pack,                                   \
  }

#if defined(DK_SIMD_SCALAR)
constexpr GemmKernels kTable = DK_GEMM_TABLE(4, 4, 4);
#elif defined(__AVX512F__)
constexpr GemmKernels kTable = DK_GEMM_TABLE(24, 14, 9);  // 32 registers
#elif defined(__AVX2__)
constexpr GemmKernels kTable = DK_GEMM_TABLE(12, 6, 4);  // 12 accumulators, 1-3 of B, 1 of A of 16 registers
#elif defined(__ARM_NEON)
constexpr GemmKernels kTable = DK_GEMM_TABLE(16, 8, 8);
#elif defined(__wasm_relaxed_simd__)
constexpr GemmKernels kTable = DK_GEMM_TABLE(6, 6, 3);
#elif defined(__wasm__)
constexpr GemmKernels kTable = DK_GEMM_TABLE(6, 4, 4);
#else
constexpr GemmKernels kTable = DK_GEMM_TABLE(8, 4, 4);  // a multiply needs a register of its own
#endif

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const GemmKernels* DK_CAT(gemm_, DK_ISA_SUFFIX)() { return &kTable; }

#if defined(__AVX512F__) && !defined(DK_SIMD_SCALAR)
const GemmKernels* gemm_x86_amx() {
  static constexpr GemmKernels kTiles = {kTable.narrow, kTable.main, kTable.wide,  kTable.row,
                                         kTable.finish, kTable.pack, gemm_run_amx, gemm_round_amx};
  return &kTiles;
}
#endif

}  // namespace dk
