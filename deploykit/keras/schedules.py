"""Learning rates that change with the number of steps (``keras.optimizers.schedules``)."""

from __future__ import annotations

import math
from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.errors import InputError
from deploykit.keras.serialize import Configurable, lookup


class LearningRateSchedule(Configurable):
    """``schedule(step)`` gives the rate."""

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(type(self).__name__)


class ExponentialDecay(LearningRateSchedule):
    """rate * decay_rate ^ (step / decay_steps)."""

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False, name: str = "ExponentialDecay") -> None:  # fmt: skip
        if decay_steps <= 0:
            raise InputError(f"ExponentialDecay: got decay_steps={decay_steps}, expected more than 0.")
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: Any) -> Any:
        p = N.cast(step, "float32") / float(self.decay_steps)
        p = N.floor(p) if self.staircase else p
        return self.initial_learning_rate * N.power(float(self.decay_rate), p)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] while step <= boundaries[i]."""

    def __init__(self, boundaries: Any, values: Any, name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1:
            raise InputError(f"PiecewiseConstantDecay: got {len(boundaries)} boundaries, expected {len(values) - 1}.")
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: Any) -> Any:
        s = N.cast(step, "float32")
        rate: Any = N.full((), float(self.values[-1]))
        for b, v in zip(reversed(self.boundaries), reversed(self.values[:-1]), strict=True):
            rate = N.where(s <= float(b), float(v), rate)
        return rate


class PolynomialDecay(LearningRateSchedule):
    """From one rate to another along a power."""

    def __init__(self, initial_learning_rate: float, decay_steps: int, end_learning_rate: float = 0.0001, power: float = 1.0, cycle: bool = False, name: str = "PolynomialDecay") -> None:  # fmt: skip
        if decay_steps <= 0:
            raise InputError(f"PolynomialDecay: got decay_steps={decay_steps}, expected more than 0.")
        self.initial_learning_rate, self.decay_steps, self.end_learning_rate = (
            initial_learning_rate,
            decay_steps,
            end_learning_rate,
        )
        self.power, self.cycle, self.name = power, cycle, name

    def __call__(self, step: Any) -> Any:
        s, n = N.cast(step, "float32"), float(self.decay_steps)
        if self.cycle:
            total: Any = n * N.maximum(N.ceil(s / n), 1.0)
        else:
            s, total = N.minimum(s, n), n
        rest = self.initial_learning_rate - self.end_learning_rate
        return rest * N.power(1.0 - s / total, float(self.power)) + self.end_learning_rate


class InverseTimeDecay(LearningRateSchedule):
    """rate / (1 + decay_rate * step / decay_steps)."""

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False, name: str = "InverseTimeDecay") -> None:  # fmt: skip
        if decay_steps <= 0:
            raise InputError(f"InverseTimeDecay: got decay_steps={decay_steps}, expected more than 0.")
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: Any) -> Any:
        p = N.cast(step, "float32") / float(self.decay_steps)
        p = N.floor(p) if self.staircase else p
        return self.initial_learning_rate / (1.0 + self.decay_rate * p)


class CosineDecay(LearningRateSchedule):
    """Half a cosine, after a linear warm-up where asked for (Loshchilov and Hutter, 2016)."""

    def __init__(self, initial_learning_rate: float, decay_steps: int, alpha: float = 0.0, name: str = "CosineDecay", warmup_target: float | None = None, warmup_steps: int = 0) -> None:  # fmt: skip
        if decay_steps <= 0:
            raise InputError(f"CosineDecay: got decay_steps={decay_steps}, expected more than 0.")
        self.initial_learning_rate, self.decay_steps, self.alpha, self.name = (
            initial_learning_rate,
            decay_steps,
            alpha,
            name,
        )
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps

    def _decayed(self, s: Any, start: float) -> Any:
        cosine = 0.5 * (1.0 + N.cos(math.pi * s / float(self.decay_steps)))
        return start * ((1.0 - self.alpha) * cosine + self.alpha)

    def __call__(self, step: Any) -> Any:
        s, n, w = N.cast(step, "float32"), float(self.decay_steps), float(self.warmup_steps)
        if self.warmup_target is None:
            return self._decayed(N.minimum(s, n), self.initial_learning_rate)
        s = N.minimum(s, n + w)
        rise = (self.warmup_target - self.initial_learning_rate) * (s / max(w, 1e-9)) + self.initial_learning_rate
        return N.where(s < w, rise, self._decayed(s - w, self.warmup_target))


class CosineDecayRestarts(LearningRateSchedule):
    """Cosines that start again, each t_mul longer and m_mul lower."""

    def __init__(self, initial_learning_rate: float, first_decay_steps: int, t_mul: float = 2.0, m_mul: float = 1.0, alpha: float = 0.0, name: str = "SGDRDecay") -> None:  # fmt: skip
        if first_decay_steps <= 0:
            raise InputError(f"CosineDecayRestarts: got first_decay_steps={first_decay_steps}, expected more than 0.")
        self.initial_learning_rate, self.first_decay_steps, self.t_mul = initial_learning_rate, first_decay_steps, t_mul
        self.m_mul, self.alpha, self.name = m_mul, alpha, name

    def __call__(self, step: Any) -> Any:
        done = N.cast(step, "float32") / float(self.first_decay_steps)
        if self.t_mul == 1.0:
            i = N.floor(done)
            rest = done - i
        else:
            i = N.floor(N.log(1.0 - done * (1.0 - self.t_mul)) / math.log(self.t_mul))
            power = N.power(float(self.t_mul), i)
            rest = (done - (1.0 - power) / (1.0 - self.t_mul)) / power
        scale = N.power(float(self.m_mul), i)
        cosine = 0.5 * scale * (1.0 + N.cos(math.pi * rest))
        return self.initial_learning_rate * ((1.0 - self.alpha) * cosine + self.alpha)


ALL: dict[str, Any] = {
    c.__name__: c
    for c in (
        ExponentialDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        InverseTimeDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def get(identifier: Any) -> Any:
    """A schedule by config or itself."""
    return lookup("schedule", ALL, identifier)


def deserialize(config: Any) -> Any:
    """A schedule of its config."""
    return get(config)
