"""ExportedProgram -> Graph."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.pytorch.call import Call, Complex, dtype_of, find
from deploykit.converters.importers.pytorch.reader import read_program, torch_module
from deploykit.converters.ir.build import Body, Problems
from deploykit.errors import FormatError, GraphError, InputError, ShapeError, UnsupportedError
from deploykit.graph import Dim, Graph, Value
from deploykit.graph.growth import reading
from deploykit.graph.ir import Variable


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


def import_pytorch(source: Any, *, input_shapes: dict[str, list[int | str]] | None = None) -> Graph:
    """Import a ``torch.export.ExportedProgram``, or a ``.pt2`` file that holds one.

    Inputs have the names of ``forward``'s arguments (``args_0`` where they are nested: ``cache_0_1``), outputs those of
    the keys of the dict that it returns, else ``output`` or ``output_0``, ``output_1`` ...  Dims that were exported as
    dynamic stay symbols.  Buffers that ``forward`` writes become variables.  ``input_shapes`` can fix symbols:
    ``{"x": [1, 3, 224, 224]}``.

    Raises UnsupportedError (``problems`` lists every op that is not supported), FormatError, InputError.

        graph = import_pytorch(torch.export.export(model.eval(), (torch.rand(1, 3, 224, 224),)))
    """
    with reading(source):
        return Importer(read_program(source), input_shapes or {}).run()


class Importer:
    """State of one import."""

    def __init__(self, program: Any, input_shapes: dict[str, list[int | str]]) -> None:
        self.program = program
        self.input_shapes = input_shapes
        self.problems = Problems("the exported program")
        self.graph = Graph(name="main")
        self.body = Body(self.graph)
        self.env: dict[str, Any] = {}
        self.symbols: dict[str, Any] = {}  # torch's symbol -> our dim

    def run(self) -> Graph:
        """Import; raises one error with all problems."""
        torch = torch_module()
        p = self.program
        self._scan()
        spec = p.graph_signature
        kinds = {s.arg.name: s for s in spec.input_specs}
        written = {s.target for s in spec.output_specs if s.kind.name in ("BUFFER_MUTATION", "PARAMETER_MUTATION")}
        self._inputs(p, kinds, written)
        nodes = [n for n in p.graph_module.graph.nodes if n.op not in ("placeholder", "output")]
        self.body.reserve(n.name for n in nodes)
        for n in nodes:
            self._node(n)
        (last,) = (n for n in p.graph_module.graph.nodes if n.op == "output")
        self._outputs(last, spec)
        self.graph.metadata = {"source_format": "pytorch", "source_producer": f"torch {torch.__version__}"}
        self.problems.fail()
        return self.graph

    def _scan(self) -> None:
        for n in self.program.graph_module.graph.nodes:
            if n.op == "call_function" and not self._known(n):
                self.problems.note(UnsupportedError(_why_not(str(n.target))), n.name, str(n.target))

    @staticmethod
    def _known(n: Any) -> bool:
        return (
            n.target in _PYTHON
            or str(n.target) in _HIGHER
            or (str(n.target).startswith("aten.") and find(str(n.target)) is not None)
        )

    # ---- inputs
    def _inputs(self, p: Any, kinds: dict[str, Any], written: set[str]) -> None:
        user = []
        for n in p.graph_module.graph.nodes:
            if n.op != "placeholder":
                continue
            s = kinds[n.name]
            kind = s.kind.name
            try:
                if kind == "USER_INPUT":
                    self.env[n.name] = self._user_input(n, s)
                    user.append(n.name)
                elif kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                    self.env[n.name] = self._constant(p, s, written)
                else:
                    raise UnsupportedError(f"an input of kind {kind}")
            except UnsupportedError as e:
                self.problems.note(e, n.name, "input")
                self.env[n.name] = MISSING
        for name in self.input_shapes:
            if name not in user:
                raise InputError(f"input_shapes: the model has no input '{name}'; it has {', '.join(map(repr, user))}.")

    def _user_input(self, n: Any, s: Any) -> Any:
        m = n.meta.get("val")
        if m is None or isinstance(m, (bool, int, float, str)):
            value = getattr(s.arg, "value", m)
            if value is not None and not isinstance(value, (bool, int, float)):
                raise UnsupportedError(f"an argument {value!r}")
            return value
        if not hasattr(m, "shape"):  # a symbolic number
            return self.body.input(n.name, dtypes.int64, ())
        want = self.input_shapes.get(n.name)
        dims = [self.dim(d) for d in m.shape]
        if want is not None:
            if len(want) != len(dims):
                raise InputError(f"input_shapes: '{n.name}' has {len(dims)} dims; got {len(want)}: {list(want)}.")
            for i, (w, d) in enumerate(zip(want, dims, strict=True)):
                if isinstance(d, int):
                    if w != d:
                        raise InputError(
                            f"input_shapes: dim {i} of '{n.name}' was exported as {d}; got {w}. "
                            "Export with dynamic_shapes to leave it open."
                        )
                elif isinstance(w, int):
                    dims[i] = w
                else:
                    dims[i] = Dim.symbol(str(w))
        return self.body.input(n.name, dtype_of(m.dtype), tuple(dims))

    def dim(self, d: Any) -> int | Dim:
        """A dim of a fake tensor."""
        if isinstance(d, int):
            return d
        text = re.sub(r"\*\*(\d+)", "", str(d)) if "**" not in str(d) else ""
        try:
            return Dim.parse(text)
        except (ValueError, IndexError):
            return Dim.fresh("dim")

    def _constant(self, p: Any, s: Any, written: set[str]) -> Any:
        target = s.target
        t = p.constants.get(target) if s.kind.name == "CONSTANT_TENSOR" else p.state_dict.get(target)
        if t is None:
            t = p.constants.get(target)
        if t is None:
            raise FormatError(f"the program holds no data for '{target}'.")
        array = array_of(t)
        if target in written:
            self.graph.variables.append(Variable(target, array))
            return self.body.emit("read_variable", [], {"variable": target}, f"{target}/read")
        return self.body.constant(array, target)

    # ---- nodes
    def _node(self, n: Any) -> None:
        try:
            if n.op == "get_attr":
                self.env[n.name] = self._attribute(n)
                return
            if any(self.env.get(a.name) is MISSING for a in n.all_input_nodes):
                self.env[n.name] = MISSING
                return
            call = Call(self, self.body, self.env, n, n.name)
            before = len(self.body.graph.nodes)
            if n.target in _PYTHON:
                got = _PYTHON[n.target](call)
            elif str(n.target) in _HIGHER:
                got = _HIGHER[str(n.target)](call)
            else:
                handler = find(str(n.target))
                if handler is None:
                    self.env[n.name] = MISSING
                    return
                if any(isinstance(self.env.get(a.name), Complex) for a in n.all_input_nodes):
                    got = handlers_complex.parts(call, handler)
                else:
                    got = handler(call)
            self.env[n.name] = self._fit(n, got)
            first = got[0] if isinstance(got, (list, tuple)) and got else got
            self._name(n, first, before)
        except (UnsupportedError, ShapeError, GraphError, FormatError) as e:
            self.problems.note(e, n.name, str(n.target))
            self.env[n.name] = MISSING

    def _fit(self, n: Any, got: Any) -> Any:
        """A result in the dtype that torch gives it."""
        m = n.meta.get("val")
        if isinstance(got, (list, tuple)):
            metas = m if isinstance(m, (list, tuple)) else [None] * len(got)
            return [self._one(n, g, k) for g, k in zip(got, metas, strict=False)]
        return self._one(n, got, m)

    def _one(self, n: Any, v: Any, m: Any) -> Any:
        if not isinstance(v, Value) or not hasattr(m, "dtype"):
            return v
        want = dtype_of(m.dtype)
        if v.dtype is not want:
            return self.body.emit("cast", [v], {"dtype": want.name}, f"{n.name}/cast")
        return v

    def _attribute(self, n: Any) -> Any:
        t = self.program.constants.get(n.target)
        owner: Any = self.program.graph_module
        if t is None:
            for part in n.target.split("."):
                owner = getattr(owner, part)
            t = owner
        if hasattr(t, "graph"):
            return t  # the inner graph of a control-flow op
        if not hasattr(t, "detach"):
            raise UnsupportedError(f"'{n.target}' is {type(t).__name__}, which has no counterpart here")
        return self.body.constant(array_of(t), n.target)

    def _name(self, n: Any, v: Any, before: int) -> None:
        fresh = self.body.graph.nodes[before:]
        if isinstance(v, Value) and v.producer is not None and any(v.producer is f for f in fresh):
            self.body.rename(v, n.name)
            if n.name not in self.body.node_names:
                self.body.node_names.add(n.name)
                v.producer.name = n.name

    def inner(self, module: Any, items: list[Any], body: Body) -> list[Value]:
        """The results of an inner graph for these inputs, its ops emitted into a body."""
        saved = self.body, self.env
        self.body, self.env = body, {}
        try:
            places = [n for n in module.graph.nodes if n.op == "placeholder"]
            if len(places) != len(items):
                raise FormatError(f"an inner graph takes {len(places)} inputs; got {len(items)}")
            for n, item in zip(places, items, strict=True):
                self.env[n.name] = body.capture(item)
            results: list[Any] = []
            for n in module.graph.nodes:
                if n.op == "output":
                    results = [self.env[a.name] if hasattr(a, "name") else a for a in n.args[0]]
                elif n.op != "placeholder":
                    if n.op == "call_function" and not self._known(n):
                        raise UnsupportedError(f"{n.target} inside: {_why_not(str(n.target))}")
                    self._node(n)
        finally:
            self.body, self.env = saved
        if not all(isinstance(r, Value) for r in results):
            raise UnsupportedError("an inner graph gives something that is no tensor")
        return results

    # ---- outputs
    def _outputs(self, last: Any, spec: Any) -> None:
        names = iter(_output_names(self.program))
        for s in spec.output_specs:
            kind = s.kind.name
            arg = s.arg
            item = self.env.get(getattr(arg, "name", None)) if hasattr(arg, "name") else getattr(arg, "value", None)
            if kind in ("BUFFER_MUTATION", "PARAMETER_MUTATION"):
                if isinstance(item, Value):
                    self.body.emit("assign_variable", [item], {"variable": s.target}, f"{s.target}/assign")
                continue
            if kind != "USER_OUTPUT":
                self.problems.note(UnsupportedError(f"an output of kind {kind}"), str(arg), "output")
                continue
            name = next(names)
            if item is MISSING:
                continue
            if isinstance(item, (bool, int, float)):
                item = self.body.constant(np.asarray(item), name)
            if item is None:
                continue  # forward returned None there
            if not isinstance(item, Value):
                kind = type(item).__name__.lower()
                self.problems.note(UnsupportedError(f"an output that is {kind}"), name, "output")
                continue
            self.body.builder.output(item, name)


def array_of(t: Any) -> np.ndarray:
    """A tensor's data, shared with torch where its layout allows."""
    import torch

    t = t.detach()
    if t.is_sparse or t.is_quantized:
        raise UnsupportedError("sparse or quantized tensors; make them dense floats before the export")
    t = t.cpu().contiguous()
    dtype = dtype_of(t.dtype)
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(dtype.np)
    return t.numpy()


