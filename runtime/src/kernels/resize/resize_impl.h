// Compiled once per ISA.  See resize.h for the contract.
#include "kernels/resize/resize.h"
#include "simd/vec.h"

namespace dk {
namespace {
using namespace simd;

template <int T>
DK_INL void rows_of(float* to, const float* const* rows, const float* weight, int taps, int64_t n) {
  if (T > 0) taps = T;
  int64_t i = 0;
  for (; i + kW <= n; i += kW) {
    f32 acc = load<f32>(rows[0] + i) * splat<f32>(weight[0]);
    for (int t = 1; t < taps; ++t) acc = fma(load<f32>(rows[t] + i), splat<f32>(weight[t]), acc);
    store(to + i, acc);
  }
  if (i < n) {
    const int left = static_cast<int>(n - i);
    f32 acc = load_n<f32>(rows[0] + i, left) * splat<f32>(weight[0]);
    for (int t = 1; t < taps; ++t) acc = fma(load_n<f32>(rows[t] + i, left), splat<f32>(weight[t]), acc);
    store_n(to + i, acc, left);
  }
}

void rows(float* to, const float* const* from, const float* weight, int taps, int64_t n) {
  if (taps == 2)
    rows_of<2>(to, from, weight, taps, n);
  else
    rows_of<0>(to, from, weight, taps, n);
}

// Few channels: the sums of one pixel in scalar registers.
template <int C>
DK_INL void cols_few(float* to, const float* from, const int32_t* index, const float* weight, int taps, int64_t n) {
  for (int64_t j = 0; j < n; ++j, index += taps, weight += taps, to += C) {
    float acc[C] = {0};
    for (int t = 0; t < taps; ++t) {
      const float* p = from + static_cast<int64_t>(index[t]) * C;
      for (int k = 0; k < C; ++k) acc[k] += p[k] * weight[t];
    }
    for (int k = 0; k < C; ++k) to[k] = acc[k];
  }
}

template <int T>
DK_INL void cols_many(float* to, const float* from, const int32_t* index, const float* weight, int taps, int64_t n,
                      int64_t c) {
  if (T > 0) taps = T;
  const int left = static_cast<int>(c % kW);
  const int64_t whole = c - left;
  for (int64_t j = 0; j < n; ++j, index += taps, weight += taps, to += c) {
    for (int64_t k = 0; k < whole; k += kW) {
      f32 acc = load<f32>(from + index[0] * c + k) * splat<f32>(weight[0]);
      for (int t = 1; t < taps; ++t) acc = fma(load<f32>(from + index[t] * c + k), splat<f32>(weight[t]), acc);
      store(to + k, acc);
    }
    if (left) {
      f32 acc = load_n<f32>(from + index[0] * c + whole, left) * splat<f32>(weight[0]);
      for (int t = 1; t < taps; ++t)
        acc = fma(load_n<f32>(from + index[t] * c + whole, left), splat<f32>(weight[t]), acc);
      store_n(to + whole, acc, left);
    }
  }
}

void cols(float* to, const float* from, const int32_t* index, const float* weight, int taps, int64_t n, int64_t c) {
  switch (c) {
    case 1: return cols_few<1>(to, from, index, weight, taps, n);
    case 2: return cols_few<2>(to, from, index, weight, taps, n);
    case 3: return cols_few<3>(to, from, index, weight, taps, n);
    default: break;
  }
  if (taps == 2)
    cols_many<2>(to, from, index, weight, taps, n, c);
  else
    cols_many<0>(to, from, index, weight, taps, n, c);
}

// Plain loops: the compiler's vectors do, and no ISA fuses here, so every one gives the same bits.
template <int T>
DK_INL void rows64_of(double* DK_RESTRICT to, const double* const* from, const double* weight, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    double v = from[0][i] * weight[0];
    for (int t = 1; t < T; ++t) v += from[t][i] * weight[t];
    to[i] = v;
  }
}

void rows64(double* DK_RESTRICT to, const double* const* from, const double* weight, int taps, int64_t n) {
  if (taps == 2) return rows64_of<2>(to, from, weight, n);
  if (taps == 4) return rows64_of<4>(to, from, weight, n);
  for (int64_t i = 0; i < n; ++i) to[i] = from[0][i] * weight[0];
  for (int t = 1; t < taps; ++t)
    for (int64_t i = 0; i < n; ++i) to[i] += from[t][i] * weight[t];
}

template <int C>
DK_INL void cols64_of(double* DK_RESTRICT to, const double* from, const int32_t* index, const double* weight, int taps,
                      int64_t n) {
  for (int64_t j = 0; j < n; ++j, index += taps, weight += taps, to += C) {
    double acc[C] = {0};
    for (int t = 0; t < taps; ++t) {
      const double* p = from + static_cast<int64_t>(index[t]) * C;
      for (int k = 0; k < C; ++k) acc[k] += p[k] * weight[t];
    }
    for (int k = 0; k < C; ++k) to[k] = acc[k];
  }
}

void cols64(double* DK_RESTRICT to, const double* from, const int32_t* index, const double* weight, int taps, int64_t n,
            int64_t c) {
  switch (c) {
    case 1: return cols64_of<1>(to, from, index, weight, taps, n);
    case 3: return cols64_of<3>(to, from, index, weight, taps, n);
    case 4: return cols64_of<4>(to, from, index, weight, taps, n);
    default: break;
  }
  for (int64_t j = 0; j < n; ++j, index += taps, weight += taps, to += c) {
    for (int64_t k = 0; k < c; ++k) to[k] = 0;
    for (int t = 0; t < taps; ++t) {
      const double* p = from + index[t] * c;
      for (int64_t k = 0; k < c; ++k) to[k] += p[k] * weight[t];
    }
  }
}

void from_u8(double* DK_RESTRICT to, const uint8_t* DK_RESTRICT from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

void to_u8(uint8_t* DK_RESTRICT to, const double* DK_RESTRICT from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    double v = from[i] > 0.0 ? from[i] : 0.0;
    v = v < 255.0 ? v : 255.0;
    // adding 2^52 leaves the nearest integer, ties to even, in the low bits
    const double shifted = v + 4503599627370496.0;
    int64_t whole;
    __builtin_memcpy(&whole, &shifted, 8);
    to[i] = static_cast<uint8_t>(whole);
  }
}

constexpr ResizeKernels kTable = {rows, cols, rows64, cols64, from_u8, to_u8};

}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const ResizeKernels* DK_CAT(resize_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
