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

template <class T, class V>
void blocks(int64_t rows, int64_t cols, const char* src, int64_t ss, char* dst, int64_t ds) {
  constexpr int N = sizeof(V) / sizeof(T), S = sizeof(T);
  switch (cols) {
    case 2: return few_cols<T, 2>(rows, src, ss, dst, ds);
    case 3: return few_cols<T, 3>(rows, src, ss, dst, ds);
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
