"""Checks with passports: is a graph legal, and does a rewritten graph still compute the same?

``check_graph`` adds to the structural verifier what only passports know: ops, attrs, operands, shape rules, bodies.
``compare`` runs two graphs on the same inputs, and where they differ finds the first tensor, by name, that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from deploykit.converters.ir import walk
from deploykit.errors import DeploykitError, ShapeError
from deploykit.graph import Dim, Graph, Node, Value
from deploykit.graph.verify import verify_graph
from deploykit.ops import REGISTRY, infer_node
from deploykit.ops.infer import declare_variables, spec_of

Arrays = dict[str, np.ndarray]
Runner = Callable[[Graph, Mapping[str, np.ndarray]], Arrays]
"""Runs a graph: public input names to arrays in, public output names to arrays out."""

# Largest error allowed, in units of the dtype's epsilon times the largest magnitude of the tensor.  float: rounding
# may differ in every op of a deep graph; loose: approximations were exchanged (erf against tanh, reciprocals).
TOLERANCE = {"exact": 0.0, "float": 1024.0, "loose": 65536.0}


def run_reference(graph: Graph, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """The default runner: the passports' NumPy references."""
    from deploykit.ops.reference import run_graph

    return dict(zip(graph.public_outputs, run_graph(graph, inputs), strict=True))


# ---------------------------------------------------------------- legality
def check_graph(graph: Graph, *, when: str = "", shapes: bool = True) -> None:
    """Raise GraphError unless the graph is legal: structure, ops, attrs, operands, bodies, and (``shapes``) dtypes and
    shapes that agree with the passports' shape rules."""
    with declare_variables(graph.variables):
        verify_graph(graph, when=when, node_check=lambda n: _node(n, shapes))


def _node(n: Node, shapes: bool) -> Iterator[str]:
    where = f"{n.op} '{n.name}'" if n.name else f"{n.op}"
    op = REGISTRY.get(n.op)
    if op is None:
        yield f"no op '{n.op}'"
        return
    try:
        op.complete(n.attrs)
        op.check_inputs(len(n.inputs), lambda i: n.inputs[i] is None)
    except DeploykitError as e:
        yield e.message.rstrip(".")
        return
    if not any(r.variadic for r in op.results) and len(n.outputs) > len(op.results):
        yield f"{where}: {len(n.outputs)} outputs, expected at most {len(op.results)}"
    yield from _bodies(n, where)
    if not shapes or op.infer is None or any(v is not None and v.dtype is None for v in n.inputs):
        return
    try:
        outs = infer_node(n, [spec_of(v) for v in n.inputs])
    except ShapeError as e:
        yield e.message.rstrip(".")
        return
    for v, s in zip(n.outputs, outs, strict=False):
        if v is not None and (v.dtype is not s.dtype or not compatible(v.shape, s.shape)):
            yield f"{where}: '{v.name}' says {v.dtype}{v.shape}, its shape rule {s.dtype}{s.shape}"


def _bodies(n: Node, where: str) -> Iterator[str]:
    if n.op == "if":
        for key in ("then_graph", "else_graph"):
            g = n.attrs[key]
            if len(g.inputs) != len(n.inputs) - 1 or len(g.outputs) != len(n.outputs):
                yield (
                    f"{where}: {key} has {len(g.inputs)} inputs and {len(g.outputs)} outputs, expected "
                    f"{len(n.inputs) - 1} and {len(n.outputs)}"
                )
    elif n.op == "loop":
        g, carried = n.attrs["body"], n.attrs["carried"]
        if len(g.inputs) != len(n.inputs) or len(g.outputs) != len(n.outputs) + 1 or carried > len(n.outputs):
            yield (
                f"{where}: body has {len(g.inputs)} inputs and {len(g.outputs)} outputs, expected {len(n.inputs)} and "
                f"{len(n.outputs) + 1} ({carried} carried)"
            )


def compatible(a: tuple | None, b: tuple | None) -> bool:
    """Whether two shapes may describe one tensor: no two different numbers in one place."""
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(
        x == y or isinstance(x, Dim) or isinstance(y, Dim) for x, y in zip(a, b, strict=True)
    )


