"""ModelProto -> Graph: scan for what is not supported, then walk the nodes in order."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from deploykit.converters.importers.onnx import functions, table
from deploykit.converters.importers.onnx.call import Call, Inline, Skip, find_handler
from deploykit.converters.importers.onnx.reader import Weights, dtype_of, onnx_module, read_model
from deploykit.converters.importers.onnx.scope import MISSING, Body, Optional, Scope, Sequence
from deploykit.converters.ir.build import Problems
from deploykit.converters.ir.text import Text
from deploykit.dtypes import int32
from deploykit.errors import FormatError, GraphError, InputError, ShapeError, UnsupportedError
from deploykit.graph import Dim, Graph, Value
from deploykit.graph.dims import Shape
from deploykit.graph.growth import Visits, check_bytes, check_shape, reading
from deploykit.strings import encode

OLDEST = 7  # oldest opset whose op forms are understood
_DEPTH = 64  # nested functions


def import_onnx(source: Any, *, input_shapes: dict[str, list[int | str]] | None = None) -> Graph:
    """Read an ONNX model into a :class:`Graph`.

    ``source`` is a path, the file's bytes, or a ``ModelProto``.  ``input_shapes`` replaces declared shapes of inputs:
    one int or name per dim.  Inputs and outputs keep their names; dims without a size become symbols.  Weights stay
    in the mapped file (read the graph, or save it, before the file changes).

    Raises FormatError (not a complete ONNX file), UnsupportedError (``problems`` lists every op and feature that is
    not supported, with node names), InputError (``input_shapes`` does not fit), ShapeError (the model contradicts
    itself).

        graph = import_onnx("model.onnx", input_shapes={"x": ["batch", 3, 224, 224]})
    """
    onnx_module()
    with reading(source):
        model, weights = read_model(source)
        model = upgraded(model)
        return Importer(model, weights, input_shapes or {}).run()


def upgraded(model: Any) -> Any:
    """A model of an operator set older than :data:`OLDEST` in the forms of a newer one, as onnx itself converts it; as
    it is where onnx cannot (the scan then names what is too old)."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if version is None or version >= OLDEST or len(model.opset_import) > 1:
        return model
    import onnx

    try:
        new = onnx.version_converter.convert_version(model, 9)
    except Exception:  # its converter raises many kinds, RuntimeError mostly
        return model
    slopes = {n.input[1]: n.input[0] for n in new.graph.node if n.op_type == "PRelu"}
    if slopes:  # one per channel stood along axis 1 then; the converter leaves them along the last
        infos = onnx.shape_inference.infer_shapes(new).graph
        ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in [*infos.value_info, *infos.input]}
        for t in new.graph.initializer:
            if len(t.dims) == 1 and t.dims[0] > 1 and ranks.get(slopes.get(t.name, ""), 0) > 2:
                t.dims.extend([1] * (ranks[slopes[t.name]] - 2))
    return new


