"""What a handler sees of one aten op: arguments by their schema names, and the means to emit our ops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir.build import Body, Emitter, handler_table
from deploykit.dtypes import DType
from deploykit.errors import UnsupportedError
from deploykit.graph import Value

_DTYPES = {
    "torch.float32": "float32",
    "torch.float64": "float64",
    "torch.float16": "float16",
    "torch.bfloat16": "bfloat16",
    "torch.bool": "bool",
    **{f"torch.{u}int{b}": f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}


_PARTS = {"torch.complex64": "float32", "torch.complex128": "float64"}


@dataclass
class Complex:
    """A complex tensor, which exists only while importing."""

    re: Value
    im: Value


def dtype_of(torch_dtype: Any, parts: bool = False) -> DType:
    """Our dtype of a torch dtype; with ``parts`` that of the parts of complex numbers."""
    name = _DTYPES.get(str(torch_dtype)) or (_PARTS.get(str(torch_dtype)) if parts else None)
    if name is None:
        raise UnsupportedError(f"tensors of {torch_dtype} have no counterpart here")
    return dtypes.dtype(name)


class Call(Emitter):
    """One node being imported."""

    def __init__(self, importer: Any, body: Body, env: dict[str, Any], node: Any, name: str) -> None:
        self.importer = importer
        self.body = body
        self.env = env
        self.node = node
        self.name = name
        self.wants_part = False  # of a complex result
        self.args: dict[str, Any] = {}
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            self.args = {str(i): a for i, a in enumerate(node.args)} | dict(node.kwargs)
        else:
            for i, a in enumerate(schema.arguments):
                if i < len(node.args) and not a.kwarg_only:
                    self.args[a.name] = node.args[i]
                elif a.name in node.kwargs:
                    self.args[a.name] = node.kwargs[a.name]
                elif a.has_default_value():
                    self.args[a.name] = a.default_value
                else:
                    self.args[a.name] = None

    # ---- arguments
    def arg(self, name: str) -> Any:
        """An argument as written: a number, list, None; nodes as the Values (or other items) they stand for."""
        return self.resolve(self.args.get(name))

    def resolve(self, a: Any) -> Any:
        """A written argument with nodes replaced."""
        if hasattr(a, "op") and hasattr(a, "target"):
            return self.env[a.name]
        if isinstance(a, (list, tuple)):
            return [self.resolve(i) for i in a]
        return a

    def x(self, name: str = "self", dtype: DType | None = None) -> Value:
        """An argument as a tensor; numbers become scalars of ``dtype`` (default: the result's)."""
        return self.tensor(self.arg(name), dtype, name)

    def tensor(self, v: Any, dtype: DType | None = None, what: str = "an argument") -> Value:
        """A resolved argument as a tensor."""
        if isinstance(v, Value):
            return v if dtype is None else self.cast(v, dtype)
        if isinstance(v, (bool, int, float)):
            return self.const(np.array(v).astype((dtype or self.dtype).np))
        if isinstance(v, Complex):
            raise UnsupportedError(f"{what} is complex; take its parts before (torch.view_as_real)")
        raise UnsupportedError(f"{what} is {v!r} where a tensor is expected")

    def opt(self, name: str) -> Value | None:
        """An argument as a tensor, None when absent."""
        return None if self.args.get(name) is None else self.x(name)

    def number(self, name: str) -> int:
        """An argument that must be a number known while importing."""
        v = self.arg(name)
        if isinstance(v, Value):
            known = self.known(v)
            if known is None:
                raise UnsupportedError(f"'{name}' is computed at run time; only a constant is supported")
            v = known.item()
        return int(v)

    def ints(self, name: str) -> list[int]:
        """An argument that must be a list of known ints (one number counts as a list of one)."""
        v = self.arg(name)
        if v is None:
            return []
        out = []
        for i in v if isinstance(v, list) else [v]:
            if isinstance(i, Value):
                known = self.known(i)
                if known is None:
                    raise UnsupportedError(f"'{name}' is computed at run time; only constants are supported")
                i = known.item()
            out.append(int(i))
        return out

    def vector(self, items: Any) -> Value:
        """A list of ints and scalars as an int64 vector."""
        items = items if isinstance(items, list) else [items]
        if all(isinstance(i, int) for i in items):
            return self.i64(*items)
        parts: list[Value] = []
        run: list[int] = []
        for i in items:
            if isinstance(i, int):
                run.append(i)
                continue
            if run:
                parts.append(self.i64(*run))
                run = []
            parts.append(self.reshape(self.cast(i, "int64"), 1))
        if run:
            parts.append(self.i64(*run))
        return parts[0] if len(parts) == 1 else self.op("concat", *parts, axis=0)

    def dim(self, name: str = "dim", rank: int | None = None) -> int:
        """A non-negative axis of ``self``."""
        n = self.rank(self.x()) if rank is None else rank
        return self.axis(self.number(name), max(n, 1))

    def dims(self, x: Value, start: int = 0, end: int | None = None) -> Value:
        """int64 vector of dims [start:end] of x."""
        return super().dims(x, start, end)

    def dim_list(self, name: str, x: Value) -> list[int]:
        """Non-negative axes; none given means all."""
        r = self.rank(x)
        got = [self.axis(d, max(r, 1)) for d in self.ints(name)]
        return got or list(range(r))

    # ---- the result as torch sees it
    @property
    def meta(self) -> Any:
        """torch's own idea of the result: a fake tensor, a tuple of them, or a symbolic number."""
        return self.node.meta.get("val")

    @property
    def dtype(self) -> DType:
        """Dtype of the (first) result."""
        m = self.meta
        m = m[0] if isinstance(m, (tuple, list)) else m
        if not hasattr(m, "dtype"):
            return dtypes.float32 if isinstance(m, float) else dtypes.int64
        return dtype_of(m.dtype, parts=True)

    def dtype_of_arg(self, name: str = "dtype") -> DType | None:
        """A dtype argument."""
        v = self.args.get(name)
        return None if v is None else dtype_of(v)

    def promoted(self, *names: str) -> list[Value]:
        """Arguments brought to their common dtype by torch's rules, for comparisons."""
        import torch

        metas = []
        for n in names:
            a = self.args[n]
            metas.append(a.meta["val"] if hasattr(a, "meta") else a)
        common = torch.result_type(*metas)
        return [self.x(n, dtype_of(common)) for n in names]


HANDLERS, handles = handler_table()  # aten ops, `name` (every overload) or `name.overload`


def find(target: str) -> Callable[[Call], Any] | None:
    """The handler of ``aten.name.overload``."""
    name = target.removeprefix("aten.")
    return HANDLERS.get(name) or HANDLERS.get(name.rsplit(".", 1)[0])