def _output_names(program: Any) -> list[str]:
    """A name for each tensor that ``forward`` returns: the keys on the way to it, or ``output``."""
    from torch.utils import _pytree as pytree

    out = program.call_spec.out_spec
    if out is None:
        return [f"output_{i}" for i in range(len(program.graph_signature.user_outputs))]
    tree = pytree.tree_unflatten(list(range(out.num_leaves)), out)
    names = []
    for path, _ in pytree.tree_flatten_with_path(tree)[0]:
        parts = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
        if parts and isinstance(getattr(path[0], "key", getattr(path[0], "name", None)), str):
            names.append("_".join(parts))
        else:
            names.append("_".join(["output", *parts]))
    return names


def _why_not(target: str) -> str:
    if not target.startswith("aten."):
        return "a custom or higher-order op that Deploykit does not know. Replace it, or decompose it before the export"
    return "not supported. Replace it in the source model, or export through torch.onnx and convert the .onnx file"


def _number(c: Call, i: int) -> Value:
    return c.tensor(c.resolve(c.node.args[i]), dtypes.int64)


def _binary(op: str) -> Any:
    def run(c: Call) -> Any:
        a, b = (c.resolve(x) for x in c.node.args[:2])
        if not isinstance(a, Value) and not isinstance(b, Value):
            return _PLAIN[op](a, b)
        m = c.meta
        d = dtypes.float32 if isinstance(m, float) or "Float" in type(m).__name__ else dtypes.int64
        return c.op(op, c.tensor(a, d), c.tensor(b, d))

    return run


