"""``convert(quantize=...)``: run calibration data through the float model, quantize, and tell how near the result is.

The quantizer itself is ``deploykit.converters.quantize``; here it meets the engine and people's data
(``deploykit.calibration``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deploykit.calibration import SAMPLES, Feeds, read, suspicious
from deploykit.errors import InputError
from deploykit.graph.ir import Graph, Value
from deploykit.interpreter import Quantization, TensorSpec

MOMENT_SAMPLES = 64  # of which so many for repairs, kept in memory
CHECKED = 16  # and so many for comparing with the source
# What is tried when nobody says: with data each is measured, and the last that wins by this many dB stays.
TRIED = {"int8": ((), ("equalize", "smooth"), ("equalize", "smooth", "bias")), "dynamic": ((), ("smooth",))}
TRIED["int16x8"] = TRIED["int8"]
TRIAL_SAMPLES, WINS = 16, 0.25
Progress = Callable[[int], None]
Choose = Callable[["Calibrated", list[Feeds]], tuple[list[str], dict[str, Any]]]


@dataclass
class Quantized:
    """What :func:`quantize` gives: the graph with quantize and dequantize nodes or narrow weights, what was done, some
    samples for checking, and the float graph that the quantizer started from (repairs of float weights included)."""

    graph: Graph
    info: dict[str, Any]
    samples: list[Feeds]
    floats: Graph
    prepared: Any  # Report of the passes before


@dataclass
class Prepared:
    """A float graph in the form that is quantized, the report of the passes, the first samples for repairs, the stream of all
    samples (to be read once), notes for people."""

    graph: Graph
    told: Any
    first: list[Feeds]
    data: Iterable[Feeds]
    notes: list[str]


@dataclass
class Calibrated:
    """A float graph, repaired and observed: :meth:`apply` quantizes a copy of it, as often as wanted."""

    floats: Graph
    scheme: str
    options: dict[str, Any]
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)  # by name of the activation
    moments: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    count: int = 0
    keep: tuple[str, ...] = ()  # what the user keeps in float anyway

    def apply(self, keep_float: Iterable[str] = ()) -> tuple[Graph, Any]:
        """(quantized copy, Choices with what was done); nodes in ``keep_float`` stay, by name, output's name or op."""
        from deploykit.converters import quantize as q
        from deploykit.converters.ir import walk

        graph = walk.clone(self.floats)
        here = {v.name: v for v in [*graph.inputs, *(o for n in graph.nodes for o in n.outputs if o is not None)]}
        keep = (*self.keep, *keep_float)
        choices = q.Choices(self.scheme, keep_float=keep, **self.options)
        choices.moments = {here[k]: m for k, m in self.moments.items()}
        choices.counts.update(self.counts)
        if self.scheme in q.STATIC:
            groups = q.calibrate_values(graph, choices)
            q.quantize_static(graph, groups, {here[k]: r for k, r in self.ranges.items()}, choices)
        else:
            q.quantize_weights(graph, choices)
        return graph, choices


def _kept(keep_float: tuple[str, ...], source: Graph, prepared: Graph) -> list[str]:
    """Notes about names in ``keep_float`` whose nodes are gone; raises InputError for those that nothing ever had."""
    import difflib

    from deploykit.ops.core import REGISTRY

    def names(graph: Graph) -> set[str]:
        nodes = [n for g in graph.walk() for n in g.nodes]
        return {n.name for n in nodes} | {v.name for n in nodes for v in n.outputs if v is not None}

    now, before = names(prepared), names(source)
    for k in keep_float:
        if k not in now | before and k not in REGISTRY:
            near = difflib.get_close_matches(k, [*now, *REGISTRY], 3)
            hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            raise InputError(
                f"keep_float: there is no node, output or op '{k}'.{hint} `deploykit inspect MODEL --nodes` lists them."
            )
    gone = [k for k in keep_float if k not in now and k not in REGISTRY]
    return [f"keep_float: '{k}' was merged into another node and is not kept apart; name that one" for k in gone]


