// Two-dimensional transposition of small elements by register blocks.
#pragma once
#include <cstdint>

namespace dk {

// dst[i, j] = src[j, i] for i < rows, j < cols.  Elements of esize 1, 2, 4, 8 or 16 bytes; within a source row (i) and
// within a destination row (j) they are contiguous; the row strides count bytes.  Reads and writes nothing beyond.
void transpose_block(int esize, int64_t rows, int64_t cols, const char* src, int64_t src_stride, char* dst,
                     int64_t dst_stride);

}  // namespace dk
