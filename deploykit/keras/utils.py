"""Small helpers by Keras' names, and what people look at: summaries, architecture drawings, training curves."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.autodiff import random
from deploykit.errors import InputError
from deploykit.keras.layers.base import clear_session
from deploykit.keras.serialize import (
    deserialize as deserialize_keras_object,
)
from deploykit.keras.serialize import (
    register_keras_serializable,
)
from deploykit.keras.serialize import (
    serialize as serialize_keras_object,
)

__all__ = [
    "clear_session", "deserialize_keras_object", "draw", "normalize", "pad_sequences", "plot_history",
    "register_keras_serializable", "serialize_keras_object", "set_random_seed", "split_dataset", "summary_text",
    "to_categorical",
]  # fmt: skip


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and our generator."""
    import random as python_random

    python_random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.set_seed(seed)


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Integers as one-hot rows.

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    a = np.asarray(x, np.int64)
    shape = a.shape[:-1] if a.ndim > 1 and a.shape[-1] == 1 else a.shape
    n = num_classes or int(a.max()) + 1
    return np.eye(n)[a.reshape(-1)].reshape(*shape, n)


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """Divided by the norm along axis."""
    a = np.asarray(x)
    n = np.atleast_1d(np.linalg.norm(a, order, axis))
    n[n == 0] = 1
    return a / np.expand_dims(n, axis)


def pad_sequences(sequences: Any, maxlen: int | None = None, dtype: str = "int32", padding: str = "pre", truncating: str = "pre", value: float = 0.0) -> np.ndarray:  # fmt: skip
    """Lists of different lengths as one array.

    >>> pad_sequences([[1], [2, 3]]).tolist()
    [[0, 1], [2, 3]]
    """
    n = maxlen if maxlen is not None else max(map(len, sequences))
    out = np.full((len(sequences), n), value, dtype)
    for row, s in zip(out, sequences, strict=True):
        s = np.asarray(s)[-n:] if truncating == "pre" else np.asarray(s)[:n]
        if len(s):
            row[n - len(s) :] = s if padding == "pre" else row[n - len(s) :]
            if padding == "post":
                row[: len(s)] = s
    return out


def split_dataset(x: Any, left_size: float, seed: int | None = None) -> tuple[Any, Any]:
    """Arrays (or a tuple of them) in two parts."""
    xs = x if isinstance(x, tuple) else (x,)
    n = len(xs[0])
    k = int(n * left_size) if left_size < 1 else int(left_size)
    order = np.random.default_rng(seed).permutation(n) if seed is not None else np.arange(n)
    left, right = tuple(a[order[:k]] for a in xs), tuple(a[order[k:]] for a in xs)
    return (left, right) if isinstance(x, tuple) else (left[0], right[0])


def _shape_text(layer: Any) -> str:
    try:
        out = layer.output
    except InputError:
        return "?"
    shapes = [t.shape for t in out] if isinstance(out, list) else [out.shape]
    return ", ".join("(" + ", ".join(map(str, s)) + ")" for s in shapes)


def _rows(model: Any, nested: bool, depth: int = 0) -> list[tuple[str, str, int, bool]]:
    from deploykit.keras.models.model import Model

    rows = []
    for layer in model.layers:
        name = "  " * depth + f"{layer.name} ({type(layer).__name__})"
        rows.append((name, _shape_text(layer), layer.count_params(), layer.trainable))
        if nested and isinstance(layer, Model):
            rows += _rows(layer, nested, depth + 1)
    return rows


