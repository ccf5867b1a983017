"""Files written by earlier versions load and give the answers of then: ``old/<version>.zip``, one small model per op and
whole graphs, made once per release and never again.

    python -m tests.format.test_old_files 0.1.0        writes the archive of the version that is here
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit import dtypes, native
from deploykit.graph.dkfile import from_bytes, to_bytes
from deploykit.ops.core import get
from tests.support import fuzz_seeds
from tests.support.sample_matrix import difference

OLD, ROOT = Path(__file__).with_name("old"), Path(__file__).resolve().parents[2]
CHANCE = {"random_uniform", "random_normal", "random_multinomial", "dropout"}


def entries(archive: Path) -> list[tuple[str, bytes, dict[str, Any]]]:
    """(name, bytes of the model, {"inputs": [arrays], "outputs": {name: array}, "tolerance": class})."""
    out = []
    with zipfile.ZipFile(archive) as z:
        for name in sorted(n for n in z.namelist() if n.endswith(".dk")):
            with np.load(io.BytesIO(z.read(name.removesuffix(".dk") + ".npz"))) as arrays:
                held = {k: arrays[k] for k in arrays}
            told = json.loads(z.read(name.removesuffix(".dk") + ".json"))
            said = {side: {k: held[f"{side}{i}"].view(dtypes.dtype(t).np).reshape(shape)
                           for i, (k, t, shape) in enumerate(told[side])} for side in ("inputs", "outputs")}  # fmt: skip
            out.append((name, z.read(name), {**said, "tolerance": told["tolerance"]}))
    return out


@pytest.mark.parametrize("archive", sorted(OLD.glob("*.zip")), ids=lambda p: p.stem)
def test_old_files_give_the_answers_of_then(archive: Path) -> None:
    found, wrong = entries(archive), []
    for name, data, told in found:
        got = dk.Interpreter(data, threads=2).run(told["inputs"])
        assert list(got) == list(told["outputs"]), name
        for k, want in told["outputs"].items():
            problem = difference(got[k], want, told["tolerance"])
            if problem:
                wrong.append(f"{name} '{k}': {problem}")
        again = to_bytes(from_bytes(data))  # readers in Python too; the writer of today may write other bytes
        assert list(dk.Interpreter(again, threads=1).run(told["inputs"])) == list(got), name
    assert not wrong, "\n".join(wrong[:20])
    assert len(found) > 180


def test_there_are_old_files() -> None:
    assert (OLD / "0.1.0.zip").is_file()


def test_equal_graphs_give_equal_bytes_in_every_process() -> None:
    """No order of a set, no address, no clock gets into a file."""
    code = (
        "import zlib; from tests.support import fuzz_seeds; print([(n, zlib.crc32(d)) for n, d in fuzz_seeds.seeds(1)])"
    )
    found = set()
    for seed in ("1", "2"):
        env = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)]),
        }
        found.add(subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, check=True).stdout)
    assert len(found) == 1 and len(found.pop()) > 5_000


# ---------------------------------------------------------------- writing
def feeds(session: dk.Interpreter, seed: int) -> dict[str, np.ndarray] | None:
    """Small inputs that the model accepts, or None."""
    r = np.random.default_rng(seed)
    for size in (4, 5, 3, 1):
        given = {}
        for s in session.inputs:
            shape = [d if isinstance(d, int) else size for d in s.shape or ()]
            t = dtypes.dtype(s.dtype)
            given[s.name] = (r.standard_normal(shape) if t.kind == "f" else r.integers(0, 2, shape)).astype(t.np)
        try:
            session.run(given)
            return given
        except dk.DeploykitError:
            continue
    return None


def write(version: str) -> None:
    """One archive; stored times are constant, so equal models give equal bytes."""
    OLD.mkdir(exist_ok=True)
    count = 0
    with zipfile.ZipFile(OLD / f"{version}.zip", "w", zipfile.ZIP_LZMA) as z:
        for name, data in fuzz_seeds.seeds(1):
            graph = from_bytes(data)
            ops = [n.op for g in graph.walk() for n in g.nodes]
            if CHANCE & set(ops) or any("random" in get(o).flags for o in ops) or len(data) > 8192:
                continue
            session = dk.Interpreter(data, threads=1)
            given = feeds(session, count)
            if given is None:
                print("left out:", name)
                continue
            session.reset()
            got = session.run(given)
            order = ("exact", "float", "loose")
            tolerance = max((get(o).tolerance for o in ops), key=order.index, default="exact")
            sides = {"inputs": given, "outputs": got}
            arrays = {f"{side}{i}": np.ascontiguousarray(a).reshape(-1).view(np.uint8)
                      for side, d in sides.items() for i, a in enumerate(d.values())}  # fmt: skip
            told: dict[str, Any] = {
                side: [[k, dtypes.dtype(a.dtype).name, list(a.shape)] for k, a in d.items()]
                for side, d in sides.items()
            }
            told["tolerance"] = tolerance
            packed = io.BytesIO()
            np.savez(packed, **arrays)  # type: ignore[arg-type]
            for suffix, content in ((".dk", data), (".npz", packed.getvalue()), (".json", json.dumps(told).encode())):
                z.writestr(zipfile.ZipInfo(name + suffix, (1980, 1, 2, 0, 0, 0)), content, zipfile.ZIP_LZMA)
            count += 1
    print(count, "models,", (OLD / f"{version}.zip").stat().st_size, "bytes, by", native.describe()["isa"])


if __name__ == "__main__":
    write(sys.argv[1])
