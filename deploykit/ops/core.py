"""The passport machinery: ``@op`` turns a class body into an :class:`Op`, the one description of an operator.

    @op(41, "x -> y", attrs=dict(alpha=0.01), onnx="LeakyRelu", tflite="LEAKY_RELU", samples=UNARY)
    class leaky_relu:
        "x where x >= 0, alpha * x elsewhere."
        infer = same_as_input
        def reference(x, alpha): return np.where(x < 0, x * x.dtype.type(alpha), x)
        def vjp(g, y, x, alpha): return (F.where(F.greater_equal(x, zero(x)), g, F.mul(g, scalar(alpha, x))),)

Fields of the class body (plain functions, no ``self``):

* ``infer(*specs, **attrs)`` -> Spec or tuple of Specs: dtype and shape of the outputs; raises ShapeError.  Absent
  optional inputs come as None.  A spec's ``value`` is set when the data is known (constants, shape arithmetic).
* ``reference(*arrays, **attrs)`` -> array or tuple: slow, readable NumPy; oracle, fallback and constant folding.
* ``vjp(g, y, *inputs, **attrs)`` -> one gradient (or None) per input, written in ops, so it traces and differentiates
  again.  With several results g and y are tuples.  Ops without one list a reason in ``not_differentiable``.
  ``none_gradients=True`` in ``@op(...)``: g has None for results that nothing depends on, instead of zeros.
* ``decompose(*inputs, **attrs)`` (optional) -> the same in simpler ops.
* ``samples()`` (or ``samples=`` in the decorator) -> list of small cases (:mod:`deploykit.ops.samples`).

Calling an Op applies it through the interpreter on top of the stack (:mod:`deploykit.ops.dispatch`): eagerly on NumPy
arrays by default, recording nodes inside a graph builder.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.errors import GraphError, ShapeError
from deploykit.graph.dims import Shape
from deploykit.ops.families import FAMILIES


@dataclass(frozen=True)
class Enum:
    """An attr that is one of a few words; stored in files as the index, so choices are only ever appended."""

    choices: tuple[str, ...]

    def __init__(self, *choices: str) -> None:
        object.__setattr__(self, "choices", choices)


@dataclass(frozen=True)
class Floats:
    """An attr of any number of floats; a plain ``()`` as default would mean integers."""

    default: tuple[float, ...] = ()


@dataclass(frozen=True)
class Required:
    """An attr without default; ``kind`` as in :class:`Attr`."""

    kind: str


@dataclass(frozen=True)
class Attr:
    """One attr.  kind: int, float, bool, ints, floats, str, dtype, enum, graph.  ``default`` is None for required ones
    and graphs."""

    name: str
    kind: str
    default: Any
    choices: tuple[str, ...] = ()
    required: bool = False

    def check(self, value: Any, op: str) -> Any:
        """Return the value in its canonical Python form, or raise GraphError."""
        try:
            return self._canonical(value)
        except (TypeError, ValueError):
            want = f"one of {', '.join(self.choices)}" if self.kind == "enum" else self.kind
            raise GraphError(f"{op}: attr '{self.name}': got {value!r}, expected {want}.") from None

    def _canonical(self, value: Any) -> Any:
        match self.kind:
            case "bool":
                return bool(value)
            case "int":
                return int(value)
            case "float":
                return float(value)
            case "ints":
                return tuple(int(v) for v in value)
            case "floats":
                return tuple(float(v) for v in value)
            case "str":
                if not isinstance(value, str):
                    raise TypeError
                return value
            case "dtype":
                return dtypes.dtype(value).name if value != "" else ""
            case "enum":
                if value not in self.choices:
                    raise ValueError
                return value
        return value  # graph


@dataclass(frozen=True)
class Operand:
    """One input or output in a passport's signature: ``x``, ``bias?`` (may be absent), ``xs*`` (any number, last)."""

    name: str
    optional: bool = False
    variadic: bool = False


@dataclass
class Spec:
    """dtype and shape of a tensor without its data; ``value`` holds it where known at trace time: an ndarray, or an
    object array of ``int | Dim`` for shape arithmetic."""

    dtype: DType
    shape: Shape | None
    value: np.ndarray | None = None

    @property
    def rank(self) -> int | None:
        """Number of dims or None."""
        return None if self.shape is None else len(self.shape)


