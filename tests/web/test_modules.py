"""Every module of the engine for browsers against the native engine: integers to the bit, floats within 1e-5."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.cli import demo_cmd, demo_digits
from deploykit.data import digits
from tests.support.machine import SATURATES
from tests.web import pages
from tests.web.test_package_browser import drive

HERE = Path(__file__).resolve().parent
MODULES = ["engine.wasm", "engine.relaxed.wasm", "engine.threads.wasm", "engine.relaxed.threads.wasm"]
DTYPES = {"float32": 1, "int8": 5, "uint8": 6}


def run(module: str, model: Path, x: np.ndarray, threads: int = 1, runs: int = 1) -> dict[str, Any]:
    """Outputs and lanes: the relaxed modules in Chromium, which takes them by itself, the others in Node without the
    package (the relaxed dot products of Node 20 are not exact).  Where those of Chromium are not exact either, it has to take
    the module without them."""
    if "relaxed" in module:
        return in_chromium(module, model, x, {"threads": threads, "runs": runs})
    if shutil.which("node") is None:
        assert not os.environ.get("CI"), "CI needs Node"
        pytest.skip("Node is not installed")
    job = {
        "module": str(pages.build() / module),
        "shared": "threads" in module,
        "model": str(model),
        "threads": threads,
        "runs": runs,
        "inputs": [{"dtype": DTYPES[x.dtype.name], "shape": x.shape, "data": base64.b64encode(x.tobytes()).decode()}],
    }
    command = ["node", str(HERE / "engine.mjs")]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def taken(module: str) -> str:
    """The module that the package takes on this machine where ``module`` would do."""
    return module.replace(".relaxed", "") if SATURATES else module


def in_chromium(module: str, model: Path, x: np.ndarray, job: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(pages.engine(), folder / "runtime")
        (folder / "blank.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>Blank</title>')
        shutil.copy(model, folder / "model.dk")
        (folder / "x.bin").write_bytes(x.tobytes())
        job |= {"name": dk.Interpreter(model).inputs[0].name, "dtype": x.dtype.name, "shape": x.shape}
        with pages.served(folder, None if "threads" in module else {}) as url:
            seen = drive(url, "model", "model.dk", json.dumps(job))
    assert seen["info"]["engine"] == taken(module) and not seen["errors"], seen["info"]
    return {"isa": seen["info"]["isa"], "lanes": seen["info"]["threads"]} | seen


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Name: file and input.  The demo's digits in float and in 8 bits; the face detector in both, and with integer ends."""
    folder = tmp_path_factory.mktemp("models")
    demo_digits.run(folder, lambda text: None)
    x = digits()[1][0][:1, ..., None].astype(np.float32)
    out = {name: (folder / f"{name}.dk", x) for name in ("digits", "digits-int8")}
    source = folder / "face.onnx"
    source.write_bytes(demo_cmd.face_model())
    rng = np.random.default_rng(0)
    shape = (1, 128, 128, 3)
    dk.convert(source, folder / "face.dk", verify=False)
    data = [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(4)]
    eight: dict[str, Any] = {"quantize": "int8", "calibration": data, "verify": False}
    dk.convert(source, folder / "face_int8.dk", **eight)
    dk.convert(source, folder / "face_whole_int8.dk", io_dtype="int8", **eight)
    out |= {name: (folder / f"{name}.dk", data[0]) for name in ("face", "face_int8")}
    return out | {"face_whole_int8": (folder / "face_whole_int8.dk", rng.integers(-128, 128, shape).astype(np.int8))}


@pytest.mark.parametrize("module", MODULES)
def test_answers_are_the_native_ones(module: str, models: dict[str, tuple[Path, np.ndarray]]) -> None:
    """Sums of 8-bit products are exact everywhere, relaxed or not, so quantized models give the same bits; but for functions
    behind the last product, which are of floats (the softmax of the digits)."""
    for name, (path, x) in models.items():
        native = dk.Interpreter(path)
        want = list(native.run({native.inputs[0].name: x}).values())
        seen = run(module, path, x)
        assert "error" not in seen, seen
        assert seen["isa"] == ("wasm_relaxed" if "relaxed" in taken(module) else "wasm_simd128")
        for w, o in zip(want, seen["outputs"], strict=True):
            got = np.frombuffer(base64.b64decode(o), w.dtype).reshape(w.shape)
            exact = "_int8" in name
            np.testing.assert_allclose(got, w, rtol=0, atol=0 if exact else 1e-5 * np.abs(w).max(), err_msg=name)


@pytest.mark.parametrize("module", [m for m in MODULES if "threads" in m])
def test_threads_give_equal_bits(module: str, models: dict[str, tuple[Path, np.ndarray]]) -> None:
    for path, x in (models["face"], models["face_int8"]):
        one, two, three = (run(module, path, x, threads, runs=20) for threads in (1, 2, 3))
        assert [s.get("lanes") for s in (one, two, three)] == [1, 2, 3], (one, two, three)
        assert one["same"] and two["same"] and three["same"]
        assert one["outputs"] == two["outputs"] == three["outputs"]
        if "relaxed" not in module:  # Node's: the layers really were split, twenty runs of several layers
            assert one["regions"] == 0 and two["regions"] > 100 and three["regions"] > 100, (one, two, three)
