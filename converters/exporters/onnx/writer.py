"""The ONNX graph under construction: nodes, initializers, names, and the layouts of values.

Our images are channels last, ONNX's are channels first.  A value may be at hand in its own layout, channels first, or
both; the missing one is made by a Transpose when somebody asks for it.  Ops that do not care about layout compute in
the layout at hand, so a chain of convolutions and activations is written without a single Transpose inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.graph import Dim, Value
from deploykit.graph.mapped import in_file, release

INLINE_CONSTANT = 64  # elements: equal small constants are written once
APART = 1 << 14  # bytes: data of larger ones is not copied into the message


class Names:
    """Names unique in the whole model, bodies included (ONNX allows no shadowing)."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def new(self, hint: str) -> str:
        """The hint, or the hint with a number."""
        name, i = hint or "v", 1
        while name in self.taken:
            i += 1
            name = f"{hint or 'v'}_{i}"
        self.taken.add(name)
        return name


class Writer:
    """One ONNX graph (the model or a body): ``nodes``, ``initializers`` and the places of its values."""

    def __init__(self, names: Names, opset: int, outer: Writer | None = None) -> None:
        self.names = names
        self.opset = opset
        self.outer = outer
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.large: dict[str, np.ndarray] | None = None  # data of large ones, by name, where it is not copied into them
        self.own: dict[Value, str] = {}
        self.channels_first: dict[Value, str] = {}
        self.public: dict[Value, str] = {}  # the name a value must have in its own layout
        self._constants: dict[Any, str] = {}
        self.hint = ""  # name of the node being exported

    # ---- nodes and constants
    def node(
        self, op_type: str, *inputs: str | None, outputs: int | Iterable[str] = 1, domain: str = "", **attrs: Any
    ) -> Any:
        """Append a node; returns the name of its output, or a list when ``outputs`` is a number over 1 or names."""
        from onnx import helper

        ins = [x or "" for x in inputs]
        while ins and not ins[-1]:
            ins.pop()
        single = outputs == 1
        if isinstance(outputs, int):
            hint = self.hint or op_type
            outs = [self.names.new(hint if k == 0 else f"{hint}:{k}") for k in range(outputs)]
        else:
            outs = list(outputs)
        attrs = {k: v for k, v in attrs.items() if v is not None}
        name = self.names.new(f"{self.hint or op_type}/{op_type}")
        self.nodes.append(helper.make_node(op_type, ins, outs, name=name, domain=domain, **attrs))
        return outs[0] if single else outs

    def const(self, data: Any, dtype: Any = None, hint: str = "") -> str:
        """An initializer; small equal ones are shared."""
        from onnx import TensorProto, helper, numpy_helper

        a = np.asarray(data, None if dtype is None else dtypes.dtype(dtype).np)
        key = (a.dtype, a.shape, a.tobytes()) if a.size <= INLINE_CONSTANT else None
        if key is not None and key in self._constants:
            return self._constants[key]
        name = self.names.new(hint or f"{self.hint}/const")
        whole = np.ascontiguousarray(a).reshape(a.shape)
        if self.large is not None and whole.nbytes >= APART and whole.dtype.isbuiltin == 1:
            kind = helper.np_dtype_to_tensor_dtype(whole.dtype)
            self.initializers.append(TensorProto(name=name, data_type=kind, dims=whole.shape))
            self.large[name] = whole if a.flags.c_contiguous else in_file(whole)
            release(a)
        else:
            self.initializers.append(numpy_helper.from_array(whole, name))
        if key is not None:
            self._constants[key] = name
        return name

    def i64(self, *values: int) -> str:
        """An int64 vector."""
        return self.const(np.array(values, np.int64))

    def scalar(self, value: float, like: Value | DType) -> str:
        """A scalar of that dtype."""
        dtype = like if isinstance(like, DType) else like.dtype
        assert dtype is not None
        return self.const(np.array(value).astype(dtype.np))

    # ---- values
    def get(self, v: Value | None) -> str | None:
        """The name of a value in its own layout; None for an absent input."""
        if v is None:
            return None
        if v not in self.own:
            if v.is_constant:
                self.own[v] = self.const(v.data, hint=v.name)
            elif v in self.channels_first:
                assert v.shape is not None
                perm = to_last(len(v.shape))
                if v in self.public:
                    self.node("Transpose", self.channels_first[v], outputs=[self.public[v]], perm=perm)
                    self.own[v] = self.public[v]
                else:
                    self.own[v] = self.node("Transpose", self.channels_first[v], perm=perm)
            else:
                raise KeyError(v.name)
        return self.own[v]

    def first(self, v: Value | None) -> str | None:
        """The name of a channels-last value, channels first."""
        if v is None:
            return None
        assert v.shape is not None
        rank = len(v.shape)
        if rank <= 2:
            return self.get(v)
        if v not in self.channels_first:
            perm = to_first(rank)
            if v.is_constant:
                assert v.data is not None
                self.channels_first[v] = self.const(v.data.transpose(perm), hint=v.name)
            else:
                self.channels_first[v] = self.node("Transpose", self.get(v), perm=perm)
        return self.channels_first[v]

    def set(self, v: Value | None, name: str) -> None:
        """A value is at hand in its own layout (renamed to its public name when it has one)."""
        if v is None:
            return
        if v in self.public and name != self.public[v]:
            self._rename(name, self.public[v])
            name = self.public[v]
        self.own[v] = name

    def set_first(self, v: Value | None, name: str) -> None:
        """A channels-last value is at hand channels first."""
        if v is None:
            return
        assert v.shape is not None
        if len(v.shape) <= 2:
            self.set(v, name)
        else:
            self.channels_first[v] = name

    def only_first(self, v: Value) -> bool:
        """Whether a value is at hand channels first and not in its own layout."""
        return v in self.channels_first and v not in self.own

    def _rename(self, old: str, new: str) -> None:
        """Give the result of the last node that makes it another name, or copy it when somebody else made it."""
        last = self.nodes[-1] if self.nodes else None
        if last is not None and old in last.output:
            last.output[list(last.output).index(old)] = new
        else:
            self.node("Identity", old, outputs=[new])


def to_first(rank: int) -> list[int]:
    """Permutation from channels last to channels first."""
    return [0, rank - 1, *range(1, rank - 1)]


def to_last(rank: int) -> list[int]:
    """Permutation from channels first to channels last."""
    return [0, *range(2, rank), 1]


def value_info(name: str, v: Value) -> Any:
    """ValueInfoProto of a value."""
    from onnx import helper

    assert v.dtype is not None
    shape = None if v.shape is None else [str(d) if isinstance(d, Dim) else d for d in v.shape]
    return helper.make_tensor_value_info(name, element_type(v.dtype), shape)


def element_type(dtype: DType) -> int:
    """TensorProto.DataType of a dtype."""
    from onnx import TensorProto

    special = {
        "float32": "FLOAT", "float64": "DOUBLE", "float8_e4m3fn": "FLOAT8E4M3FN", "float8_e4m3fnuz": "FLOAT8E4M3FNUZ",
        "float8_e5m2": "FLOAT8E5M2", "float8_e5m2fnuz": "FLOAT8E5M2FNUZ", "float8_e8m0fnu": "FLOAT8E8M0",
        "float4_e2m1fn": "FLOAT4E2M1",
    }  # fmt: skip
    return TensorProto.DataType.Value(special.get(dtype.name, dtype.name.upper()))
