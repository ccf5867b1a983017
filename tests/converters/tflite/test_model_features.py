"""What whole TFLite files have besides operators: signatures, variables that two of them share, control flow, sparse and
narrow weights, files over the reach of FlatBuffer offsets."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.exporters.tflite import export_tflite, writer
from deploykit.converters.exporters.tflite.writer import Table, options, pack
from deploykit.converters.importers.tflite import import_tflite
from deploykit.converters.importers.tflite.reader import read_model
from deploykit.converters.ir.tflite_schema import BUILTINS
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import Graph, Variable
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder
from deploykit.ops.infer import declare_variables
from deploykit.runners import LiteRtRunner
from tests.support.peers import need
from tests.support.tflite_ops import Case, model

need("ai_edge_litert")


def counter() -> Graph:
    """Two entry points over one variable: add to it, and read it."""
    b = GraphBuilder()
    b.graph.variables.append(Variable("sum", np.array([5.0], np.float32)))
    x = b.input("x", "float32", (1,))
    with declare_variables(b.graph.variables):
        total = b.op("add", x, b.op("read_variable", variable="sum"))
        b.output(b.op("assign_variable", total, variable="sum"), "total")
        other = GraphBuilder(Graph("peek"))
        factor = other.input("factor", "float32", (1,))
        b.graph.signatures["peek"] = other.output(
            other.op("mul", factor, other.op("read_variable", variable="sum")), "y"
        )
    return b.graph


def test_signatures_there_and_back() -> None:
    data = export_tflite(counter())
    runner = LiteRtRunner(data)
    runner.run({"x": np.ones(1, np.float32)})
    peek = runner.session.get_signature_runner("peek")
    assert peek(factor=np.array([2], np.float32))["y"].tolist() == [12]
    graph = import_tflite(data)
    assert list(graph.signatures) == ["peek"] and [v.name for v in graph.signatures["peek"].inputs] == ["factor"]
    file = to_bytes(dk.convert(graph).graph)
    session = dk.Interpreter(file, signature="peek")
    assert session.run(factor=np.array([2], np.float32))["y"].tolist() == [10]
    assert graph.metadata["signatures"]["serving_default"]["inputs"] == {"x": "x"}


def dense_sparse(rows: int, cols: int, seed: int) -> tuple[np.ndarray, Table]:
    """A matrix with few elements, and its compressed rows."""
    r = np.random.default_rng(seed)
    m = np.where(r.random((rows, cols)) < 0.3, r.standard_normal((rows, cols)), 0).astype(np.float32)
    segments = np.concatenate([[0], np.cumsum((m != 0).sum(1))]).astype(np.int32)
    indices = np.nonzero(m)[1].astype(np.int32)
    dims = [
        Table("DimensionMetadata", format=0, dense_size=rows),
        Table(
            "DimensionMetadata",
            format=1,
            array_segments_type=1,
            array_segments=Table("Int32Vector", values=segments),
            array_indices_type=1,
            array_indices=Table("Int32Vector", values=indices),
        ),
    ]
    return m, Table("SparsityParameters", traversal_order=[0, 1], block_map=[], dim_metadata=dims)


def sparse_model(m: np.ndarray, sparsity: Table, values: np.ndarray) -> bytes:
    """y = x @ densify(m)'."""
    rows, cols = m.shape
    buffers = [Table("Buffer"), Table("Buffer", data=values.view(np.uint8))]
    tensors = [
        Table("Tensor", name="x", type=0, shape=[2, cols], buffer=0),
        Table("Tensor", name="w", type=0, shape=[rows, cols], buffer=1, sparsity=sparsity),
        Table("Tensor", name="dense", type=0, shape=[rows, cols], buffer=0),
        Table("Tensor", name="y", type=0, shape=[2, rows], buffer=0),
    ]
    codes = [
        Table("OperatorCode", deprecated_builtin_code=min(i, 127), builtin_code=i, version=1)
        for i in (BUILTINS.index("DENSIFY"), BUILTINS.index("FULLY_CONNECTED"))
    ]
    ops = [
        Table("Operator", opcode_index=0, inputs=[1], outputs=[2], **options("DensifyOptions")),
        Table("Operator", opcode_index=1, inputs=[0, 2, -1], outputs=[3], **options("FullyConnectedOptions")),
    ]
    graph = Table("SubGraph", tensors=tensors, inputs=[0], outputs=[3], operators=ops)
    return pack(Table("Model", version=3, operator_codes=codes, subgraphs=[graph], buffers=buffers))


def test_sparse_weights() -> None:
    m, sparsity = dense_sparse(5, 8, 1)
    data = sparse_model(m, sparsity, m[m != 0])
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    want = LiteRtRunner(data, 1, optimize=False).run({"x": x})["y"]
    got = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph)).run(x=x)["y"]
    assert np.abs(want - x @ m.T).max() < 1e-5 and np.abs(got - want).max() < 1e-5


