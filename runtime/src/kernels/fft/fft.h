// Discrete Fourier transforms of any length.
//
// Lengths whose prime factors are at most kLargestRadix: Stockham's self-sorting form of Cooley and Tukey's algorithm,
// radices 4, 2, 3, 5 and a general one.  Other lengths: Bluestein's algorithm (a convolution with a chirp, by
// transforms of a power of two).  Real signals of even length use one transform of half the length.
//
// Complex numbers are pairs (re, im).  A plan is one block of memory that the caller provides; work areas too.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

constexpr int64_t kLargestRadix = 31;
constexpr int64_t kLongestFft = int64_t{1} << 40;

template <class W>
struct FftPlan {
  int64_t n = 0;
  int64_t radix_n = 0;  // length of the transforms by radices: n, or Bluestein's power of two
  bool chirp = false;
  int factors = 0;
  uint8_t factor[48];
  const W* roots = nullptr;   // exp(-2 pi i k / radix_n), k < radix_n
  const W* wave = nullptr;    // Bluestein: exp(-pi i k^2 / n), k < n
  const W* filter = nullptr;  // Bluestein: transform of the conjugate wave, divided by radix_n
};

template <class W>
size_t fft_plan_bytes(int64_t n);  // for the tables of a plan of length n >= 1
template <class W>
size_t fft_work_bytes(int64_t n);  // for one transform
template <class W>
void fft_plan(FftPlan<W>* plan, int64_t n, void* memory, void* work);

// data: n complex numbers, transformed in place; inverse is not divided by n.
template <class W>
void fft(const FftPlan<W>& plan, W* data, bool inverse, void* work);

// The first n / 2 + 1 bins of n real numbers (n even; `half` is a plan of n / 2, roots[k] = exp(-2 pi i k / n), k <= n
// / 4 at least): data holds the numbers and receives n + 2 numbers.
template <class W>
void fft_real(const FftPlan<W>& half, int64_t n, const W* roots, W* data, void* work);

// to[k] = exp(-2 pi i k / n), k < count.
template <class W>
void fft_roots(int64_t n, int64_t count, W* to);

}  // namespace dk
