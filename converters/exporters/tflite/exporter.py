"""Graph -> ``.tflite`` bytes: tensors, buffers and operators of each subgraph, then signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite import quant, sixteen
from deploykit.converters.exporters.tflite.writer import Table, options, parts
from deploykit.converters.ir import walk
from deploykit.converters.ir.tflite_schema import BUILTINS, TYPES
from deploykit.dtypes import DType
from deploykit.errors import DeploykitError, UnsupportedError
from deploykit.graph import Graph, Node, QuantParams, Value
from deploykit.graph.dims import DimLike
from deploykit.graph.mapped import in_file
from deploykit.ops import GraphBuilder
from deploykit.ops.core import get

_HALF_LEAST = 64  # elements from which weights are kept in half precision
_INTERFACE = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool", "float64", "uint32", "uint64")
_TYPES = {t.lower(): i for i, t in enumerate(TYPES)}
# the version of an operator that a feature needs: (operator, integers in and out?) -> version; 1 elsewhere
_VERSIONS = {
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "TRANSPOSE_CONV": 3,
    "FULLY_CONNECTED": 5,
    "STRIDED_SLICE": 4,
    "GATHER": 2,
    "BROADCAST_TO": 2,
}
_VERSIONS_INT8 = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 5,
    "QUANTIZE": 1,
    "DEQUANTIZE": 2,
    "ADD": 2,
    "SUB": 2,
    "MUL": 2,
    "AVERAGE_POOL_2D": 2,
    "MAX_POOL_2D": 2,
    "SOFTMAX": 2,
    "LOGISTIC": 2,
    "TANH": 2,
    "PAD": 2,
    "PADV2": 2,
    "CONCATENATION": 2,
    "MEAN": 2,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 3,
    "BATCH_MATMUL": 3,
}
_VERSIONS_INT16 = {
    **dict.fromkeys(("ADD", "PAD", "CONCATENATION", "SOFTMAX", "MEAN", "RELU", "RELU6", "LOGISTIC", "TANH"), 3),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "DEQUANTIZE"), 3),
    **dict.fromkeys(("CONV_2D", "MUL"), 4),
    **dict.fromkeys(("DEPTHWISE_CONV_2D", "SUB", "TRANSPOSE"), 5),
    "FULLY_CONNECTED": 7,
    "LEAKY_RELU": 2,
    "QUANTIZE": 2,
}


def export_tflite(graph: Graph) -> bytes:
    """Write a Graph as the bytes of a ``.tflite`` file that LiteRT runs.

    Inputs, outputs and signatures keep their names; variables become resource variables with their first values.
    Layout is channels last on both sides, so nothing is transposed that was not.  Raises UnsupportedError with every
    node that the format has no operator for, before anything is written.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> g = b.output(b.op("relu", b.input("x", "float32", (2, 3))), "y")
    >>> export_tflite(g)[4:8]
    b'TFL3'
    """
    return b"".join(tflite_parts(graph))


def tflite_parts(graph: Graph) -> list[Any]:
    """As :func:`export_tflite`, in pieces; weights among them are views of the Graph's."""
    return Exporter().model(graph)


