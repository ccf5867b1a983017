"""Parts of deploykit.cc that stand in no source file."""

HEAD = """\
// The inference engine of Deploykit VERSION in one file, made from the project's sources by runtime/amalgamate.
// Copyright the Deploykit authors.  Licence: Apache-2.0.
//
//   c++ -std=c++20 -O2 -c deploykit.cc            GCC 12, Clang 16, zig, or newer; threads: link with -lpthread -lm
//
// deploykit.h is the C API.  Link with the C++ compiler, or compile with -fno-exceptions -fno-rtti -fno-threadsafe-statics
// and link with the C compiler: no C++ runtime library is needed then.  -ffunction-sections and the linker's --gc-sections
// drop what a program does not call.  To compile the ops of one model alone, define DK_CUT and DK_OP_<name> for each.
#ifndef DK_FILE
#define DK_FILE "deploykit.cc"  // this file, which includes itself once per instruction set
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")  // fused only where the source says so: the same bits from every compiler
#else
#error "deploykit.cc needs GCC, Clang or zig"
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-const-variable"
#pragma GCC diagnostic ignored "-Wpsabi"
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wunused-private-field"
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // does not know that a Status says so
#endif
"""
WANTED = """\
namespace {
namespace dk {
constexpr bool wanted(Opcode op) {
#if defined(DK_CUT)
  switch (op) {
CASES
      return true;
    default: return false;
  }
#else
  return op != Opcode{};
#endif
}
#if defined(DK_CUT)
HAS
constexpr bool has_gelu_tanh = has_gelu;  // an attr's choice with a kernel of its own
#define DK_KEPT(name, kernel) has_##name ? kernel : nullptr
#else
#define DK_KEPT(name, kernel) kernel
#endif
template <int N>
constexpr int count_wanted(const OpDef (&rows)[N]) {
  int n = 0;
  for (const OpDef& r : rows) n += wanted(r.opcode);
  return n;
}
template <int N>
struct Kept {
  OpDef rows[N];
  int count = N;
};
template <int N, int M>
constexpr Kept<N> kept(const OpDef (&rows)[M]) {
  Kept<N> out = {};
  int n = 0;
  for (const OpDef& r : rows)
    if (wanted(r.opcode)) out.rows[n++] = r;
  return out;
}
}
}"""
