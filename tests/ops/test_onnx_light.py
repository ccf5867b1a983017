"""References of elementwise, activation, reduction, shape, index and selection ops against ONNX's node tests."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.ops import REGISTRY, F
from tests.support.onnx_nodes import Case, cases_of, check, to_first, to_last

FAMILIES = ("elementwise", "unary", "convert", "activation", "reduce", "shape", "index", "select")
OURS = {op.names["onnx"]: op for op in REGISTRY.values() if op.family in FAMILIES and "onnx" in op.names}
RENAMED = {"allow_zero": "allowzero", "select_last": "select_last_index"}

LEFT_OUT = {
    "test_equal_string": "strings never reach the engine",
    "test_equal_string_broadcast": "strings never reach the engine",
    "test_cast_e8m0_FLOAT16_to_FLOAT8E8M0": "round_mode: cast rounds to nearest even, ONNX's default here is up",
    "test_cast_e8m0_FLOAT_to_FLOAT8E8M0": "round_mode: cast rounds to nearest even, ONNX's default here is up",
}


def direct(op):
    """The passport called with the node's inputs and with those of its attrs that the node has."""

    def run(x, attrs, opset):
        kept = {k: attrs[RENAMED.get(k, k)] for k in op.attrs if attrs.get(RENAMED.get(k, k)) is not None}
        return op(*x, **kept)

    return run


def reduction(name):
    op = REGISTRY[name]

    def run(x, attrs, opset):
        axes = attrs.get("axes") if opset < 18 and len(x) < 2 else None
        axes = None if axes is None else np.array(axes, np.int64)
        noop = bool(attrs.get("noop_with_empty_axes") or 0)
        return op(x[0], axes if len(x) < 2 else x[1], keepdims=bool(attrs["keepdims"]), noop_if_empty=noop)

    return run


def fold(op):
    def run(x, attrs, opset):
        y = x[0]
        for other in x[1:]:
            y = op(y, other)
        return y

    return run


def softmax(op):
    return lambda x, attrs, opset: op(*x, axis=attrs["axis"])


def cast(x, attrs, opset):
    return F.cast(
        x[0], dtype=x[1].dtype if len(x) > 1 else onnx_dtype(attrs["to"]), saturate=bool(attrs.get("saturate", 1))
    )


def onnx_dtype(code):
    from onnx import helper

    return dtypes.dtype(helper.tensor_dtype_to_np_dtype(code)).name


def vector(v):
    return None if v is None else np.array(v, np.int64)


def split(x, attrs, opset):
    sizes = x[1] if len(x) > 1 else vector(attrs.get("split"))
    return F.split(x[0], sizes, axis=attrs["axis"], n_outputs=attrs["n_outputs"])


def pad(x, attrs, opset):
    x, pads, value, axes = (*x, None, None)[:4]
    return F.pad(x, pads, value, axes, mode=attrs["mode"])


ADAPTERS = {name: direct(op) for name, op in OURS.items()} | {
    "ReduceSum": reduction("reduce_sum"),
    "ReduceMean": reduction("reduce_mean"),
    "ReduceMax": reduction("reduce_max"),
    "ReduceMin": reduction("reduce_min"),
    "ReduceProd": reduction("reduce_prod"),
    "ReduceL1": reduction("reduce_l1"),
    "ReduceL2": reduction("reduce_l2"),
    "ReduceSumSquare": reduction("reduce_sum_square"),
    "ReduceLogSum": reduction("reduce_log_sum"),
    "ReduceLogSumExp": reduction("reduce_log_sum_exp"),
    "Max": fold(F.maximum),
    "Min": fold(F.minimum),
    "Sum": fold(F.add),
    "Softmax": softmax(F.softmax),
    "LogSoftmax": softmax(F.log_softmax),
    "Cast": cast,
    "CastLike": cast,
    "Mod": lambda x, a, o: F.mod(*x, fmod=bool(a["fmod"])),
    "Squeeze": lambda x, a, o: F.squeeze(x[0], x[1] if len(x) > 1 else vector(a.get("axes"))),
    "Unsqueeze": lambda x, a, o: F.unsqueeze(x[0], x[1] if len(x) > 1 else vector(a["axes"])),
    "Split": split,
    "Pad": pad,
    "ConstantOfShape": lambda x, a, o: F.fill(x[0], value_of(a)),
    "DepthToSpace": lambda x, a, o: to_first(
        F.depth_to_space(to_last(x[0]), block=a["blocksize"], mode=a["mode"].lower())
    ),
    "SpaceToDepth": lambda x, a, o: to_first(
        F.space_to_depth(to_last(x[0]), block=a["blocksize"], mode=(a.get("mode") or "DCR").lower())
    ),
    "EyeLike": lambda x, a, o: F.eye_like(x[0], k=a["k"], dtype=onnx_dtype(a["dtype"]) if a["dtype"] else ""),
    "Swish": lambda x, a, o: F.silu(x[0], alpha=a["alpha"]),
    "Gelu": lambda x, a, o: F.gelu(x[0], approximate=a["approximate"] == "tanh"),
    "BitShift": lambda x, a, o: (F.shift_left if a["direction"] == "LEFT" else F.shift_right)(*x),
    "Unique": lambda x, a, o: F.unique(
        x[0], sorted=bool(a["sorted"]), **({} if a["axis"] is None else {"axis": a["axis"]})
    ),
    "Compress": lambda x, a, o: F.compress(x[0], x[1], **({} if a["axis"] is None else {"axis": a["axis"]})),
    "NonMaxSuppression": lambda x, a, o: F.non_max_suppression(*x, center_box=bool(a["center_point_box"])),
}


def value_of(attrs):
    from onnx import numpy_helper

    v = attrs.get("value")
    return np.zeros((), np.float32) if v is None else numpy_helper.to_array(v).reshape(())


CASES = [c for c in cases_of(*ADAPTERS) if c.name not in LEFT_OUT]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_reference_gives_what_onnx_expects(case: Case) -> None:
    if case.op == "Split":
        case.attrs["n_outputs"] = len(case.outputs)
    check(case, ADAPTERS[case.op])
