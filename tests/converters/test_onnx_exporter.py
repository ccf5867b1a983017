"""Graph -> ONNX: checked by onnx.checker, run by a runtime that we did not write, held against ours."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest

from deploykit.converters.exporters.onnx import export_onnx
from deploykit.converters.importers.onnx import import_onnx
from deploykit.converters.pipeline import optimize
from deploykit.errors import UnsupportedError
from deploykit.graph import Dim, Variable
from deploykit.ops import GraphBuilder
from deploykit.ops.core import REGISTRY, Op
from deploykit.ops.dispatch import run_reference
from deploykit.ops.infer import declare_variables
from deploykit.ops.samples import Sample, graph_of, samples_of
from deploykit.runners import OnnxRuntimeRunner
from deploykit.runners import difference as distance
from tests.support import assets, cases
from tests.support.machine import SATURATES
from tests.support.peers import need_onnxruntime
from tests.support.sample_matrix import difference

need_onnxruntime()


@pytest.mark.parametrize("optimized", [False, True], ids=["plain", "optimized"])
@pytest.mark.parametrize("model", assets.ONNX_MODELS, ids=lambda m: m.split("/")[-1])
def test_real_models_survive(model: str, optimized: bool) -> None:
    path = assets.file(model)
    graph = import_onnx(path)
    if optimized:
        graph, _ = optimize(graph)
    proto = export_onnx(graph)
    onnx.checker.check_model(proto)
    runner = OnnxRuntimeRunner(proto.SerializeToString(), 1, optimize=False)  # as the reference is run
    case = cases.cases(model)[0]
    case.steps = case.steps[:4]
    want, noise = cases.reference(path, case)
    got = cases.run(runner.run, case)
    for k in want[0]:
        scale = max(distance(w[k], w[k])[1] for w in want)
        for w, g in zip(want, got, strict=True):
            assert distance(w[k], g[k])[0] <= max(1e-4, 4 * noise[k]) * scale, k


# Ops with samples on which the other runtime differs from the op's definition, or cannot run them, and why.
ALONG_DOUBLE = "ONNX stores float attrs in 32 bits: float64 results carry that error"
LISTED = {
    "erf": "onnx's evaluator computes float64 through float32",
    "gelu": "onnx's evaluator computes float64 through float32",
    "leaky_relu": ALONG_DOUBLE,
    "hard_sigmoid": ALONG_DOUBLE,
    "hard_swish": ALONG_DOUBLE,
    "shrink": ALONG_DOUBLE,
    "celu": ALONG_DOUBLE,
    "group_norm": ALONG_DOUBLE + "; an empty batch cannot be reshaped",
    "conv_transpose": "pad_mode same_lower with a stride beyond the kernel: onnxruntime gives another size",
    "conv_integer": "onnxruntime saturates u8 x s8 sums of pairs without VNNI, and takes no zero point per channel",
    "matmul_integer": "as conv_integer; no zero point per row",
    "cast": "out of range floats to integers: undefined in ONNX, clamped here",
    "pow": "integer powers that overflow",
    "range": "float32: onnxruntime adds step by step",
    "reduce_prod": "int8 products that overflow",
    "reduce_mean": "nothing to reduce: NaN here, 0 there",
    "reduce_max": "NaN wins here",
    "reduce_min": "NaN wins here",
    "max_pool": "NaN wins here; no 32-bit integers there; bfloat16 padding in onnx's evaluator",
    "resize": "align_corners with fractional scales, integer rounding, interpolating crop_and_resize; float64 attrs",
    "quantize": "float8 results come back as uint8",
    "lstm": "lengths of 0 and unusual activations",
    "gru": "unusual activations",
    "rnn": "lengths of 0",
    "unique": "NaN; not for all dtypes",
    "dft": "onesided inverse",
    "pad": "wrap beyond one period; rank 0",
    "one_hot": "rank 0 indices",
    "lrn": "onnxruntime takes rank 4 only",
    "space_to_depth": "zero sizes",
}

# Not counted where onnxruntime's sums saturate.
SATURATE = {"conv_integer", "matmul_integer", "qmatmul", "dynamic_matmul", "dynamic_lstm"} if SATURATES else set()

UNSUPPORTED = {
    "im2col": "training only; ONNX has no such op",
    "conv_weight_gradient": "training only; ONNX has no such op",
    "keyed_uniform": "ONNX draws from a seed in an attribute, not in an input",
    "cumprod": "CumProd exists from opset 26",
    "bitcast": "BitCast exists from opset 26",
    "batch_norm": "a channel axis that is neither 1 nor the last",
}


def outcome(op: Op, sample: Sample) -> str:
    """'' when the exported sample gives the reference's result, 'unsupported', or what is wrong."""
    few = [i for i, x in enumerate(sample.inputs) if x is not None and i and x.dtype.kind in "iu" and x.size < 16]
    graph = graph_of(op, sample, constants=few)
    try:
        proto = export_onnx(graph)
    except UnsupportedError:
        return "unsupported"
    onnx.checker.check_model(proto)
    feeds: dict[str, Any] = {v.name: sample.inputs[int(v.name[1:])] for v in graph.inputs}
    attrs = op.complete(sample.attrs)
    if op.variable_outputs:
        attrs["n_outputs"] = sample.n_outputs
    want = run_reference(op, list(sample.inputs), attrs)
    try:
        got = list(OnnxRuntimeRunner(proto.SerializeToString(), 1, optimize=False).run(feeds).values())
    except Exception:  # no kernel for the dtype, mostly: onnx's own evaluator is the second judge
        try:
            with np.errstate(all="ignore"):
                got = onnx.reference.ReferenceEvaluator(proto).run(None, feeds)
        except Exception as e:
            return f"cannot run: {type(e).__name__}"
    kind = "loose" if op.tolerance == "float" else op.tolerance
    wrong = [difference(np.asarray(g), w, kind) for g, w in zip(got, want, strict=False)]
    return "; ".join(w for w in wrong if w)


