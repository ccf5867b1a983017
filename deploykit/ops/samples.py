"""Samples: small cases of every op, with nasty shapes and several dtypes.  One list feeds the passport tests, the
gradient checks, the engine's test matrix and the fuzzer's seeds.

A passport names its samples by ``samples=CALLABLE`` in ``@op(...)`` or by a function ``samples()`` in the class body;
either returns a list of :class:`Sample` and is called only when asked for (``samples_of``).  Data comes from a
generator with a fixed seed, so a case is the same on every machine and run.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import dtypes

if TYPE_CHECKING:
    from deploykit.graph import Graph
    from deploykit.ops.core import Op

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
SHAPES = ((), (1,), (7,), (2, 3), (0, 3), (2, 1, 3, 5))
# pairs that broadcast: equal, scalar, row, column, both ways, zero-size, different ranks
PAIRS = (
    ((2, 3), (2, 3)),
    ((), ()),
    ((2, 3), ()),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((4, 1, 2), (3, 1)),
    ((0, 3), (1, 3)),
    ((1,), (0,)),
    ((2, 3, 4, 5), (5,)),
    ((1, 3, 1, 33), (2, 3, 1, 33)),
)


@dataclass
class Sample:
    """One case of an op.  ``n_outputs`` for ops with a variable number of results.  ``differentiable``: finite
    differences make sense here (float inputs, away from kinks).  ``variables``: state that the case needs.
    ``fixed``: float inputs that are settings (scales of resize), which gradients take as constants."""

    inputs: list[np.ndarray | None]
    attrs: dict[str, Any] = field(default_factory=dict)
    n_outputs: int | None = None
    differentiable: bool = True
    variables: dict[str, np.ndarray] = field(default_factory=dict)
    fixed: tuple[int, ...] = ()

    def __repr__(self) -> str:
        ins = ", ".join("_" if x is None else f"{dtypes.dtype(x.dtype)}{list(x.shape)}" for x in self.inputs)
        attrs = ", ".join(f"{k}={v!r}" for k, v in self.attrs.items())
        return f"({ins}{'; ' + attrs if attrs else ''})"


class _Cases:
    """The functions of a file of samples, imported when one is called: programs that test nothing never load them."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Callable[[], list[Sample]]:
        def cases() -> list[Sample]:
            return getattr(importlib.import_module(f"deploykit.ops.{self.module}"), name)()

        return cases


heavy, quantized, sequence = _Cases("samples_heavy"), _Cases("samples_quantized"), _Cases("samples_sequence")


class Draw:
    """Random data with a fixed seed.  ``Draw("name")`` always gives the same sequence."""

    def __init__(self, seed: str | int = 0) -> None:
        self.rng = np.random.Generator(np.random.PCG64(zlib.crc32(str(seed).encode())))

    def __call__(
        self, shape: Sequence[int] = (), dtype: str = "float32", low: float | None = None, high: float | None = None
    ) -> np.ndarray:
        """An array: floats uniform in [low, high) (default -2 to 2), integers in [low, high] (default: the whole range
        of 8-bit types, -100 to 100 or 0 to 200 of wider ones), bools."""
        d = dtypes.dtype(dtype)
        shape = tuple(shape)
        if d.kind == "b":
            return np.asarray(self.rng.integers(0, 2, shape), dtype=bool)
        if d.kind == "f":
            a = self.rng.uniform(-2.0 if low is None else low, 2.0 if high is None else high, shape)
            return np.asarray(a).astype(np.float32).astype(d.np) if d.bits < 32 else np.asarray(a).astype(d.np)
        lo, hi = (-(1 << (d.bits - 1)), (1 << (d.bits - 1)) - 1) if d.kind == "i" else (0, (1 << d.bits) - 1)
        if d.bits > 8:
            lo, hi = (-100, 100) if d.kind == "i" else (0, 200)
        lo, hi = (lo if low is None else int(low)), (hi if high is None else int(high))
        return (
            np.asarray(self.rng.integers(lo, hi, shape, endpoint=True))
            .astype(np.int8 if d.bits < 8 and d.kind == "i" else np.uint8 if d.bits < 8 else d.np)
            .astype(d.np)
        )

    def apart(self, shape: Sequence[int], dtype: str = "float32", gap: float = 0.1) -> np.ndarray:
        """Floats that keep their distance from each other and from 0: for max, sort, relu and other kinks."""
        n = int(np.prod(shape, dtype=np.int64))
        a = (self.rng.permutation(n) - n // 2 + 0.37) * gap
        return np.asarray(a.reshape(tuple(shape))).astype(np.float32).astype(dtypes.dtype(dtype).np)


def i64(*values: int) -> np.ndarray:
    """An int64 vector: ``i64(2, -1)``."""
    return np.array(values, dtype=np.int64)


def s64(value: int) -> np.ndarray:
    """An int64 scalar."""
    return np.array(value, dtype=np.int64)


def unary(
    low: float = -2.0,
    high: float = 2.0,
    *,
    kinds: str = "f",
    special: bool = True,
    differentiable: bool = True,
    attrs: Sequence[dict[str, Any]] = ({},),
) -> Callable[[], list[Sample]]:
    """Samples of an elementwise op of one input whose domain holds [low, high]; ``special`` adds NaN, infinities and
    signed zeros; ``kinds`` the dtypes (f i u b); ``attrs`` runs the basic case with each of these."""

    def make() -> list[Sample]:
        r = Draw("unary")
        out: list[Sample] = []
        if "f" in kinds:
            for a in attrs:
                out += [Sample([r(s, "float32", low, high)], a, differentiable=differentiable) for s in SHAPES]
            out += [Sample([r((3, 5), d, low, high)], differentiable=False) for d in FLOATS[1:]]
            out += [Sample([r((67,), "float32", low, high)], differentiable=False)]  # past every vector width
            if special:
                odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-40, 1e30, -1e30], np.float32)
                out += [Sample([odd], a, differentiable=False) for a in attrs]
        for d in INTS:
            if dtypes.dtype(d).kind in kinds:
                out += [Sample([r((3, 5), d)], differentiable=False)]
        if "b" in kinds:
            out += [Sample([r(s, "bool")], differentiable=False) for s in SHAPES]
        return out

    return make


