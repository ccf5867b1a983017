"""Mixed precision under a budget: which layers run in integers, so that accuracy, size or time hold (``quantize="auto"``).

A *layer* here is a product (conv, matmul) with the cheap ops behind it, up to the next product; it is switched as one.

1. Every layer is quantized alone: what that does to the outputs (or to the user's metric) is its sensitivity.
2. The float and the whole int8 build race on this engine, node by node.  A layer that is slower in int8 stays in float.
3. Layers go back to float in the order of the accuracy each wins per microsecond (per byte, where only the size counts)
   that it costs.  These nested choices are the curve; bisection finds the one that the budget asks for, and every choice
   looked at is built, run and timed, never estimated.

All that was measured goes into a state file, written beside and renamed, so that an interrupted search goes on where it
stood.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.calibration import Feeds
from deploykit.diagnosis import race, session
from deploykit.errors import DeploykitError, InputError, VerifyError
from deploykit.graph.ir import Graph
from deploykit.quantization import Calibrated

Metric = Callable[[Callable[[Feeds], dict[str, np.ndarray]]], float]
Progress = Callable[[str, int, int], None]
RUNS = 9  # of each build, for its time
SLOWER = 1.05  # times float: a layer slower than this in int8 is not worth it
_UNITS = {"%": 0.01, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "us": 1e-3, "ms": 1.0, "s": 1e3}


def quantity(text: Any, units: str, what: str) -> float | None:
    """A number with a unit of the given ones: ``0.5%`` (a fraction), ``2MB`` (bytes), ``5ms`` (milliseconds).

    >>> quantity("0.5%", "%", "x"), quantity("2MB", "b kb mb gb", "x"), quantity(0.01, "%", "x")
    (0.005, 2000000.0, 0.01)
    """
    if text is None or isinstance(text, (int, float)):
        return text
    m = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z%]*)\s*", str(text))
    unit = m[2].lower() if m else ""
    try:
        if m is None or (unit and unit not in units.split()):
            raise ValueError
        return float(m[1]) * (_UNITS[unit] if unit else 1.0)
    except ValueError:
        raise InputError(
            f"{what}: got {text!r}, expected a number with one of {units.upper()}, such as 0.5%, 2MB, 5ms."
        ) from None


@dataclass
class Budget:
    """What the result must hold: accuracy drop as a fraction, bytes of the file, milliseconds of a run on one thread."""

    drop: float | None = None
    size: float | None = None
    ms: float | None = None

    def holds(self, p: dict[str, Any]) -> bool:
        """Whether a measured choice keeps all of them."""
        return self.accurate(p) and self.cheap(p)

    def accurate(self, p: dict[str, Any]) -> bool:
        return self.drop is None or p["drop"] <= self.drop

    def cheap(self, p: dict[str, Any]) -> bool:
        return (self.size is None or p["bytes"] <= self.size) and (self.ms is None or p["ms"] <= self.ms)


@dataclass
class Layer:
    """Nodes that are switched together, by the names of their outputs, and what was measured of them."""

    name: str
    values: list[str]
    nodes: list[str]
    weights: int = 0
    drop: float | None = None  # accuracy lost when it alone is quantized
    float_us: float = 0.0
    int8_us: float = 0.0
    slower: bool = False


def layers_of(graph: Graph) -> list[Layer]:
    """The layers of a prepared graph, in order; what stands before the first product is one of its own."""
    from deploykit.converters.quantize import weighed
    from deploykit.converters.quantize.schemes import INTEGER

    out: list[Layer] = []
    owner: dict[Any, Layer] = {}
    for n in graph.nodes:
        if n.op not in INTEGER or not n.outputs or n.outputs[0] is None:
            continue
        before = [owner[v] for v in n.inputs if v is not None and v in owner]
        if weighed(n) or not before:
            layer = Layer(n.name or n.output.name, [], [])
            out.append(layer)
        else:
            layer = max(before, key=out.index)  # a sum belongs to the later of its two sides
        layer.values.append(n.output.name)
        layer.nodes.append(n.name or n.output.name)
        layer.weights += sum(v.data.size for v in n.inputs if v is not None and v.data is not None and weighed(n))
        owner |= {v: layer for v in n.outputs if v is not None}
    return out


@dataclass
class _State:
    """What is known so far, in a file; without a path only in memory."""

    path: Path | None
    key: str
    drops: dict[str, float] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    float_score: float | None = None

    @classmethod
    def open(cls, path: Path | None, key: str) -> _State:
        if path is not None and path.is_file():
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                if data.pop("key") == key:
                    return cls(path, key, **data)
            except (ValueError, KeyError, TypeError):
                pass  # not ours, or of another version: begin anew
        return cls(path, key)

    def save(self) -> None:
        if self.path is None:
            return
        from deploykit.graph.dkfile import atomic_write

        data = {k: v for k, v in asdict(self).items() if k != "path"}
        with atomic_write(self.path) as f:  # two searches may write the same file
            f.write(json.dumps(data).encode())


class Search:
    """One search.  made: the calibrated model; finish: quantized graph -> bytes of the file; samples: for distances.

    metric: ``metric(run)`` is called with a function from inputs to outputs by name and returns a score, larger is
    better; the drop is the loss relative to the float model's score.  Without one the drop is the noise power over the
    signal power of the worst output: 0.5 % is 23 dB.
    """

    def __init__(
        self,
        made: Calibrated,
        finish: Callable[[Graph], bytes],
        samples: list[Feeds],
        budget: Budget,
        metric: Metric | None = None,
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        from deploykit.converters.pipeline import optimize
        from deploykit.graph.dkfile import to_bytes

        self.made, self.finish, self.samples, self.budget, self.metric = made, finish, samples, budget, metric
        self.optimize = lambda g: optimize(g)[0]
        self.say = progress or (lambda what, done, total: None)
        self.layers = layers_of(made.floats)
        if not self.layers:
            raise InputError("auto: the model has no layers that can run in int8; convert it without a budget.")
        self.names = made.floats.public_outputs
        digest = hashlib.sha256(to_bytes(made.floats))
        for feeds in samples:
            for a in feeds.values():
                digest.update(a.tobytes())
        digest.update(repr((made.options, getattr(metric, "__qualname__", None))).encode())
        self.state = _State.open(state, digest.hexdigest())
        self.want: list[list[np.ndarray]] | None = None

    # ---- measuring
    def _score(self, graph: Graph) -> float:
        """The metric of a graph."""
        s = session(graph)
        inputs = [v.name for v in graph.inputs]

        def run(feeds: Feeds) -> dict[str, np.ndarray]:
            return dict(zip(self.names, s(*(feeds[k] for k in inputs)), strict=True))

        assert self.metric is not None
        try:
            score = float(self.metric(run))
        except DeploykitError:
            raise
        except Exception as e:
            name = getattr(self.metric, "__qualname__", "metric")
            raise InputError(f"metric: {name} raised {type(e).__name__}: {e}. Nothing measured so far is lost.") from e
        if not np.isfinite(score):
            raise InputError(f"metric: got {score}, expected a finite number, larger is better.")
        return score

    def _distance(self, graph: Graph) -> float:
        """Noise power over signal power of the worst output."""
        from deploykit.quantization import outputs, outputs_db

        self.want = self.want or outputs(self.made.floats, self.samples)
        worst = min(outputs_db(self.want, outputs(graph, self.samples)))
        return float(10 ** (-max(worst, -60.0) / 10))

    def _drop(self, graph: Graph) -> float:
        if self.metric is None:
            return self._distance(graph)
        if self.state.float_score is None:
            self.state.float_score = self._score(self.made.floats)
            self.state.save()
        base = self.state.float_score
        return (base - self._score(graph)) / (abs(base) or 1.0)

    def _quantized(self, floats: list[Layer]) -> Graph:
        return self.made.apply([v for layer in floats for v in layer.values])[0]

    def sensitivities(self) -> None:
        """Quantize every layer alone."""
        for i, layer in enumerate(self.layers):
            if layer.name not in self.state.drops:
                graph = self._quantized([other for other in self.layers if other is not layer])
                drop = self._drop(graph)
                if self.metric is not None:  # a metric often does not move by one layer: the distance breaks the tie
                    drop = max(drop, 0.0) + 1e-6 * self._distance(graph)
                self.state.drops[layer.name] = drop
                self.state.save()
            layer.drop = self.state.drops[layer.name]
            self.say("sensitivity", i + 1, len(self.layers))

    def times(self) -> None:
        """Race the float build against the whole int8 build, layer by layer."""
        if not self.state.times:
            graphs = {"float": self.optimize(self.made.floats), "int8": self.optimize(self._quantized([]))}
            rows = race(graphs, self.samples[0], RUNS)["rows"]
            by_node = {k: {r["name"]: r["us"] for r in rows[k]} for k in rows}
            for layer in self.layers:
                us = [sum(by_node[k].get(n, 0.0) for n in dict.fromkeys(layer.nodes)) for k in ("float", "int8")]
                self.state.times[layer.name] = us
            self.state.save()
        for layer in self.layers:
            layer.float_us, layer.int8_us = self.state.times[layer.name]
            layer.slower = layer.int8_us > SLOWER * layer.float_us

    def point(self, floats: list[Layer]) -> dict[str, Any]:
        """Build a choice, run it, time it: {"float", "drop", "bytes", "ms"}."""
        key = ",".join(sorted(layer.name for layer in floats))
        key = hashlib.sha256(key.encode()).hexdigest()[:16]
        if key not in self.state.points:
            graph = self._quantized(floats)
            built = self.optimize(graph)
            made = race({"x": built}, self.samples[0], RUNS)
            self.state.points[key] = {
                "float": [layer.name for layer in floats],
                "drop": self._drop(built),
                "bytes": len(self.finish(graph)),
                "ms": made["total_us"]["x"] / 1e3,
            }
            self.state.save()
        return self.state.points[key]

    # ---- choosing
    def run(self) -> tuple[list[str], dict[str, Any]]:
        """(values that stay float, what was found); raises VerifyError where no choice keeps the budget."""
        self.sensitivities()
        self.times()
        slow = [layer for layer in self.layers if layer.slower]
        rest = [layer for layer in self.layers if not layer.slower]
        by_size = self.budget.size is not None and self.budget.drop is None and self.budget.ms is None

        def worth(layer: Layer) -> float:
            cost = 3.0 * layer.weights if by_size else layer.float_us - layer.int8_us
            return (layer.drop or 0.0) / max(cost, 1e-3)

        order = sorted(rest, key=worth, reverse=True)
        n = len(order)
        looked: dict[int, dict[str, Any]] = {}

        def at(k: int) -> dict[str, Any]:
            if k not in looked:
                looked[k] = self.point(slow + order[:k])
                self.say("choices", len(looked), n.bit_length() + 4)
            return looked[k]

        for k in sorted({0, n // 8, n // 3, n}):
            at(k)
        if self.budget.drop is not None:  # the fewest float layers that are accurate enough
            low, high = -1, n
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self.budget.accurate(at(middle)) else (middle, high)
            best = high
        else:  # as many float layers as size and time allow
            low, high = 0, n + 1
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.budget.cheap(at(middle)) else (low, middle)
            best = low
        good = [k for k, p in looked.items() if self.budget.holds(p)]
        if good:  # the drop need not fall evenly: of all that were measured, the fastest or the most accurate
            best = min(good, key=lambda k: looked[k]["ms" if self.budget.drop is not None else "drop"])
        chosen = at(best)
        found = self._found(chosen, slow, [looked[k] for k in sorted(looked)])
        if not self.budget.holds(chosen):
            raise VerifyError(
                f"auto: no choice of layers keeps the budget; the nearest has {_said(chosen)}, asked for {_asked(self.budget)}. "
                "Nothing was written. Loosen the budget, give more calibration data, or train with quantization."
            )
        keep = [v for layer in slow + order[:best] for v in layer.values]
        if self.state.path is not None:
            self.state.path.unlink(missing_ok=True)
        return keep, found

    def _found(self, chosen: dict[str, Any], slow: list[Layer], points: list[dict[str, Any]]) -> dict[str, Any]:
        kept = set(chosen["float"])
        rows = [
            {
                "name": layer.name,
                "drop": layer.drop,
                "float_us": layer.float_us,
                "int8_us": layer.int8_us,
                "weights": layer.weights,
                "kind": "float" if layer.name in kept else "int8",
                "why": "slower in int8" if layer.slower else "sensitive" if layer.name in kept else "",
            }
            for layer in self.layers
        ]
        return {
            "budget": asdict(self.budget),
            "metric": getattr(self.metric, "__qualname__", None) if self.metric else None,
            "float_score": self.state.float_score,
            "chosen": chosen,
            "points": points,
            "layers": rows,
            "slower": [layer.name for layer in slow],
        }


def _said(p: dict[str, Any]) -> str:
    return f"an accuracy drop of {100 * p['drop']:.3g} %, {p['bytes']} bytes, {p['ms']:.3g} ms"


def _asked(b: Budget) -> str:
    parts = [
        "" if b.drop is None else f"a drop of at most {100 * b.drop:.3g} %",
        "" if b.size is None else f"at most {b.size:.0f} bytes",
        "" if b.ms is None else f"at most {b.ms:.3g} ms",
    ]
    return ", ".join(p for p in parts if p)
