"""Fixed batch, chosen outputs, layout of images, and the promise about names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.importers.onnx import import_onnx
from deploykit.converters.ir import interface
from deploykit.errors import InputError, UnsupportedError, VerifyError
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import contract, get
from tests.support import assets, small
from tests.support.peers import need, need_onnxruntime

need_onnxruntime()


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return small.cnn(tmp_path / "m.onnx")


def run(report: dk.Report, *xs: np.ndarray) -> list[np.ndarray]:
    return list(dk.Interpreter(to_bytes(report.graph)).run(*xs).values())


def test_fix_batch(tmp_path: Path) -> None:
    path = assets.file("models/dnsmos/model_v8.onnx")
    report = dk.convert(path, fix_batch=3)
    assert report.verification["status"] == "passed"
    assert report.graph.inputs[0].shape == (3, 900, 120) and report.graph.outputs[0].shape == (3, 1)
    fixed = assets.file("models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx")
    with pytest.raises(InputError, match="batch of 1 for ever; got 4"):
        dk.convert(fixed, fix_batch=4)


def test_outputs_by_name_and_order() -> None:
    path = assets.file("models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx")
    report = dk.convert(path, outputs=["Identity_3:0", "Identity:0"])
    assert report.verification["status"] == "passed"
    assert report.graph.public_outputs == ["Identity_3:0", "Identity:0"]
    with pytest.raises(InputError, match="no tensor 'Identity_9'.*Did you mean"):
        dk.convert(path, outputs=["Identity_9"])


def test_inner_tensors_can_be_outputs(cnn: Path) -> None:
    graph = import_onnx(cnn)
    inner = next(n.output.name for n in graph.nodes if n.output.name not in graph.public_outputs)
    report = dk.convert(cnn, outputs=[inner, *graph.public_outputs])
    assert report.graph.public_outputs[0] == inner and report.verification["status"] == "passed"


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_layout_of_onnx(layout: str) -> None:
    path = assets.file("models/ppocr-v4/ch_PP-OCRv4_det_infer.onnx")
    plain, report = dk.convert(path, verify=False), dk.convert(path, io_layout=layout)
    assert report.verification["status"] == "passed"
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    (want,) = run(plain, x)
    (got,) = run(report, np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if layout == "nhwc" else x)
    assert np.array_equal(got.transpose(0, 3, 1, 2) if layout == "nhwc" else got, want)
    if layout == "nhwc":
        assert report.transposes_left < max(plain.transposes_left, 1)


def test_layout_of_tflite() -> None:
    need("ai_edge_litert")
    path = assets.file("models/mediapipe-a/hand_landmark_lite.tflite")
    report = dk.convert(path, io_layout="nchw")
    assert report.verification["status"] == "passed"
    assert report.graph.inputs[0].shape == (1, 3, 224, 224)


def test_the_oldest_engine(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dk.convert(cnn, tmp_path / "m.dk", min_runtime="0.1").runtime == "0.1.0"
    for bad in ("", "1.x", "0.1.0.0", "-1"):
        with pytest.raises(InputError, match="expected a version of the engine"):
            dk.convert(cnn, min_runtime=bad)
    with pytest.raises(UnsupportedError, match="no engine before 0.1.0"):
        dk.convert(cnn, min_runtime="0.0.9")
    with pytest.raises(InputError, match="does not run '.onnx' files"):
        dk.convert(cnn, tmp_path / "m.onnx", min_runtime="0.1.0")
    # as if convolutions had come with a later engine
    monkeypatch.setitem(contract.RUNTIMES, 2, "0.2.0")
    monkeypatch.setattr(get("conv"), "since", 2)
    assert dk.convert(cnn, min_runtime="0.2.0").runtime == dk.convert(cnn).runtime == "0.2.0"
    target = tmp_path / "refused.dk"
    with pytest.raises(UnsupportedError, match=r"engine 0.1.9 cannot run .* conv \(engine 0.2.0, node '.+Allow 0.2.0"):
        dk.convert(cnn, target, min_runtime="0.1.9")
    assert not target.exists()


def test_names_are_a_promise(cnn: Path) -> None:
    graph = import_onnx(cnn)
    promised = interface.names(graph)
    interface.hold(promised, graph, "nothing")
    graph.output_names = ["other", *graph.public_outputs[1:]]
    with pytest.raises(VerifyError, match="changed the names or the order of the outputs"):
        interface.hold(promised, graph, "a pass")


@pytest.mark.parametrize("kind", [".dk", ".onnx", ".tflite"])
def test_names_and_order_survive_every_format(kind: str, tmp_path: Path) -> None:
    need("ai_edge_litert")
    from deploykit.runners import OnnxRuntimeRunner, open_runner

    path = assets.file("models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx")
    target = tmp_path / f"m{kind}"
    dk.convert(path, target)
    want, got = OnnxRuntimeRunner(path, 1), open_runner(target, 1)
    for side in ("inputs", "outputs"):
        assert [s.name for s in getattr(got, side)] == [s.name for s in getattr(want, side)]


def test_a_sequence_leaves_as_its_tensors(tmp_path: Path) -> None:
    """Its length is known: numbered outputs in its place among the others, and what onnxruntime says of them."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("SplitToSequence", ["x", "sizes"], ["parts"], axis=1),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [3], [2, 1, 3])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    outs = [helper.make_value_info("parts", helper.make_sequence_type_proto(kind)),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])]  # fmt: skip
    ins = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ins, outs, [sizes]), opset_imports=[helper.make_opsetid("", 17)]
    )
    proto.ir_version = 8
    onnx.save(proto, tmp_path / "m.onnx")
    report = dk.convert(tmp_path / "m.onnx", tmp_path / "m.dk")
    session = dk.Interpreter(tmp_path / "m.dk")
    names = ["parts_0", "parts_1", "parts_2", "y"]
    assert [s.name for s in session.outputs] == names and session.metadata["sequences"] == {"parts": 3}
    assert report.verification["status"] == "passed"
    assert {r["name"] for r in report.verification["outputs"]} == set(names)
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    got = session.run(x)
    assert np.array_equal(got["parts_1"], x[:, 2:3]) and np.array_equal(got["parts_2"], x[:, 3:])
