"""Compute equal things once: equal nodes on equal inputs are merged, equal constants stored once."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.pattern import COMMUTATIVE
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Node, Value
from deploykit.ops import get

TOLERANCE = "exact"


def run(graph: Graph) -> dict[str, int]:
    """Merge equal nodes and constants; results that differ from call to call (random, effects) stay apart.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2,))
    >>> run(b.output(b.op("add", b.op("exp", x), b.op("exp", x))))
    {'nodes': 1}
    """
    shared = _share_arrays(graph)
    counts = Counter(walk.each_graph(graph, _one))
    counts["arrays"] += shared
    return {k: n for k, n in counts.items() if n}


def _share_arrays(graph: Graph) -> int:
    """Let equal constants of a model, bodies included, hold one array."""
    kinds: dict[tuple, list[Value]] = {}
    for g in graph.walk():
        for v in g.constants():
            assert v.data is not None
            corner = v.data[(slice(4),) * v.data.ndim].tobytes()  # tells most apart
            kinds.setdefault((v.data.dtype, v.data.shape, corner), []).append(v)
    count = 0
    for values in kinds.values():
        if len({id(v.data) for v in values}) < 2:
            continue
        first: dict[bytes, np.ndarray] = {}
        for v in values:
            assert v.data is not None
            key = hashlib.sha256(np.ascontiguousarray(v.data).reshape(-1).view(np.uint8)).digest()
            kept = first.setdefault(key, v.data)
            if kept is not v.data:
                v.data = kept
                count += 1
    return count


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    table: dict[tuple, Value] = {}
    for c in graph.constants():
        first = table.setdefault((id(c.data), _quant_key(c)), c)
        if first is not c:
            rw.replace(c, first)
            counts["constants"] += 1
    numbers: dict[Value | None, int] = {None: -1}
    seen: dict[tuple, Node] = {}
    for n in rw.nodes():
        if walk.is_effect(n) or walk.is_random(n) or n.subgraphs():
            continue
        ins = [numbers.setdefault(v, len(numbers)) for v in n.inputs]
        if n.op in COMMUTATIVE:
            ins.sort()
        key = (n.op, tuple(ins), _attr_key(n), len(n.outputs))
        twin = seen.setdefault(key, n)
        if twin is n or not _covers(twin, n):
            continue
        for mine, theirs in zip(n.outputs, twin.outputs, strict=True):
            if mine is not None and theirs is not None:
                rw.replace(mine, theirs)
        rw.erase(n)
        counts["nodes"] += 1
    rw.commit(sweep=False)
    return counts


def _covers(kept: Node, n: Node) -> bool:
    """Whether one node gives every result of its twin, quantized alike."""
    return all(
        v is None or (w is not None and _quant_key(v) == _quant_key(w))
        for v, w in zip(n.outputs, kept.outputs, strict=True)
    )


def _quant_key(v: Value) -> tuple:
    q = v.quant
    return () if q is None else (q.axis, np.asarray(q.scale).tobytes(), np.asarray(q.zero_point).tobytes())


def _attr_key(n: Node) -> tuple:
    if not n.attrs:
        return ()
    # repr tells 0.0 from -0.0 and NaN from NaN, which == does not; what is said and what is the default are the same
    known = get(n.op).attrs
    texts = [(k, repr(known[k].check(v, n.op)), repr(known[k].default)) for k, v in n.attrs.items()]
    return tuple(sorted((k, text) for k, text, default in texts if text != default or known[k].required))
