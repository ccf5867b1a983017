"""Model files made to do harm: to fill memory, to run without end, to read other files, to run code.

Each function writes one into a folder and returns its path (or an action that uses it).  ``CASES`` names them all.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

HUGE = 1 << 40
Case = Callable[[Path], Path]
CASES: dict[str, Case] = {}


def case(f: Case) -> Case:
    CASES[f.__name__] = f
    return f


# ---------------------------------------------------------------- ONNX
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


def _external(location: str, link: str = "") -> Case:
    def make(folder: Path) -> Path:
        (folder / "secret").write_bytes(b"\1" * 64)
        inner = folder / "model"
        inner.mkdir()
        if link:
            os.symlink(link, inner / location.split("/")[0])
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


# ---------------------------------------------------------------- TFLite
def _tflite(folder: Path, graphs: list[Any], ops: list[str], **more: Any) -> Path:
    from deploykit.converters.exporters.tflite.writer import Table, pack
    from deploykit.converters.ir.tflite_schema import BUILTINS

    codes = [
        Table("OperatorCode", deprecated_builtin_code=min(i, 127), builtin_code=i, version=1)
        for i in map(BUILTINS.index, ops)
    ]
    more.setdefault("buffers", [Table("Buffer")])
    path = folder / "m.tflite"
    path.write_bytes(pack(Table("Model", version=3, operator_codes=codes, subgraphs=graphs, **more)))
    return path


def _tensor(name: str, shape: list[int], buffer: int = 0, dtype: int = 0, **more: Any) -> Any:
    from deploykit.converters.exporters.tflite.writer import Table

    return Table("Tensor", name=name, type=dtype, shape=shape, buffer=buffer, **more)


@case
def tflite_recursion(folder: Path) -> Path:
    """A while loop whose body is the graph that it stands in."""
    from deploykit.converters.exporters.tflite.writer import Table, options

    op = Table("Operator", opcode_index=0, inputs=[0], outputs=[1],
               **options("WhileOptions", cond_subgraph_index=1, body_subgraph_index=0))  # fmt: skip
    main = Table("SubGraph", tensors=[_tensor("x", [1]), _tensor("y", [1])], inputs=[0], outputs=[1], operators=[op])
    yes = Table("SubGraph", tensors=[_tensor("x", [1], dtype=6)], inputs=[0], outputs=[0], operators=[])
    return _tflite(folder, [main, yes], ["WHILE"])


@case
def tflite_call_bomb(folder: Path) -> Path:
    """Subgraphs that call the next one twice in branches: 2^30 of them."""
    from deploykit.converters.exporters.tflite.writer import Table, options

    graphs = []
    for i in range(30):
        tensors = [_tensor("c", [], 1, 6), _tensor("x", [1]), _tensor("m", [1]), _tensor("y", [1])]
        to = min(i + 1, 30)
        o = options("IfOptions", then_subgraph_index=to, else_subgraph_index=to)
        ops = [Table("Operator", opcode_index=0, inputs=[0, a], outputs=[b], **o) for a, b in ((1, 2), (2, 3))]
        graphs.append(Table("SubGraph", tensors=tensors, inputs=[1], outputs=[3], operators=ops))
    last = [_tensor("x", [1]), _tensor("y", [1])]
    neg = Table("Operator", opcode_index=1, inputs=[0], outputs=[1], **options("NegOptions"))
    graphs.append(Table("SubGraph", tensors=last, inputs=[0], outputs=[1], operators=[neg]))
    buffers = [Table("Buffer"), Table("Buffer", data=np.uint8([1]))]
    return _tflite(folder, graphs, ["IF", "NEG"], buffers=buffers)


@case
def tflite_sparse(folder: Path) -> Path:
    """One element of 2^30."""
    from deploykit.converters.exporters.tflite.writer import Table, options

    n = 1 << 30
    dims = [
        Table("DimensionMetadata", format=1, array_segments_type=1,
              array_segments=Table("Int32Vector", values=np.int32([0, 1])), array_indices_type=1,
              array_indices=Table("Int32Vector", values=np.int32([7]))),
    ]  # fmt: skip
    s = Table("SparsityParameters", traversal_order=[0], block_map=[], dim_metadata=dims)
    tensors = [_tensor("x", [n]), _tensor("w", [n], 1, sparsity=s), _tensor("d", [n]), _tensor("y", [n])]
    ops = [Table("Operator", opcode_index=0, inputs=[1], outputs=[2], **options("DensifyOptions")),
           Table("Operator", opcode_index=1, inputs=[0, 2], outputs=[3], **options("AddOptions"))]  # fmt: skip
    g = Table("SubGraph", tensors=tensors, inputs=[0], outputs=[3], operators=ops)
    buffers = [Table("Buffer"), Table("Buffer", data=np.ones(1, np.float32).view(np.uint8))]
    return _tflite(folder, [g], ["DENSIFY", "ADD"], buffers=buffers)


@case
def tflite_variable(folder: Path) -> Path:
    """State of 2^40 elements."""
    from deploykit.converters.exporters.tflite.writer import Table, options

    v = [1 << 20, 1 << 20]
    tensors = [_tensor("x", [1]), _tensor("s", v, is_variable=True), _tensor("y", v)]
    ops = [Table("Operator", opcode_index=0, inputs=[0, 1], outputs=[2], **options("AddOptions"))]
    return _tflite(folder, [Table("SubGraph", tensors=tensors, inputs=[0], outputs=[2], operators=ops)], ["ADD"])


@case
def tflite_fill(folder: Path) -> Path:
    from deploykit.converters.exporters.tflite.writer import Table, options

    tensors = [_tensor("n", [2], 1, 2), _tensor("v", [], 2), _tensor("f", [1]), _tensor("x", [1]), _tensor("y", [1])]
    ops = [Table("Operator", opcode_index=0, inputs=[0, 1], outputs=[2], **options("FillOptions")),
           Table("Operator", opcode_index=1, inputs=[3, 2], outputs=[4], **options("AddOptions"))]  # fmt: skip
    buffers = [Table("Buffer"), Table("Buffer", data=np.int32([1 << 20, 1 << 20]).view(np.uint8)),
               Table("Buffer", data=np.ones(1, np.float32).view(np.uint8))]  # fmt: skip
    g = Table("SubGraph", tensors=tensors, inputs=[3], outputs=[4], operators=ops)
    return _tflite(folder, [g], ["FILL", "ADD"], buffers=buffers)


@case
def tflite_label_bomb(folder: Path) -> Path:
    """An image model whose label files, 10,000 of 1 MB, hide in 20 MB of zip; only one of them is named."""
    import flatbuffers

    from deploykit.converters.exporters.tflite.writer import Table, _Packer, options

    named = Table("AssociatedFile", name="labels0.txt", type=2)
    builder = flatbuffers.Builder(1 << 12)
    root = _Packer(builder).table(Table("ModelMetadata", subgraph_metadata=[Table("SubGraphMetadata", output_tensor_metadata=[
        Table("TensorMetadata", associated_files=[named])])]))  # fmt: skip
    builder.Finish(root, b"M001")
    meta = bytes(memoryview(builder.Bytes)[builder.head :])
    g = Table("SubGraph", tensors=[_tensor("x", [1]), _tensor("y", [1])], inputs=[0], outputs=[1],
              operators=[Table("Operator", opcode_index=0, inputs=[0], outputs=[1], **options("NegOptions"))])  # fmt: skip
    buffers = [Table("Buffer"), Table("Buffer", data=np.frombuffer(meta, np.uint8))]
    path = _tflite(folder, [g], ["NEG"], buffers=buffers,
                   metadata=[Table("Metadata", name="TFLITE_METADATA", buffer=1)])  # fmt: skip
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as z:
        for i in range(10_000):
            z.writestr(f"labels{i}.txt", b"a" * (1 << 20), compresslevel=1)
    return path


# ---------------------------------------------------------------- Keras
def _keras(folder: Path, change: Callable[[dict[str, bytes]], None], units: int = 3, deflate: bool = False) -> Path:
    import deploykit.keras as keras

    inner = folder / "whole.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, name="d")])
    model.save(inner)
    with zipfile.ZipFile(inner) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    change(parts)
    path = folder / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        for k, v in parts.items():
            z.writestr(k, v, compresslevel=1 if deflate else None)
    return path


@case
def keras_units(folder: Path) -> Path:
    """A layer of 2^33 units."""

    def change(parts: dict[str, bytes]) -> None:
        assert b'"units": 3' in parts["config.json"]
        parts["config.json"] = parts["config.json"].replace(b'"units": 3', b'"units": 8589934592')

    return _keras(folder, change)


@case
def keras_zip_bomb_config(folder: Path) -> Path:
    return _keras(folder, lambda p: p.__setitem__("config.json", b" " * (2 << 30)), deflate=True)


@case
def keras_zip_bomb_weights(folder: Path) -> Path:
    return _keras(folder, lambda p: p.__setitem__("model.weights.h5", b"\0" * (2 << 30)), deflate=True)


@case
def keras_deep_json(folder: Path) -> Path:
    return _keras(folder, lambda p: p.__setitem__("config.json", b"[" * 200_000 + b"]" * 200_000))


@case
def keras_deep_config(folder: Path) -> Path:
    n = 400
    text = '{"class_name": "Sequential", "config": {"name": "s", "layers": [' * n + "]}}" * n
    return _keras(folder, lambda p: p.__setitem__("config.json", text.encode()))


@case
def keras_lambda(folder: Path) -> Path:
    """Marshalled code, as Keras 2 wrote it."""

    def change(parts: dict[str, bytes]) -> None:
        config = json.loads(parts["config.json"])
        layer = config["config"]["layers"][-1]
        layer["class_name"], layer["config"] = "Lambda", {"name": "l", "function": ["4wEAAAAAAAAA", None, None]}
        parts["config.json"] = json.dumps(config).encode()

    return _keras(folder, change)


@case
def keras_module(folder: Path) -> Path:
    """A class of another module."""

    def change(parts: dict[str, bytes]) -> None:
        config = json.loads(parts["config.json"])
        config["config"]["layers"][-1] |= {
            "module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(folder / "owned")]}
        }  # fmt: skip
        parts["config.json"] = json.dumps(config).encode()

    return _keras(folder, change)


def _h5(folder: Path, edit: Callable[[Any, Path], None]) -> Path:
    import h5py

    def change(parts: dict[str, bytes]) -> None:
        file = folder / "w.h5"
        file.write_bytes(parts["model.weights.h5"])
        with h5py.File(file, "r+") as f:
            edit(f, folder)
        parts["model.weights.h5"] = file.read_bytes()

    return _keras(folder, change)


def _kernel(f: Any) -> str:
    found: list[str] = []
    f.visititems(lambda k, v: found.append(k) if getattr(v, "shape", None) == (4, 3) else None)
    return found[0]


@case
def keras_h5_external(folder: Path) -> Path:
    """A weight whose bytes HDF5 shall read from another file."""

    def edit(f: Any, folder: Path) -> None:
        name = _kernel(f)
        del f[name]
        (folder / "secret").write_bytes(b"\1" * 64)
        f.create_dataset(name, (4, 3), "f4", external=[(str(folder / "secret"), 0, 48)])

    return _h5(folder, edit)


@case
def keras_h5_virtual(folder: Path) -> Path:
    def edit(f: Any, folder: Path) -> None:
        import h5py

        name = _kernel(f)
        del f[name]
        with h5py.File(folder / "secret.h5", "w") as other:
            other["w"] = np.ones((4, 3), np.float32)
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "w", (4, 3))
        f.create_virtual_dataset(name, layout)

    return _h5(folder, edit)


@case
def keras_h5_link(folder: Path) -> Path:
    def edit(f: Any, folder: Path) -> None:
        import h5py

        name = _kernel(f)
        del f[name]
        with h5py.File(folder / "secret.h5", "w") as other:
            other["w"] = np.ones((4, 3), np.float32)
        f[name] = h5py.ExternalLink(str(folder / "secret.h5"), "w")

    return _h5(folder, edit)


@case
def keras_h5_unwritten(folder: Path) -> Path:
    """2^40 bytes that were never written: no bytes in the file."""

    def edit(f: Any, folder: Path) -> None:
        f.create_dataset("more", (1 << 38,), "f4", chunks=(1 << 20,))

    return _h5(folder, edit)


@case
def keras_h5_bomb(folder: Path) -> Path:
    def edit(f: Any, folder: Path) -> None:
        d = f.create_dataset("more", (1 << 29,), "f4", chunks=(1 << 22,), compression="gzip", compression_opts=1)
        for i in range(128):
            d[i << 22 : (i + 1) << 22] = 0

    return _h5(folder, edit)


# ---------------------------------------------------------------- TensorFlow.js
def _tfjs(
    folder: Path, weights: list[dict[str, Any]], paths: list[Any], topology: dict[str, Any] | None = None
) -> Path:
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "w", "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "y", "op": "AddV2", "input": ["x", "w"], "attr": {"T": {"type": "DT_FLOAT"}}},
    ]
    top = {
        "format": "graph-model",
        "modelTopology": topology or {"node": nodes},
        "weightsManifest": [{"paths": paths, "weights": weights}],
    }
    path = folder / "model.json"
    path.write_text(json.dumps(top))
    return path


def _shard(name: Any, link: str = "") -> Case:
    def make(folder: Path) -> Path:
        (folder / "secret").write_bytes(b"\1" * 8)
        inner = folder / "model"
        inner.mkdir()
        if link:
            os.symlink(link, inner / str(name).split("/")[0])
        return _tfjs(inner, [{"name": "w", "shape": [2], "dtype": "float32"}], [name])

    return make


CASES |= {
    "tfjs_path_up": _shard("../secret"),
    "tfjs_path_encoded": _shard("%2e%2e/secret"),
    "tfjs_path_absolute": _shard("/etc/passwd"),
    "tfjs_path_url": _shard("file:///etc/passwd"),
    "tfjs_path_link": _shard("w", "../secret"),
    "tfjs_path_folder_link": _shard("d/secret", ".."),
    "tfjs_path_device": _shard("w", "/dev/zero"),
    "tfjs_path_number": _shard(7),
}


@case
def tfjs_huge_weight(folder: Path) -> Path:
    (folder / "w").write_bytes(b"1234")
    return _tfjs(folder, [{"name": "w", "shape": [HUGE, HUGE], "dtype": "float32"}], ["w"])


@case
def tfjs_deep_json(folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text('{"modelTopology":' * 100_000)
    return path


@case
def tfjs_fill(folder: Path) -> Path:
    (folder / "w").write_bytes(np.int32([1 << 20, 1 << 20]).tobytes() + np.float32(1).tobytes())
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "n", "op": "Const", "attr": {"dtype": {"type": "DT_INT32"}}},
        {"name": "v", "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "f", "op": "Fill", "input": ["n", "v"], "attr": {"T": {"type": "DT_FLOAT"}}},
        {"name": "y", "op": "AddV2", "input": ["x", "f"], "attr": {"T": {"type": "DT_FLOAT"}}},
    ]
    weights = [{"name": "n", "shape": [2], "dtype": "int32"}, {"name": "v", "shape": [], "dtype": "float32"}]
    return _tfjs(folder, weights, ["w"], {"node": nodes})


@case
def tfjs_units(folder: Path) -> Path:
    """A layers model with a layer of 2^33 units."""
    layers = json.loads((Path(__file__).parents[1] / "converters" / "tfjs" / "layers.json").read_text())
    text = json.dumps(_first_topology(layers))
    at = text.index('"units": ') + 9
    end = next(i for i in range(at, len(text)) if not text[i].isdigit())
    path = folder / "model.json"
    path.write_text(json.dumps({
        "format": "layers-model",
        "modelTopology": json.loads(text[:at] + "8589934592" + text[end:]),
        "weightsManifest": [],
    }))  # fmt: skip
    return path


def _first_topology(x: Any) -> Any:
    """The first model in the tests' layers.json that has a Dense layer."""
    if isinstance(x, dict) and "modelTopology" in x and '"units": ' in json.dumps(x["modelTopology"]):
        return x["modelTopology"]
    for v in x.values() if isinstance(x, dict) else x if isinstance(x, list) else ():
        found = _first_topology(v)
        if found is not None:
            return found
    return None


