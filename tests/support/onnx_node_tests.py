"""ONNX's own node tests, run whole: model -> importer -> a runner -> the outputs the suite expects.

    python -m tests.support.onnx_node_tests --runner engine --table conformance.md

Which cases count.  ``collect_testcases`` of onnx 1.23.2 makes 1,884 node cases.  *Counted* are those whose inputs and
outputs are all plain tensors (not sequences, optionals or strings) of types NumPy has natively (bool, the integers of
8 to 64 bits, float16, float32, float64), and whose model imports only the released domains ``ai.onnx`` and
``ai.onnx.ml``: 1,605 + 4 = 1,609.  Run but not counted: 191 cases with bfloat16, float8, float4, and 4- and 2-bit
integers, and 29 of the preview domains (22 ``ai.onnx.preview``, 7 ``ai.onnx.preview.training``).  Apart
(``collect(others=True)``): 26 with strings and 29 whose inputs or outputs are not tensors.

A case passes when every output has the expected dtype and shape and agrees within the suite's own tolerances.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.support.onnx_nodes import settled

NATIVE = frozenset(
    getattr(TensorProto, t)
    for t in "FLOAT DOUBLE FLOAT16 INT8 UINT8 INT16 UINT16 INT32 UINT32 INT64 UINT64 BOOL".split()
)
RELEASED = frozenset(["", "ai.onnx", "ai.onnx.ml"])
EXCEPTIONS = Path(__file__).parents[1] / "converters" / "onnx_node_exceptions.txt"
PASSED, FAILED, UNSUPPORTED = "passed", "failed", "not supported"

# (model) -> (inputs by name) -> outputs in order; the first call may refuse with UnsupportedError
Runner = Callable[[onnx.ModelProto], Callable[[dict[str, np.ndarray]], list[Any]]]


@dataclass(frozen=True)
class NodeCase:
    """One case of the suite: ``op`` is the op under test, also for cases expanded into a function body."""

    name: str
    op: str
    model: onnx.ModelProto
    data_sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float
    counted: bool


@dataclass(frozen=True)
class Result:
    """What became of a case; ``reason`` is empty when it passed."""

    name: str
    op: str
    status: str
    reason: str = ""


def _array(x: Any) -> Any:
    """A tensor as an array; sequences stay lists and the empty optional None."""
    if x is None or isinstance(x, list):
        return x if x is None else [_array(v) for v in x]
    return numpy_helper.to_array(x) if isinstance(x, TensorProto) else np.asarray(x)


@functools.cache
def collect(counted_only: bool = False, others: bool = False) -> tuple[NodeCase, ...]:
    """All cases whose inputs and outputs are tensors of numbers, in name order; ``others``: those that these are not."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    ops: dict[str, str] = {}
    for t in tests:
        nodes = t.model.graph.node
        ops[t.name] = nodes[-1].op_type if len(nodes) else "empty"
    out = []
    for t in tests:
        infos = [*t.model.graph.input, *t.model.graph.output]
        types = {v.type.tensor_type.elem_type for v in infos}
        numbers = all(v.type.WhichOneof("value") == "tensor_type" for v in infos) and TensorProto.STRING not in types
        if numbers == others:
            continue
        counted = numbers and types <= NATIVE and all(o.domain in RELEASED for o in t.model.opset_import)
        if counted_only and not counted:
            continue
        base = re.sub(r"_expanded.*$", "", t.name)
        out.append(NodeCase(t.name, ops.get(base, ops[t.name]), t.model, t.data_sets, t.rtol, t.atol, counted))
    return tuple(sorted(out, key=lambda c: c.name))


# ---- runners
def reference_runner(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], list[Any]]:
    """Importer, then the NumPy references of the passports."""
    from deploykit.converters.importers.onnx import import_onnx
    from deploykit.ops.reference import run_graph

    graph = import_onnx(model)
    return lambda inputs: run_graph(graph, inputs)


def engine_runner(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], list[Any]]:
    """The product: convert to .dk bytes, load them in the native engine; no reference anywhere."""
    from deploykit.converters.importers.onnx import import_onnx
    from deploykit.converters.pipeline import optimize
    from deploykit.graph.dkfile import to_bytes
    from deploykit.interpreter import Interpreter

    graph, _ = optimize(import_onnx(model))
    session = Interpreter(to_bytes(graph), threads=1)
    parts = session.metadata.get("sequences", {})

    def run(inputs: dict[str, np.ndarray]) -> list[Any]:
        got = session.run(inputs)
        names = [o.name for o in model.graph.output]
        return [[got[f"{n}_{i}"] for i in range(parts[n])] if n in parts else got[n] for n in names]

    return run


