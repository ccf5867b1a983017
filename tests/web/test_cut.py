"""``deploykit web --runtime cut``: an engine with one model's ops gives the native answers and is small."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit.cli.web_cmd import command
from deploykit.errors import UnsupportedError
from deploykit.ops.builder import GraphBuilder
from deploykit.web import cut
from tests.budgets.test_web_bytes import BROTLI
from tests.support.machine import SATURATES
from tests.web import pages
from tests.web.test_modules import run

KB = 1000


def dense(path: Path) -> Path:
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    y = b.op("matmul", b.input("x", "float32", (1, 784)), b.constant(rng.standard_normal((784, 64)).astype(np.float32)))
    y = b.op("matmul", b.op("relu", y), b.constant(rng.standard_normal((64, 10)).astype(np.float32)))
    dk.convert(b.output(b.op("softmax", y, axis=-1), "y"), path, verify=False)
    return path


def digits8(path: Path) -> Path:
    """Convolutions, plain and depthwise, pooling and a product in 8 bits."""
    rng = np.random.default_rng(1)
    weight = lambda *shape: b.constant(rng.standard_normal(shape).astype(np.float32))  # noqa: E731
    b = GraphBuilder()
    y = b.op("conv", b.input("x", "float32", (1, 16, 16, 4)), weight(16, 3, 3, 4), pads=(1, 1, 1, 1))
    y = b.op("conv", b.op("relu6", y), weight(16, 3, 3, 1), groups=16, strides=(2, 2), pads=(1, 1, 1, 1))
    y = b.op("add", y, b.op("conv", b.op("relu6", y), weight(16, 1, 1, 16)))
    y = b.op("matmul", b.op("reduce_mean", y, b.constant(np.array([1, 2]))), weight(16, 10))
    data = [rng.standard_normal((1, 16, 16, 4)).astype(np.float32) for _ in range(4)]
    dk.convert(b.output(b.op("softmax", y, axis=-1), "y"), path, quantize="int8", calibration=data, verify=False)
    return path


@pytest.mark.parametrize(("make", "most"), [(dense, 57), (digits8, 75)])
def test_answers_bytes_and_costs(make, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = pages.engine()
    model, out = make(tmp_path / "m.dk"), tmp_path / "cut"
    made = cut.build(model, engine, out)
    assert set(made.modules) == {p.name for p in engine.glob("*.wasm")} == {p.name for p in out.glob("*.wasm")}
    assert {p.name for p in out.glob("*.js")} == {p.name for p in engine.glob("*.js")}
    assert set(made.cost) - {"engine", "shared"} <= set(made.ops) and "softmax" in "".join(made.cost)
    brotli = subprocess.run(
        ["node", "-e", BROTLI, str(out / "engine.wasm")], capture_output=True, text=True, check=True
    )
    assert int(brotli.stdout) < most * KB
    session = dk.Interpreter(model)
    x = np.random.default_rng(2).standard_normal(session.inputs[0].shape).astype(np.float32)
    want = next(iter(session.run({"x": x}).values()))
    monkeypatch.setattr(pages, "build", lambda: out)
    for module in ("engine.wasm", "engine.threads.wasm", *["engine.relaxed.threads.wasm"] * (not SATURATES)):
        seen = run(module, model, x, threads=2 if "threads" in module else 1)
        got = np.frombuffer(bytes_of(seen), np.float32).reshape(want.shape)
        np.testing.assert_allclose(got, want, rtol=0, atol=0 if make is digits8 else 1e-5 * np.abs(want).max())
    b = GraphBuilder()  # another model: refused when it is opened
    dk.convert(b.output(b.op("tanh", b.input("x", "float32", (1, 3))), "y"), tmp_path / "other.dk", verify=False)
    assert "op" in run("engine.wasm", tmp_path / "other.dk", np.zeros((1, 3), np.float32))["error"]


def bytes_of(seen: dict) -> bytes:
    import base64

    assert "error" not in seen, seen
    return base64.b64decode(seen["outputs"][0])


def test_the_command(tmp_path: Path) -> None:
    """The page of a cut engine checks itself against Python in Chromium."""
    from click.testing import CliRunner

    engine = pages.engine()
    with pytest.MonkeyPatch.context() as m:
        m.setattr("deploykit.web.site.runtime", lambda: engine)
        args = [str(dense(tmp_path / "m.dk")), "-o", str(tmp_path / "site"), "--runtime", "cut", "--json"]
        done = CliRunner().invoke(command, args, catch_exceptions=False)
    info = json.loads(done.output)
    assert info["cut"]["modules"]["engine.wasm"] == (tmp_path / "site" / "runtime" / "engine.wasm").stat().st_size
    assert info["cut"]["cost"]["matmul"] > 10 * KB
    with pages.served(tmp_path / "site") as url:
        seen = pages.drive(url, "check", tmp_path)
    pages.clean(seen)


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name))
    with pytest.raises(UnsupportedError, match="pip install ziglang"):
        cut.build(dense(tmp_path / "m.dk"), pages.ENGINE, tmp_path / "out")
    assert os.listdir(tmp_path) == ["m.dk"]
