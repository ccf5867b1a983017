"""Where a quantized model loses accuracy, why, and what each layer costs: the figures of ``convert(report=...)``.

Two graphs are compared, the float one and the one with quantize and dequantize nodes (or narrow weights) made from it.
Their values have the same names.  A layer's *own* error is what its integers do to it when everything before it is
exact: the rounding of its weights, and the rounding and clipping of its result.  Its *total* error is what has
gathered up to its result when everything is quantized.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.graph.ir import Graph, Node, Value
from deploykit.native import NativeModel, NativeSession, describe

SAMPLES = 8  # enough for means over whole tensors
GOOD = 30.0  # dB: a layer at or above it is not worth a remedy
CHANNEL = 20.0  # dB: the least for a layer's median channel
OUTLIER = 4.0  # times the median channel's reach
INHERITED = 6.0  # dB by which the total must be worse than a layer's own error before others are blamed
CLAMPS = ("relu", "relu6", "clip")
_NARROW = ("dequantize", "cast")
Feeds = dict[str, np.ndarray]


def session(graph: Graph, **options: Any) -> NativeSession:
    """A graph on the engine."""
    from deploykit.graph.dkfile import to_bytes

    return NativeSession(NativeModel(np.frombuffer(to_bytes(graph), np.uint8)), **options)


def of_conversion(
    floats: tuple[Graph, Graph | None],
    converted: Graph,
    samples: list[Feeds] | None,
    shapes: Any = None,
    repairs: Iterable[str] = (),
) -> dict[str, Any]:
    """All figures of one conversion: {"layers", "latency", "sizes", "feeds", "good_db"}.

    floats: the imported graph, and the float graph that the quantizer started from (None when nothing was quantized).
    converted: the graph before the last passes.  samples: real inputs; made-up ones where there are none.
    """
    from deploykit.converters.pipeline import optimize
    from deploykit.graph.dkfile import to_bytes
    from deploykit.runners import DkRunner, working_inputs

    imported, start = floats
    final = optimize(converted)[0]
    graphs = {"float": optimize(imported)[0]} if start is not None else {}
    feeds, real = list(samples or ()), bool(samples)
    if not feeds:
        made = working_inputs(DkRunner(to_bytes(final)), 0, shapes)
        feeds = [made[0]] if made is not None else []
    out: dict[str, Any] = {"layers": [], "latency": None, "good_db": GOOD, "sizes": sizes(final), "real_inputs": real}
    if feeds:
        if start is not None:
            out["layers"] = layers(start, converted, feeds, repairs)
        out["latency"] = race({**graphs, "quantized" if start is not None else "float": final}, feeds[0])
    return out


# ---------------------------------------------------------------- errors
@dataclass
class _Sums:
    """Sums over samples of one layer, from which its row is made."""

    signal: float = 0.0
    weights: float = 0.0
    rounding: float = 0.0
    clipping: float = 0.0
    total: float = 0.0
    shift: Any = 0.0  # sum over places of the weights' error, per channel
    places: int = 0
    clipped: int = 0
    count: int = 0
    largest: float = 0.0
    worst: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    tops: Any = 0.0  # the rest per channel
    signals: Any = 0.0
    noises: Any = 0.0

    def see(
        self, y: np.ndarray, total: np.ndarray | None, weights: np.ndarray | None, rounded: Any, limits: Any
    ) -> None:
        y = y.astype(np.float64)
        flat = y.reshape(-1, y.shape[-1] if y.ndim else 1)
        self.signal += float((y * y).sum())
        self.count += y.size
        self.largest = max(self.largest, float(np.abs(y).max(initial=0.0)))
        self.low, self.high = min(self.low, float(y.min(initial=0))), max(self.high, float(y.max(initial=0)))
        self.tops = np.maximum(self.tops, np.abs(flat).max(0, initial=0.0))
        self.signals = self.signals + (flat * flat).sum(0)
        if total is not None:
            e = total - y
            self.total += float((e * e).sum())
            self.worst = max(self.worst, float(np.abs(e).max(initial=0.0)))
        if weights is not None:
            e = (weights - y).reshape(flat.shape)
            self.weights += float((e * e).sum())
            self.shift = self.shift + e.sum(0)
            self.noises = self.noises + (e * e).sum(0)
        self.places += len(flat)
        if rounded is not None:
            e = (rounded - y) ** 2
            outside = (y < limits[0]) | (y > limits[1])
            self.clipped += int(outside.sum())
            self.clipping += float(e[outside].sum())
            self.rounding += float(e[~outside].sum())
            self.noises = self.noises + e.reshape(flat.shape).sum(0)

    @property
    def median_channel(self) -> float | None:
        """Signal to noise of the channel in the middle, which a few strong channels hide in that of the whole."""
        used = np.asarray(self.signals).reshape(-1) > 0
        if used.sum() < 4:
            return None
        signals, noises = (
            np.asarray(a).reshape(-1)[used] for a in (self.signals, np.broadcast_to(self.noises, used.shape))
        )
        return float(np.median(10 * np.log10(signals / np.maximum(noises, 1e-30))))


def _db(signal: float, noise: float) -> float | None:
    """Signal to noise in dB; None without noise."""
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else None


@dataclass
class _Place:
    """Names of one layer's values in the sessions, and how its result is quantized."""

    node: Node
    value: str
    weights: str | None = None
    rounded: str | None = None
    total: str = ""
    limits: tuple[float, float] = (0.0, 0.0)
    kind: str = "float"
    bias: float = 0.0  # largest |bias| in steps of its integers
    sums: _Sums = field(default_factory=_Sums)