# ---------------------------------------------------------------- PyTorch
class Owned:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def _pt2(
    folder: Path, change: Callable[[dict[str, bytes]], None], deflate: bool = False, open_dim: bool = False
) -> Path:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.d = torch.nn.Linear(4, 3)
            self.register_buffer("c", torch.ones(3), persistent=False)

        def forward(self, x: Any) -> Any:
            return self.d(x) + self.c

    shapes = {"x": {0: torch.export.Dim("n", min=2, max=64)}} if open_dim else None
    program = torch.export.export(Net(), (torch.ones(2, 4),), dynamic_shapes=shapes)
    inner = folder / "whole.pt2"
    torch.export.save(program, inner)
    with zipfile.ZipFile(inner) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    change(parts)
    path = folder / "m.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        for k, v in parts.items():
            z.writestr(k, v, compresslevel=1 if deflate else None)
    return path


def _named(parts: dict[str, bytes], ending: str) -> str:
    return next(n for n in parts if n.endswith(ending))


def _torch_pickle(x: Any) -> bytes:
    import io

    import torch

    b = io.BytesIO()
    torch.save(x, b)
    return b.getvalue()


@case
def pt2_inputs_pickle(folder: Path) -> Path:
    """Code in the pickle of the sample inputs."""
    evil = _torch_pickle(((Owned(folder / "owned"),), {}))
    return _pt2(folder, lambda p: p.__setitem__(_named(p, "sample_inputs/model.pt"), evil))


