"""``deploykit compare --web``: the native engine against the one for browsers, in Node and in Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit import web_answers as answers
from deploykit.cli import cli
from deploykit.errors import EngineError, InputError
from deploykit.web import site
from tests.support import small
from tests.support.machine import SATURATES
from tests.web import pages


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    built = pages.engine()
    monkeypatch.setattr(site, "runtime", lambda: built)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    dk.convert(small.cnn(tmp_path / "m.onnx"), tmp_path / "m.dk")
    return tmp_path / "m.dk"


def compare(capsys: Any, *args: object) -> tuple[int, dict[str, Any]]:
    code = cli.main([*map(str, args), "--web", "--browser", pages.CHROMIUM, "--json"], standalone_mode=False)
    return code, json.loads(capsys.readouterr().out)


def test_float(model: Path, capsys: Any) -> None:
    code, seen = compare(capsys, "compare", model)
    assert (code, seen["status"], seen["not_run"]) == (0, "same", [])
    assert [r["engine"] for r in seen["engines"]] == ["Node", "chromium, 1 thread", "chromium, 2 threads"]
    assert all(r["ok"] and r["worst"] <= 1e-5 for r in seen["engines"])
    assert seen["engines"][1]["detail"].startswith(f"engine{'' if SATURATES else '.relaxed'}.threads.wasm")


def test_int8_has_the_same_bits(tmp_path: Path, capsys: Any) -> None:
    x = np.random.default_rng(0).random((20, 3, 16, 16), np.float32)
    path = tmp_path / "m.dk"
    dk.convert(
        small.cnn(tmp_path / "m.onnx"), path, quantize="int8", calibration=[{"x": x[i : i + 1]} for i in range(20)]
    )
    np.save(tmp_path / "x.npy", x[:2])
    code, seen = compare(capsys, "compare", path, "--inputs", f"x={tmp_path / 'x.npy'}")
    assert code == 0 and seen["inputs"] == {"x": [2, 3, 16, 16]}
    assert all(r["bits"] for r in seen["engines"]), seen


def test_another_answer_is_found(model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page gets a model with other weights."""
    other = small.cnn(model.parent / "n.onnx", seed=1)
    dk.convert(other, model.parent / "n.dk")
    real = answers.in_browser
    monkeypatch.setattr(answers, "in_browser", lambda m, *a: real(model.parent / "n.dk", *a))
    code, seen = compare(capsys, "compare", model)
    assert (code, seen["status"]) == (1, "different")
    assert [r["ok"] for r in seen["engines"]] == [True, False, False]


def test_what_is_wrong_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nothing' is no program here.*--browser PATH"):
        answers.find("nothing")
    (tmp_path / "broken.dk").write_bytes(model.read_bytes()[:300])
    feeds = [{"x": np.zeros((1, 3, 16, 16), np.float32)}]
    with pytest.raises(EngineError, match="does not run in the browser: DK-FORMAT: truncated"):
        answers.in_browser(tmp_path / "broken.dk", feeds, pages.CHROMIUM, [1])
    with pytest.raises(EngineError, match="the browser ended before the page was done"):
        answers.in_browser(model, feeds, "/bin/true", [1])