def _source(v: Value | None) -> Value | None:
    """The float value behind dequantize(quantize(v))."""
    d = None if v is None else v.producer
    q = d.inputs[0].producer if d is not None and d.op == "dequantize" and d.inputs[0] is not None else None
    return q.inputs[0] if q is not None and q.op == "quantize" else v


def _is_narrow(v: Value | None) -> bool:
    made = None if v is None else v.producer
    return made is not None and made.op in _NARROW and made.inputs[0] is not None and made.inputs[0].is_constant


def _probe(floats: Graph, quantized: Graph) -> tuple[Graph, dict[str, _Place]]:
    """The float graph with, beside each layer, the same layer with narrow weights and each activation rounded."""
    from deploykit.converters.ir import walk
    from deploykit.converters.quantize.schemes import MOVES

    both, other = walk.clone(floats), walk.clone(quantized)
    here = {v.name: v for v in [*both.inputs, *(o for n in both.nodes for o in n.outputs if o is not None)]}
    readers = other.consumers()
    names = {
        v: v.name for n in other.nodes for v in (*n.inputs, *n.outputs) if v is not None
    }  # before they are changed
    places: dict[str, _Place] = {}

    def place(name: str, node: Node | None) -> _Place:
        return places.setdefault(name, _Place(node or Node("input", [], [], name=name), name, total=name))

    def exact(v: Value | None) -> Value | None:
        s = sources.get(v) or v  # type: ignore[arg-type]
        return here[names[s]] if s is not None and not s.is_constant and names[s] in here else v

    sources = {v: _source(v) for v in names}
    for n in other.nodes:
        if n.op == "quantize" and n.inputs[0] is not None and names[n.inputs[0]] in here:
            name = names[n.inputs[0]]
            d = next((r for r in readers.get(n.output, []) if r.op == "dequantize"), None)
            if d is None:
                continue
            p = place(name, n.inputs[0].producer)
            scale, zero = (float(np.asarray(walk.data(n.inputs[i])).reshape(-1)[0]) for i in (1, 2))
            info = np.iinfo(n.output.dtype.np)  # type: ignore[union-attr]
            p.limits = ((info.min - zero - 0.5) * scale, (info.max - zero + 0.5) * scale)
            p.kind, p.total, p.rounded = n.output.dtype.name, d.output.name, "r:" + name  # type: ignore[union-attr]
            n.inputs[0] = here[name]
            both.nodes += [n, d]
            n.output.name, d.output.name = "q:" + name, p.rounded
        elif n.op in _NARROW and n.inputs[0] is not None and n.inputs[0].is_constant:
            both.nodes.append(n)
        elif any(_is_narrow(v) for v in n.inputs) or n.op == "dynamic_matmul":
            y = n.outputs[0]
            if y is None or names[y] not in here:
                continue
            users = readers.get(y, [])
            clamp = users[0] if len(users) == 1 and users[0].op in CLAMPS and y not in other.outputs else None
            p = place(names[y] if clamp is None else names[clamp.output], n)  # the result is what comes behind a clamp
            p.kind, p.bias = _kind(n), _bias_steps(n)
            n.inputs = [exact(v) for v in n.inputs]
            for v in n.outputs:
                if v is not None:
                    v.name = "w:" + names[v]
            both.nodes.append(n)
            p.weights = y.name
            if clamp is not None:
                after = Value("w:" + p.value, clamp.output.dtype, clamp.output.shape)
                both.nodes.append(Node(clamp.op, [y, *clamp.inputs[1:]], [after], clamp.attrs))
                p.weights = after.name
    return both, {k: p for k, p in places.items() if p.node.op not in MOVES}  # those round nothing of their own


