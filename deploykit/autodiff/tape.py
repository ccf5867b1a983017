"""Reverse-mode gradients: tapes, and functions made of them.

A tape keeps what was applied to watched tensors; ``gradient`` walks it backward and asks each op's passport for its
vector-Jacobian product.  Those rules are written in ops: so the walk can be recorded by an outer tape (higher order)
and traced into a graph (compiled training).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from deploykit.autodiff import numeric, state, tree
from deploykit.autodiff.tensor import Tensor, convert_to_tensor, dtype_of
from deploykit.autodiff.variable import Variable
from deploykit.errors import DeploykitError, InputError
from deploykit.ops.core import F, Op
from deploykit.ops.through import gradients as op_gradients

Backward = Callable[[list[Any]], Sequence[Any]]


def _own(x: Any) -> Any:
    """A variable of ours in the place of a wrapper around it, such as a Keras variable."""
    return getattr(x, "__dk_variable__", x)


_GIVEN = "this tape has given its gradient; make it persistent=True to use it again."


def _is_float(y: Tensor) -> bool:
    d = y.dtype
    return d.kind == "f" or (d.kind == "V" and dtype_of(y).kind == "f")  # V: narrow floats


@functools.lru_cache(64)
def _few_ones(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Ones to begin with, made once; nobody can write to them."""
    a = np.ones(shape, dtype)
    a.flags.writeable = False
    return a


def _ones(t: Tensor) -> Tensor:
    p = t.payload
    return Tensor(_few_ones(p.shape, p.dtype)) if type(p) is np.ndarray and p.size <= 1024 else numeric.ones_like(t)


class TapeError(DeploykitError):
    """A tape was used in a way that it cannot answer."""

    code = "DK-TAPE"


