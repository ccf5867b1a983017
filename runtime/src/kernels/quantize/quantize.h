// Between float32 and integers: real = scale * (q - zero).
//
// Rounding is to nearest even, quotients are true divisions rounded to float32, NaN counts as 0 and infinities
// saturate: the same bits on every ISA.  Nothing is read or written beyond n elements.
#pragma once
#include <cstdint>

namespace dk {

struct QuantizeRow {
  const float* scale;
  int64_t scale_step;  // 0: one scale for the row; 1: one per element
  const int32_t* zero;
  int64_t zero_step;
  int64_t n;
};

struct QuantizeKernels {
  // y = clamp(round(x / scale) + zero)
  void (*to_u8)(const QuantizeRow* r, const float* x, uint8_t* y);
  void (*to_s8)(const QuantizeRow* r, const float* x, int8_t* y);
  void (*to_s32)(const QuantizeRow* r, const float* x, int32_t* y, int32_t low, int32_t high);  // |low|, |high| <= 2^16
  // y = (x - zero) * scale
  void (*from_u8)(const QuantizeRow* r, const uint8_t* x, float* y);
  void (*from_s8)(const QuantizeRow* r, const int8_t* x, float* y);
  void (*from_s32)(const QuantizeRow* r, const int32_t* x, float* y);
  // y = x / scale
  void (*divide)(const QuantizeRow* r, const float* x, float* y);
  // Smallest and largest of n numbers and what is in *low and *high before.
  void (*range)(const float* x, int64_t n, float* low, float* high);
};

const QuantizeKernels* quantize_kernels();

}  // namespace dk
