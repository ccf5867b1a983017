"""A model as one self-contained HTML page: the graph drawn in layers, with zoom, search, shapes, sizes, scales, times.

Layers follow the longest path from the inputs; within a layer nodes are ordered by the mean place of what they read, a
few times down and up (Sugiyama et al. 1981).  Everything is computed here; the page only draws.
"""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.graph.ir import Graph, Node, Value
from deploykit.units import size

_GAP_X, _GAP_Y, _HEIGHT = 24, 34, 40
_SWEEPS = 6


def page(path: Path, graph: Graph, info: dict[str, Any], times: dict[str, float] | None = None) -> str:
    """The page's text; ``info`` is what ``inspect --json`` gives, ``times`` milliseconds by node name."""
    graphs = [_draw(g, _title(g, k), times or {}) for k, g in enumerate(graph.walk())]
    ops = [[op, str(r["count"]), size(r["weights"])] for op, r in info["ops"].items()]
    ends = [[s["name"], s["type"]] for side in ("inputs", "outputs") for s in info[side]]
    meta = [[k, v if isinstance(v, str) else json.dumps(v)[:300]] for k, v in graph.metadata.items()]
    data = {
        "graphs": graphs,
        "summary": f"{size(info['bytes'])}, {info['nodes']} nodes, weights {size(info['weights'])}, "
        f"{info['transposes']} transposes",
        "tables": [
            ["inputs and outputs", ends, False],
            ["variables", [[k, v] for k, v in info["variables"].items()], False],
            ["ops: count, weights", ops, True],
            ["metadata", meta, False],
        ],
    }
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # names may hold anything, also </script>
    template = resources.files("deploykit.cli").joinpath("graph_page.html").read_text(encoding="utf-8")
    return template.replace("__TITLE__", escape(path.name)).replace("__DATA__", text)


def _title(g: Graph, k: int) -> str:
    return f"{g.name} ({len(g.nodes)} nodes)" if k else f"main ({len(g.nodes)} nodes)"


def _shape(v: Value) -> str:
    dims = "?" if v.shape is None else ", ".join(map(str, v.shape))
    return f"{v.dtype}[{dims}]"


def _draw(g: Graph, title: str, times: dict[str, float]) -> dict[str, Any]:
    boxes: list[dict[str, Any]] = []
    maker: dict[Value, int] = {}
    edges: set[tuple[int, int]] = set()
    for v in g.inputs:
        maker[v] = len(boxes)
        boxes.append(_end("input", v.name, v))
    for n in g.nodes:
        k = len(boxes)
        boxes.append(_box(n, times))
        edges |= {(maker[v], k) for v in n.inputs if v is not None and v in maker}
        maker |= {v: k for v in n.outputs if v is not None}
    for v, name in zip(g.outputs, g.public_outputs, strict=True):
        if v in maker:
            edges.add((maker[v], len(boxes)))
        boxes.append(_end("output", name, v))
    _place(boxes, sorted(edges))
    return {"name": title, "nodes": boxes, "edges": sorted(edges)}


def _end(kind: str, name: str, v: Value) -> dict[str, Any]:
    rows = [["name", name], ["type", _shape(v)], *_quant(v)]
    return _finish(kind, name, rows, end=True)


def _quant(v: Value) -> list[list[str]]:
    q = v.quant
    if q is None:
        return []
    scale, zero = (np.asarray(x).reshape(-1)[:4].tolist() for x in (q.scale, q.zero_point))
    return [["scale", ", ".join(f"{s:.6g}" for s in scale)], ["zero point", ", ".join(map(str, zero))]]


def _box(n: Node, times: dict[str, float]) -> dict[str, Any]:
    from deploykit.graph.dkfile import stored_bytes

    rows = [["name", n.name]]
    weights = 0
    for i, v in enumerate(n.inputs):
        if v is None:
            continue
        if v.data is not None and v.dtype is not None:
            held = stored_bytes(v.data, v.dtype)
            weights += held
            shown = f" = {v.data.reshape(-1).tolist()}" if v.data.size <= 6 else f", {size(held)}"
            rows.append([f"input {i}", f"constant {_shape(v)}{shown}"])
        else:
            rows.append([f"input {i}", f"{v.name} {_shape(v)}"])
    rows += [[f"output {i}", f"{v.name} {_shape(v)}"] for i, v in enumerate(n.outputs) if v is not None]
    rows += [[k, a.name if isinstance(a, Graph) else str(a)] for k, a in n.attrs.items()]
    if weights:
        rows.append(["weights", size(weights)])
    first = next((v for v in n.outputs if v is not None), None)
    act = n.attrs.get("act", "none")
    box = _finish(n.op if act == "none" else f"{n.op} + {act}", _shape(first) if first is not None else "", rows)
    if times:
        ms = times.get(n.name)
        box["ms"] = ms
        if ms is not None:
            rows.append(["time", f"{ms:.3f} ms"])
    return box


def _finish(op: str, line: str, rows: list[list[str]], end: bool = False) -> dict[str, Any]:
    line = line if len(line) <= 34 else line[:33] + "…"
    width = max(70, 16 + 7 * max(len(op), round(len(line) * 0.82)))
    text = " ".join([op, *(c for r in rows for c in r)]).lower()
    return {"op": op, "line": line, "rows": rows, "text": text, "w": width, "h": _HEIGHT, "end": end}


def _place(boxes: list[dict[str, Any]], edges: list[tuple[int, int]]) -> None:
    """Give every box x and y."""
    before: list[list[int]] = [[] for _ in boxes]
    after: list[list[int]] = [[] for _ in boxes]
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    level = [0] * len(boxes)
    for k in range(len(boxes)):  # boxes stand in execution order
        level[k] = max((level[p] + 1 for p in before[k]), default=0)
    for k, box in enumerate(boxes):  # what reads nothing made here stands right above its first reader
        if not before[k] and after[k]:
            level[k] = max(0, min(level[r] for r in after[k]) - 1)
        if box["op"] == "output" and not after[k]:
            level[k] = max(level[k], max(level))
    layers: dict[int, list[int]] = {}
    for k, n in enumerate(level):
        layers.setdefault(n, []).append(k)
    center = [0.0] * len(boxes)

    def spread(order: list[int], near: list[list[int]]) -> None:
        wish = {k: float(np.mean([center[p] for p in near[k]])) if near[k] else center[k] for k in order}
        order.sort(key=lambda k: (wish[k], k))
        at = 0.0
        for k in order:
            center[k] = at + boxes[k]["w"] / 2
            at += boxes[k]["w"] + _GAP_X
        shift = float(np.mean([wish[k] - center[k] for k in order]))
        for k in order:
            center[k] += shift

    levels = sorted(layers)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for n in levels if down else reversed(levels):
            spread(layers[n], before if down else after)
    for k, box in enumerate(boxes):
        box["x"] = round(center[k] - box["w"] / 2, 1)
        box["y"] = level[k] * (_HEIGHT + _GAP_Y)
