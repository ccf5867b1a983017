// What this CPU can run, and the choice of a kernel set.
#pragma once
#include <cstdint>

namespace dk {

// Kernel sets, weakest first within an architecture.  A set names the instructions its files are compiled for.
enum class Isa : uint8_t {
  scalar,        // plain C++
  x86_sse41,     // x86-64-v2, the floor of x86 builds
  x86_avx2,      // AVX2, FMA, F16C
  x86_avx512,    // F, BW, VL, DQ
  arm_neon,      // every AArch64
  wasm_simd128,  // chosen when the module is built, not here
  wasm_relaxed,
  count,
};

// Sets with instructions for sums of 8-bit products; only the integer families have files for all of them.
enum class DotIsa : uint8_t {
  scalar,
  x86_sse41,
  x86_avx2,
  x86_avxvnni,
  x86_avx512,
  x86_avx512vnni,
  x86_amx,  // tiles for dense products; the other families use x86_avx512vnni
  arm_neon,
  arm_neondot,
  arm_i8mm,
  wasm_simd128,
  wasm_relaxed,
  count,
};

struct CpuFeatures {
  bool sse42 = false, avx2 = false, fma = false, f16c = false;
  bool avx512 = false;  // F, BW, VL and DQ, and the OS keeps their registers
  bool avx512_vnni = false, avx_vnni = false;
  bool amx_int8 = false, amx_bf16 = false;  // the CPU has them; the process must still ask (amx_permitted)
  bool neon = false, dotprod = false, i8mm = false;
};

// Read once, by cpuid and xgetbv (or the auxiliary vector on Arm): __builtin_cpu_supports answers 0 in zig builds.
const CpuFeatures& cpu_features();

// Can this build on this machine run the set?
bool isa_runs(Isa isa);
// The best set that runs, or the one that the environment variable DK_ISA names when that one runs.
Isa best_isa();
// The same for the integer families.  DK_ISA names the set exactly: x86_avx512 is without VNNI, as on Skylake servers;
// its 8-bit products are those of x86_avx2 (half as fast as tables of its own, which were 180 KB).
bool dot_isa_runs(DotIsa isa);
DotIsa best_dot_isa();

// How this machine does WebAssembly's relaxed sums of four 8-bit products (signed bytes times bytes of either sign).
enum class RelaxedDot : uint8_t {
  inexact,  // not there, or it saturates at 16 bits
  u8,       // the second operand is unsigned, sums are exact: x86 with VNNI
  s8,       // it is signed, sums are exact: Arm
};
RelaxedDot relaxed_dot();  // tried at the first call

const char* dot_isa_name(DotIsa isa);
const char* isa_name(Isa isa);                  // "x86_avx2"
bool isa_from_name(const char* name, Isa* to);  // false: no such name

}  // namespace dk

// Every kernel family has, per ISA, one file <family>_<isa>.cc with one exported function that returns its table:
//
//   const GemmKernels* gemm_x86_avx2();
//
// and picks the table for best_isa() with
//
//   DK_KERNEL_SETS(gemm, GemmKernels)            // at namespace scope: declares those functions for this architecture
//   const GemmKernels* k = DK_PICK_KERNELS(gemm);  // in a function of the same namespace
//
// Families of 8-bit products use DK_DOT_SETS and DK_PICK_DOT, which know the sets of DotIsa.
#if defined(__x86_64__) || defined(_M_X64)
#define DK_DOT_SETS(family, Table)     \
  const Table* family##_scalar();      \
  const Table* family##_x86_sse41();   \
  const Table* family##_x86_avx2();    \
  const Table* family##_x86_avxvnni(); \
  const Table* family##_x86_avx512vnni();
#define DK_PICK_DOT(family)                                                                              \
  (::dk::best_dot_isa() == ::dk::DotIsa::x86_amx || ::dk::best_dot_isa() == ::dk::DotIsa::x86_avx512vnni \
       ? family##_x86_avx512vnni()                                                                       \
   : ::dk::best_dot_isa() == ::dk::DotIsa::x86_avxvnni ? family##_x86_avxvnni()                          \
   : ::dk::best_dot_isa() == ::dk::DotIsa::x86_avx2 || ::dk::best_dot_isa() == ::dk::DotIsa::x86_avx512  \
       ? family##_x86_avx2()                                                                             \
   : ::dk::best_dot_isa() == ::dk::DotIsa::x86_sse41 ? family##_x86_sse41()                              \
                                                     : family##_scalar())
#elif defined(__aarch64__)
#define DK_DOT_SETS(family, Table)     \
  const Table* family##_scalar();      \
  const Table* family##_arm_neon();    \
  const Table* family##_arm_neondot(); \
  const Table* family##_arm_i8mm();
#define DK_PICK_DOT(family)                                                     \
  (::dk::best_dot_isa() == ::dk::DotIsa::arm_i8mm      ? family##_arm_i8mm()    \
   : ::dk::best_dot_isa() == ::dk::DotIsa::arm_neondot ? family##_arm_neondot() \
   : ::dk::best_dot_isa() == ::dk::DotIsa::arm_neon    ? family##_arm_neon()    \
                                                       : family##_scalar())
#elif defined(__wasm_relaxed_simd__)
#define DK_DOT_SETS(family, Table) const Table* family##_wasm_relaxed();
#define DK_PICK_DOT(family) family##_wasm_relaxed()
#elif defined(__wasm_simd128__)
#define DK_DOT_SETS(family, Table) const Table* family##_wasm_simd128();
#define DK_PICK_DOT(family) family##_wasm_simd128()
#else
#define DK_DOT_SETS(family, Table) const Table* family##_scalar();
#define DK_PICK_DOT(family) family##_scalar()
#endif
#if defined(__x86_64__) || defined(_M_X64)
#define DK_KERNEL_SETS(family, Table) \
  const Table* family##_scalar();     \
  const Table* family##_x86_sse41();  \
  const Table* family##_x86_avx2();   \
  const Table* family##_x86_avx512();
#define DK_PICK_KERNELS(family)                                       \
  (::dk::best_isa() == ::dk::Isa::x86_avx512  ? family##_x86_avx512() \
   : ::dk::best_isa() == ::dk::Isa::x86_avx2  ? family##_x86_avx2()   \
   : ::dk::best_isa() == ::dk::Isa::x86_sse41 ? family##_x86_sse41()  \
                                              : family##_scalar())
#elif defined(__aarch64__)
#define DK_KERNEL_SETS(family, Table) \
  const Table* family##_scalar();     \
  const Table* family##_arm_neon();
#define DK_PICK_KERNELS(family) (::dk::best_isa() == ::dk::Isa::arm_neon ? family##_arm_neon() : family##_scalar())
#elif defined(__wasm_relaxed_simd__)
#define DK_KERNEL_SETS(family, Table) const Table* family##_wasm_relaxed();
#define DK_PICK_KERNELS(family) family##_wasm_relaxed()
#elif defined(__wasm_simd128__)
#define DK_KERNEL_SETS(family, Table) const Table* family##_wasm_simd128();
#define DK_PICK_KERNELS(family) family##_wasm_simd128()
#else
#define DK_KERNEL_SETS(family, Table) const Table* family##_scalar();
#define DK_PICK_KERNELS(family) family##_scalar()
#endif
