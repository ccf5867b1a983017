"""Does a converted model give the answers of its source?  The check that ``convert`` ends with.

Source and result run on the same inputs.  Two right implementations of one network differ by rounding, and by how much
depends on the network: a bound fixed once would refuse good conversions or let bad ones through.  So an output may
differ by 1e-4 of its largest value, or by four times what rounding does to the source itself, whichever is larger.
That noise is measured, in this order, and only as far as needed:

1. the source's optimised kernels against its plain ones;
2. the source against itself with every float weight, input and inner result moved by a unit or two in the last place
   (stochastic arithmetic after Vignes, "A stochastic arithmetic for reliable scientific computation", 1993);
3. the source against its double-precision evaluation by onnx's reference evaluator, which also judges the result:
   it must be as close to the truth as the source is, times four.

Outputs of integer or bool type must be equal where the source's own do not change under 1 and 2; 8-bit outputs of
quantized models may be two steps off, and so may floats that are the dequantization of 8-bit numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.formats import IMPORTERS, KERAS, importer, kind_of_source
from deploykit.graph.ir import Graph

TOLERANCE = 1e-4  # of the largest |output|
NOISE = 4.0  # times the source's own rounding noise
STEPS = 2  # of an 8-bit output
WEAK = 0.05  # a bound above this fraction of the largest output proves little
PERTURBED = 3  # runs of the source with moved weights

Arrays = dict[str, np.ndarray]


@dataclass
class _Case:
    """One set of inputs: what the source gives, what the result gives, and what is known of the noise."""

    seed: int
    feeds: Arrays
    want: Arrays
    got: Arrays
    noise: dict[str, float]
    # what one 8-bit step is worth, for outputs that are dequantized
    steps: dict[str, float] = field(default_factory=dict)
    truth: Arrays | None = None

    def rows(self) -> list[dict[str, Any]]:
        return [self._row(k) for k in self.want]

    def _row(self, name: str) -> dict[str, Any]:
        from deploykit.runners import difference

        want, got, noise = self.want[name], self.got[name], self.noise[name]
        judge = "source"
        if want.dtype != got.dtype or want.shape != got.shape:
            error, scale, bound = float("inf"), 0.0, 0.0
        else:
            error, scale = difference(want, got)
            bound = max(_least_bound(want, scale), STEPS * self.steps.get(name, 0.0), NOISE * noise)
            if error > bound and self.truth is not None and name in self.truth:
                judge = "double precision"
                truth = self.truth[name]
                error = difference(truth, got)[0]
                least = max(_least_bound(want, scale), STEPS * self.steps.get(name, 0.0))
                bound = max(least, NOISE * difference(truth, want)[0])
        return {
            "name": name,
            "seed": self.seed,
            "dtype": [str(want.dtype), str(got.dtype)],
            "shape": [list(want.shape), list(got.shape)],
            "max_error": error,
            "max_output": scale,
            "noise": noise,
            "allowed": bound,
            "judge": judge,
            "weak": bool(bound > WEAK * scale and want.dtype.kind == "f" and want.size > 0),
            "ok": bool(error <= bound),
        }


def _least_bound(want: np.ndarray, scale: float) -> float:
    if want.dtype.kind in "biuO":
        return float(STEPS) if want.dtype.itemsize == 1 and want.dtype.kind != "b" else 0.0
    return TOLERANCE * scale


def check(
    src: Any,
    data: bytes | Path,
    kind: str,
    shapes: dict[str, list[int | str]] | None = None,
    inputs: list[Arrays] | None = None,
    seeds: int = 2,
    *,
    batch: int | None = None,
    moved: tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]] = ({}, {}),
) -> dict[str, Any]:
    """Compare a source model with the bytes (or, for ".dk", the file) it was converted to; ``kind`` is their suffix.

    ``inputs``: sets of inputs by name; made up from seeds where there are none.  Returns a dict: status ("passed",
    "failed", "skipped"), tool, reason, and per output and input set the largest difference and what is allowed.
    ``batch``: leading dim of made-up inputs.  ``moved``: perms from the source's inputs and outputs to the result's.
    Only outputs that both have are compared; those that both have must come in the same order.
    """
    from deploykit import runners

    if isinstance(src, Graph):
        return {"status": "skipped", "reason": "the source is a graph in memory"}
    reference = _source_runner(src)
    tool, sides = reference.tool, _names(reference)
    if batch is not None:
        shapes = {**_batched(reference.inputs, batch), **(shapes or {})}
    if not inputs and any(s.dtype == "string" for s in reference.inputs):
        reason = "made-up text says nothing; give real inputs with --inputs FILE.npz"
        return {"status": "skipped", "tool": tool, "reason": reason}
    asked = _inputs(reference, shapes, inputs, seeds)
    if asked:  # a sequence comes apart when it is seen
        sides = sides[0], list(asked[0][1])
    del reference  # a runtime holds the model once more: never two of them
    converted = runners.open_bytes(data, kind)
    if any(moved):
        converted = runners.MovedRunner(converted, *moved)
    shared = [n for n in sides[1] if n in _names(converted)[1]]
    if not shared:
        return {"status": "skipped", "tool": tool, "reason": "the result gives inner tensors only"}
    problem = _order(_names(converted), sides)
    if problem:
        return {"status": "failed", "tool": tool, "reason": problem, "outputs": []}
    cases: list[_Case] = []
    for seed, (feeds, all_) in enumerate(asked):
        want = {n: all_[n] for n in shared}
        cases.append(_Case(seed, feeds, want, _fresh(converted, feeds), dict.fromkeys(want, 0.0)))
    del converted
    if not cases:
        return {
            "status": "skipped",
            "tool": tool,
            "reason": "no sizes for the symbolic dims were found that the source accepts; give "
            "--input-shape NAME:1,3,224,224, or real inputs with --inputs FILE.npz",
        }

    def eight_bits(_: Any, cases: list[_Case]) -> None:
        steps = _steps(data, kind)
        for c in cases:
            c.steps = steps

    for measure in (eight_bits, _optimise, _perturb, _double):
        bad = [c for c in cases if not all(r["ok"] for r in c.rows())]
        if bad:
            measure(src, bad)
    rows = [r for c in cases for r in c.rows()]
    return {
        "status": "passed" if all(r["ok"] for r in rows) else "failed",
        "tool": tool,
        "inputs": {k: list(v.shape) for k, v in cases[-1].feeds.items()},
        "outputs": rows,
    }


def _steps(data: bytes | Path, kind: str) -> dict[str, float]:
    """The scale of every output of the result that is dequantized, or a reshaped or transposed such."""
    if kind != ".dk":
        return {}
    from deploykit.graph.dkfile import from_bytes, load

    graph = from_bytes(data) if isinstance(data, bytes) else load(data)
    steps = {}
    for name, v in zip(graph.public_outputs, graph.outputs, strict=True):
        n = v.producer
        while n is not None and n.op in ("reshape", "transpose", "slice", "concat") and n.inputs[0] is not None:
            n = n.inputs[0].producer
        if n is not None and n.op == "dequantize" and n.inputs[1] is not None and n.inputs[1].data is not None:
            steps[name] = float(n.inputs[1].data.max())
    return steps


def _names(runner: Any) -> tuple[list[str], list[str]]:
    return [s.name for s in runner.inputs], [s.name for s in runner.outputs]


def _order(ours: tuple[list[str], list[str]], theirs: tuple[list[str], list[str]]) -> str:
    """What is wrong with the names of the result's inputs and outputs, as its own runtime shows them, or ''."""
    if ours[0] != theirs[0]:
        return f"the result's inputs are {ours[0]}, those of the source {theirs[0]}"
    if set(ours[1]) == set(theirs[1]) and ours[1] != theirs[1]:
        return f"the result's outputs are {ours[1]}, those of the source {theirs[1]}"
    return ""


