"""How the engine is compiled for browsers: flags of zig's Clang, variants, exports.  ``web/engine/build.py`` loads this file
by its path, before the package is installed, so it imports nothing of ours."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# Everything is made small, kernels too: unrolling is asked for in their source, and they are as fast as at -O2 (measured).
FLAGS = (
    "-target wasm32-wasi -Oz -std=gnu++20 -msimd128 -matomics -mbulk-memory -fno-exceptions -fno-rtti "
    "-fno-threadsafe-statics -fno-math-errno -fno-trapping-math -ffp-contract=off -fvisibility=hidden -DNDEBUG -w"
).split()
# What web/npm/src/engine.ts calls, and dk_lane_regions, by which tests see that layers are split.
EXPORTS = (
    "malloc free dk_dim_name dk_isa dk_lane_main dk_lane_new dk_lane_regions dk_lane_stack dk_lanes_stop "
    "dk_last_error dk_model_from_bytes dk_model_metadata_count dk_model_metadata_key dk_model_metadata_value "
    "dk_model_signature dk_model_signature_count dk_session_bind_variable dk_session_error dk_session_free "
    "dk_session_input_count dk_session_input_spec dk_session_memory dk_session_new dk_session_output "
    "dk_session_output_count dk_session_output_spec dk_session_profile_clear dk_session_profile_count "
    "dk_session_profile_row dk_session_reset dk_session_run dk_session_set_input dk_session_set_time_limit "
    "dk_session_variable dk_status_name dk_version"
).split()
LINK = [
    *"-target wasm32-wasi -mexec-model=reactor -O2 -Wl,--strip-all -Wl,--gc-sections -Wl,-z,stack-size=1048576".split(),
    *(f"-Wl,--export={name}" for name in EXPORTS),
]
SHARED = (
    "-matomics -mbulk-memory -Wl,--shared-memory -Wl,--import-memory -Wl,--initial-memory=4194304 "
    "-Wl,--max-memory=4294901760 -Wl,--export=__stack_pointer"  # pages hand the memory over: web/npm/src/engine.ts
).split()
# Kernel sets and the flags that choose them.
KERNELS = {"simd128": "-msimd128", "relaxed": "-mrelaxed-simd"}
# module -> its kernel set, more for the linker
MODULES: dict[str, tuple[str, list[str]]] = {
    "engine.wasm": ("simd128", []),
    "engine.relaxed.wasm": ("relaxed", []),
    "engine.threads.wasm": ("simd128", SHARED),
    "engine.relaxed.threads.wasm": ("relaxed", SHARED),
}


def link(objects: Sequence[Any], more: Sequence[str], out: Any) -> None:
    """Link a module; raises RuntimeError with what the tools said.

    Zig's driver leaves the places that a linker fills in five bytes wide and knows no option against that, so its own linker
    runs once more, as the driver called it, with that option: 3 % of the module.
    """
    done = zig("c++", "-v", *objects, *LINK, *more, "-o", out)
    call = [line for line in done.splitlines() if line.startswith("wasm-ld ")]
    if call:
        zig("wasm-ld", "--compress-relocations", *shlex.split(call[-1])[1:])


def zig(*arguments: Any) -> str:
    """Run a tool of zig; returns what it said."""
    done = subprocess.run([sys.executable, "-m", "ziglang", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return done.stderr
