// 8-bit depthwise convolution over a padded image.
//
// Bytes of four neighbouring taps of a kernel row are transposed in registers, so that lane c holds the four taps of
// channel c and one dot (simd/dot.h) adds them.  Channels go in blocks of 4 * kW (64 with AVX-512), the rest in blocks
// of half that size, down to 16.  Interleaving four vectors of bytes leaves the channels of a block in the order
//
//   vector j, lane e:  16 * (e / 4) + 4 * j + e % 4
//
// in which weights, bias and multiplier are packed; narrowing the sums back to bytes undoes it.
//
// Weights: per block [kernel rows][ceil(kernel / 4)][4 vectors][lanes][4 taps], zeros behind the kernel's end.
// Over-read: up to 3 taps behind a kernel row (times zero), and up to 15 bytes behind the last channel: the image must
// be followed by 3 * tap_step + 64 readable bytes.  Only the c bytes of a pixel are written.
#pragma once
#include "kernels/qgemm/qgemm.h"

namespace dk {

struct QDepthwiseStrip {
  const uint8_t* x;       // first tap of the first output pixel
  uint32_t x_flip;        // 0 or 0x80808080, as QGemmTile::a_flip
  int64_t rows;           // kernel rows
  const int64_t* row_at;  // bytes from x to each
  int64_t kernel;         // taps of a row
  int64_t tap_step;       // bytes between taps
  int64_t step;           // bytes between output pixels' windows
  int64_t line_step;      // bytes between output lines' windows
  int64_t out, lines;     // pixels of a line; lines
  int64_t c;
  const int8_t* weight;
  const int32_t* bias;  // packed, zero point of x included
  const QEpilogue* e;   // multiplier packed; no residual, no mid, bytes only
  uint8_t* y;           // [lines, out, c]
};

struct QDepthwiseKernels {
  bool a_signed;
  int block;  // channels of a full block
  void (*strip)(const QDepthwiseStrip*);
};

const QDepthwiseKernels* qdepthwise_kernels();

// Channels after padding to whole blocks, and bytes of packed weights.
int64_t qdepthwise_padded(int64_t c);
size_t qdepthwise_bytes(int64_t c, int64_t rows, int64_t kernel);
// Where channel i stands in packed vectors of numbers.
int64_t qdepthwise_place(const QDepthwiseKernels* k, int64_t c, int64_t i);
// weight: [c][rows * kernel]; sums: the sum of each channel's weights, unpacked.
void qdepthwise_pack(const QDepthwiseKernels* k, int64_t c, int64_t rows, int64_t kernel, const int8_t* weight,
                     int8_t* packed, int32_t* sums);

}  // namespace dk
