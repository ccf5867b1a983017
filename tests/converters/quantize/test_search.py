"""Mixed precision: budgets are kept and told when they cannot be, sensitive layers are found, interruptions lose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit import search
from deploykit.errors import InputError, VerifyError
from deploykit.graph import Graph
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder

R = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


def net() -> Graph:
    """Four products; the second has one channel that drowns the others, which the third reads."""
    r = np.random.default_rng(7)

    def normal(*shape: int) -> np.ndarray:
        return r.standard_normal(shape).astype(np.float32)

    b = GraphBuilder()
    y = b.input("x", "float32", (16, 64))
    w = [normal(64, 64) / 8 for _ in range(3)] + [normal(64, 8) / 8]
    w[1][:, 0] *= 500
    w[2][0] /= 500
    for i, m in enumerate(w):
        y = b.op("matmul", y, m, node=f"p{i}")
        if i == 2:
            y = b.op("tanh", y)
    return b.output(y, "y")


@pytest.fixture(autouse=True)
def equal_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that no busy machine disturbs: float costs 10 per node, integers 2 (p3 is slower in integers: 30)."""

    def race(graphs: dict[str, Graph], feeds: Any, runs: int = 0) -> dict[str, Any]:
        cost = {"matmul": 10.0, "tanh": 1.0, "qmatmul": 2.0, "qlut": 0.2}
        rows = {
            k: [
                {"name": n.name, "us": 30.0 if (n.name, n.op) == ("p3", "qmatmul") else cost.get(n.op, 0.1)}
                for n in g.nodes
            ]
            for k, g in graphs.items()
        }
        return {"rows": rows, "total_us": {k: sum(r["us"] for r in v) for k, v in rows.items()}}

    monkeypatch.setattr(search, "race", race)


def data() -> list[np.ndarray]:
    return [normal(16, 64) for _ in range(24)]


def auto(tmp_path: Path, **options: Any) -> tuple[dict[str, Any], dk.Report]:
    options = {"calibration": data(), "repair": "none", "observer": "minmax", "test_vectors": 0, **options}
    report = dk.convert(net(), tmp_path / "q.dk", quantize="auto", verify=False, **options)
    assert report.quantization is not None
    return report.quantization["search"], report


def test_the_guilty_layer_stays_float(tmp_path: Path) -> None:
    s, report = auto(tmp_path, max_accuracy_drop="0.1%")
    rows = {r["name"]: r for r in s["layers"]}
    assert list(rows) == ["p0", "p1", "p2", "p3"]
    assert max(rows, key=lambda k: rows[k]["drop"]) == "p2" and rows["p2"]["kind"] == "float"  # it reads what drowns
    assert rows["p0"]["kind"] == "int8" and s["chosen"]["drop"] <= 0.001
    assert rows["p3"]["why"] == "slower in int8" and s["slower"] == ["p3"]
    ops = {n.name: n.op for n in report.graph.nodes}  # type: ignore[union-attr]
    assert (ops["p0"], ops["p2"], ops["p3"]) == ("qmatmul", "matmul", "matmul")
    assert not list(tmp_path.glob("*.search.json*"))


def test_the_drop_is_that_of_the_file(tmp_path: Path) -> None:
    x = data()
    s, report = auto(tmp_path, max_accuracy_drop=0.001, calibration=x)
    runs = [[dk.Interpreter(m).run({"x": a})["y"] for a in x[:16]] for m in (to_bytes(net()), tmp_path / "q.dk")]
    a, b = (np.concatenate(r) for r in runs)
    assert s["chosen"]["drop"] == pytest.approx(((a - b) ** 2).sum() / (a**2).sum(), rel=0.05)
    assert s["chosen"]["bytes"] == pytest.approx((tmp_path / "q.dk").stat().st_size, rel=0.02)


def test_size_and_time(tmp_path: Path) -> None:
    free = auto(tmp_path, max_size="1MB")[0]
    assert len(free["chosen"]["float"]) == 4  # all of it fits
    sizes = sorted(p["bytes"] for p in free["points"])
    some = auto(tmp_path, max_size=(sizes[0] + sizes[-1]) / 2)[0]
    assert sizes[0] <= some["chosen"]["bytes"] <= (sizes[0] + sizes[-1]) / 2
    fast = auto(tmp_path, max_latency=0.03)[0]
    assert fast["chosen"]["ms"] <= 0.03 and 1 < len(fast["chosen"]["float"]) < 4
    assert "p2" in fast["chosen"]["float"]


