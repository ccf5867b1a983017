"""The way of a graph through the passes: verify, optimise, check each step, record what happened.

``optimize`` never changes the graph it is given.  Equal graphs give equal results, also in another process: no pass
depends on the order of ids or hashes, and names made up on the way are numbered anew at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from deploykit.converters.ir import verify as checks
from deploykit.converters.ir import walk
from deploykit.converters.passes import (
    cheaper_forms,
    common_subexpressions,
    dead_code,
    flatten_matmul,
    fold_affine,
    fold_constants,
    fold_forward,
    fold_pads,
    fold_quantized,
    fuse_activations,
    fuse_attention,
    fuse_dynamic,
    fuse_epilogue,
    fuse_norms,
    fuse_quantized,
    fuse_training,
    fuse_weight_only,
    layout,
    simplify,
)
from deploykit.converters.report import PassReport, Report, Transpose
from deploykit.errors import DeploykitError, VerifyError
from deploykit.graph import Dim, Graph
from deploykit.graph.verify import enabled, verify_graph


@dataclass(frozen=True)
class Pass:
    """A named graph rewrite: ``run`` edits in place and returns counts; ``tolerance`` says how exact it is."""

    name: str
    run: Callable[[Graph], dict[str, int]]
    tolerance: str = "exact"


def from_module(module: ModuleType) -> Pass:
    """The pass that a file in ``passes/`` holds."""
    return Pass(module.__name__.rsplit(".", 1)[-1], module.run, module.TOLERANCE)


_PASSES = (fold_constants, simplify, common_subexpressions, dead_code)
CLEAN = tuple(map(from_module, _PASSES))
FIND = tuple(map(from_module, (fuse_activations, fuse_norms, fuse_attention)))
FOLD = (fold_affine, fold_pads, fold_forward, flatten_matmul)
FUSE = tuple(map(from_module, (*FOLD, fuse_epilogue, fuse_training, cheaper_forms)))
LAYOUT = (from_module(layout),)
INTEGERS = (*map(from_module, (fold_pads, fuse_quantized, fuse_dynamic)), *CLEAN)
WEIGHTS = (from_module(fold_quantized),)
NARROW = (from_module(fuse_weight_only),)
STAGES: tuple[tuple[Pass, ...], ...] = (
    CLEAN,
    (*FIND, *CLEAN),
    LAYOUT,
    INTEGERS,
    WEIGHTS,
    (*FUSE, *CLEAN),
    LAYOUT,
    NARROW,
    CLEAN,
)
# For formats that say quantization by quantize and dequantize nodes: these stay, on weights too.
PORTABLE: tuple[tuple[Pass, ...], ...] = tuple(s for s in STAGES if s not in (INTEGERS, WEIGHTS, NARROW))
# What the quantizer starts from: a float graph with batch norms folded and its layout settled, nothing fused yet.
PREPARE: tuple[tuple[Pass, ...], ...] = (
    CLEAN,
    (*FIND, *CLEAN),
    LAYOUT,
    (*map(from_module, FOLD), *CLEAN),
    LAYOUT,
    CLEAN,
)
# For graphs traced from our own code, which are channels last already: on a training step of thousands of nodes the
# search for a layout would take half a minute and find nothing.
TRACED: tuple[tuple[Pass, ...], ...] = (CLEAN, (*FIND, *CLEAN), (*FUSE, *CLEAN), CLEAN)
ROUNDS = 8  # a stage repeats until nothing changes, at most so often


def optimize(
    graph: Graph,
    *,
    verify: bool = False,
    runner: checks.Runner | None = None,
    inputs: Sequence[Mapping[str, np.ndarray]] | None = None,
    dims: Mapping[str, int] | None = None,
    stages: Sequence[Sequence[Pass]] = STAGES,
) -> tuple[Graph, Report]:
    """Optimise a copy of ``graph``; returns it with the report of what was done.

    With ``verify`` the graph is run before and after each pass that changed something, on ``inputs`` or on seeded ones
    (``dims`` gives the sizes of symbolic dims), by ``runner`` (default: the NumPy references); VerifyError names the
    pass and the first tensor that differs.  With ``DK_CHECK=1`` in the environment the graph's legality is checked
    after each pass.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2,))
    >>> g, report = optimize(b.output(b.op("mul", x, b.op("exp", np.float32(0))), "y"))
    >>> report.nodes_before, report.nodes_after
    (2, 0)
    """
    started = time.perf_counter()
    verify_graph(graph, when="import")
    out = walk.clone(graph)
    walk.freeze_names(out)
    report = Report(ops_before=walk.op_counts(out), weight_bytes_before=walk.weight_bytes(out))
    if enabled():
        checks.check_graph(out, when="import")
    witness = _Witness(out, runner, inputs, dims, report) if verify else None
    records: dict[str, PassReport] = {}
    edits = 0
    settled: dict[str, tuple[int, int]] = {}  # the state of the graph in which a pass found nothing to do
    for stage in stages:
        for _ in range(ROUNDS):
            before = edits
            for p in stage:
                if settled.get(p.name) == (edits, len(out.nodes)):
                    continue
                found = _run(p, out, records, witness)
                edits += found
                if not found:
                    settled[p.name] = (edits, len(out.nodes))
            if edits == before:
                break
    canonical_dims(out)
    verify_graph(out, when="the passes")
    report.passes = list(records.values())
    report.ops_after, report.weight_bytes_after = walk.op_counts(out), walk.weight_bytes(out)
    report.transposes = transposes(out)
    report.notes += [
        f"{n} quantize or dequantize nodes are left at {why}" for why, n in fuse_quantized.leftovers(out).most_common()
    ]
    report.seconds = time.perf_counter() - started
    report.graph = out
    return out, report


def _run(p: Pass, graph: Graph, records: dict[str, PassReport], witness: _Witness | None) -> int:
    record = records.setdefault(p.name, PassReport(p.name))
    before = walk.clone(graph) if witness is not None else None
    started = time.perf_counter()
    counts = {k: n for k, n in p.run(graph).items() if n}
    record.seconds += time.perf_counter() - started
    record.runs += 1
    for k, n in counts.items():
        record.counts[k] = record.counts.get(k, 0) + n
    if enabled():
        checks.check_graph(graph, when=f"pass {p.name}")
    if counts and witness is not None and before is not None:
        record.checked += witness.check(p, before, graph)
    return sum(counts.values())


class _Witness:
    """Runs both sides of a rewrite on the same inputs."""

    def __init__(
        self,
        graph: Graph,
        runner: checks.Runner | None,
        inputs: Sequence[Mapping[str, np.ndarray]] | None,
        dims: Mapping[str, int] | None,
        report: Report,
    ) -> None:
        self.runner = runner or checks.run_reference
        self.inputs: list[Mapping[str, np.ndarray]] = list(inputs or [])
        if self.inputs:
            return
        reason = ""
        for unknown in (8, 32, 64, 160):  # a model may demand a least size, or a multiple
            try:
                trial = checks.make_inputs(graph, dims=dims, unknown=unknown)
                self.runner(graph, trial)
            except (DeploykitError, ValueError, IndexError, ArithmeticError) as e:
                reason = reason or str(e)
                continue
            self.inputs = [trial]
            return
        report.notes.append(f"rewrites were not checked by running them: no made-up input fits ({reason})")

    def check(self, p: Pass, before: Graph, after: Graph) -> int:
        """1 when compared, 0 when there was nothing to compare on; raises VerifyError on a difference."""
        for given in self.inputs:
            wrong = checks.compare(before, after, given, tolerance=p.tolerance, runner=self.runner)
            if wrong is not None:
                raise VerifyError(
                    f"pass {p.name} changed the result of {wrong} (class {p.tolerance}). "
                    "Please report this with the model; converting without verifying would keep the fault."
                )
        return int(bool(self.inputs))


def transposes(graph: Graph) -> list[Transpose]:
    """The transposes in a graph that move elements, bodies included, with the bytes they move."""
    out = []
    for g in graph.walk():
        readers = g.consumers()
        for n in g.nodes:
            if n.op == "transpose":
                v = n.output
                perm = tuple(walk.attr(n, "perm")) or tuple(reversed(range(v.rank or 0)))
                reader = next((r.name or r.op for r in readers.get(v, [])), "output")
                out.append(Transpose(v.name, perm, walk.estimated_bytes(v), reader))
    return out


def canonical_dims(graph: Graph) -> None:
    """Number the nameless symbolic dims by first appearance: fresh dims count up for as long as a process lives.

    The new prefix keeps them apart from dims that are made fresh after the graph was written and read again.
    """
    names: dict[str, int] = {}
    values = []
    for g in graph.walk():
        for v in [*g.inputs, *(o for n in g.nodes for o in n.outputs if o is not None), *g.outputs]:
            values.append(v)
            for d in v.shape or ():
                for name in sorted(getattr(d, "names", ()), key=_natural):
                    if name.startswith("?"):
                        names.setdefault(name, len(names))
    env: dict[str, int | Dim] = {k: Dim.symbol(f"?d{i}") for k, i in names.items()}
    seen = set()
    for v in values:
        if v not in seen and v.shape is not None:
            seen.add(v)
            v.shape = tuple(d.subs(env) if isinstance(d, Dim) else d for d in v.shape)


def _natural(name: str) -> tuple[int, str]:
    """?u2 before ?u10: names of one dim in the order in which they were made."""
    digits = "".join(c for c in name if c.isdigit())
    return int(digits or 0), name
