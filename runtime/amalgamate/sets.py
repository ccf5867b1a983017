"""Kernel sets: how each is compiled, as pragmas around the block of kernels."""

from __future__ import annotations

# Kernel sets: condition, name, target (GCC and Clang), what the sources ask for.
X86, ARM = "defined(__x86_64__)", "defined(__aarch64__)"
OWN = "DK_SET_OWN"  # has files of its own, and none of the families
AVX2 = ("__SSE4_1__", "__AVX2__", "__FMA__", "__F16C__")
AVX512 = (*AVX2, "__AVX512F__")
SETS: list[tuple[str, str, str, tuple[str, ...], bool]] = [
    ("!defined(__wasm__)", "scalar", "", ("DK_SIMD_SCALAR",), False),
    (X86, "x86_sse41", "sse4.2,popcnt", ("__SSE4_1__",), False),
    (X86, "x86_avx2", "avx2,fma,f16c,popcnt", AVX2, False),
    (X86, "x86_avxvnni", "avx2,fma,f16c,popcnt,avxvnni", (*AVX2, "__AVXVNNI__"), True),
    (X86, "x86_avx512", "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt", AVX512, False),
    (X86, "x86_avx512vnni", "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,popcnt",
     (*AVX512, "__AVX512VNNI__"), True),
    (X86, "x86_amx", "amx-tile,amx-int8,amx-bf16,avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,popcnt",
     (*AVX512, "__AVX512VNNI__", OWN), True),
    (ARM, "arm_neon", "", ("__ARM_NEON",), False),
    (ARM, "arm_neondot", "dotprod", ("__ARM_NEON", "__ARM_FEATURE_DOTPROD"), True),
    (ARM, "arm_i8mm", "dotprod,i8mm", ("__ARM_NEON", "__ARM_FEATURE_DOTPROD", "__ARM_FEATURE_MATMUL_INT8"), True),
    ("defined(__wasm_relaxed_simd__)", "wasm_relaxed", "", ("__wasm_simd128__", "__wasm_relaxed_simd__"), False),
    ("defined(__wasm_simd128__) && !defined(__wasm_relaxed_simd__)", "wasm_simd128", "", ("__wasm_simd128__",), False),
]  # fmt: skip
FEATURES = sorted({f for s in SETS for f in s[3] if f.startswith("__")})


def flag(feature: str) -> str:
    """The block's own macro for a compiler's."""
    return "DK_SET_" + feature.strip("_") if feature.startswith("__") else feature


def a_set(condition: str, name: str, target: str, features: tuple[str, ...], dot: bool) -> str:
    """Include the block of kernels for one set."""
    flags = [flag(f) for f in features] + (["DK_SET_DOT"] if dot else [])
    gcc = target if condition == X86 else "arch=armv8.2-a+" + target.replace(",", "+")
    before = (
        ["#if defined(__clang__)", f'#pragma clang attribute push(__attribute__((target("{target}"))), apply_to = function)']
        + ["#else", "#pragma GCC push_options", f'#pragma GCC target("{gcc}")', "#endif"]
    )  # fmt: skip
    after = ["#if defined(__clang__)", "#pragma clang attribute pop", "#else", "#pragma GCC pop_options", "#endif"]
    return "\n".join(
        [
            f"#if {condition}",
            f"#define DK_SET isa_{name}",
            *(f"#define {f}" for f in flags),
            *(before if target else []),
            "#define DK_KERNELS",
            "#include DK_FILE",
            "#undef DK_KERNELS",
            *(after if target else []),
            "#undef DK_SET",
            *(f"#undef {f}" for f in flags),
            "#endif",
        ]
    )