class Importer:
    """State of one import: the model, its local functions, the problems met so far."""

    def __init__(self, model: Any, weights: Weights, input_shapes: dict[str, list[int | str]]) -> None:
        self.model = model
        self.weights = weights
        self.input_shapes = input_shapes
        self.opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
        self.functions = {(_domain(f), f.name): f for f in model.functions}
        self.problems = Problems(weights.name)
        self.depth = 0
        self.visits = Visits(weights.name, _count(model.graph) + sum(len(f.node) for f in model.functions))

    def run(self) -> Graph:
        """Import; raises one error with all problems."""
        self._check_versions()
        self._scan(self.model.graph, self.opsets, set())
        g = self.model.graph
        graph = Graph(name="main", metadata=self._metadata())
        body = Body(graph)
        scope = Scope(body, self.opsets)
        self._check_input_shapes(g)
        self.load(scope, g)
        self.walk(scope, g.node)
        for o in g.output:
            if o.name not in scope.env:
                raise FormatError(f"{self.weights.name}: nothing in the graph computes its output '{o.name}'.")
            found = scope.env[o.name]
            leaves = self._leaves(o.name, found)
            if isinstance(found, Sequence):
                graph.metadata.setdefault("sequences", {})[o.name] = len(found.items)
            for name, item in leaves:
                if isinstance(item, Text):
                    body.builder.output(item.codes, name)
                    self._text(graph, "outputs", name)
                elif isinstance(item, Value):
                    if item is found:
                        self._declared_rank(item, o)
                    body.builder.output(item, name)
            if not leaves:
                what = type(found).__name__.lower()
                self.problems.note(
                    UnsupportedError(f"output '{o.name}' is an empty {what}; no tensor stands for it"), o.name
                )
        self.problems.fail()
        return graph

    def _leaves(self, name: str, item: Any) -> list[tuple[str, Any]]:
        """The tensors that an output consists of: those of a sequence are numbered."""
        if isinstance(item, Optional):
            return [] if item.item is None else self._leaves(name, item.item)
        if isinstance(item, Sequence):
            return [leaf for i, x in enumerate(item.items) for leaf in self._leaves(f"{name}_{i}", x)]
        return [(name, item)]

    @staticmethod
    def _text(graph: Graph, side: str, name: str) -> None:
        """Note in the metadata that an input or output is text (see :mod:`deploykit.strings`)."""
        graph.metadata.setdefault("strings", {"inputs": [], "outputs": []})[side].append(name)

    @staticmethod
    def _declared_rank(v: Value, o: Any) -> None:
        """Where inference could not tell the rank of an output (branches of an If may differ), the model's word counts.

        Only the rank: declared sizes are often wrong, and what inference knows is never replaced.
        """
        t = o.type.tensor_type
        if v.shape is None and not v.is_constant and t.HasField("shape"):
            v.shape = tuple(symbol("", o.name, i) for i in range(len(t.shape.dim)))

    # ---- before the walk
    def _check_versions(self) -> None:
        import onnx

        version = self.opsets.get("")
        newest = onnx.defs.onnx_opset_version()
        if version is None:
            if any(_domain(n) == "" for n in self.model.graph.node):
                raise FormatError(
                    f"{self.weights.name} does not say which opset its ops belong to (IR version 1 or 2?)."
                )
            self.opsets[""] = newest
        elif version > newest:
            raise UnsupportedError(
                f"{self.weights.name} uses opset {version}; the installed onnx {onnx.__version__} knows up to "
                f"{newest}. Upgrade it (pip install -U onnx) or export with an older opset."
            )

    def _scan(self, graph: Any, opsets: dict[str, int], seen: set) -> None:
        """Note every op that nothing here can import, also in bodies and functions that the walk may not reach."""
        for node in getattr(graph, "node", graph):
            domain = _domain(node)
            key = (domain, node.op_type)
            for a in node.attribute:
                if a.type == 5:
                    self._scan(a.g, opsets, seen)
            if key in self.functions:
                if key not in seen:
                    seen.add(key)
                    f = self.functions[key]
                    self._scan(f.node, {**opsets, **_imports(f)}, seen)
                continue
            version = opsets.get(domain)
            schema = functions.schema_of(domain, node.op_type, version) if version is not None else None
            since = schema.since_version if schema is not None else version or 1
            if domain == "" and version is not None and version < OLDEST and _too_old(node.op_type, since):
                why = f"its form of opset {version} is not supported; the oldest understood opset is {OLDEST}"
                hint = "Raise it with onnx.version_converter.convert_version(model, 13)"
                self.problems.note(UnsupportedError(f"{why}. {hint}"), _name(node), _full(node))
                continue
            if find_handler(domain, node.op_type, since) or table.find_op(domain, node.op_type, since):
                continue
            if functions.has_body(schema):
                continue
            self.problems.note(UnsupportedError(_why_not(domain, version, schema)), _name(node), _full(node))

    def _metadata(self) -> dict[str, Any]:
        m = self.model
        out: dict[str, Any] = {p.key: p.value for p in m.metadata_props}
        out["source_format"] = "onnx"
        out["source_opset"] = self.opsets.get("", 0)
        if m.producer_name:
            out["source_producer"] = " ".join(filter(None, (m.producer_name, m.producer_version)))
        return out

    def _check_input_shapes(self, g: Any) -> None:
        names = [i.name for i in g.input]
        for name in self.input_shapes:
            if name not in names:
                raise InputError(
                    f"input_shapes: the model has no input '{name}'; it has {', '.join(map(repr, names))}."
                )

    # ---- graphs
    def load(self, scope: Scope, g: Any) -> None:
        """Bring initializers and inputs of the main graph into scope."""
        scope.body.reserve(n for node in g.node for n in node.output)
        initial = {t.name: t for t in g.initializer}
        for i in g.input:
            if i.name in initial or i.name in {s.values.name for s in g.sparse_initializer}:
                continue  # a weight listed among the inputs (IR < 4), or an input with a default
            try:
                scope.env[i.name] = self.declare(scope.body, i, self.input_shapes.get(i.name))
            except UnsupportedError as e:
                self.problems.note(e, i.name, "input")
                scope.env[i.name] = MISSING
        self.initializers(scope, g)

    def initializers(self, scope: Scope, g: Any) -> None:
        """Bring the constants of a graph into scope (dense and sparse)."""
        for t in g.initializer:
            self._initializer(scope, t.name, lambda t=t: self.weights.array(t))
        for s in g.sparse_initializer:
            self._initializer(scope, s.values.name, lambda s=s: self.dense(s))

    def _initializer(self, scope: Scope, name: str, read: Any) -> None:
        try:
            scope.env[name] = self.baked(scope.body, read(), scope.prefix + name)
        except UnsupportedError as e:
            self.problems.note(e, name, "initializer")
            scope.env[name] = MISSING

    @staticmethod
    def baked(body: Body, data: np.ndarray, name: str) -> Any:
        """A constant of numbers or of strings."""
        return Text(body.constant(encode(data), name)) if data.dtype.kind == "O" else body.constant(data, name)

    def dense(self, s: Any) -> np.ndarray:
        """A SparseTensorProto as an array."""
        values, indices = self.weights.array(s.values), self.weights.array(s.indices)
        what = f"{self.weights.name}: sparse tensor '{s.values.name}'"
        size = check_shape(what, s.dims, values.itemsize)
        check_bytes(what, size * values.itemsize, self.weights.size)
        most = np.int64(s.dims) if indices.ndim == 2 else np.int64(size)
        fits = values.ndim == 1 and indices.shape in ((len(values),), (len(values), len(s.dims)))
        if not fits or indices.dtype.kind != "i" or np.any(indices < 0) or np.any(indices >= most):
            raise FormatError(f"{what}: its indices do not fit its {len(values)} values and dims {list(s.dims)}.")
        out = np.zeros(tuple(s.dims), values.dtype)
        if indices.ndim == 1:
            out.reshape(-1)[indices] = values
        else:
            out[tuple(indices.T)] = values
        return out

    def declare(self, body: Body, info: Any, shape: list[int | str] | None = None) -> Value | Text:
        """Make a graph input of a ValueInfoProto; raises UnsupportedError when it is no tensor."""
        t = info.type
        kind = t.WhichOneof("value")
        if kind == "optional_type" and t.optional_type.elem_type.WhichOneof("value") == "tensor_type":
            raise UnsupportedError("an optional tensor cannot be an input of the model; make it a plain tensor")
        if kind != "tensor_type":
            what = (kind or "a value of unknown type").replace("_type", "")
            raise UnsupportedError(f"it is {what}; only tensors can enter a model")
        tensor = t.tensor_type
        text = tensor.elem_type == 8
        dtype = int32 if text else dtype_of(tensor.elem_type, "it")
        dims: Shape | None = None
        if shape is not None:
            if tensor.HasField("shape") and len(tensor.shape.dim) != len(shape):
                raise InputError(
                    f"input_shapes: '{info.name}' has {len(tensor.shape.dim)} dims; got {len(shape)}: {list(shape)}."
                )
            dims = tuple(
                d if isinstance(d, int) and d >= 0 else symbol(str(d), info.name, i) for i, d in enumerate(shape)
            )
        elif tensor.HasField("shape"):
            dims = tuple(_dim(d, info.name, i) for i, d in enumerate(tensor.shape.dim))
        if text:
            if dims is None:
                raise UnsupportedError("it holds strings, and its rank is not known. Give its shape (input_shapes=)")
            self._text(body.graph, "inputs", info.name)
            return Text(body.input(info.name, dtype, (*dims, symbol(f"{info.name}.letters", info.name, len(dims)))))
        return body.input(info.name, dtype, dims)

    # ---- nodes
    def walk(self, scope: Scope, nodes: Any) -> None:
        """Import nodes in order; what fails is noted, and what depends on it skipped."""
        for i, node in enumerate(nodes):
            self.visits.one()
            name = scope.prefix + (_name(node) or f"{node.op_type}_{i}")
            try:
                results = self._node(scope, node, name)
            except KeyError as e:
                raise FormatError(
                    f"{self.weights.name}: node '{name}' ({node.op_type}) reads '{e.args[0]}', which nothing before it "
                    f"defines (nodes out of order, or a cycle)."
                ) from None
            except Skip:
                results = None
            except (UnsupportedError, ShapeError, GraphError, FormatError) as e:
                self.problems.note(e, name, _full(node))
                results = None
            for k, out in enumerate(node.output):
                if not out:
                    continue
                item = MISSING if results is None else results[k] if k < len(results) else None
                if item is None:
                    self.problems.note(UnsupportedError(f"output {k} is not supported"), name, _full(node))
                    item = MISSING
                scope.env[out] = item

    def _node(self, scope: Scope, node: Any, name: str) -> list[Any] | None:
        domain = _domain(node)
        version = scope.opsets.get(domain)
        key = (domain, node.op_type)
        local = self.functions.get(key)
        schema = None
        if local is None and version is not None:
            schema = functions.schema_of(domain, node.op_type, version)
        since = schema.since_version if schema is not None else version or 1
        declared = functions.attributes_of(domain, node.op_type, since) if schema is not None else None
        call = Call(self, scope, node, name, since, declared)
        if any(i is MISSING for i in call.items):
            return None
        before = len(scope.body.graph.nodes)
        results = self._apply(call, local, schema)
        many = list(results) if isinstance(results, (list, tuple)) else [results]
        self._name_results(scope, node, name, many, before)
        return many

    def _apply(self, call: Call, local: Any, schema: Any) -> Any:
        if local is not None:
            return self.inline(call, local)
        handler = find_handler(call.domain, call.op_type, call.since)
        if handler is not None:
            try:
                return handler.run(call)
            except Inline:
                pass
        else:
            p = table.find_op(call.domain, call.op_type, call.since)
            if p is not None:
                return table.apply(call, p, schema)
        if functions.has_body(schema):
            f = functions.standard_body(call, schema)
            if f is not None:
                return self.inline(call, f)
            raise UnsupportedError("the standard gives no meaning to this op for such inputs")
        # noted by the scan already, except in bodies made on the fly
        why = _why_not(call.domain, call.scope.opsets.get(call.domain), schema)
        if not any(p.startswith(f"{_full(call.proto)}: ") for p in self.problems.found):
            raise UnsupportedError(why)
        raise Skip

    def inline(self, call: Call, f: Any) -> list[Any]:
        """Import a function's body in place of the call."""
        if self.depth >= _DEPTH:
            raise UnsupportedError(f"functions are nested deeper than {_DEPTH}; does '{call.op_type}' call itself?")
        scope = Scope(call.body, {**call.scope.opsets, **_imports(f)}, prefix=call.name + "/")
        for k, name in enumerate(f.input):
            scope.env[name] = call.item(k)
        scope.attrs = {a.name: a for a in f.attribute_proto} | call.attr_protos()
        self.depth += 1
        try:
            self.walk(scope, f.node)
        finally:
            self.depth -= 1
        names = f.output[: len(call.outputs)]
        return [scope.lookup(name) if call.wants(k) else None for k, name in enumerate(names)]

    def _name_results(self, scope: Scope, node: Any, name: str, results: list[Any], before: int) -> None:
        fresh = {id(n) for n in scope.body.graph.nodes[before:]}
        for k, (out, item) in enumerate(zip(node.output, results, strict=False)):
            if not out or not isinstance(item, Value):
                continue
            if item.producer is not None and id(item.producer) in fresh:
                scope.body.rename(item, scope.prefix + out)
                if k == 0 and name not in scope.body.node_names:
                    scope.body.node_names.add(name)
                    item.producer.name = name


