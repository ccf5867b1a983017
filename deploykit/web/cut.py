"""An engine for browsers with the ops of one model alone: ``deploykit web --runtime cut``.

The engine's sources, which every installation holds, are cut to the model's ops and compiled by zig's Clang, which
``pip install ziglang`` brings: no other compiler is needed, and it takes half a minute.
"""

from __future__ import annotations

import importlib.util
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.errors import EngineError, UnsupportedError
from deploykit.web import wasm


@dataclass
class Cut:
    """An engine cut to a model: bytes of each module, and of each op in the plain one (before the linker)."""

    ops: list[str]
    modules: dict[str, int]
    cost: dict[str, int]  # by op, and "engine" and "shared"


def build(model: Path, full: Path, out: Path) -> Cut:
    """Write the scripts of the ``full`` engine and modules with the ops of a ``.dk`` file into the folder ``out``.

    Raises UnsupportedError without ziglang, or for ops that run in Python only.
    """
    from deploykit.bundle import engine, wasm_sizes
    from deploykit.bundle.folder import ops_of
    from deploykit.graph.dkfile import load
    from deploykit.ops.core import REGISTRY

    if importlib.util.find_spec("ziglang") is None:
        raise UnsupportedError(
            "--runtime cut compiles the engine for this model, for which ziglang is missing. `pip install ziglang`, "
            "or leave --runtime out: the page then has the whole engine."
        )
    graph = load(model)
    ops = ops_of(graph)
    for signature in graph.signatures.values():
        ops = sorted({*ops, *ops_of(signature)})
    out.mkdir(parents=True, exist_ok=True)
    for script in full.glob("*.js"):
        shutil.copyfile(script, out / script.name)
    (out / "deploykit.cc").write_text(engine.cut(ops, names=False), encoding="utf-8")
    (out / "deploykit.h").write_text(engine.sources()["deploykit.h"], encoding="utf-8")

    def compiled(kernels: str) -> Path:
        target = out / f"{kernels}.o"
        more = [*wasm.FLAGS, wasm.KERNELS[kernels], "-ffunction-sections", "-fdata-sections", "-fno-builtin-memcmp"]
        _checked(wasm.zig, "c++", *more, "-c", out / "deploykit.cc", "-o", target)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = dict(zip(wasm.KERNELS, pool.map(compiled, wasm.KERNELS), strict=True))
        jobs = [([objects[k]], more, out / m) for m, (k, more) in wasm.MODULES.items()]
        list(pool.map(lambda job: _checked(wasm.link, *job), jobs))
    found = wasm_sizes.measure(objects["simd128"])
    names = {op.opcode: op.name for op in REGISTRY.values()}
    cost = {names[k]: n for k, n in found.ops.items()} | {"engine": found.engine, "shared": found.shared}
    for rest in (*objects.values(), out / "deploykit.cc", out / "deploykit.h"):
        rest.unlink()
    return Cut(ops, {m: (out / m).stat().st_size for m in wasm.MODULES}, cost)


def _checked(f: Any, *arguments: Any) -> None:
    try:
        f(*arguments)
    except RuntimeError as e:
        raise EngineError(
            f"zig failed: {str(e).strip()[-800:]}. Please report it; without --runtime cut the page has the whole engine."
        ) from None
