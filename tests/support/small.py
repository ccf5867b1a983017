"""Small ONNX models for tests of the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def cnn(path: Path, batch: int | str = "batch", seed: int = 0) -> Path:
    """x [batch, 3, 16, 16] -> conv, batch norm, relu, global pool, linear -> y [batch, 5]."""
    r = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(r.uniform(0.1, 1, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="bn"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["y"], name="fc", transB=1),
    ]
    weights = [weight("w", 8, 3, 3, 3), *(weight(n, 8) for n in "sbmv"), weight("fw", 5, 8), weight("fb", 5)]
    return save(path, nodes, [("x", [batch, 3, 16, 16])], [("y", [batch, 5])], weights)


def unsupported(path: Path) -> Path:
    """Two ops of an unknown domain and a fine one."""
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="vendor"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Frobnicate", ["b"], ["c"], name="second", domain="vendor"),
        helper.make_node("Grumble", ["c"], ["y"], name="third", domain="vendor"),
    ]
    return save(path, nodes, [("x", [1, 4])], [("y", [1, 4])], [])


def save(path: Path, nodes: list, inputs: list, outputs: list, weights: list) -> Path:
    """Write a float32 model."""

    def info(items: list) -> list:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in items]

    graph = helper.make_graph(nodes, "small", info(inputs), info(outputs), weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("vendor", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path
