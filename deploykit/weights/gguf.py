"""GGUF (versions 2 and 3): key-value metadata, tensor descriptions, aligned data; tensors often quantized in blocks.

The block formats are public: a half-precision scale (and minimum) for 32 numbers, or for super-blocks of 256 with
6-bit scales of their own.  Dims stand innermost first in the file; arrays here have them in NumPy's order.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph.growth import check_shape
from deploykit.weights import Weights

_PLAIN = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST = 1 << 26  # entries of one metadata array


@dataclass
class Blocks:
    """A tensor quantized along its last dim: real = scale * integer, one scale per ``size`` numbers."""

    integers: np.ndarray  # int8, the tensor's shape; 4-bit numbers are -8 .. 7
    scale: np.ndarray  # float32 [..., last / size]
    size: int
    bits: int


def _half(raw: np.ndarray) -> np.ndarray:
    """Pairs of bytes as float16 numbers, in float32."""
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def _q8_0(b: np.ndarray) -> np.ndarray:
    return _half(b[:, :2]) * b[:, 2:].view(np.int8)


def _nibbles(q: np.ndarray) -> np.ndarray:
    """Low halves, then high halves."""
    return np.concatenate([q & 15, q >> 4], axis=1)


def _q4_0(b: np.ndarray) -> np.ndarray:
    return _half(b[:, :2]) * (_nibbles(b[:, 2:]).astype(np.int8) - 8)


def _q4_1(b: np.ndarray) -> np.ndarray:
    return _half(b[:, :2]) * _nibbles(b[:, 4:]) + _half(b[:, 2:4])


def _fifth(bits: np.ndarray) -> np.ndarray:
    """The fifth bits of 32 numbers out of 4 bytes."""
    return np.unpackbits(bits, axis=1, bitorder="little")


def _q5_0(b: np.ndarray) -> np.ndarray:
    q = _nibbles(b[:, 6:]) | (_fifth(b[:, 2:6]) << 4)
    return _half(b[:, :2]) * (q.astype(np.int8) - 16)


def _q5_1(b: np.ndarray) -> np.ndarray:
    q = _nibbles(b[:, 8:]) | (_fifth(b[:, 4:8]) << 4)
    return _half(b[:, :2]) * q + _half(b[:, 2:4])


def _six_bits(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight scales and eight minima of 6 bits out of 12 bytes."""
    low, middle, high = s[:, :4], s[:, 4:8], s[:, 8:]
    scale = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    least = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    return scale.astype(np.float32), least.astype(np.float32)


def _super(b: np.ndarray, q: np.ndarray) -> np.ndarray:
    """d * scale * q - dmin * least for q [blocks, 8, 32]."""
    scale, least = _six_bits(b[:, 4:16])
    d, dmin = _half(b[:, :2]), _half(b[:, 2:4])
    y = (d * scale)[..., None] * q - (dmin * least)[..., None]
    return y.reshape(len(b), 256)


def _halves(q: np.ndarray) -> np.ndarray:
    """128 bytes as [8, 32]: of each 32 bytes the low halves, then the high halves."""
    q = q.reshape(len(q), 4, 1, 32)
    return np.concatenate([q & 15, q >> 4], axis=2).reshape(len(q), 8, 32)


def _q4_k(b: np.ndarray) -> np.ndarray:
    return _super(b, _halves(b[:, 16:]))


def _q5_k(b: np.ndarray) -> np.ndarray:
    fifth = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1
    return _super(b, _halves(b[:, 48:]) | (fifth << 4))


def _q6_k(b: np.ndarray) -> np.ndarray:
    low = b[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1) & 15
    high = b[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1) & 3
    q = (low.reshape(-1, 16, 16) | (high.reshape(-1, 16, 16) << 4)).astype(np.int8) - 32
    scale = b[:, 192:208].view(np.int8).astype(np.float32)
    return ((_half(b[:, 208:210]) * scale)[..., None] * q).reshape(len(b), 256)


# type -> (name, numbers a block, bytes a block, how to read it)
_BLOCKS: dict[int, tuple[str, int, int, Callable[[np.ndarray], np.ndarray]]] = {
    2: ("Q4_0", 32, 18, _q4_0),
    3: ("Q4_1", 32, 20, _q4_1),
    6: ("Q5_0", 32, 22, _q5_0),
    7: ("Q5_1", 32, 24, _q5_1),
    8: ("Q8_0", 32, 34, _q8_0),
    12: ("Q4_K", 256, 144, _q4_k),
    13: ("Q5_K", 256, 176, _q5_k),
    14: ("Q6_K", 256, 210, _q6_k),
}


