#include "kernels/winograd/winograd.h"

#include "base/cpu.h"

namespace dk {

DK_KERNEL_SETS(winograd, WinogradKernels)
const WinogradKernels* winograd_kernels() { return DK_PICK_KERNELS(winograd); }

namespace {
constexpr double kA = 0.70710678118654752440, kB = 1.41421356237309504880;
// Row of point p: (1, p, p^2) / prod over the other points q of (p - q).
const double kG2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
const double kG4[6][3] = {{1, 0, 0},
                          {-2.0 / 3, -2.0 / 3 * kA, -1.0 / 3},
                          {-2.0 / 3, 2.0 / 3 * kA, -1.0 / 3},
                          {1.0 / 6, 1.0 / 6 * kB, 1.0 / 3},
                          {1.0 / 6, -1.0 / 6 * kB, 1.0 / 3},
                          {0, 0, 1}};
}  // namespace

void winograd_weight(int r, const float* g, int64_t step, float* to, int64_t stride) {
  const double (*m)[3] = r == 2 ? kG2 : kG4;
  const int t = r + 2;
  double half[6][3];
  for (int i = 0; i < t; ++i)
    for (int x = 0; x < 3; ++x) {
      half[i][x] = 0;
      for (int y = 0; y < 3; ++y) half[i][x] += m[i][y] * static_cast<double>(g[(y * 3 + x) * step]);
    }
  for (int i = 0; i < t; ++i)
    for (int j = 0; j < t; ++j) {
      double sum = 0;
      for (int x = 0; x < 3; ++x) sum += half[i][x] * m[j][x];
      to[(i * t + j) * stride] = static_cast<float>(sum);
    }
}

}  // namespace dk