@case
def pt2_weight_pickle(folder: Path) -> Path:
    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "weights_config.json")
        config = json.loads(parts[name])
        first = next(iter(config["config"].values()))
        first["use_pickle"] = True
        parts[name] = json.dumps(config).encode()
        parts[_named(parts, "weights/" + first["path_name"])] = _torch_pickle(Owned(folder / "owned"))

    return _pt2(folder, change)


def _constant(prefix: str, data: Callable[[Path], bytes]) -> Case:
    def make(folder: Path) -> Path:
        def change(parts: dict[str, bytes]) -> None:
            name = _named(parts, "constants_config.json")
            config = json.loads(parts[name])
            first = next(iter(config["config"].values()))
            old = first["path_name"]
            first["path_name"] = prefix + "0"
            parts[name] = json.dumps(config).encode()
            member = _named(parts, "constants/" + old)
            parts[member[: -len(old)] + prefix + "0"] = data(folder)

        return _pt2(folder, change)

    return make


CASES["pt2_opaque_pickle"] = _constant("opaque_obj_", lambda f: pickle.dumps(Owned(f / "owned")))
CASES["pt2_custom_pickle"] = _constant("custom_obj_", lambda f: _torch_pickle(Owned(f / "owned")))


@case
def pt2_expression(folder: Path) -> Path:
    """Code in the text of a symbolic size, which sympy evaluates."""

    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "models/model.json")
        text = parts[name].decode()
        assert '"expr_str": "' in text
        at = text.index('"expr_str": "') + len('"expr_str": "')
        end = text.index('"', at)
        code = f"__import__('os').system('touch {folder / 'owned'}')"
        parts[name] = (text[:at] + code + text[end:]).encode()

    return _pt2(folder, change, open_dim=True)


