"""The tables of a ``.dk`` header, field by field as ``runtime/schema/dk.fbs`` has them: what reads and writes them.

A row gives a table's fields in the order of their slots, ``name:kind`` or ``name:kind=default`` (0 where not said).  From
it come the functions of FlatBuffers' own generator: ``Node.Op()``, ``Node.Inputs(i)``, ``Node.InputsLength()`` to read,
``NodeStart(builder)``, ``NodeAddOp(builder, op)``, ``NodeEnd(builder)`` to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table as _Table

TABLES = {
    "Attr": "id:ubyte i:long f:double ints:[long] floats:[double] s:string",
    "Node": "op:ushort inputs:[int] outputs:[int] attrs:[Attr] name:string",
    "Input": "value:int name:string dtype:ubyte dims:[long] no_rank:bool",
    "Quant": "value:int scale:[float] zero_point:[int] axis:int=-1",
    "Constant": "value:int dtype:ubyte dims:[long] offset:ulong size:ulong",
    "GraphDef": (
        "name:string n_values:uint inputs:[Input] outputs:[int] output_names:[string] constants:[Constant] nodes:[Node] "
        "value_names:[string] quants:[Quant]"
    ),
    "Variable": "name:string dtype:ubyte dims:[long] offset:ulong size:ulong",
    "Signature": "name:string graph:uint",
    "Meta": "key:string value:string",
    "Model": (
        "format_version:uint header_size:ulong header_crc:uint weights_offset:ulong weights_size:ulong crc_chunk:ulong "
        "weights_crcs:[uint] symbols:[string] graphs:[GraphDef] signatures:[Signature] variables:[Variable] "
        "metadata:[Meta] producer:string"
    ),
}
_NUMBERS = dict(
    bool="Bool", ubyte="Uint8", ushort="Uint16", int="Int32", uint="Uint32", long="Int64", ulong="Uint64",
    float="Float32", double="Float64",
)  # fmt: skip


class Table:
    """A table in a buffer."""

    __slots__ = ("_tab",)

    def __init__(self, data: Any, at: int) -> None:
        self._tab = _Table(data, at)

    @classmethod
    def GetRootAs(cls, data: Any, offset: int = 0) -> Any:
        """The root table of a FlatBuffer."""
        return cls(data, encode.Get(packer.uoffset, data, offset) + offset)


def _reader(slot: int, kind: str, default: int) -> Callable[..., Any]:
    """A method that reads a field; of a vector, one element."""
    offset, inner = 4 + 2 * slot, kind.strip("[]")
    flags = getattr(number_types, f"{_NUMBERS[inner]}Flags") if inner in _NUMBERS else None

    def element(tab: Any, at: int) -> Any:
        if flags is not None:
            return tab.Get(flags, at)
        return tab.String(at) if inner == "string" else globals()[inner](tab.Bytes, tab.Indirect(at))

    if kind == inner:
        none = None if flags is None else False if kind == "bool" else flags.py_type(default)

        def one(self: Table) -> Any:
            o = self._tab.Offset(offset)
            return element(self._tab, o + self._tab.Pos) if o else none

        return one
    width = 4 if flags is None else flags.bytewidth

    def item(self: Table, i: int) -> Any:
        o = self._tab.Offset(offset)
        if o:
            return element(self._tab, self._tab.Vector(o) + i * width)
        return 0 if flags is not None else "" if inner == "string" else None

    return item


def _length(slot: int) -> Callable[[Table], int]:
    def length(self: Table) -> int:
        o = self._tab.Offset(4 + 2 * slot)
        return self._tab.VectorLen(o) if o else 0

    return length


def _writer(slot: int, kind: str, default: int) -> Callable[[flatbuffers.Builder, Any], None]:
    put = f"Prepend{_NUMBERS.get(kind, 'UOffsetTRelative')}Slot"
    return lambda builder, value: getattr(builder, put)(slot, value, default)


def _make(name: str, row: str) -> None:
    words, methods, g = row.split(), {}, globals()
    for slot, word in enumerate(words):
        field, _, rest = word.partition(":")
        kind, _, default = rest.partition("=")
        title = field.title().replace("_", "")
        methods[title] = _reader(slot, kind, int(default or 0))
        if kind[0] == "[":
            methods[f"{title}Length"] = _length(slot)
        g[f"{name}Add{title}"] = _writer(slot, kind, int(default or 0))
    g[name] = type(name, (Table,), {"__slots__": (), "__doc__": row, **methods})
    g[f"{name}Start"] = lambda builder: builder.StartObject(len(words))
    g[f"{name}End"] = lambda builder: builder.EndObject()


for _name, _row in TABLES.items():
    _make(_name, _row)


def __getattr__(name: str) -> Any:  # what the loop made; others are mistakes
    raise AttributeError(name)
