"""Accuracy repair: rewrites of the float graph before, and better integers during, quantization.  Each is switched alone.

equalize  cross-layer equalization: channels between two products get equal ranges on both sides (M. Nagel et al.,
          "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1).  With data
          the measured reach of the activations takes the place of the first weights' ranges, as in SmoothQuant below:
          with a scale per output those ranges cost nothing, uneven activations under one scale do.
smooth    SmoothQuant: outlier channels of activations behind a layer norm move into the weights that read them (G. Xiao
          et al., "SmoothQuant", ICML 2023, equation 4, with alpha = 0.5).
bias      bias correction: the mean shift that rounding weights gives each output is taken off its bias (Nagel et al.,
          section 4.2, with the measured means of the inputs).
gptq      weights are rounded one input after another, the rest makes up for each error (E. Frantar et al., "GPTQ",
          ICLR 2023).  With int4 and int8.
round     up-or-down rounding of int8 weights that loses least on the outputs: the quadratic form of M. Nagel et al.,
          "Up or Down? Adaptive Rounding" (ICML 2020, equation 13), lowered by coordinate descent rather than their
          relaxation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr, operand, scalar
from deploykit.graph import Graph, Node, Value

REPAIRS = ("equalize", "smooth", "bias", "gptq", "round")
WIDEST = 4096  # inputs of a product whose second moments are collected: a matrix of that many squared
FAINT = 64  # a channel is taken to reach at least this fraction of the widest: data may not have shown all of it
ROWS = 4096  # rows of one sample that go into it


@dataclass
class Moments:
    """Of the last dim of an activation: mean and largest magnitude per channel; second moments when asked for."""

    second: bool = False
    count: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top: np.ndarray = field(default_factory=lambda: np.zeros(0))
    square: np.ndarray | None = None

    def see(self, x: np.ndarray) -> None:
        """Take in the tensor of one run."""
        a = np.asarray(x, np.float32).reshape(-1, x.shape[-1])
        if not self.count:
            self.total, self.top = np.zeros(a.shape[1]), np.zeros(a.shape[1])
        self.count += len(a)
        self.total += a.sum(0, dtype=np.float64)
        self.top = np.maximum(self.top, np.abs(a).max(0, initial=0.0))
        if self.second and a.shape[1] <= WIDEST:
            part = a[:: max(1, len(a) // ROWS)]
            square = (part.T @ part).astype(np.float64)
            self.square = square if self.square is None else self.square + square

    @property
    def mean(self) -> np.ndarray:
        """Mean per channel."""
        return self.total / max(1, self.count)


def weighed(n: Node) -> bool:
    """A product with a constant float weight that repairs can change: conv, or matmul of rank 2 weights."""
    w = operand(n, 1)
    if n.op not in ("conv", "matmul") or w is None or w.data is None or w.dtype is not dtypes.float32:
        return False
    return n.op == "conv" or (w.data.ndim == 2 and attr(n, "alpha") == 1.0 and not attr(n, "transpose_a"))


# ---------------------------------------------------------------- before calibration
def equalize(graph: Graph, moments: dict[Value, Moments] | None = None, rounds: int = 4) -> int:
    """Equalize conv (relu) conv chains in place; the number of pairs.  The float function stays the same.

    With moments of what lies between the two, its channels get equal reach, as far as the weights that read them allow:
    weights of the first conv have a scale per output anyway.  Without, the weights of both get equal ranges.
    """
    pairs = [p for p in _pairs(graph) if moments or p[2] is None]
    rw = Rewriter(graph)
    for _ in range(1 if moments else rounds):
        for a, b, limit in pairs:
            s = _balance(a, b, (moments or {}).get(b.inputs[0]), limit)  # type: ignore[arg-type]
            wa, wb = a.inputs[1].data, b.inputs[1].data  # type: ignore[union-attr]
            assert wa is not None and wb is not None
            column = s.reshape([-1] + [1] * (wa.ndim - 1))
            rw.set_input(a, 1, rw.constant(wa / column, a.inputs[1].name))  # type: ignore[union-attr]
            bias = operand(a, 2)
            if bias is not None and bias.data is not None:
                rw.set_input(a, 2, rw.constant(bias.data / s, bias.name))
            wide = s.reshape([-1] + [1] * (wb.ndim - 1)) if attr(b, "groups") != 1 else s
            rw.set_input(b, 1, rw.constant(wb * wide, b.inputs[1].name))  # type: ignore[union-attr]
    rw.commit()
    return len(pairs)


def _balance(a: Node, b: Node, between: Moments | None, limit: float | None) -> np.ndarray:
    """What to divide each channel between two convolutions by.

    A clamp with an upper ``limit`` acts on all channels alike: those that stay below half of it are spread out over it.
    """
    wa, wb = a.inputs[1].data, b.inputs[1].data  # type: ignore[union-attr]
    assert wa is not None and wb is not None
    depthwise = attr(b, "groups") != 1
    rb = np.abs(wb).reshape(len(wb), -1).max(1) if depthwise else np.abs(wb).max(axis=tuple(range(wb.ndim - 1)))
    if between is not None:
        ra = np.maximum(between.top, between.top.max(initial=0.0) / FAINT)
        if limit is not None:
            return np.minimum(2 * ra / limit, 1.0).astype(np.float32)
        rb = np.ones_like(rb) if depthwise else rb  # depthwise weights have a scale of their own per channel
        power = 1.0 if depthwise else 0.5
    else:
        ra, power = np.abs(wa).reshape(len(wa), -1).max(1), 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        s = (ra / rb) ** power
    good = np.isfinite(s) & (s > 0)
    if between is not None and good.any():
        s = s / np.exp(np.log(s[good]).mean())
    return np.where(good, np.clip(s, 1e-3, 1e3), 1.0).astype(np.float32)


def _upper(n: Node) -> float | None:
    """Upper limit of a clamp from 0; None for other nodes."""
    if n.op == "relu6":
        return 6.0
    low, high = (scalar(operand(n, i)) for i in (1, 2)) if n.op == "clip" else (None, None)
    return high if low == 0.0 and high is not None and high > 0 else None


def _pairs(graph: Graph) -> list[tuple[Node, Node, float | None]]:
    """Pairs of convolutions that only a relu, or a clamp with an upper limit, stands between."""
    readers, outputs = graph.consumers(), set(graph.outputs)
    out = []
    for a in graph.nodes:
        if a.op != "conv" or not weighed(a) or operand(a, 3) is not None or attr(a, "act") != "none":
            continue
        bias = operand(a, 2)
        if bias is not None and bias.data is None:
            continue
        users, limit = readers.get(a.output, []), None
        if a.output in outputs or len(users) != 1:
            continue
        b = users[0]
        if b.op == "relu" or _upper(b) is not None:
            limit, v = _upper(b), b.output
            users = readers.get(v, [])
            if v in outputs or len(users) != 1:
                continue
            b = users[0]
        else:
            v = a.output
        if b.op == "conv" and weighed(b) and b.inputs[0] is v and operand(b, 3) is not v:
            size, groups = len(a.inputs[1].data), attr(b, "groups")  # type: ignore[union-attr,arg-type]
            shape = b.inputs[1].data.shape  # type: ignore[union-attr]
            if (groups == 1 and shape[-1] == size) or (groups == size == shape[0]):
                out.append((a, b, limit))
    return out


def norms(graph: Graph) -> bool:
    """Whether there is anything that :func:`smooth` could change."""
    return any(n.op in ("layer_norm", "rms_norm") for n in graph.nodes)


def smooth(graph: Graph, moments: dict[Value, Moments], alpha: float = 0.5) -> int:
    """Move outlier channels behind layer norms into the weights that read them; the number of norms changed."""
    readers, outputs = graph.consumers(), set(graph.outputs)
    rw = Rewriter(graph)
    count = 0
    for n in graph.nodes:
        if n.op not in ("layer_norm", "rms_norm") or n.output in outputs or n.output not in moments:
            continue
        users = readers.get(n.output, [])
        params = [operand(n, i) for i in (1, 2)]
        if (
            not users
            or params[0] is None
            or any(p is not None and (p.data is None or p.data.ndim != 1) for p in params)
        ):
            continue
        if not all(u.op == "matmul" and weighed(u) and u.inputs[0] is n.output for u in users):
            continue
        top = moments[n.output].top
        weights = [_rows(u) for u in users]
        widest = np.max([np.abs(w).max(1) for w in weights], axis=0)
        s = np.maximum(top, 1e-5) ** alpha / np.maximum(widest, 1e-5) ** (1 - alpha)
        s = np.clip(s / np.exp(np.log(s).mean()), 1e-3, 1e3).astype(np.float32)
        if s.shape != params[0].data.shape:  # type: ignore[union-attr]
            continue
        for i, p in enumerate(params, 1):
            if p is not None and p.data is not None:
                rw.set_input(n, i, rw.constant(p.data / s, p.name))
        for u, w in zip(users, weights, strict=True):
            old, new = u.inputs[1], w * s[:, None]
            assert old is not None
            turned = np.ascontiguousarray(new.T if attr(u, "transpose_b") else new)
            rw.set_input(u, 1, rw.constant(turned, old.name))
        count += 1
    rw.commit()
    return count


def _rows(n: Node) -> np.ndarray:
    w = n.inputs[1].data  # type: ignore[union-attr]
    assert w is not None
    return w.T if attr(n, "transpose_b") else w


# ---------------------------------------------------------------- while weights become integers
def bias_shift(n: Node, error: np.ndarray, mean: np.ndarray) -> np.ndarray | None:
    """What the change of a weight adds to each output on average, given the mean of each input channel."""
    if n.op == "matmul":
        e = error.T if attr(n, "transpose_b") else error
        return mean @ e if e.shape[0] == len(mean) else None
    groups = attr(n, "groups")
    taps = error.reshape(error.shape[0], -1, error.shape[-1]).sum(1)  # [outputs, inputs of the group]
    if len(mean) != groups * taps.shape[1] or len(taps) % groups:
        return None
    per = np.repeat(mean.reshape(groups, -1), len(taps) // groups, axis=0)
    return (taps * per).sum(1)


def hessian(n: Node, moments: Moments | None) -> np.ndarray | None:
    """Second moments of the inputs of a matmul or 1x1 conv, damped; None where they are not known."""
    if moments is None or moments.square is None:
        return None
    w = n.inputs[1].data  # type: ignore[union-attr]
    assert w is not None
    if n.op == "conv" and (attr(n, "groups") != 1 or w[..., 0].size != len(w)):
        return None
    h = moments.square / max(1, moments.count)
    return h + np.eye(len(h)) * (0.01 * np.trace(h) / len(h) + 1e-12)


def gptq(w: np.ndarray, h: np.ndarray, grid: Callable[[int, np.ndarray], np.ndarray], low: int, top: int) -> np.ndarray:
    """Integers of w [inputs, outputs] by GPTQ; ``grid(k, w)`` gives the scale of each output at input k, asked in order
    with what is left of w, so that blocks may choose theirs late."""
    w = w.astype(np.float64).copy()
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    q = np.zeros(w.shape)
    for k in range(len(w)):
        scale = grid(k, w)
        q[k] = np.clip(np.rint(w[k] / scale), low, top)
        error = (w[k] - q[k] * scale) / upper[k, k]
        w[k:] -= upper[k, k:, None] * error
    return q


def adaround(w: np.ndarray, h: np.ndarray, scale: np.ndarray, top: int = 127, sweeps: int = 3) -> np.ndarray:
    """Integers of w [inputs, outputs], each one of its two neighbours, by coordinate descent on e' H e per output."""
    low = np.floor(w / scale)
    q = np.clip(np.rint(w / scale), -top, top)
    e = q * scale - w
    slope = h @ e
    for _ in range(sweeps):
        changed = 0
        for k in range(len(w)):
            other = np.clip(np.where(q[k] == low[k], low[k] + 1, low[k]), -top, top)
            step = (other - q[k]) * scale
            take = 2 * step * slope[k] + step * step * h[k, k] < 0
            step = np.where(take, step, 0.0)
            q[k] = np.where(take, other, q[k])
            slope += np.outer(h[:, k], step)
            changed += int(take.sum())
        if not changed:
            break
    return q