def test_what_cannot_be_kept_is_told_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="no choice.*Nothing was written"):
        auto(tmp_path, max_accuracy_drop="0.1%", max_latency="1us")
    assert not (tmp_path / "q.dk").exists()


def test_a_metric_counts(tmp_path: Path) -> None:
    x = data()
    want = [np.sign(dk.Interpreter(to_bytes(dk.convert(net(), verify=False).graph)).run({"x": a})["y"]) for a in x]  # type: ignore[arg-type]

    def signs(run: Any) -> float:
        return float(np.mean([np.mean(np.sign(run({"x": a})["y"]) == w) for a, w in zip(x, want, strict=True)]))

    report = dk.convert(net(), tmp_path / "q.dk", quantize="auto", calibration=x, max_accuracy_drop="1%", metric=signs,
                        verify=False, repair="none")  # fmt: skip
    s = report.quantization["search"]  # type: ignore[index]
    assert s["float_score"] == 1.0 and s["metric"].endswith("signs") and s["chosen"]["drop"] <= 0.01


def test_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    g, x = net(), data()
    calls = 0

    def metric(run: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise RuntimeError("out of patience")
        return 1.0 - float(np.square(run({"x": x[0]})["y"] - want).mean())

    want = dk.Interpreter(to_bytes(dk.convert(g, verify=False).graph)).run({"x": x[0]})["y"]  # type: ignore[arg-type]
    how = dict(quantize="auto", calibration=x, max_accuracy_drop=0.5, metric=metric, verify=False, repair="none")
    stop = 0
    whole = dk.convert(g, tmp_path / "a.dk", **how)  # type: ignore[arg-type]
    total, calls, stop = calls, 0, 4
    with pytest.raises(InputError, match="metric: .*metric raised RuntimeError: out of patience"):
        dk.convert(g, tmp_path / "b.dk", **how)  # type: ignore[arg-type]
    state = tmp_path / "b.dk.search.json"
    assert len(json.loads(state.read_text())["drops"]) == 2 and not (tmp_path / "b.dk").exists()
    calls, stop = 0, 0
    again = dk.convert(g, tmp_path / "b.dk", **how)  # type: ignore[arg-type]
    assert calls == total - 3  # the float score and two layers were known
    assert again.quantization["search"] == whole.quantization["search"]  # type: ignore[index]
    assert (tmp_path / "a.dk").read_bytes() == (tmp_path / "b.dk").read_bytes() and not state.exists()
    state.write_text('{"key": "other"')  # damaged or foreign: begun anew
    dk.convert(g, tmp_path / "b.dk", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int8", "max_size": 1}, "quantize='auto'"),
        ({"quantize": "auto", "calibration": None, "max_size": 1}, "calibration data"),
        ({"quantize": "auto", "max_size": "2 bananas"}, "expected a number with one of B KB MB GB"),
        ({"quantize": "auto", "max_latency": "5%"}, "US MS S"),
        ({"quantize": "auto", "metric": lambda run: 1.0}, "budget"),
        ({"quantize": "auto", "max_accuracy_drop": 0.1, "metric": lambda run: float("nan")}, "finite"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        dk.convert(net(), **{"calibration": data(), "repair": "none", **options})


def test_command_and_page(tmp_path: Path) -> None:
    from tests.cli.test_cli import deploykit

    np.savez(tmp_path / "x.npz", x=np.stack(data()))
    dk.convert(net(), tmp_path / "f.dk", verify=False)
    (tmp_path / "score.py").write_text("def least(run):\n    return 1.0\n")
    got = deploykit(
        "convert", tmp_path / "f.dk", "-o", tmp_path / "q.dk", "--quantize", "auto", "--calibration", tmp_path / "x.npz",
        "--max-latency", "1s", "--metric", f"{tmp_path / 'score.py'}:least", "--report", tmp_path / "r.html", "--json",
    )  # fmt: skip
    s = json.loads(got.stdout)["quantization"]["search"]
    assert s["metric"] == "least" and s["budget"]["ms"] == 1000
    assert "Which layers stay in float" in (tmp_path / "r.html").read_text()
