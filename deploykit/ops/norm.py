"""Normalisation.  ``axis`` names the channel axis; importers of NCHW formats move channels last first."""

from __future__ import annotations

from deploykit.ops.core import op


@op(150, "x, scale, bias, mean, variance -> y", attrs=dict(epsilon=1e-5, axis=-1))
class batch_norm:
    "(x - mean) / sqrt(variance + epsilon) * scale + bias, vectors along ``axis`` (inference form)."


@op(151, "x, scale?, bias? -> y", attrs=dict(axis=-1, epsilon=1e-5))
class layer_norm:
    "Normalise over the dims from ``axis`` to the end to mean 0 and variance 1, then * scale + bias (broadcast)."


@op(152, "x, scale? -> y", attrs=dict(axis=-1, epsilon=1e-5))
class rms_norm:
    "x / sqrt(mean(x * x over dims from axis) + epsilon) * scale."


@op(153, "x, scale?, bias? -> y", attrs=dict(groups=1, epsilon=1e-5))
class group_norm:
    """Channels last: normalise each (sample, group of channels) over space and the group, then * scale[c] + bias[c].
    groups = C is instance norm."""


@op(154, "x -> y", attrs=dict(size=5, alpha=1e-4, beta=0.75, bias=1.0))
class lrn:
    """Local response normalisation across the last axis: x / (bias + alpha / size * sum of squares)^beta over the
    window [c - floor((size-1)/2), c + ceil((size-1)/2)]."""
