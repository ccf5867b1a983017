"""The npm package (web/npm) in Node, against the native engine; and that the modules kept in web/engine are its build."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import DeploykitError
from deploykit.ops.builder import GraphBuilder
from tests.web import pages
from tests.web.test_site import classifier

NPM = pages.HERE.parents[1] / "web" / "npm"


@pytest.fixture(scope="module")
def engine() -> Path:
    return pages.engine()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("m"), labels=["a", "b"], preprocessing={"range": [0.0, 16.0]})


def node(engine: Path, scenario: str, *args: object, flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run a scenario of package.mjs; returns what it saw."""
    command = ["node", *flags, str(pages.HERE / "package.mjs"), str(engine), scenario, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python_says(model: Path, *args: Any, **inputs: Any) -> str:
    with pytest.raises(DeploykitError) as e:
        dk.Interpreter(model).run(*args, **inputs)
    return str(e.value)


def image(n: int = 1) -> np.ndarray:
    return (np.arange(64 * n, dtype=np.float32) % 17).reshape(n, 8, 8, 1)


def test_kept_modules_are_the_build(tmp_path: Path) -> None:
    """web/engine/*.js is what TypeScript makes of web/npm/src, byte for byte, and small."""
    if shutil.which("node") is None or not (NPM / "node_modules" / "typescript").is_dir():
        assert not os.environ.get("CI"), "CI needs Node and `npm ci --prefix web/npm`"
        pytest.skip("Node or TypeScript is missing (npm ci --prefix web/npm)")
    subprocess.run(["node", str(NPM / "scripts" / "build.mjs"), "--out", str(tmp_path)], check=True, timeout=120)
    built = {p.name: p.read_text() for p in tmp_path.glob("*.js") if p.name != "inline.js"}
    kept = {p.name: p.read_text() for p in pages.ENGINE.glob("*.js")}
    assert kept == built, "run `npm run build --prefix web/npm`"
    assert sum(map(len, kept.values())) < 74_000  # bytes; a visitor fetches a third of it, compressed
    assert {p.name.removesuffix(".d.ts") for p in tmp_path.glob("*.d.ts")} == {n.removesuffix(".js") for n in built}


@pytest.mark.parametrize("worker", ["true", "false"])
def test_answers_are_the_native_ones(engine: Path, model: Path, worker: str) -> None:
    seen = node(engine, "run", model, worker)
    native = dk.Interpreter(model, threads=1)
    size = model.stat().st_size
    assert seen["progress"] == [[size, size]]
    assert seen["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 8, 8, 1]}]
    assert seen["outputs"][0]["name"] == "class"
    assert seen["metadata"]["labels"] == ["a", "b"] and seen["signatures"] == ["main"]
    assert seen["isa"].startswith("wasm_") and seen["threads"] == 1  # no run was worth another
    x = image(2)
    for key, given in (("one", x[:1]), ("two", x), ("nested", x[:1])):
        want, got = native.run({"image": given})["class"], seen[key]["class"]
        assert got["shape"] == list(want.shape) and got["dtype"] == "float32"
        np.testing.assert_allclose(np.array(got["data"]).reshape(want.shape), want, rtol=1e-5, atol=1e-12)
    want = native.run({"image": x[1:]})["class"]
    for got in seen["again"]:
        np.testing.assert_allclose(np.array(got["class"]["data"]).reshape(want.shape), want, rtol=1e-5, atol=1e-12)
    assert [r["op"] for r in seen["profile"]][-1] == "softmax" and all(r["calls"] == 3 for r in seen["profile"])
    assert seen["before"]["arena"] == 0 < seen["memory"]["arena"] and seen["memory"]["heap"] > 0
    assert seen["kept"] == 128


def test_wrong_inputs_are_pythons_errors(engine: Path, model: Path) -> None:
    seen = node(engine, "inputs", model)
    after = seen.pop("after")
    assert "value" in after
    assert all(e["code"] == "DK-INPUT" for e in seen.values()), seen
    text = {k: e["message"] for k, e in seen.items()}
    x = image()
    assert text["missing"] == python_says(model, {})
    assert text["name"] == python_says(model, {"picture": x})
    assert text["more"] == python_says(model, {"image": x, "z": x})
    assert text["rank"] == python_says(model, {"image": x.reshape(8, 8)})
    assert text["shape"] == python_says(model, {"image": x.reshape(1, 4, 16, 1)})
    python = python_says(model, {"image": x.astype(np.float64)}).replace(".astype('float32')", "Float32Array.from(...)")
    assert text["dtype"] == python
    assert "got 65 values, expected a multiple of 64 for shape [batch, 8, 8, 1]" in text["count"]
    assert "64 values do not fill shape [1, 8, 8, 2]" in text["filled"]
    assert "rows of different lengths" in text["ragged"]
    assert text["variable"] == "DK-INPUT: the model has no variable 'no'."
    with pytest.raises(DeploykitError) as e:
        dk.Interpreter(model, signature="no")
    assert text["signature"] == str(e.value)
    assert "was disposed" in text["disposed"]


def test_whole_numbers_survive_or_are_named(engine: Path, tmp_path: Path) -> None:
    b = GraphBuilder()
    for name, dtype in (("i", "int8"), ("u", "uint8"), ("b", "bool"), ("l", "int64")):
        b.output(b.op("concat", *[b.input(name, dtype, (2,))] * 2, axis=0), f"{name}_out")
    dk.convert(b.graph, tmp_path / "whole.dk", verify=False)
    seen = node(engine, "whole", tmp_path / "whole.dk")
    good = {k: v["data"] for k, v in seen["good"]["value"].items()}
    assert good == {
        "i_out": [1, -2, 1, -2],
        "u_out": [3, 4, 3, 4],
        "b_out": [1, 0, 1, 0],
        "l_out": [2**40, 5, 2**40, 5],
    }
    assert "1.5 is no whole number, expected int8" in seen["i"]["message"]
    assert "256 does not fit into uint8" in seen["u"]["message"]
    assert "2 does not fit into bool" in seen["b"]["message"]
    assert "got dtype int32, expected int64; use BigInt64Array.from(...)" in seen["l"]["message"]
    assert seen["made"] == {"data": [1, 2], "shape": [2], "dtype": "int64"}


def test_wrong_files_are_pythons_errors(engine: Path, model: Path, tmp_path: Path) -> None:
    """Damaged, cut short, something else: the code and the words of the native engine."""
    whole = model.read_bytes()
    contents = {
        "cut.dk": whole[: len(whole) // 2],
        "short.dk": whole[:20],
        "flipped.dk": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        "page.dk": b"<!DOCTYPE html><title>Not found</title>",
        "lfs.dk": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
        "empty.dk": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    seen = node(engine, "files", model, *(tmp_path / n for n in contents), tmp_path / "nothing.dk")
    assert "code" not in seen[str(model)]
    for name, data in contents.items():
        with pytest.raises(DeploykitError) as e:
            dk.Interpreter(data)
        got = seen[str(tmp_path / name)]
        assert (got["code"], got["message"]) == (e.value.code, str(e.value)), name
    assert (
        seen[str(tmp_path / "nothing.dk")]["code"] == "DK-IO"
        and "no such file" in seen[str(tmp_path / "nothing.dk")]["message"]
    )
    for way in ("blob", "response", "buffer"):
        assert len(seen[way]["value"]["class"]["data"]) == 3
    assert seen["number"]["code"] == "DK-INPUT"
    assert seen["limit"]["code"] == "DK-MEMORY", seen["limit"]
    assert seen["kept"] == len(whole)


def test_variables_and_signatures(engine: Path, tmp_path: Path) -> None:
    from tests.web.stateful import counter

    seen = node(engine, "state", counter(tmp_path / "counter.dk"))
    assert seen["first"] == [1, 2, 3]
    assert seen["run"] == {"data": [2, 4, 6], "shape": [3], "dtype": "float32"}
    assert seen["then"] == seen["shared"] == [2, 4, 6]
    assert seen["after"] == [[4, 8, 12]] * 2
    assert seen["reset"] == [[1, 2, 3]] * 2
    assert seen["closed"]["code"] == "DK-INPUT" and seen["last"] == [2, 4, 6]


def test_abort(engine: Path, model: Path) -> None:
    seen = node(engine, "abort", model)
    begun, waits = seen["runs"]
    assert begun["message"] == "enough" and waits["code"] == seen["load"]["code"] == "AbortError"
    assert seen["after"]["value"]["class"]["shape"] == [512, 3]
    assert seen["pending"]["code"] == "DK-INPUT" and "disposed" in seen["pending"]["message"]


def test_limits_are_told(engine: Path, model: Path) -> None:
    seen = node(engine, "limits", model)
    assert seen["ops"]["code"] == seen["time"]["code"] == "DK-LIMIT", seen
    assert "value" in seen["after"]


def test_a_killed_worker_is_told(engine: Path, model: Path) -> None:
    seen = node(engine, "killed", model)
    for key in ("pending", "later"):
        assert seen[key]["code"] == "DK-ENGINE" and "worker of this model was stopped" in seen[key]["message"]
    assert "value" in seen["next"]


def test_garbage_is_disposed(engine: Path, model: Path) -> None:
    assert node(engine, "garbage", model, flags=("--expose-gc",)) == {"started": 4, "ended": 4}


def test_node_ends_with_an_open_model(engine: Path, model: Path) -> None:
    assert node(engine, "open", model) == {"open": True}


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_threads_give_equal_bits(engine: Path, tmp_path: Path, quantize: str | None) -> None:
    """Asked for they are there at once, else they come with runs that are worth it; the bits are the same for any number."""
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 48, 48, 16))
    y = b.op("conv", x, b.constant(rng.standard_normal((64, 3, 3, 16)).astype(np.float32)), pads=(1, 1, 1, 1))
    y = b.op(
        "conv", b.op("relu", y), b.constant(rng.standard_normal((32, 3, 3, 64)).astype(np.float32)), pads=(1, 1, 1, 1)
    )
    data = [rng.standard_normal((1, 48, 48, 16)).astype(np.float32)]
    more = {"quantize": quantize, "calibration": data} if quantize else {}
    dk.convert(b.output(y, "y"), tmp_path / "m.dk", verify=False, **more)
    seen = node(engine, "threads", tmp_path / "m.dk", 48 * 48 * 16)
    assert seen.pop("zero")["code"] == "DK-INPUT"
    there = seen.pop("environment")
    assert there["threads"], there["reasons"]
    name = f"engine{'.relaxed' if there['relaxed'] else ''}.threads.wasm"
    assert {(r["before"]["engine"], r["after"]["engine"]) for r in seen.values()} == {(name, name)}
    one, two, three, some = seen.values()
    assert [r["before"]["threads"] for r in (one, two, three, some)] == [1, 2, 3, 1]
    cores = os.cpu_count() or 1
    assert some["after"]["threads"] > 1 or cores == 1, "no thread came for a run of milliseconds"
    assert len({bits for r in seen.values() for bits in r["bits"]}) == 1
    assert all(("relaxed" in " ".join(r["after"]["notes"])) != there["relaxed"] for r in seen.values())


def test_what_is_off_is_told(engine: Path, model: Path, tmp_path: Path) -> None:
    """A variant that is missing, or that the platform cannot run, leaves the plain engine and a reason."""
    shutil.copytree(engine, tmp_path / "e")
    for f in (tmp_path / "e").glob("engine.*.wasm"):
        f.unlink()
    seen = node(tmp_path / "e", "info", model)
    assert seen["engine"] == "engine.wasm" and seen["isa"] == "wasm_simd128" and seen["threads"] == 1
    assert "is not in use: DK-IO" in " ".join(seen["notes"]), seen


def test_no_simd_is_told(engine: Path, model: Path) -> None:
    seen = node(engine, "load", model, flags=("--no-enable-sse4-1", "--no-enable-avx"))
    assert seen["environment"]["simd"] is False and "SIMD" in seen["environment"]["reasons"]["simd"]
    assert seen["load"]["code"] == "DK-ENGINE" and "SIMD" in seen["load"]["message"]


def test_missing_and_wrong_engines_are_told(engine: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(engine, tmp_path / "e")
    for f in (tmp_path / "e").glob("engine.*.wasm"):
        f.unlink()  # else one of these would do
    (tmp_path / "e" / "engine.wasm").write_bytes(b"<!doctype html>")
    seen = node(tmp_path / "e", "load", model)["load"]
    assert seen["code"] == "DK-IO" and "an HTML page for engine.wasm" in seen["message"]
    (tmp_path / "e" / "engine.wasm").write_bytes((engine / "engine.wasm").read_bytes()[:5000])
    assert node(tmp_path / "e", "load", model)["load"]["code"] == "DK-ENGINE"
    (tmp_path / "e" / "engine.wasm").unlink()
    assert node(tmp_path / "e", "load", model)["load"]["code"] == "DK-IO"
    (tmp_path / "e" / "worker.js").unlink()
    seen = node(tmp_path / "e", "load", model, json.dumps({"assets": engine.as_uri() + "/"}))
    assert seen["load"]["value"].startswith("wasm_")
    (tmp_path / "e" / "engine.wasm").write_bytes((engine / "engine.wasm").read_bytes())
    seen = node(tmp_path / "e", "load", model)["load"]
    assert seen["code"] == "DK-ENGINE" and "worker.js" in seen["message"]
