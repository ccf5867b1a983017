"""The commands as a user types them: output, JSON, exit codes, and what is left behind."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploykit import native
from tests.support import small
from tests.support.peers import need_onnxruntime


def deploykit(*args: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deploykit", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd or "/",
        timeout=300,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted small model beside its source."""
    folder = tmp_path_factory.mktemp("cli")
    source = small.cnn(folder / "cnn.onnx")
    deploykit("convert", source, "-o", folder / "cnn.dk")
    return folder / "cnn.dk"


def test_help_lists_the_commands() -> None:
    text = deploykit("--help").stdout
    for name in ("convert", "inspect", "run", "bench", "compare", "demo", "doctor"):
        assert name in text
        assert "Example" in deploykit(name, "--help").stdout


def test_unknown_command_and_option_are_wrong_use() -> None:
    assert "Did you mean 'convert'" in deploykit("convrt", code=2).stderr
    deploykit("convert", "--no-such-option", code=2)
    deploykit("convert", "/no/such/file.onnx", "-o", "x.dk", code=2)


@pytest.mark.parametrize(
    "words", [("inspect", "{m}", "--html"), ("bindings", "{m}", "--lang", "c", "-o"), ("run", "{m}", "--output")]
)
def test_output_in_no_folder(model: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    target = tmp_path / "no-such-folder" / "file"
    done = deploykit(*(w.format(m=model) for w in words), target, code=2)
    assert "DK-INPUT" in done.stderr and str(target) in done.stderr.replace("\n", "")
    assert not list(tmp_path.iterdir())


def test_convert_reports(tmp_path: Path) -> None:
    source = small.cnn(tmp_path / "m.onnx")
    report = json.loads(deploykit("convert", source, "-o", tmp_path / "m.dk", "--json").stdout)
    assert report["verification"]["status"] == "passed"
    assert report["nodes_after"] < report["nodes_before"]
    assert (tmp_path / "m.dk").stat().st_size == report["output_bytes"]


def test_convert_there_and_back(model: Path, tmp_path: Path) -> None:
    need_onnxruntime()
    deploykit("convert", model, "-o", tmp_path / "back.onnx")
    deploykit("compare", tmp_path / "back.onnx", model)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "LFS"),
        (b"\x1f\x8b\x08\x00" + bytes(30), "gzip"),
        (bytes(range(256)), ""),
    ],
    ids=["empty", "html", "lfs", "gzip", "noise"],
)
@pytest.mark.parametrize("suffix", [".onnx", ".dk"])
def test_bad_files_are_refused(content: bytes, word: str, suffix: str, tmp_path: Path) -> None:
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(content)
    done = deploykit("convert", bad, "-o", tmp_path / "out.dk", code=1)
    assert word in done.stderr and "DK-FORMAT" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [bad.name]


def test_all_unsupported_nodes_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    source = small.unsupported(tmp_path / "u.onnx")
    done = deploykit("convert", source, "-o", tmp_path / "u.dk", code=1)
    for word in ("Frobnicate", "Grumble", "first", "second", "third"):
        assert word in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["u.onnx"]


def test_wrong_output_kind(tmp_path: Path) -> None:
    source = small.cnn(tmp_path / "m.onnx")
    assert ".dk, .onnx" in deploykit("convert", source, "-o", tmp_path / "m.pb", code=2).stderr


def test_quantize(tmp_path: Path) -> None:
    source = small.cnn(tmp_path / "m.onnx")
    x = np.random.default_rng(0).random((20, 3, 16, 16), np.float32)
    np.savez(tmp_path / "c.npz", x=x)
    out = tmp_path / "m.dk"
    done = deploykit("convert", source, "-o", out, "--quantize", "int8", "--calibration", tmp_path / "c.npz")
    text = " ".join(done.stdout.split())  # lines may break anywhere
    assert "quantized (int8)" in text and "20 calibration samples" in text and "dB" in text
    info = json.loads(deploykit("inspect", out, "--json").stdout)
    assert info["ops"]["qconv"]["count"] == 1
    # the ReLU behind the convolution; the product at the end gives floats
    assert info["fused"] == {"clamp": 1, "requantize": 1}


def test_quantize_needs_data(tmp_path: Path) -> None:
    source = small.cnn(tmp_path / "m.onnx")
    done = deploykit("convert", source, "-o", tmp_path / "m.dk", "--quantize", "int8", code=2)
    assert "calibration data" in done.stderr
    assert not (tmp_path / "m.dk").exists()


def test_inspect(model: Path) -> None:
    info = json.loads(deploykit("inspect", model, "--json").stdout)
    assert info["inputs"] == [{"name": "x", "type": "float32[batch,3,16,16]"}]
    assert info["outputs"] == [{"name": "y", "type": "float32[batch,5]"}]
    assert info["fused"] == {"relu": 1}
    assert info["memory"]["arena"] > 0
    assert "conv" in deploykit("inspect", model).stdout
    assert "conv(" in deploykit("inspect", model, "--nodes").stdout


def test_run_with_files_and_without(model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    np.save(tmp_path / "x.npy", x)
    deploykit("run", model, "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "y.npz")
    y = np.load(tmp_path / "y.npz")["y"]
    assert y.shape == (2, 5)
    out = json.loads(deploykit("run", model, "--input", tmp_path / "x.npy", "--top", "3", "--json").stdout)
    assert out["y"]["shape"] == [2, 5] and len(out["y"]["top"]) == 3
    assert out["y"]["top"][0]["value"] == pytest.approx(float(y.max()))
    assert "made-up inputs" in deploykit("run", model).stdout


def test_run_refuses_wrong_inputs(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 16), np.float32))
    done = deploykit("run", model, "--input", f"x={tmp_path / 'x.npy'}", code=2)
    assert "[1, 3, 8, 16]" in done.stderr and "16" in done.stderr
    np.save(tmp_path / "d.npy", np.zeros((1, 3, 16, 16)))
    assert "float64" in deploykit("run", model, "--input", f"x={tmp_path / 'd.npy'}", code=2).stderr
    assert "'z'" in deploykit("run", model, "--input", f"z={tmp_path / 'x.npy'}", code=2).stderr


