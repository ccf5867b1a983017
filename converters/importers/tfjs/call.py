"""What a handler sees of one node of a graph model, and the table of handlers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.ir.build import Body, Emitter, handler_table
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import Value


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Call(Emitter):
    """One node being imported: inputs, attributes, the means to emit."""

    def __init__(self, importer: Any, body: Body, node: dict[str, Any], items: list[Any]) -> None:
        self.importer = importer
        self.body = body
        self.node = node
        self.items = items
        self.name = node["name"]
        self.op_type = node["op"]

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.items)

    def x(self, i: int = 0) -> Value:
        """Input ``i``."""
        if i >= self.n:
            raise FormatError(f"required input {i} is missing")
        return self.items[i]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        from deploykit.converters.importers.tfjs.importer import attr

        return attr(self.node, name, default)

    def whole(self, name: str, default: int | None = None) -> int:
        """An attribute that must be one whole number."""
        v = self.attr(name, default)
        if not isinstance(v, int):
            raise FormatError(f"attribute '{name}' is {str(v)[:60]}; expected a whole number")
        return v

    def static(self, i: int, what: str) -> np.ndarray:
        """The data of input ``i``, which must be known while importing."""
        return self.fixed(self.x(i), f"{what} (input {i})")

    def ints(self, i: int, what: str) -> list[int]:
        """Input ``i`` as a list of known ints."""
        return [int(v) for v in self.static(i, what).reshape(-1)]

    def i64_of(self, i: int) -> Value:
        """Input ``i`` as an int64 vector or scalar, for our shape-like operands."""
        return self.cast(self.x(i), "int64")

    def vector_of(self, i: int) -> Value:
        """Input ``i`` as an int64 vector."""
        v = self.i64_of(i)
        return v if self.rank(v) == 1 else self.reshape(v, -1)

    def dtype_attr(self, name: str, default: str = "DT_FLOAT") -> str:
        """Our name of a dtype attribute."""
        return self.importer.dtype(self.attr(name, default), self.name).name

    def same_type(self, *xs: Value) -> list[Value]:
        """The values in one dtype: TensorFlow.js mixes int32 and float32 where TensorFlow does not."""
        kinds = {x.dtype.name for x in xs if x.dtype is not None}
        if len(kinds) == 1:
            return list(xs)
        to = "float32" if "float32" in kinds else "int32"
        return [self.cast(x, to) for x in xs]

    def channels_last(self) -> None:
        """Refuse NCHW, which TensorFlow.js does not run either."""
        layout = self.attr("data_format", "NHWC")
        if layout not in ("NHWC", "NDHWC", "NWC"):
            raise UnsupportedError(f"data_format {layout}; only channels last, as TensorFlow.js runs")


HANDLERS, handles = handler_table()
