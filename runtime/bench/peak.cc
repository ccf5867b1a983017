// Loops of independent instructions on registers.  Twelve sums hide a latency of up to six cycles on two pipes.
#include "peak.h"

#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/cpu.h"

namespace dk {
namespace {

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of several short tries: anything else that the core does only makes one slower.
template <class F>
double best_rate(double work_per_turn, F loop) {
  constexpr long kTurns = 100000;
  double best = 0;
  for (int i = 0; i < 60; ++i) {
    const double t = seconds();
    loop(kTurns);
    const double rate = work_per_turn * kTurns / (seconds() - t) * 1e-9;
    if (rate > best) best = rate;
  }
  return best;
}

#if defined(__x86_64__)
#define DK_TWELVE(op, reg)                                                                                            \
  op " %%" reg "14, %%" reg "15, %%" reg "0\n" op " %%" reg "14, %%" reg "15, %%" reg "1\n" op " %%" reg "14, %%" reg \
     "15, %%" reg "2\n" op " %%" reg "14, %%" reg "15, %%" reg "3\n" op " %%" reg "14, %%" reg "15, %%" reg "4\n" op  \
     " %%" reg "14, %%" reg "15, %%" reg "5\n" op " %%" reg "14, %%" reg "15, %%" reg "6\n" op " %%" reg "14, %%" reg \
     "15, %%" reg "7\n" op " %%" reg "14, %%" reg "15, %%" reg "8\n" op " %%" reg "14, %%" reg "15, %%" reg "9\n" op  \
     " %%" reg "14, %%" reg "15, %%" reg "10\n" op " %%" reg "14, %%" reg "15, %%" reg "11\n"
#define DK_LOOP(name, op, reg)                                                                                    \
  void name(long turns) {                                                                                         \
    asm volatile(                                                                                                 \
        "vxorps %%xmm14, %%xmm14, %%xmm14\n vxorps %%xmm15, %%xmm15, %%xmm15\n"                                   \
        "1:\n" DK_TWELVE(op, reg) DK_TWELVE(op, reg) "dec %0\n jnz 1b\n vzeroupper\n"                             \
        : "+r"(turns)                                                                                             \
        :                                                                                                         \
        : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
          "xmm14", "xmm15");                                                                                      \
  }
DK_LOOP(fma_512, "vfmadd231ps", "zmm")
DK_LOOP(fma_256, "vfmadd231ps", "ymm")
DK_LOOP(dot_512, "vpdpbusd", "zmm")
DK_LOOP(dot_256, "%{vex%} vpdpbusd", "ymm")
#endif

// Reads a multiple of 256 bytes, into registers that nobody looks at.
void read_all(const char* p, long bytes) {
#if defined(__x86_64__)
  const char* end = p + bytes;
  if (cpu_features().avx2) {
    asm volatile(
        "1:\n vmovaps (%0), %%ymm0\n vmovaps 32(%0), %%ymm1\n vmovaps 64(%0), %%ymm2\n vmovaps 96(%0), %%ymm3\n"
        "vmovaps 128(%0), %%ymm4\n vmovaps 160(%0), %%ymm5\n vmovaps 192(%0), %%ymm6\n vmovaps 224(%0), %%ymm7\n"
        "add $256, %0\n cmp %1, %0\n jb 1b\n vzeroupper\n"
        : "+r"(p)
        : "r"(end)
        : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
    return;
  }
#endif
  typedef long Part __attribute__((vector_size(16)));
  Part sum[4] = {};
  for (long i = 0; i < bytes; i += 64)
    for (int k = 0; k < 4; ++k) sum[k] += *reinterpret_cast<const Part*>(p + i + 16 * k);
  asm volatile("" : : "r"(sum) : "memory");
}

}  // namespace

double peak_fma() {
#if defined(__x86_64__)
  if (best_isa() == Isa::x86_avx512) return best_rate(24 * 16 * 2, fma_512);
  if (best_isa() == Isa::x86_avx2) return best_rate(24 * 8 * 2, fma_256);
#endif
  return 0;
}

double peak_dot() {
#if defined(__x86_64__)
  if (best_dot_isa() == DotIsa::x86_avx512vnni) return best_rate(24 * 64 * 2, dot_512);
  if (best_dot_isa() == DotIsa::x86_avxvnni) return best_rate(24 * 32 * 2, dot_256);
#endif
  return 0;
}

double read_rate(long bytes) {
  char* p = static_cast<char*>(aligned_alloc(4096, static_cast<size_t>(bytes)));
  if (!p) return 0;
  memset(p, 1, static_cast<size_t>(bytes));
  double best = 0;
  for (int i = 0; i < 12; ++i) {
    const long rounds = 1 + (long{16} << 20) / bytes;
    const double t = seconds();
    for (long r = 0; r < rounds; ++r) read_all(p, bytes);
    const double rate = static_cast<double>(rounds * bytes) / (seconds() - t) * 1e-9;
    if (rate > best) best = rate;
  }
  free(p);
  return best;
}

}  // namespace dk
