"""``dk.summary``: event files that TensorBoard reads (scalars, histograms, images, text, graphs).

The format: TFRecord frames around protocol-buffer ``Event`` messages (tensorflow/core/util/event.proto and
framework/summary.proto), written field by field here.

    with dk.summary.create_file_writer("logs") as w:
        w.scalar("loss", 0.5, step=1)
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.data.sources import record
from deploykit.errors import InputError

_numbers = itertools.count()


# ---- protocol buffers: key, then varint, fixed or length-delimited value
def _varint(n: int) -> bytes:
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def _int(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(int(n))


def _double(field: int, x: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", x)


def _float(field: int, x: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", x)


def _bytes(field: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(data)) + data


class SummaryWriter:
    """Appends events to one file in a folder; use as a context manager, or ``close`` it."""

    def __init__(self, logdir: Any) -> None:
        folder = Path(logdir)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self.path = folder / name
        self._file = open(self.path, "ab")
        self._event(0, _bytes(3, "brain.Event:2"))

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _event(self, step: int, what: bytes) -> None:
        self._file.write(record(_double(1, time.time()) + _int(2, step) + what))

    def _value(self, tag: str, step: int, value: bytes, plugin: str = "") -> None:
        metadata = _bytes(9, _bytes(1, _bytes(1, plugin))) if plugin else b""
        self._event(step, _bytes(5, _bytes(1, _bytes(1, tag) + metadata + value)))

    def scalar(self, name: str, data: Any, step: int) -> None:
        """One number."""
        self._value(name, step, _float(2, float(np.asarray(data))))

    def histogram(self, name: str, data: Any, step: int, buckets: int = 30) -> None:
        """How the elements of an array are spread."""
        a = np.asarray(data, np.float64).reshape(-1)
        a = a[np.isfinite(a)]
        if not a.size:
            raise InputError(f"histogram '{name}': no finite numbers.")
        counts, edges = np.histogram(a, buckets)
        parts = [_double(i, v) for i, v in ((1, a.min()), (2, a.max()), (3, a.size), (4, a.sum()), (5, (a * a).sum()))]
        limits = _bytes(6, struct.pack(f"<{buckets}d", *edges[1:])) + _bytes(7, struct.pack(f"<{buckets}d", *counts))
        self._value(name, step, _bytes(5, b"".join(parts) + limits))

    def image(self, name: str, data: Any, step: int, max_outputs: int = 3) -> None:
        """Images [n, height, width, channels] (or one without n): uint8, or floats in 0..1."""
        from PIL import Image

        a = np.asarray(data)
        a = a[None] if a.ndim == 3 else a
        if a.ndim != 4 or a.shape[-1] not in (1, 3, 4):
            raise InputError(f"image '{name}': got shape {a.shape}, expected [n, height, width, 1, 3 or 4].")
        if a.dtype != np.uint8:
            a = (np.clip(a, 0, 1) * 255).round().astype(np.uint8)
        for i, x in enumerate(a[:max_outputs]):
            buffer = io.BytesIO()
            Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).save(buffer, "PNG")
            body = _int(1, x.shape[0]) + _int(2, x.shape[1]) + _int(3, x.shape[2]) + _bytes(4, buffer.getvalue())
            self._value(f"{name}/image/{i}" if len(a) > 1 else f"{name}/image", step, _bytes(4, body))

    def text(self, name: str, data: str, step: int) -> None:
        """Markdown."""
        tensor = _int(1, 7) + _bytes(2, b"") + _bytes(8, data)  # a string scalar
        self._value(name, step, _bytes(8, tensor), "text")

    def graph(self, graph: Any) -> None:
        """A Graph (of ``dk.load``, ``model.to_graph()`` or ``function.graph(...)``): ops as nodes."""
        producer = {v: f"{n.op}_{i}" for i, n in enumerate(graph.nodes) for v in n.outputs if v is not None}
        names = {v: v.name for v in graph.inputs} | producer
        nodes = [_bytes(1, _bytes(1, v.name) + _bytes(2, "Placeholder")) for v in graph.inputs]
        for i, n in enumerate(graph.nodes):
            inputs = b"".join(_bytes(3, names[v]) for v in n.inputs if v is not None and v in names)
            nodes.append(_bytes(1, _bytes(1, f"{n.op}_{i}") + _bytes(2, n.op) + inputs))
        self._event(0, _bytes(4, b"".join(nodes)))

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def create_file_writer(logdir: Any) -> SummaryWriter:
    """A writer of a new event file in ``logdir``.

    >>> import tempfile
    >>> with create_file_writer(tempfile.mkdtemp()) as w:
    ...     w.scalar("loss", 0.5, step=1)
    """
    return SummaryWriter(logdir)
