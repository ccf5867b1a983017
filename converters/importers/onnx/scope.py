"""Where names live while a model is imported.

A :class:`Body` is one Graph under construction (the model, a branch of ``if``, the body of ``loop``) with the values it
captures from the Body around it.  A :class:`Scope` is a table of ONNX names inside a Body: the body's own, or that of a
function inlined into it.  Names map to *items*: a Value, a :class:`Text`, a :class:`Sequence` or :class:`Optional` that
exists only while importing, or MISSING for the result of a node that could not be imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploykit.converters.ir import build
from deploykit.dtypes import DType


@dataclass
class Sequence:
    """An ONNX sequence whose length is known while importing."""

    items: list[Any]
    dtype: DType | None = None


@dataclass
class Optional:
    """An ONNX optional whose state is known while importing; ``item`` None means empty."""

    item: Any = None


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Body(build.Body):
    """A graph under construction that can also capture sequences and optionals."""

    outer: Body | None

    def capture(self, item: Any) -> Any:
        """Bring an item of the outer body into this one."""
        if isinstance(item, Sequence):
            return Sequence([self.capture(x) for x in item.items], item.dtype)
        if isinstance(item, Optional):
            return Optional(None if item.item is None else self.capture(item.item))
        return super().capture(item)


@dataclass
class Scope:
    """ONNX names of one graph or one inlined function.  ``outer`` is where names not found here are looked up."""

    body: Body
    opsets: dict[str, int]
    outer: Scope | None = None
    env: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)  # attributes of the call, for ref_attr_name
    prefix: str = ""  # before node and value names, "" outside functions

    def lookup(self, name: str) -> Any:
        """The item of that name; from outside it comes as a capture.  KeyError when nobody defines it."""
        if name in self.env:
            return self.env[name]
        if self.outer is None:
            raise KeyError(name)
        item = self.outer.lookup(name)
        if self.outer.body is not self.body:
            item = self.body.capture(item)
        self.env[name] = item
        return item
