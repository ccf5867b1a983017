"""Hostile TFLite files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.hostile.cases import case


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
