"""``.tflite`` bytes -> decoded model with weights as views: bad files are refused with the reason."""

from __future__ import annotations

import itertools
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.tflite.flat import FlatReader, Row
from deploykit.converters.ir.tflite_schema import BUILTINS, TYPES
from deploykit.dtypes import DType
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph.growth import check_shape
from deploykit.graph.sniff import what_is

_DTYPES = {
    **{t: t.lower() for t in ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16", "BOOL", "INT4", "INT2", "UINT4")},
    **{f"{u}INT{b}": f"{u}INT{b}".lower() for u in ("", "U") for b in (8, 16, 32, 64)},
    "FLOAT8_E4M3FN": "float8_e4m3fn",
    "FLOAT8_E5M2": "float8_e5m2",
}


@dataclass
class Source:
    """A decoded file: ``model`` is its root table, ``data`` the bytes, ``name`` for messages."""

    model: Row
    data: Any
    name: str

    def op_name(self, index: int) -> tuple[str, int]:
        """(name, version) of an operator code; custom ones are ``CUSTOM:name``."""
        codes = self.model.operator_codes
        if not 0 <= index < len(codes):
            raise FormatError(f"{self.name}: an operator refers to operator code {index} of {len(codes)}.")
        c = codes[index]
        code = max(c.builtin_code, c.deprecated_builtin_code)  # files before the second field, and codes under 127
        name = BUILTINS[code] if 0 <= code < len(BUILTINS) else f"builtin {code}"
        return (f"CUSTOM:{c.custom_code}" if name == "CUSTOM" else name), c.version

    def buffer(self, index: int) -> np.ndarray:
        """Raw bytes of a buffer (uint8 view), empty when there are none."""
        buffers = self.model.buffers
        if not 0 <= index < len(buffers):
            raise FormatError(f"{self.name}: a tensor refers to buffer {index} of {len(buffers)}.")
        b = buffers[index]
        if b.offset > 1:  # behind the FlatBuffer, for files over 2 GB
            if b.offset + b.size > len(self.data):
                raise FormatError(f"{self.name} is cut off: buffer {index} ends at byte {b.offset + b.size}.")
            return np.frombuffer(self.data, np.uint8, b.size, b.offset)
        return b.data if b.data is not None else np.empty(0, np.uint8)

    def dtype(self, tensor: Row) -> DType:
        """Our dtype of a tensor of numbers; UnsupportedError for strings, complex numbers and the like."""
        kind = TYPES[tensor.type] if 0 <= tensor.type < len(TYPES) else f"type {tensor.type}"
        if kind not in _DTYPES:
            raise UnsupportedError(
                f"tensor '{tensor.name}' has type {kind}, which has no counterpart here. Do this part of the work "
                "outside of the model"
            )
        return dtypes.dtype(_DTYPES[kind])

    def is_text(self, tensor: Row) -> bool:
        """Whether a tensor holds strings."""
        return 0 <= tensor.type < len(TYPES) and TYPES[tensor.type] == "STRING"

    def strings(self, tensor: Row) -> np.ndarray:
        """Constant strings (dtype object): their number, where each begins and the last one ends (int32), then bytes."""
        raw = self.buffer(tensor.buffer).tobytes()
        count = int.from_bytes(raw[:4], "little")
        shape = tuple(int(d) for d in (tensor.shape if tensor.shape is not None else ()))
        wanted = check_shape(f"{self.name}: constant '{tensor.name}'", shape, 4)
        at = np.frombuffer(raw, "<i4", min(count + 1, len(raw) // 4 - 1), 4) if len(raw) >= 8 else np.empty(0, np.int32)
        fits = len(at) == count + 1 == wanted + 1 and not np.any(np.diff(at) < 0)
        if not fits or not 4 * count + 8 <= at[0] <= at[-1] <= len(raw):
            what = f"the strings of constant '{tensor.name}' {list(shape)} do not fit its {len(raw)} bytes"
            raise FormatError(f"{self.name}: {what}.")
        out = np.empty(count, object)
        out[:] = [raw[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(at.tolist())]
        return out.reshape(shape)

    def array(self, tensor: Row, raw: np.ndarray | None = None) -> np.ndarray:
        """The constant data of a tensor, a view where its alignment allows."""
        raw = self.buffer(tensor.buffer) if raw is None else raw
        dtype = self.dtype(tensor)
        shape = tuple(int(d) for d in (tensor.shape if tensor.shape is not None else ()))
        count = check_shape(f"{self.name}: constant '{tensor.name}'", shape, dtype.itemsize)
        if dtype.bits < 8:
            return self._unpack(tensor, raw, dtype, shape, count)
        if raw.nbytes != count * dtype.np.itemsize:
            raise FormatError(
                f"{self.name}: constant '{tensor.name}' has {raw.nbytes} bytes of data; "
                f"{dtype}{list(shape)} needs {count * dtype.np.itemsize}."
            )
        array = raw.view(np.uint8).view(dtype.np).reshape(shape) if raw.nbytes else np.empty(shape, dtype.np)
        if dtype.np == np.bool_ and raw.size and raw.max() > 1:
            return (raw != 0).reshape(shape)
        return array if array.flags.aligned else array.copy()

    def _unpack(self, tensor: Row, raw: np.ndarray, dtype: DType, shape: tuple[int, ...], count: int) -> np.ndarray:
        """Two 4-bit (four 2-bit) elements a byte, the first in the low bits."""
        per = 8 // dtype.bits
        if raw.nbytes != -(-count // per):
            raise FormatError(
                f"{self.name}: constant '{tensor.name}' has {raw.nbytes} bytes; {dtype}{list(shape)} needs "
                f"{-(-count // per)}."
            )
        mask = (1 << dtype.bits) - 1
        parts = np.stack([(raw >> (dtype.bits * i)) & mask for i in range(per)], -1).reshape(-1)[:count]
        if dtype.name.startswith("int"):
            half = 1 << (dtype.bits - 1)
            parts = ((parts.astype(np.int8) ^ half) - half).astype(np.int8)
        return parts.astype(dtype.np).reshape(shape)


def read_model(source: Any) -> Source:
    """Open a path (memory-mapped) or bytes; raises FormatError for anything that is not a whole TFLite file."""
    data: Any
    if isinstance(source, (str, os.PathLike)):
        name = Path(source).name
        with open(source, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    else:
        name, data = "the model", bytes(source)
    if len(data) < 8 or data[4:8] != b"TFL3":
        kind = what_is(data[:512])
        raise FormatError(f"{name} is not a TFLite file" + (f": it is {kind}." if kind else " (no 'TFL3' at byte 4)."))
    model = FlatReader(data, name).root("Model")
    for field in ("operator_codes", "subgraphs", "buffers"):
        if getattr(model, field) is None:
            model.__dict__[field] = []
    if not model.subgraphs:
        raise FormatError(f"{name} holds no graph.")
    for g in model.subgraphs:
        for field in ("tensors", "operators"):
            if getattr(g, field) is None:
                g.__dict__[field] = []
    return Source(model, data, name)
