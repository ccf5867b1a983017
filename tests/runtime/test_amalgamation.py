"""The engine as one file: it compiles without a warning, gives the library's bits, and can be cut to a model's ops."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit import native
from deploykit.graph.dkfile import save
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
STRICT = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"]
ZIG = [sys.executable, "-m", "ziglang"]


def need(*programs: str) -> None:
    """Skip where a compiler is missing, except in CI."""
    for p in programs:
        found = importlib.util.find_spec(p) if p == "ziglang" else shutil.which(p)
        if found is None:
            assert not os.environ.get("CI"), f"CI needs {p}"
            pytest.skip(f"{p} is not installed")


def run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("amalgamation")
    run(sys.executable, ROOT / "runtime" / "amalgamate", "-o", folder)
    return folder


def bits(**env: str) -> dict[str, str]:
    script = ROOT / "tests" / "support" / "sample_bits.py"
    out = json.loads(run(sys.executable, "-P", script, **env))
    assert out["isa"] == env.get("DK_ISA", out["isa"])
    return out["digests"]


def test_all_ops_give_the_bits_of_the_library(sources: Path) -> None:
    """Everything in it, by g++ with warnings as errors; the samples of all passports on each kernel set."""
    need("g++")
    built = sources / "engine.so"
    run("g++", *STRICT, "-O1", "-fPIC", "-shared", sources / "deploykit.cc", "-o", built, "-lpthread", "-lm")
    best = bits()
    assert len(best) > 3000
    assert bits(DK_LIBRARY=str(built)) == best
    for isa in ("scalar", "x86_sse41", "x86_avx2") if os.uname().machine == "x86_64" else ("scalar",):
        assert bits(DK_LIBRARY=str(built), DK_ISA=isa) == bits(DK_ISA=isa), isa


def small_model(folder: Path) -> tuple[Path, set[str], dict[str, np.ndarray]]:
    """A float convolution, a depthwise one, pooling, a product, softmax; the ops it has, and an input."""
    rng = np.random.default_rng(3)
    b = GraphBuilder()
    x = b.input("image", "float32", (1, 15, 13, 3))
    w = rng.standard_normal((24, 3, 3, 3)).astype(np.float32)
    y = b.op("conv", x, b.constant(w), strides=(2, 2), pads=(1, 1, 1, 1))
    y = b.op("relu", y)
    d = rng.standard_normal((24, 3, 3, 1)).astype(np.float32)
    y = b.op("conv", y, b.constant(d), groups=24, pads=(1, 1, 1, 1))
    y = b.op("reduce_mean", y, b.constant(np.array([1, 2])))
    y = b.op("matmul", y, b.constant(rng.standard_normal((24, 10)).astype(np.float32)))
    graph = b.output(b.op("softmax", y, axis=-1), "probabilities")
    path = folder / "net.dk"
    save(graph, path)
    return path, {n.op for n in graph.nodes}, {"image": rng.standard_normal((1, 15, 13, 3)).astype(np.float32)}


def test_a_c_program_with_the_ops_of_one_model(sources: Path, tmp_path: Path) -> None:
    """By zig's Clang; tests/cli/test_bundle.py does the same with g++."""
    need("ziglang")
    path, ops, feeds = small_model(tmp_path)
    cut = ["-DDK_CUT", *(f"-DDK_OP_{o}" for o in sorted(ops))]
    run(*ZIG, "c++", "-g0", *STRICT, "-O2", *cut, "-c", sources / "deploykit.cc", "-o", tmp_path / "engine.o")
    c = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{sources}"]
    run(*ZIG, "cc", *c, HERE / "amalgamation.c", tmp_path / "engine.o", "-o", tmp_path / "program", "-lpthread", "-lm")
    (tmp_path / "in").write_bytes(feeds["image"].tobytes())
    isa = run(tmp_path / "program", path, tmp_path / "in", tmp_path / "out").strip()
    assert isa == native.describe()["isa"]
    want = dk.Interpreter(path).run(feeds)["probabilities"]
    assert (tmp_path / "out").read_bytes() == want.tobytes()
    other = tmp_path / "other.dk"
    b = GraphBuilder()
    save(b.output(b.op("tanh", b.input("x", "float32", (1, 3))), "y"), other)
    done = subprocess.run(
        [tmp_path / "program", other, tmp_path / "in", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "tanh" in done.stderr, done.stderr


def test_every_op_of_the_engine_can_be_kept(sources: Path) -> None:
    """The macros DK_OP_* in the file are those of the ops that the library runs."""
    text = (sources / "deploykit.cc").read_text()
    runs = {o.name for o in REGISTRY.values() if native.library().dk_op_name(o.opcode)}
    assert {o.name for o in REGISTRY.values() if f"#if defined(DK_OP_{o.name})\n" in text} == runs
