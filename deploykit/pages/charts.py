"""Drawings of the report as inline SVG: a treemap of sizes, error along the layers, the memory plan.

Colours are classes of the page's style sheet, so that they follow light, dark and paper.  Each shape has a title, which
browsers show as a hint; a table on the page says the same in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

WIDTH = 720.0


def _squarify(
    sizes: Sequence[float], x: float, y: float, w: float, h: float
) -> list[tuple[float, float, float, float]]:
    """Rectangles (x, y, w, h) of falling sizes that fill the given one, as square as can be (Bruls, Huizing, van Wijk,
    "Squarified Treemaps", 2000).

    >>> _squarify([1, 1], 0, 0, 2, 1)
    [(0, 0, 1.0, 1.0), (1.0, 0, 1.0, 1.0)]
    """
    out: list[tuple[float, float, float, float]] = []
    total = sum(sizes)
    rest = list(sizes)
    while rest and w > 0 and h > 0:
        scale = w * h / total
        side = min(w, h)
        row, best = 0, float("inf")
        for k in range(1, len(rest) + 1):  # take more into the row while its worst shape gets no worse
            area = sum(rest[:k]) * scale
            worst = max(side * side * rest[0] * scale / area**2, area**2 / (side * side * rest[k - 1] * scale))
            if worst > best:
                break
            row, best = k, worst
        area = sum(rest[:row])
        thick = area * scale / side
        at = y if w >= h else x
        for s in rest[:row]:
            long = s * scale / thick
            out.append((x, at, thick, long) if w >= h else (at, y, long, thick))
            at += long
        if w >= h:
            x, w = x + thick, w - thick
        else:
            y, h = y + thick, h - thick
        total -= area
        rest = rest[row:]
    return out


def treemap(rows: Sequence[dict[str, Any]], short: Callable[[str], str] = str, most: int = 60) -> dict[str, Any]:
    """Boxes for rows of name, op, dtype, bytes (falling); those beyond ``most`` become one."""
    shown = [dict(r) for r in rows[:most]]
    if len(rows) > most:
        rest = rows[most:]
        left = {"name": f"{len(rest)} more", "op": "", "dtype": "", "bytes": sum(r["bytes"] for r in rest)}
        shown = sorted([*shown, left], key=lambda r: -r["bytes"])
    height = 320.0
    kinds = sorted(
        {r["dtype"] for r in shown if r["dtype"]}, key=lambda k: -sum(r["bytes"] for r in shown if r["dtype"] == k)
    )
    boxes = []
    for r, (x, y, w, h) in zip(shown, _squarify([r["bytes"] for r in shown], 0, 0, WIDTH, height), strict=False):
        label = short(r["name"])
        fits = int((w - 8) / 6.6)
        text = label if len(label) <= fits else label[: max(fits - 1, 0)] + "…" if fits >= 5 else ""
        kind = kinds.index(r["dtype"]) % 5 if r["dtype"] in kinds else 5
        boxes.append({**r, "x": x, "y": y, "w": w, "h": h, "text": text if h >= 16 else "", "kind": kind})
    return {"width": WIDTH, "height": height, "boxes": boxes, "kinds": list(enumerate(kinds))}


def depth(rows: Sequence[dict[str, Any]], good: float) -> dict[str, Any]:
    """Own and total signal to noise of the layers in order: points of two lines in a box, and the ticks of its axis."""
    height, left, bottom = 220.0, 40.0, 26.0
    known = [v for r in rows for v in (r["own_db"], r["total_db"]) if v is not None]
    low = min([0.0, *(10 * (v // 10) for v in known)])
    high = max([40.0, *(10 * (v // 10 + 1) for v in known if v < 80)])
    step = (WIDTH - left - 10) / max(1, len(rows) - 1)

    def place(i: int, v: float) -> tuple[float, float]:
        inside = min(max(v, low), high)
        return round(left + i * step, 1), round((height - bottom) * (high - inside) / (high - low) + 6, 1)

    lines = {}
    for key in ("own_db", "total_db"):
        lines[key] = [(*place(i, r[key]), r) for i, r in enumerate(rows) if r[key] is not None]
    ticks = [(place(0, v)[1], f"{v:g}") for v in range(int(low), int(high) + 1, 20 if high - low > 60 else 10)]
    return {"width": WIDTH, "height": height, "left": left, "lines": lines, "ticks": ticks, "good": place(0, good)[1]}


def curve(points: Sequence[dict[str, Any]], chosen: dict[str, Any], budget: dict[str, Any]) -> dict[str, Any]:
    """Dots of choices: milliseconds from left to right, the drop (in decades) from the bottom up."""
    height = 220.0
    decades = [math.log10(max(p["drop"], 1e-7)) for p in points]
    low, high = math.floor(min(decades)), max(math.ceil(max(decades)), math.floor(min(decades)) + 1)
    labels = {d: f"{100 * 10.0**d:g} %" for d in range(low, high + 1)}
    left = 16 + 11.0 * max(map(len, labels.values()))  # letters are largest on phones
    times = [p["ms"] for p in points]
    across = (WIDTH - left - 20) / ((max(times) - min(times)) or 1.0)

    def up(decade: float) -> float:
        return round(8 + (height - 24) * (high - decade) / (high - low), 1)

    dots = [
        {
            **p,
            "x": round(left + 10 + (p["ms"] - min(times)) * across, 1),
            "y": up(d),
            "chosen": p == chosen,
            "floats": len(p["float"]),
        }
        for p, d in zip(points, decades, strict=True)
    ]
    ticks = [(up(d), label) for d, label in labels.items()]
    drop = budget["drop"]
    bar = up(math.log10(drop)) if drop and low <= math.log10(drop) <= high else None
    return {
        "width": WIDTH,
        "height": height,
        "left": left,
        "dots": sorted(dots, key=lambda p: p["x"]),
        "ticks": ticks,
        "bar": bar,
    }


def memory_plan(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Boxes of buffers in an arena: steps from left to right, bytes from the bottom up."""
    height = 260.0
    steps = max((r["last"] for r in rows), default=0) + 1
    total = max((r["offset"] + r["bytes"] for r in rows), default=1)
    across, up = WIDTH / steps, height / total
    boxes = [
        {
            **r,
            "x": r["first"] * across,
            "w": max(1.0, (r["last"] - r["first"] + 1) * across),
            "y": height - (r["offset"] + r["bytes"]) * up,
            "h": max(0.5, r["bytes"] * up),
            "kind": i % 5,
        }
        for i, r in enumerate(rows)
    ]
    return {"width": WIDTH, "height": height, "boxes": boxes, "steps": steps, "bytes": total}