def quantize(
    graph: Graph,
    scheme: str,
    calibration: Any = None,
    *,
    observer: str = "mse",
    keep_float: Iterable[str] = (),
    repair: Iterable[str] | None = None,
    block_size: int = 32,
    portable: bool = False,
    read_file: Any = None,
    progress: Progress | None = None,
    choose: Choose | None = None,
    io_dtype: str = "float32",
) -> Quantized:
    """Quantize a graph from the importer; a copy of it is optimised as far as the quantizer wants it.

    ``portable``: for files of other formats, whose engines round where ours need not.  ``choose``: says which values stay
    float, from the calibrated model and samples, and what to report of that.  ``io_dtype``: "uint8" or "int8" inputs and
    outputs (int8 only).
    """
    from deploykit.converters import quantize as q

    if scheme == "auto":
        recurrent = choose is None and any(n.op in ("lstm", "gru", "rnn") for g in graph.walk() for n in g.nodes)
        scheme = "int8" if calibration is not None and not recurrent else "dynamic"
    check_request(graph, scheme, calibration, observer, block_size, io_dtype)
    repairs = _checked_repairs(repair, scheme, calibration)
    keep_float = tuple(keep_float)
    ready = prepare(graph, scheme, calibration, keep_float, read_file)
    prepared, first, data, notes = ready.graph, ready.first, ready.data, ready.notes
    options = {"observer": observer, "block_size": block_size, "portable": portable, "ends": io_dtype != "float32"}
    info: dict[str, Any] = {"scheme": scheme}
    if repairs is None:
        repairs, info["tried"] = _best_repairs(prepared, scheme, options, first)
    made = calibrated(prepared, scheme, options, repairs, first, data, progress)
    made.keep = keep_float
    keep: list[str] = []
    if choose is not None:
        keep, info["search"] = choose(made, first[:CHECKED])
    result, choices = made.apply(keep)
    if io_dtype != "float32":
        q.integer_interface(result, io_dtype)
        info["io_dtype"] = io_dtype
    if scheme in q.STATIC:
        info |= {"samples": made.count, "observer": observer}
    if scheme == "int16x8" and not portable:
        notes.append(
            "int16x8: our engine rounds between layers and computes them in float; for speed here take int8, or auto with "
            "a budget. As .tflite LiteRT computes it in integers."
        )
    notes += choices.notes
    if not choices.counts:
        none = "the model has no ops or weights that this scheme covers"
        slow = "no layer that is faster in int8 keeps the budget; quantize='fp16' halves the file"
        notes.append(f"nothing was quantized: {slow if keep else none}")
    info |= {"counts": dict(choices.counts), "notes": notes, "repairs": list(repairs)}
    return Quantized(result, info, first[:CHECKED], made.floats, ready.told)


def prepare(
    graph: Graph, scheme: str, calibration: Any, keep_float: tuple[str, ...] = (), read_file: Any = None
) -> Prepared:
    """Bring the graph into the form that is quantized, and open the calibration data; see :func:`check_request`."""
    from deploykit.converters.pipeline import PREPARE, optimize

    prepared, told = optimize(graph if scheme == "fp16" else widened(graph), stages=PREPARE)
    notes = _kept(keep_float, graph, prepared)
    if calibration is None:
        return Prepared(prepared, told, [], (), notes)
    specs = [TensorSpec(v.name, v.shape, v.dtype.name if v.dtype else "") for v in prepared.inputs]
    stream = itertools.islice(read(calibration, specs, read_file), SAMPLES)
    first = list(itertools.islice(stream, MOMENT_SAMPLES))
    if not first:
        raise InputError("calibration: the data is empty.")
    notes += suspicious(first, graph.metadata.get("preprocessing", {}))
    return Prepared(prepared, told, first, itertools.chain(first, stream), notes)


def widened(graph: Graph) -> Graph:
    """The graph with weights stored in 16 bits as float32 constants, in a copy if there are any: layers whose weights stand
    under a cast would stay float."""
    from deploykit import dtypes
    from deploykit.converters.ir import walk
    from deploykit.converters.ir.rewriter import Rewriter

    def narrow(n: Any) -> bool:
        x = n.inputs[0].data if n.op == "cast" and n.inputs[0] is not None else None
        return x is not None and x.dtype.name in ("float16", "bfloat16") and n.output.dtype is dtypes.float32

    if not any(narrow(n) for g in graph.walk() for n in g.nodes):
        return graph
    graph = walk.clone(graph)
    for g in graph.walk():
        rw = Rewriter(g)
        for n in rw.nodes():
            if narrow(n):
                rw.replace(n.output, rw.constant(n.inputs[0].data.astype(np.float32), n.inputs[0].name))  # type: ignore[union-attr]
        rw.commit()
    return graph


