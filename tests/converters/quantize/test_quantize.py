"""``convert(quantize=...)``: schemes on small models, against the float model and onnxruntime; what is refused, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import deploykit as dk
from deploykit import calibration
from deploykit.api import file_reader
from deploykit.errors import InputError, VerifyError
from deploykit.graph.dkfile import to_bytes
from deploykit.interpreter import TensorSpec
from deploykit.ops import GraphBuilder
from deploykit.runners import OnnxRuntimeRunner
from tests.support import small
from tests.support.peers import need


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return small.cnn(tmp_path / "m.onnx")


def images(n: int = 32) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (n, 3, 16, 16)).astype(np.float32)


def ops(report: dk.Report) -> set[str]:
    assert report.graph is not None
    return {n.op for n in report.graph.nodes}


def error(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference as a fraction of the largest element."""
    return float(np.abs(a - b).max() / np.abs(a).max())


@pytest.mark.parametrize(("scheme", "most"), [("int8", 0.03), ("dynamic", 0.03), ("fp16", 0.002), ("int4", 0.03)])
def test_schemes_stay_near_the_float_model(source: Path, tmp_path: Path, scheme: str, most: float) -> None:
    x = images()
    report = dk.convert(source, tmp_path / "q.dk", quantize=scheme, calibration=x)
    dk.convert(source, tmp_path / "f.dk")
    got = dk.Interpreter(tmp_path / "q.dk").run({"x": x})["y"]
    want = dk.Interpreter(tmp_path / "f.dk").run({"x": x})["y"]
    assert 0 < error(want, got) < most
    assert report.quantization is not None and report.quantization["scheme"] == scheme
    assert report.quantization["outputs"][0]["sqnr_db"] > 30
    assert report.to_json()["quantization"] == report.quantization


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_dynamic_lstm(tmp_path: Path, layout: int, direction: str) -> None:
    """The products of an LSTM in integers, all three results near the float ones, in both layouts."""
    r, d = np.random.default_rng(5), 2 if direction == "bidirectional" else 1
    names = ["x", "w", "r", "b", "", "h0", "c0"]
    state = [3, d, 24] if layout else [d, 3, 24]
    inputs = {"x": [3, 7, 16] if layout else [7, 3, 16], "h0": state, "c0": state}
    weights = {"w": (d, 96, 16), "r": (d, 96, 24), "b": (d, 192)}
    node = helper.make_node("LSTM", names, ["y", "h", "c"], hidden_size=24, direction=direction, layout=layout)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, None) for k in "yhc"],
        [numpy_helper.from_array(r.normal(0, 0.15, v).astype(np.float32), k) for k, v in weights.items()],
    )
    source = tmp_path / "lstm.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), source)
    dk.convert(source, tmp_path / "f.dk")
    report = dk.convert(source, tmp_path / "q.dk", quantize="dynamic")
    assert "dynamic_lstm" in ops(report) and "lstm" not in ops(report)
    feeds = {k: r.normal(0, 1, v).astype(np.float32) for k, v in inputs.items()}
    want = dk.Interpreter(tmp_path / "f.dk").run(feeds)
    got = dk.Interpreter(tmp_path / "q.dk").run(feeds)
    for k, v in want.items():
        assert got[k].shape == v.shape and 0 < error(v, got[k]) < 0.03, k


def test_int8_runs_in_integers(source: Path) -> None:
    report = dk.convert(source, quantize="int8", calibration=images())
    assert {"qconv", "qmatmul", "qmean"} <= ops(report) and not ops(report) & {"conv", "matmul", "reduce_mean"}
    assert report.quantization is not None and report.quantization["samples"] == 32


def test_auto_takes_int8_with_data_and_dynamic_without(source: Path) -> None:
    for data, scheme in ((images(), "int8"), (None, "dynamic")):
        report = dk.convert(source, quantize="auto", calibration=data)
        assert report.quantization is not None and report.quantization["scheme"] == scheme


def test_auto_quantizes_recurrent_models_as_they_run() -> None:
    """Errors of a state that is rounded with one scale for all time add up."""
    r = np.random.default_rng(0)
    b = GraphBuilder()
    w, u = (r.standard_normal((1, 64, 16)).astype(np.float32) * 0.2 for _ in range(2))
    y = b.op("lstm", b.input("x", "float32", (6, 2, 16)), w, u)[0]
    g = b.output(y, "y")
    data = [r.standard_normal((6, 2, 16)).astype(np.float32) for _ in range(8)]
    report = dk.convert(g, quantize="auto", calibration=data, verify=False)
    assert report.quantization is not None and report.quantization["scheme"] == "dynamic"
    plain = dk.convert(g, verify=False).graph
    assert plain is not None and report.graph is not None
    want, got = (dk.Interpreter(to_bytes(m)).run({"x": data[0]})["y"] for m in (plain, report.graph))
    assert error(want, got) < 0.02


