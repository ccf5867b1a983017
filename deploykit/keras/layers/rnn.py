"""Recurrent layers: cells, ``RNN`` around any cell, LSTM, GRU, SimpleRNN, bidirectional, time-distributed, ConvLSTM.

While training, steps run through ``dk.scan`` (one loop node); in inference the standard LSTM, GRU and SimpleRNN become
one op of the engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff import random, state, tree
from deploykit.autodiff.control import scan
from deploykit.autodiff.tape import custom_gradient
from deploykit.errors import InputError
from deploykit.keras import activations, constraints, initializers, regularizers
from deploykit.keras.layers.base import InputSpec, Layer
from deploykit.keras.layers.conv import _tuple
from deploykit.keras.layers.core import Wrapper, _channels_last
from deploykit.keras.serialize import deserialize, serialize
from deploykit.ops.core import F


class _Cell(Layer):
    """A cell: ``call(inputs, states, training)`` gives (output, new states)."""

    gates = 1
    states = 1

    def _setup(self, units: int, activation: Any, recurrent_activation: Any, use_bias: bool, init: tuple[Any, ...], regularizer: tuple[Any, ...], constraint: tuple[Any, ...], dropout: float, recurrent_dropout: float, seed: Any) -> None:  # fmt: skip
        if units <= 0:
            raise InputError(f"{type(self).__name__}: got units={units}, expected more than 0.")
        self.units, self.use_bias = units, use_bias
        self.activation, self.recurrent_activation = activations.get(activation), activations.get(recurrent_activation)
        self._init = [initializers.get(i) for i in init]
        self._reg = [regularizers.get(r) for r in regularizer]
        self._con = [constraints.get(c) for c in constraint]
        self.dropout, self.recurrent_dropout = min(1.0, max(0.0, dropout)), min(1.0, max(0.0, recurrent_dropout))
        self.seed = seed
        self._generator = random.Generator(seed) if seed is not None else None
        self.state_size: Any = units if self.states == 1 else [units] * self.states
        self.output_size = units

    def build(self, input_shape: Any) -> None:
        n = self.units * self.gates
        i, r, c = self._init, self._reg, self._con
        self.kernel = self.add_weight((input_shape[-1], n), i[0], name="kernel", regularizer=r[0], constraint=c[0])
        self.recurrent_kernel = self.add_weight((self.units, n), i[1], name="recurrent_kernel", regularizer=r[1], constraint=c[1])  # fmt: skip
        self.bias = self.add_weight(self._bias_shape(n), self._bias_init(i[2]), name="bias", regularizer=r[2], constraint=c[2]) if self.use_bias else None  # fmt: skip
        self.built = True

    def _bias_shape(self, n: int) -> tuple[int, ...]:
        return (n,)

    def _bias_init(self, init: Any) -> Any:
        return init

    def masks(self, x: Any, training: bool) -> tuple[Any, Any]:
        """Dropout masks of inputs and of the state, one for all steps."""
        g = self._generator or random.default_generator()

        def mask(rate: float, size: Any) -> Any:
            if not training or rate == 0:
                return None
            return random.dropout(N.ones((N.shape(x)[0], size)), rate, seed=g)

        return mask(self.dropout, x.shape[-1]), mask(self.recurrent_dropout, self.units)

    def project(self, x: Any) -> Any:
        """What the inputs add to the gates; taken out of the loop over time."""
        return N.matmul(x, self.kernel)

    def step(self, share: Any, states: list[Any], drop: Any) -> tuple[Any, list[Any]]:
        """One step of projected inputs."""
        raise NotImplementedError

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        drop_x, drop_h = self.masks(inputs, training)
        out, new = self.step(self.project(inputs if drop_x is None else inputs * drop_x), states, drop_h)
        return out, new if self.states > 1 else new

    def get_initial_state(self, batch_size: Any = None, batch: Any = None) -> list[Any]:
        """Zeros."""
        return [N.zeros((batch_size, self.units), self.dtype) for _ in range(self.states)]


_CELL = "units: int, activation: Any"


class SimpleRNNCell(_Cell):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""

    def __init__(self, units: int, activation: Any = "tanh", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self._setup(units, activation, None, use_bias, (kernel_initializer, recurrent_initializer, bias_initializer), (kernel_regularizer, recurrent_regularizer, bias_regularizer), (kernel_constraint, recurrent_constraint, bias_constraint), dropout, recurrent_dropout, seed)  # fmt: skip

    def step(self, share: Any, states: list[Any], drop: Any) -> tuple[Any, list[Any]]:
        h = states[0] if drop is None else states[0] * drop
        z = share + N.matmul(h, self.recurrent_kernel)
        y = self.activation(z if self.bias is None else z + self.bias)
        return y, [y]


class LSTMCell(_Cell):
    """Hochreiter and Schmidhuber (1997); gates in the order i, f, c, o."""

    gates, states = 4, 2

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", unit_forget_bias: bool = True, kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**{k: v for k, v in kwargs.items() if k != "implementation"})
        self.unit_forget_bias = unit_forget_bias
        self._setup(units, activation, recurrent_activation, use_bias, (kernel_initializer, recurrent_initializer, bias_initializer), (kernel_regularizer, recurrent_regularizer, bias_regularizer), (kernel_constraint, recurrent_constraint, bias_constraint), dropout, recurrent_dropout, seed)  # fmt: skip

    def _bias_init(self, init: Any) -> Any:
        if not self.unit_forget_bias:
            return init
        u = self.units
        return lambda shape, dtype=None: np.concatenate([init((u,)), np.ones(u, np.float32), init((2 * u,))])

    def step(self, share: Any, states: list[Any], drop: Any) -> tuple[Any, list[Any]]:
        h, c = states
        z = share + N.matmul(h if drop is None else h * drop, self.recurrent_kernel)
        z = z if self.bias is None else z + self.bias
        i, f, g, o = N.split(z, 4, -1)
        r = self.recurrent_activation
        c = r(f) * c + r(i) * self.activation(g)
        h = r(o) * self.activation(c)
        return h, [h, c]


class GRUCell(_Cell):
    """Cho et al. (2014); gates in the order z, r, h."""

    gates = 3

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, reset_after: bool = True, seed: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**{k: v for k, v in kwargs.items() if k != "implementation"})
        self.reset_after = reset_after
        self._setup(units, activation, recurrent_activation, use_bias, (kernel_initializer, recurrent_initializer, bias_initializer), (kernel_regularizer, recurrent_regularizer, bias_regularizer), (kernel_constraint, recurrent_constraint, bias_constraint), dropout, recurrent_dropout, seed)  # fmt: skip

    def _bias_shape(self, n: int) -> tuple[int, ...]:
        return (2, n) if self.reset_after else (n,)

    def step(self, share: Any, states: list[Any], drop: Any) -> tuple[Any, list[Any]]:
        h = states[0]
        inner = h if drop is None else h * drop
        b_in = b_rec = None
        if self.bias is not None:
            b_in, b_rec = (self.bias[0], self.bias[1]) if self.reset_after else (self.bias.value, None)  # type: ignore[index]
        share = share if b_in is None else share + b_in
        xz, xr, xh = N.split(share, 3, -1)
        u = self.units
        r_act = self.recurrent_activation
        if self.reset_after:
            z = N.matmul(inner, self.recurrent_kernel)
            z = z if b_rec is None else z + b_rec
            rz, rr, rh = N.split(z, 3, -1)
            z, r = r_act(xz + rz), r_act(xr + rr)
            new = self.activation(xh + r * rh)
        else:
            k = self.recurrent_kernel
            zr = N.matmul(inner, k[:, : 2 * u])  # type: ignore[index]
            z, r = r_act(xz + zr[:, :u]), r_act(xr + zr[:, u:])
            new = self.activation(xh + N.matmul(r * inner, k[:, 2 * u :]))  # type: ignore[index]
        h = z * h + (1.0 - z) * new
        return h, [h]


class StackedRNNCells(Layer):
    """Cells on top of each other as one cell."""

    def __init__(self, cells: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cells = list(cells)
        self.state_size = [c.state_size for c in self.cells]
        self.output_size = self.cells[-1].output_size

    def build(self, input_shape: Any) -> None:
        for c in self.cells:
            if not c.built:
                c.build(input_shape)
                c.built = True
            input_shape = (*input_shape[:-1], c.output_size)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [s for c in self.cells for s in tree.flatten(c.get_initial_state(batch_size=batch_size))[0]]

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        flat, new = list(tree.flatten(states)[0]), []
        for c in self.cells:
            n = len(tree.flatten(c.state_size)[0])
            own, flat = flat[:n], flat[n:]
            inputs, got = c(inputs, own, **({"training": training} if c._takes_training else {}))
            new += tree.flatten(got)[0]
        return inputs, new


class RNN(Layer):
    """Runs a cell over the steps of [batch, time, features]."""

    supports_masking = True

    def __init__(self, cell: Any, return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, stateful: bool = False, unroll: bool = False, zero_output_for_mask: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.cell: Any = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        self._flags(return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask)

    def _flags(self, sequences: bool, states: bool, backwards: bool, stateful: bool, unroll: bool, zero: bool) -> None:
        self.return_sequences, self.return_state, self.go_backwards = sequences, states, backwards
        self.stateful, self.unroll, self.zero_output_for_mask = stateful, unroll, zero
        self._kept: list[Any] | None = None
        self.input_spec = InputSpec(min_ndim=3)

    def build(self, input_shape: Any) -> None:
        shape = input_shape[0] if input_shape and isinstance(input_shape[0], (list, tuple)) else input_shape
        if not self.cell.built:
            self.cell.build((shape[0], *shape[2:]))
            self.cell.built = True
        if self.stateful:
            if shape[0] is None:
                raise InputError(
                    f"layer '{self.name}': stateful=True needs a fixed batch size: keras.Input(batch_shape=...)."
                )
            self._kept = [
                self.add_weight(s.shape, "zeros", trainable=False, name="rnn_state") for s in self._zeros(shape[0])
            ]

    def _zeros(self, batch: Any) -> list[Any]:
        return list(tree.flatten(self.cell.get_initial_state(batch_size=batch))[0])

    def reset_state(self) -> None:
        """Zero the kept state of a stateful layer."""
        for v in self._kept or []:
            v.assign(np.zeros(v.shape, v.dtype))

    reset_states = reset_state

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        if initial_state is not None:
            states = list(tree.flatten(initial_state)[0])
        elif self._kept is not None:
            states = [v.value for v in self._kept]
        else:
            states = self._zeros(N.shape(sequences)[0])
        last, outputs, states = self.run(sequences, states, mask, training)
        if self._kept is not None:
            for v, s in zip(self._kept, states, strict=True):
                v.assign(s)
        out = outputs if self.return_sequences else last
        return (out, *states) if self.return_state else out

    def run(self, x: Any, states: list[Any], mask: Any, training: bool) -> tuple[Any, Any, list[Any]]:
        """(last output, outputs of all steps, last states)."""
        cell = self.cell
        if isinstance(cell, _Cell) and type(cell).call is _Cell.call:
            drop_x, drop_h = cell.masks(x[:, 0], training)
            share = cell.project(x if drop_x is None else x * N.expand_dims(drop_x, 1))
            step = lambda s, st: cell.step(s, st, drop_h)  # noqa: E731
        else:
            share = x
            extra = {"training": training} if getattr(cell, "_takes_training", False) else {}

            def step(s: Any, st: Any) -> Any:
                y, new = cell(s, st if len(st) > 1 or isinstance(cell, _Cell) else st, **extra)
                return y, list(tree.flatten(new)[0])

        xs = N.swapaxes(share, 0, 1)
        if mask is None:

            def f(carry: Any, s: Any) -> Any:
                y, new = step(s, carry[1])
                return [y, new], y if self.return_sequences else None

            first = self._output_like(step, xs, states)
            (last, states), ys = scan(f, [first, states], xs, reverse=self.go_backwards)
        else:
            ms = N.expand_dims(N.swapaxes(mask, 0, 1), -1)

            def g(carry: Any, sm: Any) -> Any:
                s, m = sm
                y, new = step(s, carry[1])
                before = N.zeros_like(y) if self.zero_output_for_mask else carry[0]
                new = [N.where(m, a, b) for a, b in zip(new, carry[1], strict=True)]
                kept = N.where(m, y, before)
                last = N.where(m, y, carry[0])
                return [last, new], kept if self.return_sequences else None

            first = self._output_like(step, xs, states)
            (last, states), ys = scan(g, [first, states], [xs, ms], reverse=self.go_backwards)
        outputs = None
        if self.return_sequences:
            outputs = N.swapaxes(ys, 0, 1)
            if self.go_backwards:
                outputs = N.flip(outputs, 1)
        return last, outputs, list(states)

    def _output_like(self, step: Any, xs: Any, states: list[Any]) -> Any:
        """Zeros like the output of a step."""
        if isinstance(self.cell, _Cell):
            return N.zeros_like(states[0])
        return N.zeros_like(step(xs[0], states)[0])

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        m = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        return m if self.return_sequences else None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if "cell" in config:
            config["cell"] = serialize(self.cell)
        return config


class _Standard(RNN):
    """A layer of one standard cell; its arguments are the cell's."""

    cell_class: type[_Cell]
    _LAYER = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")

    def _make(self, arguments: dict[str, Any], flags: dict[str, Any], base: dict[str, Any]) -> None:
        regularizer = arguments.pop("activity_regularizer", None)
        Layer.__init__(self, activity_regularizer=regularizer, **base)
        self.cell = self.cell_class(**arguments, name=f"{self.name.split('/')[-1]}_cell" if False else self.cell_name)
        self._flags(*(flags.get(k, False) for k in self._LAYER))

    @property
    def cell_name(self) -> str:
        return {"LSTM": "lstm_cell", "GRU": "gru_cell", "SimpleRNN": "simple_rnn_cell"}[type(self).__name__]

    @property
    def units(self) -> int:
        """Number of units."""
        return self.cell.units

    def fused(self, x: Any, states: list[Any]) -> Any:
        """One op for the whole sequence, or None where the cell is not standard."""
        return None

    def run(self, x: Any, states: list[Any], mask: Any, training: bool) -> Any:
        trace = state.trace()
        watched = bool(state.current.tapes)
        got = None
        if mask is None and not watched and not training and trace is not None:
            got = self.fused(x, states)
        elif mask is None and len(state.current.tapes) == 1 and trace is not None:
            got = self.trained(x, states, training)
        return super().run(x, states, mask, training) if got is None else got

    def trained(self, x: Any, states: list[Any], training: bool) -> Any:
        """The whole sequence with a gradient of its own, or None where there is none."""
        return None

    def _op(self, name: str, x: Any, states: list[Any], order: tuple[int, ...], **attrs: Any) -> Any:
        c, turn = self.cell, self.go_backwards
        h, y, states = as_op(name, x, states, order, c.kernel, c.recurrent_kernel, c.bias, turn, **attrs)
        return h, y if self.return_sequences else None, states


