"""Test vectors: what a converted model answered where it was made, and replaying that elsewhere.

``convert`` stores them in the metadata key ``test_vectors``: a seed and shapes (the inputs are made from them by
:func:`feeds`, the same numbers on every machine and in every version), and of each output dtype, shape, a checksum of its
bytes and up to 64 of its numbers.  :mod:`deploykit.replay` runs the model on every kernel set and compares.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import DeploykitError, EngineError, FormatError
from deploykit.interpreter import Interpreter, TensorSpec

KEY = "test_vectors"
SAMPLES = 64  # numbers kept of each output
TOLERANCE = 1e-4  # of the largest number of an output, for floats; the rest is equal to the bit
SETS = ("scalar", "x86_sse41", "x86_avx2", "x86_avxvnni", "x86_avx512", "x86_avx512vnni", "x86_amx",
        "arm_neon", "arm_neondot", "arm_i8mm")  # fmt: skip

Arrays = dict[str, np.ndarray]


def feeds(specs: Sequence[TensorSpec], shapes: dict[str, list[int]], seed: int) -> Arrays:
    """Inputs out of a seed by integer arithmetic alone: floats uniform in 0..1, integers 0 or 1, bool coins.

    >>> x = feeds([TensorSpec("x", (2,), "float32")], {"x": [2]}, 0)["x"]
    >>> x.tolist() == feeds([TensorSpec("x", (2,), "float32")], {"x": [2]}, 0)["x"].tolist()
    True
    """
    out = {}
    for s in specs:
        shape = tuple(shapes[s.name])
        n = int(np.prod(shape, dtype=np.int64))
        start = (zlib.crc32(s.name.encode()) + seed * 0x85EBCA6B) % (1 << 32)
        h = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(start)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # the finisher of MurmurHash3
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        h ^= h >> np.uint32(16)
        t = dtypes.dtype(s.dtype)
        values = (h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24) if t.kind == "f" else h >> np.uint32(31)
        out[s.name] = values.astype(t.np).reshape(shape)
    return out


def record(model: Path | bytes, count: int, shapes: dict[str, list[int | str]] | None = None) -> list[dict[str, Any]]:
    """Test vectors of a ``.dk`` file; none when no sizes are found that it accepts, or when it answers by chance."""
    from deploykit.runners import DkRunner, random_inputs, shape_guesses

    runner = DkRunner(model, 1)
    for sizes in shape_guesses(runner.inputs):
        try:
            found = {k: list(v.shape) for k, v in random_inputs(runner.inputs, sizes, 0, shapes).items()}
            first = [_answers(runner.session, feeds(runner.inputs, found, seed)) for seed in range(count)]
        except (DeploykitError, TypeError):
            continue
        again = [_answers(runner.session, feeds(runner.inputs, found, seed)) for seed in range(count)]
        if any(a[k].tobytes() != b[k].tobytes() for a, b in zip(first, again, strict=True) for k in a):
            return []  # random ops
        if any(v.size for y in first for v in y.values()):
            return [
                {"seed": seed, "shapes": found, "outputs": {k: _digest(v) for k, v in y.items()}}
                for seed, y in enumerate(first)
            ]
    return []


def _answers(session: Interpreter, given: Arrays) -> Arrays:
    session.reset()
    return {k: np.array(v) for k, v in session.run(given).items()}


def _digest(a: np.ndarray) -> dict[str, Any]:
    flat = np.ascontiguousarray(a).reshape(-1)
    at = np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(np.int64)
    plain = flat.astype(np.float64) if flat.dtype.kind not in "biu" else flat
    finite = np.abs(plain[np.isfinite(plain)]) if flat.dtype.kind not in "biu" else np.zeros(0)
    return {
        "dtype": dtypes.dtype(a.dtype).name,
        "shape": list(a.shape),
        "crc32": zlib.crc32(flat.tobytes()),
        "largest": float(finite.max()) if finite.size else 0.0,
        "samples": [_number(v) for v in plain[at]],
    }


def _number(v: Any) -> Any:
    x = v.item()
    return x if isinstance(x, (bool, int)) or np.isfinite(x) else str(x)  # JSON has no infinity


def check(want: dict[str, Any], got: np.ndarray) -> str:
    """What is wrong with an output, or ''."""
    have = _digest(got)
    if (have["dtype"], have["shape"]) != (want["dtype"], want["shape"]):
        return f"{have['dtype']}{have['shape']}, expected {want['dtype']}{want['shape']}"
    if have["crc32"] == want["crc32"]:
        return ""
    if got.dtype.kind in "biu":
        return "other bits"
    a, b = (np.array([float(v) for v in d["samples"]]) for d in (want, have))
    with np.errstate(invalid="ignore"):
        d = np.abs(a - b)
    d[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    worst = float(np.where(np.isnan(d), np.inf, d).max()) if d.size else 0.0
    allowed = TOLERANCE * want["largest"]
    return "" if worst <= allowed else f"difference {worst:.3g}, allowed {allowed:.3g}"


def stored(session: Interpreter) -> list[dict[str, Any]]:
    """The vectors in a file's metadata; FormatError when they are none."""
    vectors = session.metadata.get(KEY, [])
    names, outs = {s.name for s in session.inputs}, {s.name for s in session.outputs}
    try:
        for v in vectors:
            fine = isinstance(v["seed"], int) and set(v["shapes"]) == names and set(v["outputs"]) == outs
            sizes = [d for s in v["shapes"].values() for d in s]
            fine = (
                fine
                and all(type(d) is int and d >= 0 for d in sizes)
                and all("crc32" in o for o in v["outputs"].values())
            )
            if not fine:
                raise KeyError
    except (KeyError, TypeError, AttributeError):
        raise FormatError("the file's test vectors are damaged, or those of another model. Convert it again.") from None
    return vectors