def test_run_reads_pictures(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((40, 30, 3), 200, np.uint8)).save(tmp_path / "p.png")
    out = json.loads(deploykit("run", model, "--input", tmp_path / "p.png", "--json").stdout)
    assert out["y"]["shape"] == [1, 5]


def test_precision(model: Path) -> None:
    """Another precision is timed beside the default one, and its difference shown, not judged."""
    out = json.loads(deploykit("bench", model, "--precision", "fast", "--runs", 3, "--threads", 1, "--json").stdout)
    assert set(out["runtimes"]) == {"deploykit", "deploykit fast"}
    assert out["runtimes"]["deploykit fast"]["largest_difference"] < 0.05
    shown = deploykit("bench", model, "--precision", "fast", "--runs", 3).stdout
    assert ("changes nothing on this CPU" in shown) != native.describe()["fast"]
    deploykit("run", model, "--precision", "exact", "--json")
    deploykit("run", model, "--precision", "double", code=2)


def test_bench_against_onnxruntime(model: Path) -> None:
    need_onnxruntime()
    out = json.loads(
        deploykit(
            "bench",
            model.with_suffix(".onnx"),
            "--against",
            "onnxruntime",
            "--runs",
            5,
            "--threads",
            1,
            "--json",
            "--profile",
        ).stdout
    )
    assert out["runtimes"]["onnxruntime"]["agrees"] and out["runtimes"]["onnxruntime"]["ratio"] > 0
    assert {"conv", "matmul"} <= {r["op"] for r in out["profile"]}
    deploykit("bench", model, "--against", "nothing", code=2)


def test_compare_finds_the_wrong_tensor(model: Path, tmp_path: Path) -> None:
    need_onnxruntime()
    same = json.loads(deploykit("compare", model.with_suffix(".onnx"), model, "--json").stdout)
    assert same["status"] == "same" and same["first_difference"] is None and same["tensors"]
    other = small.cnn(tmp_path / "other.onnx", seed=1)
    deploykit("convert", other, "-o", tmp_path / "other.dk")
    done = deploykit("compare", model.with_suffix(".onnx"), tmp_path / "other.dk", "--json", code=1)
    assert json.loads(done.stdout)["first_difference"]["name"] in ("c", "n", "r")


def test_doctor() -> None:
    info = json.loads(deploykit("doctor", "--json").stdout)
    assert info["engine"]["ok"] and info["engine"]["isa"] and info["engine"]["cpus"] >= 1
    assert "kernels" in deploykit("doctor").stdout


def test_demo(tmp_path: Path) -> None:
    out = json.loads(deploykit("demo", "-o", tmp_path / "d", "--json").stdout)
    assert out["digits"]["int8"]["accuracy"] > out["digits"]["accuracy"] - 0.01
    assert out["digits"]["int8"]["bytes"] < 0.4 * out["digits"]["exports"][".dk"]["bytes"]
    assert out["face_found"] and out["verification"]["status"] == "passed"
    assert (tmp_path / "d" / "faces.png").is_file()
    assert out["digits"]["accuracy"] > 0.95 and out["digits"]["same_answer"]
    assert {v["verified"] for v in out["digits"]["exports"].values()} == {"passed"}
    assert all((tmp_path / "d" / n).is_file() for n in ("digits.dk", "digits.onnx", "digits-training.svg"))


def test_names_in_brackets_are_shown(tmp_path: Path) -> None:
    """Shapes and names like [n] are text, not markup."""
    source = small.cnn(tmp_path / "m.onnx")
    shape = re.search(r"float32\[([^]]*)\]", deploykit("inspect", source).stdout)
    assert shape and shape[1].count(",") == 3


def test_doctor_tells_how_to_get_the_browser_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from deploykit.cli import doctor_cmd
    from deploykit.web import site

    monkeypatch.setattr(site, "__file__", str(tmp_path / "deploykit" / "web" / "site.py"))  # a package without it
    assert not doctor_cmd.collect()["browser_engine"]["ok"]
    assert "DEPLOYKIT_WEB=1" in doctor_cmd.collect()["browser_engine"]["install"]
    dist = tmp_path / "web" / "dist"
    dist.mkdir(parents=True)
    (dist / "deploykit.js").write_bytes(b"12345")
    assert doctor_cmd.collect()["browser_engine"] == {"ok": True, "bytes": 5}


def test_doctor_tells_what_to_type() -> None:
    """Extras in brackets are text, not markup."""
    from deploykit.cli.doctor_cmd import OPTIONAL

    text = "".join(deploykit("doctor").stdout.split())
    for package, (install, _) in OPTIONAL.items():
        if importlib.util.find_spec(package) is None:
            assert "".join(install.split()) in text


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_bench_against_litert(kind: str, tmp_path: Path) -> None:
    from tests.support import assets
    from tests.support.peers import need

    need("ai_edge_litert")
    source = assets.file("models/tflm-sine/sine_float.tflite") if kind == "tflite" else small.cnn(tmp_path / "m.onnx")
    r = json.loads(deploykit("bench", source, "--against", "litert", "--runs", "3", "--json").stdout)
    assert set(r["runtimes"]) == {"deploykit", "litert"} and r["runtimes"]["litert"]["agrees"]