def as_op(name: str, x: Any, states: list[Any], order: tuple[int, ...], w: Any, r: Any, b: Any, turn: bool, **attrs: Any) -> Any:  # fmt: skip
    """(last output, outputs [batch, time, units], states) of a whole sequence by one op, whose gates have this order."""
    u = r.shape[0]

    def sort(m: Any) -> Any:
        m = N.transpose(m)
        return N.expand_dims(N.concatenate([m[g * u : (g + 1) * u] for g in order], 0) if len(order) > 1 else m, 0)

    if b is not None:
        both = [b[0], b[1]] if b.ndim == 2 else [b, N.zeros(b.shape, b.dtype)]
        b = N.expand_dims(N.concatenate([p[g * u : (g + 1) * u] for p in both for g in order], 0), 0)
    init = [N.expand_dims(s, 0) for s in states]
    direction = "reverse" if turn else "forward"
    y, *last = getattr(F, name)(N.swapaxes(x, 0, 1), sort(w), sort(r), b, None, *init, direction=direction, **attrs)
    y = N.swapaxes(N.squeeze(y, 1), 0, 1)
    states = [N.squeeze(s, 0) for s in last]
    return states[0], N.flip(y, 1) if turn else y, states


def _standard(name: str, cell: type[_Cell], doc: str, fused: Any) -> type[_Standard]:
    """A layer class with the arguments of a cell and those of RNN."""
    import inspect

    own = [p for p in inspect.signature(cell.__init__).parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False) for k in _Standard._LAYER]
    more = [inspect.Parameter("activity_regularizer", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)]
    signature = inspect.Signature([*own, *more, *flags, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])
    names = [p.name for p in (*own[1:], *more)]

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(
            self, *args, **{k: v for k, v in kwargs.items() if k not in ("use_cudnn", "implementation", "time_major")}
        )
        bound.apply_defaults()
        a = dict(bound.arguments)
        base = a.pop("kwargs", {})
        self._make({k: a[k] for k in names}, {k: a[k] for k in _Standard._LAYER}, base)

    init.__signature__ = signature  # type: ignore[attr-defined]
    body = {"__init__": init, "fused": fused, "cell_class": cell, "__doc__": doc, "__module__": __name__}
    return type(name, (_Standard,), body)