@case
def pt2_expression_bomb(folder: Path) -> Path:
    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "models/model.json")
        text = parts[name].decode()
        at = text.index('"expr_str": "') + len('"expr_str": "')
        end = text.index('"', at)
        parts[name] = (text[:at] + "9**9**9**9" + text[end:]).encode()

    return _pt2(folder, change, open_dim=True)


@case
def pt2_library(folder: Path) -> Path:
    """A shared library for torch to load."""

    def change(parts: dict[str, bytes]) -> None:
        root = next(iter(parts)).split("/")[0]
        parts[f"{root}/data/aotinductor/model/model.so"] = b"\x7fELF" + b"\0" * 100
        parts[f"{root}/data/aotinductor/model/model_metadata.json"] = b"{}"

    return _pt2(folder, change)


@case
def pt2_target(folder: Path) -> Path:
    """A call of a function that is no op."""

    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "models/model.json")
        text = parts[name].decode()
        assert "torch.ops.aten.linear.default" in text
        parts[name] = text.replace("torch.ops.aten.linear.default", "torch.utils.collect_env.run").encode()

    return _pt2(folder, change)


@case
def pt2_zip_bomb(folder: Path) -> Path:
    def change(parts: dict[str, bytes]) -> None:
        parts[_named(parts, "weights/weight_0")] = b"\0" * (2 << 30)

    return _pt2(folder, change, deflate=True)


@case
def pt2_strides(folder: Path) -> Path:
    """A weight of 2^40 elements that all lie at the same place."""

    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "weights_config.json")
        config = json.loads(parts[name])
        for w in config["config"].values():
            meta = w["tensor_meta"]
            meta["sizes"] = [{"as_int": 1 << 20} for _ in meta["sizes"]]
            meta["strides"] = [{"as_int": 0} for _ in meta["strides"]]
        parts[name] = json.dumps(config).encode()

    return _pt2(folder, change)


@case
def pt2_deep_json(folder: Path) -> Path:
    return _pt2(folder, lambda p: p.__setitem__(_named(p, "models/model.json"), b"[" * 200_000))


@case
def torch_pickle(folder: Path) -> Path:
    path = folder / "m.pt"
    path.write_bytes(pickle.dumps(Owned(folder / "owned")))
    return path


@case
def torch_checkpoint(folder: Path) -> Path:
    path = folder / "m.pth"
    path.write_bytes(_torch_pickle(Owned(folder / "owned")))
    return path
