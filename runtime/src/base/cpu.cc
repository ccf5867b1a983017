#include "base/cpu.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace dk {
namespace {

#if defined(__x86_64__)
// Which register files the OS saves (XCR0).  Spelled as bytes: the intrinsic needs -mxsave.
uint64_t xcr0() {
  uint32_t a, d;
  __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(a), "=d"(d) : "c"(0));
  return a | static_cast<uint64_t>(d) << 32;
}

CpuFeatures detect() {
  CpuFeatures f;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  f.sse42 = (c >> 20 & 1) && (c >> 23 & 1);  // and popcnt
  const bool osxsave = c >> 27 & 1;
  const bool fma = c >> 12 & 1, f16c = c >> 29 & 1;
  if (!osxsave) return f;
  const uint64_t x = xcr0();
  const bool ymm = (x & 0x6) == 0x6, zmm = (x & 0xe6) == 0xe6, tiles = (x & 0x60000) == 0x60000;
  if (!ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = b >> 5 & 1;
  f.fma = fma;
  f.f16c = f16c;
  f.avx512 = zmm && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
  f.avx512_vnni = f.avx512 && (c >> 11 & 1);
  f.amx_bf16 = tiles && (d >> 22 & 1) && (d >> 24 & 1);
  f.amx_int8 = tiles && (d >> 25 & 1) && (d >> 24 & 1);
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx_vnni = f.avx2 && (a >> 4 & 1);
  return f;
}
#elif defined(__aarch64__)
CpuFeatures detect() {
  CpuFeatures f;
  f.neon = true;
#if defined(__linux__)
  f.dotprod = getauxval(AT_HWCAP) >> 20 & 1;
  f.i8mm = getauxval(AT_HWCAP2) >> 13 & 1;
#elif defined(__APPLE__)
  f.dotprod = true;  // every Apple arm64 CPU that runs a supported system
#endif
  return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

constexpr const char* kNames[] = {"scalar",   "x86_sse41",    "x86_avx2",    "x86_avx512",
                                  "arm_neon", "wasm_simd128", "wasm_relaxed"};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == static_cast<size_t>(Isa::count));

Isa choose() {
#if defined(__wasm_relaxed_simd__)
  return Isa::wasm_relaxed;
#elif defined(__wasm_simd128__)
  return Isa::wasm_simd128;
#else
  Isa isa = Isa::scalar;
#if !defined(__wasm__)
  const char* forced = std::getenv("DK_ISA");
  if (forced && isa_from_name(forced, &isa) && isa_runs(isa)) return isa;
#endif
  constexpr Isa order[] = {Isa::x86_sse41, Isa::x86_avx2, Isa::x86_avx512, Isa::arm_neon};
  for (Isa better : order)
    if (isa_runs(better)) isa = better;
  return isa;
#endif
}

// Filled in by the first callers: all of them write the same, so a race is harmless (the flag is written last).
CpuFeatures features;
uint8_t features_known, isa_known;
Isa isa_chosen;

}  // namespace

const CpuFeatures& cpu_features() {
  if (!__atomic_load_n(&features_known, __ATOMIC_ACQUIRE)) {
    features = detect();
    __atomic_store_n(&features_known, 1, __ATOMIC_RELEASE);
  }
  return features;
}

bool isa_runs(Isa isa) {
  const CpuFeatures& f = cpu_features();
  switch (isa) {
#if defined(__wasm_relaxed_simd__)
    case Isa::wasm_relaxed: return true;
#elif defined(__wasm_simd128__)
    case Isa::wasm_simd128: return true;
#else
    case Isa::scalar: return true;
    case Isa::x86_sse41: return f.sse42;
    case Isa::x86_avx2: return f.avx2 && f.fma && f.f16c;
    case Isa::x86_avx512: return f.avx2 && f.fma && f.f16c && f.avx512;
    case Isa::arm_neon: return f.neon;
#endif
    default: return false;
  }
}

Isa best_isa() {
  if (!__atomic_load_n(&isa_known, __ATOMIC_ACQUIRE)) {
    isa_chosen = choose();
    __atomic_store_n(&isa_known, 1, __ATOMIC_RELEASE);
  }
  return isa_chosen;
}

const char* isa_name(Isa isa) { return isa < Isa::count ? kNames[static_cast<int>(isa)] : "?"; }

bool isa_from_name(const char* name, Isa* to) {
  for (int i = 0; i < static_cast<int>(Isa::count); ++i)
    if (std::strcmp(name, kNames[i]) == 0) {
      *to = static_cast<Isa>(i);
      return true;
    }
  return false;
}

}  // namespace dk
