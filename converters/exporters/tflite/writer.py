"""FlatBuffer tables by rows of facts (``ir/tflite_schema.py``): a Python object per table, packed at the end.

The bytes depend on the tables alone.  Data of buffers is aligned to 16 bytes, as the format asks; where all of it would
not fit into the 2 GB that FlatBuffer offsets reach, it follows behind the FlatBuffer.
"""

from __future__ import annotations

import mmap
from typing import Any

import flatbuffers
import numpy as np

from deploykit.converters.ir.tflite_schema import OPTIONS, OPTIONS2, TABLES

_PREPEND = {
    "bool": "Bool",
    "i8": "Int8",
    "u8": "Uint8",
    "i16": "Int16",
    "u16": "Uint16",
    "i32": "Int32",
    "u32": "Uint32",
    "i64": "Int64",
    "u64": "Uint64",
    "f32": "Float32",
}
_NUMPY = dict(bool="u1", i8="i1", u8="u1", i16="<i2", u16="<u2", i32="<i4", u32="<u4", i64="<i8", u64="<u8", f32="<f4")
LARGE = 3 << 29  # bytes of data from which buffers are put behind the FlatBuffer
_ALIGN = 16


class Table:
    """A table of the schema with some of its fields."""

    def __init__(self, kind: str, **fields: Any) -> None:
        known = {w.partition(":")[0] for w in TABLES.get(kind, "").split()}
        assert set(fields) <= known, (kind, set(fields) - known)
        self.kind = kind
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(name)


def options(kind: str, **fields: Any) -> dict[str, Any]:
    """The fields of an Operator that hold its options."""
    if kind in OPTIONS:
        return dict(builtin_options_type=OPTIONS.index(kind), builtin_options=Table(kind, **fields))
    return dict(builtin_options2_type=OPTIONS2.index(kind), builtin_options2=Table(kind, **fields))


def pack(model: Table) -> bytes:
    """The file's bytes."""
    return b"".join(parts(model))


def parts(model: Table) -> list[Any]:
    """The file's bytes in pieces: data of buffers as they are, not copied."""
    total = sum(_bytes(b).nbytes for b in model.buffers)
    if total < LARGE:
        return _flat(model)
    behind = [b for b in model.buffers if _bytes(b).nbytes]
    sizes = [_bytes(b) for b in behind]
    for b in behind:
        b.fields["offset"], b.fields["size"] = 2, 2  # to be known when the length of the FlatBuffer is
        del b.fields["data"]
    at = -(-sum(map(len, _flat(model))) // 64) * 64
    data: list[Any] = []
    start = at
    for b, raw in zip(behind, sizes, strict=True):
        b.fields["offset"], b.fields["size"] = at, raw.nbytes
        pad = -raw.nbytes % _ALIGN
        data += [raw, bytes(pad)]
        at += raw.nbytes + pad
    head = _flat(model)
    return [*head, bytes(start - sum(map(len, head))), *data]


def _bytes(buffer: Table) -> np.ndarray:
    data = buffer.fields.get("data")
    return np.empty(0, np.uint8) if data is None else data


def _flat(model: Table) -> list[Any]:
    room = sum(_bytes(b).nbytes + 64 for b in model.buffers)
    builder = flatbuffers.Builder(0)
    builder.head = room + (1 << 16)  # large enough to grow seldom: growing copies everything
    builder.Bytes = mmap.mmap(-1, builder.head)
    builder.ForceDefaults(False)
    packer = _Packer(builder)
    builder.Finish(packer.table(model), b"TFL3")
    whole = memoryview(builder.Bytes)
    parts: list[Any] = []
    at = builder.head
    for behind, data in reversed(packer.data):
        parts += [whole[at : len(whole) - behind], data]
        at = len(whole) - behind + len(data)
    return [*parts, whole[at:]]


class _Packer:
    def __init__(self, builder: flatbuffers.Builder) -> None:
        self.b = builder
        self.data: list[tuple[int, np.ndarray]] = []  # of buffers, and where it goes, as bytes from the end

    def table(self, t: Table) -> int:
        """Write a table after everything it points to; returns its offset."""
        b = self.b
        slots: list[tuple[int, str, Any, Any]] = []
        words = TABLES.get(t.kind, "").split()
        for i, word in enumerate(words):
            name, _, rest = word.partition(":")
            if name not in t.fields or t.fields[name] is None:
                continue
            kind, _, default = rest.partition("=")
            value = t.fields[name]
            if kind in _PREPEND:
                slots.append((i, kind, value, float(default or 0) if kind == "f32" else int(default or 0)))
            else:
                slots.append((i, "", self.pointed(t, name, kind, value), 0))
        b.StartObject(len(words))
        for i, kind, value, default in slots:
            if kind:
                number = bool(value) if kind == "bool" else float(value) if kind == "f32" else int(value)
                getattr(b, f"Prepend{_PREPEND[kind]}Slot")(i, number, default)
            else:
                b.PrependUOffsetTRelativeSlot(i, value, 0)
        return b.EndObject()

    def pointed(self, t: Table, name: str, kind: str, value: Any) -> int:
        """Write what a field points to."""
        b = self.b
        if kind == "str":
            return b.CreateString(value)
        if not kind.startswith("["):
            return self.table(value)
        inner = kind[1:-1]
        if inner in _NUMPY:
            array = np.ascontiguousarray(np.asarray(value).reshape(-1), np.dtype(_NUMPY[inner]))
            return self.raw(array) if (t.kind, name) == ("Buffer", "data") else b.CreateNumpyVector(array)
        offsets = [self.table(v) for v in value]
        b.StartVector(4, len(offsets), 4)
        for o in reversed(offsets):
            b.PrependUOffsetTRelative(o)
        return b.EndVector()

    def raw(self, data: np.ndarray) -> int:
        """A buffer's data, its first byte aligned: room for it, which stays untouched memory."""
        b = self.b
        b.StartVector(1, data.nbytes, 1)
        b.Prep(_ALIGN, data.nbytes)
        b.head = b.head - data.nbytes
        self.data.append((len(b.Bytes) - b.head, data))
        return b.EndVector()
