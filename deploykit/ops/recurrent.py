"""Recurrent layers over time, weights and gate orders as in ONNX.

Shapes: x [T, B, I] (or [B, T, I] when batch_first); w [D, G*H, I]; r [D, G*H, H]; b [D, 2*G*H] (input biases, then
recurrent ones); lengths int32 [B]; h0, c0 [D, B, H] ([B, D, H]); y [T, D, B, H] ([B, T, D, H]); y_h, y_c like h0.
D = 2 when bidirectional, G the number of gates.

Each cell is written once, in ops: as decomposition (unrolled over a known number of steps), for the gradient through
it, and, run eagerly one precision up, as the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.graph.dims import Dim, DimLike
from deploykit.ops import dispatch
from deploykit.ops.core import Enum, F, Floats, Spec, get, op
from deploykit.ops.grads import dim_value, known_dim, np_dtype
from deploykit.ops.numerics import back, is_float, wide
from deploykit.ops.rules import error, require_index, require_kind, require_rank, require_same_dtype, show, unify_dim
from deploykit.ops.samples import sequence as cases
from deploykit.ops.through import vjp_through

_R = dict(
    direction=Enum("forward", "reverse", "bidirectional"),
    activations="",  # comma-separated names in ONNX order, '' = the defaults
    activation_alpha=Floats(),
    activation_beta=Floats(),
    clip=0.0,  # bound of what goes into the gates' activations; 0 means none
    batch_first=False,
)
_DEFAULTS = {4: "sigmoid,tanh,tanh", 3: "sigmoid,tanh", 1: "tanh"}  # by number of gates


# ---- activations of gates, by their ONNX names in lower case
@dataclass(frozen=True)
class _Function:
    """An activation in ops; defaults of its alpha and beta (None: it has none)."""

    apply: Callable[..., Any]
    alpha: float | None = None
    beta: float | None = None


def _op(name: str, *attrs: str) -> Callable[..., Any]:
    return lambda x, *values: get(name)(x, **dict(zip(attrs, values, strict=True)))


_FUNCTIONS = {
    "affine": _Function(lambda x, a, b: F.add(F.mul(x, a), b), 1.0, 0.0),
    "elu": _Function(_op("elu", "alpha"), 1.0),
    "hardsigmoid": _Function(_op("hard_sigmoid", "alpha", "beta"), 0.2, 0.5),
    "leakyrelu": _Function(_op("leaky_relu", "alpha"), 0.01),
    "relu": _Function(_op("relu")),
    "scaledtanh": _Function(lambda x, a, b: F.mul(F.tanh(F.mul(x, b)), a), 1.0, 1.0),
    "sigmoid": _Function(_op("sigmoid")),
    "softplus": _Function(_op("softplus")),
    "softsign": _Function(_op("softsign")),
    "tanh": _Function(_op("tanh")),
    "thresholdedrelu": _Function(_op("thresholded_relu", "alpha"), 1.0),
}


def gate_functions(gates: int, attrs: dict[str, Any]) -> list[list[Callable[[Any], Any]]]:
    """The activations of each direction.  Alphas and betas go, in order, to the functions that take them."""
    default = _DEFAULTS[gates].split(",")
    directions = 2 if attrs["direction"] == "bidirectional" else 1
    names = (
        [n.strip().lower() for n in attrs["activations"].split(",")] if attrs["activations"] else default * directions
    )
    if len(names) != len(default) * directions:
        raise error("activations", repr(attrs["activations"]), f"{len(default) * directions} names")
    alphas, betas = list(attrs["activation_alpha"]), list(attrs["activation_beta"])

    def bind(name: str) -> Callable[[Any], Any]:
        f = _FUNCTIONS.get(name)
        if f is None:
            raise error("activation", repr(name), ", ".join(sorted(_FUNCTIONS)))
        values = [] if f.alpha is None else [alphas.pop(0) if alphas else f.alpha]
        values += [] if f.beta is None else [betas.pop(0) if betas else f.beta]
        return lambda x: f.apply(x, *values)

    bound = [bind(n) for n in names]
    return [bound[i : i + len(default)] for i in range(0, len(bound), len(default))]


# ---- shapes
def _shapes(
    gates: int, x: Spec, w: Spec, r: Spec, b: Spec | None, lengths: Spec | None, states: list[Spec | None], attrs: dict
) -> tuple[Spec, ...]:
    """Specs of y and of the final states, one per entry of ``states``."""
    gate_functions(gates, attrs)
    d = 2 if attrs["direction"] == "bidirectional" else 1
    dtype = require_same_dtype(x, w, r, b, *states)
    require_kind(x, "f")
    require_index(lengths, "lengths")
    for what, s, n in (("x", x, 3), ("w", w, 3), ("r", r, 3), ("b", b, 2), ("lengths", lengths, 1)):
        require_rank(s, n, what=what)
    steps: DimLike = Dim.fresh()
    batch: DimLike = Dim.fresh()
    if x.shape is not None:
        batch, steps = x.shape[:2] if attrs["batch_first"] else x.shape[1::-1]
        if w.shape is not None:
            unify_dim(x.shape[2], w.shape[2], "input sizes of x and w")
    hidden: DimLike = r.shape[2] if r.shape is not None else Dim.fresh()
    state = (batch, d, hidden) if attrs["batch_first"] else (d, batch, hidden)
    wants: list[tuple[str, Spec | None, tuple[DimLike, ...]]] = [
        ("w", w, (d, gates * hidden)),
        ("r", r, (d, gates * hidden, hidden)),
        ("b", b, (d, 2 * gates * hidden)),
        ("lengths", lengths, (batch,)),
        *(("initial state", s, state) for s in states),
    ]
    for what, s, want in wants:
        require_rank(s, 3 if what == "w" else len(want), what=what)
        if s is not None and s.shape is not None:
            for p, q in zip(s.shape, want, strict=False):
                if isinstance(p, int) and isinstance(q, int) and p != q:
                    raise error(f"shape of {what}", show(s.shape), show((*want, *s.shape[len(want) :])))
    y = (batch, steps, d, hidden) if attrs["batch_first"] else (steps, d, batch, hidden)
    return (Spec(dtype, y), *(Spec(dtype, state) for _ in states))


# ---- the loop over time, in ops
def _parts(x: Any, n: int) -> list[Any]:
    """The n slices of x along its first axis (by one split: its gradient is one concat)."""
    if x is None:
        return [None] * n
    pieces = F.split(x, axis=0, n_outputs=n) if n else ()
    return [F.squeeze(p, np.array([0])) for p in pieces]


def _swap(x: Any, batch_first: bool) -> Any:
    """[B, A, H] to [A, B, H] and back, when batch_first."""
    return F.transpose(x, perm=(1, 0, 2)) if batch_first and x is not None else x


Cell = Callable[
    [Any, tuple], tuple
]  # (gates' inputs of one step, state) -> next state, whose first entry is the output


def _unroll(
    gates: int,
    make_cell: Callable[[int, list, Any, Any], Cell],
    early: int,
    x: Any,
    w: Any,
    r: Any,
    b: Any,
    lengths: Any,
    states: list[Any],
    attrs: dict[str, Any],
) -> tuple[Any, ...]:
    """y and the final states.  ``make_cell(direction, functions, r, recurrent_bias)`` makes the step; the recurrent
    biases of the first ``early`` gates are added to the input's share at once, the others reach the cell."""
    first, direction = attrs["batch_first"], attrs["direction"]
    x, states = _swap(x, first), [_swap(s, first) for s in states]
    steps, hidden = known_dim(x, 0), known_dim(r, 2)
    ys, finals = [], []
    bound = gate_functions(gates, attrs)
    by_direction = [_parts(t, len(bound)) for t in (w, r, b)]
    initial = [_parts(s, len(bound)) for s in states]
    for d, functions in enumerate(bound):
        wd, rd, bd = (t[d] for t in by_direction)
        backward = direction == "reverse" or d == 1
        turn = _turn(lengths) if backward else lambda t: t
        late = None
        share = F.matmul(turn(x), wd, transpose_b=True)  # [T, B, G*H]
        if bd is not None:
            of_input, recurrent = F.split(bd, axis=0, n_outputs=2)
            share = F.add(share, of_input)
            if early == gates:
                share = F.add(share, recurrent)
            else:
                n = early * hidden
                soon, late = F.split(recurrent, np.array([n, (gates - early) * hidden]), axis=0, n_outputs=2)
                share = F.add(share, F.concat(soon, np.zeros((gates - early) * hidden, np_dtype(x)), axis=0))
        cell = make_cell(d, functions, rd, late)
        rows = F.concat(F.reshape(dim_value(x, 1), np.array([1])), np.array([hidden]), axis=0)
        zero = F.fill(rows, np.zeros((), np_dtype(x)))
        state = tuple(zero if s[d] is None else s[d] for s in initial)
        outs = []
        for t, now in enumerate(_parts(share, steps)):
            new = cell(now, state)
            out = new[0]
            if lengths is not None:
                alive = F.unsqueeze(F.less(np.array(t, np_dtype(lengths)), lengths), np.array([1]))
                out = F.where(alive, out, zero)
                new = tuple(F.where(alive, a, b) for a, b in zip(new, state, strict=True))
            state = new
            outs.append(F.unsqueeze(out, np.array([0, 1])))  # [1, 1, B, H]
        if not outs:
            outs = [F.fill(F.concat(np.array([0, 1]), rows, axis=0), np.zeros((), np_dtype(x)))]
        along_time = F.concat(*outs, axis=0)
        ys.append(turn(along_time) if lengths is None else _turn_4d(turn, along_time, backward))
        finals.append(state)
    y = F.concat(*ys, axis=1) if len(ys) > 1 else ys[0]
    ends = [F.concat(*(F.unsqueeze(f[i], np.array([0])) for f in finals), axis=0) for i in range(len(states))]
    return (F.transpose(y, perm=(2, 0, 1, 3)) if first else y, *(_swap(e, first) for e in ends))


