"""Constants stored sparsely: a tree of dimensions, dense or compressed (CSR), possibly in blocks.

The layout follows "Format Abstraction for Sparse Tensor Algebra Compilers" (Chou et al. 2018), as the file format cites.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.flat import Row
from deploykit.converters.importers.tflite.reader import Source
from deploykit.errors import FormatError
from deploykit.graph.growth import check_bytes, check_shape


def dense(source: Source, t: Row) -> np.ndarray:
    """The full array of a sparse constant; raises FormatError when its indices leave it."""
    s = t.sparsity
    shape = [int(d) for d in (t.shape if t.shape is not None else ())]
    order = _ints(s.traversal_order)
    block = _ints(s.block_map)
    dims = s.dim_metadata or []
    rank = len(shape)

    def bad(what: str) -> FormatError:
        return FormatError(f"{source.name}: sparse constant '{t.name}': {what}.")

    if len(order) != rank + len(block) or sorted(order) != list(range(len(order))) or len(dims) != len(order):
        raise bad("its traversal order does not fit its shape")
    if any(not 0 <= b < rank for b in block):
        raise bad("its blocks do not fit its shape")
    sizes = [0] * len(order)  # of the dims in the order of storage, blocks after the outer ones
    for place, d in zip(order, dims, strict=True):
        if d.format == 0:
            sizes[place] = int(d.dense_size)
    inner = {b: sizes[rank + i] for i, b in enumerate(block)}
    for i, n in enumerate(shape):
        per = inner.get(i, 1)
        if per <= 0 or n % per:
            raise bad(f"dim {i} of {n} is no multiple of its block of {per}")
        if sizes[i] and sizes[i] != n // per:
            raise bad(f"dim {i} has {sizes[i]} entries, expected {n // per}")
        sizes[i] = n // per
    dtype = source.dtype(t)
    check_bytes(
        f"sparse constant '{t.name}'", check_shape(t.name, shape, dtype.itemsize) * dtype.itemsize, len(source.data)
    )
    # breadth first: `at` are the stored positions of this level, `where` their indices in every dim so far
    at = np.zeros(1, np.int64)
    where: dict[int, np.ndarray] = {}
    for place, d in zip(order, dims, strict=True):
        if d.format == 0:
            n = sizes[place]
            step = np.arange(n, dtype=np.int64)
            where = {k: np.repeat(v, n) for k, v in where.items()}
            where[place] = np.tile(step, len(at))
            at = (at[:, None] * n + step).reshape(-1)
        else:
            segments, indices = _vector(d.array_segments), _vector(d.array_indices)
            if at.size and (int(at.max()) + 1 >= segments.size):
                raise bad("a segment is missing")
            begin, end = segments[at], segments[at + 1]
            if np.any(begin < 0) or np.any(end < begin) or (end.size and int(end.max()) > indices.size):
                raise bad("its segments do not fit its indices")
            counts = end - begin
            where = {k: np.repeat(v, counts) for k, v in where.items()}
            starts = np.repeat(begin - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) if counts.size else begin
            at = starts + np.arange(int(counts.sum()), dtype=np.int64)
            where[place] = indices[at]
            if at.size and (indices[at].min() < 0 or indices[at].max() >= sizes[place]):
                raise bad("an index lies outside of its dim")
    raw = source.buffer(t.buffer)
    if raw.nbytes != at.size * dtype.np.itemsize:
        raise bad(f"{raw.nbytes} bytes of data for {at.size} elements of {dtype}")
    index: list[Any] = []
    for i in range(rank):
        full = where[i]
        if i in inner:
            full = full * inner[i] + where[rank + block.index(i)]
        index.append(full)
    out = np.zeros(shape, dtype.np)
    values = np.frombuffer(raw.tobytes(), dtype.np)
    out[tuple(index)] = values[at] if at.size else values
    return out


def _ints(v: Any) -> list[int]:
    return [] if v is None else [int(i) for i in v]


def _vector(row: Row | None) -> np.ndarray:
    return np.zeros(0, np.int64) if row is None or row.values is None else row.values.astype(np.int64)