def _count(g: Any) -> int:
    """Nodes of a graph and of the bodies in it."""
    return len(g.node) + sum(_count(a.g) for n in g.node for a in n.attribute if a.HasField("g"))


def _domain(proto: Any) -> str:
    return "" if proto.domain == "ai.onnx" else proto.domain


def _imports(f: Any) -> dict[str, int]:
    return {_domain(o): o.version for o in f.opset_import}


def _name(node: Any) -> str:
    return node.name or next((o for o in node.output if o), "")


def _full(node: Any) -> str:
    d = _domain(node)
    return f"{d}::{node.op_type}" if d else node.op_type


def _too_old(op_type: str, since: int) -> bool:
    """Whether the op changed between the version ``since`` and the oldest opset that is understood."""
    schema = functions.schema_of("", op_type, OLDEST)
    return schema is None or schema.since_version != since


def _why_not(domain: str, version: int | None, schema: Any) -> str:
    if version is None:
        return (
            f"the model does not import an operator set of domain '{domain}', and holds no function of that name; "
            f"this op cannot be understood"
        )
    if schema is not None:
        return "not supported, and the standard defines it by no simpler ops. Replace it in the source model"
    if domain:
        return (
            f"a custom op of domain '{domain}' that Deploykit does not know. "
            f"Export without it, or give it a meaning as a local function of the model"
        )
    return f"opset {version} has no such op. Check the opset_import of the model"


def symbol(text: str, owner: str, axis: int) -> Dim:
    """A dim symbol for a declared name; unusable names ('', '?', '-1', expressions) give one for that input's axis."""
    clean = re.sub(r"[^A-Za-z0-9_.]", "_", text)
    if not re.search(r"[A-Za-z]", clean) or clean in ("min", "max") or text.startswith("-"):
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", owner) + f"_{axis}"
    return Dim.symbol(clean if not clean[0].isdigit() else "d" + clean)


def _dim(d: Any, owner: str, axis: int) -> int | Dim:
    kind = d.WhichOneof("value")
    if kind == "dim_value" and d.dim_value >= 0:
        return d.dim_value
    return symbol(d.dim_param if kind == "dim_param" else "", owner, axis)


# the handlers register themselves; they come last because some need names from this module
from deploykit.converters.importers.onnx import (  # noqa: E402, F401
    handlers_classify,
    handlers_contrib,
    handlers_contrib_more,
    handlers_control,
    handlers_math,
    handlers_ml,
    handlers_nn,
    handlers_rnn,
    handlers_shape,
    handlers_text,
    handlers_training,
)