def _is(f: Any, name: str) -> bool:
    return getattr(f, "__name__", "") == name


def _fused_lstm(self: Any, x: Any, states: list[Any]) -> Any:
    c = self.cell
    if not (_is(c.activation, "tanh") and _is(c.recurrent_activation, "sigmoid")):
        return None
    return self._op("lstm", x, states, (0, 3, 1, 2))  # i f c o -> i o f c


def _fused_gru(self: Any, x: Any, states: list[Any]) -> Any:
    c = self.cell
    if not (_is(c.activation, "tanh") and _is(c.recurrent_activation, "sigmoid")):
        return None
    return self._op("gru", x, states, (0, 1, 2), linear_before_reset=c.reset_after)


def _fused_rnn(self: Any, x: Any, states: list[Any]) -> Any:
    if not _is(self.cell.activation, "tanh"):
        return None
    return self._op("rnn", x, states, (0,))


@custom_gradient
def _lstm_steps(xs: Any, h0: Any, c0: Any, kernel: Any) -> Any:
    """All steps of projected inputs xs [time, batch, 4 units]: (outputs of all, last h, last c).

    The gradient walks back with one product per step, on what the processor's nearest cache holds, and the kernel's
    gradient is one product.  It is no function of the inputs for a second tape: the caller sees to it that there is none.
    """

    def step(carry: Any, share: Any) -> Any:
        h, c = carry
        i, f, g, o = N.split(share + N.matmul(h, kernel), 4, -1)
        i, f, g, o = F.sigmoid(i), F.sigmoid(f), F.tanh(g), F.sigmoid(o)
        c = f * c + i * g
        t = F.tanh(c)
        h = o * t
        return [h, c], [h, c, t, i, f, g, o]

    (h, c), (hs, cs, ts, i, f, g, o) = scan(step, [h0, c0], xs)

    def backward(g_hs: Any, g_h: Any, g_c: Any) -> Any:
        before_h, before_c = (N.concatenate([N.expand_dims(a, 0), b[:-1]], 0) for a, b in ((h0, hs), (c0, cs)))
        turned = N.transpose(kernel)

        def step(carry: Any, x: Any) -> Any:
            dh, dc = carry
            own, before, t, i, f, g, o = x
            dh = dh + own
            dc = dc + dh * (o * (1.0 - t * t))
            of = (
                dc * (g * i * (1.0 - i)),
                dc * (before * f * (1.0 - f)),
                dc * (i * (1.0 - g * g)),
                dh * (t * o * (1.0 - o)),
            )
            dz = N.concatenate(of, -1)
            return [N.matmul(dz, turned), dc * f], dz

        (dh, dc), dz = scan(step, [g_h, g_c], [g_hs, before_c, ts, i, f, g, o], reverse=True)
        rows = [N.reshape(t, (-1, t.shape[-1])) for t in (before_h, dz)]
        return dz, dh, dc, F.matmul(*rows, transpose_a=True)

    return (hs, h, c), backward


