"""safetensors: eight bytes that say how long the JSON header is, the header, then the data."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import FormatError, UnsupportedError
from deploykit.weights import Weights

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    **{f"{u}{b}": f"{'u' if u == 'U' else ''}int{b}" for u in ("I", "U") for b in (8, 16, 32, 64)},
}  # fmt: skip
_LIMIT = 100_000_000  # bytes of header, the format's own limit


class SafeTensors(Weights):
    """A safetensors file, mapped; or its bytes, with a name for messages."""

    def __init__(self, path: str | os.PathLike[str], data: bytes | memoryview | None = None) -> None:
        self.path = os.fspath(path)
        mapped = np.memmap(path, np.uint8, "r") if data is None else np.frombuffer(data, np.uint8)
        self.data = mapped.view(np.ndarray)  # plain: slices of a memmap are slow
        name, size = Path(path).name, self.data.size

        def bad(what: str) -> FormatError:
            return FormatError(f"{name} is damaged or cut off: {what} (file of {size} bytes). Get the file again.")

        length = int(self.data[:8].view("<u8")[0]) if size >= 8 else 0
        if not 2 <= length <= min(_LIMIT, size - 8):
            raise bad(f"its header says it is {length} bytes long")
        try:
            header = json.loads(self.data[8 : 8 + length].tobytes(), parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise bad("its header is no JSON") from None
        if not isinstance(header, dict):
            raise bad("its header is no JSON object")
        meta = header.pop("__metadata__", {})
        self.metadata = dict(meta) if isinstance(meta, Mapping) else {}
        self.start = 8 + length
        self.entries: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        spans = []
        for key, e in header.items():
            kind, shape, begin, end = _entry(e, lambda what, key=key: bad(f"tensor '{key}' {what}"))
            if end > size - self.start:
                raise bad(f"tensor '{key}' ends behind the file")
            bits = dtypes.dtype(_DTYPES[kind]).bits if kind in _DTYPES else None
            if bits is not None and (end - begin) * 8 != math.prod(shape) * bits:
                raise bad(f"tensor '{key}' has {end - begin} bytes, which do not fit {kind}{list(shape)}")
            self.entries[key] = kind, shape, begin, end
            spans.append((begin, end, key))
        spans.sort()
        for (_, end, a), (begin, _, b) in zip(spans, spans[1:], strict=False):
            if begin < end:
                raise bad(f"tensors '{a}' and '{b}' overlap")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {k: e[1] for k, e in self.entries.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        kind, shape, begin, end = self.entries[name]
        if kind not in _DTYPES:
            raise UnsupportedError(
                f"{Path(self.path).name}: tensor '{name}' has dtype {kind}, which has no counterpart here"
            )
        raw = self.data[self.start + begin : self.start + end]
        array = raw.view(dtypes.dtype(_DTYPES[kind]).np).reshape(shape)
        return array if array.flags.aligned else array.copy()


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _entry(e: Any, bad: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, begin, end) of a header entry; every number checked."""
    if not isinstance(e, dict) or not {"dtype", "shape", "data_offsets"} <= set(e):
        raise bad("is not described")
    shape, offsets = e["shape"], e["data_offsets"]

    def sizes(v: Any) -> bool:
        return isinstance(v, list) and all(type(d) is int and 0 <= d < 2**62 for d in v)

    if (
        not sizes(shape)
        or not sizes(offsets)
        or len(offsets) != 2
        or offsets[0] > offsets[1]
        or math.prod(shape) >= 2**62
    ):
        raise bad("has a wrong shape or place")
    return str(e["dtype"]), tuple(shape), offsets[0], offsets[1]
