#include "base/cpu.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__wasm_relaxed_simd__)
#include <wasm_simd128.h>
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

constexpr const char* kDotNames[] = {"scalar",      "x86_sse41",      "x86_avx2",     "x86_avxvnni",
                                     "x86_avx512",  "x86_avx512vnni", "x86_amx",      "arm_neon",
                                     "arm_neondot", "arm_i8mm",       "wasm_simd128", "wasm_relaxed"};
static_assert(sizeof(kDotNames) / sizeof(kDotNames[0]) == static_cast<size_t>(DotIsa::count));

// The set of vectors that belongs to a set of products.
Isa base_of(DotIsa isa) {
  switch (isa) {
    case DotIsa::x86_sse41: return Isa::x86_sse41;
    case DotIsa::x86_avx2:
    case DotIsa::x86_avxvnni: return Isa::x86_avx2;
    case DotIsa::x86_avx512:
    case DotIsa::x86_avx512vnni:
    case DotIsa::x86_amx: return Isa::x86_avx512;
    case DotIsa::arm_neon:
    case DotIsa::arm_neondot:
    case DotIsa::arm_i8mm: return Isa::arm_neon;
    case DotIsa::wasm_simd128: return Isa::wasm_simd128;
    case DotIsa::wasm_relaxed: return Isa::wasm_relaxed;
    default: return Isa::scalar;
  }
}

// Linux saves tile registers only for processes that ask.  It refuses where a signal stack is too small for them.
bool amx_permitted() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

#if !defined(__wasm__)
// The set that DK_ISA names, when it runs.
bool forced_dot(DotIsa* to) {
  const char* name = std::getenv("DK_ISA");
  if (!name) return false;
  for (int i = 0; i < static_cast<int>(DotIsa::count); ++i) {
    *to = static_cast<DotIsa>(i);
    if (std::strcmp(name, kDotNames[i]) == 0) return dot_isa_runs(*to);
  }
  return false;
}
#endif

Isa choose() {
#if defined(__wasm_relaxed_simd__)
  return Isa::wasm_relaxed;
#elif defined(__wasm_simd128__)
  return Isa::wasm_simd128;
#else
  Isa isa = Isa::scalar;
#if !defined(__wasm__)
  DotIsa forced;
  if (forced_dot(&forced)) return base_of(forced);
#endif
  constexpr Isa order[] = {Isa::x86_sse41, Isa::x86_avx2, Isa::x86_avx512, Isa::arm_neon};
  for (Isa better : order)
    if (isa_runs(better)) isa = better;
  return isa;
#endif
}

DotIsa choose_dot() {
#if defined(__wasm_relaxed_simd__)
  return DotIsa::wasm_relaxed;
#elif defined(__wasm_simd128__)
  return DotIsa::wasm_simd128;
#else
  DotIsa isa = DotIsa::scalar;
#if !defined(__wasm__)
  if (forced_dot(&isa)) return isa;
  isa = DotIsa::scalar;
#endif
  for (int i = 0; i < static_cast<int>(DotIsa::count); ++i)
    if (dot_isa_runs(static_cast<DotIsa>(i))) isa = static_cast<DotIsa>(i);
  return isa;
#endif
}

// Filled in by the first callers: all of them write the same, so a race is harmless (the flag is written last).
CpuFeatures features;
uint8_t features_known, isa_known, dot_known;
Isa isa_chosen;
DotIsa dot_chosen;

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

bool dot_isa_runs(DotIsa isa) {
  const CpuFeatures& f = cpu_features();
  if (!isa_runs(base_of(isa))) return false;
  switch (isa) {
    case DotIsa::x86_avxvnni: return f.avx_vnni;
    case DotIsa::x86_avx512vnni: return f.avx512_vnni;
    case DotIsa::x86_amx: return f.avx512_vnni && f.amx_int8 && amx_permitted();
    case DotIsa::arm_neondot: return f.dotprod;
    case DotIsa::arm_i8mm: return f.i8mm && f.dotprod;
    default: return true;
  }
}

DotIsa best_dot_isa() {
  if (!__atomic_load_n(&dot_known, __ATOMIC_ACQUIRE)) {
    dot_chosen = choose_dot();
    __atomic_store_n(&dot_known, 1, __ATOMIC_RELEASE);
  }
  return dot_chosen;
}

RelaxedDot relaxed_dot() {
#if defined(__wasm_relaxed_simd__)
  static RelaxedDot known;
  static bool tried;
  if (tried) return known;
  tried = true;
  // Pairs that overflow 16 bits in one sign or the other, at both ends, and bytes whose signs give different sums.
  static const uint8_t a[16] = {255, 255, 255, 255, 128, 128, 128, 128, 200, 7, 129, 64, 255, 128, 1, 127};
  static const int8_t b[16] = {127, 127, 127, 127, -128, -128, -128, -128, -100, 99, 127, -1, -128, -128, 127, 127};
  v128_t va, vb;
  memcpy(&va, a, 16);
  memcpy(&vb, b, 16);
  asm volatile("" : "+r"(va), "+r"(vb));  // not for the compiler to compute
  int32_t got[4];
  const v128_t sums = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(vb, va, wasm_i32x4_splat(5));
  memcpy(got, &sums, 16);
  bool u8 = true, s8 = true;
  for (int i = 0; i < 4; ++i) {
    int32_t u = 5, s = 5;
    for (int k = 4 * i; k < 4 * i + 4; ++k) {
      u += a[k] * b[k];
      s += static_cast<int8_t>(a[k]) * b[k];
    }
    u8 = u8 && got[i] == u;
    s8 = s8 && got[i] == s;
  }
  known = u8 ? RelaxedDot::u8 : s8 ? RelaxedDot::s8 : RelaxedDot::inexact;
  return known;
#else
  return RelaxedDot::inexact;
#endif
}

const char* dot_isa_name(DotIsa isa) { return isa < DotIsa::count ? kDotNames[static_cast<int>(isa)] : "?"; }

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
