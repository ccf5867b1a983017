#include "kernels/qdepthwise/qdepthwise.h"

#include <cstring>

#include "base/cpu.h"

namespace dk {

DK_DOT_SETS(qdepthwise, QDepthwiseKernels)
const QDepthwiseKernels* qdepthwise_kernels() { return DK_PICK_DOT(qdepthwise); }

int64_t qdepthwise_padded(int64_t c) { return (c + 15) / 16 * 16; }

size_t qdepthwise_bytes(int64_t c, int64_t rows, int64_t kernel) {
  return static_cast<size_t>(qdepthwise_padded(c) * rows * ((kernel + 3) / 4) * 4);
}

// First channel and channels of the block that holds channel i: full blocks, then halves of them down to 16.
static void block_of(const QDepthwiseKernels* k, int64_t c, int64_t i, int64_t* first, int64_t* size) {
  int64_t start = 0;
  *size = k->block;
  for (; *size > 16; *size /= 2) {
    const int64_t end = start + (c - start) / *size * *size;
    if (i < end) break;
    start = end;
  }
  *first = start + (i - start) / *size * *size;
}

int64_t qdepthwise_place(const QDepthwiseKernels* k, int64_t c, int64_t i) {
  int64_t first, size;
  block_of(k, c, i, &first, &size);
  const int64_t at = i - first, j = at % 16 / 4, lane = at / 16 * 4 + at % 4;
  return first + j * (size / 4) + lane;
}

void qdepthwise_pack(const QDepthwiseKernels* k, int64_t c, int64_t rows, int64_t kernel, const int8_t* weight,
                     int8_t* packed, int32_t* sums) {
  const int64_t quads = (kernel + 3) / 4;
  std::memset(packed, 0, qdepthwise_bytes(c, rows, kernel));
  for (int64_t i = 0; i < c; ++i) {
    int64_t first, size;
    block_of(k, c, i, &first, &size);
    int8_t* to = packed + first * rows * quads * 4 + (qdepthwise_place(k, c, i) - first) * 4;
    const int8_t* from = weight + i * rows * kernel;
    int32_t sum = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t x = 0; x < kernel; ++x) {
        to[(r * quads + x / 4) * size * 4 + x % 4] = *from;
        sum += *from++;
      }
    sums[i] = sum;
  }
}

}  // namespace dk