def test_kept_nodes_stay_float(source: Path) -> None:
    report = dk.convert(source, quantize="int8", calibration=images(), keep_float=["conv"])
    assert "conv" in ops(report) and "qmatmul" in ops(report)


def test_keeping_what_is_not_there_is_an_error(source) -> None:
    with pytest.raises(InputError, match="keep_float: there is no node, output or op 'convv'. Did you mean .*'conv'"):
        dk.convert(source, quantize="dynamic", keep_float=["convv"])


@pytest.mark.parametrize(
    ("observer", "least"), [("minmax", 30), ("percentile", 30), ("mse", 30), ("entropy", 25), ("moving_average", 15)]
)
def test_observers(source: Path, observer: str, least: float) -> None:
    """The average of single samples' limits is narrower than what all of them reach: moving_average clips."""
    report = dk.convert(source, quantize="int8", calibration=images(), observer=observer)
    assert report.quantization is not None and report.quantization["outputs"][0]["sqnr_db"] > least


def test_onnx_file_runs_in_onnxruntime(source: Path, tmp_path: Path) -> None:
    need("onnxruntime")
    x = images()
    dk.convert(source, tmp_path / "q.onnx", quantize="int8", calibration=x)
    dk.convert(source, tmp_path / "q.dk", quantize="int8", calibration=x)
    theirs = OnnxRuntimeRunner(tmp_path / "q.onnx", optimize=False).run({"x": x})[
        "y"
    ]  # as the file says, on any processor
    ours = dk.Interpreter(tmp_path / "q.dk").run({"x": x})["y"]
    assert error(theirs, ours) < 0.01


