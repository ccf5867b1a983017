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

// One block of 4 * lanes<V> channels of one row of pixels; `n` of them exist.
template <class V, bool Full>
DK_INL void block(const QDepthwiseRow& t, int64_t c0, int n) {
  constexpr int kL = lanes<V>;
  const int64_t quads = (t.kernel + 3) / 4;
  const int8_t* weight = t.weight + c0 * t.rows * quads * 4;
  const V flip = splat<V>(static_cast<int32_t>(t.x_flip));
  V bias[4];
  DK_UNROLL
  for (int j = 0; j < 4; ++j) bias[j] = load<V>(t.bias + c0 + j * kL);
  float_of<V> multiplier[4];
  DK_UNROLL
  for (int j = 0; j < 4; ++j) multiplier[j] = load<float_of<V>>(t.e->multiplier + c0 + j * kL);
  const Clamp<V> clamp(t.e->zero, t.e->low, t.e->high, t.e->flip);
  const uint8_t* x = t.x + c0;
  uint8_t* y = t.y + c0;
  for (int64_t i = 0; i < t.out; ++i, x += t.step, y += t.c) {
    V acc[4];
    DK_UNROLL
    for (int j = 0; j < 4; ++j) acc[j] = bias[j];
    const int8_t* w = weight;
    for (int64_t r = 0; r < t.rows; ++r) {
      const uint8_t* p = x + t.row_at[r];
      for (int64_t q = 0; q < quads; ++q, p += 4 * t.tap_step, w += 16 * kL) {
        V in[4], z[4];
        DK_UNROLL
        for (int k = 0; k < 4; ++k) in[k] = load<V>(p + k * t.tap_step) ^ flip;
        interleave(in, z);
        DK_UNROLL
        for (int j = 0; j < 4; ++j) acc[j] = dot4(acc[j], z[j], load<V>(w + j * 4 * kL));
      }
    }
    V sum[4];
    DK_UNROLL
    for (int j = 0; j < 4; ++j) sum[j] = nearest(capped(to_f32(acc[j]) * multiplier[j]));
    const V bytes = clamp.pack(sum[0], sum[1], sum[2], sum[3]);
    if (Full)
      store(y, bytes);
    else
      __builtin_memcpy(y, &bytes, static_cast<size_t>(n));
  }
}

void row(const QDepthwiseRow* t) {
  int64_t c = 0;
  for (; c + 4 * kW <= t->c; c += 4 * kW) block<s32, true>(*t, c, 4 * kW);
  for (; c + 16 <= t->c; c += 16) block<s32x4, true>(*t, c, 16);
  if (c < t->c) block<s32x4, false>(*t, c, static_cast<int>(t->c - c));
}

constexpr QDepthwiseKernels kTable = {kDotSigned, 4 * kW, row};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const QDepthwiseKernels* DK_CAT(qdepthwise_, DK_DOT_SUFFIX)() { return &kTable; }

}  // namespace dk
