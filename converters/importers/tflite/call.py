"""What a handler sees of one TFLite operator, and the table of handlers.

Quantized tensors: a handler that computes reads its inputs with ``x(i)``, which puts a ``dequantize`` around an integer
tensor with a scale; one that only moves elements reads ``moved(i)`` and gets the integers when input and output share
their parameters.  Float results of a quantized output are put through ``quantize`` by the importer.  So every op is
imported once, for floats, and integers follow the 8-bit rules of the format (``docs/tflite.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.tflite.flat import Row, empty_row
from deploykit.converters.ir.build import Body, Emitter, handler_table
from deploykit.converters.ir.text import Text
from deploykit.converters.ir.tflite_schema import ACTIVATIONS
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import QuantParams, Value
from deploykit.strings import decode

Item = Any  # Value, Text, Handle, Table, Complex or MISSING


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


@dataclass
class Handle:
    """What VAR_HANDLE gives: a variable by name."""

    name: str


@dataclass
class Table:
    """A lookup table: keys and values, integers or strings (dtype object), once something filled it."""

    keys: np.ndarray | None = None
    values: np.ndarray | None = None


@dataclass
class Complex:
    """A complex tensor while importing: parts in a last dim of 2."""

    parts: Value


class Call(Emitter):
    """One operator being imported: inputs, options, the means to emit."""

    def __init__(self, importer: Any, body: Body, scope: Any, proto: Row, op: str, version: int, name: str) -> None:
        self.importer = importer
        self.body = body
        self.scope = scope
        self.proto = proto
        self.op_type = op
        self.version = version
        self.name = name
        self.replaced: dict[int, Item] = {}  # inputs that stand for others
        self.inputs: list[int] = [] if proto.inputs is None else [int(i) for i in proto.inputs]
        self.outputs: list[int] = [] if proto.outputs is None else [int(i) for i in proto.outputs]

    # ---- inputs
    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.inputs)

    def item(self, i: int) -> Item:
        """Input ``i`` as it is, None when absent."""
        if i in self.replaced:
            return self.replaced[i]
        return None if i >= self.n or self.inputs[i] < 0 else self.scope.lookup(self.inputs[i])

    def raw(self, i: int = 0) -> Value:
        """Input ``i`` as a tensor in its stored dtype."""
        v = self.item(i)
        if v is None:
            raise FormatError(f"required input {i} is missing")
        if isinstance(v, Complex):
            raise UnsupportedError(
                f"input {i} is complex; only RFFT2D followed by REAL, IMAG or COMPLEX_ABS is supported. "
                "Compute magnitude and phase from real and imaginary parts in the source model"
            )
        if isinstance(v, Text):
            raise UnsupportedError(f"input {i} holds strings, which this op does not take here. Encode them before")
        if not isinstance(v, Value):
            raise FormatError(f"input {i} is a handle of a variable or table where a tensor is expected")
        return v

    def text(self, i: int) -> Value:
        """Input ``i``, which must hold strings, as code points."""
        v = self.item(i)
        if not isinstance(v, Text):
            raise FormatError(f"input {i} is no tensor of strings")
        return v.codes

    def strings(self, i: int, what: str) -> np.ndarray:
        """The data of input ``i``, numbers or strings (dtype object), which must be known while importing."""
        v = self.item(i)
        return decode(self.fixed(v.codes, what)) if isinstance(v, Text) else self.static(i, what)

    def x(self, i: int = 0) -> Value:
        """Input ``i`` as numbers to compute with: dequantized when it is quantized."""
        v = self.raw(i)
        q = self.quant(i)
        return v if q is None else self.dequantized(v, q)

    def opt(self, i: int) -> Value | None:
        """Like :meth:`x`, None when absent."""
        return None if self.item(i) is None else self.x(i)

    def moved(self, i: int = 0) -> Value:
        """Input ``i`` for an op that only moves elements: integers stay when they mean the same in the result."""
        return self.raw(i) if same_quant(self.quant(i), self.out_quant(0)) else self.x(i)

    def same(self, i: int, q: QuantParams | None) -> bool:
        """Whether input ``i`` has these quantization parameters."""
        return same_quant(self.quant(i), q)

    def tensor(self, i: int) -> Row:
        """The declaration of input ``i``."""
        if i >= self.n:
            raise FormatError(f"input {i} is missing")
        return self.scope.tensor(self.inputs[i])

    def out_tensor(self, i: int = 0) -> Row:
        """The declaration of output ``i``."""
        if i >= len(self.outputs):
            raise FormatError(f"output {i} is missing")
        return self.scope.tensor(self.outputs[i])

    def quant(self, i: int) -> QuantParams | None:
        """Quantization of input ``i``; None for tensors that hold plain numbers."""
        return self.importer.quant(self.tensor(i)) if i < self.n and self.inputs[i] >= 0 else None

    def out_quant(self, i: int = 0) -> QuantParams | None:
        """Quantization of output ``i``."""
        return self.importer.quant(self.out_tensor(i))

    def dequantized(self, v: Value, q: QuantParams) -> Value:
        """v as real numbers."""
        return dequantized(self, v, q)

    def static(self, i: int, what: str) -> np.ndarray:
        """The data of input ``i``, which must be known while importing."""
        return self.fixed(self.raw(i), f"{what} (input {i}, '{self.tensor(i).name}')")

    def ints(self, i: int, what: str) -> list[int]:
        """Input ``i`` as a list of known ints."""
        data = self.static(i, what)
        if data.dtype.kind not in "iub":
            raise FormatError(f"{what} (input {i}) are {data.dtype}; expected integers")
        return [int(v) for v in data.reshape(-1)]

    def one(self, i: int, what: str) -> int:
        """Input ``i`` as one known int."""
        got = self.ints(i, what)
        if len(got) != 1:
            raise FormatError(f"{what} (input {i}) has {len(got)} entries; expected one")
        return got[0]

    def i64_of(self, i: int) -> Value:
        """Input ``i`` as int64, for our shape-like operands."""
        return self.cast(self.raw(i), "int64")

    # ---- options
    def options(self, kind: str) -> Row:
        """The operator's options, which must be of this kind; defaults when the file holds none."""
        for row in (self.proto.builtin_options, self.proto.builtin_options2):
            if row is not None:
                if row.kind != kind:
                    raise FormatError(f"options are {row.kind}; expected {kind}")
                return row
        return empty_row(kind)

    def act(self, y: Value, code: int) -> Value:
        """y through a fused activation."""
        kind = ACTIVATIONS[code] if 0 <= code < len(ACTIVATIONS) else f"code {code}"
        if kind == "NONE":
            return y
        if kind == "RELU_N1_TO_1":
            return self.op("clip", y, self.scalar(-1, y), self.scalar(1, y))
        if kind in ("RELU", "RELU6", "TANH"):
            if y.dtype is not None and y.dtype.kind != "f":
                if kind == "RELU":
                    return self.op("maximum", y, self.scalar(0, y))
                if kind == "RELU6":
                    return self.op("clip", y, self.scalar(0, y), self.scalar(6, y))
            return self.op(kind.lower(), y)
        raise UnsupportedError(f"fused activation {kind}")

    def unsupported(self, what: str) -> UnsupportedError:
        """An error to raise; the importer adds op and node name."""
        return UnsupportedError(what)


