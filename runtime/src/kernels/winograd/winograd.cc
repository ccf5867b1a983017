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

void winograd_weight(int r, const float* g, int64_t c, float* to, int64_t stride) {
  constexpr int kLanes = 8;  // channels at once: loops that any compiler turns into vectors
  const double (*m)[3] = r == 2 ? kG2 : kG4;
  const int t = r + 2;
  for (int64_t c0 = 0; c0 < c; c0 += kLanes) {
    const int n = c - c0 < kLanes ? static_cast<int>(c - c0) : kLanes;
    double in[9][kLanes], half[6][3][kLanes];
    for (int k = 0; k < 9; ++k)
      for (int l = 0; l < kLanes; ++l) in[k][l] = l < n ? static_cast<double>(g[k * c + c0 + l]) : 0.0;
    for (int i = 0; i < t; ++i)
      for (int x = 0; x < 3; ++x)
        for (int l = 0; l < kLanes; ++l)
          half[i][x][l] = in[x][l] * m[i][0] + in[3 + x][l] * m[i][1] + in[6 + x][l] * m[i][2];
    for (int i = 0; i < t; ++i)
      for (int j = 0; j < t; ++j) {
        float out[kLanes];
        for (int l = 0; l < kLanes; ++l)
          out[l] = static_cast<float>(half[i][0][l] * m[j][0] + half[i][1][l] * m[j][1] + half[i][2][l] * m[j][2]);
        float* at = to + (i * t + j) * stride + c0;
        for (int l = 0; l < n; ++l) at[l] = out[l];
      }
  }
}

}  // namespace dk