def test_sparse_indices_that_leave_the_tensor() -> None:
    m, sparsity = dense_sparse(5, 8, 1)
    sparsity.dim_metadata[1].array_indices.fields["values"] = np.full((m != 0).sum(), 99, np.int32)
    with pytest.raises(FormatError, match="an index lies outside"):
        import_tflite(sparse_model(m, sparsity, m[m != 0]))


def test_four_bit_constants_are_unpacked() -> None:
    r = np.random.default_rng(3)
    q = r.integers(-8, 8, 15)
    data = model(
        Case(
            "RESHAPE",
            [q.astype(np.int8).reshape(3, 5), np.array([5, 3], np.int32)],
            (0, 1),
            "ReshapeOptions",
            outputs=("int8",),
        )
    )
    source = read_model(data)
    t = source.model.subgraphs[0].tensors[0]
    t.__dict__["type"] = 17  # INT4
    half = np.concatenate([q, [0]]).reshape(-1, 2) & 15
    raw = (half[:, 0] | half[:, 1] << 4).astype(np.uint8)
    assert np.array_equal(source.array(t, raw).reshape(-1).astype(int), q)
    with pytest.raises(FormatError, match="has 9 bytes"):
        source.array(t, np.zeros(9, np.uint8))


def test_data_behind_the_flatbuffer(monkeypatch) -> None:
    """Files over 2 GB keep their data outside; here with a small limit."""
    b = GraphBuilder()
    x = b.input("x", "float32", (2, 64))
    w = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    graph = b.output(b.op("matmul", x, w), "y")
    plain = export_tflite(graph)
    monkeypatch.setattr(writer, "LARGE", 1000)
    large = export_tflite(graph)
    assert large != plain and large.endswith(np.ascontiguousarray(w.T).tobytes())
    a = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    want = LiteRtRunner(plain, 1).run({"x": a})["y"]
    assert np.array_equal(LiteRtRunner(large, 1).run({"x": a})["y"], want)
    got = dk.Interpreter(to_bytes(dk.convert(large, verify=False).graph)).run(x=a)["y"]
    assert np.abs(got - want).max() < 1e-5


def test_unknown_operators_are_all_named() -> None:
    one = np.ones((2, 2), np.float32)
    with pytest.raises(UnsupportedError, match="a custom op 'Mine' that Deploykit does not know") as e:
        import_tflite(model(Case("CUSTOM:Mine", [one])))
    assert len(e.value.problems) == 1
    with pytest.raises(UnsupportedError, match=r"TensorFlow's own runtime \(Flex\)"):
        import_tflite(model(Case("CUSTOM:FlexErf", [one])))
    with pytest.raises(UnsupportedError, match="CONCAT_EMBEDDINGS: not supported"):
        import_tflite(model(Case("CONCAT_EMBEDDINGS", [one])))


# ---- StableHLO operators with bodies, or whose windows say what is gathered
def file(
    op: str, kind: str, ins: list[np.ndarray], out: np.ndarray, bodies: list[list[str]], **fields: object
) -> bytes:
    """A model of one operator; ``bodies`` are subgraphs of two scalars, or of the inputs behind the first, by operator."""
    types = {"float32": 0, "int32": 2, "int64": 4}
    names = list(dict.fromkeys([op, *(o for b in bodies for o in b)]))
    codes = []
    for n in names:
        k = BUILTINS.index(n)
        codes.append(Table("OperatorCode", deprecated_builtin_code=min(k, 127), builtin_code=k, version=1))

    def tensor(name: str, like: np.ndarray) -> Table:
        return Table("Tensor", name=name, type=types[like.dtype.name], shape=list(like.shape), buffer=0, has_rank=True)

    tensors = [*(tensor(f"x{i}", a) for i, a in enumerate(ins)), tensor("y", out)]
    n = len(ins)
    node = Table("Operator", opcode_index=0, inputs=list(range(n)), outputs=[n], **options(kind, **fields))
    graphs = [Table("SubGraph", tensors=tensors, inputs=list(range(n)), outputs=[n], operators=[node], name="main")]
    for b in bodies:
        args = ins[1:] if op == "STABLEHLO_CASE" else [np.zeros((), np.float32)] * 2
        k = len(args)
        inner = [tensor(f"a{i}", a) for i, a in enumerate(args)] + [tensor(f"t{i}", args[0]) for i in range(len(b))]
        ops = [
            Table("Operator", opcode_index=names.index(o), inputs=[k + i - 1 if i else 0, k - 1], outputs=[k + i])
            for i, o in enumerate(b)
        ]
        outs = [k + len(b) - 1]
        graphs.append(Table("SubGraph", tensors=inner, inputs=list(range(k)), outputs=outs, operators=ops, name="b"))
    whole = dict(version=3, operator_codes=codes, subgraphs=graphs, buffers=[Table("Buffer")], description="one")
    return pack(Table("Model", **whole))