def test_data_may_come_in_many_forms(source: Path, tmp_path: Path) -> None:
    x = images(8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    forms = [x, {"x": x}, list(x), ({"x": a} for a in x), lambda: iter(x), tmp_path / "x.npy", tmp_path / "x.npz"]
    seen = []
    for data in forms:
        report = dk.convert(source, quantize="int8", calibration=data, observer="minmax")
        assert report.quantization is not None and report.quantization["samples"] == 8
        seen.append(report.quantization["outputs"][0]["max_error"])
    assert len(set(seen)) == 1


def test_data_sets_and_generators_are_read_as_they_come(source: Path) -> None:
    """A dk.data.Dataset, pairs with labels too; of an endless generator no more than is used."""
    x = images(16)
    plain = dk.data.Dataset.from_tensor_slices(x)
    pairs = dk.data.Dataset.from_tensor_slices((x, np.arange(16)))
    errors = []
    for data in (x, plain, pairs.batch(1)):
        q = dk.convert(source, quantize="int8", calibration=data, observer="minmax").quantization
        assert q is not None and q["samples"] == 16
        errors.append(q["outputs"][0]["max_error"])
    assert len(set(errors)) == 1
    drawn = 0

    def endless() -> Any:
        nonlocal drawn
        while True:
            drawn += 1
            yield x[drawn % 16]

    q = dk.convert(source, quantize="int8", calibration=endless, repair="none", verify=False).quantization
    assert q is not None and q["samples"] == 512 and drawn <= 513


def test_folders_of_sounds(tmp_path: Path) -> None:
    """Windows from all over each recording, mono, in -1..1."""
    import wave

    seen: list[np.ndarray] = []
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 256))
    g = b.output(b.op("matmul", x, np.random.default_rng(0).standard_normal((256, 8)).astype(np.float32)), "y")
    (tmp_path / "more").mkdir()
    for k, name in enumerate(("a.wav", "more/b.WAV")):
        with wave.open(str(tmp_path / name), "wb") as f:
            f.setnchannels(k + 1)
            f.setsampwidth(2)
            f.setframerate(16000)
            t = np.arange(256 * 4 + 100)
            tone = (2048 * (1 + t // 256) * np.sin(t / 3)).astype("<i2")
            f.writeframes(np.repeat(tone, k + 1).tobytes())
    q = dk.convert(
        g, quantize="int8", calibration=tmp_path, verify=False, progress=lambda n: seen.append(n)
    ).quantization  # type: ignore[arg-type]
    assert q is not None and q["samples"] == 8 == len(seen)
    found = list(calibration.read(tmp_path, [TensorSpec("x", (1, 256), "float32")], file_reader({})))
    assert {s["x"].shape for s in found} == {(1, 256)}
    tops = [float(np.abs(s["x"]).max()) for s in found]
    np.testing.assert_allclose(tops[:4], np.arange(1, 5) / 16, rtol=0.01)
    assert tops[:4] == tops[4:]
    (tmp_path / "c.wav").write_bytes(b"RIFF????WAVE")
    with pytest.raises(InputError, match=r"c\.wav: not a \.wav file that can be read"):
        dk.convert(g, quantize="int8", calibration=tmp_path, verify=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int8"}, "calibration data"),
        ({"quantize": "int9"}, "fp16, dynamic, int8, int16x8, int4"),
        ({"quantize": "int8", "calibration": {"z": images()}}, "inputs are x"),
        ({"quantize": "int8", "calibration": images()[:, :2]}, "expected 'x': float32[batch,3,16,16]"),
        ({"quantize": "int8", "calibration": images() * np.float32(np.nan)}, "NaN"),
        ({"quantize": "int8", "calibration": images(0)}, "empty"),
        ({"quantize": "int8", "calibration": []}, "empty"),
        ({"quantize": "int8", "calibration": "nowhere.npz"}, "no such file"),
        ({"quantize": "int8", "calibration": images(), "observer": "guess"}, "minmax"),
        ({"calibration": images()}, "quantize='int8'"),
        ({"quantize": "fp16", "io_layout": "nhwc"}, "io_layout first"),
        ({"min_agreement": 0.9}, "needs quantize"),
    ],
)
def test_refusals(source: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("[", r"\[").replace("]", r"\]")):
        dk.convert(source, tmp_path / "q.dk", **options)
    assert not (tmp_path / "q.dk").exists()


def test_a_quantized_model_is_not_quantized_again(source: Path, tmp_path: Path) -> None:
    dk.convert(source, tmp_path / "q.dk", quantize="int8", calibration=images())
    with pytest.raises(InputError, match="already"):
        dk.convert(tmp_path / "q.dk", tmp_path / "r.dk", quantize="int8", calibration=images())


def test_too_little_agreement_leaves_no_file(source: Path, tmp_path: Path) -> None:
    with pytest.raises(VerifyError):
        dk.convert(source, tmp_path / "q.dk", quantize="int8", calibration=images(), min_agreement=1.01)
    assert not (tmp_path / "q.dk").exists()


def test_a_bias_far_above_its_channel_still_fits() -> None:
    """A channel of tiny weights takes a wider scale, so that its bias does not saturate and the layer stays integer."""
    r = np.random.default_rng(0)
    b = GraphBuilder()
    w, bias = r.standard_normal((32, 16)).astype(np.float32), np.zeros(16, np.float32)
    w[:, 0] *= 1e-10
    bias[0] = 100
    g = b.output(b.op("matmul", b.input("x", "float32", (8, 32)), w, bias), "y")
    x = [r.standard_normal((8, 32)).astype(np.float32) for _ in range(16)]
    report = dk.convert(g, quantize="int8", calibration=x, verify=False)
    assert report.graph is not None and "qmatmul" in ops(report)
    got = dk.Interpreter(to_bytes(report.graph)).run({"x": x[0]})["y"]
    assert error(x[0] @ w + bias, got) < 0.01


def test_residuals_are_added_before_rounding(tmp_path: Path) -> None:
    """In a .dk file conv + x rounds once; files for other engines keep the rounding in between."""
    r = np.random.default_rng(0)
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 8, 8, 16))
    w = r.standard_normal((16, 1, 1, 16)).astype(np.float32)
    y = b.op("relu", b.op("add", b.op("conv", x, w), x))
    g = b.output(b.op("conv", y, w), "y")
    data = [r.standard_normal((1, 8, 8, 16)).astype(np.float32) for _ in range(16)]
    once = dk.convert(g, quantize="int8", calibration=data, verify=False)
    assert [n.op for n in once.graph.nodes] == ["quantize", "qconv", "qconv"]  # type: ignore[union-attr]
    core, last = (n for n in once.graph.nodes if n.op == "qconv")  # type: ignore[union-attr]
    assert last.attrs["dtype"] == "float32"  # nobody computes on with it: it is not rounded
    assert core.attrs["mid_scale"] == 1 / 64  # the product keeps six bits below a step
    counts = [dk.convert(g, p, quantize="int8", calibration=data, verify=False).quantization["counts"]["activations"]
              for p in (tmp_path / "m.dk", tmp_path / "m.onnx")]  # type: ignore[index]  # fmt: skip
    assert counts == [2, 4]


