"""Run a ``.dk`` file on the native engine.

>>> import deploykit as dk                                             # doctest: +SKIP
>>> model = dk.Interpreter("model.dk", threads=2)                      # doctest: +SKIP
>>> model.inputs                                                       # doctest: +SKIP
[TensorSpec(name='x', shape=(1, 224, 224, 3), dtype='float32', quantization=None)]
>>> y = model.run({"x": image})["y"]                                   # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from deploykit import dtypes, native
from deploykit.errors import InputError
from deploykit.graph.dims import Dim, Shape

PRECISIONS = ("default", "exact", "fast")
SCALES = "io_quantization"  # metadata: {name of an integer input or output: {"scale": .., "zero_point": ..}}
_LONGEST = 1e9  # seconds that a timeout may have: 30 years


class Quantization(NamedTuple):
    """real = scale * (q - zero_point), for a whole tensor."""

    scale: float
    zero_point: int

    def quantize(self, x: np.ndarray, dtype: str) -> np.ndarray:
        """The integers nearest to real numbers.

        >>> Quantization(0.5, 10).quantize(np.float32([0, 1.2, 999]), "uint8").tolist()
        [10, 12, 255]
        """
        info = np.iinfo(dtype)
        return np.clip(np.rint(x / np.float32(self.scale)) + self.zero_point, info.min, info.max).astype(dtype)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """float32 of integers.

        >>> Quantization(0.5, 10).dequantize(np.uint8([10, 12])).tolist()
        [0.0, 1.0]
        """
        return (q.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale)


class TensorSpec(NamedTuple):
    """Name, shape (dims are ints or symbols; None when the rank is not known), dtype name, quantization of an input or
    output where it holds integers that stand for real numbers."""

    name: str
    shape: Shape | None
    dtype: str
    quantization: Quantization | None = None

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ",".join(str(d) for d in self.shape)
        return f"'{self.name}': {self.dtype or '?'}[{dims}]"


class Memory(NamedTuple):
    """Bytes used by a session: the arena of the current plan, weights (mapped from the file), packed weights, peak of
    tensors whose shape is known only at run time.  ``nodes_dynamic`` counts the nodes that make such tensors."""

    arena: int
    weights: int
    packed: int
    dynamic: int
    plans: int
    nodes_dynamic: int


class ProfileRow(NamedTuple):
    """One node of the plan: time in microseconds is the mean over the calls."""

    name: str
    op: str
    detail: str
    calls: int
    microseconds: float
    gflops: float


class Interpreter:
    """A loaded model with its memory: set up once, run often, from one thread at a time (only :meth:`cancel` may come
    from others).

    model: path of a ``.dk`` file (memory-mapped), or its bytes.  threads: default DK_THREADS, else the CPUs this
    process may use.  signature: name of another entry point.  keep_values: keep every intermediate tensor readable
    through :meth:`value` after a run (no buffer is reused: for debugging).  precision: "exact" computes float
    convolutions by plain sums only; by default 3x3 ones may use Winograd's algorithm, which is faster and as near, but
    spreads NaN, infinity and numbers near the largest float over whole tiles of 4 x 4 outputs.  "fast" lets float
    products with constant weights round both operands to bfloat16 (three digits; sums stay float32) on processors with
    tile registers for it (Intel AMX), where that is two to four times as fast; elsewhere it changes nothing, and
    :attr:`fast` says so.

    For models of strangers: max_memory is the number of bytes that plans, arena, packed weights and tensors may take
    (DK-MEMORY beyond); max_ops the number of nodes and loop iterations per run (DK-LIMIT beyond); 0 is no limit.
    :meth:`run` takes a timeout.  After each of these errors the interpreter can be used again.

    Raises FormatError for damaged or foreign files, InputError for a signature the file does not have.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        threads: int | None = None,
        signature: str | None = None,
        *,
        keep_values: bool = False,
        profile: bool = False,
        max_memory: int = 0,
        max_ops: int = 0,
        precision: str = "default",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}.")
        for what, limit in (("max_memory", max_memory), ("max_ops", max_ops)):
            if not 0 <= limit < 1 << 64:
                raise InputError(f"{what}: got {limit}, expected a number of 0 (no limit) or more.")
        self._model = native.NativeModel(model)
        self._options: dict[str, Any] = {
            "signature": signature,
            "threads": threads or 0,
            "max_memory": max_memory,
            "max_steps": max_ops,
            "exact": precision == "exact",
            "fast": precision == "fast",
        }
        self._session = native.NativeSession(self._model, profile=profile, keep_values=keep_values, **self._options)
        scales = self._scales() if SCALES in self._model.metadata else {}
        self.inputs = [self._spec(s, scales) for s in self._session.inputs]
        self.outputs = [self._spec(s, scales) for s in self._session.outputs]
        self._index = {s.name: i for i, s in enumerate(self.inputs)}
        self._output_names = [s.name for s in self.outputs]
        self._limited = False  # a run with a timeout was the last one
        self._long = 0  # runs that went the long way
        self._np = [dtypes.dtype(s.dtype).np for s in self.inputs]
        self._text: dict[str, list[str]] = {}
        if signature in (None, "main") and "strings" in self._model.metadata:
            self._text = self._text_names()

    def _scales(self) -> dict[str, Quantization]:
        """What the file says of its integer inputs and outputs; whatever else stands there is passed over."""
        found = self.metadata[SCALES]
        out = {}
        for name, q in found.items() if isinstance(found, dict) else ():
            if isinstance(q, dict) and isinstance(q.get("scale"), float) and isinstance(q.get("zero_point"), int):
                out[name] = Quantization(q["scale"], q["zero_point"])
        return out

    def _text_names(self) -> dict[str, list[str]]:
        """Which inputs and outputs the file says are text; whatever else stands there is passed over."""
        found = self.metadata["strings"]
        out = {}
        for key, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            given = found.get(key) if isinstance(found, dict) else None
            names = [s.name for s in specs if isinstance(given, list) and s.name in given and s.dtype in ("int32", "")]
            if names:
                out[key] = names
        return out

    @staticmethod
    def _spec(s: native.NativeSpec, scales: dict[str, Quantization]) -> TensorSpec:
        def dim(d: int | str | None) -> int | Dim:
            return d if isinstance(d, int) else Dim.parse(d) if d else Dim.symbol("?")

        shape = None if s.shape is None else tuple(dim(d) for d in s.shape)
        return TensorSpec(s.name, shape, s.dtype.name if s.dtype else "", scales.get(s.name))

    @property
    def signatures(self) -> list[str]:
        """Names of all entry points; the first is "main"."""
        return self._model.signatures

    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says of itself: labels, preprocessing, source, converter version."""
        import json

        return {k: json.loads(v) for k, v in self._model.metadata.items()}

    @property
    def fast(self) -> bool:
        """Whether products of this session may round their operands: ``precision="fast"`` on a CPU that gains by it."""
        return self._options["fast"] and bool(native.library().dk_fast())

    @property
    def memory(self) -> Memory:
        """Memory of this session in bytes."""
        return Memory(**self._session.memory())

    def run(self, *args: Any, timeout: float | None = None, **named: Any) -> dict[str, np.ndarray]:
        """Outputs by name for inputs given as one dict, positionally, or by keyword.

        Arrays must have the dtype of the spec (Python numbers and lists are converted when nothing is lost).  Raises
        InputError that lists every wrong name, shape and dtype.  Text (of models whose metadata names ``strings``) comes as
        ``str`` or as code points, and leaves as arrays of ``str``.

        timeout: seconds after which the run ends with DK-LIMIT.  Time is looked at between nodes and loop iterations:
        one long node is finished first, and variables keep what nodes wrote until then.  (In a model with an input of
        the name "timeout" the keyword is that input.)
        """
        if timeout is None and not (self._text or self._limited or named) and len(args) == 1 and type(args[0]) is dict:
            given = args[0]
            if len(given) == len(self._index):
                outs = self._session.direct([given.get(name) for name in self._index])
                if isinstance(outs, tuple):
                    return dict(zip(self._output_names, outs, strict=True))
                if outs is not None:
                    self._check(given)  # says more
                    self._session.check(outs)
        if timeout is not None and "timeout" in self._index:
            named["timeout"], timeout = timeout, None
        if timeout is not None and not timeout > 0:
            raise InputError(f"timeout: got {timeout}, expected seconds above 0, or None for no limit.")
        feeds = self._feeds(args, named)
        arrays = self._check(feeds)
        milliseconds = 0 if timeout is None else max(1, round(min(timeout, _LONGEST) * 1000))
        self._session.set_time_limit(milliseconds)
        self._limited = milliseconds != 0
        self._long += 1
        if self._long == 2 and not self._text:  # most processes run a model once
            from deploykit import native_calls

            native_calls.shorten(self._session)
        got = dict(zip(self._output_names, self._session(*arrays), strict=True))
        for name in self._text.get("outputs", ()):
            from deploykit import strings

            if got[name].dtype == np.int32 and got[name].ndim:
                got[name] = strings.decode(got[name])
        return got

    def cancel(self) -> None:
        """End the run in progress on another thread: it raises EngineError (DK-CANCELLED) before its next node or loop
        iteration.  Nothing happens when none is in progress."""
        self._session.cancel()

    def _feeds(self, args: tuple[Any, ...], named: dict[str, Any]) -> Mapping[str, Any]:
        if len(args) == 1 and isinstance(args[0], Mapping):
            return {**args[0], **named}
        if len(args) > len(self.inputs):
            raise InputError(f"run: got {len(args)} inputs, expected {len(self.inputs)}: {self._expected()}.")
        return {**{s.name: a for s, a in zip(self.inputs, args, strict=False)}, **named}

    def _expected(self) -> str:
        return "; ".join(map(str, self.inputs)) or "none"

    def _check(self, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        problems = [f"no input is named {n!r}" for n in feeds if n not in self._index]
        problems += [f"input '{s.name}' is missing" for s in self.inputs if s.name not in feeds]
        arrays: list[np.ndarray] = []
        sizes: dict[str, tuple[int, str]] = {}
        for spec, want in zip(self.inputs, self._np, strict=True):
            if spec.name not in feeds:
                continue
            if spec.name in self._text.get("inputs", ()) and np.asarray(feeds[spec.name]).dtype.kind in "OSU":
                from deploykit import strings

                feeds = {**feeds, spec.name: strings.encode(feeds[spec.name])}
            a = self._convert(feeds[spec.name], want)
            if a.dtype != want:
                problems.append(
                    f"input '{spec.name}': got dtype {a.dtype}, expected {spec.dtype}; use .astype('{spec.dtype}')"
                )
            problems += self._shape_problems(spec, a.shape, sizes)
            arrays.append(a)
        if problems:
            raise InputError("run: " + "; ".join(problems) + f". The model's inputs: {self._expected()}.")
        return arrays

    @staticmethod
    def _convert(value: Any, want: np.dtype) -> np.ndarray:
        if isinstance(value, (np.ndarray, np.generic)):
            return np.asarray(value)
        a = np.asarray(value)
        # Python numbers carry no dtype of their own: take the model's when the values survive
        return a.astype(want) if a.dtype.kind in "biuf" and np.array_equal(a.astype(want).astype(a.dtype), a) else a

    @staticmethod
    def _shape_problems(spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, tuple[int, str]]) -> list[str]:
        if spec.shape is None:
            return []
        got = list(shape)
        if len(shape) != len(spec.shape):
            return [f"input '{spec.name}': got shape {got}, expected rank {len(spec.shape)}: {spec}"]
        for have, want in zip(shape, spec.shape, strict=True):
            if isinstance(want, int) and have != want:
                return [f"input '{spec.name}': got shape {got}, expected {list(spec.shape)}"]
            if isinstance(want, Dim):
                first = sizes.setdefault(str(want), (have, spec.name))
                if first[0] != have:
                    return [f"input '{spec.name}': dim '{want}' is {have}, but {first[0]} in input '{first[1]}'"]
        return []

    def value(self, name: str) -> np.ndarray | None:
        """An intermediate tensor of the last run by its name in the file (needs keep_values); None if there is none."""
        return self._session.value(name)

    def variable(self, name: str) -> np.ndarray:
        """Current value of a variable of the model."""
        v = self._session.variable(name)
        if v is None:
            raise InputError(f"the model has no variable '{name}'.")
        return v

    def reset(self) -> None:
        """Set every variable back to its initial value."""
        self._session.reset()

    def profile(self, inputs: Mapping[str, Any], runs: int = 20) -> list[ProfileRow]:
        """Run ``runs`` times (after one warm-up) and return the mean time of each node, in plan order."""
        session = native.NativeSession(self._model, profile=True, **self._options)
        arrays = self._check(inputs)
        session(*arrays)
        session.profile_clear()
        for _ in range(runs):
            session(*arrays)
        rows = []
        for r in session.profile():
            us = r.nanoseconds / 1e3 / max(1, r.calls)
            rows.append(ProfileRow(r.name, r.op, r.detail, r.calls, us, r.flops / us / 1e3 if us else 0.0))
        return rows
