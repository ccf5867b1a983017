"""``keras.backend.rnn``: the loop over time steps, unrolled or as one scan; LSTM and GRU as a whole where they are standard."""

from __future__ import annotations

import contextlib
from typing import Any

from keras.src import tree
from keras.src.backend.common import stateless_scope

from deploykit.autodiff import control, state
from deploykit.autodiff import numeric as N
from deploykit.graph.dims import Dim
from deploykit.keras_backend.core import convert_to_tensor, sizes, traced
from deploykit.ops.core import F

_MASKS = ("_dropout_mask", "_recurrent_dropout_mask")  # of Keras' DropoutRNNCell


def _turn(x):
    """Batch and time exchanged."""
    return N.swapaxes(x, 0, 1)


def _like(mask, x):
    """mask [batch, 1] with as many dims as x."""
    return N.reshape(mask, (mask.shape[0], *[1] * (x.ndim - 1)))


def rnn(
    step_function,
    inputs,
    initial_states,
    go_backwards=False,
    mask=None,
    constants=None,
    unroll=False,
    input_length=None,
    time_major=False,
    zero_output_for_mask=False,
    return_all_outputs=True,
):
    xs = tree.map_structure(convert_to_tensor, inputs)
    xs = xs if time_major else tree.map_structure(_turn, xs)
    steps = tree.flatten(xs)[0].shape[0]
    states = tree.map_structure(convert_to_tensor, initial_states)
    if mask is not None:
        mask = convert_to_tensor(mask, "bool")
        mask = mask if mask.ndim > 2 else N.expand_dims(mask, -1)
        mask = N.reshape(mask if time_major else _turn(mask), (steps, -1))
    extra = tuple(constants or ())
    step_function = _with_masks(step_function)
    nested = isinstance(states, (tuple, list))

    def step(now, x):
        given, here = x if mask is not None else (x, None)
        output, new = step_function(given, (*now, *extra) if nested and extra else now)
        if here is not None:
            before = now[0]
            before = now[-1][0] if tree.is_nested(before) else before
            fallback = N.zeros_like(output) if zero_output_for_mask else before
            output = F.where(_like(here, output), output, fallback)
            kept = zip(tree.flatten(now), tree.flatten(new), strict=True)
            new = [F.where(_like(here, t), t, s) for s, t in kept]
        return tree.pack_sequence_as(now, tree.flatten(new)), output

    sequence = (xs, mask) if mask is not None else xs
    scope = contextlib.nullcontext() if stateless_scope.in_stateless_scope() else stateless_scope.StatelessScope()
    with scope:
        if unroll or state.trace() is None or not traced(xs, states):
            if unroll and not steps:
                raise ValueError("Unrolling requires a fixed number of timesteps.")
            rows = []
            for i in reversed(range(steps)) if go_backwards else range(steps):
                states, y = step(states, tree.map_structure(lambda x, i=i: x[i], sequence))
                rows.append(y)
            outputs = N.stack(rows)
        elif stateless_scope.in_stateless_scope() and scope.__class__ is contextlib.nullcontext:
            # shape inference: one step tells all
            states, y = step(states, tree.map_structure(lambda x: x[0], sequence))
            outputs = N.broadcast_to(N.expand_dims(y, 0), sizes((steps, *y.shape)))
        else:
            states, outputs = control.scan(step, states, sequence, reverse=go_backwards)
            outputs = N.flip(outputs, 0) if go_backwards else outputs
    last = outputs[-1]
    if not return_all_outputs:
        outputs = outputs[-1:]
    return last, outputs if time_major else _turn(outputs), states


def _with_masks(step: Any) -> Any:
    """``step`` with the dropout masks that its cells have now.

    Keras draws a sequence's masks before the loop and drops them behind it; the way back runs the step again, later.
    """
    from keras.src.layers.layer import Layer
    from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

    cells: list[Any] = []
    todo = [c.cell_contents for c in step.__closure__ or ()]
    while todo:
        x = todo.pop()
        if isinstance(x, DropoutRNNCell):
            cells.append(x)
        elif isinstance(x, Layer):
            todo += [getattr(x, "cell", None), *getattr(x, "cells", ())]
    held = [(c, name, getattr(c, name)) for c in cells for name in _MASKS if getattr(c, name, None) is not None]
    if not held:
        return step

    def masked(*args: Any) -> Any:
        before = [getattr(c, name) for c, name, _ in held]
        for c, name, mask in held:
            setattr(c, name, mask)
        try:
            return step(*args)
        finally:
            for (c, name, _), mask in zip(held, before, strict=True):
                setattr(c, name, mask)

    return masked


def cudnn_ok(*args, **kwargs):
    return False


def lstm(inputs, initial_state_h, initial_state_c, mask, kernel, recurrent_kernel, bias, activation, recurrent_activation, return_sequences=False, go_backwards=False, unroll=False):  # fmt: skip
    """A traced sequence as a whole: one op in inference, a loop with a gradient of its own on a tape."""
    given = (inputs, initial_state_h, initial_state_c, kernel, recurrent_kernel, bias)
    x, h0, c0, w, r, b = _whole(given, mask, activation, recurrent_activation, unroll)
    from deploykit.keras.layers.rnn import _lstm_steps, as_op

    if not state.current.tapes:
        h, y, states = as_op("lstm", x, [h0, c0], (0, 3, 1, 2), w, r, b, go_backwards)  # i f c o -> i o f c
    else:
        share = N.matmul(_turn(x), w)  # x is smaller than what it adds to the gates
        share = share if b is None else share + b
        hs, h, c = _lstm_steps(N.flip(share, 0) if go_backwards else share, h0, c0, r)
        y, states = _turn(hs), [h, c]
    return h, y if return_sequences else N.expand_dims(h, 1), states


def gru(inputs, initial_state, mask, kernel, recurrent_kernel, bias, activation, recurrent_activation, return_sequences=False, go_backwards=False, unroll=False, reset_after=True):  # fmt: skip
    """As :func:`lstm`, in inference."""
    if state.current.tapes:
        raise NotImplementedError
    given = (inputs, initial_state, kernel, recurrent_kernel, bias)
    x, h0, w, r, b = _whole(given, mask, activation, recurrent_activation, unroll)
    from deploykit.keras.layers.rnn import as_op

    h, y, states = as_op("gru", x, [h0], (0, 1, 2), w, r, b, go_backwards, linear_before_reset=bool(reset_after))
    return h, y if return_sequences else N.expand_dims(h, 1), states


def _whole(given: Any, mask: Any, activation: Any, recurrent_activation: Any, unroll: bool) -> list[Any]:
    """The tensors, where a sequence can go as a whole; else NotImplementedError: Keras then runs the cell through rnn()."""
    from keras.src.activations import sigmoid, tanh

    standard = activation is tanh and recurrent_activation is sigmoid
    if mask is not None or unroll or not standard or len(state.current.tapes) > 1:
        raise NotImplementedError
    xs: list[Any] = [None if x is None else convert_to_tensor(x) for x in given]
    plain = all(x is None or x.dtype.name == "float32" for x in xs)
    if not plain or state.trace() is None or not traced(xs[0]) or isinstance(xs[0].shape[1], Dim):
        raise NotImplementedError
    return xs


def bidirectional_lstm(*args, **kwargs):
    raise NotImplementedError  # Keras then runs two layers


bidirectional_gru = bidirectional_lstm