def answer(data: bytes, ins: list[np.ndarray]) -> np.ndarray:
    session = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph))
    return session.run({f"x{i}": a for i, a in enumerate(ins)})["y"]


def test_case() -> None:
    r = np.random.default_rng(0)
    a, b = (r.standard_normal((2, 3)).astype(np.float32) for _ in range(2))
    bodies = [["STABLEHLO_ADD"], ["STABLEHLO_MULTIPLY", "STABLEHLO_ADD"], ["STABLEHLO_MAXIMUM"]]
    want = [a + b, a * b + b, np.maximum(a, b)]
    for k in (0, 1, 2, -1, 9):  # what is no branch is the last one
        ins = [np.array(k, np.int32), a, b]
        data = file("STABLEHLO_CASE", "StablehloCaseOptions", ins, a, bodies, branch_subgraph_indices=[1, 2, 3])
        assert np.array_equal(answer(data, ins), want[k if 0 <= k < 3 else 2]), k


FOLDS = [("ADD", 0, np.sum), ("MAXIMUM", -9, np.max), ("MULTIPLY", 1, np.prod)]


@pytest.mark.parametrize(("body", "start", "fold"), FOLDS)
def test_reduce_window(body: str, start: float, fold: Any) -> None:
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    how = dict(window_dimensions=[2, 3], window_strides=[2, 1], window_dilations=[1, 2], base_dilations=[2, 1])
    ins = [x, np.array(start, np.float32)]
    wide = np.full((11, 8), start, np.float32)
    wide[1:10:2, :6] = x
    want = np.array([[fold(wide[i : i + 2, j : j + 5 : 2]) for j in range(4)] for i in range(0, 10, 2)], np.float32)
    kind = "StablehloReduceWindowOptions"
    bodies = [[f"STABLEHLO_{body}"]]
    data = file(kind_of(kind), kind, ins, want, bodies, padding=[1, 1, 0, 2], body_subgraph_index=1, **how)
    np.testing.assert_allclose(answer(data, ins), want, rtol=1e-6, atol=1e-6)


def kind_of(options_of: str) -> str:
    """StablehloReduceWindowOptions -> STABLEHLO_REDUCE_WINDOW."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", options_of.removesuffix("Options")).upper()


def test_gather_of_windows() -> None:
    """Windows that would leave the tensor are moved into it.  (LiteRT's kernel ends the process on these files.)"""
    r = np.random.default_rng(2)
    x, at = r.standard_normal((6, 3, 5)).astype(np.float32), np.array([[0, 0], [5, 3], [2, 4], [9, -2]], np.int32)
    how = dict(offset_dims=[1, 2], collapsed_slice_dims=[0], start_index_map=[0, 2], slice_sizes=[1, 3, 2])
    begins = [(np.clip(i, 0, 5), np.clip(j, 0, 3)) for i, j in at]
    want = np.stack([x[i, :, j : j + 2] for i, j in begins])
    data = file("STABLEHLO_GATHER", "StablehloGatherOptions", [x, at], want, [], index_vector_dim=1, **how)
    assert np.array_equal(answer(data, [x, at]), want)
    x, at = r.standard_normal((4, 5)).astype(np.float32), np.array([[0, 1], [2, 3], [1, 0]], np.int32)
    want = np.stack([[x[0:2, j : j + 2] for j in row] for row in at])  # [3, 2, rows, columns]
    want = want.transpose(2, 0, 3, 1)
    how = dict(offset_dims=[0, 2], collapsed_slice_dims=[], start_index_map=[1], slice_sizes=[2, 2])
    data = file("STABLEHLO_GATHER", "StablehloGatherOptions", [x, at], want, [], index_vector_dim=2, **how)
    assert np.array_equal(answer(data, [x, at]), want)


@pytest.mark.parametrize("body", [[], ["STABLEHLO_ADD"], ["STABLEHLO_MAXIMUM"]])
def test_scatter_of_windows(body: list[str]) -> None:
    r = np.random.default_rng(3)
    x, at = r.standard_normal((6, 5)).astype(np.float32), np.array([[1], [3], [1 if body else 5]], np.int32)
    updates = r.standard_normal((5, 3)).astype(np.float32)  # columns are rows of x
    want = x.copy()
    for (i,), u in zip(at, updates.T, strict=True):
        want[i] = u if not body else want[i] + u if body[0].endswith("ADD") else np.maximum(want[i], u)
    how = dict(update_window_dims=[0], inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=1)
    ins = [x, at, updates]
    how["update_computation_subgraph_index"] = 1
    data = file("STABLEHLO_SCATTER", "StablehloScatterOptions", ins, x, [body], **how)
    np.testing.assert_allclose(answer(data, ins), want, rtol=1e-6)
