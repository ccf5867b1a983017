"""Recurrent layers that TFLite has no operator for, step by step: any direction, first states, last states as results."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.exporters.tflite.exporter import Site, exports
from deploykit.converters.exporters.tflite.handlers_math import real
from deploykit.errors import UnsupportedError
from deploykit.ops.core import F

MOST = 256  # steps written out
_DEFAULTS = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@exports("gru", "rnn")
def recurrent(s: Site) -> None:
    unrolled(s)


def unrolled(s: Site) -> None:
    """Write out the steps of an lstm, gru or rnn node."""
    real(s)
    op, t = s.node.op, s.attrs
    ways = 2 if t["direction"] == "bidirectional" else 1
    acts = _activations(op, t, ways)
    if t["clip"] or t.get("input_forget") or s.value(4) is not None or (op == "lstm" and s.value(7) is not None):
        raise UnsupportedError("clipping, coupled gates, lengths or peepholes")
    time = 1 if t["batch_first"] else 0
    steps = s.shape()[time]
    if not isinstance(steps, int) or steps > MOST:
        raise UnsupportedError(
            f"over {steps} steps; known and at most {MOST} are written out. Fix it with --input-shape"
        )
    w, r, b = s.static(1, "a weight"), s.static(2, "a weight"), s.data(3)
    if s.value(3) is not None and b is None:
        raise UnsupportedError("a bias computed at run time")
    states = 2 if op == "lstm" else 1

    def f(x: Any, *rest: Any) -> Any:
        x = F.transpose(x, perm=(1, 0, 2)) if time else x
        first = [rest[4 + k] if len(rest) > 4 + k else None for k in range(states)]
        first = [F.transpose(v, perm=(1, 0, 2)) if v is not None and time else v for v in first]
        ys, ends = [], []
        for d in range(ways):
            back = t["direction"] == "reverse" or d == 1
            start = [None if v is None else F.squeeze(F.slice(v, [d], [d + 1], [0]), [0]) for v in first]
            bias = None if b is None else np.split(b[d], 2)
            y, last = _direction(op, t, acts[d], x, w[d], r[d], bias, start, steps, back)
            ys.append(y)
            ends.append(last)
        y = ys[0] if ways == 1 else F.concat(*ys, axis=1)  # [steps, ways, batch, hidden]
        lasts = [_stacked([e[k] for e in ends]) for k in range(states)]
        if time:
            y = F.transpose(y, perm=(2, 0, 1, 3))
            lasts = [F.transpose(v, perm=(1, 0, 2)) for v in lasts]
        return (y, *lasts)

    values = list(s.node.inputs)
    s.compose(f, values)


def _activations(op: str, t: dict[str, Any], ways: int) -> list[tuple[str, ...]]:
    """Names of the activations of each direction; raises UnsupportedError for those with numbers of their own."""
    plain = _DEFAULTS[op]
    given = [a.strip().lower() for a in t["activations"].split(",") if a.strip()] or list(plain) * ways
    if any(a not in ("sigmoid", "tanh", "relu") for a in given) or len(given) != len(plain) * ways:
        raise UnsupportedError(f"activations {t['activations']}")
    return [tuple(given[d * len(plain) : (d + 1) * len(plain)]) for d in range(ways)]


def _stacked(parts: list[Any]) -> Any:
    each = [F.unsqueeze(p, [0]) for p in parts]
    return each[0] if len(each) == 1 else F.concat(*each, axis=0)


def _direction(
    op: str,
    t: dict[str, Any],
    acts: tuple[str, ...],
    x: Any,
    w: Any,
    r: Any,
    bias: Any,
    start: list[Any],
    steps: int,
    back: bool,
) -> tuple[Any, list[Any]]:
    """([steps, 1, batch, hidden], last states) of one direction over x [steps, batch, in]."""
    n = r.shape[-1]
    act = [getattr(F, a) for a in acts]
    inside = op == "gru" and bias is not None  # the recurrent bias of the candidate may stand inside the reset
    whole = None if bias is None else bias[0] + bias[1] if not inside else bias[0]
    given = F.matmul(x, np.ascontiguousarray(w.T))
    given = given if whole is None else F.add(given, whole)
    rt = np.ascontiguousarray(r.T)
    h = start[0]
    c = start[1] if len(start) > 1 else None

    def gate(v: Any, k: int, count: int = 1) -> Any:
        return F.slice(v, [k * n], [(k + count) * n], [-1])

    out: list[Any] = [None] * steps
    for i in reversed(range(steps)) if back else range(steps):
        z = F.squeeze(F.slice(given, [i], [i + 1], [0]), [0])
        if h is None:
            h = F.mul(gate(z, 0), 0.0)  # zeros of the batch's size
        if op == "lstm" and c is None:
            c = F.mul(gate(z, 0), 0.0)
        if op == "rnn":
            h = act[0](F.add(z, F.matmul(h, rt)))
        elif op == "lstm":
            z = F.add(z, F.matmul(h, rt))
            c = F.add(F.mul(act[0](gate(z, 2)), c), F.mul(act[0](gate(z, 0)), act[1](gate(z, 3))))
            h = F.mul(act[0](gate(z, 1)), act[2](c))
        else:
            h = _gru_step(t, act, z, h, rt, None if bias is None else bias[1], n)
        out[i] = F.unsqueeze(h, [0, 1])
    y = out[0] if steps == 1 else F.concat(*out, axis=0)
    return y, [h] if c is None else [h, c]


def _gru_step(t: dict[str, Any], act: list[Any], z: Any, h: Any, rt: np.ndarray, rb: Any, n: int) -> Any:
    """One step; gates z, r, h."""
    inner = F.matmul(h, rt[:, : 2 * n])
    inner = inner if rb is None else F.add(inner, rb[: 2 * n])
    two = act[0](F.add(F.slice(z, [0], [2 * n], [-1]), inner))
    update, reset = F.slice(two, [0], [n], [-1]), F.slice(two, [n], [2 * n], [-1])
    last = np.ascontiguousarray(rt[:, 2 * n :])
    if t["linear_before_reset"]:
        part = F.matmul(h, last)
        part = F.mul(reset, part if rb is None else F.add(part, rb[2 * n :]))
    else:
        part = F.matmul(F.mul(reset, h), last)
        part = part if rb is None else F.add(part, rb[2 * n :])
    new = act[1](F.add(F.slice(z, [2 * n], [3 * n], [-1]), part))
    return F.add(F.mul(F.sub(np.float32(1), update), new), F.mul(update, h))
