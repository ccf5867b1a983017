"""What a handler sees of one ONNX node: its inputs, attributes and version, and the means to emit our ops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.scope import Optional, Scope, Sequence
from deploykit.converters.ir.build import Emitter
from deploykit.converters.ir.text import Text
from deploykit.dtypes import DType, float32
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import Value


class Inline(Exception):
    """Raised by a handler that leaves this form of its op to the function body in the ONNX standard."""


class Skip(Exception):
    """Raised when a result depends on something already noted as a problem."""


class Call(Emitter):
    """One node being imported.

    ``version`` is the version of the operator set in force, ``since`` that of the op's own definition (Softmax in
    opset 15 has since 13).  Input ``i`` is read with ``x(i)`` (a Value that must be there), ``opt(i)`` (or None) or
    ``item(i)`` (also a sequence or optional).
    """

    def __init__(self, importer: Any, scope: Scope, proto: Any, name: str, since: int, declared: Any = None) -> None:
        self.importer = importer
        self.scope = scope
        self.body = scope.body
        self.proto = proto
        self.name = name
        self.since = since
        self.domain = proto.domain if proto.domain != "ai.onnx" else ""
        self.op_type: str = proto.op_type
        self.version = scope.opsets.get(self.domain, since)
        self.items = [scope.lookup(n) if n else None for n in proto.input]
        self.outputs = list(proto.output)
        self._attrs = {}
        self._declared = declared or {}
        for a in proto.attribute:
            if a.ref_attr_name:
                if a.ref_attr_name in scope.attrs:
                    self._attrs[a.name] = scope.attrs[a.ref_attr_name]
            else:
                self._attrs[a.name] = a

    # ---- inputs
    def item(self, i: int) -> Any:
        """Input ``i`` or None when absent; an optional that holds something counts as what it holds."""
        v = self.items[i] if i < len(self.items) else None
        return v

    def opt(self, i: int) -> Value | None:
        """Input ``i`` as a tensor, or None when absent."""
        v = self.item(i)
        if isinstance(v, Optional):
            v = v.item
        if isinstance(v, Sequence):
            raise UnsupportedError(f"input {i} is a sequence where a tensor is expected")
        if isinstance(v, Text):
            raise UnsupportedError(f"input {i} holds strings, which this op does not take here. Encode them before")
        return v

    def is_text(self, i: int) -> bool:
        """Whether input ``i`` holds strings."""
        return isinstance(self.item(i), Text)

    def text(self, i: int) -> Value:
        """Input ``i``, which must hold strings, as code points."""
        v = self.item(i)
        if not isinstance(v, Text):
            raise UnsupportedError(f"input {i} is no tensor of strings")
        return v.codes

    def x(self, i: int = 0) -> Value:
        """Input ``i`` as a tensor that must be present."""
        v = self.opt(i)
        if v is None:
            raise FormatError(f"required input {i} is missing")
        return v

    @property
    def n(self) -> int:
        """Number of inputs written in the node."""
        return len(self.items)

    def xs(self) -> list[Value]:
        """All inputs, at least one, which must be present."""
        if not self.n:
            raise FormatError("it has no inputs; expected at least one")
        return [self.x(i) for i in range(self.n)]

    def wants(self, i: int) -> bool:
        """Whether output ``i`` is used."""
        return i < len(self.outputs) and bool(self.outputs[i])

    def static(self, i: int, what: str) -> np.ndarray:
        """The data of input ``i``, which must be known while importing."""
        data = self.known(self.x(i))
        if data is None:
            raise UnsupportedError(
                f"{what} (input {i}, '{self.proto.input[i]}') is computed at run time; only a constant is supported. "
                f"Fix the input shapes (input_shapes=) if it is computed from them, or fold it with onnxsim"
            )
        return data

    def rank(self, v: Value | None = None) -> int:
        """Rank of a value (default input 0), which must be known."""
        return super().rank(self.x(0) if v is None else v)

    def shape(self, v: Value | None = None) -> tuple:
        """Shape of a value (default input 0); its rank must be known, its dims may be symbolic."""
        return super().shape(self.x(0) if v is None else v)

    # ---- attributes
    def has(self, name: str) -> bool:
        """Whether the attribute is written in the node."""
        return name in self._attrs

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute in Python form: int, float, str, list, TensorProto, GraphProto; the default when not written.
        FormatError when it has another kind than ONNX says, or is missing where ONNX asks for it."""
        a = self._attrs.get(name)
        kind, number, required = self._declared.get(name, ("", 0, False))
        if a is None:
            if required and default is None:
                raise FormatError(f"attribute '{name}' ({kind}) is missing; ONNX asks for it")
            return default
        if kind and a.type != number:
            raise FormatError(f"attribute '{name}' has kind {a.type}; expected {kind} ({number})")
        return attribute_value(a)

    def ints(self, name: str, default: Iterable[int] | None = None) -> list[int] | None:
        """An attribute holding integers."""
        v = self.attr(name)
        if v is None:
            return None if default is None else list(default)
        return [int(i) for i in v]

    def one_of(self, name: str, names: tuple[str, ...], default: int) -> str:
        """What a numbered choice stands for."""
        i = self.attr(name, default)
        if not 0 <= i < len(names):
            raise FormatError(f"attribute '{name}' is {i}; expected 0 to {len(names) - 1}: {', '.join(names)}")
        return names[i]

    def attr_names(self) -> set[str]:
        """Names of the attributes written in the node."""
        return set(self._attrs)

    def attr_protos(self) -> dict[str, Any]:
        """The attributes by name, references resolved."""
        return dict(self._attrs)

    # ---- emitting
    def unsupported(self, what: str) -> UnsupportedError:
        """An error to raise; the importer adds op and node name."""
        return UnsupportedError(what)

    def widened(self, x: Value) -> tuple[Value, DType | None]:
        """x as float32 and the dtype to go back to when it is a 16-bit float; else x and None."""
        if x.dtype is not None and x.dtype.kind == "f" and x.dtype.bits == 16:
            return self.cast(x, float32), x.dtype
        return x, None


