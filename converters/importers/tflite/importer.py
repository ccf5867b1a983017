"""Decoded TFLite model -> Graph: names and shapes of tensors, then the operators in order."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import (
    HANDLERS,
    MISSING,
    Call,
    Complex,
    Handle,
    Item,
    Table,
    quantized,
)
from deploykit.converters.importers.tflite.flat import Row
from deploykit.converters.importers.tflite.metadata import describe
from deploykit.converters.importers.tflite.reader import Source, read_model
from deploykit.converters.ir.build import Body, Problems
from deploykit.converters.ir.text import Text
from deploykit.dtypes import DType, int32
from deploykit.errors import FormatError, GraphError, InputError, ShapeError, UnsupportedError
from deploykit.graph import Dim, Graph, QuantParams, Value
from deploykit.graph.dims import Shape
from deploykit.graph.growth import Visits, check_bytes, check_shape, reading
from deploykit.graph.ir import Variable
from deploykit.strings import encode

_DEPTH = 64  # nested subgraphs


def import_tflite(source: Any, *, input_shapes: dict[str, list[int | str]] | None = None) -> Graph:
    """Read a ``.tflite`` model into a :class:`Graph`; TensorFlow is not needed.

    ``source`` is a path or the file's bytes.  ``input_shapes`` replaces declared shapes of inputs: one int or name per
    dim.  Inputs and outputs have the names and the order of the file's first subgraph (those that LiteRT's
    ``get_input_details`` shows); ``metadata["signatures"]`` maps the names of its signatures onto them, and signatures
    of other subgraphs become signatures of the Graph.  Quantized tensors stay integers with ``dequantize`` and
    ``quantize`` around what computes.

    Raises FormatError (not a whole TFLite file), UnsupportedError (``problems`` lists every operator that is not
    supported, with the tensors they make), InputError (``input_shapes`` does not fit), ShapeError.

        graph = import_tflite("model.tflite", input_shapes={"x": ["batch", 224, 224, 3]})
    """
    with reading(source):
        return Importer(read_model(source), input_shapes or {}).run()


class Scope:
    """Tensor numbers of one subgraph -> items, inside a body (calls are inlined: several scopes may share a body)."""

    def __init__(self, importer: Importer, body: Body, index: int) -> None:
        subgraphs = importer.source.model.subgraphs
        if not 0 <= index < len(subgraphs):
            raise FormatError(f"{importer.source.name}: there is no subgraph {index}; the file has {len(subgraphs)}.")
        self.importer = importer
        self.body = body
        self.row: Row = subgraphs[index]
        self.index = index
        self.env: dict[int, Item] = {}

    def tensor(self, i: int) -> Row:
        """The declaration of a tensor."""
        if not 0 <= i < len(self.row.tensors):
            raise FormatError(
                f"{self.importer.source.name}: an operator refers to tensor {i}; subgraph {self.index} has "
                f"{len(self.row.tensors)}."
            )
        return self.row.tensors[i]

    def name(self, i: int) -> str:
        """A tensor's name."""
        return self.tensor(i).name or f"tensor_{i}"

    def lookup(self, i: int) -> Item:
        """What a tensor holds; constants come into being here."""
        if i not in self.env:
            t = self.tensor(i)
            if t.is_variable:
                self.env[i] = self.importer.state(self, i)
            elif self.importer.is_constant(t) and self.importer.source.is_text(t):
                codes = encode(self.importer.source.strings(t))
                self.env[i] = Text(self.body.constant(codes, self.name(i)))
            elif self.importer.is_constant(t):
                self.env[i] = self.body.constant(self.importer.data(t), self.name(i))
            else:
                raise FormatError(
                    f"{self.importer.source.name}: tensor '{self.name(i)}' is read before anything writes it "
                    "(operators out of order, or a damaged file)."
                )
        return self.env[i]


