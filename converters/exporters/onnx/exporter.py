"""Graph -> ModelProto."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.onnx.writer import Names, Writer, element_type, value_info
from deploykit.dtypes import DType
from deploykit.errors import UnsupportedError
from deploykit.graph import Graph, Node, Value
from deploykit.ops.core import REGISTRY, Op, get

OPSET = 25  # the newest operator set whose ops onnxruntime 1.32 has kernels for
_RENAMED = {"allow_zero": "allowzero", "select_last": "select_last_index"}  # our attr -> ONNX attribute


def export_onnx(graph: Graph, *, opset: int = OPSET) -> Any:
    """Write a Graph as an ``onnx.ModelProto``.

    ``opset``: version of the operator set, 21 to the newest of the installed onnx.  Names of inputs and outputs stay.
    Variables become inputs and outputs (``NAME`` and ``NAME.next``), because ONNX has no state.  Further signatures are
    not written.

    Raises UnsupportedError with every op that ONNX cannot express.  Weights are copied into the protobuf; models over
    2 GB cannot be written.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> g = b.output(b.op("relu", b.input("x", "float32", (2, 3))), "y")
    >>> [n.op_type for n in export_onnx(g).graph.node]
    ['Relu']
    """
    import onnx
    from onnx import helper

    if not 21 <= opset <= onnx.defs.onnx_opset_version():
        raise UnsupportedError(f"opset: got {opset}, expected 21 to {onnx.defs.onnx_opset_version()}.")
    model, large = Exporter(opset).model(graph, helper)
    for t in model.graph.initializer:
        if t.name in large:
            t.raw_data = large[t.name].tobytes()
    return model


def onnx_pieces(graph: Graph) -> list[Any]:
    """The bytes of the file in pieces; large weights among them are not copied.

    A message of protocol buffers is its fields one after another, in any order (protobuf.dev, Encoding): so weights are
    put behind the rest of the graph by hand.  Raises UnsupportedError over 2 GB, the most that such a message may have.
    """
    from onnx import helper

    model, large = Exporter(OPSET).model(graph, helper)
    tensors = [t for t in model.graph.initializer if t.name in large]
    others = [t for t in model.graph.initializer if t.name not in large]
    del model.graph.initializer[:]
    model.graph.initializer.extend(others)
    body: list[Any] = [model.graph.SerializeToString(deterministic=True)]
    for t in tensors:
        data = large[t.name].reshape(-1).view(np.uint8)
        head = t.SerializeToString(deterministic=True) + _length(9, len(data))  # TensorProto.raw_data
        body += [_length(5, len(head) + len(data)) + head, data]  # GraphProto.initializer
    model.ClearField("graph")
    size = sum(map(len, body))
    if size >= 1 << 31:
        raise UnsupportedError(f"{size / 1e9:.1f} GB of weights; a file of ONNX holds 2 GB. Write .dk, or quantize.")
    return [model.SerializeToString(deterministic=True) + _length(7, size), *body]  # ModelProto.graph


def _length(field: int, size: int) -> bytes:
    """What stands before a field of so many bytes."""
    out = bytearray([field << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


class Exporter:
    """State of one export."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.names = Names()
        self.problems: dict[str, list[str]] = defaultdict(list)
        self.domains: set[str] = set()  # of ops that are not ONNX' own
        self.variables: dict[str, str] = {}  # variable -> name of the tensor that holds it now

    def model(self, graph: Graph, helper: Any) -> Any:
        """The whole model, and the data that its large weights lack."""
        self._check(graph)
        w = Writer(self.names, self.opset)
        w.large = {}
        inputs, outputs = [], []
        self.names.taken |= {v.name for v in graph.inputs} | set(graph.public_outputs)
        for v in graph.inputs:
            w.own[v] = v.name
            inputs.append(value_info(v.name, v))
        for var in graph.variables:
            v = Value(var.name, data=np.asarray(var.initial))
            name = self.names.new(var.name)
            self.variables[var.name] = name
            inputs.append(helper.make_tensor_value_info(name, element_type(v.dtype), v.data.shape))  # type: ignore
        for v, name in zip(graph.outputs, graph.public_outputs, strict=True):
            if v.producer is not None and v not in w.own:
                w.public.setdefault(v, name)
        self.body(graph, w)
        for v, name in zip(graph.outputs, graph.public_outputs, strict=True):
            have = w.get(v)
            assert v.dtype is not None
            if have != name:
                w.node("Identity", have, outputs=[name])
            outputs.append(value_info(name, v))
        for var in graph.variables:
            v = Value(var.name, data=np.asarray(var.initial))
            name = self.names.new(f"{var.name}.next")
            w.node("Identity", self.variables[var.name], outputs=[name])
            outputs.append(helper.make_tensor_value_info(name, element_type(v.dtype), v.data.shape))  # type: ignore
        g = helper.make_graph(w.nodes, graph.name or "main", inputs, outputs, w.initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(g, opset_imports=opsets, producer_name="deploykit")
        model.ir_version = helper.find_min_ir_version_for(opsets)
        model.opset_import.extend(helper.make_opsetid(d, 1) for d in sorted(self.domains))
        for key, value in graph.metadata.items():
            if isinstance(value, str) and not key.startswith("source"):
                model.metadata_props.add(key=key, value=value)
        return model, w.large

    def _check(self, graph: Graph) -> None:
        for g in graph.walk():
            for n in g.nodes:
                if n.op not in _handlers() and "onnx" not in get(n.op).names and get(n.op).decompose is None:
                    self.problems[f"{n.op}: ONNX has no such op"].append(n.name or n.op)
        for v, name in zip(graph.outputs, graph.public_outputs, strict=True):
            if v.shape is None:  # ONNX demands it
                what = "an output's number of dims is not known; give the shapes of the inputs (--input-shape)"
                self.problems[what].append(name)
        self._fail()

    def _fail(self) -> None:
        if self.problems:
            lines = []
            for what, nodes in self.problems.items():
                shown = ", ".join(f"'{n}'" for n in nodes[:3]) + (", …" if len(nodes) > 3 else "")
                lines.append(f"{what} ({len(nodes)} place{'s' * (len(nodes) > 1)}: {shown})")
            text = "\n  ".join([f"cannot be written as ONNX; {len(lines)} problem{'s' * (len(lines) > 1)}:", *lines])
            raise UnsupportedError(text, problems=lines)

    def body(self, graph: Graph, w: Writer) -> None:
        """Write the nodes of a graph whose inputs have their names already."""
        for node in graph.nodes:
            self.node(node, w)
        self._fail()

    def node(self, node: Node, w: Writer) -> None:
        """Write one node."""
        p = get(node.op)
        attrs = p.complete(node.attrs)
        v = node.outputs[0] if node.outputs else None
        w.hint = (v.name if v is not None else node.name) or node.op
        handler = _handlers().get(node.op)
        try:
            if handler is not None:
                handler(Site(self, w, node, attrs))
            elif "onnx" in p.names:
                one_to_one(Site(self, w, node, attrs), p)
            else:
                decomposed(Site(self, w, node, attrs), p.decompose)
        except UnsupportedError as e:
            self.problems[f"{node.op}: {e.message.rstrip('.')}"].append(node.name or node.op)
            for out in node.outputs:
                if out is not None:
                    w.own[out] = self.names.new(w.hint)


class Site:
    """What a handler sees of one node of ours."""

    def __init__(self, exporter: Exporter, w: Writer, node: Node, attrs: dict[str, Any]) -> None:
        self.exporter = exporter
        self.w = w
        self.node = node
        self.attrs = attrs

    def value(self, i: int) -> Value | None:
        """Input ``i`` of the node, None when absent."""
        return self.node.inputs[i] if i < len(self.node.inputs) else None

    def x(self, i: int = 0) -> Value:
        """Input ``i``, which must be there."""
        v = self.value(i)
        assert v is not None
        return v

    def get(self, i: int) -> str | None:
        """Name of input ``i`` in its own layout, None when absent."""
        return self.w.get(self.value(i))

    def first(self, i: int) -> str | None:
        """Name of input ``i``, channels first."""
        return self.w.first(self.value(i))

    def data(self, i: int) -> np.ndarray | None:
        """Data of input ``i`` when it is a constant."""
        v = self.value(i)
        return None if v is None else v.data

    @property
    def y(self) -> Value:
        """The first output."""
        return self.node.output

    def out(self, name: str) -> None:
        """The first output is at hand under this name."""
        self.w.set(self.node.outputs[0], name)

    def out_first(self, name: str) -> None:
        """The first output is at hand channels first under this name."""
        self.w.set_first(self.node.outputs[0], name)

    def outs(self, names: list[str]) -> None:
        """All outputs, in their own layout."""
        for v, name in zip(self.node.outputs, names, strict=False):
            self.w.set(v, name)


def _handlers() -> dict[str, Any]:
    from deploykit.converters.exporters.onnx import control, handlers, sequence, shapes  # noqa: F401  they register
    from deploykit.converters.exporters.onnx.registry import HANDLERS

    return HANDLERS


# operands that ONNX wants as int64 where we accept int32 too
_INT64 = {
    "reshape": (1,), "expand": (1,), "tile": (1,), "reverse_sequence": (1,), "trilu": (1,),
    "gather_nd": (1,), "scatter_nd": (1,), "col2im": (1, 2), "tensor_scatter": (2,),
}  # fmt: skip


def one_to_one(s: Site, p: Op) -> None:
    """An op that is ONNX's under another name; elementwise ones keep the layout at hand."""
    onnx_attrs: dict[str, Any] = {}
    for k, v in s.attrs.items():
        if v not in ((), ""):  # not given; ONNX leaves such attributes out
            plain = int(v) if isinstance(v, bool) else list(v) if isinstance(v, tuple) else v
            onnx_attrs[_RENAMED.get(k, k)] = plain
    elementwise(s, p.names["onnx"], onnx_attrs, _INT64.get(p.name, ()))


def elementwise(s: Site, op_type: str, attrs: dict[str, Any], as_int64: tuple[int, ...] = ()) -> None:
    """Write a node; when its op is elementwise, in the layout in which its inputs are at hand."""
    w = s.w
    if keeps_layout(s) and any(v is not None and w.only_first(v) for v in s.node.inputs):
        names = first_operands(s)
        if names is not None:
            s.out_first(typed(s, op_type, names, **attrs)[0])
            return
    names = [w.get(v) for v in s.node.inputs]
    for i in as_int64:
        v = s.value(i)
        if v is not None and v.dtype is not dtypes.int64:
            names[i] = w.node("Cast", names[i], to=element_type(dtypes.int64))
    s.outs(typed(s, op_type, names, **attrs))


def typed(s: Site, op_type: str, names: list[str | None], **attrs: Any) -> list[str]:
    """Append a node for our node's outputs; where ONNX does not allow the dtype, compute in a wider one.

    Low bits of integer results are the same in a wider type, so wrapping survives the way back.
    """
    w, x = s.w, s.value(0)
    wide = None if x is None or x.dtype is None else carrier(op_type, w.opset, x.dtype)
    if wide is not None:
        assert x is not None
        pairs = zip(names, s.node.inputs, strict=True)
        names = [
            w.node("Cast", n, to=element_type(wide)) if n and v is not None and v.dtype is x.dtype else n
            for n, v in pairs
        ]
    n = len(s.node.outputs)
    got = [w.node(op_type, *names, **attrs)] if n == 1 else w.node(op_type, *names, outputs=n, **attrs)
    if wide is not None:
        assert x is not None and x.dtype is not None
        back = element_type(x.dtype)
        pairs = zip(got, s.node.outputs, strict=True)
        got = [w.node("Cast", g, to=back) if v is not None and v.dtype is x.dtype else g for g, v in pairs]
    return got


def carrier(op_type: str, opset: int, dtype: DType) -> DType | None:
    """None when the op takes this dtype as input 0, else the dtype to compute in; raises UnsupportedError."""
    import onnx

    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        first = onnx.defs.get_schema(op_type).since_version
        raise UnsupportedError(f"ONNX {op_type} exists from opset {first}; the target is {opset}") from None
    declared = schema.inputs[0].type_str
    constraint = next((c for c in schema.type_constraints if c.type_param_str == declared), None)
    allowed = {declared} if constraint is None else set(constraint.allowed_type_strs)
    if f"tensor({_type_name(dtype)})" in allowed:
        return None
    signed = (dtypes.int32, dtypes.int64, dtypes.float32)
    order = {"f": (dtypes.float32,), "i": signed, "b": (dtypes.uint8, dtypes.int32)}
    for wide in order.get(dtype.kind, (dtypes.uint32, dtypes.int64, dtypes.float32)):
        fits = wide.bits >= dtype.bits or dtype is dtypes.float64
        if fits and f"tensor({_type_name(wide)})" in allowed:
            return wide
    raise UnsupportedError(f"ONNX {op_type} does not take {dtype}")


def _type_name(dtype: DType) -> str:
    return {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


def keeps_layout(s: Site) -> bool:
    """Whether the op computes element by element, broadcasting as NumPy does."""
    p = REGISTRY[s.node.op]
    one = p.family in ("elementwise", "unary", "convert") or (p.family == "activation" and p.name not in _ALONG_AXIS)
    return one and s.y.shape is not None and len(s.y.shape) >= 3


_ALONG_AXIS = frozenset({"softmax", "log_softmax"})


def first_operands(s: Site) -> list[str | None] | None:
    """Names of the inputs for computing channels first; None when one of them cannot be brought there cheaply."""
    w = s.w
    rank = len(s.y.shape or ())
    out: list[str | None] = []
    for v in s.node.inputs:
        if v is None:
            out.append(None)
        elif v.shape is None:
            return None
        elif len(v.shape) == rank:
            out.append(w.first(v))
        elif all(d == 1 for d in v.shape):
            out.append(w.get(v))  # one number broadcasts alike in every layout
        elif v.is_constant:
            assert v.data is not None
            wide = v.data.reshape((1,) * (rank - v.data.ndim) + v.data.shape)
            out.append(w.const(wide.transpose([0, rank - 1, *range(1, rank - 1)]), hint=v.name))
        else:
            return None
    return out


def decomposed(s: Site, decompose: Callable[..., Any] | None) -> None:
    """An op that its passport takes apart, or another function in its place."""
    from deploykit.ops import GraphBuilder

    b = GraphBuilder(Graph())
    stand_ins = [None if v is None else Value(v.name, v.dtype, v.shape, data=v.data) for v in s.node.inputs]
    assert decompose is not None
    with b.tracing():
        got = decompose(*stand_ins, **s.attrs)
    results = list(got) if isinstance(got, (tuple, list)) else [got]
    for inner, v in zip(stand_ins, s.node.inputs, strict=True):
        if inner is not None and v is not None and not inner.is_constant:
            s.w.own[inner] = s.w.get(v)  # type: ignore[assignment]
    hint = s.w.hint
    s.exporter.body(b.graph, s.w)
    s.w.hint = hint
    for v, r in zip(s.node.outputs, results, strict=False):
        if v is not None:
            s.w.set(v, s.w.get(r))  # type: ignore[arg-type]
