"""Read FlatBuffer tables by rows of facts (``ir/tflite_schema.py``), trusting no byte.

Every offset, length and vtable is checked against the file before it is followed; a table is decoded once however often
it is pointed to, and the whole may not take more work than a small multiple of the file's size, so a crafted file can
neither make the reader leave its bytes nor keep it busy.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from deploykit.converters.ir.tflite_schema import OPTIONS, OPTIONS2, TABLES
from deploykit.errors import FormatError

_NUMBERS = {
    "bool": ("<B", "u1"),
    "i8": ("<b", "i1"),
    "u8": ("<B", "u1"),
    "i16": ("<h", "<i2"),
    "u16": ("<H", "<u2"),
    "i32": ("<i", "<i4"),
    "u32": ("<I", "<u4"),
    "i64": ("<q", "<i8"),
    "u64": ("<Q", "<u8"),
    "f32": ("<f", "<f4"),
}
_UNIONS: dict[str, tuple[str, ...]] = {
    "builtin_options": OPTIONS,
    "builtin_options2": OPTIONS2,
    "details": ("NONE", "CustomQuantization", "BlockwiseQuantization", "MultiAxisQuantization"),
    "array_segments": ("NONE", "Int32Vector", "Uint16Vector", "Uint8Vector"),
    "array_indices": ("NONE", "Int32Vector", "Uint16Vector", "Uint8Vector"),
    "options": ("NONE", "NormalizationOptions"),
}
_DEPTH = 32


class Row:
    """One decoded table: fields as attributes; ``kind`` is the table's name, ``has(name)`` whether it was written."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.written: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the file holds this field (else it has its default)."""
        return name in self.written

    def __getattr__(self, name: str) -> Any:  # only for what is no field: a clear error, and quiet type checkers
        raise AttributeError(f"{self.kind} has no field '{name}'")


def _fields(kind: str) -> list[tuple[str, str, Any]]:
    out = []
    for word in TABLES.get(kind, "").split():
        name, _, rest = word.partition(":")
        what, _, default = rest.partition("=")
        number = what in _NUMBERS
        out.append((name, what, (int(default or 0) if what != "f32" else float(default or 0)) if number else None))
    return out


_FIELDS: dict[str, list[tuple[str, str, Any]]] = {}


class FlatReader:
    """A FlatBuffer over bytes or a memory map.  ``root(kind)`` decodes everything but raw data, which stays a view."""

    def __init__(self, data: Any, source: str) -> None:
        self.data = data
        self.size = len(data)
        self.source = source
        self.rows: dict[tuple[str, int], Row] = {}
        self.budget = 8 * self.size + 4096

    def bad(self, what: str) -> FormatError:
        """The error for a damaged file."""
        return FormatError(
            f"{self.source} is damaged or cut off: {what} (file of {self.size} bytes). Get the file again."
        )

    def _number(self, code: str, at: int, what: str) -> int | float:
        if at < 0 or at + struct.calcsize(code) > self.size:
            raise self.bad(f"{what} at byte {at} lies outside the file")
        return struct.unpack_from(code, self.data, at)[0]

    def _offset(self, at: int, what: str) -> int:
        to = at + int(self._number("<I", at, what))
        if to == at or to > self.size - 4:
            raise self.bad(f"{what} at byte {at} points outside the file")
        return to

    def _spend(self, n: int) -> None:
        self.budget -= n
        if self.budget < 0:
            raise self.bad("its tables refer to the same bytes over and over")

    def root(self, kind: str) -> Row:
        """The root table."""
        return self.table(kind, self._offset(0, "the root table"), 0)

    def table(self, kind: str, at: int, depth: int) -> Row:
        """The table of a kind at a byte."""
        if (kind, at) in self.rows:
            return self.rows[kind, at]
        if depth > _DEPTH:
            raise self.bad(f"tables nested deeper than {_DEPTH}")
        if kind not in _FIELDS:
            _FIELDS[kind] = _fields(kind)
        vtable = at - int(self._number("<i", at, f"{kind} table"))
        length = int(self._number("<H", vtable, f"layout of a {kind} table"))
        if length < 4 or length % 2 or vtable + length > self.size:
            raise self.bad(f"layout of the {kind} table at byte {at} is not valid")
        extent = int(self._number("<H", vtable + 2, f"layout of a {kind} table"))
        row = self.rows[kind, at] = Row(kind)
        self._spend(length)
        for i, (name, what, default) in enumerate(_FIELDS[kind]):
            if name == "-":
                continue
            slot = 4 + 2 * i
            place = int(self._number("<H", vtable + slot, "field")) if slot + 2 <= length else 0
            if not place:
                row.__dict__[name] = default
                continue
            if place < 4 or place >= extent:
                raise self.bad(f"field '{name}' lies outside its {kind} table at byte {at}")
            row.written.add(name)
            row.__dict__[name] = self._field(row, name, what, at + place, depth)
        return row

    def _field(self, row: Row, name: str, what: str, at: int, depth: int) -> Any:
        where = f"{row.kind}.{name}"
        if what in _NUMBERS:
            v = self._number(_NUMBERS[what][0], at, where)
            return bool(v) if what == "bool" else v
        if what == "union":
            kinds, index = _UNIONS[name], int(getattr(row, name + "_type"))
            if not 0 < index < len(kinds):
                return None  # a kind newer than this reader, or none: whoever needs it says so
            return self.table(kinds[index], self._offset(at, where), depth + 1)
        to = self._offset(at, where)
        if what == "str":
            return bytes(self._vector("u8", to, where)).decode("utf-8", "replace")
        if what.startswith("["):
            return self._vector(what[1:-1], to, where, depth)
        return self.table(what, to, depth + 1)

    def _vector(self, what: str, at: int, where: str, depth: int = 0) -> Any:
        n = int(self._number("<I", at, where))
        if what in _NUMBERS:
            dtype = np.dtype(_NUMBERS[what][1])
            if n * dtype.itemsize > self.size - at - 4:
                raise self.bad(f"{where} at byte {at} claims {n} elements, more than the file holds")
            return np.frombuffer(self.data, dtype, n, at + 4)
        if n * 4 > self.size - at - 4:
            raise self.bad(f"{where} at byte {at} claims {n} entries, more than the file holds")
        self._spend(4 * n)
        places = [self._offset(at + 4 + 4 * i, where) for i in range(n)]
        if what == "str":
            return [bytes(self._vector("u8", to, where)).decode("utf-8", "replace") for to in places]
        return [self.table(what, to, depth + 1) for to in places]


def empty_row(kind: str) -> Row:
    """A table of which nothing is written: every field has its default."""
    row = Row(kind)
    for name, _, default in _fields(kind):
        row.__dict__[name] = default
    return row
