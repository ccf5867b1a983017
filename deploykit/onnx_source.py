"""Variants of an ONNX model that tell how much rounding matters in it: moved weights, double precision."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 1 << 30  # bytes; the variants are whole copies in memory
# Float operands of these ops may be moved by a rounding error; others (sizes, limits, thresholds) may not.
SMOOTH = frozenset(
    "Conv ConvTranspose Gemm MatMul LSTM GRU RNN BatchNormalization InstanceNormalization LayerNormalization "
    "GroupNormalization RMSNormalization DequantizeLinear PRelu Mul Add Sub Div Einsum Gather DynamicQuantizeLSTM "
    "SkipLayerNormalization FusedMatMul FusedConv MatMulIntegerToFloat QAttention Attention".split()
)
# Ops whose float results carry rounding errors of their own.
ROUNDING = SMOOTH | frozenset(
    "ReduceSum ReduceMean ReduceSumSquare ReduceL2 ReduceLogSumExp GlobalAveragePool AveragePool Softmax LogSoftmax Exp "
    "Log Sqrt Pow Tanh Sigmoid HardSigmoid Erf Gelu Softplus Reciprocal Resize".split()
)


def move(x: np.ndarray, seed: int) -> np.ndarray:
    """x with every float32 or float64 number multiplied by 1 +- one unit in the last place of float32."""
    if x.dtype not in (np.float32, np.float64):
        return x
    sign = np.random.default_rng([seed, x.size]).integers(0, 2, x.shape, np.int8) * 2 - 1
    return (x * (1 + sign.astype(x.dtype) * x.dtype.type(2.0**-23))).astype(x.dtype)


def perturbed(src: Any, seed: int) -> bytes | None:
    """The model with its weights moved (:func:`move`) and every float result of the main graph multiplied by 1 +- two
    units in the last place; None for sources that are not ONNX or too large to copy."""
    from onnx import TensorProto, numpy_helper

    model = _load(src)
    if model is None:
        return None
    for graph in _graphs(model.graph):
        smooth = {i for n in graph.node if n.op_type in SMOOTH for i in n.input}
        tensors = [t for t in graph.initializer if t.name in smooth]
        for n in graph.node:
            if n.op_type == "Constant" and n.output[0] in smooth:
                tensors += [a.t for a in n.attribute if a.name == "value"]
        for k, t in enumerate(tensors):
            if t.data_type == TensorProto.FLOAT:
                t.CopyFrom(numpy_helper.from_array(move(numpy_helper.to_array(t), seed + 1000 * k), t.name))
    _shake(model, seed)
    return model.SerializeToString()


def _shake(model: Any, seed: int) -> None:
    """Multiply the float results of the main graph."""
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    floats = {
        v.name for v in [*inferred.value_info, *inferred.output] if v.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    signs = np.random.default_rng(seed)
    nodes = []
    for n in model.graph.node:
        shaken = [o for o in n.output if o in floats] if n.op_type in ROUNDING else []
        nodes.append(n)
        for o in shaken:
            factor = np.array(1 + (signs.integers(0, 2) * 2 - 1) * 2.0**-22, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(factor, f"{o}/factor"))
            nodes.append(helper.make_node("Mul", [f"{o}/exact", f"{o}/factor"], [o]))
            n.output[list(n.output).index(o)] = f"{o}/exact"
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def in_double(src: Any) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None:
    """The model by onnx's reference evaluator with every float32 as float64; None where there is no such thing.

    Sizes and scales of Resize stay float32, as its definition wants them.
    """
    from onnx import TensorProto, numpy_helper
    from onnx.reference import ReferenceEvaluator

    model = _load(src)
    if model is None:
        return None
    for graph in _graphs(model.graph):
        keep = {i for n in graph.node if n.op_type == "Resize" for i in n.input[1:]}
        tensors = [t for t in graph.initializer if t.name not in keep]
        for n in graph.node:
            for a in n.attribute:
                if n.op_type == "Cast" and a.name == "to" and a.i == TensorProto.FLOAT:
                    a.i = TensorProto.DOUBLE
                if n.op_type in ("Constant", "ConstantOfShape") and a.name == "value" and n.output[0] not in keep:
                    tensors.append(a.t)
        for t in tensors:
            if t.data_type == TensorProto.FLOAT:
                t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float64), t.name))
        for v in [*graph.input, *graph.output, *graph.value_info]:
            if v.type.tensor_type.elem_type == TensorProto.FLOAT:
                v.type.tensor_type.elem_type = TensorProto.DOUBLE
    try:
        evaluator = ReferenceEvaluator(model)
    except Exception:  # an op that it does not know
        return None
    names = [o.name for o in model.graph.output]

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
        return dict(zip(names, (np.asarray(y) for y in evaluator.run(None, wide)), strict=True))

    return run


def _load(src: Any) -> Any:
    import onnx

    if isinstance(src, (str, os.PathLike)):
        path = Path(src)
        if path.suffix != ".onnx" or path.stat().st_size > LIMIT:
            return None
        return onnx.load(str(path))
    if isinstance(src, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(src)
        return copy
    return None


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and the bodies inside it."""
    yield graph
    for n in graph.node:
        for a in n.attribute:
            for g in [a.g] if a.HasField("g") else a.graphs:
                yield from _graphs(g)


def widened(data: bytes) -> bytes:
    """An ONNX file with its float16 weights as float32."""
    import onnx

    model = onnx.load_from_string(data)
    for t in model.graph.initializer:
        if t.data_type == onnx.TensorProto.FLOAT16:
            t.raw_data = np.frombuffer(t.raw_data, "<f2").astype("<f4").tobytes()
            t.data_type = onnx.TensorProto.FLOAT
    return model.SerializeToString()
