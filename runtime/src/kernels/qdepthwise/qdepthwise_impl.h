// Compiled once per ISA.  See qdepthwise.h for the contract.
#include "base/cpu.h"
#include "kernels/qdepthwise/qdepthwise.h"
#include "simd/dot.h"
#include "simd/requant.h"

namespace dk {
namespace {
using namespace simd;

// Four vectors of bytes, p[t] holding tap t of all channels, to q[j] with the four taps of a channel in each lane.
#if defined(__SSE4_1__) && !defined(DK_SIMD_SCALAR)
#define DK_INTERLEAVE(V, M, P)                                                                                        \
  DK_INL void interleave(const V* p, V* q) {                                                                          \
    const M a = P##_unpacklo_epi8(bits<M>(p[0]), bits<M>(p[1])), b = P##_unpackhi_epi8(bits<M>(p[0]), bits<M>(p[1])); \
    const M c = P##_unpacklo_epi8(bits<M>(p[2]), bits<M>(p[3])), d = P##_unpackhi_epi8(bits<M>(p[2]), bits<M>(p[3])); \
    q[0] = bits<V>(P##_unpacklo_epi16(a, c));                                                                         \
    q[1] = bits<V>(P##_unpackhi_epi16(a, c));                                                                         \
    q[2] = bits<V>(P##_unpacklo_epi16(b, d));                                                                         \
    q[3] = bits<V>(P##_unpackhi_epi16(b, d));                                                                         \
  }
DK_INTERLEAVE(s32x4, __m128i, _mm)
#if defined(__AVX2__)
DK_INTERLEAVE(s32x8, __m256i, _mm256)
#endif
#if defined(__AVX512F__)
DK_INTERLEAVE(s32x16, __m512i, _mm512)
#endif
#undef DK_INTERLEAVE
#else
typedef uint16_t u16x8 __attribute__((vector_size(16)));
DK_INL void interleave(const s32x4* p, s32x4* q) {
  u8x16 t[4];
  DK_UNROLL
  for (int i = 0; i < 4; ++i) t[i] = bits<u8x16>(p[i]);
  u16x8 w[4];
  DK_UNROLL
  for (int i = 0; i < 4; i += 2) {
    w[i] = bits<u16x8>(__builtin_shufflevector(t[i], t[i + 1], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    w[i + 1] = bits<u16x8>(
        __builtin_shufflevector(t[i], t[i + 1], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  }
  DK_UNROLL
  for (int i = 0; i < 2; ++i) {
    q[2 * i] = bits<s32x4>(__builtin_shufflevector(w[i], w[i + 2], 0, 8, 1, 9, 2, 10, 3, 11));
    q[2 * i + 1] = bits<s32x4>(__builtin_shufflevector(w[i], w[i + 2], 4, 12, 5, 13, 6, 14, 7, 15));
  }
}
#endif

// What a block of 4 * lanes<V> channels needs all the time.
template <class V>
struct Block {
  static constexpr int kL = lanes<V>;
  V bias[4], flip;
  float_of<V> multiplier[4];
  Clamp<V> clamp;
  const int8_t* weight;
  int n;  // channels that exist

  DK_INL Block(const QDepthwiseStrip& t, int64_t c0, int n)
      : flip(splat<V>(static_cast<int32_t>(t.x_flip))),
        clamp(t.e->zero, t.e->low, t.e->high, t.e->flip),
        weight(t.weight + c0 * t.rows * ((t.kernel + 3) / 4) * 4),
        n(n) {
    DK_UNROLL
    for (int j = 0; j < 4; ++j) {
      bias[j] = load<V>(t.bias + c0 + j * kL);
      multiplier[j] = load<float_of<V>>(t.e->multiplier + c0 + j * kL);
    }
  }
  // Four taps from p on.
  template <bool Flip>
  DK_INL void taps(const uint8_t* p, int64_t tap_step, V* z) const {
    V in[4];
    DK_UNROLL
    for (int k = 0; k < 4; ++k) {
      in[k] = load<V>(p + k * tap_step);
      if constexpr (Flip) in[k] ^= flip;
    }
    interleave(in, z);
  }
  template <bool Full>
  DK_INL void put(uint8_t* y, const V* acc) const {
    V q[4];
    DK_UNROLL
    for (int j = 0; j < 4; ++j) q[j] = nearest(capped(to_f32(acc[j]) * multiplier[j]));
    const V bytes = clamp.pack(q[0], q[1], q[2], q[3]);
    if (Full)
      store(y, bytes);
    else
      __builtin_memcpy(y, &bytes, static_cast<size_t>(n));
  }
};

// Any kernel: all taps of each pixel.
template <class V, bool Full, bool Flip>
DK_INL void any(const QDepthwiseStrip& t, int64_t c0, int n) {
  constexpr int kL = lanes<V>;
  const Block<V> b(t, c0, n);
  const int64_t quads = (t.kernel + 3) / 4;
  for (int64_t line = 0; line < t.lines; ++line) {
    const uint8_t* x = t.x + line * t.line_step + c0;
    uint8_t* y = t.y + line * t.out * t.c + c0;
    for (int64_t i = 0; i < t.out; ++i, x += t.step, y += t.c) {
      V acc[4];
      DK_UNROLL
      for (int j = 0; j < 4; ++j) acc[j] = b.bias[j];
      const int8_t* w = b.weight;
      for (int64_t r = 0; r < t.rows; ++r) {
        const uint8_t* p = x + t.row_at[r];
        for (int64_t q = 0; q < quads; ++q, p += 4 * t.tap_step, w += 16 * kL) {
          V z[4];
          b.template taps<Flip>(p, t.tap_step, z);
          DK_UNROLL
          for (int j = 0; j < 4; ++j) acc[j] = dot4(acc[j], z[j], load<V>(w + j * 4 * kL));
        }
      }
      b.template put<Full>(y, acc);
    }
  }
}

// 3 x 3, stride 1: down the lines with two sums in flight, so each row of taps is interleaved once for three lines; its
// four taps serve two columns, the second with the weights moved up by one tap.
template <class V, bool Full, bool Flip>
DK_INL void roll1(const QDepthwiseStrip& t, int64_t c0, int n) {
  constexpr int kL = lanes<V>;
  const Block<V> b(t, c0, n);
  V w[2][3][4];  // column, row
  DK_UNROLL
  for (int r = 0; r < 3; ++r) {
    DK_UNROLL
    for (int j = 0; j < 4; ++j) {
      w[0][r][j] = load<V>(b.weight + (r * 4 + j) * 4 * kL);
      w[1][r][j] = w[0][r][j] << 8;
    }
  }
  for (int64_t i = 0; i < t.out; i += 2) {
    const uint8_t* x = t.x + i * t.step + c0;
    uint8_t* y = t.y + i * t.c + c0;
    const bool two = i + 1 < t.out;
    V a[2][4], next[2][4], z[4];
    b.template taps<Flip>(x, t.tap_step, z);
    DK_UNROLL
    for (int k = 0; k < 2; ++k) {
      DK_UNROLL
      for (int j = 0; j < 4; ++j) a[k][j] = dot4(b.bias[j], z[j], w[k][0][j]);
    }
    b.template taps<Flip>(x += t.line_step, t.tap_step, z);
    DK_UNROLL
    for (int k = 0; k < 2; ++k) {
      DK_UNROLL
      for (int j = 0; j < 4; ++j) {
        a[k][j] = dot4(a[k][j], z[j], w[k][1][j]);
        next[k][j] = dot4(b.bias[j], z[j], w[k][0][j]);
      }
    }
    for (int64_t line = 0; line < t.lines; ++line, y += t.out * t.c) {
      b.template taps<Flip>(x += t.line_step, t.tap_step, z);
      DK_UNROLL
      for (int k = 0; k < 2; ++k) {
        DK_UNROLL
        for (int j = 0; j < 4; ++j) a[k][j] = dot4(a[k][j], z[j], w[k][2][j]);
      }
      b.template put<Full>(y, a[0]);
      if (two) b.template put<Full>(y + t.c, a[1]);
      DK_UNROLL
      for (int k = 0; k < 2; ++k) {
        DK_UNROLL
        for (int j = 0; j < 4; ++j) {
          a[k][j] = dot4(next[k][j], z[j], w[k][1][j]);
          next[k][j] = dot4(b.bias[j], z[j], w[k][0][j]);
        }
      }
    }
  }
}

// 3 x 3, stride 2: the last row of taps of a line is the first of the next one.
template <class V, bool Full, bool Flip>
DK_INL void roll2(const QDepthwiseStrip& t, int64_t c0, int n) {
  constexpr int kL = lanes<V>;
  const Block<V> b(t, c0, n);
  V w[3][4];
  DK_UNROLL
  for (int r = 0; r < 3; ++r) {
    DK_UNROLL
    for (int j = 0; j < 4; ++j) w[r][j] = load<V>(b.weight + (r * 4 + j) * 4 * kL);
  }
  const int64_t row = t.row_at[1];
  for (int64_t i = 0; i < t.out; ++i) {
    const uint8_t* x = t.x + i * t.step + c0;
    uint8_t* y = t.y + i * t.c + c0;
    V a[4], z[4];
    b.template taps<Flip>(x, t.tap_step, z);
    DK_UNROLL
    for (int j = 0; j < 4; ++j) a[j] = dot4(b.bias[j], z[j], w[0][j]);
    for (int64_t line = 0; line < t.lines; ++line, y += t.out * t.c) {
      b.template taps<Flip>(x += row, t.tap_step, z);
      DK_UNROLL
      for (int j = 0; j < 4; ++j) a[j] = dot4(a[j], z[j], w[1][j]);
      b.template taps<Flip>(x += row, t.tap_step, z);
      DK_UNROLL
      for (int j = 0; j < 4; ++j) a[j] = dot4(a[j], z[j], w[2][j]);
      b.template put<Full>(y, a);
      DK_UNROLL
      for (int j = 0; j < 4; ++j) a[j] = dot4(b.bias[j], z[j], w[0][j]);
    }
  }
}

enum class Form { any, roll1, roll2 };

template <class V, bool Full, bool Flip>
DK_INL void form_of(const QDepthwiseStrip& t, int64_t c0, int n, Form form) {
  switch (form) {
    case Form::roll1: return roll1<V, Full, Flip>(t, c0, n);
    case Form::roll2: return roll2<V, Full, Flip>(t, c0, n);
    default: return any<V, Full, Flip>(t, c0, n);
  }
}

template <class V, bool Full>
void block(const QDepthwiseStrip& t, int64_t c0, int n, Form form) {
  if (t.x_flip) return form_of<V, Full, true>(t, c0, n, form);
  form_of<V, Full, false>(t, c0, n, form);
}

void strip(const QDepthwiseStrip* t) {
  Form form = Form::any;
  if (t->rows == 3 && t->kernel == 3 && t->row_at[2] == 2 * t->row_at[1]) {
    if (t->step == t->tap_step && t->line_step == t->row_at[1]) form = Form::roll1;
    if (t->line_step == 2 * t->row_at[1]) form = Form::roll2;
  }
  int64_t c = 0;
  for (; c + 4 * kW <= t->c; c += 4 * kW) block<s32, true>(*t, c, 4 * kW, form);
#if defined(__AVX512F__) && !defined(DK_SIMD_SCALAR)
  for (; c + 32 <= t->c; c += 32) block<s32x8, true>(*t, c, 32, form);
#endif
  for (; c + 16 <= t->c; c += 16) block<s32x4, true>(*t, c, 16, form);
  if (c < t->c) block<s32x4, false>(*t, c, static_cast<int>(t->c - c), form);
}

constexpr QDepthwiseKernels kTable = {kDotSigned, 4 * kW, strip};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
#if defined(__wasm_relaxed_simd__)
const QDepthwiseKernels* qdepthwise_wasm_relaxed() {
  static QDepthwiseKernels table = kTable;
  table.a_signed = relaxed_dot() == RelaxedDot::s8;
  return &table;
}
#else
const QDepthwiseKernels* DK_CAT(qdepthwise_, DK_DOT_SUFFIX)() { return &kTable; }
#endif

}  // namespace dk