def dequantized(e: Emitter, v: Value, q: QuantParams) -> Value:
    """An integer value as real numbers."""
    attrs = {} if q.axis is None else {"axis": q.axis}
    if v.dtype is dtypes.int64 and v.data is not None:  # the bias of int16 layers, wider than our op takes
        shape = [-1 if i == q.axis else 1 for i in range(v.data.ndim)] if q.axis is not None else ()
        real = (v.data - q.zero_point.reshape(shape)) * q.scale.astype(np.float64).reshape(shape)
        return e.const(real.astype(np.float32))
    zero = None if not q.zero_point.any() else e.const(q.zero_point)
    return e.op("dequantize", v, e.const(q.scale), zero, **attrs)


def quantized(e: Emitter, v: Value, q: QuantParams, dtype: str) -> Value:
    """Real numbers as integers."""
    attrs = {} if q.axis is None else {"axis": q.axis}
    return e.op("quantize", v, e.const(q.scale), e.const(q.zero_point), dtype=dtype, **attrs)


def same_quant(a: QuantParams | None, b: QuantParams | None) -> bool:
    """Whether equal integers mean equal numbers."""
    if a is None or b is None:
        return a is b
    return a.axis == b.axis and np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)


HANDLERS, handles = handler_table()  # `CUSTOM:name` for custom operators
