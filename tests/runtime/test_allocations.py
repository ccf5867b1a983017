"""Nothing is allocated during a run: every op, and whole graphs, in a process whose memory functions count.

The counting program (``allocations.c``) replaces the C library's functions for the engine, the C library itself and all
threads, so memory that the engine would take past its own allocator is seen too.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.graph import Graph
from deploykit.graph.dkfile import to_bytes
from deploykit.ops.core import REGISTRY
from deploykit.ops.samples import samples_of
from tests.support import fuzz_seeds, linked


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The counting program, linked against the engine of this installation."""
    return linked.program(Path(__file__).with_name("allocations.c"), tmp_path_factory.mktemp("allocations"))


def write(folder: Path, name: str, graph: Graph, inputs: list[np.ndarray]) -> str:
    """Model and inputs as the program reads them; the stem of both files."""
    stem = folder / name
    stem.with_suffix(".dk").write_bytes(to_bytes(graph))
    parts = [struct.pack("<i", len(inputs))]
    for x in inputs:
        parts.append(struct.pack(f"<ii{x.ndim}qq", dtypes.dtype(x.dtype).code, x.ndim, *x.shape, x.nbytes))
        parts.append(np.ascontiguousarray(x).tobytes())
    stem.with_suffix(".in").write_bytes(b"".join(parts))
    return str(stem)


def count(program: Path, threads: int, stems: list[str]) -> dict[str, tuple[int, int] | str]:
    """Calls for memory in the first two runs and in four later ones, or an error, by name."""
    out = subprocess.run([str(program), str(threads), *stems], capture_output=True, text=True, check=True).stdout
    rows: dict[str, tuple[int, int] | str] = {}
    for line in out.splitlines():
        stem, rest = line.split(" ", 1)
        words = rest.split()
        rows[Path(stem).name] = rest if words[0] == "error" else (int(words[0]), int(words[1]))
    return rows


def networks() -> list[tuple[str, Graph, list[np.ndarray]]]:
    """Whole graphs: static, with data-dependent shapes, with branches, loops and variables."""
    f32, rng = np.float32, np.random.default_rng(0)
    x = rng.standard_normal((1, 32, 32, 3)).astype(f32)
    pair = rng.standard_normal(2).astype(f32)
    return [
        ("network", fuzz_seeds.network(), [x]),
        ("data_dependent", fuzz_seeds.data_dependent(), [f32([1, 0, 2, 0, 3])]),
        ("if_same", fuzz_seeds.branches(True), [np.array(True), rng.standard_normal((5, 4)).astype(f32)]),
        ("if_other", fuzz_seeds.branches(False), [np.array(False), rng.standard_normal((5, 4)).astype(f32)]),
        ("loop", fuzz_seeds.loops(False), [np.array(4), pair]),
        ("state", fuzz_seeds.state(), [f32([1, 2, 3])]),
    ]


@pytest.mark.parametrize("threads", [1, 2])
def test_later_runs_of_networks_ask_for_no_memory(counter: Path, tmp_path: Path, threads: int) -> None:
    stems = [write(tmp_path, *net) for net in networks()]
    rows = count(counter, threads, stems)
    assert {k: v if isinstance(v, str) else v[1] for k, v in rows.items()} == dict.fromkeys(rows, 0)
    assert len(rows) == len(stems)
    first = rows["network"]
    assert isinstance(first, tuple) and first[0] > 0, "the counter sees nothing: planning and packing take memory"


def test_later_runs_of_every_op_ask_for_no_memory(counter: Path, tmp_path: Path) -> None:
    stems = []
    for name, op in REGISTRY.items():
        if "effect" in op.flags or any(a.kind == "graph" for a in op.attrs.values()):
            continue
        samples = [s for s in samples_of(op) if sum(x.nbytes for x in s.inputs if x is not None) < 1 << 20]
        for k, sample in enumerate(samples[:: max(1, len(samples) // 3)][:3]):
            graph = fuzz_seeds.one_node(op, sample, as_inputs=True)
            given = {f"x{i}": x for i, x in enumerate(sample.inputs) if x is not None}
            stems.append(write(tmp_path, f"{name}-{k}", graph, [np.asarray(given[v.name]) for v in graph.inputs]))
    rows = count(counter, 2, stems)
    wrong = {k: v for k, v in rows.items() if isinstance(v, str) or v[1]}
    assert not wrong, repr(sorted(wrong.items()))
    assert len(rows) == len(stems) > 300
