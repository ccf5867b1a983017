"""The check at the end of convert: it lets rounding pass, and nothing else."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import deploykit as dk
from deploykit import onnx_source, verification
from deploykit.graph.dkfile import to_bytes
from tests.support import assets, small
from tests.support.peers import need_onnxruntime

need_onnxruntime()


def converted(src: Path, edit=None) -> bytes:
    graph = dk.convert(src, None, verify=False).graph
    for n in graph.nodes if edit else ():
        for v in n.inputs:
            if v is not None and v.data is not None and v.data.dtype == np.float32 and v.data.ndim > 1:
                v.data = edit(v.data)
    return to_bytes(graph)


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return small.cnn(tmp_path / "m.onnx")


def test_a_right_model_passes(cnn: Path) -> None:
    result = verification.check(cnn, converted(cnn), ".dk")
    assert result["status"] == "passed" and not any(r["weak"] for r in result["outputs"])


@pytest.mark.parametrize("size", [1e-2, 2e-3])
def test_slightly_wrong_weights_fail(cnn: Path, size: float) -> None:
    rng = np.random.default_rng(0)
    data = converted(cnn, lambda w: w * (1 + size * rng.standard_normal(w.shape).astype(np.float32)))
    result = verification.check(cnn, data, ".dk")
    assert result["status"] == "failed"
    assert "does not agree" in verification.failure(result)


def cancelling(path: Path) -> Path:
    """(x + 1e6) - 1e6 by a chain that no optimiser may merge: float32 keeps 4 of 24 bits of x."""
    big = numpy_helper.from_array(np.array([1e6], np.float32), "big")
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Sub", ["r", "big"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [64]) for n in "xy")
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", [x], [y], [big]), opset_imports=[helper.make_opsetid("", 17)]),
        path,
    )
    return path


def test_a_source_that_rounding_changes_is_known(tmp_path: Path) -> None:
    """The noise of a source that cancels is found, and its output called weak."""
    src = cancelling(tmp_path / "c.onnx")
    data = converted(src)
    feeds = {"x": np.random.default_rng(1).random(64, np.float32)}
    plain = onnx_source.in_double(src)
    assert plain is not None and plain(feeds)["y"].dtype == np.float64
    moved = onnx_source.perturbed(src, 0)
    assert moved is not None and len(onnx.load_from_string(moved).graph.node) == 5  # a factor behind Add and Sub
    assert verification.check(src, data, ".dk", inputs=[feeds])["status"] == "passed"


def test_double_precision_judges(tmp_path: Path) -> None:
    """Where source and result differ, the one that is nearer to the truth may be the result."""
    case = verification._Case(
        seed=0,
        feeds={},
        want={"y": np.array([1.0, 2.01], np.float32)},
        got={"y": np.array([1.0, 2.0], np.float32)},
        noise={"y": 0.0},
    )
    assert not case.rows()[0]["ok"]
    case.truth = {"y": np.array([1.0, 2.0])}
    row = case.rows()[0]
    assert row["ok"] and row["judge"] == "double precision"
    case.got = {"y": np.array([1.0, 1.9], np.float32)}
    assert not case.rows()[0]["ok"]


def test_given_inputs_are_used(cnn: Path) -> None:
    from deploykit import runners

    spec = runners.open_onnx(cnn, 1).inputs[0]
    shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
    with pytest.raises(Exception, match="nosuch|input"):
        dk.convert(cnn, None, inputs=[{"nosuch": np.zeros(shape, np.float32)}])
    report = dk.convert(cnn, None, inputs=[{spec.name: np.ones(shape, np.float32)}] * 3)
    assert len({r["seed"] for r in report.verification["outputs"]}) == 3


@pytest.mark.parametrize("model", assets.ONNX_MODELS, ids=lambda m: m.split("/")[-1])
def test_real_models_convert_as_users_convert_them(model: str) -> None:
    """With the check on, on made-up inputs; silero_vad.onnx takes none that can be made up (its rate is an input)."""
    status = dk.convert(assets.file(model), None).verification["status"]
    assert status == ("skipped" if model.endswith("silero_vad.onnx") else "passed")