def _batched(specs: Any, batch: int) -> dict[str, list[int | str]]:
    """Shapes of the inputs with a fixed leading dim, open dims by their symbols."""
    return {s.name: [batch, *(d if isinstance(d, int) else str(d) for d in s.shape[1:])] for s in specs if s.shape}


def failure(v: dict[str, Any]) -> str:
    """What a failed check says."""
    if not v["outputs"]:
        return f"{v['reason']}. Nothing was written. Please report it."
    bad = [r for r in v["outputs"] if not r["ok"]]
    r = bad[0]
    return (
        f"the converted model does not agree with its source (run by {v['tool']}): {len(bad)} of {len(v['outputs'])} "
        f"outputs differ; '{r['name']}': largest difference {r['max_error']:.3g} from {r['judge']}, allowed "
        f"{r['allowed']:.3g}, dtype {r['dtype'][1]} for {r['dtype'][0]}, shape {r['shape'][1]} for {r['shape'][0]}. "
        "Nothing was written. Find the first wrong tensor with `deploykit convert --no-verify` and `deploykit compare`."
    )


def _fresh(runner: Any, feeds: Arrays) -> Arrays:
    """A run from the initial state."""
    runner.reset()
    return runner.run(feeds)


def _inputs(reference: Any, shapes: Any, inputs: list[Arrays] | None, seeds: int) -> list[tuple[Arrays, Arrays]]:
    from deploykit import runners

    if inputs:
        return [(feeds, _fresh(reference, feeds)) for feeds in inputs]
    found = (runners.working_inputs(reference, seed, shapes) for seed in range(seeds))
    return [f for f in found if f is not None]