class Importer:
    """State of one import."""

    def __init__(self, source: Source, input_shapes: dict[str, list[int | str]]) -> None:
        self.source = source
        self.input_shapes = input_shapes
        self.problems = Problems(source.name)
        self.graph = Graph(name="main")
        self.depth = 0
        self.visits = Visits(source.name, sum(len(g.operators) for g in source.model.subgraphs))
        self.initialising = False  # inside CALL_ONCE
        self.states: dict[str, str] = {}
        self.variables: dict[str, Variable] = {}
        self.tables: dict[int, Table] = {}
        self._data: dict[int, np.ndarray] = {}
        self._quant: dict[int, QuantParams | None] = {}

    def run(self) -> Graph:
        """Import; raises one error with all problems."""
        self._scan()
        self.graph.metadata = describe(self.source)
        names = [t.name for t in self._inputs(0)]
        for name in self.input_shapes:
            if name not in names:
                raise InputError(
                    f"input_shapes: the model has no input '{name}'; it has {', '.join(map(repr, names))}."
                )
        self.entry(self.graph, 0, None)
        for s in self.source.model.signature_defs or []:
            if s.subgraph_index == 0:
                continue
            g = Graph(name=s.signature_key or f"signature_{s.subgraph_index}")
            self.entry(g, s.subgraph_index, s)
            self.graph.signatures[g.name] = g
        self.problems.fail()
        return self.graph

    def _inputs(self, index: int) -> list[Row]:
        g = self.source.model.subgraphs[index]
        return [g.tensors[int(i)] for i in ([] if g.inputs is None else g.inputs) if 0 <= i < len(g.tensors)]

    def _scan(self) -> None:
        """Note every operator that nothing here can import."""
        for g in self.source.model.subgraphs:
            for i, o in enumerate(g.operators):
                op, _ = self.source.op_name(o.opcode_index)
                if op not in HANDLERS:
                    outs = [int(t) for t in (o.outputs if o.outputs is not None else ())]
                    name = g.tensors[outs[0]].name if outs and 0 <= outs[0] < len(g.tensors) else f"operator {i}"
                    self.problems.note(UnsupportedError(_why_not(op)), name, op)

    def entry(self, graph: Graph, index: int, signature: Row | None) -> None:
        """Import a subgraph as an entry point with its inputs and outputs."""
        body = Body(graph)
        body.builder.graph.variables = self.graph.variables  # one list for all entry points
        scope = Scope(self, body, index)
        row = scope.row
        ins = [int(i) for i in (row.inputs if row.inputs is not None else ())]
        outs = [int(i) for i in (row.outputs if row.outputs is not None else ())]
        names = {i: scope.name(i) for i in ins}
        out_names = [scope.name(i) for i in outs]
        if signature is not None:
            names |= {int(m.tensor_index): m.name for m in signature.inputs or []}
            known = {int(m.tensor_index): m.name for m in signature.outputs or []}
            out_names = [known.get(i, n) for i, n in zip(outs, out_names, strict=True)]
        written = {int(t) for o in row.operators if o.outputs is not None for t in o.outputs if t >= 0}
        body.reserve(scope.name(t) for t in sorted(written) if t < len(row.tensors))
        taken: set[str] = set()
        for i in ins:
            name, t = unique(names[i], taken), scope.tensor(i)
            try:
                if self.source.is_text(t):
                    shape = (*(self.shape(t, name) or ()), _symbol(f"{name}.letters", name, 0))
                    scope.env[i] = Text(body.input(name, int32, shape))
                    _note_text(graph, "inputs", name)
                    continue
                scope.env[i] = body.input(name, self.source.dtype(t), self.shape(t, name))
                scope.env[i].quant = self.quant(t)
            except UnsupportedError as e:
                self.problems.note(e, name, "input")
                scope.env[i] = MISSING
        self.walk(scope)
        if graph is not self.graph:
            graph.variables = []
        taken = set()
        for i, name in zip(outs, out_names, strict=True):
            item = scope.lookup(i)
            if isinstance(item, (Complex, Handle, Table)):
                why = "only tensors of real numbers or of strings can leave a model"
                self.problems.note(UnsupportedError(why), name, "output")
            elif isinstance(item, Text):
                name = unique(name, taken)
                body.builder.output(item.codes, name)
                _note_text(graph, "outputs", name)
            elif item is not MISSING:
                body.builder.output(item, unique(name, taken))
                item.quant = self.quant(scope.tensor(i))

    def shape(self, t: Row, name: str) -> Shape | None:
        """The shape of an input: as the user wants it, else as declared, with symbols for what the signature leaves open."""
        fixed = [int(d) for d in (t.shape if t.shape is not None else ())]
        open_ = [int(d) for d in t.shape_signature] if t.shape_signature is not None else fixed
        if len(open_) != len(fixed):
            open_ = fixed
        want = self.input_shapes.get(name)
        if want is not None:
            if len(want) != len(fixed):
                raise InputError(f"input_shapes: '{name}' has {len(fixed)} dims; got {len(want)}: {list(want)}.")
            return tuple(d if isinstance(d, int) and d >= 0 else _symbol(str(d), name, i) for i, d in enumerate(want))
        return tuple(d if d >= 0 else _symbol("", name, i) for i, d in enumerate(open_))

    # ---- tensors
    def is_constant(self, t: Row) -> bool:
        """Whether the file holds the tensor's data."""
        if t.sparsity is not None or t.buffer and self.source.buffer(t.buffer).size:
            return True
        return t.shape is not None and t.shape.size > 0 and not np.all(t.shape)  # nothing to hold

    def data(self, t: Row) -> np.ndarray:
        """The constant data of a tensor (tensors that share it share the array)."""
        key = id(t)
        if key not in self._data:
            from deploykit.converters.importers.tflite.sparse import dense

            self._data[key] = self.source.array(t) if t.sparsity is None else dense(self.source, t)
        return self._data[key]

    def quant(self, t: Row) -> QuantParams | None:
        """Quantization parameters of an integer tensor; None when its numbers stand for themselves."""
        key = id(t)
        if key not in self._quant:
            self._quant[key] = self._read_quant(t)
        return self._quant[key]

    def _read_quant(self, t: Row) -> QuantParams | None:
        q = t.quantization
        if q is None or self.source.dtype(t).kind not in "iu":
            return None
        if q.details is not None or q.details_type:
            kind = q.details.kind if q.details is not None else f"kind {q.details_type}"
            if kind == "BlockwiseQuantization":
                raise UnsupportedError(f"tensor '{t.name}' is quantized block by block")
            raise UnsupportedError(f"tensor '{t.name}' has quantization details of {kind}")
        if q.scale is None or not q.scale.size:
            return None
        dtype = self.source.dtype(t)
        n = q.scale.size
        zero = np.zeros(n, np.int64) if q.zero_point is None or not q.zero_point.size else q.zero_point
        if zero.size == 1 and n > 1:
            zero = np.repeat(zero, n)
        shape = [] if t.shape is None else t.shape
        axis = int(q.quantized_dimension)
        if zero.size != n or (n > 1 and not (0 <= axis < len(shape) and shape[axis] == n)):
            raise FormatError(f"{self.source.name}: the quantization of tensor '{t.name}' does not fit its shape.")
        info = np.iinfo(dtype.np) if dtype.bits >= 8 else None
        if info is not None and zero.size and (zero.min() < info.min or zero.max() > info.max):
            raise FormatError(f"{self.source.name}: a zero point of tensor '{t.name}' is outside of {dtype}.")
        if not np.all(np.isfinite(q.scale)) or np.any(q.scale < 0):
            raise FormatError(f"{self.source.name}: a scale of tensor '{t.name}' is not a positive number.")
        scale = np.asarray(q.scale, np.float32)
        if n == 1:
            return QuantParams(scale.reshape(()).copy(), zero.astype(dtype.np).reshape(()))
        return QuantParams(scale, zero.astype(dtype.np), axis)

    # ---- variables
    def declare(self, name: str, initial: np.ndarray) -> None:
        """Declare a variable, or give a declared one its first value."""
        found = self.variables.get(name)
        if found is None:
            self.variables[name] = Variable(name, initial)
            self.graph.variables.append(self.variables[name])
        else:
            found.initial = initial

    def state(self, scope: Scope, i: int) -> Handle:
        """A variable tensor (state that an op keeps between runs) as a variable; it starts at zero."""
        t = scope.tensor(i)
        name = scope.name(i)
        if name not in self.states:
            self.states[name] = name
            q, dtype = self.quant(t), self.source.dtype(t)
            if t.shape is None:
                raise FormatError(f"state '{name}' has no shape")
            size = check_shape(name, [int(d) for d in t.shape], dtype.itemsize) * dtype.itemsize
            check_bytes(f"state '{name}'", size, len(self.source.data))
            zero = 0 if q is None or q.zero_point.ndim else q.zero_point
            self.declare(name, np.full(tuple(int(d) for d in t.shape), zero, self.source.dtype(t).np))
        return Handle(name)

    # ---- operators
    def walk(self, scope: Scope) -> None:
        """Import a subgraph's operators in order; what fails is noted, and what depends on it skipped."""
        for k, proto in enumerate(scope.row.operators):
            self.visits.one()
            op, version = self.source.op_name(proto.opcode_index)
            outs = [int(t) for t in (proto.outputs if proto.outputs is not None else ())]
            name = scope.name(outs[0]) if outs and outs[0] >= 0 else f"{op}_{k}"
            call = Call(self, scope.body, scope, proto, op, version, name)
            before = len(scope.body.graph.nodes)
            try:
                results = self._apply(call)
            except (UnsupportedError, ShapeError, GraphError, FormatError) as e:
                self.problems.note(e, name, op)
                results = None
            for i, t in enumerate(outs):
                if t < 0:
                    continue
                item = MISSING if results is None else results[i] if i < len(results) else None
                if item is None:
                    self.problems.note(UnsupportedError(f"output {i} is not supported"), name, op)
                    item = MISSING
                scope.env[t] = item
                named = item.codes if isinstance(item, Text) else item
                if isinstance(named, Value):
                    self._name(scope, named, t, before, name if i == 0 else "")

    def _apply(self, call: Call) -> list[Item] | None:
        handler = HANDLERS.get(call.op_type)
        items = [call.item(i) for i in range(call.n)]
        if handler is None or any(i is MISSING for i in items):
            return None
        if items and isinstance(items[0], Text) and call.op_type in handlers_text.MOVING:
            got = handlers_text.moved(call, handler)
        elif items and isinstance(items[0], Text) and call.op_type in ("EQUAL", "NOT_EQUAL"):
            got = handlers_text.compared(call)
        else:
            got = handler(call)
        many = list(got) if isinstance(got, (list, tuple)) else [got]
        return [self._fit(call, i, v) for i, v in enumerate(many)]

    def _fit(self, call: Call, i: int, v: Item) -> Item:
        """A result in the dtype that the file declares for it: quantized, or another width of integer."""
        if not isinstance(v, Value) or i >= len(call.outputs) or call.outputs[i] < 0:
            return v
        t = call.out_tensor(i)
        dtype = self.source.dtype(t)
        if v.dtype is dtype:
            return v
        assert v.dtype is not None
        q = self.quant(t)
        if q is not None and v.dtype.kind == "f":
            return quantized(call, v, q, dtype.name)
        if {v.dtype.kind, dtype.kind} <= {"i", "u"} and q is None or v.dtype.kind == dtype.kind == "f":
            return call.cast(v, dtype)
        raise FormatError(f"the result is {v.dtype}, but tensor '{t.name}' is declared as {dtype}")

    def _name(self, scope: Scope, v: Value, t: int, before: int, node: str) -> None:
        """Give a fresh value its source name, and its node too."""
        fresh = scope.body.graph.nodes[before:]
        if v.producer is None or not any(n is v.producer for n in fresh):
            return
        scope.body.rename(v, scope.name(t))
        if node and node not in scope.body.node_names:
            scope.body.node_names.add(node)
            v.producer.name = node

    # ---- subgraphs inside
    def inline(self, body: Body, index: int, items: list[Item]) -> list[Item]:
        """The results of a subgraph for these inputs, its operators emitted into ``body``."""
        if self.depth >= _DEPTH:
            raise UnsupportedError(f"subgraphs call each other deeper than {_DEPTH}")
        scope = Scope(self, body, index)
        ins = [int(i) for i in (scope.row.inputs if scope.row.inputs is not None else ())]
        if len(ins) != len(items):
            raise FormatError(f"subgraph {index} takes {len(ins)} inputs; got {len(items)}")
        scope.env = dict(zip(ins, items, strict=True))
        self.depth += 1
        try:
            self.walk(scope)
        finally:
            self.depth -= 1
        return [scope.lookup(int(i)) for i in (scope.row.outputs if scope.row.outputs is not None else ())]


