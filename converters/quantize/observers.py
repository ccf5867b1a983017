"""Ranges of activations from calibration runs, in memory that does not grow with the number of samples.

Every tensor has a histogram of |BINS| bins over [-reach, reach); when a number lies outside, the reach doubles and
neighbouring bins merge.  Limits are those of all numbers; of a large tensor only some, evenly spread, are counted in.
The range is read off at the end:

* minmax: the smallest and largest number seen.
* moving_average: the mean of each run's limits, recent ones weighing more (momentum 0.9).
* percentile: without the outermost 0.01 % on either side.
* mse: the range whose rounding and clipping errors, squared and weighed by the histogram, add up to least.
* entropy: the range whose quantized distribution is nearest to the histogram by Kullback-Leibler divergence (Migacz,
  "8-bit inference with TensorRT", 2017), for each side of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

BINS = 2048
COUNTED = 1 << 17  # numbers of one run that go into the histogram
CLOSELY = 32 * COUNTED  # once so many are in it,
LATER = 32  # one in so many of COUNTED is enough in a run, and stands for more
MOST_CLIPPED = 0.01  # mse and entropy leave at most this share of the numbers outside
OBSERVERS = ("minmax", "moving_average", "percentile", "mse", "entropy")


@dataclass
class Observer:
    """Statistics of one tensor.

    >>> o = Observer()
    >>> o.see(np.float32([-1, 0, 3]))
    >>> o.range("minmax")
    (-1.0, 3.0)
    """

    low: float = np.inf
    high: float = -np.inf
    count: int = 0  # in the histogram
    reach: float = 0.0
    bins: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    average: tuple[float, float] | None = None
    odd: int = 0  # NaNs and infinities

    def see(self, x: np.ndarray) -> None:
        """Take in the tensor of one run."""
        a = np.asarray(x, np.float32).reshape(-1)
        if not a.size:
            return
        low, high = _limits(a)
        if not (np.isfinite(low) and np.isfinite(high)):
            good = a[np.isfinite(a)]
            self.odd += a.size - good.size
            a = good
            if not a.size:
                return
            low, high = _limits(a)
        self.low, self.high = min(self.low, low), max(self.high, high)
        m = self.average
        self.average = (low, high) if m is None else (0.9 * m[0] + 0.1 * low, 0.9 * m[1] + 0.1 * high)
        top = max(-low, high)
        size, weight = a.size, 1
        most = COUNTED if self.count < CLOSELY else COUNTED // LATER
        if size > most:
            step = size // most
            while math.gcd(step, size) > 1:  # a step of 3 would pass over two thirds of 24 channels
                step += 1
            a = a[::step]
            weight = max(1, round(min(size, COUNTED) / a.size))
        self.count += a.size * weight
        if top == 0:
            self.bins[BINS // 2] += a.size * weight
            return
        if self.reach == 0:
            self.reach = top * 1.001
            zeros = self.bins[BINS // 2]
            self.bins[:] = 0
            self.bins[BINS // 2] = zeros
        while top >= self.reach:
            merged = self.bins.reshape(-1, 2).sum(1)
            self.bins[:] = 0
            self.bins[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.reach *= 2
        place = a + np.float32(self.reach)
        place *= np.float32(BINS / (2 * self.reach))
        at = place.astype(np.intp)
        self.bins += np.bincount(np.minimum(at, BINS - 1, out=at), minlength=BINS) * weight

    def _edges(self) -> np.ndarray:
        return np.linspace(-self.reach, self.reach, BINS + 1)

    def range(self, kind: str, steps: int = 255) -> tuple[float, float]:
        """(low, high) of the tensor by one of OBSERVERS, for so many steps; contains 0 only if the numbers do."""
        if not self.count or self.reach == 0:
            return (0.0, 0.0) if not self.count else (self.low, self.high)
        if kind == "minmax":
            return self.low, self.high
        if kind == "moving_average":
            assert self.average is not None
            return self.average
        if kind == "percentile":
            share = np.cumsum(self.bins) / self.count
            edges = self._edges()
            low = edges[int(np.searchsorted(share, 1e-4))]
            high = edges[int(np.searchsorted(share, 1 - 1e-4)) + 1]
            return max(self.low, float(low)), min(self.high, float(high))
        return self._searched(kind, steps)

    def _searched(self, kind: str, steps: int) -> tuple[float, float]:
        edges = self._edges()
        middle, weight = (edges[1:] + edges[:-1]) / 2, self.bins.astype(np.float64)
        used = weight > 0
        middle, weight, width = middle[used], weight[used], 2 * self.reach / BINS
        full = (min(self.low, 0.0), max(self.high, 0.0))

        def cost(low: float, high: float) -> float:
            step = (high - low) / steps
            if step > 0:  # the range that is there once 0 is one of the steps
                low = -np.rint(-low / step) * step
                high = low + steps * step
            outside = (middle < low - step / 2) | (middle > high + step / 2)
            if step <= 0 or weight[outside].sum() > MOST_CLIPPED * self.count:
                return np.inf
            if kind == "entropy":
                return _divergence(middle, weight, low, high, step, steps)
            # bins narrower than a step know where between two steps their numbers lie; of others the average is known
            seen = np.clip(np.rint((middle - low) / step), 0, steps) * step + low
            inside = (middle - seen) ** 2 + width**2 / 12 if width < step else step**2 / 12
            return float(np.sum(weight * np.where(outside, (middle - seen) ** 2, inside)))

        keeps = np.geomspace(1.0, 0.05, 48)
        # the lower end first by itself, then the upper one: each may have outliers of its own; and the lower one again
        low, high = full
        for end in "low", "high", "low":
            if end == "low" and full[0] < 0:
                low = min((full[0] * k for k in keeps), key=lambda v: cost(v, high))
            elif end == "high" and full[1] > 0:
                high = min((full[1] * k for k in keeps), key=lambda v: cost(low, v))
        return max(low, self.low), min(high, self.high)


def _limits(a: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest number, NaN where there is one; part by part, so that memory is read once."""
    parts = [a[i : i + COUNTED] for i in range(0, a.size, COUNTED)]
    return float(np.min([p.min() for p in parts])), float(np.max([p.max() for p in parts]))


def _divergence(middle: np.ndarray, weight: np.ndarray, low: float, high: float, step: float, steps: int) -> float:
    """KL divergence of the histogram, clipped to the range, from its form in steps."""
    clipped = np.clip(middle, low, high)
    level = np.clip(np.rint((clipped - low) / step), 0, steps).astype(np.int64)
    inside = (middle >= low) & (middle <= high)
    p = np.where(inside, weight, 0.0)
    edge_low, edge_high = weight[middle < low].sum(), weight[middle > high].sum()
    if not inside.any():
        return np.inf
    first, last = int(np.argmax(inside)), len(inside) - 1 - int(np.argmax(inside[::-1]))
    reference = p.copy()
    reference[first] += edge_low
    reference[last] += edge_high
    sums = np.bincount(level, p, steps + 1)
    counts = np.bincount(level, inside.astype(float), steps + 1)
    q = np.where(inside, (sums / np.maximum(counts, 1))[level], 0.0)
    reference, q = reference / reference.sum(), q / max(q.sum(), 1e-12)
    both = reference > 0
    return float(np.sum(reference[both] * np.log(reference[both] / np.maximum(q[both], 1e-12))))
