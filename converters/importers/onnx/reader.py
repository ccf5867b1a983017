"""Bytes of an ONNX file -> ModelProto, and TensorProto -> NumPy array, without copying the weights.

A protobuf parser copies every byte of a file into its own objects.  To keep the weights memory-mapped we walk the wire
format first (https://protobuf.dev/programming-guides/encoding/): tensors whose ``raw_data`` is large are handed to the
parser without it and with a note, in the fields ONNX has for external data, of where in the file the bytes are.  The
same walk tells a truncated or foreign file from an ONNX one and says where it breaks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph.growth import check_shape

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SELF = "\0self"  # external_data location of weights inside the model file itself
_LARGE = 4096  # bytes of raw_data worth leaving in the file

# message fields to descend into: (message, field number) -> message
_PATH = {
    ("Model", 7): "Graph",
    ("Graph", 1): "Node",
    ("Graph", 5): "Tensor",
    ("Node", 5): "Attribute",
    ("Attribute", 5): "Tensor",
    ("Attribute", 6): "Graph",
}
_RAW_DATA = 9  # TensorProto.raw_data
_DEPTH = 100  # messages within each other: what protobuf's own parser takes

_MAGIC = [
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the model; fetch it with `git lfs pull`"),
    (b"\x1f\x8b", 0, "gzip-compressed; unpack it first"),
    (b"PK\x03\x04", 0, "a zip archive (perhaps .keras, .pt2 or a packed download); unpack it or give its own importer"),
    (b"\x89HDF", 0, "an HDF5 file (Keras .h5), not ONNX"),
    (b"TFL3", 4, "a TFLite file; name it .tflite"),
    (b"DKIT", 4, "a .dk file already"),
    (b"\x80\x02", 0, "a Python pickle (PyTorch checkpoint); export it to ONNX first"),
]


def onnx_module() -> Any:
    """The ``onnx`` package, or an error that says how to get it."""
    try:
        import onnx
    except ImportError as e:
        raise UnsupportedError("reading ONNX files needs the package 'onnx': pip install onnx.") from e
    return onnx


def read_model(source: Any) -> tuple[ModelProto, Weights]:
    """Read a path, bytes or ModelProto; returns the model and the :class:`Weights` that resolve its tensors.

    Raises FormatError when the bytes are not a complete ONNX model, saying what they are instead.
    """
    onnx = onnx_module()
    if isinstance(source, onnx.ModelProto):
        return source, Weights("the model", None, None)
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, base = "the given bytes", None
        data = np.frombuffer(source, np.uint8)
    else:
        path = Path(os.fspath(source))
        name, base = str(path), path.resolve().parent
        try:
            size = path.stat().st_size
            data = np.asarray(np.memmap(path, np.uint8, "r")) if size else np.empty(0, np.uint8)
        except OSError as e:
            raise FormatError(f"cannot read {name}: {e.strerror}.") from None
    buf = memoryview(data)
    _sniff(name, buf)
    stripped = _Walk(name, buf).strip()
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(stripped)
    except DecodeError as e:
        raise FormatError(f"{name} is damaged: it does not parse as an ONNX protobuf ({e}).") from None
    if not model.HasField("graph"):
        raise FormatError(f"{name} is not an ONNX model: it holds no graph.")
    for w in (model.producer_name, model.producer_version, *(p.key for p in model.metadata_props)):
        _check_word(name, w)
    _check_text(name, model.graph, *model.functions)
    return model, Weights(name, data, base)


def _sniff(name: str, buf: memoryview) -> None:
    if len(buf) == 0:
        raise FormatError(f"{name} is empty (0 bytes).")
    head = bytes(buf[:512])
    for magic, at, what in _MAGIC:
        if head[at : at + len(magic)] == magic:
            raise FormatError(f"{name} is {what}.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        raise FormatError(f"{name} is an HTML page, not a model; the download link leads to a page about the file.")
    if text.startswith((b"<?xml", b"{")) and all(32 <= c < 127 or c in b"\r\n\t" for c in text[:64]):
        raise FormatError(f"{name} is a text file (XML or JSON), not a model.")
    if not any(head) and not any(bytes(buf[: 1 << 16])):
        raise FormatError(f"{name} holds only zero bytes; the download or copy did not finish.")


def _check_text(name: str, *graphs: Any) -> None:
    """Raise when a name is not UTF-8 (the parser then gives bytes)."""
    for g in graphs:
        words: list[Any] = [g.name]
        if hasattr(g, "initializer"):
            words += [v.name for v in (*g.input, *g.output, *g.initializer)]
        else:
            words += [g.domain, *g.input, *g.output]
        for n in g.node:
            words += [n.name, n.op_type, n.domain, *n.input, *n.output]
            for a in n.attribute:
                words += [a.name, a.ref_attr_name]
                if a.HasField("g"):
                    _check_text(name, a.g)
        for w in words:
            _check_word(name, w)


def _check_word(name: str, w: Any) -> None:
    """protobuf gives bytes for text that is not UTF-8."""
    if not isinstance(w, str):
        raise FormatError(f"{name} is damaged: the name {w!r} is not UTF-8 text.")


class _Walk:
    """One pass over the wire format; ``strip`` gives the bytes without large raw_data fields."""

    def __init__(self, name: str, buf: memoryview) -> None:
        self.name = name
        self.buf = buf

    def strip(self) -> bytes:
        return b"".join(self._message("Model", 0, len(self.buf)))

    def _varint(self, i: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            if i >= end:
                raise self._broken(i, end)
            b = self.buf[i]
            i += 1
            value |= (b & 0x7F) << shift
            if b < 0x80:
                return value, i
            shift += 7
            if shift > 63:
                raise FormatError(f"{self.name} is not an ONNX model or is damaged at byte {i}: a number is too long.")

    def _broken(self, at: int, end: int, want: int = 0) -> FormatError:
        size = len(self.buf)
        if end == size:
            more = f"; {want} bytes are missing" if want > 0 else ""
            return FormatError(f"{self.name} is truncated: it ends at byte {size} inside a field{more}.")
        return FormatError(f"{self.name} is damaged at byte {at}: a field reaches past the end of its message.")

    def _message(self, kind: str, start: int, end: int, depth: int = 0) -> list[Any]:
        """Chunks (bytes-like) of the message in [start, end) with large raw data replaced."""
        if depth > _DEPTH:
            raise FormatError(f"{self.name} is damaged at byte {start}: graphs are nested deeper than {_DEPTH // 3}.")
        out: list[Any] = []
        keep = start  # bytes from here on are still to be copied verbatim
        i = start
        note = b""
        while i < end:
            field = i
            tag, i = self._varint(i, end)
            number, wire = tag >> 3, tag & 7
            if number == 0 or wire in (3, 4, 6, 7) or (kind == "Model" and number > 1000):
                raise FormatError(
                    f"{self.name} is not an ONNX model: byte {field} does not start a protobuf field"
                    + (" (the file is damaged there)." if field else ".")
                )
            if wire == 0:
                _, i = self._varint(i, end)
                continue
            if wire == 2:
                length, i = self._varint(i, end)
            else:
                length = 8 if wire == 1 else 4
            if length > end - i:
                raise self._broken(i, end, length - (end - i))
            child = _PATH.get((kind, number))
            if wire == 2 and length >= _LARGE and (child or (kind == "Tensor" and number == _RAW_DATA)):
                out.append(self.buf[keep:field])
                if child:
                    parts = self._message(child, i, i + length, depth + 1)
                    out += [_encode(tag), _encode(sum(map(len, parts))), *parts]
                else:
                    note = _place(i, length)
                keep = i + length
            i += length
        out += [self.buf[keep:end], note]
        return out


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _place(offset: int, length: int) -> bytes:
    from onnx import StringStringEntryProto, TensorProto

    t = TensorProto(data_location=TensorProto.EXTERNAL)
    for k, v in (("location", SELF), ("offset", str(offset)), ("length", str(length))):
        t.external_data.append(StringStringEntryProto(key=k, value=v))
    return t.SerializeToString()


class Weights:
    """Resolves TensorProtos to arrays: views of the mapped file, of external files (mapped once each), or copies.

    ``name`` is for messages, ``data`` the mapped model file, ``base`` the folder external data must stay inside.
    """

    def __init__(self, name: str, data: np.ndarray | None, base: Path | None) -> None:
        self.name = name
        self.data = data
        self.base = base
        self.files: dict[Path, np.ndarray] = {}

    @property
    def size(self) -> int:
        """Bytes of the model and of the files read for it so far."""
        return sum(len(a) for a in (self.data, *self.files.values()) if a is not None)

    def array(self, t: TensorProto) -> np.ndarray:
        """The tensor's data, read-only where it is a view.  Raises FormatError (damaged), UnsupportedError."""
        from onnx import TensorProto

        what = f"tensor '{t.name}'" if t.name else "a tensor"
        if t.data_type == TensorProto.STRING:
            count = check_shape(f"{self.name}: {what}", tuple(t.dims), 1)
            if count != len(t.string_data):
                raise FormatError(f"{self.name}: {what} of {count} strings gives {len(t.string_data)}.")
            out = np.empty(count, object)
            out[:] = [s.decode("utf-8", "replace") for s in t.string_data]
            return out.reshape(tuple(t.dims))
        dtype = dtype_of(t.data_type, what)
        shape = tuple(t.dims)
        count = check_shape(f"{self.name}: {what}", shape, dtype.itemsize)
        if t.data_location == TensorProto.EXTERNAL:
            raw = self._external(t, what)
        elif t.HasField("raw_data"):
            raw = np.frombuffer(t.raw_data, np.uint8)
        else:
            return self._typed(t, dtype, shape, what)
        need = -(-count * dtype.bits // 8) if dtype.bits < 8 else count * dtype.itemsize
        if len(raw) != need:
            raise FormatError(f"{self.name}: {what} of {count} {dtype} needs {need} bytes; the file gives {len(raw)}.")
        if dtype.bits < 8:
            return unpack(raw, count, dtype).reshape(shape)
        return raw.view(dtype.np.newbyteorder("<") if dtype.np.kind in "iuf" else dtype.np).reshape(shape)

    def _typed(self, t: TensorProto, dtype: dtypes.DType, shape: tuple[int, ...], what: str) -> np.ndarray:
        from onnx import numpy_helper

        try:
            return np.asarray(numpy_helper.to_array(t)).astype(dtype.np, copy=False).reshape(shape)
        except (ValueError, TypeError) as e:
            raise FormatError(f"{self.name}: {what} is damaged: {e}.") from None

    def _external(self, t: TensorProto, what: str) -> np.ndarray:
        info = {e.key: e.value for e in t.external_data}
        location = info.get("location", "")
        try:
            offset, length = int(info.get("offset", "0")), int(info.get("length", "-1"))
        except ValueError:
            raise FormatError(f"{self.name}: {what} has an unreadable place in its external data: {info}.") from None
        data = self.data if location == SELF and self.data is not None else self._file(location, what)
        if length < 0:
            length = len(data) - offset
        if offset < 0 or length < 0 or offset + length > len(data):
            raise FormatError(
                f"{self.name}: {what} lies at bytes {offset} to {offset + length} of '{location}', "
                f"which has only {len(data)}; the file is truncated or belongs to another model."
            )
        return data[offset : offset + length]

    def _file(self, location: str, what: str) -> np.ndarray:
        if self.base is None:
            raise FormatError(
                f"{self.name}: {what} is kept in the external file '{location}', and a model given as bytes or object "
                f"has no folder to look in. Give the path of the .onnx file."
            )
        path = (self.base / location.replace("\0", "")).resolve()
        if not location or "\0" in location or os.path.isabs(location) or not path.is_relative_to(self.base):
            raise FormatError(
                f"{self.name}: {what} names external data outside the model's folder ('{location}'); refused. "
                f"Put the file beside the model."
            )
        if path not in self.files:
            try:
                size = path.stat().st_size
                self.files[path] = np.asarray(np.memmap(path, np.uint8, "r")) if size else np.empty(0, np.uint8)
            except OSError as e:
                raise FormatError(
                    f"{self.name}: {what} is kept in '{location}', which cannot be read: {e.strerror}. "
                    f"Keep the file beside the model."
                ) from None
        return self.files[path]


def unpack(raw: np.ndarray, count: int, dtype: dtypes.DType) -> np.ndarray:
    """Elements of 4 or 2 bits, packed from the low end of each byte, to one element per byte."""
    per = 8 // dtype.bits
    mask = (1 << dtype.bits) - 1
    fields = np.stack([(raw >> (dtype.bits * i)) & mask for i in range(per)], -1).reshape(-1)[:count]
    if dtype.kind == "i":
        half = 1 << (dtype.bits - 1)
        return ((fields.astype(np.int8) ^ half) - half).astype(dtype.np)
    return fields.astype(np.uint8).view(dtype.np) if dtype.kind == "f" else fields.astype(dtype.np)


_BY_ENUM: dict[int, dtypes.DType] = {}


def dtype_of(data_type: int, what: str) -> dtypes.DType:
    """The DType of a TensorProto.DataType number; raises UnsupportedError for strings and complex numbers."""
    if not _BY_ENUM:
        from onnx import TensorProto

        names = {
            "FLOAT": "float32", "DOUBLE": "float64", "FLOAT8E4M3FN": "float8_e4m3fn",
            "FLOAT8E4M3FNUZ": "float8_e4m3fnuz", "FLOAT8E5M2": "float8_e5m2", "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
            "FLOAT8E8M0": "float8_e8m0fnu", "FLOAT4E2M1": "float4_e2m1fn",
        }  # fmt: skip
        for key, number in TensorProto.DataType.items():
            name = names.get(key, key.lower())
            if name in dtypes.BY_NAME:
                _BY_ENUM[number] = dtypes.BY_NAME[name]
    if data_type not in _BY_ENUM:
        from onnx import TensorProto

        known = data_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(data_type).lower() if known else f"number {data_type}"
        raise UnsupportedError(f"{what} has the element type {name}, which the engine does not compute with.")
    return _BY_ENUM[data_type]


def enum_of(dtype: dtypes.DType) -> int:
    """The TensorProto.DataType number of a DType."""
    dtype_of(1, "")
    return next(k for k, v in _BY_ENUM.items() if v is dtype)
