"""Ops on random data, every kernel set of this machine against the scalar one.

    python -m tests.trust.isa_fuzz [ROUNDS] [SEED]

Every sample of every passport (random ops left out), ROUNDS times with other data in inputs of floats and of 8 bits: three
scales, zeros of both signs, and for ops of the class "exact" also infinities, NaN and subnormal numbers.  One thread, two in
every other round.  Integers, booleans and "exact" floats must have the same bits; any NaN equals any NaN, and a subnormal
number zero, as the engine computes without them.  Other floats must agree within 1e-4 of the largest of the output; where one
set gives an error, all must give it.  Exit code 1 when something differs.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import native, vectors
from deploykit.errors import DeploykitError
from deploykit.ops.core import REGISTRY
from deploykit.ops.samples import samples_of

ROOT = Path(__file__).resolve().parents[2]
LOOSE = 1e-4
SPECIAL = (np.inf, -np.inf, np.nan, 1e-42, -1e-42, 6e4, -0.0)


def other_data(x: np.ndarray, rng: np.random.Generator, exact: bool) -> np.ndarray:
    """x with the same shape and dtype and other numbers; what may be an index, a size or a scale stays."""
    if x.dtype in (np.int8, np.uint8) and x.size > 1:
        return rng.integers(np.iinfo(x.dtype).min, np.iinfo(x.dtype).max + 1, x.shape).astype(x.dtype)
    if x.dtype.kind != "f" or x.size < 2 or not np.isfinite(x).all():
        return x
    span = float(np.abs(x).max()) or 1.0
    new = rng.standard_normal(x.shape) * span * rng.choice([0.01, 0.5, 1.0])
    if (x >= 0).all():
        new = np.abs(new)  # variances, probabilities
    new[rng.random(x.shape) < 0.05] = 0.0
    if exact:
        at = rng.random(x.shape) < 0.1
        new[at] = rng.choice(SPECIAL, x.shape)[at]
    return new.astype(x.dtype)


def cases(rounds: int, seed: int) -> Iterator[tuple[str, Any, Any, int, int]]:
    """(name, op, sample with other data, outputs, threads), the same in every process."""
    for op in sorted(REGISTRY.values(), key=lambda o: o.opcode):
        if "random" in op.flags:
            continue
        for i, sample in enumerate(samples_of(op)):
            n = sample.n_outputs if op.variable_outputs else len(op.results)
            for k in range(rounds):
                rng = np.random.default_rng(zlib.crc32(f"{op.name} {i} {k} {seed}".encode()))
                exact = op.tolerance == "exact"
                inputs = [None if x is None else other_data(x, rng, exact) for x in sample.inputs]
                yield f"{op.name} sample {i} round {k}", op, (inputs, sample.attrs), n, 1 + k % 2


def worker(rounds: int, seed: int) -> None:
    """On the kernel set of DK_ISA: results or error codes, pickled to stdout."""
    out: list[Any] = []
    for _, op, (inputs, attrs), n, threads in cases(rounds, seed):
        try:
            out.append(native.run_op(op.name, inputs, attrs, n, threads))
        except DeploykitError as e:
            out.append(e.code)
    pickle.dump(out, sys.stdout.buffer)


def on(isa: str, rounds: int, seed: int) -> list[Any]:
    """All results of one kernel set."""
    code = f"from tests.trust.isa_fuzz import worker; worker({rounds}, {seed})"
    env = os.environ | {"DK_ISA": isa, "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, env=env)
    if done.returncode:
        raise SystemExit(f"{isa}: ended with {done.returncode}: {done.stderr.decode()[-1000:]}")
    return list(pickle.loads(done.stdout))


def differs(want: Any, got: Any, exact: bool) -> str:
    """How two results differ, or ''."""
    if isinstance(want, str) or isinstance(got, str):
        return (
            ""
            if isinstance(want, str) and isinstance(got, str) and want == got
            else f"{str(want)[:40]} / {str(got)[:40]}"
        )
    for w, g in zip(want, got, strict=True):
        if w.shape != g.shape or w.dtype != g.dtype:
            return f"{w.dtype}{w.shape} / {g.dtype}{g.shape}"
        if w.tobytes() == g.tobytes():
            continue
        if w.dtype.kind not in "fV":
            return f"{int((w != g).sum())} of {w.size} integers"
        a, b = w.astype(np.float64), g.astype(np.float64)
        least = float(np.finfo(w.dtype).smallest_normal) if w.dtype.kind == "f" else 1e-37
        a, b = (np.where(np.abs(v) < least, np.copysign(0.0, v), v) for v in (a, b))
        same = (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)
        if exact and not same.all():
            return f"{int((~same).sum())} of {w.size} floats of an exact op: {a[~same][:3]} / {b[~same][:3]}"
        with np.errstate(invalid="ignore"):
            d = np.where(same, 0.0, np.abs(a - b))
        worst = float(np.nan_to_num(d, nan=np.inf).max(initial=0)) / max(
            float(np.abs(a[np.isfinite(a)]).max(initial=0)), 1e-30
        )
        if worst > LOOSE:
            return f"off by {worst:.2g} of the largest"
    return ""


def main() -> int:
    given = [int(v) for v in sys.argv[1:3]]
    rounds, seed = given + [4, 0][len(given) :]
    names = [(name, op) for name, op, *_ in cases(rounds, seed)]
    sets = vectors.kernel_sets()
    base, bad = on(sets[0], rounds, seed), 0
    errors = sum(isinstance(r, str) for r in base)
    print(f"{len(names)} cases, {errors} of them errors; {sets[0]} is the measure", flush=True)
    for isa in sets[1:]:
        found: dict[str, list[str]] = {}
        for (name, op), want, got in zip(names, base, on(isa, rounds, seed), strict=True):
            if why := differs(want, got, op.tolerance == "exact"):
                found.setdefault(op.name, []).append(f"{name}: {why}")
        bad += sum(map(len, found.values()))
        print(f"{isa}: {sum(map(len, found.values()))} differ", flush=True)
        for lines in found.values():
            print(f"  {lines[0]} ({len(lines)} of this op)", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