def calibrated(
    prepared: Graph,
    scheme: str,
    options: dict[str, Any],
    repairs: tuple[str, ...],
    first: list[Feeds],
    data: Iterable[Feeds],
    progress: Progress | None = None,
) -> Calibrated:
    """Repair a copy of a prepared graph and observe it on ``data``; ``first``: samples for repairs."""
    from deploykit.converters import quantize as q
    from deploykit.converters.ir import walk

    graph = walk.clone(prepared)
    made = Calibrated(graph, scheme, {**options, "repairs": repairs})
    if "equalize" in repairs:
        n = q.equalize(graph, _moments(graph, first, False) if first and scheme in q.STATIC else None)
        made.counts["pairs equalized"] = n
    if "smooth" in repairs:
        made.counts["norms smoothed"] = q.smooth(graph, _moments(graph, first, False)) if q.norms(graph) else 0
    made.counts = {k: n for k, n in made.counts.items() if n}
    if {"bias", "gptq", "round"} & set(repairs):
        made.moments = _named(_moments(graph, first, bool({"gptq", "round"} & set(repairs))))
    if scheme in q.STATIC:
        steps = 255 if scheme == "int8" else 65534
        made.ranges, made.count = _observe(graph, data, options["observer"], progress, steps)
    return made


def _best_repairs(
    prepared: Graph, scheme: str, options: dict[str, Any], first: list[Feeds]
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """The repairs whose quantized graph is nearest to the float one on samples, and what was tried."""
    from deploykit.converters.pipeline import optimize
    from deploykit.converters.quantize import weighed

    tried: list[dict[str, Any]] = []
    if scheme not in TRIED or not first or not any(weighed(n) for n in prepared.nodes):
        return (), tried
    some, others = first[:TRIAL_SAMPLES], first[TRIAL_SAMPLES : 3 * TRIAL_SAMPLES]
    judged = others if len(others) >= TRIAL_SAMPLES else first  # fewer others say less than all together
    wants: list[list[np.ndarray]] | None = None
    best: tuple[str, ...] = ()
    top: np.ndarray | None = None  # of the best so far, sample by sample
    made: Calibrated | None = None
    for repairs in TRIED[scheme]:
        if made is not None and repairs == (*made.options["repairs"], "bias"):  # same floats, same ranges
            own = {**made.options, "repairs": repairs}
            made = replace(made, options=own, moments=_named(_moments(made.floats, some, False)))
        else:
            made = calibrated(prepared, scheme, options, repairs, some, some)
        if repairs and not made.counts and not made.moments:
            continue  # nothing to repair by these
        wants = wants or outputs(prepared, judged)
        found = zip(wants, outputs(optimize(made.apply()[0])[0], judged), strict=True)  # in integers: that is faster
        db = np.array([np.mean(np.clip(outputs_db([w], [g]), -20, 80)) for w, g in found])
        tried.append({"repairs": list(repairs), "mean_output_db": float(db.mean())})
        if top is None or _wins(db - top):
            best, top = repairs, db
    return best, tried


def _wins(gains: np.ndarray) -> bool:
    """Whether gains on single samples, in dB, say that it is better, and not just that samples differ."""
    doubt = gains.std(ddof=1) / np.sqrt(gains.size) if gains.size > 1 else 0.0
    return bool(gains.mean() > max(WINS, 2 * doubt))


def outputs(graph: Graph, samples: list[Feeds]) -> list[list[np.ndarray]]:
    """Outputs of a graph on the engine, sample by sample."""
    session = _session(graph, False)
    return [session(*(feeds[v.name] for v in graph.inputs)) for feeds in samples]


def outputs_db(want: list[list[np.ndarray]], got: list[list[np.ndarray]]) -> list[float]:
    """Signal to noise of each output in dB; infinite without noise."""
    found = []
    for k in range(len(want[0])):
        a, b = (np.concatenate([x[k].reshape(-1).astype(np.float64) for x in side]) for side in (want, got))
        signal, noise = float((a * a).sum()), float(((a - b) ** 2).sum())
        if noise == 0:
            found.append(np.inf)
        else:
            found.append(float(10 * np.log10(signal / noise)) if signal > 0 and np.isfinite(noise) else -np.inf)
    return found


def check_request(
    graph: Graph, scheme: str, calibration: Any, observer: str, block_size: int = 32, io_dtype: str = "float32"
) -> None:
    """Raise InputError for what cannot be meant."""
    from deploykit.converters import quantize as q

    if scheme not in q.SCHEMES:
        raise InputError(f"quantize: got {scheme!r}, expected one of {', '.join(q.SCHEMES)}, auto.")
    if observer not in q.OBSERVERS:
        raise InputError(f"observer: got {observer!r}, expected one of {', '.join(q.OBSERVERS)}.")
    if any(n.op in ("quantize", "qconv", "qmatmul") for g in graph.walk() for n in g.nodes):
        raise InputError("this model is quantized already; convert it without quantize, its integers are kept.")
    if scheme in q.STATIC and calibration is None:
        raise InputError(
            f"{scheme} needs calibration data, real inputs such as the model will see: calibration='data.npz' (arrays by input "
            "name), a folder of images, or an iterable of samples. Without data use quantize='dynamic' or 'fp16'."
        )
    if io_dtype != "float32":
        if io_dtype not in q.IO_DTYPES:
            raise InputError(f"io_dtype: got {io_dtype!r}, expected float32, {', '.join(q.IO_DTYPES)}.")
        if scheme not in q.STATIC:
            raise InputError(
                f"io_dtype={io_dtype!r}: only quantize='int8' and 'int16x8' have integers at their ends, not {scheme!r}."
            )
        if (scheme == "int8") != (io_dtype != "int16"):
            raise InputError(f"io_dtype={io_dtype!r}: int8 models take uint8 or int8, int16x8 models int16.")
    if block_size not in (32, 64, 128):
        raise InputError(f"block_size: got {block_size}, expected 32, 64 or 128.")


def _checked_repairs(repair: Any, scheme: str, calibration: Any) -> tuple[str, ...] | None:
    """The repairs asked for; None when they are to be chosen by measuring."""
    from deploykit.converters.quantize import REPAIRS

    if repair is None:
        return None
    repairs = (repair,) if isinstance(repair, str) else tuple(repair)
    if repairs == ("none",):
        return ()
    takes = {"int8": REPAIRS, "int16x8": REPAIRS, "dynamic": ("equalize", "smooth"), "int4": ("gptq",)}
    for r in repairs:
        if r not in REPAIRS:
            raise InputError(f"repair: got {r!r}, expected any of {', '.join(REPAIRS)}, or none alone.")
        if r not in takes.get(scheme, ()):
            raise InputError(
                f"repair: {r!r} does nothing for {scheme}; it takes {', '.join(takes.get(scheme, ())) or 'none'}."
            )
    if calibration is None and set(repairs) - {"equalize"}:
        raise InputError(f"repair: {', '.join(repairs)}: needs calibration data, real inputs of the model.")
    if {"gptq", "round"} <= set(repairs):
        raise InputError("repair: gptq and round both choose the integers of weights; give one of them.")
    return repairs


def _session(graph: Graph, keep_values: bool = True) -> Any:
    from deploykit.graph.dkfile import to_bytes
    from deploykit.native import NativeModel, NativeSession

    return NativeSession(NativeModel(np.frombuffer(to_bytes(graph), np.uint8)), keep_values=keep_values)


_TWICE = 256 << 20  # bytes of one run's values up to which those of two runs are kept


def _watch(graph: Graph, data: Iterable[Feeds], watchers: dict[Value, Any], progress: Progress | None = None) -> int:
    """Run the graph on every sample and show each watcher (``see(array)``) its value, which it must not keep; returns the
    number of samples.  While one sample's values are looked at, the next one runs."""
    from concurrent.futures import Future, ThreadPoolExecutor

    from deploykit.native import NativeSession

    session, inputs, count = _session(graph), {v.name for v in graph.inputs}, 0
    spare: Any = None
    looked: Future[None] | None = None

    def look(at: Any, feeds: Feeds) -> None:
        for v, w in watchers.items():
            x = feeds[v.name] if v.name in inputs else at.value(v.name, copy=False)
            if x is not None:
                w.see(x)

    with ThreadPoolExecutor(1) as other:
        for count, given in enumerate(data, 1):
            feeds = {k: np.array(x) for k, x in given.items()}  # a generator may fill the same arrays again
            session(*(feeds[v.name] for v in graph.inputs))
            if looked is not None:
                looked.result()
            if count == 1 and not graph.variables and session.memory()["arena"] <= _TWICE:
                spare = NativeSession(session.model, keep_values=True)
            looked = other.submit(look, session, feeds)
            if spare is None:
                looked.result()
            else:
                session, spare = spare, session
            if progress is not None:
                progress(count)
        if looked is not None:
            looked.result()
    return count


def _moments(graph: Graph, samples: list[Feeds], second: bool) -> dict[Value, Any]:
    """Moments of every activation that a product with constant weights reads."""
    from deploykit.converters.quantize import Moments, weighed

    wanted = {
        n.inputs[0]: Moments(second)
        for n in graph.nodes
        if weighed(n) and n.inputs[0] is not None and not n.inputs[0].is_constant
    }
    _watch(graph, samples, wanted)
    return {v: m for v, m in wanted.items() if m.count}


def _named(moments: dict[Value, Any]) -> dict[str, Any]:
    return {v.name: m for v, m in moments.items()}


def _observe(
    graph: Graph, data: Iterable[Feeds], observer: str, progress: Progress | None, steps: int = 255
) -> tuple[dict[str, tuple[float, float]], int]:
    from deploykit.converters.quantize import Observer, observed_values

    seen = {v: Observer() for v in observed_values(graph)}
    count = _watch(graph, data, seen, progress)
    bad = [v.name for v, o in seen.items() if o.odd]
    if bad:
        raise InputError(
            f"calibration: the float model gives NaN or infinity in {', '.join(bad[:4])}; check the data's preprocessing."
        )
    return {v.name: o.range(observer, steps) for v, o in seen.items() if o.count}, count


# ---------------------------------------------------------------- how near is it?
class Floats:
    """A runner of a model with integer inputs and outputs, which takes and gives the floats that they stand for."""

    def __init__(self, runner: Any, graph: Graph) -> None:
        self._runner, self._scales = runner, scales_of(graph)
        self._dtypes = {v.name: v.dtype.name for v in graph.inputs if v.dtype is not None}

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name."""
        q = self._scales
        given = {k: q[k].quantize(x, self._dtypes[k]) if k in q else x for k, x in feeds.items()}
        return {k: q[k].dequantize(y) if k in q else y for k, y in self._runner.run(given).items()}


def scales_of(graph: Graph) -> dict[str, Quantization]:
    """Scale and zero point of every input and output that holds integers with one of each."""
    out = {}
    for name, v in [*((v.name, v) for v in graph.inputs), *zip(graph.public_outputs, graph.outputs, strict=True)]:
        q = v.quant
        if q is not None and q.axis is None and q.scale.size == 1 and q.zero_point.size == 1:
            out[name] = Quantization(float(q.scale.reshape(())), int(q.zero_point.reshape(())))
    return out


def check(reference: Any, converted: Any, samples: list[Feeds]) -> dict[str, Any]:
    """Source against quantized model on samples: per output the signal-to-noise ratio in dB, the largest difference, and
    how often the largest element of the last dim is the same."""
    rows: dict[str, dict[str, float]] = {}
    for feeds in samples:
        want, got = reference.run(feeds), converted.run(feeds)
        for k, w in want.items():
            a, b = w.astype(np.float64), got[k].astype(np.float64)
            r = rows.setdefault(k, dict(signal=0.0, noise=0.0, max_error=0.0, max_output=0.0, same=0.0, places=0.0))
            r["signal"] += float((a * a).sum())
            r["noise"] += float(((a - b) ** 2).sum())
            r["max_error"] = max(r["max_error"], float(np.abs(a - b).max(initial=0.0)))
            r["max_output"] = max(r["max_output"], float(np.abs(a).max(initial=0.0)))
            if a.ndim and a.shape[-1] > 1:
                same = a.argmax(-1) == b.argmax(-1)
                r["same"] += float(same.sum())
                r["places"] += float(same.size)
    out = []
    for k, r in rows.items():
        sqnr = 10 * np.log10(r["signal"] / r["noise"]) if r["noise"] > 0 and r["signal"] > 0 else float("inf")
        agreement = r["same"] / r["places"] if r["places"] else None
        out.append(
            {
                "name": k,
                "sqnr_db": float(sqnr),
                "max_error": r["max_error"],
                "max_output": r["max_output"],
                "agreement": agreement,
            }
        )
    return {"compared": len(samples), "outputs": out}
