// 8-bit 3x3 convolution with stride 1 by Winograd's F(2,3) in whole numbers: the same bits as direct summation, by 16
// products where that takes 36.  For sets whose 8-bit products go by pairs of 16-bit numbers anyway (x86 with AVX2 and
// no VNNI); a dot instruction on bytes is as fast without.
//
//   4 y = A' [(2G g 2G') * (B' x B)] A      A, B and 2G hold 0, 1, 2 and their negatives (kernels/winograd/winograd.h)
//
// x - zero lies in -255..255, so B' x B in -1020..1020, and 2G g 2G' in -1152..1152: both are 16-bit numbers, and their
// sums over up to kQWinogradMaxChannels channels fit 32 bits.  What is between wraps around and comes back.
//
// U = 2G g 2G' is packed per panel of 16 columns [16 positions][ceil(c / 2)][16][2]; V = B' x B lies [16 positions]
// [tiles][stride].  Over-read: up to 15 bytes behind the c bytes of a pixel (times zero), whole panels of bias.
#pragma once
#include "kernels/conv/conv.h"
#include "kernels/qgemm/qgemm.h"

namespace dk {

constexpr int kQWinogradColumns = 16;
constexpr int64_t kQWinogradMaxChannels = 1800;

struct QWinogradKernels {
  // V of one tile, channels [0, c) and up to 15 more: position p to v + p * step.  x: 16 pixels.
  void (*input)(const uint8_t* const* x, uint8_t flip, int32_t zero, int64_t c, int16_t* v, int64_t step);
  // m rows of A, lda apart, times a position of a panel: to [m][16].
  void (*multiply)(const int16_t* a, int64_t lda, const int16_t* b, int64_t pairs, int64_t m, int32_t* to);
  // Sums of `tiles` tiles, position p at m + p * step: [tiles][16] each, to two lines of 2 * tiles pixels.
  void (*output)(const int32_t* m, int64_t step, int64_t tiles, const int32_t* bias, int32_t* top, int32_t* bottom);
};

const QWinogradKernels* qwinograd_kernels();  // null where direct summation is as fast

struct QWinograd {
  const QWinogradKernels* kernels = nullptr;
  const QGemmKernels* gemm = nullptr;
  int64_t columns = 0;          // padded to whole panels
  int64_t stride = 0;           // of a tile's channels in V
  int64_t rows = 0, block = 0;  // of tiles; done at once
};

// What a convolution of one group from c to n channels takes, for this many threads; kernels null: not this way.
QWinograd qwinograd_plan(const ConvGeometry& g, int64_t n, int threads);
size_t qwinograd_weight_bytes(const QWinograd& w, const ConvGeometry& g);
size_t qwinograd_room(const QWinograd& w, const ConvGeometry& g);  // of a thread

// weight: [n][3][3][c].  Panels [p0, p1).
void qwinograd_pack(const QWinograd& w, const ConvGeometry& g, const int8_t* weight, int64_t n, int16_t* packed,
                    int64_t p0, int64_t p1);

struct QWinogradProblem {
  const QWinograd* w;
  const ConvGeometry* g;
  const uint8_t* x;
  const uint8_t* zeros;  // a pixel of zero points
  uint8_t flip;          // 0x80 for signed bytes
  uint8_t zero;          // as the bytes are
  const int16_t* packed;
  const int32_t* bias;  // w->columns numbers, without any zero point
  int64_t n;
  void* c;  // [images, out, n]
  const QEpilogue* epilogue;
};

// Blocks [b0, b1) of w->block rows of tiles, images one after another.
int64_t qwinograd_blocks(const QWinograd& w, const ConvGeometry& g);
void qwinograd_run(const QWinogradProblem& p, int64_t b0, int64_t b1, void* room);

}  // namespace dk
