"""Random ops: seeded, counter-based (Philox 4x32-10, Salmon et al. 2011), the same numbers on every platform.

seed 0 draws a fresh stream per session (from the OS); any other value fixes it."""

from __future__ import annotations

from deploykit.ops.core import op


@op(260, "shape -> y", attrs=dict(low=0.0, high=1.0, seed=0, dtype="float32"), flags="random", not_differentiable="no input gradient")
class random_uniform:
    "Uniform numbers in [low, high)."


@op(261, "shape -> y", attrs=dict(mean=0.0, scale=1.0, seed=0, dtype="float32"), flags="random", not_differentiable="no input gradient")
class random_normal:
    "Normal numbers (Box-Muller)."


@op(262, "p -> y", attrs=dict(seed=0, dtype=""), flags="random", not_differentiable="discrete result")
class bernoulli:
    "1 with probability p, else 0; dtype by name, '' means p's."


@op(263, "logits -> y", attrs=dict(samples=1, seed=0, dtype="int32"), flags="random", not_differentiable="discrete result")
class multinomial:
    "Sample indices [B, samples] from unnormalised log probabilities [B, K]."