# ---------------------------------------------------------------- equal results
def make_inputs(graph: Graph, *, seed: int = 0, dims: Mapping[str, int] | None = None, unknown: int = 8) -> Arrays:
    """Seeded arrays for a graph's inputs: normal floats, small integers, random bools.

    ``dims`` fixes symbolic dims by name; the others become ``unknown`` (1 for names that say batch).
    """
    rng = np.random.default_rng(seed)
    out = {}
    for v in graph.inputs:
        if v.dtype is None or v.shape is None:
            raise ShapeError(f"input '{v.name}' has no known dtype or rank, so no test data can be made for it.")
        shape = []
        for d in v.shape:
            if isinstance(d, Dim) and dims:
                d = d.subs(dict(dims))
            shape.append(walk.estimate(d, unknown))
        if v.dtype.kind == "b":
            out[v.name] = rng.random(shape) < 0.5
        elif v.dtype.kind == "f":
            out[v.name] = rng.standard_normal(shape).astype(v.dtype.np)
        else:
            top = 256 if v.dtype.bits == 8 else 3  # bytes are data, wider integers tend to be indices and lengths
            low = -128 if v.dtype.bits == 8 and v.dtype.kind == "i" else int(top == 3)
            out[v.name] = rng.integers(low, low + top if top == 256 else top, shape).astype(v.dtype.np)
    return out


@dataclass(frozen=True)
class Difference:
    """Two results that should agree: name, largest error, and the error allowed."""

    name: str
    error: float
    allowed: float
    detail: str = ""

    def __str__(self) -> str:
        return f"'{self.name}': " + (self.detail or f"error {self.error:.3g}, allowed {self.allowed:.3g}")


def difference(name: str, a: np.ndarray, b: np.ndarray, tolerance: str) -> Difference | None:
    """None when ``b`` agrees with ``a`` within a tolerance class (exact, float, loose)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        text = f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
        return Difference(name, float("inf"), 0.0, text)
    kind = np.dtype(a.dtype).kind
    if kind in "biu":
        wrong = int(np.count_nonzero(a != b))
        if not wrong or (tolerance != "exact" and _near_integers(a, b)):
            return None
        return Difference(name, float(wrong), 0.0, f"{wrong} of {a.size} elements differ")
    eps = float(np.finfo(a.dtype).eps) if kind == "f" else 2.0**-8
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same.all():
        return None
    finite = np.isfinite(x)
    if not np.array_equal(finite | same, np.isfinite(y) | same) or (~finite & ~same).any():
        return Difference(name, float("inf"), 0.0, "infinities or NaNs differ")
    largest = float(np.abs(x[finite]).max(initial=0.0))
    error = float(np.abs(x - y)[finite].max(initial=0.0))
    allowed = TOLERANCE[tolerance] * eps * max(largest, 1e-6)
    return Difference(name, error, allowed) if error > allowed else None


def _near_integers(a: np.ndarray, b: np.ndarray) -> bool:
    """Rounding to 8 bits may tip over: off by one in a few places is not a wrong rewrite."""
    if a.dtype.itemsize != 1 or a.dtype == bool:
        return False
    d = np.abs(a.astype(np.int16) - b.astype(np.int16))
    return bool(d.max(initial=0) <= 1 and np.count_nonzero(d) <= max(1, a.size // 100))


def compare(
    before: Graph,
    after: Graph,
    inputs: Mapping[str, np.ndarray],
    *,
    tolerance: str = "float",
    runner: Runner | None = None,
) -> Difference | None:
    """Run both graphs; None when all public outputs agree, else the first tensor (by name, in the order of ``before``)
    that differs: an inner one when the graphs still share its name."""
    run = runner or run_reference
    want, got = run(before, inputs), run(after, inputs)
    missing = [k for k in want if k not in got]
    if missing or list(want) != list(got):
        return Difference(
            ", ".join(missing) or "outputs", float("inf"), 0.0, f"outputs {list(want)} became {list(got)}"
        )
    for name in want:
        wrong = difference(name, np.asarray(want[name]), np.asarray(got[name]), tolerance)
        if wrong is not None:
            return _first_inner(before, after, inputs, tolerance, run) or wrong
    return None


def _first_inner(
    before: Graph, after: Graph, inputs: Mapping[str, np.ndarray], tolerance: str, run: Runner
) -> Difference | None:
    a, b = walk.clone(before), walk.clone(after)

    def named(g: Graph) -> dict[str, Value]:
        return {v.name: v for n in g.nodes for v in n.outputs if v is not None}

    va, vb = named(a), named(b)
    names = [k for k, v in va.items() if k in vb and v.dtype is vb[k].dtype and compatible(v.shape, vb[k].shape)]
    for g, values in ((a, va), (b, vb)):
        g.outputs, g.output_names = [values[k] for k in names], list(names)
    try:
        want, got = run(a, inputs), run(b, inputs)
    except DeploykitError:
        return None
    for name in names:  # a transposed tensor may keep its name: only equal shapes can be compared
        if want[name].shape == got[name].shape:
            wrong = difference(name, np.asarray(want[name]), np.asarray(got[name]), tolerance)
            if wrong is not None:
                return wrong
    return None