class Exporter:
    """State of one export."""

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = {}
        self.codes: dict[tuple[str, int], int] = {}
        self.buffers: list[Table] = [Table("Buffer")]
        self.shared: dict[int, int] = {}  # id of an array -> its buffer
        self.keep: list[Any] = []  # arrays whose ids are in use
        self.subgraphs: list[Table] = []
        self.variables: dict[str, np.ndarray] = {}
        self.scales: dict[Value, QuantParams] = {}  # of integers that stand for real numbers
        self.sixteen: dict[Node, sixteen.Wide] = {}  # ops on int16
        self.half = False  # whether weights came in half precision

    def model(self, graph: Graph) -> list[Any]:
        """The whole file, in pieces."""
        graph = walk.clone(graph)
        self.sixteen, wide = sixteen.mark(graph)
        self.half = _widen(graph)
        self._check_interface(graph)
        self.scales = quant.scales(graph) | wide
        self.variables = {v.name: np.asarray(v.initial) for v in graph.variables}
        self.subgraphs.append(Table("SubGraph"))
        start = self._initialiser() if self.variables else None
        self.subgraphs[0] = self.subgraph(graph, "main", start)
        signatures = [self._signature("serving_default", graph, 0)]
        for name, g in graph.signatures.items():
            self._check_interface(g)
            self.subgraphs.append(Table("SubGraph"))
            at = len(self.subgraphs) - 1
            self.subgraphs[at] = self.subgraph(g, name, None)
            signatures.append(self._signature(name, g, at))
        self.fail()
        codes = [
            Table(
                "OperatorCode",
                deprecated_builtin_code=min(BUILTINS.index(op), 127),
                builtin_code=BUILTINS.index(op),
                version=v,
            )
            for op, v in self.codes
        ]
        return parts(
            Table(
                "Model",
                version=3,
                description="deploykit",
                operator_codes=codes,
                subgraphs=self.subgraphs,
                buffers=self.buffers,
                signature_defs=signatures,
            )
        )

    def _check_interface(self, graph: Graph) -> None:
        for v in [*graph.inputs, *graph.outputs]:
            if v.shape is None:
                self.note("its number of dims is not known; give the shapes of the inputs (--input-shape)", v.name)
            elif 0 in v.shape:
                self.note("an input or output without elements", v.name)
            if v.dtype is not None and v.dtype.name not in _INTERFACE:
                self.note(f"an input or output of {v.dtype}; TFLite's runtime takes {', '.join(_INTERFACE)}", v.name)

    def _signature(self, key: str, graph: Graph, index: int) -> Table:
        row = self.subgraphs[index]
        outs = zip(graph.public_outputs, row.fields["outputs"], strict=True)
        ins = zip((v.name for v in graph.inputs), row.fields["inputs"], strict=True)
        maps = [[Table("TensorMap", name=n, tensor_index=i) for n, i in side] for side in (ins, outs)]
        return Table("SignatureDef", signature_key=key, inputs=maps[0], outputs=maps[1], subgraph_index=index)

    def _initialiser(self) -> int:
        """The subgraph that gives variables their first values; returns its index."""
        self.subgraphs.append(Table("SubGraph"))
        at = len(self.subgraphs) - 1
        w = Sub(self, "init")
        for name, data in self.variables.items():
            w.emit("ASSIGN_VARIABLE", [w.handle(name), w.constant(data, name)], [], "AssignVariableOptions")
        self.subgraphs[at] = w.table([], [])
        return at

    def subgraph(self, graph: Graph, name: str, start: int | None, renamed: bool = True) -> Table:
        """One of our graphs as a subgraph."""
        w = Sub(self, name)
        ins = [w.input(v) for v in graph.inputs]
        if start is not None:
            w.emit("CALL_ONCE", [], [], "CallOnceOptions", init_subgraph_index=start)
        public = dict(zip(graph.outputs, graph.public_outputs, strict=True)) if renamed else {}
        w.public = {v: n for v, n in public.items() if v.producer is not None}
        w.nodes(graph)
        outs = [w.output(v, n) for v, n in zip(graph.outputs, graph.public_outputs, strict=True)]
        return w.table(ins, outs)

    # ---- problems
    def note(self, what: str, node: str) -> None:
        """Note a problem and go on."""
        self.problems.setdefault(what.rstrip("."), []).append(node)

    def fail(self) -> None:
        """Raise one error with all problems, if there are any."""
        if not self.problems:
            return
        lines = []
        for what, nodes in self.problems.items():
            shown = ", ".join(f"'{n}'" for n in nodes[:3]) + (", …" if len(nodes) > 3 else "")
            lines.append(f"{what} ({len(nodes)} place{'s' * (len(nodes) > 1)}: {shown})")
        text = "\n  ".join([f"cannot be written as TFLite; {len(lines)} problem{'s' * (len(lines) > 1)}:", *lines])
        raise UnsupportedError(text, problems=lines)

    def code(self, op: str, version: int) -> int:
        """Index of an operator code."""
        return self.codes.setdefault((op, version), len(self.codes))