@dataclass
class Op:
    """A passport.  ``flags``: ``view`` (output is input 0's bytes with another shape), ``inplace`` (output 0 may
    overwrite an input of the same size), ``effect`` (never removed, merged or reordered), ``random``."""

    name: str
    opcode: int
    since: int
    operands: tuple[Operand, ...]
    results: tuple[Operand, ...]
    attrs: dict[str, Attr]
    doc: str
    names: dict[str, str]
    flags: frozenset[str]
    tolerance: str
    profile: str
    family: str
    infer: Callable[..., Any] | None = None
    reference: Callable[..., Any] | None = None
    vjp: Callable[..., Any] | None = None
    decompose: Callable[..., Any] | None = None
    not_differentiable: str = ""
    samples: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    # Set by the tensors when first called: applies the op without attrs to tensors; NotImplemented: go the long way.
    eager: Callable[..., Any] | None = None
    _defaults: dict[str, Any] | None = None

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        if not attrs and self.eager is not None and len(INTERPRETERS) == 1:
            y = self.eager(*inputs)
            if y is not NotImplemented:
                return y
        n = self.count_outputs(inputs, attrs, attrs.pop("n_outputs", None)) if self.variable_outputs else {}
        return INTERPRETERS[-1].apply(self, list(inputs), {**self.complete(attrs), **n})

    @property
    def variable_outputs(self) -> bool:
        """True for ops whose number of results is the node's: ``infer`` and ``reference`` get it as ``n_outputs``."""
        return "n_outputs" in self.extra

    def count_outputs(self, inputs: Any, attrs: dict[str, Any], given: int | None) -> dict[str, int]:
        """``{"n_outputs": number}``: as given, else as the passport's ``n_outputs`` function tells."""
        if given is None:
            rule = self.extra["n_outputs"]
            given = rule(*inputs, **attrs) if callable(rule) else None
        if given is None:
            raise GraphError(f"{self.name}: the number of outputs is not known here; give n_outputs=.")
        return {"n_outputs": given}

    def complete(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check the attrs and add defaults, in passport order."""
        if not attrs and self._defaults is not None:
            return dict(self._defaults)
        unknown = set(attrs) - set(self.attrs)
        if unknown:
            raise GraphError(
                f"{self.name}: no attr {', '.join(sorted(map(repr, unknown)))}; "
                f"known: {', '.join(self.attrs) or 'none'}."
            )
        out = {}
        for a in self.attrs.values():
            if a.name in attrs:
                out[a.name] = a.check(attrs[a.name], self.name)
            elif a.required:
                raise GraphError(f"{self.name}: attr '{a.name}' is required.")
            else:
                out[a.name] = a.default
        if not attrs:
            self._defaults = dict(out)
        return out

    def check_inputs(self, n: int, absent: Callable[[int], bool]) -> None:
        """Raise GraphError unless ``n`` inputs, some absent, fit the signature."""
        fixed = [o for o in self.operands if not o.variadic]
        if n > len(fixed) and len(fixed) == len(self.operands):
            raise GraphError(f"{self.name}: got {n} inputs, expected at most {len(fixed)}.")
        for i, o in enumerate(fixed):
            if not o.optional and (i >= n or absent(i)):
                raise GraphError(f"{self.name}: input '{o.name}' (number {i}) is missing.")
        for i in range(len(fixed), n):
            if absent(i):
                raise GraphError(f"{self.name}: input '{self.operands[-1].name}' number {i} is missing.")

    @property
    def signature(self) -> str:
        """The signature as written in the passport."""

        def show(xs: tuple[Operand, ...]) -> str:
            return ", ".join(o.name + "?" * o.optional + "*" * o.variadic for o in xs)

        return f"{show(self.operands)} -> {show(self.results)}"

    def __repr__(self) -> str:
        return f"<op {self.name} {self.signature}>"


# What applying an op means, innermost last: see deploykit.ops.dispatch.
INTERPRETERS: list[Any] = []


class _Registry(dict[Any, Op]):
    """Ops by name or opcode.  A family's file is imported when one of its ops is first asked for; looking through all
    (iteration, ``len``) imports all, in the order of opcodes."""

    def __init__(self, family_of: dict[Any, str]) -> None:
        super().__init__()
        self._family_of = family_of

    def __missing__(self, key: Any) -> Op:
        importlib.import_module(f"deploykit.ops.{self._family_of[key]}")
        return dict.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or key in self._family_of

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default

    def _load(self) -> None:
        if any(not dict.__contains__(self, k) for k in self._family_of):
            for family in FAMILIES:
                importlib.import_module(f"deploykit.ops.{family}")
            ops = sorted(dict.items(self), key=lambda item: item[1].opcode)
            self.clear()
            self.update(ops)

    def __iter__(self) -> Iterator[Any]:
        self._load()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._load()
        return dict.__len__(self)

    def keys(self) -> Any:
        self._load()
        return dict.keys(self)

    def values(self) -> Any:
        self._load()
        return dict.values(self)

    def items(self) -> Any:
        self._load()
        return dict.items(self)


_ROWS = [
    (int(code), name, family) for family, ops in FAMILIES.items() for code, name in (o.split(":") for o in ops.split())
]
REGISTRY: dict[str, Op] = _Registry({name: family for _, name, family in _ROWS})
BY_OPCODE: dict[int, Op] = _Registry({code: family for code, _, family in _ROWS})


def _operands(text: str) -> tuple[Operand, ...]:
    out = []
    for raw in filter(None, (t.strip() for t in text.split(","))):
        out.append(Operand(raw.rstrip("?*"), optional="?" in raw, variadic="*" in raw))
    return tuple(out)


def _attr(name: str, default: Any) -> Attr:
    if isinstance(default, Required):
        return Attr(name, default.kind, None, required=True)
    if isinstance(default, Enum):
        return Attr(name, "enum", default.choices[0], default.choices)
    if isinstance(default, DType):
        return Attr(name, "dtype", default.name)
    if isinstance(default, bool):
        return Attr(name, "bool", default)
    if isinstance(default, int):
        return Attr(name, "int", default)
    if isinstance(default, float):
        return Attr(name, "float", default)
    if isinstance(default, str):
        return Attr(name, "str", default)
    if isinstance(default, Floats):
        return Attr(name, "floats", default.default)
    if isinstance(default, tuple):
        return Attr(name, "floats" if any(isinstance(v, float) for v in default) else "ints", default)
    raise TypeError(f"attr {name}: {default!r}")


_FIELDS = ("infer", "reference", "vjp", "decompose", "samples")


def op(
    opcode: int,
    signature: str,
    *,
    since: int = 1,
    attrs: dict[str, Any] | None = None,
    onnx: str = "",
    tflite: str = "",
    flags: str = "",
    tolerance: str = "float",
    profile: str = "inference",
    samples: Any = None,
    not_differentiable: str = "",
    **extra: Any,
) -> Callable[[type], Op]:
    """Register the decorated class body as the passport of an op (see the module's docstring).

    ``tolerance`` is the comparison class of tests: exact, float (a few ulps of the largest element), loose.
    ``onnx`` and ``tflite`` name foreign ops that map 1:1 (same operands in the same order, attrs of the same meaning).
    """
    ins, outs = signature.split("->")

    def register(cls: type) -> Op:
        name = cls.__name__.rstrip("_")
        body = {k: inspect.getattr_static(cls, k, None) for k in _FIELDS}
        body["samples"] = body["samples"] or samples
        body = {k: v.__func__ if isinstance(v, staticmethod) else v for k, v in body.items()}
        self = Op(
            name=name,
            opcode=opcode,
            since=since,
            operands=_operands(ins),
            results=_operands(outs),
            attrs={k: _attr(k, v) for k, v in (attrs or {}).items()},
            doc=inspect.getdoc(cls) or "",
            names={k: v for k, v in (("onnx", onnx), ("tflite", tflite)) if v},
            flags=frozenset(flags.split()),
            tolerance=tolerance,
            profile=profile,
            family=cls.__module__.rsplit(".", 1)[-1],
            not_differentiable=not_differentiable,
            extra=extra,
            **body,
        )
        assert not dict.__contains__(REGISTRY, name), f"op {name} registered twice"
        assert not dict.__contains__(BY_OPCODE, opcode), f"opcode {opcode} of {name} is taken: {BY_OPCODE[opcode].name}"
        REGISTRY[name] = self
        BY_OPCODE[opcode] = self
        return self

    return register


def get(name: str) -> Op:
    """The passport of an op by name; raises GraphError with near matches."""
    if name in REGISTRY:
        return REGISTRY[name]
    import difflib

    near = difflib.get_close_matches(name, REGISTRY, 3)
    raise GraphError(f"no op '{name}'." + (f" Near: {', '.join(near)}." if near else ""))


def fail(name: str, what: str, got: object = None, expected: object = None) -> ShapeError:
    """Build the ShapeError for an op's ``infer``."""
    text = f"{name}: {what}"
    if got is not None:
        text += f"; got {got}"
    if expected is not None:
        text += f", expected {expected}"
    return ShapeError(text + ".")


class _Functions:
    """All ops as attributes, looked up late, for writing gradients and decompositions: ``F.add(x, F.relu(y))``."""

    def __getattr__(self, name: str) -> Op:
        if name.startswith("__"):  # inspection by tools, not an op
            raise AttributeError(name)
        self.__dict__[name] = op = get(name)
        return op


F = _Functions()