def kernel_sets() -> list[str]:
    """The kernel sets that this machine runs, each in a process of its own (``DK_ISA`` is read once)."""
    code = "from deploykit.native import describe; print(describe()['isa'])"
    found = []
    for name in SETS:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env={**os.environ, "DK_ISA": name}, capture_output=True, text=True
        )
        if done.stdout.strip() == name:
            found.append(name)
    if not found:
        raise EngineError("no kernel set runs here: the compiled engine is missing. Try `deploykit doctor`.")
    return found


def replay(model: Path, isa: str, vectors: list[dict[str, Any]], threads: int = 1, inner: bool = False) -> list[Arrays]:
    """The outputs (with ``inner``: every tensor, in the order of the plan) of each vector on a kernel set."""
    with tempfile.TemporaryDirectory() as d:
        job = {
            "model": os.fspath(Path(model).resolve()),
            "vectors": vectors,
            "threads": threads,
            "inner": inner,
            "out": d,
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "deploykit.vectors"], input=json.dumps(job), capture_output=True, text=True,
            env={**os.environ, "DK_ISA": isa},
        )  # fmt: skip
        if done.returncode:
            raise EngineError(
                f"{isa}: the model does not run: {(done.stderr.strip() or 'killed').splitlines()[-1][:300]}"
            )
        return [_load(Path(d) / str(i)) for i in range(len(vectors))]


def _save(folder: Path, arrays: Arrays) -> None:
    folder.mkdir()
    names = []
    for i, (k, v) in enumerate(arrays.items()):
        t = dtypes.dtype(v.dtype).name
        names.append([k, t, list(v.shape)])
        (folder / str(i)).write_bytes(np.ascontiguousarray(v).tobytes())
    (folder / "names.json").write_text(json.dumps(names))


def _load(folder: Path) -> Arrays:
    out = {}
    for i, (k, t, shape) in enumerate(json.loads((folder / "names.json").read_text())):
        out[k] = np.frombuffer((folder / str(i)).read_bytes(), dtypes.dtype(t).np).reshape(shape)
    return out


def first_difference(model: Path, vector: dict[str, Any], base: str, other: str, threads: int) -> str:
    """The first tensor of the plan that two kernel sets compute differently, or ''."""
    a, b = (replay(model, isa, [vector], t, True)[0] for isa, t in ((base, 1), (other, threads)))
    for name, x in a.items():
        if name in b and check(_digest(x), b[name]):
            return name
    return ""


def _main() -> None:
    job = json.load(sys.stdin)
    model = Path(job["model"])
    session = Interpreter(model, threads=job["threads"], keep_values=job["inner"])
    for i, v in enumerate(job["vectors"]):
        outputs = _answers(session, feeds(session.inputs, v["shapes"], v["seed"]))
        if job["inner"]:
            from deploykit.graph.dkfile import load

            names = [x.name for n in load(model).nodes for x in n.outputs if x is not None and x.name]
            inner = {k: session.value(k) for k in names}
            outputs = {**{k: a for k, a in inner.items() if a is not None}, **outputs}
        _save(Path(job["out"]) / str(i), outputs)


if __name__ == "__main__":
    _main()
