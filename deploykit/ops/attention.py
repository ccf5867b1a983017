"""Attention."""

from __future__ import annotations

from deploykit.ops.core import op


@op(230, "q, k, v, mask? -> y", attrs=dict(scale=0.0, causal=False, softcap=0.0))
class attention:
    """softmax(scale * q k' + mask) v for q [..., H, L, D], k [..., Hk, S, D], v [..., Hk, S, Dv]; y [..., H, L, Dv].

    H is a multiple of Hk (grouped heads: q head h reads k head h // (H / Hk)).  scale 0 means 1/sqrt(D).  mask, float
    (added) or bool (False forbids), broadcasts to [..., H, L, S].  causal forbids s > l + (S - L).  softcap c > 0 maps
    scores to c * tanh(s / c) before the mask.  A row that forbids everything gives zeros.
    """


@op(231, "x, cos, sin -> y", attrs=dict(interleaved=False))
class rotary_embedding:
    "Rotate the leading 2 * cos.shape[-1] features of x's last dim: pairs (i, i + n) or interleaved (2i, 2i + 1); cos, sin broadcast."