_PLAIN: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floor_div": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "div": operator.truediv,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "minimum": min,
    "maximum": max,
}


def _getitem(c: Call) -> Any:
    many, i = c.resolve(c.node.args[0]), c.node.args[1]
    if i >= len(many) or many[i] is None:
        raise UnsupportedError(f"result {i}")
    return many[i]


def _python_ops() -> dict[Any, Any]:
    names = {getattr(operator, f.__name__): op for op, f in _PLAIN.items() if f.__module__ == "_operator"}
    table: dict[Any, Any] = {f: _binary(op) for f, op in names.items()}
    table[operator.getitem] = _getitem
    table[operator.neg] = lambda c: c.op("neg", _number(c, 0))
    return table


def _cond(c: Call) -> list[Value]:
    """torch.cond: both inner graphs take the same operands."""
    condition, then, other, operands = (c.resolve(a) for a in c.node.args)
    condition = c.tensor(condition, dtypes.bool_)
    condition = condition if c.rank(condition) == 0 else c.reshape(condition)

    def branch(module: Any) -> Any:
        return lambda body: c.importer.inner(module, list(operands), body)

    return c.branch(condition, [("then", branch(then)), ("else", branch(other))])


_HIGHER: dict[str, Callable[[Call], Any]] = {"cond": _cond}
_PYTHON: dict[Any, Callable[[Call], Any]] = _python_ops()
try:  # torch's own forms of min and max over symbolic numbers, and checks that hold by construction
    import torch as _torch

    for _name, _op in (("sym_max", "maximum"), ("sym_min", "minimum")):
        _PYTHON[getattr(_torch, _name)] = _binary(_op)
    _PYTHON[_torch.sym_not] = lambda c: c.op("logical_not", c.tensor(c.resolve(c.node.args[0]), dtypes.bool_))
    _PYTHON[_torch.sym_float] = lambda c: c.cast(c.tensor(c.resolve(c.node.args[0]), dtypes.int64), "float32")
except ImportError:
    pass

# the handlers register themselves; they come last because some need names from this module
from deploykit.converters.importers.pytorch import (  # noqa: E402, F401
    handlers_complex,
    handlers_math,
    handlers_nn,
    handlers_shape,
)
