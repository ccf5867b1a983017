"""Every passport's samples on the compiled engine against the passport's reference, in one process.

    DK_ISA=x86_sse41 python tests/support/sample_matrix.py [OP ...]      prints a JSON object

The kernel set is chosen once per process, so tests/kernels/test_samples.py starts one of these per ISA.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import dtypes, native
from deploykit.errors import DeploykitError
from deploykit.ops.core import REGISTRY, Op
from deploykit.ops.dispatch import run_reference
from deploykit.ops.samples import Sample, samples_of

# Allowed error by tolerance class, relative to the largest finite element of the expected output.
RELATIVE = {
    "float": {"float32": 2e-6, "float64": 1e-13, "float16": 1.2e-3, "bfloat16": 1e-2},
    "loose": {"float32": 1e-4, "float64": 1e-10, "float16": 4e-3, "bfloat16": 3e-2},
}


def difference(got: np.ndarray, want: np.ndarray, tolerance: str) -> str | None:
    """What is wrong with ``got``, or None."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"got {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    d = dtypes.dtype(want.dtype)
    if want.size == 0:
        return None
    if d.kind != "f":
        wrong = got.astype(np.int64) != want.astype(np.int64) if d.kind != "u" or d.bits < 8 else got != want
        limit = 0.0
    else:
        a, b = got.astype(np.float64), want.astype(np.float64)
        wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        limit = 0.0
        if tolerance != "exact":
            finite = np.isfinite(b)
            scale = np.abs(b[finite]).max(initial=0.0)
            limit = RELATIVE[tolerance].get(d.name, 0.15) * max(scale, float(np.finfo(np.float32).tiny))
            with np.errstate(invalid="ignore"):
                wrong &= ~(finite & (np.abs(a - b) <= limit))
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0]) if want.ndim else ()
    count = f"{int(wrong.sum())} of {want.size} elements differ"
    return f"{count}; at {list(at)}: got {got[at]}, expected {want[at]} (+- {limit:.2g})"


def flushed(x: np.ndarray | None) -> np.ndarray | None:
    """Subnormal float32 numbers as zeros: the engine computes with flush-to-zero, references do not."""
    if x is None or x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def check(
    op: Op, sample: Sample, threads: tuple[int, ...] = (1, 2), run_op: Callable[..., Any] = native.run_op
) -> list[str]:
    """Failures of one sample."""
    attrs: dict[str, Any] = op.complete(sample.attrs)
    if op.variable_outputs:
        attrs["n_outputs"] = sample.n_outputs
    sample = dataclasses.replace(sample, inputs=[flushed(x) for x in sample.inputs])
    n_outputs = sample.n_outputs if op.variable_outputs else len(op.results)
    want = run_reference(op, list(sample.inputs), attrs)
    failures = []
    first: list[np.ndarray] | None = None
    for n in threads:
        try:
            got = run_op(op.name, sample.inputs, sample.attrs, n_outputs, n)
        except DeploykitError as e:
            return [f"{sample!r}: {e}"]
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            if (wrong := difference(g, w, op.tolerance)) is not None:
                failures.append(f"{sample!r}, output {i}, {n} threads: {wrong}")
        if first is not None and any(a.tobytes() != b.tobytes() for a, b in zip(first, got, strict=True)):
            failures.append(f"{sample!r}: {n} threads give other bits than {threads[0]}")
        first = got
    return failures


def runnable(op: Op) -> bool:
    """False for control flow and state, which exist only inside a model."""
    return "effect" not in op.flags and op.reference is not None and all(a.kind != "graph" for a in op.attrs.values())


def isa() -> str:
    """The kernel set in use."""
    lib = native.library()
    return lib.dk_isa().decode() if hasattr(lib, "dk_isa") else os.environ.get("DK_ISA", "")


def main(names: list[str]) -> None:
    """Check these ops (default: all) and print the result."""
    ops: dict[str, list[str]] = {}
    missing, skipped = [], []
    for name, op in REGISTRY.items():
        if names and name not in names:
            continue
        if not runnable(op):
            skipped.append(name)
        elif not native.has_kernel(name):
            missing.append(name)
        else:
            ops[name] = [f for s in samples_of(op) if not s.variables for f in check(op, s)]
    json.dump({"isa": isa(), "ops": ops, "missing": missing, "skipped": skipped}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