def onnxruntime_runner(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], list[Any]]:
    """The same model, as it is, in onnxruntime on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # pybind exceptions have no common base
        raise NotImplementedError(str(e).splitlines()[0]) from None
    return lambda inputs: session.run(None, inputs)


RUNNERS: dict[str, Runner] = {
    "reference": reference_runner,
    "engine": engine_runner,
    "onnxruntime": onnxruntime_runner,
}


# ---- running and comparing
def run_case(case: NodeCase, runner: Runner) -> Result:
    """Run one case; never raises."""
    from deploykit.errors import UnsupportedError

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            run = runner(case.model)
            for given, expected in case.data_sets:
                inputs = {v.name: _array(x) for v, x in zip(case.model.graph.input, given, strict=False)}
                got, want = list(run(inputs)), [_array(x) for x in expected]
                if case.op in ("Cast", "CastLike"):
                    want = [settled(case.op, _array(given[0]), np.asarray(got[0]), want[0])]
                problem = difference(got, want, case.rtol, case.atol)
                if problem:
                    return Result(case.name, case.op, FAILED, problem)
    except (UnsupportedError, NotImplementedError) as e:
        return Result(case.name, case.op, UNSUPPORTED, _line(e))
    except Exception as e:
        return Result(case.name, case.op, FAILED, f"{type(e).__name__}: {_line(e)}")
    return Result(case.name, case.op, PASSED)


def _line(e: BaseException) -> str:
    return " ".join(str(e).split())[:400]


def difference(got: Iterable[Any], want: list[Any], rtol: float, atol: float) -> str:
    """What is wrong with the outputs, or ''.  An output may be a sequence of arrays, or None."""
    got = list(got)
    if len(got) != len(want):
        return f"{len(got)} outputs, expected {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        if w is None or isinstance(w, list):
            if type(g) is not type(w) or (w is not None and (why := difference(g, w, rtol, atol))):
                return f"output {i}, a {'sequence: ' + why if w is not None and g is not None else 'missing optional'}"
            continue
        g = np.asarray(g)
        if w.dtype.kind in "OSUT":
            texts = [[v.decode() if isinstance(v, bytes) else str(v) for v in x.ravel()] for x in (g, w)]
            if g.shape != w.shape or texts[0] != texts[1]:
                return f"output {i} is {texts[0]} of shape {g.shape}, expected {texts[1]} of {w.shape}"
            continue
        if g.dtype != w.dtype:
            return f"output {i} is {g.dtype}, expected {w.dtype}"
        if g.shape != w.shape:
            return f"output {i} has shape {g.shape}, expected {w.shape}"
        a, b = (x.astype(np.float64) if x.dtype.kind not in "biu" else x for x in (g, w))
        try:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
        except AssertionError as e:
            lines = [s for s in str(e).splitlines() if "Mismatch" in s or "Max" in s or "nan" in s]
            return f"output {i} differs: " + "; ".join(lines)
    return ""


def run_all(runner: Runner, cases: Iterable[NodeCase]) -> list[Result]:
    """Run many cases, in order."""
    return [run_case(c, runner) for c in cases]


# ---- reports
def table(results: Iterable[Result], reasons: dict[str, str] | None = None) -> str:
    """Markdown: passed / failed / not supported by op, then the cases that do not pass, with the listed reasons."""
    results = list(results)
    by_op: dict[str, Counter[str]] = defaultdict(Counter)
    for r in results:
        by_op[r.op][r.status] += 1
    lines = [f"| op | cases | {PASSED} | {FAILED} | {UNSUPPORTED} |", "|" + " --- |" * 5]

    def row(op: str, c: Counter[str]) -> str:
        return "| " + " | ".join([op, str(sum(c.values())), *(str(c[s]) for s in (PASSED, FAILED, UNSUPPORTED))]) + " |"

    lines += [row(op, by_op[op]) for op in sorted(by_op)]
    lines.append(row("**all**", Counter(r.status for r in results)))
    rest = [r for r in results if r.status != PASSED]
    if rest:
        known = {k.rstrip("?"): v for k, v in (reasons or {}).items()}
        lines += ["", "Not passing:", ""]
        lines += [f"- `{r.name}`, {r.status}: {known.get(r.name) or r.reason}" for r in rest]
    return "\n".join(lines) + "\n"


def read_exceptions(path: Path = EXCEPTIONS) -> dict[str, str]:
    """The committed list: ``case: reason`` per line, # starts a comment; ``case?`` may pass or not."""
    out = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            name, _, reason = line.partition(":")
            out[name.strip()] = reason.strip()
    return out