def _turn(lengths: Any) -> Callable[[Any], Any]:
    """Time reversed: all of it, or each sequence within its own length."""
    if lengths is None:
        return lambda t: F.reverse(t, axes=(0,))
    lengths = F.cast(lengths, dtype="int64")
    return lambda t: F.reverse_sequence(t, lengths, batch_axis=1, time_axis=0)


def _turn_4d(turn: Callable[[Any], Any], y: Any, backward: bool) -> Any:
    """[T, 1, B, H] turned by a rule for [T, B, ...]."""
    return F.unsqueeze(turn(F.squeeze(y, np.array([1]))), np.array([1])) if backward else y


def _clipper(attrs: dict[str, Any]) -> Callable[[Any], Any]:
    bound = attrs["clip"]
    if not bound:
        return lambda x: x
    return lambda x: F.clip(x, np.array(-bound, np_dtype(x)), np.array(bound, np_dtype(x)))


def _eager(run: Callable[..., tuple], inputs: tuple, attrs: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """The unrolled form on arrays, one precision up, rounded once."""
    wider = [wide(t) if t is not None and is_float(t) else t for t in inputs]
    with dispatch.use(dispatch.Eager()):
        outs = run(*wider, **attrs)
    return tuple(back(t, inputs[0].dtype) for t in outs)


# ---- the cells
def _run_lstm(x, w, r, b=None, lengths=None, h0=None, c0=None, peephole=None, **attrs):
    clip = _clipper(attrs)
    peepholes = _parts(peephole, 2 if attrs["direction"] == "bidirectional" else 1)

    def make(d: int, f: list, r: Any, late: Any) -> Cell:
        peep = None if peephole is None else F.split(peepholes[d], axis=0, n_outputs=3)

        def cell(share: Any, state: tuple) -> tuple:
            h, c = state
            i, o, forget, g = F.split(F.add(share, F.matmul(h, r, transpose_b=True)), axis=1, n_outputs=4)
            if peep is not None:
                i, forget = F.add(i, F.mul(c, peep[0])), F.add(forget, F.mul(c, peep[2]))
            i = f[0](clip(i))
            forget = F.sub(1.0, i) if attrs["input_forget"] else f[0](clip(forget))
            c = F.add(F.mul(forget, c), F.mul(i, f[1](clip(g))))
            if peep is not None:
                o = F.add(o, F.mul(c, peep[1]))
            return F.mul(f[0](clip(o)), f[2](c)), c

        return cell

    return _unroll(4, make, 4, x, w, r, b, lengths, [h0, c0], attrs)


def _run_gru(x, w, r, b=None, lengths=None, h0=None, **attrs):
    clip, before_reset = _clipper(attrs), attrs["linear_before_reset"]

    def make(d: int, f: list, r: Any, late: Any) -> Cell:
        hidden = r.shape[1]
        r_gates, r_new = F.split(r, np.array([2 * hidden, hidden]), axis=0, n_outputs=2)

        def plus_bias(v: Any) -> Any:
            return v if late is None else F.add(v, late)

        def cell(share: Any, state: tuple) -> tuple:
            (h,) = state
            gates, new = F.split(share, np.array([2 * hidden, hidden]), axis=1, n_outputs=2)
            z, reset = F.split(F.add(gates, F.matmul(h, r_gates, transpose_b=True)), axis=1, n_outputs=2)
            z, reset = f[0](clip(z)), f[0](clip(reset))
            if before_reset:
                past = F.mul(reset, plus_bias(F.matmul(h, r_new, transpose_b=True)))
            else:
                past = plus_bias(F.matmul(F.mul(reset, h), r_new, transpose_b=True))
            new = f[1](clip(F.add(new, past)))
            return (F.add(F.mul(F.sub(1.0, z), new), F.mul(z, h)),)

        return cell

    return _unroll(3, make, 2, x, w, r, b, lengths, [h0], attrs)


def _run_rnn(x, w, r, b=None, lengths=None, h0=None, **attrs):
    clip = _clipper(attrs)

    def make(d: int, f: list, r: Any, late: Any) -> Cell:
        return lambda share, state: (f[0](clip(F.add(share, F.matmul(state[0], r, transpose_b=True)))),)

    return _unroll(1, make, 1, x, w, r, b, lengths, [h0], attrs)


@op(220, "x, w, r, b?, lengths?, h0?, c0?, peephole? -> y, y_h, y_c", attrs=dict(**_R, input_forget=False))
class lstm:
    """ONNX LSTM: gates i, o, f, c; peephole [D, 3*H] for i, o, f; steps at or after lengths[b] give 0 in y and keep the
    state.  input_forget couples the gates: f = 1 - i."""

    samples = cases.lstm

    def infer(x, w, r, b=None, lengths=None, h0=None, c0=None, peephole=None, **attrs):
        require_same_dtype(x, peephole)
        require_rank(r, 3, what="r")
        require_rank(peephole, 2, what="peephole")
        if peephole is not None and peephole.shape is not None and r.shape is not None:
            unify_dim(peephole.shape[1], 3 * r.shape[2], "columns of peephole and 3 * hidden")
        return _shapes(4, x, w, r, b, lengths, [h0, c0], attrs)

    def reference(*inputs, **attrs):
        return _eager(_run_lstm, inputs, attrs)

    def decompose(*inputs, **attrs):
        return _run_lstm(*inputs, **attrs)

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(_run_lstm, g, inputs, attrs)


@op(221, "x, w, r, b?, lengths?, h0? -> y, y_h", attrs=dict(**_R, linear_before_reset=False))
class gru:
    """ONNX GRU: gates z, r, h; h~ = g(x w' + (r * h) rh' + biases), or g(x w' + wb + r * (h rh' + rb)) when
    linear_before_reset; h = (1 - z) * h~ + z * h."""

    samples = cases.gru

    def infer(x, w, r, b=None, lengths=None, h0=None, **attrs):
        return _shapes(3, x, w, r, b, lengths, [h0], attrs)

    def reference(*inputs, **attrs):
        return _eager(_run_gru, inputs, attrs)

    def decompose(*inputs, **attrs):
        return _run_gru(*inputs, **attrs)

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(_run_gru, g, inputs, attrs)


@op(222, "x, w, r, b?, lengths?, h0? -> y, y_h", attrs=_R)
class rnn:
    "ONNX RNN: h = f(x w' + h r' + b)."

    samples = cases.rnn

    def infer(x, w, r, b=None, lengths=None, h0=None, **attrs):
        return _shapes(1, x, w, r, b, lengths, [h0], attrs)

    def reference(*inputs, **attrs):
        return _eager(_run_rnn, inputs, attrs)

    def decompose(*inputs, **attrs):
        return _run_rnn(*inputs, **attrs)

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(_run_rnn, g, inputs, attrs)