def _note_text(graph: Graph, side: str, name: str) -> None:
    """Note in the metadata that an input or output is text (see :mod:`deploykit.strings`)."""
    graph.metadata.setdefault("strings", {"inputs": [], "outputs": []})[side].append(name)


def unique(name: str, taken: set[str]) -> str:
    """The name, numbered when an earlier one is equal."""
    out, i = name, 1
    while out in taken:
        i += 1
        out = f"{name}_{i}"
    taken.add(out)
    return out


def _symbol(text: str, owner: str, axis: int) -> Dim:
    clean = re.sub(r"[^A-Za-z0-9_.]", "_", text)
    if not re.search(r"[A-Za-z]", clean) or clean in ("min", "max") or text.startswith("-"):
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", owner) + f"_{axis}"
    return Dim.symbol(clean if not clean[0].isdigit() else "d" + clean)


def _why_not(op: str) -> str:
    if op.startswith("CUSTOM:Flex"):
        return (
            f"'{op[11:]}' is an op of TensorFlow's own runtime (Flex). Convert the source model with builtin ops only, "
            "or rewrite this part of it"
        )
    if op.startswith("CUSTOM:"):
        return f"a custom op '{op[7:]}' that Deploykit does not know. Convert the source model without it"
    return "not supported. Replace it in the source model"


def dtype_of(v: Value) -> DType:
    """The dtype of a value, which importers always know."""
    assert v.dtype is not None
    return v.dtype


# the handlers register themselves; they come last because some need names from this module
from deploykit.converters.importers.tflite import (  # noqa: E402, F401
    handlers_bits,
    handlers_control,
    handlers_custom,
    handlers_index,
    handlers_math,
    handlers_nn,
    handlers_quant,
    handlers_rnn,
    handlers_shape,
    handlers_stablehlo,
    handlers_text,
)
