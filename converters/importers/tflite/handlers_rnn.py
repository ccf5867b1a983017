"""Recurrent operators: whole sequences through our lstm and rnn, state kept in variables between runs.

State tensors of these operators are variables of the file: they start at zero and keep their values from run to run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, Handle, handles
from deploykit.converters.ir.tflite_schema import ACTIVATIONS
from deploykit.errors import FormatError
from deploykit.graph import Value


def state(c: Call, i: int) -> tuple[Handle, Value]:
    """Handle and present value of a state input."""
    h = c.item(i)
    if not isinstance(h, Handle):
        raise FormatError(f"input {i} is no variable tensor, as a state must be")
    v = c.op("read_variable", variable=h.name)
    q = c.quant(i)
    return h, v if q is None else c.dequantized(v, q)


def keep(c: Call, i: int, h: Handle, v: Value) -> None:
    """Store a new state."""
    q = c.quant(i)
    if q is not None:
        from deploykit.converters.importers.tflite.call import quantized

        v = quantized(c, v, q, c.importer.source.dtype(c.tensor(i)).name)
    c.op("assign_variable", v, variable=h.name)


def weights(c: Call, which: list[int]) -> Value:
    """Matrices (or vectors) of several gates stacked, as one direction [1, gates * H, ...]."""
    parts = [c.x(i) for i in which]
    y = parts[0] if len(parts) == 1 else c.op("concat", *parts, axis=0)
    return c.op("unsqueeze", y, c.i64(0))


def recurrent_steps(c: Call, time_major: bool) -> Value:
    """The input as [steps, batch, features]."""
    x = c.x(0)
    return x if time_major or c.rank(x) == 2 else c.op("transpose", x, perm=(1, 0, 2))


def lstm_direction(
    c: Call, x: Value, base: int, peep: int, bias: int, states: tuple[int, int], o: Any, back: bool
) -> Value:
    """One direction over [steps, batch, in]: weights from input ``base``; returns [steps, batch, hidden].

    Gates of the file: input, forget, cell, output; ours: input, output, forget, cell.  Without input gate it is 1 - f:
    a gate with the forget gate's weights negated.
    """
    coupled = c.item(base) is None
    proj, proj_bias = bias + 4, bias + 5
    if c.item(proj) is not None or c.item(proj_bias) is not None:
        raise c.unsupported("an LSTM with projection")
    if o.proj_clip or o.fused_activation_function != ACTIVATIONS.index("TANH"):
        raise c.unsupported("an LSTM with another activation than tanh, or clipped projection")

    def gates(first: int, axis_bias: bool = False) -> Value:
        i, f, g, out = (c.opt(first + k) for k in range(4))
        if f is None or g is None or out is None:
            raise FormatError("weights of a gate are missing")
        if i is None:
            i = c.op("neg", f)
        return c.op("unsqueeze", c.op("concat", i, out, f, g, axis=0), c.i64(0))

    w, r = gates(base), gates(base + 4)
    hidden = int(c.shape(r)[-1])
    b = c.op("concat", gates(bias), c.const(np.zeros((1, 4 * hidden), np.float32)), axis=1)
    peepholes = None
    if any(c.item(peep + k) is not None for k in range(3)):
        pi, pf, po = (c.opt(peep + k) for k in range(3))
        if pf is None or po is None or pi is None and not coupled:
            raise FormatError("peephole weights of a gate are missing")
        if coupled:
            pi = c.op("neg", pf)
        peepholes = c.op("unsqueeze", c.op("concat", pi, po, pf, axis=0), c.i64(0))
    (hh, h0), (ch, c0) = state(c, states[0]), state(c, states[1])
    if o.cell_clip:
        raise c.unsupported("an LSTM whose cell is clipped")
    y, y_h, y_c = c.op(
        "lstm",
        x,
        w,
        r,
        b,
        None,
        c.op("unsqueeze", h0, c.i64(0)),
        c.op("unsqueeze", c0, c.i64(0)),
        peepholes,
        outputs=3,
        direction="reverse" if back else "forward",
    )
    keep(c, states[0], hh, c.op("squeeze", y_h, c.i64(0)))
    keep(c, states[1], ch, c.op("squeeze", y_c, c.i64(0)))
    return c.op("squeeze", y, c.i64(1))


def batch_first(c: Call, y: Value, time_major: bool) -> Value:
    """[steps, batch, ...] in the order of the file."""
    return y if time_major else c.op("transpose", y, perm=(1, 0, 2))


@handles("UNIDIRECTIONAL_SEQUENCE_LSTM")
def sequence_lstm(c: Call) -> Value:
    o = c.options("UnidirectionalSequenceLSTMOptions")
    if any(c.item(i) is not None for i in range(20, 24)):
        raise c.unsupported("an LSTM with layer norm inside")
    if o.diagonal_recurrent_tensors:
        raise c.unsupported("diagonal recurrent weights")
    y = lstm_direction(c, recurrent_steps(c, o.time_major), 1, 9, 12, (18, 19), o, False)
    return batch_first(c, y, o.time_major)


@handles("BIDIRECTIONAL_SEQUENCE_LSTM")
def bidirectional_lstm(c: Call) -> list[Value]:
    o = c.options("BidirectionalSequenceLSTMOptions")
    if any(c.item(i) is not None for i in range(39, 48)):
        raise c.unsupported("an auxiliary input")
    x = recurrent_steps(c, o.time_major)
    forward = batch_first(c, lstm_direction(c, x, 1, 9, 12, (35, 36), o, False), o.time_major)
    backward = batch_first(c, lstm_direction(c, x, 18, 26, 29, (37, 38), o, True), o.time_major)
    return [c.op("concat", forward, backward, axis=-1)] if o.merge_outputs else [forward, backward]


@handles("LSTM")
def lstm(c: Call) -> list[Value]:
    """One step: the basic form has one matrix for all gates (input, cell, forget, output) and plain state tensors."""
    o = c.options("LSTMOptions")
    if o.kernel_type == 0:
        x = c.op("unsqueeze", c.x(0), c.i64(0))
        y = c.op("squeeze", lstm_direction(c, x, 1, 9, 12, (18, 19), o, False), c.i64(0))
        return [y] if len(c.outputs) == 1 else [y] * len(c.outputs)
    x, h, w, b, cell = (c.x(i) for i in range(5))
    joined = c.op("concat", x, h, axis=-1)
    gates = c.op("matmul", joined, w, b, transpose_b=True)
    i, g, f, out = c.op("split", gates, outputs=4, axis=-1)
    kept = c.op("mul", c.op("sigmoid", f), cell)
    new = c.op("add", c.op("mul", c.op("sigmoid", i), c.op("tanh", g)), kept)
    y = c.op("mul", c.op("sigmoid", out), c.op("tanh", new))
    return [y, new, joined, gates][: len(c.outputs)]


# ---- plain recurrent layers
def rnn_direction(c: Call, x: Value, base: int, o: Any, back: bool) -> Value:
    """One direction of a plain layer over [steps, batch, in]; its inputs from ``base``: w, r, bias, state."""
    code = o.fused_activation_function
    kind = ACTIVATIONS[code] if 0 <= code < len(ACTIVATIONS) else f"code {code}"
    act = {"NONE": "Affine", "RELU": "Relu", "TANH": "Tanh"}.get(kind)
    if act is None:
        raise c.unsupported(f"a recurrent layer with activation {kind}")
    w, r = weights(c, [base]), weights(c, [base + 1])
    hidden = int(c.shape(r)[-1])
    b = c.op("concat", weights(c, [base + 2]), c.const(np.zeros((1, hidden), np.float32)), axis=1)
    h, h0 = state(c, base + 3)
    extra: dict[str, Any] = dict(activation_alpha=(1.0,), activation_beta=(0.0,)) if act == "Affine" else {}
    y, y_h = c.op(
        "rnn",
        x,
        w,
        r,
        b,
        None,
        c.op("unsqueeze", h0, c.i64(0)),
        outputs=2,
        activations=act,
        direction="reverse" if back else "forward",
        **extra,
    )
    keep(c, base + 3, h, c.op("squeeze", y_h, c.i64(0)))
    return c.op("squeeze", y, c.i64(1))


@handles("RNN")
def rnn(c: Call) -> Value:
    x = c.op("unsqueeze", c.x(0), c.i64(0))
    return c.op("squeeze", rnn_direction(c, x, 1, c.options("RNNOptions"), False), c.i64(0))


@handles("UNIDIRECTIONAL_SEQUENCE_RNN")
def sequence_rnn(c: Call) -> Value:
    o = c.options("SequenceRNNOptions")
    return batch_first(c, rnn_direction(c, recurrent_steps(c, o.time_major), 1, o, False), o.time_major)


@handles("BIDIRECTIONAL_SEQUENCE_RNN")
def bidirectional_rnn(c: Call) -> list[Value]:
    o = c.options("BidirectionalSequenceRNNOptions")
    if any(c.item(i) is not None for i in range(9, 12)):
        raise c.unsupported("an auxiliary input")
    x = recurrent_steps(c, o.time_major)
    forward = batch_first(c, rnn_direction(c, x, 1, o, False), o.time_major)
    backward = batch_first(c, rnn_direction(c, x, 5, o, True), o.time_major)
    return [c.op("concat", forward, backward, axis=-1)] if o.merge_outputs else [forward, backward]


@handles("SVDF")
def svdf(c: Call) -> Value:
    """A dense layer whose filters have a memory of their last results (Nakkiran et al. 2015)."""
    o = c.options("SVDFOptions")
    x, w, times = c.x(0), c.x(1), c.x(2)
    filters, memory = c.shape(times)
    h, old = state(c, 4)  # [batch, filters * memory]
    new = c.op("matmul", x, w, transpose_b=True)  # [batch, filters]
    cells = c.op("reshape", old, c.i64(-1, filters, memory))
    cells = c.op("slice", cells, c.i64(1), c.i64(2**31 - 1), c.i64(2))
    cells = c.op("concat", cells, c.op("unsqueeze", new, c.i64(-1)), axis=2)
    keep(c, 4, h, c.op("reshape", cells, c.dims(old)))
    y = c.op("reduce_sum", c.op("mul", cells, times), c.i64(2), keepdims=False)
    if o.rank > 1:
        y = c.op("reduce_sum", c.op("reshape", y, c.i64(-1, filters // o.rank, o.rank)), c.i64(2), keepdims=False)
    b = c.opt(3)
    y = y if b is None else c.op("add", y, b)
    return c.act(y, o.fused_activation_function)
