"""Text form of a graph: printed for people, parsed back without loss.

::

    graph main(%x: float32[n, 3, 8, 8]) -> ("y": %r) {
      metadata {"labels": ["cat", "dog"]}
      variable "h": float32[2] = (0.0, 0.0)
      const %w: float32[4, 3, 3, 3] = sha256:9f86d0...
      const %axes: int64[1] = (1)
      %c: float32[n, 4, 6, 6] = conv(%x, %w, _) {strides = (1, 1), act = "relu"} @"conv1"
      %r: float32[n, 4, 6, 6], _ = if(%flag, %c) {then_graph = graph then(...) -> (...) {...}, else_graph = ...}
      signature "encode" = graph encode(...) -> (...) {...}
    }

``_`` stands for a missing input or an unwanted output, ``float32[...]`` for unknown rank, ``none[...]`` for an unknown
dtype.  Names that are not plain words are quoted like JSON strings; two values of one name are told apart by a suffix
``~2`` that is not part of the name.  Small constants are written as values.  Big ones are written by hash, and their
arrays given to :func:`parse_graph` (from :func:`constant_data`), or embedded in base64 when asked for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.errors import GraphError
from deploykit.graph.dims import Dim, Shape
from deploykit.graph.ir import Graph, Node, QuantParams, Value, Variable

INLINE = 16  # constants of up to so many elements are written as values
_WORD = re.compile(r"[A-Za-z_][\w./$]*\Z", re.ASCII)


def print_graph(graph: Graph, *, inline: int = INLINE, embed: bool = False) -> str:
    """The text of a graph.  Constants above ``inline`` elements appear by hash, or in base64 when ``embed`` is set.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 3))
    >>> print(print_graph(b.output(x, "y")))
    graph main(%x: float32[2, 3]) -> ("y": %x) {
    }
    """
    return "\n".join(_Printer(inline, embed).graph(graph, ""))


def constant_data(graph: Graph, *, inline: int = 0) -> dict[str, np.ndarray]:
    """The arrays of constants, variables and quantization of more than ``inline`` elements, by their sha256."""
    out: dict[str, np.ndarray] = {}

    def add(a: np.ndarray) -> None:
        if a.size > inline:
            out.setdefault(digest(a), a)

    for g in graph.walk():
        for v in [*g.inputs, *g.used(), *(o for n in g.nodes for o in n.outputs if o is not None)]:
            if v.data is not None:
                add(v.data)
            if v.quant is not None:
                add(np.asarray(v.quant.scale))
                add(np.asarray(v.quant.zero_point))
        for var in g.variables:
            add(var.initial)
    return out


def digest(array: np.ndarray) -> str:
    """sha256 of an array's bytes in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def parse_graph(text: str, *, data: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Read what :func:`print_graph` wrote; ``data`` holds the arrays of constants written by hash.

    Raises GraphError with the line where the text breaks the grammar, names an undefined value, or lacks data.
    """
    parser = _Parser(text, data or {})
    parser.eat("graph")
    g = parser.graph()
    parser.skip()
    if parser.pos != len(text):
        parser.fail("text after the graph")
    return g


class _Printer:
    def __init__(self, inline: int, embed: bool) -> None:
        self.limit = inline
        self.embed = embed

    def graph(self, g: Graph, indent: str) -> list[str]:
        names = _Names(g)
        ins = ", ".join(self.define(v, names) for v in g.inputs)
        public = g.output_names or [None] * len(g.outputs)  # type: ignore
        outs = ", ".join(
            (json.dumps(p, ensure_ascii=False) + ": " if p is not None else "") + names.ref(v)
            for p, v in zip(public, g.outputs, strict=True)
        )
        lines = [f"graph {_word(g.name)}({ins}) -> ({outs}) {{"]
        inner = indent + "  "
        if g.metadata:
            lines.append(f"{inner}metadata {json.dumps(g.metadata, ensure_ascii=False)}")
        for var in g.variables:
            kind = _type(dtypes.dtype(var.initial.dtype), var.initial.shape)
            name = json.dumps(var.name, ensure_ascii=False)
            lines.append(f"{inner}variable {name}: {kind} = {self.payload(var.initial)}")
        for c in g.constants():
            assert c.data is not None
            lines.append(f"{inner}const {self.define(c, names)} = {self.payload(c.data)}")
        for n in g.nodes:
            outs = ", ".join("_" if v is None else self.define(v, names) for v in n.outputs)
            ins = ", ".join("_" if v is None else names.ref(v) for v in n.inputs)
            line = f"{inner}{outs} = {n.op}({ins})" if outs else f"{inner}{n.op}({ins})"
            if n.attrs:
                line += " {" + ", ".join(f"{k} = {self.attr(v, inner)}" for k, v in n.attrs.items()) + "}"
            if n.name:
                line += " @" + json.dumps(n.name, ensure_ascii=False)
            lines += line.split("\n")
        for key, s in g.signatures.items():
            body = self.graph(s, inner)
            lines.append(f"{inner}signature {json.dumps(key, ensure_ascii=False)} = {body[0]}")
            lines += body[1:]
        return [*lines, indent + "}"]

    def define(self, v: Value, names: _Names) -> str:
        text = f"{names.ref(v)}: {_type(v.dtype, v.shape)}"
        if v.quant is not None:
            q = v.quant
            parts = [] if q.axis is None else [f"axis = {q.axis}"]
            for key, a in (("scale", np.asarray(q.scale)), ("zero_point", np.asarray(q.zero_point))):
                parts.append(f"{key} = {_type(dtypes.dtype(a.dtype), a.shape)} {self.payload(a)}")
            text += f" quant({', '.join(parts)})"
        return text

    def payload(self, a: np.ndarray) -> str:
        if a.size <= self.limit:
            short = a.dtype in (np.float16, np.float32)  # str() of these is the shortest text that reads back
            flat = a.reshape(-1)
            text = "(" + ", ".join(map(str, flat) if short else map(_number, flat.tolist())) + ")"
            if a.dtype.kind not in "fV" or _same_bits(_Parser(text, {}).payload(dtypes.dtype(a.dtype), a.shape), a):
                return text  # else: a NaN with other bits than the canonical one
        elif not self.embed:
            return "sha256:" + digest(a)
        return "base64:" + base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()

    def attr(self, v: Any, indent: str) -> str:
        if isinstance(v, Graph):
            return "\n".join(self.graph(v, indent))
        if isinstance(v, str):
            return json.dumps(v, ensure_ascii=False)
        if isinstance(v, (tuple, list)):
            return "(" + ", ".join(self.attr(x, indent) for x in v) + ")"
        if v is None:
            return "none"
        if isinstance(v, DType):
            return json.dumps(v.name)
        return _number(v.item() if isinstance(v, np.generic) else v)


class _Names:
    """The %name of each value of one graph; equal names get a suffix in order of appearance."""

    def __init__(self, g: Graph) -> None:
        self.refs: dict[Value, str] = {}
        counts: dict[str, int] = {}
        defined = [*g.inputs, *(v for n in g.nodes for v in n.outputs if v is not None), *g.used()]
        for v in defined:
            if v not in self.refs:
                counts[v.name] = k = counts.get(v.name, 0) + 1
                self.refs[v] = "%" + _word(v.name) + (f"~{k}" if k > 1 else "")

    def ref(self, v: Value) -> str:
        return self.refs[v]


def _word(name: str) -> str:
    return name if _WORD.match(name) else json.dumps(name, ensure_ascii=False)


def _type(dtype: DType | None, shape: Shape | None) -> str:
    dims = "..." if shape is None else ", ".join(map(str, shape))
    return f"{dtype.name if dtype is not None else 'none'}[{dims}]"


def _number(x: Any) -> str:
    if isinstance(x, bool):
        return "true" if x else "false"
    if isinstance(x, int):
        return str(x)
    return repr(float(x))


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


class _Parser:
    def __init__(self, text: str, data: Mapping[str, np.ndarray]) -> None:
        self.text = text
        self.data = data
        self.pos = 0

    # ---- characters and tokens
    def fail(self, what: str) -> None:
        line = self.text.count("\n", 0, self.pos) + 1
        near = self.text[self.pos : self.pos + 40].split("\n")[0]
        raise GraphError(f"text line {line}: {what}; got {near!r}.")

    _space = re.compile(r"(?:\s|#[^\n]*)*")
    _string = re.compile(r'"(?:[^"\\]|\\.)*"')
    _bare = re.compile(r"[A-Za-z_][\w./$]*", re.ASCII)
    _num = re.compile(r"-?(?:inf|nan|\d+\.?\d*(?:[eE][-+]?\d+)?)")
    _hex = re.compile(r"[0-9a-f]{64}")
    _b64 = re.compile(r"[A-Za-z0-9+/=]*")

    def skip(self) -> None:
        self.pos = self._space.match(self.text, self.pos).end()  # type: ignore[union-attr]

    def peek(self, token: str) -> bool:
        self.skip()
        return self.text.startswith(token, self.pos)

    def take(self, token: str) -> bool:
        if self.peek(token):
            self.pos += len(token)
            return True
        return False

    def eat(self, token: str) -> None:
        if not self.take(token):
            self.fail(f"expected {token!r}")

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        self.skip()
        m = pattern.match(self.text, self.pos)
        if m is None:
            self.fail(f"expected {what}")
        self.pos = m.end()  # type: ignore[union-attr]
        return m.group()  # type: ignore[union-attr]

    def string(self) -> str:
        return json.loads(self.match(self._string, "a quoted name"))

    def word(self) -> str:
        return self.string() if self.peek('"') else self.match(self._bare, "a name")

    # ---- pieces
    def ref(self) -> tuple[str, str]:
        """(%key, name): the key tells values of one name apart."""
        self.eat("%")
        name = self.word()
        key = name
        if self.text.startswith("~", self.pos):
            self.pos += 1
            key += "~" + self.match(re.compile(r"\d+"), "a number")
        return key, name

    def type(self) -> tuple[DType | None, Shape | None]:
        name = self.match(self._bare, "a dtype")
        if name != "none" and name not in dtypes.BY_NAME:
            self.fail(f"no dtype {name}")
        self.eat("[")
        end = self.text.find("]", self.pos)
        if end < 0:
            self.fail("expected ']'")
        inner = self.text[self.pos : end].strip()
        shape: Shape | None = None
        if inner != "...":
            try:
                shape = tuple(Dim.parse(d) for d in _split_dims(inner))
            except ValueError as e:
                self.fail(str(e))
        self.pos = end + 1
        return dtypes.BY_NAME.get(name), shape

    def define(self) -> tuple[str, Value]:
        key, name = self.ref()
        self.eat(":")
        v = Value(name, *self.type())
        if self.take("quant("):
            axis = None
            if self.take("axis"):
                self.eat("=")
                axis = int(self.match(self._num, "a number"))
                self.eat(",")
            arrays = []
            for part in ("scale", "zero_point"):
                if part == "zero_point":
                    self.eat(",")
                self.eat(part)
                self.eat("=")
                arrays.append(self.payload(*self.static_type()))
            self.eat(")")
            v.quant = QuantParams(arrays[0], arrays[1], axis)
        return key, v

    def static_type(self) -> tuple[DType, tuple[int, ...]]:
        dtype, shape = self.type()
        if dtype is None or shape is None or not all(isinstance(d, int) for d in shape):
            self.fail("data needs a dtype and a fixed shape")
        return dtype, shape  # type: ignore[return-value]

    def payload(self, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape, dtype=np.int64))
        if self.take("sha256:"):
            key = self.match(self._hex, "a sha256")
            if key not in self.data:
                self.fail(f"no data for the constant with sha256 {key}; pass data=constant_data(graph)")
            a = self.data[key]
            if a.size != count or a.dtype != dtype.np:
                self.fail(f"the data of sha256 {key} is {a.dtype}{list(a.shape)}")
            return a.reshape(shape)
        if self.take("base64:"):
            raw = base64.b64decode(self.match(self._b64, "base64"))
            if len(raw) != count * dtype.itemsize:
                self.fail(f"{len(raw)} bytes for {count} elements of {dtype}")
            return np.frombuffer(bytearray(raw), dtype.np).reshape(shape)
        values = self.tuple()
        if len(values) != count:
            self.fail(f"{len(values)} values for {count} elements")
        try:
            return np.array(values, dtype=dtype.np).reshape(shape)
        except (TypeError, ValueError, OverflowError) as e:
            self.fail(f"values do not fit {dtype} ({e})")
            raise

    def tuple(self) -> tuple[Any, ...]:
        self.eat("(")
        out: list[Any] = []
        while not self.take(")"):
            if out:
                self.eat(",")
            out.append(self.attr())
        return tuple(out)

    def attr(self) -> Any:
        if self.peek('"'):
            return self.string()
        if self.peek("("):
            return self.tuple()
        for word, value in (("true", True), ("false", False), ("none", None)):
            if self.take(word):
                return value
        if self.take("graph"):
            return self.graph()
        text = self.match(self._num, "a value")
        return int(text) if text.lstrip("-").isdigit() else float(text)

    def graph(self) -> Graph:
        g = Graph(name=self.word())
        values: dict[str, Value] = {}

        def declare(key: str, v: Value) -> Value:
            if key in values:
                self.fail(f"value %{key} is defined twice")
            values[key] = v
            return v

        self.eat("(")
        while not self.take(")"):
            if g.inputs:
                self.eat(",")
            g.inputs.append(declare(*self.define()))
        self.eat("->")
        self.eat("(")
        wanted: list[tuple[str, int]] = []
        while not self.take(")"):
            if wanted:
                self.eat(",")
            if self.peek('"'):
                g.output_names.append(self.string())
                self.eat(":")
            self.skip()
            at = self.pos
            wanted.append((self.ref()[0], at))
        self.eat("{")
        while not self.take("}"):
            self.line(g, values, declare)
        for key, at in wanted:
            if key not in values:
                self.pos = at
                self.fail(f"value %{key} is not defined")
            g.outputs.append(values[key])
        if len(g.output_names) not in (0, len(g.outputs)):
            self.fail("name all outputs or none")
        return g

    def line(self, g: Graph, values: dict[str, Value], declare: Any) -> None:
        if self.take("metadata "):
            self.skip()
            g.metadata, self.pos = json.JSONDecoder().raw_decode(self.text, self.pos)
        elif self.take("variable "):
            name = self.string()
            self.eat(":")
            kind = self.static_type()
            self.eat("=")
            g.variables.append(Variable(name, self.payload(*kind)))
        elif self.take("signature "):
            name = self.string()
            self.eat("=")
            self.eat("graph")
            g.signatures[name] = self.graph()
        elif self.take("const "):
            key, v = self.define()
            self.eat("=")
            if v.dtype is None or v.shape is None or not all(isinstance(d, int) for d in v.shape):
                self.fail("a constant needs a dtype and a fixed shape")
            v.data = self.payload(v.dtype, v.shape)  # type: ignore[arg-type]
            declare(key, v)
        else:
            self.node(g, values, declare)

    def node(self, g: Graph, values: dict[str, Value], declare: Any) -> None:
        outs: list[tuple[str, Value] | None] = []
        while self.peek("%") or self.peek("_"):
            outs.append(None if self.take("_") else self.define())
            if not self.take(","):
                break
        if outs:
            self.eat("=")
        op = self.match(self._bare, "an op")
        ins: list[Value | None] = []
        self.eat("(")
        first = True
        while not self.take(")"):
            if not first:
                self.eat(",")
            first = False
            if self.take("_"):
                ins.append(None)
                continue
            key, _ = self.ref()
            if key not in values:
                self.fail(f"value %{key} is not defined here")
            ins.append(values[key])
        attrs: dict[str, Any] = {}
        if self.take("{"):
            while not self.take("}"):
                if attrs:
                    self.eat(",")
                key = self.match(self._bare, "an attr")
                self.eat("=")
                attrs[key] = self.attr()
        name = self.string() if self.take("@") else ""
        g.nodes.append(Node(op, ins, [None if o is None else o[1] for o in outs], attrs, name))
        for o in outs:
            if o is not None:
                declare(*o)


def _split_dims(text: str) -> list[str]:
    """Split at commas outside brackets."""
    out, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            out.append(text[start:i])
            start = i + 1
    return [*out, text[start:]] if text.strip() else []
