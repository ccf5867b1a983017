// See qwinograd.h for the contract.
#include <immintrin.h>

#include "kernels/qwinograd/qwinograd.h"
#include "simd/vec.h"

namespace dk {
namespace {
typedef __m256i Vec;

// One column of B' x, or row of x B.
DK_INL void input_1d(Vec& a, Vec& b, Vec& c, Vec& d) {
  const Vec first = _mm256_sub_epi16(a, c), sum = _mm256_add_epi16(b, c), difference = _mm256_sub_epi16(c, b);
  d = _mm256_sub_epi16(b, d);
  a = first, b = sum, c = difference;
}

void input(const uint8_t* const* x, uint8_t flip, int32_t zero, int64_t c, int16_t* v, int64_t step) {
  const __m128i turn = _mm_set1_epi8(static_cast<char>(flip));
  const Vec z = _mm256_set1_epi16(static_cast<int16_t>(zero));
  for (int64_t k = 0; k < c; k += 16) {
    Vec t[16];
    DK_UNROLL
    for (int i = 0; i < 16; ++i) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x[i] + k));
      t[i] = _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm_xor_si128(bytes, turn)), z);
    }
    DK_UNROLL
    for (int i = 0; i < 4; ++i) input_1d(t[i], t[4 + i], t[8 + i], t[12 + i]);
    DK_UNROLL
    for (int i = 0; i < 4; ++i) input_1d(t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]);
    DK_UNROLL
    for (int i = 0; i < 16; ++i) _mm256_storeu_si256(reinterpret_cast<Vec*>(v + i * step + k), t[i]);
  }
}

template <int M>
void rows_of(const int16_t* a, int64_t lda, const int16_t* b, int64_t pairs, int32_t* to) {
  Vec acc[M][2];
  DK_UNROLL
  for (int i = 0; i < M; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
  const int16_t* row[M];
  DK_UNROLL
  for (int i = 0; i < M; ++i) row[i] = a + i * lda;
  for (int64_t k = 0; k < pairs; ++k, b += 32) {
    const Vec b0 = _mm256_load_si256(reinterpret_cast<const Vec*>(b));
    const Vec b1 = _mm256_load_si256(reinterpret_cast<const Vec*>(b + 16));
    DK_UNROLL
    for (int i = 0; i < M; ++i) {
      int32_t pair;
      __builtin_memcpy(&pair, row[i] + 2 * k, 4);
      const Vec av = _mm256_set1_epi32(pair);
      acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(av, b0));
      DK_PIN(acc[i][0]);
      acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(av, b1));
      DK_PIN(acc[i][1]);
    }
  }
  DK_UNROLL
  for (int i = 0; i < M; ++i) {
    _mm256_store_si256(reinterpret_cast<Vec*>(to + i * 16), acc[i][0]);
    _mm256_store_si256(reinterpret_cast<Vec*>(to + i * 16 + 8), acc[i][1]);
  }
}

void multiply(const int16_t* a, int64_t lda, const int16_t* b, int64_t pairs, int64_t m, int32_t* to) {
  constexpr void (*kRows[])(const int16_t*, int64_t, const int16_t*, int64_t, int32_t*) = {
      rows_of<1>, rows_of<2>, rows_of<3>, rows_of<4>, rows_of<5>, rows_of<6>};
  const int64_t blocks = (m + 5) / 6, least = m / blocks, more = m % blocks;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t rows = least + (i < more);
    kRows[rows - 1](a, lda, b, pairs, to);
    a += rows * lda;
    to += rows * 16;
  }
}

DK_INL Vec load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Vec*>(p)); }
DK_INL void store(int32_t* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<Vec*>(p), v); }

void output(const int32_t* m, int64_t step, int64_t tiles, const int32_t* bias, int32_t* top, int32_t* bottom) {
  for (int64_t t = 0; t < tiles; ++t, m += 16, top += 32, bottom += 32) {
    for (int j = 0; j < 16; j += 8) {
      Vec half[2][4];
      DK_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int32_t* at = m + i * step + j;
        const Vec a = load(at), b = load(at + 4 * step), c = load(at + 8 * step), d = load(at + 12 * step);
        half[0][i] = _mm256_add_epi32(a, _mm256_add_epi32(b, c));
        half[1][i] = _mm256_sub_epi32(_mm256_sub_epi32(b, c), d);
      }
      const Vec from = load(bias + j);
      auto put = [&](int32_t* y, const Vec* h) __attribute__((always_inline)) {
        const Vec left = _mm256_add_epi32(h[0], _mm256_add_epi32(h[1], h[2]));
        const Vec right = _mm256_sub_epi32(_mm256_sub_epi32(h[1], h[2]), h[3]);
        store(y + j, _mm256_add_epi32(_mm256_srai_epi32(left, 2), from));
        store(y + 16 + j, _mm256_add_epi32(_mm256_srai_epi32(right, 2), from));
      };
      put(top, half[0]);
      put(bottom, half[1]);
    }
  }
}

constexpr QWinogradKernels kTable = {input, multiply, output};

}  // namespace

const QWinogradKernels* qwinograd_x86_avx2() { return &kTable; }

}  // namespace dk
