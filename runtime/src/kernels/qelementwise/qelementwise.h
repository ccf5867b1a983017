// Elementwise work on bytes: sums, products and tables.  Formulas in deploykit/ops/quantized.py.  Signed bytes are
// handled as unsigned ones 128 higher; flips are 0x80 for them, 0 else.  Steps are 1, or 0 for an operand that is one
// value.  Nothing is written beyond n; up to 64 bytes behind the end of inputs may be read.
#pragma once
#include <cstdint>

namespace dk {

struct QBinary {
  const uint8_t* a;
  const uint8_t* b;
  uint8_t* y;
  int64_t n;
  int a_step, b_step;
  uint8_t a_flip, b_flip, y_flip;
  int32_t a_zero, b_zero, y_zero, low, high;  // all of unsigned bytes
  float a_scale, b_scale;                     // of a product: a_scale counts
};

struct QElementwiseKernels {
  void (*add)(const QBinary*);
  void (*mul)(const QBinary*);
  void (*lut)(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n);
  // y = clip(round(v) + zero, low, high) ^ flip
  void (*store)(const float* v, int64_t n, int32_t zero, int32_t low, int32_t high, uint8_t flip, uint8_t* y);
  // sums[i] += x[i] ^ flip
  void (*accumulate)(const uint8_t* x, int64_t n, uint8_t flip, int32_t* sums);
  // y = round(float(sum - offset) / count * multiplier), stored as above
  void (*average)(const int32_t* sums, int64_t n, int32_t offset, float count, float multiplier, int32_t zero,
                  int32_t low, int32_t high, uint8_t flip, uint8_t* y);
};

const QElementwiseKernels* qelementwise_kernels();

}  // namespace dk