class GradientTape:
    """Records ops on watched tensors and trainable variables inside a ``with`` block.

    persistent: ``gradient`` may be called more than once.  watch_accessed_variables: watch trainable variables when
    they are read.

    >>> x = convert_to_tensor(3.0)
    >>> with GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> tape.gradient(y, x).item()
    6.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        # (inputs, results, op, attrs) or (inputs, results, None, rule); a result by itself for an op with a rule and but one
        self._steps: list[tuple[Any, Any, Any, Any]] | None = []
        self._tracked: dict[int, Tensor] = {}  # by id; holding the tensor keeps the id its own
        self._reads: dict[Variable, list[Tensor]] = {}
        self._watched: set[Variable] = set()

    def __enter__(self) -> GradientTape:
        state.current.tapes.append(self)
        state.count(1)
        return self

    def __exit__(self, *_: object) -> None:
        state.current.tapes.remove(self)
        state.count(-1)

    def watch(self, x: Any) -> None:
        """Follow a tensor or variable (or a nest of them)."""
        if type(x) is Tensor and x.dtype.kind == "f":
            self._tracked[id(x)] = x
            return
        for leaf in map(_own, tree.flatten(x)[0]):
            if isinstance(leaf, Variable):
                self._watched.add(leaf)
                leaf.read()
            elif isinstance(leaf, Tensor):
                if dtype_of(leaf).kind != "f":
                    raise InputError(f"GradientTape.watch: got {leaf.dtype}, expected a float dtype.")
                self._tracked[id(leaf)] = leaf
            else:
                raise InputError(f"GradientTape.watch: got {type(leaf).__name__}, expected a dk.Tensor or dk.Variable.")

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """What happens inside is not recorded."""
        tapes = state.current.tapes
        state.current.tapes = [t for t in tapes if t is not self]
        try:
            yield
        finally:
            state.current.tapes = tapes

    # ---- called by ops
    def saw(self, variable: Variable, value: Tensor) -> None:
        """A variable was read."""
        if (self.watch_accessed_variables and variable.trainable) or variable in self._watched:
            if dtype_of(value).kind != "f":
                return
            reads = self._reads.setdefault(variable, [])
            if not any(r is value for r in reads):
                reads.append(value)
            self._tracked[id(value)] = value

    def record_op(self, op: Op, inputs: list[Any], results: tuple[Tensor, ...], attrs: dict[str, Any]) -> None:
        """An op was applied."""
        self._record(inputs, results, op, attrs)

    def record_direct(self, op: Op, inputs: tuple[Any, ...], y: Tensor) -> None:
        """An op without attrs was applied to tensors that are not traced, and to Python numbers."""
        tracked = self._tracked
        hit = odd = False
        for x in inputs:
            if id(x) in tracked:
                hit = True
            elif x.__class__ is float or x.__class__ is int:
                odd = True
        if not hit:
            return
        if odd:  # rules ask for the dtypes of inputs
            d = next(t.dtype for t in inputs if hasattr(t, "dtype"))
            inputs = tuple(x if x is None or hasattr(x, "dtype") else np.asarray(x, d) for x in inputs)
        if self._steps is None:
            raise TapeError(_GIVEN)
        if y.payload.dtype.kind == "f" or _is_float(y):  # type: ignore[union-attr]
            tracked[id(y)] = y
        self._steps.append((inputs, y, op, op._defaults))

    def record(self, inputs: list[Any], results: tuple[Tensor, ...], backward: Backward) -> None:
        """Remember a step with its own rule: gradients of the results (None where nothing depends) to those of the
        inputs."""
        self._record(inputs, results, None, backward)

    def _record(self, inputs: Any, results: tuple[Tensor, ...], op: Op | None, how: Any) -> None:
        tracked = self._tracked
        for x in inputs:
            if id(x) in tracked:
                break
        else:
            return
        if self._steps is None:
            raise TapeError(_GIVEN)
        for y in results:
            if _is_float(y):
                tracked[id(y)] = y
        self._steps.append((inputs, results, op, how))

    # ---- asked by people
    def gradient(
        self, target: Any, sources: Any, output_gradients: Any = None, unconnected_gradients: str = "none"
    ) -> Any:
        """Gradient of the sum of ``target`` with respect to ``sources``, in the nest of the sources.

        output_gradients: weights of the elements of target, in its nest.  unconnected_gradients: "none" or "zero", for
        sources that target does not depend on.
        """
        if self._steps is None:
            raise TapeError("gradient() of a tape that has given its gradient; make it with persistent=True.")
        if unconnected_gradients not in ("none", "zero"):
            raise InputError(f"unconnected_gradients: got {unconnected_gradients!r}, expected 'none' or 'zero'.")
        steps = self._steps
        if not self.persistent:
            self._steps = None
        if type(sources) is Tensor and type(target) is Tensor and output_gradients is None and not state.current.tapes:
            found = self._backward(steps, [target], [None], {id(sources)}).get(id(sources))
            return numeric.zeros_like(sources) if found is None and unconnected_gradients == "zero" else found
        leaves, build = tree.flatten(sources)
        leaves = list(map(_own, leaves))
        targets = [t.read() if isinstance(t, Variable) else t for t in tree.flatten(target)[0]]
        given = [None] * len(targets) if output_gradients is None else tree.flatten(output_gradients)[0]
        if len(given) != len(targets):
            raise InputError(f"output_gradients: got {len(given)}, expected one for each of {len(targets)} targets.")
        with self.stop_recording():
            wanted = {id(t) for s in leaves for t in (self._reads.get(s, []) if isinstance(s, Variable) else [s])}
            total = self._backward(steps, targets, given, wanted)
            found = [self._of(s, total, unconnected_gradients) for s in leaves]
        return build(found)

    def _backward(self, steps: Any, targets: list[Any], given: list[Any], wanted: set[int]) -> dict[int, Any]:
        total: dict[int, Any] = {}
        tracked = self._tracked
        for t, g in zip(targets, given, strict=True):
            if (at := id(t)) in tracked:
                g = _ones(t) if g is None else convert_to_tensor(g, t.dtype)
                total[at] = F.add(total[at], g) if at in total else g
        for inputs, results, op, how in reversed(steps):
            # each result has one step, so its gradient is complete here and needed no more, unless asked for
            if results.__class__ is Tensor:
                at = id(results)
                one = total.get(at) if at in wanted else total.pop(at, None)
                if one is None:
                    continue
                found = (
                    op.vjp(one, results, *inputs, **how) if op.vjp else op_gradients(op, [one], (results,), inputs, how)
                )
            else:
                gs = [total.get(id(y)) if id(y) in wanted else total.pop(id(y), None) for y in results]
                if all(g is None for g in gs):
                    continue
                found = how(gs) if op is None else op_gradients(op, gs, results, inputs, how)
            for x, g in zip(inputs, found):  # noqa: B905, rules may leave out what comes last
                if g is None or (at := id(x)) not in tracked:
                    continue
                if g.__class__ is not Tensor:
                    g = convert_to_tensor(g)
                total[at] = total[at] + g if at in total else g
        return total

    def _of(self, source: Any, total: dict[int, Any], unconnected: str) -> Tensor | None:
        if isinstance(source, Variable):
            parts = [total[id(t)] for t in self._reads.get(source, []) if id(t) in total]
        elif isinstance(source, Tensor):
            parts = [total[id(source)]] if id(source) in total else []
        else:
            raise InputError(f"gradient: a source is {type(source).__name__}, expected dk.Tensor or dk.Variable.")
        if not parts:
            return numeric.zeros_like(source) if unconnected == "zero" else None
        return functools.reduce(lambda a, b: F.add(a, b), parts)

    def jacobian(self, target: Tensor, source: Any) -> Tensor | None:
        """d target / d source, of shape target.shape + source.shape, one backward walk per element of target."""
        persistent, self.persistent = self.persistent, True
        try:
            rows = []
            for i in range(target.size):
                unit = np.zeros([int(d) for d in target.shape], target.dtype)  # type: ignore[arg-type]
                unit.reshape(-1)[i] = 1
                g = self.gradient(target, source, Tensor(unit))
                if g is None:
                    return None
                rows.append(g)
        finally:
            self.persistent = persistent
            if not persistent:
                self._steps = None
        return numeric.reshape(numeric.stack(rows), (*target.shape, *source.shape))

    def watched_variables(self) -> list[Variable]:
        """The variables read so far."""
        return list(self._reads)


@contextmanager
def no_gradient() -> Iterator[None]:
    """No tape records inside this ``with`` block."""
    tapes, state.current.tapes = state.current.tapes, []
    try:
        yield
    finally:
        state.current.tapes = tapes


def stop_gradient(x: Any) -> Any:
    """The same numbers (of a nest of tensors) with no history: gradients stop here."""
    leaves, build = tree.flatten(x)
    return build([Tensor(convert_to_tensor(leaf).payload) for leaf in leaves])


def custom_gradient(f: Callable[..., tuple[Any, Callable[..., Any]]]) -> Callable[..., Any]:
    """Give a function its own gradient: ``f(*tensors)`` returns ``(results, backward)`` and ``backward(*gradients of
    the results)`` returns one gradient per argument.

    >>> @custom_gradient
    ... def clipped(x):
    ...     return numeric.clip(x, 0, 1), lambda g: g  # straight through
    >>> grad(clipped)(convert_to_tensor(3.0)).item()
    1.0
    """

    @functools.wraps(f)
    def apply(*args: Any) -> Any:
        ins = [convert_to_tensor(a) for a in args]
        tapes = state.current.tapes
        with no_gradient():
            out, rule = f(*ins)
        leaves, build = tree.flatten(out)
        results = tuple(Tensor(convert_to_tensor(y).payload) for y in leaves)

        def backward(gs: list[Any]) -> Sequence[Any]:
            filled = [numeric.zeros_like(y) if g is None else g for g, y in zip(gs, results, strict=True)]
            got = rule(*filled)
            return got if isinstance(got, (tuple, list)) else (got,)

        for tape in tapes:
            tape.record(list(ins), results, backward)
        return build(list(results))

    return apply


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns f's value and its gradient with respect to the arguments ``argnums`` (nests of tensors).

    has_aux: f returns (value, anything); so does the result.

    >>> value_and_grad(lambda x: x * x)(convert_to_tensor(2.0))[1].item()
    4.0
    """

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        given = list(args)
        for i in numbers:
            leaves, build = tree.flatten(given[i])
            # tensors of their own: the same one given twice stays two arguments
            given[i] = build([x if isinstance(x, Variable) else F.identity(convert_to_tensor(x)) for x in leaves])
        with GradientTape() as tape:
            for i in numbers:
                tape.watch(given[i])
            out = f(*given, **kwargs)
        got = tape.gradient(out[0] if has_aux else out, [given[i] for i in numbers], unconnected_gradients="zero")
        return out, got[0] if isinstance(argnums, int) else tuple(got)

    return both


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient function of f; with has_aux it returns (gradient, aux)."""
    both = value_and_grad(f, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        out, g = both(*args, **kwargs)
        return (g, out[1]) if has_aux else g

    return gradient