def test_every_sample_is_what_another_runtime_says() -> None:
    counts: Counter[str] = Counter()
    bad: dict[str, str] = {}
    for op in REGISTRY.values():
        if "random" in op.flags or op.name in ("if", "loop", "read_variable", "assign_variable"):
            continue
        for sample in samples_of(op):
            what = outcome(op, sample)
            if what and what != "unsupported" and op.name in SATURATE:
                continue
            counts["unsupported" if what == "unsupported" else "wrong" if what else "right"] += 1
            if what and op.name not in (UNSUPPORTED if what == "unsupported" else LISTED):
                bad.setdefault(op.name, f"{sample}: {what}")
    assert not bad, bad
    # as counted when this was written, with onnxruntime 1.32: neither may get worse
    assert counts["right"] >= 3742 and counts["wrong"] <= 83, counts


def test_variables_become_inputs_and_outputs() -> None:
    b = GraphBuilder()
    b.graph.variables.append(Variable("total", np.zeros(3, np.float32)))
    x = b.input("x", "float32", (3,))
    with declare_variables(b.graph.variables):
        b.output(
            b.op("assign_variable", b.op("add", x, b.op("read_variable", variable="total")), variable="total"), "y"
        )
    proto = export_onnx(b.graph)
    onnx.checker.check_model(proto)
    assert [v.name for v in proto.graph.input] == ["x", "total"]
    assert [v.name for v in proto.graph.output] == ["y", "total.next"]


def test_what_onnx_cannot_say_is_listed_at_once() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 4, 4, 2))
    b.output(b.op("im2col", x, kernel=(2, 2), node="first"), "a")
    b.output(b.op("bitcast", x, dtype="int32", node="second"), "b")
    with pytest.raises(UnsupportedError) as e:
        export_onnx(b.graph)
    assert "first" in e.value.message


def test_an_output_of_unknown_rank_is_refused_by_name() -> None:
    b = GraphBuilder()
    b.output(b.op("squeeze", b.input("x", "float32", (Dim.symbol("n"), 2))), "y")
    assert b.graph.outputs[0].shape is None
    with pytest.raises(UnsupportedError, match="'y'"):
        export_onnx(b.graph)


def test_the_same_bytes_twice() -> None:
    model = assets.ONNX_MODELS[0]
    a, b = (
        export_onnx(optimize(import_onnx(assets.file(model)))[0]).SerializeToString(deterministic=True) for _ in "ab"
    )
    assert a == b