def test_repairs_are_chosen_by_measuring() -> None:
    """A network whose channels differ by far takes equalization by itself, and says what it tried."""
    from tests.converters.quantize.test_repair import depthwise_net, normal

    data = [normal(1, 12, 12, 8) for _ in range(32)]
    q = dk.convert(depthwise_net(), quantize="int8", calibration=data, verify=False).quantization
    assert q is not None and "equalize" in q["repairs"] and len(q["tried"]) == 3
    best = max(q["tried"], key=lambda t: t["mean_output_db"])["mean_output_db"]
    chosen = next(t for t in q["tried"] if t["repairs"] == q["repairs"])["mean_output_db"]
    assert best - chosen < 0.3 and chosen > q["tried"][0]["mean_output_db"] + 3
    off = dk.convert(depthwise_net(), quantize="int8", calibration=data, verify=False, repair="none").quantization
    assert off is not None and off["repairs"] == [] and "tried" not in off


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("suffix", [".dk", ".onnx", ".tflite"])
def test_integers_at_the_ends(source: Path, tmp_path: Path, dtype: str, suffix: str) -> None:
    x = images()
    path = tmp_path / f"q{suffix}"
    report = dk.convert(source, path, quantize="int8", calibration=x, io_dtype=dtype)
    assert report.graph is not None and report.quantization is not None
    ends = [*report.graph.inputs, *report.graph.outputs]
    assert [v.dtype.name for v in ends if v.dtype] == [dtype] * len(ends)
    assert report.graph.inputs[0].name == "x" and report.graph.public_outputs == ["y"]
    assert report.quantization["outputs"][0]["sqnr_db"] > 30  # the result, run by its own runtime, against the source
    if suffix == ".dk":
        assert not {"quantize", "dequantize"} & ops(report)
        dk.convert(source, tmp_path / "f.dk", quantize="int8", calibration=x)
        want = dk.Interpreter(tmp_path / "f.dk").run({"x": x})["y"]
        i = dk.Interpreter(path)
        ins, outs = i.inputs[0].quantization, i.outputs[0].quantization
        assert ins is not None and outs is not None
        got = i.run({"x": ins.quantize(x, dtype)})["y"]
        assert got.dtype == dtype
        assert (
            np.abs(outs.dequantize(got) - want).max() < outs.scale
        )  # the same integers inside, rounded and clipped at the end


def test_integers_at_the_ends_need_integers_inside(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="input 'x'.*stays float32"):
        dk.convert(source, quantize="int8", calibration=images(), io_dtype="uint8", keep_float=["conv", "transpose"])
    with pytest.raises(InputError, match="io_dtype: got 'int4'"):
        dk.convert(source, quantize="int8", calibration=images(), io_dtype="int4")
    with pytest.raises(InputError, match="only quantize='int8'"):
        dk.convert(source, quantize="dynamic", io_dtype="int8")
    with pytest.raises(InputError, match="io_dtype without quantize"):
        dk.convert(source, io_dtype="int8")


def test_weights_in_16_bits_become_integers(source: Path, tmp_path: Path) -> None:
    """They stand under casts, which kept their layers in float."""
    dk.convert(source, tmp_path / "half.dk", quantize="fp16")
    report = dk.convert(tmp_path / "half.dk", quantize="int8", calibration=images())
    assert "qconv" in ops(report) and not ops(report) & {"conv", "matmul", "cast"}


def test_what_only_floats_read_is_not_rounded(tmp_path: Path) -> None:
    """Softmax at the end and the sums between layer norms: products in integers, results in float; not so in other files."""
    r = np.random.default_rng(0)
    b = GraphBuilder()

    def dense(v: Any) -> Any:
        return b.op("matmul", v, (r.standard_normal((32, 32)) / 6).astype(np.float32))

    def norm(v: Any) -> Any:
        return b.op("layer_norm", v, np.ones(32, np.float32), np.zeros(32, np.float32))

    x = b.input("x", "float32", (4, 32))
    h = b.op("add", dense(norm(x)), x)
    h = b.op("add", dense(b.op("relu", dense(norm(h)))), h)
    g = b.output(b.op("softmax", dense(norm(h))), "y")
    data = [r.standard_normal((4, 32)).astype(np.float32) for _ in range(32)]
    loose = dk.convert(g, tmp_path / "m.dk", quantize="int8", calibration=data, repair="none")
    assert loose.graph is not None and loose.quantization is not None
    kinds = [n.op for n in loose.graph.nodes]
    assert kinds.count("qmatmul") == 4 and {"add", "softmax"} <= set(kinds) and not {"qadd", "qsoftmax"} & set(kinds)
    assert loose.quantization["counts"]["activations"] == 4  # what each product reads
    strict = dk.convert(g, quantize="int8", calibration=data, repair="none", io_dtype="int8")
    assert strict.graph is not None and not {"add", "softmax"} & {n.op for n in strict.graph.nodes}