def binary(
    low: float = -2.0,
    high: float = 2.0,
    *,
    low2: float | None = None,
    high2: float | None = None,
    kinds: str = "fiu",
    special: bool = True,
    differentiable: bool = True,
    attrs: Sequence[dict[str, Any]] = ({},),
) -> Callable[[], list[Sample]]:
    """Samples of a broadcasting op of two inputs; low2 and high2 bound the second one."""
    l2, h2 = (low if low2 is None else low2), (high if high2 is None else high2)

    def make() -> list[Sample]:
        r = Draw("binary")
        out: list[Sample] = []
        if "f" in kinds:
            for a in attrs:
                for s, t in PAIRS:
                    pair: list[np.ndarray | None] = [r(s, "float32", low, high), r(t, "float32", l2, h2)]
                    out.append(Sample(pair, a, differentiable=differentiable))
            for d in FLOATS[1:]:
                out.append(Sample([r((3, 5), d, low, high), r((5,), d, l2, h2)], differentiable=False))
            if special:
                odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -3.0, 2.5], np.float32)
                out += [Sample([odd[:, None], odd[None, :]], a, differentiable=False) for a in attrs]
        for d in INTS:
            if dtypes.dtype(d).kind in kinds:
                info = np.iinfo(d)
                edge = np.array([info.min, info.max, 0, 1, info.max // 2, 3], d)
                for a in attrs:
                    out.append(Sample([r((3, 5), d), r((3, 1), d)], a, differentiable=False))
                    out.append(Sample([edge[:, None], edge[None, :]], a, differentiable=False))  # wrap, 0, extremes
        if "b" in kinds:
            out += [Sample([r(s, "bool"), r(t, "bool")], differentiable=False) for s, t in PAIRS]
        return out

    return make


def samples_of(op: Op) -> list[Sample]:
    """The samples of a passport (an empty list when it has none)."""
    s = op.samples
    return list(s() if callable(s) else s or [])


def graph_of(op: Op, sample: Sample, *, constants: Sequence[int] = ()) -> Graph:
    """A graph of one node for a sample: inputs ``x0, x1, ...`` (those numbered in ``constants`` are baked in), outputs
    ``y0, y1, ...``.  Shapes and dtypes are the sample's own."""
    from deploykit.graph import Graph, Variable
    from deploykit.ops.builder import GraphBuilder

    g = Graph(op.name)
    g.variables = [Variable(k, v) for k, v in sample.variables.items()]
    b = GraphBuilder(g)
    ins: list[Any] = []
    for i, x in enumerate(sample.inputs):
        if x is None:
            ins.append(None)
        elif i in constants:
            ins.append(b.constant(x, f"x{i}"))
        else:
            ins.append(b.input(f"x{i}", dtypes.dtype(x.dtype), x.shape))
    outs = b.op(op.name, *ins, outputs=sample.n_outputs, node=op.name, **sample.attrs)
    for i, y in enumerate(outs if isinstance(outs, list) else [outs]):
        b.output(y, f"y{i}")
    return g
