"""Causes: one fault is built into a model or its data, and the layer that has it must name it.  And what else the report
holds: errors against plain NumPy, times, sizes, the memory plan, and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import InputError
from deploykit.graph import Graph
from deploykit.ops import GraphBuilder
from deploykit.pages import charts, report_page
from tests.support import small

R = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


def two_products(w: np.ndarray, bias: np.ndarray | None = None) -> Graph:
    """x [8, inputs] -> matmul -> tanh -> matmul -> y."""
    b = GraphBuilder()
    x = b.input("x", "float32", (8, len(w)))
    y = b.op("matmul", x, w, bias, node="first")
    return b.output(b.op("matmul", b.op("tanh", y, node="bend"), normal(w.shape[1], 8), node="second"), "y")


def diagnose(g: Graph, data: Any, tmp_path: Path, **options: Any) -> dict[str, dict]:
    options = {"quantize": "int8", "observer": "minmax", "verify": False, "repair": "none", **options}
    report = dk.convert(g, calibration=data, report=tmp_path / "r.html", **options)
    assert report.diagnosis is not None
    return {r["name"]: r for r in report.diagnosis["layers"]}


def test_own_error_is_that_of_rounding(tmp_path: Path) -> None:
    """The input's row against NumPy: rounding to 256 levels."""
    data = [normal(8, 32) for _ in range(8)]
    row = diagnose(two_products(normal(32, 16)), data, tmp_path)["x"]
    x = np.stack(data)
    step = (x.max() - x.min()) / 255
    zero = np.rint(-x.min() / step)
    e = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step - x
    assert row["own_db"] == pytest.approx(10 * np.log10((x**2).sum() / (e**2).sum()), abs=0.05)
    assert row["total_db"] == pytest.approx(row["own_db"], abs=0.01) and row["max_error"] == pytest.approx(
        np.abs(e).max(), abs=1e-4
    )
    assert row["shares"]["rounding"] == pytest.approx(1.0, abs=0.02)


def outlier(n: int = 32) -> np.ndarray:
    w = normal(32, n) * 0.05
    w[:, 3] *= 200
    return w


def clipping_data() -> list[np.ndarray]:
    """One sample far wider than the others, which the moving average of limits forgets."""
    return [normal(8, 32) * (30 if i == 0 else 1) for i in range(30)]


@pytest.mark.parametrize(
    ("make", "data", "options", "layer", "words"),
    [
        (lambda: two_products(normal(32, 16)), clipping_data, {"observer": "moving_average"}, "x", "clipped range"),
        (lambda: two_products(outlier()), None, {}, "first", "outlier channel"),
        (lambda: two_products(np.zeros((32, 16), np.float32)), None, {}, "first", "dead"),
        (lambda: two_products(outlier()), None, {}, "bend", "inherited"),
        (lambda: two_products(normal(32, 16)), None, {}, "first", ""),
    ],
    ids=["clipped", "outlier", "dead", "behind-outlier", "sound"],
)
def test_causes(make: Any, data: Any, options: dict, layer: str, words: str, tmp_path: Path) -> None:
    row = diagnose(make(), data() if data else [normal(8, 32) for _ in range(16)], tmp_path, **options)[layer]
    assert row["cause"].startswith(words) and (row["cause"] or not words) and bool(row["cause"]) == bool(words), row
    assert bool(row["remedy"]) == (words not in ("", "inherited"))


def test_weights_that_share_a_scale(tmp_path: Path) -> None:
    """A column whose largest weight meets an input that is always nearly zero: the others round to nothing."""
    w = normal(32, 16) * 0.01
    w[5] = 20
    data = [normal(8, 32) * np.where(np.arange(32) == 5, 1e-4, 1).astype(np.float32) for _ in range(16)]
    row = diagnose(two_products(w), data, tmp_path)["first"]
    assert row["shares"]["weights"] > 0.9 and "weights" in row["cause"] and "--repair" in row["remedy"]


def test_mean_shift_is_told_apart(tmp_path: Path) -> None:
    w = np.full((32, 16), 0.25, np.float32) + normal(32, 16) * 1e-3
    w[0] = 60  # coarse steps: 0.25 rounds to 0 or to 0.47, all to the same side
    data = [np.where(np.arange(32) == 0, 0, 1 + 0.01 * normal(8, 32)).astype(np.float32) for _ in range(16)]
    row = diagnose(two_products(w), data, tmp_path)["first"]
    assert "mean" in row["cause"]
    assert row["remedy"].startswith("--repair bias, or --keep-float")
    row = diagnose(two_products(w), data, tmp_path, repair=["bias"])["first"]
    assert row["own_db"] > 30 and not row["remedy"]


@pytest.mark.parametrize("scheme", ["dynamic", "fp16", "int4"])
def test_schemes_of_weights_have_rows(scheme: str, tmp_path: Path) -> None:
    rows = diagnose(two_products(normal(32, 16)), [normal(8, 32) for _ in range(8)], tmp_path, quantize=scheme)
    assert set(rows) == {"first", "second"}
    own = {"dynamic": 35, "fp16": 60, "int4": 15}[scheme]
    assert all(own < r["own_db"] < 100 and r["shares"]["weights"] == 1 for r in rows.values())