class Gguf(Weights):
    """A GGUF file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.data = np.memmap(path, np.uint8, "r").view(np.ndarray)  # plain: slices of a memmap are slow
        self.at = 4
        version = self._number("<I")
        if version not in (2, 3):
            raise UnsupportedError(f"{Path(path).name} is GGUF version {version}; 2 and 3 are known. Convert it anew")
        tensors, pairs = self._number("<Q"), self._number("<Q")
        if tensors > self.data.size // 24 or pairs > self.data.size // 12:
            raise self._bad(f"it claims {tensors} tensors and {pairs} keys")
        self.metadata = {}
        for _ in range(pairs):
            key = self._string()
            self.metadata[key] = self._value(self._number("<I"), 0)
        self.entries: dict[str, tuple[int, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name, rank = self._string(), self._number("<I")
            if rank > 8:
                raise self._bad(f"tensor '{name}' has {rank} dims")
            dims = tuple(self._number("<Q") for _ in range(rank))[::-1]
            kind, offset = self._number("<I"), self._number("<Q")
            self.entries[name] = kind, dims, offset
        align = self.metadata.get("general.alignment", 32)
        if not isinstance(align, int) or align <= 0 or align & (align - 1) or align > 1 << 20:
            raise self._bad(f"its alignment is {align}")
        self.start = -(-self.at // align) * align
        for name, (kind, dims, offset) in self.entries.items():
            n = self._bytes(name, kind, dims)
            if n is not None and (offset % align or self.start + offset + n > self.data.size):
                raise self._bad(f"tensor '{name}' lies outside the file")

    # ---- reading the header
    def _bad(self, what: str) -> FormatError:
        name, size = Path(self.path).name, self.data.size
        return FormatError(f"{name} is damaged or cut off: {what} (file of {size} bytes). Get the file again.")

    def _take(self, n: int) -> bytes:
        if n < 0 or self.at + n > self.data.size:
            raise self._bad("its header is not complete")
        self.at += n
        return self.data[self.at - n : self.at].tobytes()

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _string(self) -> str:
        return self._take(self._number("<Q")).decode("utf-8", "replace")

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or depth > 4:
            raise self._bad(f"a value of kind {kind}")
        inner, count = self._number("<I"), self._number("<Q")
        if count > min(_MOST, self.data.size):
            raise self._bad(f"an array of {count} values")
        if inner in _SCALARS:
            size = struct.calcsize(_SCALARS[inner])
            return np.frombuffer(
                self._take(count * size), _SCALARS[inner].replace("?", "u1").replace("<B", "u1")
            ).tolist()
        return [self._value(inner, depth + 1) for _ in range(count)]

    def _bytes(self, name: str, kind: int, dims: tuple[int, ...]) -> int | None:
        """Bytes of a tensor's data, None for kinds that are not known here."""
        count = check_shape(f"{Path(self.path).name}: tensor '{name}'", dims, 8)
        if kind in _PLAIN:
            return count * dtypes.dtype(_PLAIN[kind]).np.itemsize
        if kind not in _BLOCKS:
            return None
        title, block, size, _ = _BLOCKS[kind]
        if not dims or dims[-1] % block:
            raise self._bad(f"tensor '{name}' of {list(dims)} does not consist of {title} blocks of {block}")
        return count // block * size

    # ---- tensors
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {k: e[1] for k, e in self.entries.items()}

    def _raw(self, name: str) -> tuple[int, tuple[int, ...], np.ndarray]:
        kind, dims, offset = self.entries[name]
        n = self._bytes(name, kind, dims)
        if n is None:
            known = ", ".join([*(d for d in _PLAIN.values()), *(b[0] for b in _BLOCKS.values())])
            raise UnsupportedError(
                f"{Path(self.path).name}: tensor '{name}' has GGUF type {kind}; known are {known}. Quantize it to one of these"
            )
        return kind, dims, self.data[self.start + offset : self.start + offset + n]

    def __getitem__(self, name: str) -> np.ndarray:
        kind, dims, raw = self._raw(name)
        if kind in _PLAIN:
            return raw.view(dtypes.dtype(_PLAIN[kind]).np).reshape(dims)
        _, _, size, read = _BLOCKS[kind]
        return read(np.asarray(raw).reshape(-1, size)).astype(np.float32).reshape(dims)

    def kind(self, name: str) -> str:
        """The tensor's type in the file: ``Q4_K``, ``float16`` ..."""
        kind = self.entries[name][0]
        return _PLAIN.get(kind) or (_BLOCKS[kind][0] if kind in _BLOCKS else f"type {kind}")

    def blocks(self, name: str) -> Blocks | None:
        """Integers and scales of a Q8_0 or Q4_0 tensor, ready for a ``dequantize`` with ``block_size`` on the last dim."""
        kind, dims, raw = self._raw(name)
        if kind not in (2, 8):
            return None
        b = np.asarray(raw).reshape(-1, _BLOCKS[kind][2])
        q = b[:, 2:].view(np.int8) if kind == 8 else _nibbles(b[:, 2:]).astype(np.int8) - np.int8(8)
        scale = _half(b[:, :2]).reshape(*dims[:-1], dims[-1] // 32)
        return Blocks(np.ascontiguousarray(q).reshape(dims), scale, 32, 8 if kind == 8 else 4)