def _source_runner(src: Any, optimise: bool = False) -> Any:
    """The source by its plain kernels; ``optimise``: by its optimised ones, None where there is no such choice."""
    from deploykit import runners

    kind = kind_of_source(src)
    if optimise and kind not in (".tflite", ".onnx"):
        return None
    if kind in KERAS:
        return runners.KerasRunner(src)
    if kind == ".json":
        return runners.open_tfjs(Path(src))
    if kind == ".pt2":
        return runners.TorchRunner(src)
    model: Path | bytes
    if isinstance(src, (str, os.PathLike)):
        model = Path(src)
    else:
        model = src if isinstance(src, bytes) else src.SerializeToString()
    if kind == ".dk":
        return runners.DkRunner(model)
    if kind == ".tflite":
        found = runners.open_tflite(model, 2) if optimise else runners.open_tflite(model, 1, optimize=False)
        return None if optimise and not isinstance(found, runners.LiteRtRunner) else found
    onnx = runners.open_onnx(model, 1, optimize=optimise)
    return None if optimise and not isinstance(onnx, runners.OnnxRuntimeRunner) else onnx


def _optimise(src: Any, cases: list[_Case]) -> None:
    """Raise the noise of the cases to what the source's optimised kernels differ from its plain ones."""
    runner = _source_runner(src, optimise=True)
    for c in cases if runner is not None else ():
        try:
            again = _noise(c.want, _fresh(runner, c.feeds))
        except RuntimeError:  # a delegate that does not take these shapes
            return
        c.noise = {n: max(x, again[n]) for n, x in c.noise.items()}


def _noise(a: Arrays, b: Arrays) -> dict[str, float]:
    from deploykit.runners import difference

    return {k: difference(a[k], b[k])[0] if a[k].dtype.kind != "b" else float((a[k] != b[k]).any()) for k in a}


def _perturb(src: Any, cases: list[_Case]) -> None:
    """Raise the noise of the cases to what moved weights do to the source's outputs."""
    from deploykit import onnx_source, runners

    if kind_of_source(src) != ".onnx":
        _perturb_graph(src, cases)
        return
    for k in range(PERTURBED):
        model = onnx_source.perturbed(src, k)
        if model is None:
            return
        runner = runners.open_onnx(model, 1, optimize=False)
        for c in cases:
            moved = {n: onnx_source.move(x, k) for n, x in c.feeds.items()}
            again = _noise(c.want, runner.run(moved))
            c.noise = {n: max(v, again[n]) for n, v in c.noise.items()}


def _perturb_graph(src: Any, cases: list[_Case]) -> None:
    """The same for sources of other formats, by the references on what was imported: moved weights and inputs."""
    from deploykit import onnx_source, runners

    kind = kind_of_source(src)
    if kind not in IMPORTERS:
        return
    graph = importer(kind)(src)
    plain = runners.ReferenceRunner(graph, "")
    wants = [_fresh(plain, c.feeds) for c in cases]
    places = [(v, v.data) for g in graph.walk() for v in g.constants()]
    for k in range(PERTURBED):
        for i, (v, data) in enumerate(places):
            v.data = onnx_source.move(data, k + 1000 * i)
        for c, want in zip(cases, wants, strict=True):
            moved = {n: onnx_source.move(x, k) for n, x in c.feeds.items()}
            again = _noise(want, _fresh(plain, moved))
            c.noise = {n: max(v, again[n]) for n, v in c.noise.items()}


def _double(src: Any, cases: list[_Case]) -> None:
    """Add the double-precision truth to the cases, where the reference evaluator can run the source."""
    from deploykit import onnx_source

    run: Callable[[Arrays], Arrays] | None = onnx_source.in_double(src)
    for c in cases if run is not None else ():
        try:
            c.truth = run(c.feeds)  # type: ignore[misc]
        except Exception:  # ops that the evaluator does not know, or not in double: it raises whatever it likes
            return
