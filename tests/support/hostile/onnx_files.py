"""Hostile ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support.hostile.cases import CASES, HUGE, Case, beside_a_secret, case


def _onnx(folder: Path, nodes: list[Any], weights: Any = (), functions: Any = (), output: str = "y", **kw: Any) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    g = helper.make_graph(nodes, "g", [x], [y], initializer=list(weights), **kw)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    m = helper.make_model(g, opset_imports=opsets, functions=list(functions), ir_version=9)
    path = folder / "m.onnx"
    path.write_bytes(m.SerializeToString())
    return path


def _ints(name: str, *v: int) -> Any:
    return numpy_helper.from_array(np.int64(v), name)


def _grows(op: str, *weights: Any, **attrs: Any) -> Case:
    """A small constant from which an op makes a huge one, with an output that needs it."""

    def make(folder: Path) -> Path:
        inputs = [w.name for w in weights]
        nodes = [
            helper.make_node(op, inputs, ["big"], **attrs),
            helper.make_node("Cast", ["big"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["f"], ["s"], keepdims=0),
            helper.make_node("Add", ["x", "s"], ["y"]),
        ]
        return _onnx(folder, nodes, weights)

    return make


_one = numpy_helper.from_array(np.ones(1, np.float32), "one")
_scalars = {n: numpy_helper.from_array(np.int64(v), n) for n, v in (("start", 0), ("end", HUGE), ("step", 1))}
CASES |= {
    "onnx_constant_of_shape": _grows("ConstantOfShape", _ints("n", HUGE)),
    "onnx_expand": _grows("Expand", _one, _ints("n", HUGE)),
    "onnx_tile": _grows("Tile", _one, _ints("n", HUGE)),
    "onnx_range": _grows("Range", *_scalars.values()),
    "onnx_pad": _grows("Pad", _one, _ints("n", HUGE, HUGE)),
    "onnx_one_hot": _grows("OneHot", _ints("i", 0, 1), _ints("depth", HUGE), _ints("v", 0, 1)),
    "onnx_random": _grows("RandomUniform", shape=[HUGE]),
    "onnx_overflow": _grows("ConstantOfShape", _ints("n", 1 << 62, 1 << 62)),
    "onnx_window": _grows("HannWindow", numpy_helper.from_array(np.int64(HUGE), "n")),
}


@case
def onnx_resize(folder: Path) -> Path:
    x = numpy_helper.from_array(np.ones((1, 1, 4, 4), np.float32), "c")
    s = numpy_helper.from_array(np.float32([1, 1, 1e8, 1e8]), "scales")
    nodes = [helper.make_node("Resize", ["c", "", "scales"], ["r"]), helper.make_node("ReduceSum", ["r"], ["s"])]
    return _onnx(folder, [*nodes, helper.make_node("Add", ["x", "s"], ["y"])], [x, s])


@case
def onnx_doubling(folder: Path) -> Path:
    """A constant that is joined to itself 40 times."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(40)]
    nodes += [helper.make_node("ReduceSum", ["c40"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    return _onnx(folder, nodes, [numpy_helper.from_array(np.ones(1 << 10, np.float32), "c0")])


@case
def onnx_slow_fold(folder: Path) -> Path:
    """Convolution of two constants: small to write, 2^36 products."""
    image = numpy_helper.from_array(np.ones((1, 1, 512, 512), np.float32), "c")
    nodes = [helper.make_node("Conv", ["c", "c"], ["z"], pads=[255, 255, 256, 256]),
             helper.make_node("ReduceSum", ["z"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]  # fmt: skip
    return _onnx(folder, nodes, [image])


@case
def onnx_slow_pool(folder: Path) -> Path:
    """Windows of 2^18 elements at 2^18 places of a constant."""
    image = numpy_helper.from_array(np.ones((1, 1, 512, 512), np.float32), "c")
    nodes = [helper.make_node("MaxPool", ["c"], ["z"], kernel_shape=[511, 511], pads=[255, 255, 255, 255]),
             helper.make_node("ReduceSum", ["z"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]  # fmt: skip
    return _onnx(folder, nodes, [image])


@case
def onnx_function_bomb(folder: Path) -> Path:
    """Functions that call the next one twice, 40 deep: 2^40 nodes."""
    functions = []
    for i in range(40):
        op, domain = (f"F{i + 1}", "f") if i < 39 else ("Neg", "")
        body = [helper.make_node(op, ["a"], ["b"], domain=domain), helper.make_node(op, ["b"], ["c"], domain=domain)]
        ids = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
        functions.append(helper.make_function("f", f"F{i}", ["a"], ["c"], body, ids))
    return _onnx(folder, [helper.make_node("F0", ["x"], ["y"], domain="f")], functions=functions)


@case
def onnx_function_recursion(folder: Path) -> Path:
    body = [helper.make_node("F", ["a"], ["b"], domain="f")]
    f = helper.make_function("f", "F", ["a"], ["b"], body, [helper.make_opsetid("f", 1)])
    return _onnx(folder, [helper.make_node("F", ["x"], ["y"], domain="f")], functions=[f])


def _nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs, by hand: parsers refuse to write it."""

    def field(number: int, data: bytes) -> bytes:
        n, size = len(data), bytearray()
        while n > 127:
            size.append(n & 127 | 128)
            n >>= 7
        return bytes([number << 3 | 2]) + bytes(size) + bytes([n]) + data

    graph = field(2, b"g" * 5000)
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"a") + field(6, graph)))
    return b"\x08\x09" + field(7, graph)


@case
def onnx_nested_graphs(folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(_nested(20000))
    return path


@case
def onnx_sparse(folder: Path) -> Path:
    """One element of 2^40."""
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    s = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([5]), ""), [1 << 20, 1 << 20])
    nodes = [helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["y"])]
    return _onnx(folder, nodes, sparse_initializer=[s])


@case
def onnx_sparse_outside(folder: Path) -> Path:
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    s = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([50]), ""), [4])
    nodes = [helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["y"])]
    return _onnx(folder, nodes, sparse_initializer=[s])


@case
def onnx_empty_huge(folder: Path) -> Path:
    """No elements, but dims whose product overflows."""
    w = TensorProto(name="w", data_type=1, dims=[1 << 62, 1 << 62, 0], raw_data=b"")
    nodes = [helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["y"])]
    return _onnx(folder, nodes, [w])


@case
def onnx_sequence_loop(folder: Path) -> Path:
    """A loop that appends to a sequence 2^40 times (such loops are unrolled)."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["go"]), helper.make_node("SequenceInsert", ["s", "x"], ["t"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_sequence_value_info("t", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    trips = numpy_helper.from_array(np.int64(HUGE), "n")
    nodes = [helper.make_node("SequenceEmpty", [], ["e"]), helper.make_node("Loop", ["n", "", "e"], ["l"], body=body),
             helper.make_node("ConcatFromSequence", ["l"], ["y"], axis=0)]  # fmt: skip
    return _onnx(folder, nodes, [trips])


def _counts_words(**changed: Any) -> Case:
    """TfIdfVectorizer with an attribute out of proportion."""
    attrs = dict(mode="TF", min_gram_length=2, max_gram_length=2, max_skip_count=0, ngram_counts=[0, 4],
                 ngram_indexes=list(range(7)), pool_int64s=[2, 3, 5, 4, 5, 6, 7, 8, 6, 7]) | changed  # fmt: skip

    def make(folder: Path) -> Path:
        nodes = [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
            helper.make_node("TfIdfVectorizer", ["i"], ["y"], **attrs),
        ]
        return _onnx(folder, nodes)

    return make


CASES |= {
    "onnx_skips": _counts_words(max_skip_count=HUGE),
    "onnx_far_column": _counts_words(ngram_indexes=[*range(6), HUGE]),
    "onnx_column_before": _counts_words(ngram_indexes=[*range(6), -HUGE]),
}


@case
def onnx_pieces(folder: Path) -> Path:
    """A tensor cut into 2^40 pieces of one."""
    big = helper.make_node("ConstantOfShape", ["n"], ["b"])
    nodes = [
        big,
        helper.make_node("SplitToSequence", ["b"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    return _onnx(folder, nodes, [_ints("n", HUGE)])


def _external(location: str, link: str = "") -> Case:
    def make(folder: Path) -> Path:
        inner = beside_a_secret(folder, 64, location, link)
        w = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
        for k, v in (("location", location), ("offset", "0"), ("length", "8")):
            w.external_data.add(key=k, value=v)
        return _onnx(inner, [helper.make_node("Add", ["x", "w"], ["y"])], [w])

    return make


CASES |= {
    "onnx_path_up": _external("../secret"),
    "onnx_path_absolute": _external("/etc/passwd"),
    "onnx_path_link": _external("w", "../secret"),
    "onnx_path_folder_link": _external("d/secret", ".."),
    "onnx_path_device": _external("w", "/dev/zero"),
    "onnx_path_nul": _external("w\0"),
    "onnx_path_itself": _external("."),
}