def summary_text(model: Any, expand_nested: bool = False, show_trainable: bool = False) -> str:
    """The table that ``model.summary()`` prints."""
    rows = _rows(model, expand_nested)
    head = ("Layer (type)", "Output Shape", "Param #")
    cells = [head, *((n, s, f"{c:,}") for n, s, c, _ in rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(3)]

    def line(r: Any, extra: str = "") -> str:
        return f"│ {r[0]:<{widths[0]}} │ {r[1]:<{widths[1]}} │ {r[2]:>{widths[2]}} │{extra}"

    def rule(a: str, b: str, c: str) -> str:
        return a + b.join("─" * (w + 2) for w in widths) + c

    total = model.count_params()
    trainable = sum(v.size for v in model.trainable_variables)
    size = lambda n: f"{n * 4 / 1e6:.2f} MB" if n >= 250_000 else f"{n * 4 / 1e3:.2f} KB"  # noqa: E731
    body = [line((n, s, f"{c:,}"), (" Y" if t else " N") if show_trainable else "") for n, s, c, t in rows]
    return "\n".join(
        [
            f'Model: "{model.name}"',
            rule("┌", "┬", "┐"), line(head), rule("├", "┼", "┤"), *body, rule("└", "┴", "┘"),
            f" Total params: {total:,} ({size(total)})",
            f" Trainable params: {trainable:,} ({size(trainable)})",
            f" Non-trainable params: {total - trainable:,} ({size(total - trainable)})",
        ]
    )  # fmt: skip


# ---------------------------------------------------------------- pictures
_STYLE = (
    "<style>.b{fill:#f6f8fa;stroke:#57606a}.t{font:13px system-ui,sans-serif;fill:#1f2328}.s{font:11px ui-monospace,"
    "monospace;fill:#57606a}.e{stroke:#57606a;fill:none;marker-end:url(#a)}@media(prefers-color-scheme:dark){.b{fill:#161b22;"
    "stroke:#8b949e}.t{fill:#e6edf3}.s{fill:#8b949e}.e{stroke:#8b949e}}</style>"
)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def draw(model: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Boxes for layers, arrows for tensors, top to bottom, as SVG."""
    from deploykit.keras.models.functional import InputLayer

    flow = model._flow() if hasattr(model, "_flow") else model
    if not hasattr(flow, "_order"):
        raise InputError(
            f"model '{model.name}' is subclassed: its calls are not known before it runs. Wrap it in a functional model."
        )
    nodes = [t.node for t in flow._inputs if t.node is not None] + list(flow._order)
    depth: dict[int, int] = {}
    for n in nodes:
        before = [depth[id(t.node)] for t in n.inputs() if id(t.node) in depth]
        depth[id(n)] = 0 if isinstance(n.layer, InputLayer) else 1 + max(before, default=0)
    levels: dict[int, list[Any]] = {}
    for n in nodes:
        levels.setdefault(depth[id(n)], []).append(n)
    w, h, gap_x, gap_y = 250, 44, 24, 34
    across = max(len(v) for v in levels.values())
    width = across * (w + gap_x) + gap_x
    at = {}
    for level, row in levels.items():
        left = (width - len(row) * (w + gap_x) + gap_x) / 2
        for i, n in enumerate(row):
            at[id(n)] = (left + i * (w + gap_x), gap_y + level * (h + gap_y))
    height = gap_y + (max(levels) + 1) * (h + gap_y)
    parts = []
    for n in nodes:
        for t in n.inputs():
            if id(t.node) in at:
                (x1, y1), (x2, y2) = at[id(t.node)], at[id(n)]
                parts.append(f'<path class="e" d="M{x1 + w / 2:.0f} {y1 + h:.0f} C{x1 + w / 2:.0f} {y1 + h + 20:.0f} {x2 + w / 2:.0f} {y2 - 22:.0f} {x2 + w / 2:.0f} {y2 - 2:.0f}"/>')  # fmt: skip
    for n in nodes:
        x, y = at[id(n)]
        shapes = " ".join("×".join("?" if d is None else str(d) for d in t.shape) for t in n.outputs)
        title, what = _short(n.layer.name, 28), _short(f"{type(n.layer).__name__}  {shapes}", 33)
        parts.append(f'<rect class="b" x="{x:.0f}" y="{y:.0f}" width="{w}" height="{h}" rx="6"/><text class="t" x="{x + 10:.0f}" y="{y + 18:.0f}">{escape(title)}</text><text class="s" x="{x + 10:.0f}" y="{y + 35:.0f}">{escape(what)}</text>')  # fmt: skip
    arrow = '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#57606a"/></marker></defs>'  # fmt: skip
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{escape(model.name)}">{_STYLE}{arrow}{"".join(parts)}</svg>'  # fmt: skip
    if path is not None:
        Path(path).write_text(svg, encoding="utf-8")
    return svg


def plot_history(history: dict[str, list[Any]], epochs: list[int], path: str | os.PathLike[str] | None = None) -> str:
    """One small chart per metric, training and validation together, as SVG."""
    names = [k for k in history if not k.startswith("val_")]
    w, h, pad, below = 352, 200, 52, 20
    colours = ("#0969da", "#bc4c00")
    parts = []
    for i, name in enumerate(names):
        series = [(name, history[name])] + (
            [(f"val_{name}", history[f"val_{name}"])] if f"val_{name}" in history else []
        )
        values = [float(v) for _, s in series for v in s if np.ndim(v) == 0 and np.isfinite(v)]
        if not values:
            continue
        low, high = min(values), max(values)
        high = high if high > low else low + 1
        x0 = i * (w + 20)
        px = lambda e: x0 + pad + (w - pad - 10) * (e - epochs[0]) / max(epochs[-1] - epochs[0], 1)  # noqa: B023, E731
        py = lambda v: 24 + (h - 24 - below) * (1 - (v - low) / (high - low))  # noqa: B023, E731
        parts.append(f'<text class="t" x="{x0 + pad}" y="14">{escape(name)}</text><text class="s" text-anchor="end" x="{x0 + pad - 6}" y="30">{high:.3g}</text><text class="s" text-anchor="end" x="{x0 + pad - 6}" y="{h - below}">{low:.3g}</text><rect class="b" style="fill:none" x="{x0 + pad}" y="20" width="{w - pad - 6}" height="{h - below - 14}"/><text class="s" text-anchor="end" x="{x0 + w - 6}" y="{h + 2}">epoch {epochs[-1] + 1}</text>')  # fmt: skip
        for (label, s), colour in zip(series, colours, strict=False):
            points = [(px(e), py(float(v))) for e, v in zip(epochs, s, strict=False) if np.isfinite(v)]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}<text class="s" style="fill:{colour}" x="{x0 + pad + (0 if label == name else 14 + 6.5 * len(name)):.0f}" y="{h + 2}">{escape(label)}</text>')  # fmt: skip
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -2 {len(names) * (w + 20)} {h + 16}" role="img" aria-label="training curves">{_STYLE}{"".join(parts)}</svg>'  # fmt: skip
    if path is not None:
        Path(path).write_text(svg, encoding="utf-8")
    return svg