def _trained_lstm(self: Any, x: Any, states: list[Any], training: bool) -> Any:
    cell = self.cell
    standard = _is(cell.activation, "tanh") and _is(cell.recurrent_activation, "sigmoid")
    if not standard or (training and cell.recurrent_dropout):
        return None
    drop, _ = cell.masks(x[:, 0], training)
    share = cell.project(N.swapaxes(x if drop is None else x * N.expand_dims(drop, 1), 0, 1))  # x is the smaller one
    share = share if cell.bias is None else share + cell.bias
    hs, h, c = _lstm_steps(N.flip(share, 0) if self.go_backwards else share, *states, cell.recurrent_kernel)
    return h, N.swapaxes(hs, 0, 1) if self.return_sequences else None, [h, c]


LSTM = _standard("LSTM", LSTMCell, "Long short-term memory over a sequence.", _fused_lstm)
LSTM.trained = _trained_lstm  # type: ignore[method-assign]
GRU = _standard("GRU", GRUCell, "Gated recurrent units over a sequence.", _fused_gru)
SimpleRNN = _standard("SimpleRNN", SimpleRNNCell, "The simplest recurrent layer.", _fused_rnn)


class TimeDistributed(Wrapper):
    """A layer applied to each step."""

    supports_masking = True

    def build(self, input_shape: Any = None) -> None:
        super().build((input_shape[0], *input_shape[2:]))

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        batch, time = N.shape(inputs)[:2]
        flat = N.reshape(inputs, (-1, *inputs.shape[2:]))
        y = self.layer(flat, **({"training": training} if self.layer._takes_training else {}))
        return (
            N.reshape(y, (batch, time, *y.shape[1:]))
            if isinstance(time, int)
            else N.reshape(y, (-1, time, *y.shape[1:]))
        )


