// Register tiles: interleaving pairs of rows log2(n) times transposes an n x n tile (unpack low/high, the "perfect
// shuffle" way).  128-bit vectors are enough: from L2 outwards the loop is bound by memory, not by shuffles.
#include "kernels/move/transpose.h"

#include <cstring>

namespace dk {
namespace {

struct E16 {
  uint64_t a, b;
};

typedef uint8_t v16u8 __attribute__((vector_size(16)));
typedef uint16_t v8u16 __attribute__((vector_size(16)));
typedef uint32_t v4u32 __attribute__((vector_size(16)));

#if defined(__clang__)
#define DK_SHUFFLE(V, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DK_SHUFFLE(V, a, b, ...) __builtin_shuffle(a, b, V{__VA_ARGS__})
#endif

inline v16u8 low(v16u8 a, v16u8 b) {
  return DK_SHUFFLE(v16u8, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline v16u8 high(v16u8 a, v16u8 b) {
  return DK_SHUFFLE(v16u8, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
inline v8u16 low(v8u16 a, v8u16 b) { return DK_SHUFFLE(v8u16, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline v8u16 high(v8u16 a, v8u16 b) { return DK_SHUFFLE(v8u16, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline v4u32 low(v4u32 a, v4u32 b) { return DK_SHUFFLE(v4u32, a, b, 0, 4, 1, 5); }
inline v4u32 high(v4u32 a, v4u32 b) { return DK_SHUFFLE(v4u32, a, b, 2, 6, 3, 7); }

// One stage interleaves row i with row i + N/2; after log2(N) stages row i holds column i.
template <class V, int N>
inline void tile(const char* src, int64_t ss, char* dst, int64_t ds) {
  V r[N], t[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) memcpy(&r[i], src + i * ss, sizeof(V));
#pragma GCC unroll 4
  for (int stage = 1; stage < N; stage *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) {
      t[2 * i] = low(r[i], r[i + N / 2]);
      t[2 * i + 1] = high(r[i], r[i + N / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) r[i] = t[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) memcpy(dst + i * ds, &r[i], sizeof(V));
}

template <class T>
inline void plain(int64_t rows, int64_t cols, const char* src, int64_t ss, char* dst, int64_t ds) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) memcpy(dst + i * ds + j * sizeof(T), src + j * ss + i * sizeof(T), sizeof(T));
}

// Few columns (planar image to pixels): walk along the source rows, the destination is written in order.
template <class T, int C>
inline void few_cols(int64_t rows, const char* src, int64_t ss, char* dst, int64_t ds) {
  for (int64_t i = 0; i < rows; ++i)
    for (int j = 0; j < C; ++j) memcpy(dst + i * ds + j * sizeof(T), src + j * ss + i * sizeof(T), sizeof(T));
}

// Few rows (pixels to planar image).
template <class T, int R>
inline void few_rows(int64_t cols, const char* src, int64_t ss, char* dst, int64_t ds) {
  for (int64_t j = 0; j < cols; ++j)
    for (int i = 0; i < R; ++i) memcpy(dst + i * ds + j * sizeof(T), src + j * ss + i * sizeof(T), sizeof(T));
}

// Three planes of bytes to pixels: each 16 bytes of the result take theirs from two planes, then from the third.
inline int64_t interleave3(int64_t rows, const char* src, int64_t ss, char* dst) {
  int64_t i = 0;
  for (; i + 16 <= rows; i += 16) {
    v16u8 a, b, c;
    memcpy(&a, src + i, 16);
    memcpy(&b, src + ss + i, 16);
    memcpy(&c, src + 2 * ss + i, 16);
    const v16u8 t0 = DK_SHUFFLE(v16u8, a, b, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    const v16u8 y0 = DK_SHUFFLE(v16u8, t0, c, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
    memcpy(dst + i * 3 + 0, &y0, 16);
    const v16u8 t1 = DK_SHUFFLE(v16u8, a, b, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    const v16u8 y1 = DK_SHUFFLE(v16u8, t1, c, 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15);
    memcpy(dst + i * 3 + 16, &y1, 16);
    const v16u8 t2 = DK_SHUFFLE(v16u8, a, b, 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    const v16u8 y2 = DK_SHUFFLE(v16u8, t2, c, 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31);
    memcpy(dst + i * 3 + 32, &y2, 16);
  }
  return i;
}

template <class T, class V>
void blocks(int64_t rows, int64_t cols, const char* src, int64_t ss, char* dst, int64_t ds) {
  constexpr int N = sizeof(V) / sizeof(T), S = sizeof(T);
  switch (cols) {
    case 2: return few_cols<T, 2>(rows, src, ss, dst, ds);
    case 3:
      if (S == 1 && ds == 3) {
        const int64_t done = interleave3(rows, src, ss, dst);
        return few_cols<T, 3>(rows - done, src + done, ss, dst + 3 * done, ds);
      }
      return few_cols<T, 3>(rows, src, ss, dst, ds);
    default: break;
  }
  switch (rows) {
    case 1: return few_rows<T, 1>(cols, src, ss, dst, ds);
    case 2: return few_rows<T, 2>(cols, src, ss, dst, ds);
    case 3: return few_rows<T, 3>(cols, src, ss, dst, ds);
    default: break;
  }
  int64_t j = 0;
  for (; j + N <= cols; j += N) {
    int64_t i = 0;
    for (; i + N <= rows; i += N) tile<V, N>(src + j * ss + i * S, ss, dst + i * ds + j * S, ds);
    if (i < rows) plain<T>(rows - i, N, src + j * ss + i * S, ss, dst + i * ds + j * S, ds);
  }
  if (j < cols) plain<T>(rows, cols - j, src + j * ss, ss, dst + j * S, ds);
}

}  // namespace

void transpose_block(int esize, int64_t rows, int64_t cols, const char* src, int64_t ss, char* dst, int64_t ds) {
  switch (esize) {
    case 1: blocks<uint8_t, v16u8>(rows, cols, src, ss, dst, ds); break;
    case 2: blocks<uint16_t, v8u16>(rows, cols, src, ss, dst, ds); break;
    case 4: blocks<uint32_t, v4u32>(rows, cols, src, ss, dst, ds); break;
    case 8: plain<uint64_t>(rows, cols, src, ss, dst, ds); break;
    default: plain<E16>(rows, cols, src, ss, dst, ds); break;
  }
}

}  // namespace dk