class Sub:
    """One subgraph being written.  Tensors are numbers; ``own`` maps our values to them."""

    def __init__(self, exporter: Exporter, name: str) -> None:
        self.exporter = exporter
        self.name = name
        self.tensors: list[Table] = []
        self.operators: list[Table] = []
        self.own: dict[Value, int] = {}
        self.own8: dict[Value, int] = {}  # the same as int8, or with another scale (handlers_int8)
        self.lazy: dict[Value, tuple[int, QuantParams]] = {}  # uint8 values that so far exist as int8 only
        self.public: dict[Value, str] = {}
        self.names: set[str] = set()
        self.known: dict[int, np.ndarray] = {}  # constants by tensor
        self.hint = ""

    def table(self, ins: list[int], outs: list[int]) -> Table:
        """The finished subgraph."""
        return Table(
            "SubGraph", tensors=self.tensors, inputs=ins, outputs=outs, operators=self.operators, name=self.name
        )

    # ---- tensors
    def unique(self, hint: str) -> str:
        """A tensor name not used yet in this subgraph."""
        name, i = hint or "t", 1
        while name in self.names:
            i += 1
            name = f"{hint}_{i}"
        self.names.add(name)
        return name

    def tensor(
        self,
        dtype: DType,
        shape: Any,
        name: str = "",
        buffer: int = 0,
        scale: QuantParams | None = None,
    ) -> int:
        """A new tensor; symbolic dims are open."""
        if dtype.name not in _TYPES:
            raise UnsupportedError(f"TFLite has no tensors of {dtype}")
        if shape is None:
            raise UnsupportedError("a result of unknown rank; give the shapes of the inputs (--input-shape)")
        sizes = [d if isinstance(d, int) else -1 for d in shape]
        fields: dict[str, Any] = dict(
            shape=[d if d >= 0 else 1 for d in sizes],
            type=_TYPES[dtype.name],
            buffer=buffer,
            name=self.unique(name or self.hint),
            has_rank=True,
        )
        if -1 in sizes:
            fields["shape_signature"] = sizes
        if scale is not None:
            fields["quantization"] = Table(
                "QuantizationParameters",
                scale=np.atleast_1d(scale.scale).astype(np.float32),
                zero_point=np.atleast_1d(scale.zero_point).astype(np.int64),
                quantized_dimension=scale.axis or 0,
            )
        self.tensors.append(Table("Tensor", **fields))
        return len(self.tensors) - 1

    def dtype(self, t: int) -> DType:
        """Dtype of a tensor."""
        return dtypes.dtype(TYPES[self.tensors[t].fields["type"]].lower())

    def shape(self, t: int) -> list[int]:
        """Shape of a tensor, -1 for open dims."""
        fields = self.tensors[t].fields
        return list(fields.get("shape_signature", fields["shape"]))

    def constant(self, data: Any, name: str = "", scale: QuantParams | None = None) -> int:
        """A constant tensor; equal arrays share a buffer when they are one object."""
        array = np.asarray(data)
        if self.exporter.half and array.dtype == np.float32 and array.size >= _HALF_LEAST:
            with np.errstate(over="ignore"):
                half = array.astype(np.float16)
            if np.array_equal(half.astype(np.float32), array):  # half the bytes, widened when the model is loaded
                source = self.constant(half, f"{name or self.hint}/half")
                wide = self.tensor(dtypes.float32, array.shape, name)
                self.emit("DEQUANTIZE", [source], [wide], "DequantizeOptions")
                self.known[wide] = array
                return wide
        key = id(data)
        e = self.exporter
        if key not in e.shared:
            dtype = dtypes.dtype(array.dtype)
            raw = array if array.flags.c_contiguous else in_file(np.ascontiguousarray(array))
            raw = raw.reshape(-1)
            if dtype.bits < 8:
                raw = _packed(raw, dtype.bits)
            e.buffers.append(Table("Buffer", data=raw.view(np.uint8)))
            e.shared[key] = len(e.buffers) - 1
            e.keep.append(data)
        t = self.tensor(dtypes.dtype(array.dtype), array.shape, name or f"{self.hint}/const", e.shared[key], scale)
        self.known[t] = array
        return t

    def i32(self, values: Any, name: str = "") -> int:
        """A constant of int32: axes, sizes, paddings."""
        return self.constant(np.asarray(values, np.int32), name)

    def input(self, v: Value) -> int:
        """A subgraph's input, under its exact name."""
        self.names.add(v.name)
        dims = v.shape if v.shape is not None else ()
        assert v.dtype is not None
        self.own[v] = self.tensor(v.dtype, dims, scale=self.exporter.scales.get(v))
        self.tensors[-1].fields["name"] = v.name
        return self.own[v]

    def get(self, v: Value | None) -> int:
        """The tensor of a value, -1 for None."""
        if v is None:
            return -1
        if v in self.lazy and v not in self.own:
            source, q = self.lazy[v]
            self.own[v] = self.tensor(dtypes.uint8, self.shape_of(v), self.public.get(v, v.name), scale=q)
            self.emit("QUANTIZE", [source], [self.own[v]], "QuantizeOptions")
        if v not in self.own:
            if v.data is None:
                raise UnsupportedError(f"'{v.name}' is not computed")
            self.own[v] = self.constant(v.data, v.name, self.exporter.scales.get(v))
        return self.own[v]

    def exporter_zero(self, v: Value) -> int:
        """The zero point of an integer value where a scale is known for it, else 0."""
        q = self.exporter.scales.get(v)
        return 0 if q is None or q.zero_point.ndim else int(q.zero_point)

    def output(self, v: Value, name: str) -> int:
        """A subgraph's output: the value's tensor, or a copy where that one has another name."""
        try:
            t = self.get(v)
        except UnsupportedError as e:
            if not self.exporter.problems:
                self.exporter.note(e.message, name)
            return 0
        if self.tensors[t].fields["name"] == name:
            return t
        assert v.dtype is not None
        self.hint = name
        dims = self.shape_of(v)
        copy = self.tensor(v.dtype, dims, name, scale=self.exporter.scales.get(v))
        self.tensors[copy].fields["name"] = name
        if all(isinstance(d, int) for d in dims):
            self.emit("RESHAPE", [t, self.i32(list(dims), f"{name}/shape")], [copy], "ReshapeOptions", new_shape=dims)
            return copy
        self.emit(
            "CAST", [t], [copy], "CastOptions", in_data_type=_TYPES[v.dtype.name], out_data_type=_TYPES[v.dtype.name]
        )
        return copy

    @staticmethod
    def shape_of(v: Value) -> tuple[DimLike, ...]:
        """Shape of a value whose rank must be known."""
        if v.shape is None:
            raise UnsupportedError(
                f"the rank of '{v.name}' is not known; give the shapes of the inputs (--input-shape)"
            )
        return v.shape

    # ---- operators
    def emit(self, op: str, ins: list[int], outs: list[int], kind: str = "", **fields: Any) -> None:
        """Append an operator."""
        ends = [self.tensors[t].fields for t in (*ins, *outs) if t >= 0 and "quantization" in self.tensors[t].fields]
        wide = any(TYPES[f["type"]] == "INT16" for f in ends)
        narrow = _VERSIONS_INT16 if wide else _VERSIONS_INT8 if ends else {}
        version = narrow.get(op, _VERSIONS.get(op, 1))
        extra = options(kind, **fields) if kind else {}
        index = self.exporter.code(op, version)
        self.operators.append(Table("Operator", opcode_index=index, inputs=ins, outputs=outs, **extra))

    def handle(self, variable: str) -> int:
        """A handle of a variable (one operator each time, as converters write them)."""
        t = self.tensor_of_kind("RESOURCE", f"{variable}/handle")
        self.emit("VAR_HANDLE", [], [t], "VarHandleOptions", container="", shared_name=variable)
        return t

    def tensor_of_kind(self, kind: str, name: str) -> int:
        """A tensor of a type that is none of ours."""
        self.tensors.append(
            Table("Tensor", shape=[], type=TYPES.index(kind), buffer=0, name=self.unique(name), has_rank=True)
        )
        return len(self.tensors) - 1

    def nodes(self, graph: Graph) -> None:
        """Write the nodes of a graph whose inputs have their tensors already."""
        for node in graph.nodes:
            self.node(node)

    def node(self, node: Node) -> None:
        """Write one node; problems are noted, and results stand in so that the rest can be looked at."""
        from deploykit.converters.exporters.tflite import handlers_int16

        p = get(node.op)
        self.hint = next((v.name for v in node.outputs if v is not None), node.name) or node.op
        try:
            ends = [*node.outputs, *(node.inputs[:1] if node.op != "fill" else ())]
            if node.op != "shape_of" and any(v is not None and v.shape is not None and 0 in v.shape for v in ends):
                raise UnsupportedError("an empty tensor")  # LiteRT's kernels may crash on them
            wide = self.exporter.sixteen.get(node)
            handler = handlers().get(node.op) if wide is None else handlers_int16.handler(wide)
            site = Site(self, node, walk.attrs(node))
            if handler is not None:
                handler(site)
            elif p.decompose is not None:
                site.compose(lambda *xs: p.decompose(*xs, **site.attrs))  # type: ignore[misc]
            else:
                raise UnsupportedError("TFLite has no such operator")
        except (DeploykitError, ValueError) as e:  # taking an op apart may need sizes that are open: a ValueError
            self.exporter.note(f"{node.op}: {getattr(e, 'message', str(e))}", node.name or self.hint)
            for v in node.outputs:
                if v is not None and v not in self.own:
                    self.own[v] = self.constant(np.zeros((), np.float32))