def attribute_value(a: Any) -> Any:
    """An AttributeProto in Python form (strings decoded, tensors and graphs as protos)."""
    t = a.type
    if t == 1:
        return a.f
    if t == 2:
        return a.i
    if t == 3:
        return a.s.decode("utf-8", "replace")
    if t == 4:
        return a.t
    if t == 5:
        return a.g
    if t == 6:
        return list(a.floats)
    if t == 7:
        return list(a.ints)
    if t == 8:
        return [s.decode("utf-8", "replace") for s in a.strings]
    if t == 9:
        return list(a.tensors)
    if t == 10:
        return list(a.graphs)
    if t == 13:
        return a.tp
    return None


@dataclass
class Handler:
    """One registered handler: for versions of its op from ``since`` until the next one's."""

    domain: str
    op_type: str
    since: int
    run: Callable[[Call], Any]
    until: int | None = None


HANDLERS: dict[tuple[str, str], list[Handler]] = {}


def handles(*op_types: str, since: int = 1, until: int | None = None, domain: str = "") -> Callable[[Any], Any]:
    """Register the decorated function for these op types from opset version ``since`` (to ``until``, inclusive).

    It gets a :class:`Call` and returns the output item, or a list of them.
    """

    def register(f: Callable[[Call], Any]) -> Callable[[Call], Any]:
        for t in op_types:
            entries = HANDLERS.setdefault((domain, t), [])
            entries.append(Handler(domain, t, since, f, until))
            entries.sort(key=lambda h: -h.since)
        return f

    return register


def find_handler(domain: str, op_type: str, version: int) -> Handler | None:
    """The handler for an op type in a version of its domain's operator set."""
    for h in HANDLERS.get((domain, op_type), ()):
        if h.since <= version and (h.until is None or version <= h.until):
            return h
    return None