class Bidirectional(Layer):
    """A recurrent layer forwards and backwards, merged."""

    supports_masking = True

    def __init__(self, layer: Any, merge_mode: str | None = "concat", weights: Any = None, backward_layer: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if merge_mode not in ("sum", "mul", "ave", "concat", None):
            raise InputError(f"Bidirectional: got merge_mode={merge_mode!r}, expected sum, mul, ave, concat or None.")
        for x in (layer, layer if backward_layer is None else backward_layer):
            if not isinstance(x, Layer) or not hasattr(x, "go_backwards"):
                raise InputError(f"Bidirectional: got {str(x)[:60]}, expected a recurrent layer.")
        config = serialize(layer)
        self.forward_layer = deserialize(config)
        if backward_layer is None:
            config["config"]["go_backwards"] = not layer.go_backwards
            backward_layer = deserialize(config)
        self.backward_layer = backward_layer
        self.forward_layer.name, self.backward_layer.name = f"forward_{layer.name}", f"backward_{layer.name}"
        self.merge_mode = merge_mode
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        half = None if initial_state is None else len(initial_state) // 2
        outs = []
        for k, layer in enumerate((self.forward_layer, self.backward_layer)):
            s = {} if half is None else {"initial_state": initial_state[k * half : (k + 1) * half]}
            outs.append(layer(sequences, mask=mask, training=training, **s))
        states: list[Any] = []
        if self.return_state:
            states = [*outs[0][1:], *outs[1][1:]]
            outs = [o[0] for o in outs]
        a, b = outs
        if self.return_sequences:
            b = N.flip(b, 1)
        y = {
            "concat": lambda: N.concatenate([a, b], -1), "sum": lambda: a + b, "mul": lambda: a * b,
            "ave": lambda: (a + b) / 2.0, None: lambda: (a, b),
        }[self.merge_mode]()  # fmt: skip
        if not self.return_state:
            return y
        return (*y, *states) if self.merge_mode is None else (y, *states)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return previous_mask if self.return_sequences else None


class _ConvLSTMCell(Layer):
    """An LSTM cell whose products are convolutions (Shi et al., 2015)."""

    def __init__(self, rank: int, filters: int, kernel_size: Any, strides: Any, padding: str, dilation_rate: Any, activation: Any, recurrent_activation: Any, use_bias: bool, init: Any, unit_forget_bias: bool, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.rank, self.filters = rank, filters
        self.kernel_size, self.strides = _tuple(kernel_size, rank, "kernel_size"), _tuple(strides, rank, "strides")
        self.padding, self.dilation_rate = padding, _tuple(dilation_rate, rank, "dilation_rate")
        self.activation, self.recurrent_activation = activations.get(activation), activations.get(recurrent_activation)
        self.use_bias, self.unit_forget_bias = use_bias, unit_forget_bias
        self._init = [initializers.get(i) for i in init]
        self.state_size = [filters, filters]

    def build(self, input_shape: Any) -> None:
        f = self.filters
        self.kernel = self.add_weight((*self.kernel_size, input_shape[-1], 4 * f), self._init[0], name="kernel")
        self.recurrent_kernel = self.add_weight((*self.kernel_size, f, 4 * f), self._init[1], name="recurrent_kernel")
        self.bias = None
        if self.use_bias:
            init = self._init[2]
            start = (lambda shape, dtype=None: np.concatenate([init((f,)), np.ones(f, np.float32), init((2 * f,))])) if self.unit_forget_bias else init  # fmt: skip
            self.bias = self.add_weight((4 * f,), start, name="bias")

    def project(self, x: Any) -> Any:
        n = self.rank
        mode = "same_upper" if self.padding == "same" else "explicit"
        return F.conv(x, N.transpose(self.kernel, (n + 1, *range(n), n)), self.bias, strides=self.strides, dilations=self.dilation_rate, pad_mode=mode)  # fmt: skip

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        n = self.rank
        h, c = states
        z = self.project(inputs) + F.conv(
            h, N.transpose(self.recurrent_kernel, (n + 1, *range(n), n)), pad_mode="same_upper"
        )
        i, f, g, o = N.split(z, 4, -1)
        r = self.recurrent_activation
        c = r(f) * c + r(i) * self.activation(g)
        h = r(o) * self.activation(c)
        return h, [h, c]


def _conv_lstm(n: int) -> type[RNN]:
    def init(self: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", unit_forget_bias: bool = True, return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, stateful: bool = False, **kwargs: Any) -> None:  # fmt: skip
        Layer.__init__(self, **kwargs)
        _channels_last(self, data_format)
        self.cell = _ConvLSTMCell(n, filters, kernel_size, strides, padding, dilation_rate, activation, recurrent_activation, use_bias, (kernel_initializer, recurrent_initializer, bias_initializer), unit_forget_bias)  # fmt: skip
        self._flags(return_sequences, return_state, go_backwards, stateful, False, False)
        self.input_spec = InputSpec(ndim=n + 3)

    def call(self: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        if initial_state is None:
            zeros = self.cell.project(N.zeros_like(sequences[:, 0]))[..., : self.cell.filters] * 0.0
            initial_state = [zeros, zeros]
        return RNN.call(self, sequences, initial_state, mask, training)

    return type(f"ConvLSTM{n}D", (RNN,), {"__init__": init, "call": call, "__doc__": "LSTM of convolutions.", "__module__": __name__})  # fmt: skip


ConvLSTM1D, ConvLSTM2D, ConvLSTM3D = map(_conv_lstm, (1, 2, 3))
