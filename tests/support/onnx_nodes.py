"""ONNX's own node tests as an oracle for the references: one node, its inputs and the outputs the suite expects."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass
class Case:
    """``inputs`` follow the node (None where left out); ``attrs`` are complete with the schema's defaults."""

    name: str
    op: str
    opset: int
    inputs: list[np.ndarray | None]
    attrs: dict[str, Any]
    outputs: list[np.ndarray | None]
    rtol: float
    atol: float


def _attrs(node: onnx.NodeProto, opset: int) -> dict[str, Any]:
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    out: dict[str, Any] = {}
    for name, a in schema.attributes.items():
        has_default = a.default_value.type != onnx.AttributeProto.UNDEFINED
        out[name] = helper.get_attribute_value(a.default_value) if has_default else None
    out |= {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in out.items()}


def _array(x: Any) -> np.ndarray:
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)


@functools.cache
def all_cases() -> dict[str, list[Case]]:
    """Cases with exactly one node and plain tensors, by ONNX op type."""
    from onnx.backend.test.case.node import collect_testcases

    out: dict[str, list[Case]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    for t in tests:
        graph = t.model.graph
        kinds = {v.type.WhichOneof("value") for v in [*graph.input, *graph.output]}
        if len(graph.node) != 1 or kinds != {"tensor_type"}:
            continue
        node = graph.node[0]
        opset = next((o.version for o in t.model.opset_import if o.domain == node.domain), 1)
        given, expected = t.data_sets[0]
        by_name = {v.name: _array(x) for v, x in zip(graph.input, given, strict=False)}
        wanted = {v.name: _array(x) for v, x in zip(graph.output, expected, strict=False)}
        case = Case(
            t.name,
            node.op_type,
            opset,
            [by_name.get(n) if n else None for n in node.input],
            _attrs(node, opset),
            [wanted.get(n) if n else None for n in node.output],
            t.rtol,
            t.atol,
        )
        out.setdefault(node.op_type, []).append(case)
    return out


def cases_of(*ops: str) -> list[Case]:
    """All cases of these ops, in a stable order."""
    return [c for op in ops for c in sorted(all_cases().get(op, []), key=lambda c: c.name)]


def settled(op: str, x: np.ndarray, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """``want`` with ``got`` where ONNX settles nothing: floats that the integer type of a cast cannot hold.

    The Cast operator calls them undefined; the suite writes what ml_dtypes makes of them, which changed with its 0.7.
    """
    if op not in ("Cast", "CastLike") or x.dtype.kind in "biu" or got.shape != want.shape or got.dtype != want.dtype:
        return want
    try:
        limits = ml_dtypes.iinfo(want.dtype)
    except ValueError:  # not an integer
        return want
    whole = np.trunc(x.astype(np.float64))
    held = (whole >= int(limits.min)) & (whole <= int(limits.max))
    return np.where(held, want, got)


def check(case: Case, adapter: Callable[..., Any]) -> None:
    """Run ``adapter(inputs, attrs, opset)`` and compare all outputs that the case expects."""
    got = adapter(list(case.inputs), dict(case.attrs), case.opset)
    got = list(got) if isinstance(got, (tuple, list)) else [got]
    for i, want in enumerate(case.outputs):
        if want is None:
            continue
        y = np.asarray(got[i])
        assert y.shape == want.shape, f"output {i}: shape {y.shape}, expected {want.shape}"
        assert y.dtype == want.dtype, f"output {i}: dtype {y.dtype}, expected {want.dtype}"
        want = settled(case.op, case.inputs[0], y, want) if case.inputs[0] is not None else want
        # ONNX rounds to bfloat16 after every step inside an op, the engine once at its end
        rtol = max(case.rtol, 2e-2 if want.dtype == ml_dtypes.bfloat16 else 1e-5)
        np.testing.assert_allclose(y.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=max(case.atol, 1e-6))


def to_last(x: np.ndarray) -> np.ndarray:
    """[N, C, spatial...] to [N, spatial..., C]."""
    return np.moveaxis(x, 1, -1)


def to_first(x: np.ndarray) -> np.ndarray:
    """[N, spatial..., C] to [N, C, spatial...]."""
    return np.moveaxis(x, -1, 1)
