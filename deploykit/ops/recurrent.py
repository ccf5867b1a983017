"""Recurrent layers over time, weights and gate orders as in ONNX."""

from __future__ import annotations

from deploykit.ops.core import Enum, op

_R = dict(
    direction=Enum("forward", "reverse", "bidirectional"),
    activations="",  # comma-separated names in ONNX order, '' = the defaults
    activation_alpha=(),
    activation_beta=(),
    clip=0.0,  # 0 means none
    batch_first=False,
)
# x [T, B, I] (or [B, T, I] when batch_first); w [D, G*H, I]; r [D, G*H, H]; b [D, 2*G*H]; lengths int32 [B];
# h0, c0 [D, B, H] ([B, D, H]); y [T, D, B, H] ([B, T, D, H]); y_h, y_c like h0.  D = 2 when bidirectional.


@op(220, "x, w, r, b?, lengths?, h0?, c0?, peephole? -> y, y_h, y_c", attrs=dict(**_R, input_forget=False))
class lstm:
    "ONNX LSTM: gates i, o, f, c; peephole [D, 3*H]; steps at or after lengths[b] give 0 in y and keep the state."


@op(221, "x, w, r, b?, lengths?, h0? -> y, y_h", attrs=dict(**_R, linear_before_reset=False))
class gru:
    "ONNX GRU: gates z, r, h."


@op(222, "x, w, r, b?, lengths?, h0? -> y, y_h", attrs=_R)
class rnn:
    "ONNX RNN: h = f(x w' + h r' + b)."