class Site:
    """What a handler sees of one node of ours."""

    def __init__(self, sub: Sub, node: Node, attrs: dict[str, Any]) -> None:
        self.sub = sub
        self.node = node
        self.attrs = attrs

    # ---- operands
    def value(self, i: int) -> Value | None:
        """Input ``i`` of the node, None when absent."""
        return self.node.inputs[i] if i < len(self.node.inputs) else None

    def x(self, i: int = 0) -> Value:
        """Input ``i``, which must be there."""
        v = self.value(i)
        assert v is not None
        return v

    def get(self, i: int) -> int:
        """Tensor of input ``i``, -1 when absent."""
        return self.sub.get(self.value(i))

    def data(self, i: int) -> np.ndarray | None:
        """Data of input ``i`` when it is a constant."""
        v = self.value(i)
        return None if v is None else v.data

    def static(self, i: int, what: str) -> np.ndarray:
        """Data of input ``i``, which must be a constant."""
        data = self.data(i)
        if data is None:
            raise UnsupportedError(f"{what} is computed at run time")
        return data

    def shape(self, i: int = 0) -> tuple[DimLike, ...]:
        """Shape of input ``i``."""
        return self.sub.shape_of(self.x(i))

    def as_i32(self, i: int) -> int:
        """Input ``i``, integers, as int32: what index and shape operands of TFLite take."""
        data = self.data(i)
        if data is not None:
            low, high = -(2**31), 2**31 - 1
            return self.sub.i32(np.clip(data, low, high))
        return self.cast(self.get(i), dtypes.int32)

    def cast(self, t: int, dtype: DType) -> int:
        """A tensor in another dtype."""
        have = self.sub.dtype(t)
        if have is dtype:
            return t
        out = self.temp(dtype, self.dims(t))
        self.emit("CAST", [t], [out], "CastOptions", in_data_type=_TYPES[have.name], out_data_type=_TYPES[dtype.name])
        return out

    def dims(self, t: int) -> list[Any]:
        """Dims of a tensor for :meth:`temp`."""
        return [d if d >= 0 else None for d in self.sub.shape(t)]

    # ---- results
    def temp(self, dtype: DType, shape: Any, name: str = "", scale: QuantParams | None = None) -> int:
        """A tensor for something in between; entries of shape that are no ints are open."""
        return self.sub.tensor(dtype, shape, name or f"{self.sub.hint}/part", scale=scale)

    def result(self, k: int = 0) -> int:
        """The tensor of output ``k`` of the node, to be written by the operator that ends the work."""
        v = self.node.outputs[k]
        if v is None:
            raise UnsupportedError(f"output {k} is not used, but must be")
        assert v.dtype is not None
        name = self.sub.public.get(v, v.name)
        t = self.sub.tensor(v.dtype, self.sub.shape_of(v), name, scale=self.sub.exporter.scales.get(v))
        self.sub.own[v] = t
        return t

    def alias(self, t: int, k: int = 0) -> None:
        """Output ``k`` is a tensor that exists already."""
        v = self.node.outputs[k]
        if v is not None:
            self.sub.own[v] = t

    def emit(self, op: str, ins: list[int], outs: list[int], kind: str = "", **fields: Any) -> None:
        """Append an operator."""
        self.sub.emit(op, ins, outs, kind, **fields)

    def compose(self, f: Callable[..., Any], inputs: list[Any] | None = None) -> None:
        """The node's outputs as other ops of ours make them: ``f`` gets the inputs and returns the results."""
        values = self.node.inputs if inputs is None else inputs
        b = GraphBuilder(Graph())
        stand = [None if v is None else Value(v.name, v.dtype, v.shape, data=v.data) for v in values]
        with b.tracing():
            got = f(*stand)
        many = list(got) if isinstance(got, (tuple, list)) else [got]
        for inner, v in zip(stand, values, strict=True):
            if inner is not None and v is not None and not inner.is_constant:
                self.sub.own[inner] = self.sub.get(v)
        hint = self.sub.hint
        for r, v in zip(many, self.node.outputs, strict=False):
            if v is not None and v in self.sub.public and r.producer is not None:
                self.sub.public[r] = self.sub.public[v]
        self.sub.nodes(b.graph)
        self.sub.hint = hint
        for v, r in zip(self.node.outputs, many, strict=False):
            if v is not None:
                self.sub.own[v] = self.sub.get(r)


