// Quantization at run time: bytes of float32 rows as dynamic_quantize makes them.
#pragma once
#include <cmath>

#include "kernels/quantize/quantize.h"
#include "ops/op.h"

namespace dk {

// Scale and zero point of dynamic_quantize for numbers in [low, high] (which holds 0).
inline void dynamic_scale(float low, float high, float* scale, int32_t* zero) {
  *scale = high > low ? (high - low) / 255.0f : 1.0f;
  const float point = std::nearbyint(-low / *scale);
  *zero = point > 0 ? point < 255 ? static_cast<int32_t>(point) : 255 : 0;
}

// Bytes of m rows of k numbers with scale[i] and zero[i], of each row or of all together.  ranges: 32 floats per
// thread.
inline void dynamic_bytes(const OpContext& c, const QuantizeKernels* kernels, const float* x, int64_t m, int64_t k,
                          bool per_row, uint8_t* q, float* scale, int32_t* zero, float* ranges) {
  if (!per_row) {
    for (int i = 0; i < c.threads(); ++i) ranges[32 * i] = ranges[32 * i + 1] = 0;
    c.parallel(m * k, 16384, [&](int64_t b, int64_t e, int lane) {
      kernels->range(x + b, e - b, ranges + 32 * lane, ranges + 32 * lane + 1);
    });
    for (int i = 1; i < c.threads(); ++i) {
      if (ranges[32 * i] < ranges[0]) ranges[0] = ranges[32 * i];
      if (ranges[32 * i + 1] > ranges[1]) ranges[1] = ranges[32 * i + 1];
    }
    dynamic_scale(ranges[0], ranges[1], scale, zero);
    for (int64_t i = 1; i < m; ++i) scale[i] = scale[0], zero[i] = zero[0];
  }
  c.parallel(m, 1 + 16384 / (k + 1), [&](int64_t b, int64_t e, int) {
    for (int64_t i = b; i < e; ++i) {
      if (per_row) {
        float low = 0, high = 0;
        kernels->range(x + i * k, k, &low, &high);
        dynamic_scale(low, high, scale + i, zero + i);
      }
      const QuantizeRow how = {scale + i, 0, zero + i, 0, k};
      kernels->to_u8(&how, x + i * k, q + i * k);
    }
  });
}

}  // namespace dk
