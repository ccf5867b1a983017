"""com.microsoft::DynamicQuantizeLSTM as our dynamic_lstm: the input of all steps is quantized as one tensor, the hidden
state anew in each step, products are exact integers, gates are float, as in onnxruntime."""

from __future__ import annotations

import numpy as np

from deploykit.converters.importers.onnx.call import Call
from deploykit.graph import Value

NAMES = ("sigmoid", "tanh", "tanh")


def expressible(c: Call) -> bool:
    """Whether this node uses only what :func:`dynamic_lstm` covers: constant symmetric weights, default activations, no
    lengths, peepholes, clipping or coupled gates."""
    acts = [a.lower() for a in c.attr("activations", ())]
    plain = all(a == NAMES[i % 3] for i, a in enumerate(acts))
    options = c.attr("clip", 0.0) == 0 and not c.attr("input_forget", 0) and not c.attr("layout", 0)
    fixed = all(c.known(c.opt(i)) is not None for i in (1, 2, 8, 9, 10, 11))
    if not (plain and options and fixed and c.opt(4) is None and c.opt(7) is None):
        return False
    return all(_symmetric(c, i, z) is not None for i, z in ((1, 9), (2, 11)))


def dynamic_lstm(c: Call) -> list[Value]:
    """y [T, D, B, H], y_h and y_c [D, B, H] of x [T, B, I]."""
    w, r = _symmetric(c, 1, 9), _symmetric(c, 2, 11)
    assert w is not None and r is not None
    scales = [np.asarray(c.known(c.x(i)), np.float32).reshape(len(w), -1) for i in (8, 10)]
    direction = c.attr("direction", "forward")
    weights = [c.const(v) for v in (w, r, *scales)]
    return c.op("dynamic_lstm", c.x(0), *weights, c.opt(3), c.opt(5), c.opt(6), outputs=3, direction=direction)


def _symmetric(c: Call, weight: int, zero: int) -> np.ndarray | None:
    """Weights [D, K, 4H] as int8 without a zero point, None where they do not fit."""
    w, z = (np.asarray(c.known(c.x(i))).astype(np.int32) for i in (weight, zero))
    wide = w - z.reshape(len(w), 1, -1)
    return wide.astype(np.int8) if wide.size == 0 or (wide.min() >= -128 and wide.max() <= 127) else None