def test_report_without_quantizing(tmp_path: Path) -> None:
    """The same page serves plain conversions: checks, times, sizes, plan, passes, transposes."""
    page = tmp_path / "r.html"
    report = dk.convert(small.cnn(tmp_path / "m.onnx"), tmp_path / "m.dk", report=page)
    d = report.diagnosis
    assert d is not None and not d["layers"] and set(d["latency"]["rows"]) == {"float"}
    text = page.read_text()
    assert "allowed" in text and "Time of each layer" in text and "Error of each layer" not in text


def test_page_is_one_file_and_escapes_names(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.input("</td><script>alert(1)</script>", "float32", (4, 32))
    g = b.output(b.op("matmul", x, outlier(), node="<img src=x>"), "<b>y</b>")
    page = tmp_path / "r.html"
    report = dk.convert(
        g, tmp_path / "<i>m.dk", quantize="int8", calibration=[normal(4, 32)] * 9, report=page, verify=False
    )
    text = page.read_text()
    assert not re.search(r"<script|<img|<i>m|<b>y|src=\"|href=.(?!data:)|url\(|@import|https?:", text)
    data = json.loads(json.dumps(report.to_json()))
    cut = re.compile(r", in \d+\.\d s<")
    assert cut.sub("", report_page(data)) == cut.sub("", text)  # the page shows what the JSON says, no more


def test_latency_has_both_builds_node_by_node(tmp_path: Path) -> None:
    x = R.uniform(-1, 1, (16, 3, 16, 16)).astype(np.float32)
    report = dk.convert(small.cnn(tmp_path / "m.onnx"), quantize="int8", calibration=x, report=tmp_path / "r.html")
    rows = report.diagnosis["latency"]["rows"]  # type: ignore[index]
    both = {r["name"] for r in rows["float"]} & {r["name"] for r in rows["quantized"]}
    assert {"conv/conv", "fc"} <= both and all(r["us"] > 0 for k in rows for r in rows[k])


def test_memory_plan_has_no_overlaps(tmp_path: Path) -> None:
    report = dk.convert(two_products(normal(32, 16)), report=tmp_path / "r.html")
    latency = report.diagnosis["latency"]  # type: ignore[index]
    rows = latency["plan"]
    assert rows and all(r["offset"] + r["bytes"] <= latency["memory"]["float"]["arena"] for r in rows)
    for i, a in enumerate(rows):
        for c in rows[:i]:
            apart = a["last"] < c["first"] or c["last"] < a["first"]
            assert apart or a["offset"] + a["bytes"] <= c["offset"] or c["offset"] + c["bytes"] <= a["offset"]


def test_treemap_fills_its_place_in_proportion() -> None:
    rows = [dict(name=f"n/{i}", op="conv", dtype="int8", bytes=b) for i, b in enumerate(sorted(range(1, 200, 2))[::-1])]
    c = charts.treemap(rows, most=40)
    boxes = c["boxes"]
    assert len(boxes) == 41 and sum(b["bytes"] for b in boxes) == sum(r["bytes"] for r in rows)
    whole = c["width"] * c["height"]
    for b in boxes:
        assert b["w"] * b["h"] / whole == pytest.approx(b["bytes"] / sum(r["bytes"] for r in rows))
        assert (
            b["x"] >= 0
            and b["y"] >= 0
            and b["x"] + b["w"] <= c["width"] + 1e-6
            and b["y"] + b["h"] <= c["height"] + 1e-6
        )
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            across = min(a["x"] + a["w"], b["x"] + b["w"]) - max(a["x"], b["x"])
            down = min(a["y"] + a["h"], b["y"] + b["h"]) - max(a["y"], b["y"])
            assert across < 1e-6 or down < 1e-6
    assert charts.treemap([])["boxes"] == []


def test_missing_folder_is_told_before_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        dk.convert(two_products(normal(32, 16)), report=tmp_path / "no" / "r.html")


def test_command(tmp_path: Path) -> None:
    from tests.cli.test_cli import deploykit

    source = small.cnn(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=R.uniform(-1, 1, (16, 3, 16, 16)).astype(np.float32))
    got = deploykit(
        "convert", source, "-o", tmp_path / "m.dk", "--quantize", "int8", "--calibration", tmp_path / "x.npz",
        "--report", tmp_path / "r.html", "--json",
    )  # fmt: skip
    data = json.loads(got.stdout)
    assert data["diagnosis"]["layers"] and data["quantization"]["outputs"]
    assert "conv" in (tmp_path / "r.html").read_text()


def test_labels_of_the_curve_fit_left_of_it() -> None:
    from deploykit.pages import charts

    points = [{"float": [], "drop": d, "bytes": 1, "ms": 1.0 + i} for i, d in enumerate((1e-7, 1e-6, 0.3))]
    c = charts.curve(points, points[0], {"drop": 0.005, "size": None, "ms": None})
    longest = max(len(label) for _, label in c["ticks"])
    assert longest == len("0.0001 %") and c["left"] - 6 > 10 * longest  # 19 units high on phones, half as wide
    assert min(p["x"] for p in c["dots"]) > c["left"] and max(p["x"] for p in c["dots"]) <= c["width"]
