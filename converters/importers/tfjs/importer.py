"""A graph model: TensorFlow's GraphDef as JSON -> Graph, node by node in the order of their data."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from deploykit import dtypes
from deploykit.converters.importers.tfjs.call import HANDLERS, MISSING, Call
from deploykit.converters.importers.tfjs.reader import Source, read_model
from deploykit.converters.ir.build import Body, Problems
from deploykit.dtypes import DType
from deploykit.errors import FormatError, GraphError, InputError, ShapeError, UnsupportedError
from deploykit.graph import Dim, Graph, Value
from deploykit.graph.growth import reading

# TensorFlow.js has no 64-bit integers: they are int32 there, and so they are here
_TYPES = {"DT_FLOAT": "float32", "DT_INT32": "int32", "DT_INT64": "int32", "DT_BOOL": "bool", "DT_HALF": "float32",
          "DT_UINT8": "int32", "DT_INT8": "int32", "DT_INT16": "int32", "DT_DOUBLE": "float32"}  # fmt: skip
_NUMBERS = {1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8", 9: "DT_INT64",
            10: "DT_BOOL", 19: "DT_HALF"}  # fmt: skip
_CONTROL = {
    "Switch",
    "Merge",
    "Enter",
    "Exit",
    "NextIteration",
    "LoopCond",
    "If",
    "While",
    "StatelessIf",
    "StatelessWhile",
}


def import_tfjs(source: Any, *, input_shapes: dict[str, list[int | str]] | None = None) -> Graph:
    """Read a TensorFlow.js model, layers or graph, into a :class:`Graph`.

    ``source`` is the path of ``model.json``; its weight shards stand beside it, quantized ones are read as the numbers
    that they stand for.  Inputs and outputs have the names that TensorFlow.js shows (``model.inputs``, without ``:0``);
    int64 is int32, as there.  ``input_shapes`` replaces the declared shapes of a graph model's inputs.

    Raises FormatError (damaged, missing or foreign files), UnsupportedError (every op or layer that has no counterpart,
    by name), InputError (``input_shapes`` does not fit).

        graph = import_tfjs("model.json")
    """
    with reading(source):
        model = read_model(source)
        if model.is_layers:
            from deploykit.converters.importers.tfjs.layers import import_layers

            if input_shapes:
                raise InputError(
                    "input shapes of a layers model are those of its Input layers; only a graph model takes others."
                )
            graph = import_layers(model)
        else:
            graph = Importer(model, input_shapes or {}).run()
    graph.metadata |= {"source_format": "tfjs"}
    for key, ours in (("generatedBy", "source_producer"), ("convertedBy", "source_converter")):
        if isinstance(model.info.get(key), str):
            graph.metadata[ours] = model.info[key]
    return graph


class Importer:
    """State of one import of a graph model."""

    def __init__(self, source: Source, input_shapes: dict[str, list[int | str]]) -> None:
        self.source = source
        self.input_shapes = input_shapes
        self.problems = Problems(source.name)
        nodes = source.topology.get("node")
        if not isinstance(nodes, list) or not all(isinstance(n, dict) for n in nodes):
            raise FormatError(f"{source.name}: the topology's 'node' is no list of nodes.")
        self.nodes: dict[str, dict[str, Any]] = {}
        for n in nodes:
            if not isinstance(n.get("name"), str) or not isinstance(n.get("op"), str):
                raise FormatError(f"{source.name}: a node has no name or no op: {str(n)[:80]}")
            if not isinstance(n.get("input", []), list) or not all(isinstance(i, str) for i in n.get("input", [])):
                raise FormatError(f"{source.name}: node '{n['name']}': its inputs are no list of names.")
            given = n.get("attr", {})
            if not isinstance(given, dict) or not all(isinstance(a, dict) for a in given.values()):
                raise FormatError(f"{source.name}: node '{n['name']}': its attributes are no object of objects.")
            if n["name"] in self.nodes:
                raise FormatError(f"{source.name}: two nodes are named '{n['name']}'.")
            self.nodes[n["name"]] = n
        self.graph = Graph(name="main")
        self.body = Body(self.graph)
        self.env: dict[str, list[Any]] = {}

    def run(self) -> Graph:
        """Import; raises one error with all problems."""
        outputs = self._outputs()
        order = self._order(outputs)
        for name in order:
            op = self.nodes[name]["op"]
            if op not in HANDLERS and op not in ("Placeholder", "PlaceholderWithDefault", "Const"):
                self.problems.note(UnsupportedError(_why_not(op)), name, op)
        inputs = self._inputs(order)
        for name in self.input_shapes:
            if name not in inputs:
                raise InputError(
                    f"input_shapes: the model has no input '{name}'; it has {', '.join(map(repr, inputs)) or 'none'}."
                )
        self.body.reserve(n for n in order if n not in inputs)
        for name in inputs:
            self._placeholder(name)
        for name in order:
            if name not in self.env:
                self.env[name] = self._node(name)
        used: set[str] = set()
        for ref in outputs:
            item = self.value(ref)
            name = ref.partition(":")[0] if ref.partition(":")[0] not in used else ref
            used.add(name)
            if isinstance(item, Value):
                self.body.builder.output(item, name)
            elif item is not MISSING:
                self.problems.note(UnsupportedError("the model's output is no tensor"), name)
        self.problems.fail()
        self._signatures()
        return self.graph

    # ---- what the file promises
    def _signature(self) -> dict[str, Any]:
        s = self.source.info.get("signature") or (self.source.info.get("userDefinedMetadata") or {}).get("signature")
        return s if isinstance(s, dict) else {}

    def _infos(self, side: str) -> dict[str, Any]:
        infos = self._signature().get(side)
        infos = infos if isinstance(infos, dict) else {}
        for k, v in infos.items():
            if not isinstance(v, dict) or not isinstance(v.get("name"), str):
                raise FormatError(
                    f"{self.source.name}: signature, {side}, '{k}': expected an object with a name, got {str(v)[:60]}"
                )
        return infos

    def _outputs(self) -> list[str]:
        refs = [i["name"] for i in self._infos("outputs").values() if isinstance(i.get("name"), str)]
        if not refs:  # nodes that nobody reads
            read = {_split(i)[0] for n in self.nodes.values() for i in n.get("input", [])}
            passive = ("Const", "NoOp", "Placeholder")
            refs = [n for n, d in self.nodes.items() if n not in read and d["op"] not in passive]
        if not refs:
            raise FormatError(f"{self.source.name}: the graph has no outputs.")
        return refs

    def _inputs(self, order: list[str]) -> list[str]:
        """The placeholders: in the signature's order, then in the file's."""
        signed = [_split(i["name"])[0] for i in self._infos("inputs").values() if isinstance(i.get("name"), str)]
        found = [n for n in dict.fromkeys(signed) if n in self.nodes]
        reached = set(order)
        more = [
            n for n, d in self.nodes.items() if d["op"].startswith("Placeholder") and n in reached and n not in found
        ]
        return found + more

    def _signatures(self) -> None:
        found = {}
        for side, values in (("inputs", self.graph.inputs), ("outputs", self.graph.outputs)):
            names = {v.name for v in values} | (set(self.graph.output_names or []) if side == "outputs" else set())
            infos = self._infos(side)
            found[side] = {
                k: _split(i.get("name", ""))[0] for k, i in infos.items() if _split(i.get("name", ""))[0] in names
            }
        if any(found.values()):
            self.graph.metadata["signatures"] = {"serving_default": found}

    def _order(self, refs: list[str]) -> list[str]:
        """What the outputs need, each node after its inputs."""
        order: list[str] = []
        state: dict[str, int] = {}  # 1 being visited, 2 done
        stack = [_split(r)[0] for r in reversed(refs)]
        while stack:
            name = stack[-1]
            if name not in self.nodes:
                raise FormatError(f"{self.source.name}: there is no node '{name}', which an output or a node reads.")
            if state.get(name) == 2:
                stack.pop()
                continue
            needs = [_split(i)[0] for i in self.nodes[name].get("input", []) if not i.startswith("^")]
            left = [n for n in needs if state.get(n) != 2]
            if state.get(name) == 1 or not left:
                if left:
                    if self.nodes[name]["op"] in _CONTROL or any(
                        self.nodes[n]["op"] in _CONTROL for n in left if n in self.nodes
                    ):
                        raise UnsupportedError(f"{self.source.name}: {_why_not('Switch')} (node '{name}').")
                    raise FormatError(f"{self.source.name}: the graph has a cycle at node '{name}'.")
                state[name] = 2
                order.append(stack.pop())
                continue
            state[name] = 1
            stack += reversed(left)
        return order

    # ---- nodes
    def _placeholder(self, name: str) -> None:
        node = self.nodes[name]
        info: dict[str, Any] = next(
            (i for i in self._infos("inputs").values() if _split(str(i.get("name")))[0] == name), {}
        )
        dtype = self.dtype(attr(node, "dtype", attr(node, "T", info.get("dtype"))), name)
        shape = self.input_shapes.get(name)
        declared = _dims(info.get("tensorShape")) or _dims(node.get("attr", {}).get("shape", {}).get("shape"))
        if shape is not None and declared is not None and len(shape) != len(declared):
            raise InputError(f"input_shapes: '{name}' has {len(declared)} dims; got {len(shape)}: {list(shape)}.")
        dims: Any = shape if shape is not None else declared
        if dims is not None:
            symbol = lambda i: "batch" if i == 0 else f"{_word(name)}_{i}"  # noqa: E731
            dims = tuple(
                d if isinstance(d, int) and d >= 0 else Dim.symbol(d if isinstance(d, str) else symbol(i))
                for i, d in enumerate(dims)
            )  # fmt: skip
        self.env[name] = [self.body.input(name, dtype, dims)]

    def _node(self, name: str) -> list[Any]:
        node = self.nodes[name]
        op = node["op"]
        if op == "Const":
            if name not in self.source.weights:
                raise FormatError(f"{self.source.name}: the constant '{name}' is in no shard.")
            return [self.body.constant(self.source.weights[name], name)]
        if op not in HANDLERS:
            return [MISSING]
        items = [self.value(i) for i in node.get("input", []) if not i.startswith("^")]
        if any(i is MISSING for i in items):
            return [MISSING]
        try:
            got = HANDLERS[op](Call(self, self.body, node, items))
        except (UnsupportedError, ShapeError, GraphError, FormatError) as e:
            self.problems.note(e, name, op)
            return [MISSING]
        many = list(got) if isinstance(got, (list, tuple)) else [got]
        if isinstance(many[0], Value) and not many[0].is_constant and many[0] not in items:
            self.body.rename(many[0], name)
        return many

    def value(self, ref: str) -> Any:
        """What a reference ``node`` or ``node:1`` stands for."""
        name, index = _split(ref)
        many = self.env[name]
        if many[0] is MISSING:
            return MISSING
        if index >= len(many) or many[index] is None:
            self.problems.note(UnsupportedError(f"output {index} of it is not supported"), name, self.nodes[name]["op"])
            return MISSING
        return many[index]

    def dtype(self, code: Any, name: str) -> DType:
        """Our dtype of a TensorFlow type, given by name or number."""
        code = _NUMBERS.get(code, code) if isinstance(code, (int, str)) else str(code)[:60]
        if code not in _TYPES:
            raise UnsupportedError(f"{self.source.name}: '{name}' has type {code}, which has no counterpart here.")
        return dtypes.dtype(_TYPES[code])


def attr(node: dict[str, Any], name: str, default: Any = None) -> Any:
    """An attribute: numbers, booleans, words, lists of them; int64 stands as text in JSON, bytes in base 64."""
    a = node.get("attr", {}).get(name)
    if a is None:
        return default
    try:
        return _attr(a, default)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise FormatError(f"attribute '{name}' of node '{node['name']}' is damaged: {str(a)[:60]}") from None


def _attr(a: dict[str, Any], default: Any) -> Any:
    for kind, read in (("i", int), ("f", float), ("b", bool), ("s", _text), ("type", lambda t: t)):
        if kind in a:
            return read(a[kind])
    if "list" in a:
        for kind, read in (("i", int), ("f", float), ("b", bool), ("s", _text)):
            if kind in a["list"]:
                return [read(x) for x in a["list"][kind]]
        return []
    return _dims(a["shape"]) if "shape" in a else default


def _text(s: Any) -> str:
    if isinstance(s, list):
        return bytes(s).decode("utf-8", "replace")
    return base64.b64decode(s, validate=True).decode("utf-8", "replace")


def _dims(shape: Any) -> tuple[int, ...] | None:
    """The dims of a TensorShapeProto; None when the rank is not known."""
    if not isinstance(shape, dict) or shape.get("unknownRank"):
        return None
    try:
        return tuple(int(d.get("size", 0)) for d in shape.get("dim", []))
    except (TypeError, ValueError, AttributeError):
        raise FormatError(f"a shape is damaged: {str(shape)[:60]}") from None


def _split(ref: str) -> tuple[str, int]:
    name, _, index = ref.removeprefix("^").partition(":")
    return name, int(index) if index.isdigit() else 0


def _word(name: str) -> str:
    word = "".join(ch if ch.isalnum() and ch.isascii() else "_" for ch in name)
    return word if word[:1].isalpha() else f"d{word}"


def _why_not(op: str) -> str:
    if op in _CONTROL or op.startswith(("TensorList", "TensorArray")):
        return (
            "control flow of TensorFlow graphs is not supported; convert the original SavedModel through TFLite or ONNX"
        )
    return "not supported. Convert the original model through TFLite or ONNX, or leave this op out"


# the handlers register themselves; they come last because they need names from this module
from deploykit.converters.importers.tfjs import handlers_math, handlers_nn, handlers_shape  # noqa: E402, F401