def _kind(n: Node) -> str:
    for v in n.inputs:
        made = None if v is None else v.producer
        if made is not None and _is_narrow(v):
            dtype = made.inputs[0].dtype  # type: ignore[union-attr]
            return f"{dtype.name} weights" if dtype is not None else "float"
    return "dynamic" if n.op == "dynamic_matmul" else "float"


def _bias_steps(n: Node) -> float:
    """Largest |bias| in steps of the 32-bit sums it is added to; 0 where there is none."""
    from deploykit.converters.ir.walk import data, operand

    bias, w, x = data(operand(n, 2)), n.inputs[1], n.inputs[0]
    made = [None if v is None else v.producer for v in (w, x)]
    if bias is None or any(m is None or m.op != "dequantize" for m in made):
        return 0.0
    ws, xs = (data(m.inputs[1]) for m in made)  # type: ignore[union-attr]
    if ws is None or xs is None or bias.size != ws.size:
        return 0.0
    return float(
        (np.abs(bias.reshape(-1)) / (ws.reshape(-1).astype(np.float64) * float(xs.reshape(-1)[0]))).max(initial=0)
    )


def layers(
    floats: Graph, quantized: Graph, samples: Iterable[Feeds], repairs: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """A row per quantized layer, in order: own and total signal to noise in dB, shares of its own noise, cause, remedy.

    ``floats`` and ``quantized`` are before and after the quantizer, which did ``repairs``.  What is in bodies of
    control flow has no rows.
    """
    both, places = _probe(floats, quantized)
    if not places:
        return []
    exact, real = session(both, keep_values=True), session(quantized, keep_values=True)
    given = {v.name for v in floats.inputs}
    count = 0
    for feeds in list(samples)[:SAMPLES]:
        arrays = [feeds[v.name] for v in floats.inputs]
        exact(*arrays)
        real(*arrays)
        count += 1
        for p in places.values():
            y = feeds[p.value] if p.value in given else exact.value(p.value)
            if y is None or y.dtype != np.float32:
                continue
            w = exact.value(p.weights) if p.weights else None
            r = exact.value(p.rounded) if p.rounded else None
            total = feeds[p.value] if p.total in given else real.value(p.total)
            p.sums.see(y, total, w, r, p.limits)
    order = {v.name: i for i, v in enumerate([*floats.inputs, *(o for n in floats.nodes for o in n.outputs if o)])}
    found = sorted((p for p in places.values() if p.sums.count), key=lambda p: order.get(p.value, 0))
    return [_row(p, repairs) for p in found] if count else []


def _row(p: _Place, repairs: Iterable[str]) -> dict[str, Any]:
    s = p.sums
    own = s.weights + s.rounding + s.clipping
    shares = {k: getattr(s, k) / own if own else 0.0 for k in ("weights", "rounding", "clipping")}
    row: dict[str, Any] = {
        "name": p.node.name or p.value,
        "op": p.node.op,
        "kind": p.kind,
        "own_db": _db(s.signal, own),
        "total_db": _db(s.signal, s.total),
        "channel_db": s.median_channel,
        "max_error": s.worst,
        "max_value": s.largest,
        "shares": shares,
    }
    row["cause"], remedies = _cause(p, row)
    row["remedy"] = ", or ".join(r for r in remedies if r.removeprefix("--repair ") not in repairs)
    return row


def _cause(p: _Place, row: dict[str, Any]) -> tuple[str, list[str]]:
    """What is behind a layer's error, and what to do, the best first; empty where it is small."""
    s, own, total = p.sums, row["own_db"], row["total_db"]
    keep = f"--keep-float '{row['name']}'"
    if not s.largest:
        return "dead: zero on all calibration data", ["check that the data is preprocessed as the model wants it"]
    weak_channels = row["channel_db"] is not None and row["channel_db"] < CHANNEL
    if own is None or (own >= GOOD and not weak_channels):
        if total is not None and total < GOOD and (own is None or total < own - INHERITED):
            return "inherited from layers before it", []
        return "", []
    shares = row["shares"]
    tops = np.sort(np.asarray(s.tops).reshape(-1))
    middle = float(tops[len(tops) // 2])
    if weak_channels and shares["rounding"] > shares["weights"] and tops[-1] > OUTLIER * middle > 0:
        ratio = tops[-1] / middle
        text = (
            f"outlier channel: one reaches {tops[-1]:.3g}, {ratio:.0f} times the median channel's {middle:.3g}, "
            f"which keeps {max(row['channel_db'], 0):.0f} dB"
        )
        return text, ["--repair equalize", "--repair smooth", keep]
    if shares["clipping"] > 0.5:
        share = 100 * s.clipped / s.count
        text = (
            f"clipped range: {share:.2g} % of the values lie outside {p.limits[0]:.3g} to {p.limits[1]:.3g}, "
            f"as far as {s.low if p.limits[0] - s.low > s.high - p.limits[1] else s.high:.3g}"
        )
        return text, ["--observer minmax", "more calibration data", keep]
    if own >= GOOD:
        return f"uneven channels: the median one keeps {row['channel_db']:.0f} dB", ["--repair equalize", keep]
    if shares["weights"] >= max(shares["rounding"], shares["clipping"]):
        if p.bias > 2**29:
            return (
                "large bias: a channel's scale was widened until its bias fits 32 bits",
                ["--repair equalize", keep],
            )
        mean = float(np.sum(np.square(s.shift))) / max(1, s.places)
        if mean > 0.5 * s.weights:
            return "rounded weights shift the mean of the results", ["--repair bias", keep]
        if "int4" in p.kind:
            return "weights lose too much in 4 bits", ["--repair gptq", "--block-size 32", keep]
        return "weights of very different size share a scale", ["--repair round", "--repair equalize", keep]
    rms = np.sqrt(s.signal / s.count)
    if s.largest > 20 * rms:
        text = f"rare large values: the largest, {s.largest:.3g}, is {s.largest / rms:.0f} times the root mean square"
        return text, ["--observer percentile", keep]
    return "256 levels are too few for its range", [keep]


# ---------------------------------------------------------------- time and memory
def race(graphs: dict[str, Graph], feeds: Feeds, runs: int = 15) -> dict[str, Any]:
    """Time of every node of several graphs on one thread: {"engine", "threads", "runs", "rows": {key: [...]}, "total"}.

    The graphs take turns, run by run, so that a busy machine disturbs all alike; each node's time is its least.  The
    plan ("plan") is that of the last graph.
    """
    sessions = {k: session(g, threads=1, profile=True) for k, g in graphs.items()}
    times: dict[str, list[list[int]]] = {k: [] for k in graphs}
    inputs = {k: [feeds[v.name] for v in g.inputs] for k, g in graphs.items()}
    for k, s in sessions.items():
        s(*inputs[k])
    for _ in range(runs):
        for k, s in sessions.items():
            s(*inputs[k])
            s.profile_clear()
            s(*inputs[k])
            times[k].append([r.nanoseconds for r in s.profile()])
    rows = {}
    for k, s in sessions.items():
        least = np.min(np.array(times[k], np.float64).reshape(runs, -1), axis=0) / 1e3
        rows[k] = [
            {"name": r.name, "op": r.op, "kernel": r.detail, "us": float(us)}
            for r, us in zip(s.profile(), least, strict=True)
        ]
    return {
        "isa": describe()["isa"],
        "threads": 1,
        "runs": runs,
        "total_us": {k: sum(r["us"] for r in rs) for k, rs in rows.items()},
        "rows": rows,
        "memory": {k: s.memory() for k, s in sessions.items()},
        "plan": _plan(sessions[k], graphs[k]),
    }


def _plan(s: NativeSession, graph: Graph) -> list[dict[str, Any]]:
    """The arena's buffers, named by the nodes that fill them."""
    maker = {v.name: n.name or n.op for n in graph.nodes for v in n.outputs if v is not None}
    return [{**r, "name": maker.get(r["name"], r["name"])} for r in s.plan()]


def sizes(graph: Graph) -> list[dict[str, Any]]:
    """Bytes of constants, in a file, by the node that reads them first, largest first."""
    from deploykit.graph.dkfile import stored_bytes

    seen: set[int] = set()
    out = []
    for g in graph.walk():
        for n in g.nodes:
            size = 0
            dtypes: dict[str, int] = {}
            for v in n.inputs:
                if v is not None and v.data is not None and v.dtype is not None and id(v.data) not in seen:
                    seen.add(id(v.data))
                    held = stored_bytes(v.data, v.dtype)
                    size += held
                    dtypes[str(v.dtype)] = dtypes.get(str(v.dtype), 0) + held
            if size:
                out.append({"name": n.name or n.op, "op": n.op, "bytes": size, "dtype": max(dtypes, key=dtypes.get)})  # type: ignore[arg-type]
    return sorted(out, key=lambda r: (-r["bytes"], r["name"]))