DOCS = EXCEPTIONS.parents[2] / "docs" / "onnx-conformance.md"
_PAGE = """# ONNX conformance

The node tests of onnx {onnx} (`onnx.backend.test`), run through importer, passes, `.dk` bytes and the native engine.
{counted:,} cases count: inputs and outputs are plain tensors of types NumPy has natively, and the model imports only the
released domains `ai.onnx` and `ai.onnx.ml`. **{ours:,} pass here, {theirs:,} in onnxruntime {ort}** in the same run, with
the suite's own tolerances. Of all {all:,} cases with tensors of numbers (bfloat16, float8, 4 and 2 bits and the preview
domains included) {ours_all:,} pass here, {theirs_all:,} in onnxruntime. **Of the whole suite, {whole:,} cases with strings,
sequences and optionals, {ours_whole:,} ({percent:.1f} %) pass here, {theirs_whole:,} in onnxruntime.**

Written by `python -m tests.support.onnx_node_tests --docs`; `tests/converters/test_onnx_node.py` holds the engine to it
and to the list of exceptions, `tests/converters/onnx_node_exceptions.txt`.

"""


def write_docs() -> None:
    """Run everything on the engine and onnxruntime and write docs/onnx-conformance.md."""
    import onnxruntime

    cases, reasons = collect(), read_exceptions()
    counted = {c.name for c in cases if c.counted}
    lucky = {n.rstrip("?") for n in reasons if n.endswith("?")}  # fresh random numbers: never counted as passed
    ours = [replace(r, status=FAILED) if r.name in lucky else r for r in run_all(engine_runner, cases)]
    theirs = run_all(onnxruntime_runner, cases)
    ours_others, theirs_others = (run_all(r, collect(others=True)) for r in (engine_runner, onnxruntime_runner))

    def passed(results: list[Result], only: bool) -> int:
        return sum(r.status == PASSED and (not only or r.name in counted) for r in results)

    page = _PAGE.format(
        onnx=onnx.__version__, ort=onnxruntime.__version__, counted=len(counted), all=len(cases),
        ours=passed(ours, True), theirs=passed(theirs, True),
        ours_all=passed(ours, False), theirs_all=passed(theirs, False), whole=len(cases) + len(ours_others),
        ours_whole=passed(ours + ours_others, False), theirs_whole=passed(theirs + theirs_others, False),
        percent=100 * passed(ours + ours_others, False) / (len(cases) + len(ours_others)),
    )  # fmt: skip
    page += table((r for r in ours if r.name in counted), reasons)
    page += "\nNot passing among narrow types and preview domains:\n\n" + "".join(
        f"- `{r.name}`, {r.status}: {reasons.get(r.name) or reasons.get(r.name + '?') or r.reason}\n"
        for r in ours if r.status != PASSED and r.name not in counted
    )  # fmt: skip
    page += "\nNot passing among strings, sequences and optionals (what the importer says):\n\n" + "".join(
        f"- `{r.name}`, {r.status}: {r.reason.partition('problem: ')[2] or r.reason.partition('problems: ')[2] or r.reason}\n"
        for r in ours_others if r.status != PASSED
    )  # fmt: skip
    DOCS.write_text(page, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("--runner", choices=RUNNERS, default="engine")
    p.add_argument("--only", default="", help="regular expression on case names")
    p.add_argument("--uncounted", action="store_true", help="also narrow types and preview domains")
    p.add_argument("--against", action="store_true", help="also run onnxruntime")
    p.add_argument("--table", help="write the Markdown table here")
    p.add_argument("-v", "--verbose", action="store_true", help="print every case that does not pass")
    p.add_argument("--docs", action="store_true", help="write docs/onnx-conformance.md and exit")
    a = p.parse_args(argv)
    if a.docs:
        write_docs()
        return 0
    cases = [c for c in collect(not a.uncounted) if re.search(a.only, c.name)]
    start = time.perf_counter()
    results = run_all(RUNNERS[a.runner], cases)
    seconds = time.perf_counter() - start
    other = run_all(onnxruntime_runner, cases) if a.against else None
    if a.table:
        Path(a.table).write_text(table(results, read_exceptions()), encoding="utf-8")
    if a.verbose:
        for r in results:
            if r.status != PASSED:
                print(f"{r.name} ({r.op}), {r.status}: {r.reason}")
    count = Counter(r.status for r in results)
    print(f"{a.runner}: {count[PASSED]} of {len(results)} passed, {count[FAILED]} failed, "
          f"{count[UNSUPPORTED]} not supported, {seconds:.1f} s")  # fmt: skip
    if other is not None:
        print(f"onnxruntime: {sum(r.status == PASSED for r in other)} passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