HANDLERS: dict[str, Callable[[Site], None]] = {}


def exports(*names: str) -> Callable[[Any], Any]:
    """Register the decorated function for these ops of ours."""

    def register(f: Callable[[Site], None]) -> Callable[[Site], None]:
        HANDLERS.update(dict.fromkeys(names, f))
        return f

    return register


def handlers() -> dict[str, Callable[[Site], None]]:
    """The handlers by op; imports the files in which they register."""
    from deploykit.converters.exporters.tflite import (  # noqa: F401
        handlers_control,
        handlers_int8,
        handlers_math,
        handlers_nn,
        handlers_shape,
    )

    return HANDLERS


def _widen(graph: Graph) -> bool:
    """Make float constants of what is cast or dequantized from constants, and moved then; returns whether some were half
    precision."""
    half = False
    for g in graph.walk():
        kept = []
        for n in g.nodes:
            if n.op not in ("cast", "dequantize", "transpose", "reshape") or any(
                v is not None and v.data is None for v in n.inputs
            ):
                kept.append(n)
                continue
            arrays = [None if v is None else v.data for v in n.inputs]
            reference = get(n.op).reference
            assert reference is not None
            half |= arrays[0] is not None and arrays[0].dtype == np.float16
            n.output.data, n.output.producer = np.asarray(reference(*arrays, **walk.attrs(n))), None
        g.nodes[:] = kept
    return half


def _packed(raw: np.ndarray, bits: int) -> np.ndarray:
    """Sub-byte elements packed, the first in the low bits."""
    per, mask = 8 // bits, (1 << bits) - 1
    parts = (raw.astype(np.int16) & mask).astype(np.uint8)
    parts = np.concatenate([parts, np.zeros(-len(parts) % per, np.uint8)]).reshape(-1, per)
    return np.bitwise_or.reduce(parts << (np.arange(per, dtype=np.uint8) * bits), axis=1).astype(np.uint8)
