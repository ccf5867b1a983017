"""Run a model file whatever its format: ``.dk`` on our engine, ``.onnx`` by onnxruntime or, where that is missing,
by onnx's own reference evaluator, ``.tflite`` by LiteRT or our references.
Used by ``convert`` (verification), ``compare``, ``bench`` and ``run``."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deploykit import dtypes
from deploykit.errors import DeploykitError, InputError, UnsupportedError
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Graph
from deploykit.interpreter import Interpreter, TensorSpec


class Runner(Protocol):
    """Anything with named inputs and outputs; ``tool`` says by whom it is run."""

    tool: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        ...

    def reset(self) -> None:
        """Forget what runs have left in variables."""
        ...


class DkRunner:
    """A .dk file (or its bytes) on our engine."""

    def __init__(
        self,
        model: Path | bytes,
        threads: int | None = None,
        keep_values: bool = False,
        precision: str = "default",
    ) -> None:
        self.session = Interpreter(model, threads=threads, keep_values=keep_values, precision=precision)
        self.tool = "deploykit"
        self.inputs, self.outputs = self.session.inputs, self.session.outputs

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return self.session.run(feeds)

    def reset(self) -> None:
        """Variables back to their initial values."""
        self.session.reset()


_ORT_TYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    **{f"{u}int{b}": f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
    "bool": "bool",
    "string": "string",
}


class OnnxRuntimeRunner:
    """An .onnx file on onnxruntime's CPU provider."""

    def __init__(self, model: Path | bytes, threads: int | None = None, optimize: bool = True) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        if threads:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of the weights
        source = model if isinstance(model, bytes) else str(model)
        self.session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.tool = f"onnxruntime {ort.__version__}"
        self.inputs = [self._spec(v) for v in self.session.get_inputs()]
        self.outputs = [self._spec(v) for v in self.session.get_outputs()]

    @staticmethod
    def _spec(v: Any) -> TensorSpec:
        kind = v.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(
            d if isinstance(d, int) else Dim.symbol(str(d or f"?{v.name}_{i}")) for i, d in enumerate(v.shape)
        )
        return TensorSpec(v.name, shape, _ORT_TYPES.get(kind, kind))

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name; those of a sequence are numbered, as our importer does it."""
        names = [o.name for o in self.outputs]
        out: dict[str, np.ndarray] = {}
        for name, v in zip(names, self.session.run(names, feeds), strict=True):
            out |= {f"{name}_{i}": x for i, x in enumerate(v)} if isinstance(v, list) else {name: v}
        return out

    def reset(self) -> None:
        """ONNX models have no variables."""


class OnnxReferenceRunner:
    """An .onnx file by onnx's reference evaluator: slow, but always installed with Deploykit."""

    def __init__(self, model: Path | bytes, threads: int | None = None, optimize: bool = True) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        self.model = onnx.load(str(model)) if isinstance(model, Path) else onnx.load_from_string(model)
        self.session = ReferenceEvaluator(self.model)
        self.tool = f"onnx {onnx.__version__} reference evaluator"
        baked = {t.name for t in self.model.graph.initializer}
        self.inputs = [self._spec(v) for v in self.model.graph.input if v.name not in baked]
        self.outputs = [self._spec(v) for v in self.model.graph.output]

    @staticmethod
    def _spec(v: Any) -> TensorSpec:
        import onnx

        t = v.type.tensor_type
        dims: list[int | Dim] = []
        for i, d in enumerate(t.shape.dim):
            known = d.WhichOneof("value") == "dim_value" and d.dim_value >= 0
            dims.append(d.dim_value if known else Dim.symbol(d.dim_param or f"?{v.name}_{i}"))
        return TensorSpec(v.name, tuple(dims), dtypes.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)).name)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        names = [o.name for o in self.outputs]
        return dict(zip(names, (np.asarray(x) for x in self.session.run(names, feeds)), strict=True))

    def reset(self) -> None:
        """ONNX models have no variables."""


class LiteRtRunner:
    """A .tflite file on LiteRT's CPU kernels; ``optimize``: with its default delegate.  Names are those of the tensors,
    numbered where two are equal."""

    def __init__(
        self, model: Path | bytes, threads: int | None = None, optimize: bool = True, keep_values: bool = False
    ) -> None:
        import importlib.metadata

        self._content = model if isinstance(model, bytes) else Path(model).read_bytes()
        self._options = (threads, optimize, keep_values)
        self.tool = f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
        self.reset()
        details = self.session.get_input_details(), self.session.get_output_details()
        self.inputs, self.outputs = ([self._spec(d, n) for d, n in _numbered(side)] for side in details)
        self._in = {n: d["index"] for d, n in _numbered(details[0])}
        self._out = {n: d["index"] for d, n in _numbered(details[1])}

    def reset(self) -> None:
        """A new interpreter: variables have their initial values."""
        from ai_edge_litert.interpreter import Interpreter as LiteRt
        from ai_edge_litert.interpreter import OpResolverType

        threads, optimize, keep = self._options
        kind = OpResolverType.AUTO if optimize else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.session = LiteRt(
            model_content=self._content,
            num_threads=threads,
            experimental_op_resolver_type=kind,
            experimental_preserve_all_tensors=keep,
        )
        self._shapes: dict[str, tuple[int, ...]] = {}

    @staticmethod
    def _spec(d: dict[str, Any], name: str) -> TensorSpec:
        fixed = [int(n) for n in d["shape"]]
        free = [int(n) for n in d["shape_signature"]] if len(d["shape_signature"]) == len(fixed) else fixed
        shape = tuple(n if n >= 0 else Dim.symbol(f"?{name}_{i}") for i, n in enumerate(free))
        return TensorSpec(name, shape, "string" if d["dtype"] is np.bytes_ else np.dtype(d["dtype"]).name)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name; the model is laid out anew when a shape differs from the run before."""
        shapes = {k: np.shape(v) for k, v in feeds.items()}
        if shapes != self._shapes or not self._shapes:
            for k, s in shapes.items():
                self.session.resize_tensor_input(self._in[k], list(s), strict=False)
            self.session.allocate_tensors()
            self.session.reset_all_variables()  # allocation alone leaves what was in the memory
            self._shapes = shapes
        for k, v in feeds.items():
            v = np.asarray(v)
            self.session.set_tensor(self._in[k], np.char.encode(v.astype("U"), "utf-8") if v.dtype.kind in "OU" else v)
        self.session.invoke()
        return {k: _text(self.session.get_tensor(i)) for k, i in self._out.items()}

    def values(self) -> dict[str, np.ndarray]:
        """Inner tensors of the last run by name (needs keep_values), in the order of the file."""
        out: dict[str, np.ndarray] = {}
        for d in self.session.get_tensor_details():
            try:
                out.setdefault(d["name"], self.session.get_tensor(d["index"]))
            except ValueError:  # no data: a variable's handle, an unused tensor
                continue
        return out


def _text(a: np.ndarray) -> np.ndarray:
    return (
        a
        if a.dtype.kind not in "OS"
        else np.array([x.decode("utf-8", "replace") for x in a.flat], object).reshape(a.shape)
    )


def _numbered(details: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    seen: set[str] = set()
    out = []
    for d in details:
        name, i = d["name"], 1
        while name in seen:
            i += 1
            name = f"{d['name']}_{i}"
        seen.add(name)
        out.append((d, name))
    return out


class KerasRunner:
    """A ``dk.keras`` model (in memory, or a file) by its own compiled prediction."""

    tool = "deploykit.keras"

    def __init__(self, model: Any) -> None:
        from deploykit.keras import saving

        self.model = saving.load_model(model, compile=False) if isinstance(model, (str, Path)) else model
        graph = self.model.to_graph()
        self.inputs = [TensorSpec(v.name, v.shape, v.dtype.name if v.dtype else "") for v in graph.inputs]
        outputs = zip(graph.outputs, graph.public_outputs, strict=True)
        self.outputs = [TensorSpec(n, v.shape, v.dtype.name if v.dtype else "") for v, n in outputs]

    def reset(self) -> None:
        """Prediction keeps no state."""

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        from deploykit.autodiff import tree

        xs = [feeds[s.name] for s in self.inputs]
        got = tree.flatten(self.model.predict_on_batch(xs[0] if len(xs) == 1 else xs))[0]
        return dict(zip((o.name for o in self.outputs), got, strict=True))


class TorchRunner:
    """An exported PyTorch program (in memory, or a .pt2 file) by torch itself; names as the importer gives them."""

    def __init__(self, program: Any) -> None:
        import torch

        from deploykit.formats import importer

        self.program = torch.export.load(str(program)) if isinstance(program, (str, Path)) else program
        self.tool = f"torch {torch.__version__}"
        graph = importer(".pt2")(self.program)
        self.inputs = [TensorSpec(v.name, v.shape, v.dtype.name if v.dtype else "") for v in graph.inputs]
        outputs = zip(graph.outputs, graph.public_outputs, strict=True)
        self.outputs = [TensorSpec(n, v.shape, v.dtype.name if v.dtype else "") for v, n in outputs]
        self.reset()

    def reset(self) -> None:
        """Buffers as exported."""
        self.module = self.program.module()

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        import torch
        from torch.utils import _pytree as pytree

        spec = self.program.call_spec.in_spec
        signature = self.program.graph_signature
        names = [s.arg for s in signature.input_specs if s.kind.name == "USER_INPUT"]
        flat = [
            torch.from_numpy(np.array(feeds[a.name])) if a.name in feeds else getattr(a, "value", None) for a in names
        ]
        args, kwargs = pytree.tree_unflatten(flat, spec)
        with torch.no_grad():
            got = pytree.tree_flatten(self.module(*args, **kwargs))[0]
        tensors = [t for t in got if t is not None]
        return {
            s.name: t.numpy() if hasattr(t, "numpy") else np.asarray(t)
            for s, t in zip(self.outputs, tensors, strict=True)
        }


class MovedRunner:
    """A model whose inputs and outputs were laid out anew, behind its old interface; perms lead from old to new."""

    def __init__(self, inner: Runner, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]) -> None:
        self.inner, self._in, self._out = inner, inputs, outputs
        self.tool = inner.tool
        self.inputs = [self._spec(s, inputs) for s in inner.inputs]
        self.outputs = [self._spec(s, outputs) for s in inner.outputs]

    @staticmethod
    def _spec(s: TensorSpec, perms: dict[str, tuple[int, ...]]) -> TensorSpec:
        perm = perms.get(s.name)
        if perm is None or s.shape is None:
            return s
        return TensorSpec(s.name, tuple(s.shape[perm.index(i)] for i in range(len(perm))), s.dtype)

    def reset(self) -> None:
        """As the model's."""
        self.inner.reset()

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        moved = {k: np.ascontiguousarray(v.transpose(self._in[k])) if k in self._in else v for k, v in feeds.items()}
        got = self.inner.run(moved)
        return {k: v.transpose(np.argsort(self._out[k])) if k in self._out else v for k, v in got.items()}


class ReferenceRunner:
    """A model of any kind as imported, by the NumPy references of the ops: slow, and blind to errors of the importer."""

    def __init__(self, graph: Graph, why: str) -> None:
        self.graph = graph
        self.tool = f"the NumPy references ({why})"
        self.inputs = [TensorSpec(v.name, v.shape, v.dtype.name if v.dtype else "") for v in graph.inputs]
        outputs = zip(graph.outputs, graph.public_outputs, strict=True)
        self.outputs = [TensorSpec(n, v.shape, v.dtype.name if v.dtype else "") for v, n in outputs]
        self.reset()

    def reset(self) -> None:
        """Variables back to their initial values."""
        from deploykit.ops.reference import State

        self._state = State.of(self.graph)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        from deploykit.ops.reference import run_graph

        got = run_graph(self.graph, feeds, state=self._state)
        return dict(zip(self.graph.public_outputs, got, strict=True))


def have_onnxruntime() -> bool:
    """Whether onnxruntime can be imported."""
    import importlib.util

    return importlib.util.find_spec("onnxruntime") is not None


def open_runner(path: Path, threads: int | None = None, *, optimize: bool = True, precision: str = "default") -> Runner:
    """The best runner for a model file by its suffix; precision: of our engine, as in :class:`Interpreter`."""
    if path.suffix == ".dk":
        return DkRunner(path, threads, precision=precision)
    if precision != "default":
        raise InputError(f"--precision {precision} is for .dk files; convert {path} first: deploykit convert {path}")
    if path.suffix == ".onnx":
        return open_onnx(path, threads, optimize=optimize)
    if path.suffix == ".tflite":
        return open_tflite(path, threads, optimize=optimize)
    if path.suffix == ".json":
        return open_tfjs(path)
    if path.suffix == ".pt2":
        return TorchRunner(path)
    raise UnsupportedError(
        f"{path}: models of kind '{path.suffix}' cannot be run here; allowed: .dk, .onnx, .tflite, .pt2."
    )


def open_bytes(data: bytes | Path, kind: str) -> Runner:
    """The best runner for a model's bytes (or file); ``kind`` is the suffix its file has, or would have.

    It does what the file says, operator by operator: of products of bytes onnxruntime's own rewrites saturate on x86
    without VNNI.
    """
    if kind == ".dk":
        return DkRunner(data)
    return open_tflite(data, optimize=False) if kind == ".tflite" else open_onnx(data, optimize=False)


def have_litert() -> bool:
    """Whether LiteRT can be imported."""
    import importlib.util

    return importlib.util.find_spec("ai_edge_litert") is not None


def open_tfjs(model: Path) -> Runner:
    """A TensorFlow.js model: the references on what the importer made of it (TensorFlow.js itself wants Node)."""
    from deploykit.formats import importer

    return ReferenceRunner(importer(".json")(model), "TensorFlow.js is not run from Python")


def open_tflite(model: Path | bytes, threads: int | None = None, *, optimize: bool = True) -> Runner:
    """LiteRT where installed and able to run the model, else the references on what the importer made of it."""
    why = "LiteRT is not installed; pip install ai-edge-litert"
    if have_litert():
        try:
            runner = LiteRtRunner(model, threads, optimize)
            if all(isinstance(d, int) for s in runner.inputs for d in s.shape or ()):
                runner.session.allocate_tensors()  # with open dims the stored sizes may be too small to run
            return runner
        except (RuntimeError, ValueError) as e:  # an op that it does not know
            lines = str(e).strip().splitlines()
            why = f"LiteRT cannot run it: {lines[-1] if lines else type(e).__name__}"
    from deploykit.formats import importer

    return ReferenceRunner(importer(".tflite")(model), why)


def open_onnx(model: Path | bytes, threads: int | None = None, *, optimize: bool = True) -> Runner:
    """onnxruntime where installed and able to load the model, else onnx's reference evaluator."""
    if have_onnxruntime():
        try:
            return OnnxRuntimeRunner(model, threads, optimize)
        except Exception as e:  # a too new opset or IR version: its own exception types, not importable without it
            reason = str(e).splitlines()[0]
            try:
                return OnnxReferenceRunner(model, threads, optimize)
            except Exception:
                raise UnsupportedError(f"onnxruntime cannot load this model: {reason}") from None
    return OnnxReferenceRunner(model, threads, optimize)


# ------------------------------------------------------------------------------------------------ made-up inputs
# Sizes tried, in this order, for symbolic dims other than the batch until the source model accepts one.
GUESSES = (64, 224, 128, 512, 48, 32, 576, 256, 96, 160, 320, 1, 16000)


def shape_guesses(specs: list[TensorSpec]) -> Iterator[dict[str, int]]:
    """Sizes for the symbols of the inputs: the leading dim (the batch) 1, all the others alike; guess after guess."""
    batch: set[str] = set()
    other: set[str] = set()
    for s in specs:
        for i, d in enumerate(s.shape or ()):
            if isinstance(d, Dim):
                (batch if i == 0 and len(s.shape or ()) > 1 else other).update(d.names)
    other -= batch
    base = dict.fromkeys(sorted(batch), 1)
    if not other:
        yield base
        return
    for guess in GUESSES:
        yield {**base, **dict.fromkeys(sorted(other), guess)}


def random_inputs(
    specs: list[TensorSpec], sizes: dict[str, int], seed: int = 0, shapes: dict[str, list[int | str]] | None = None
) -> dict[str, np.ndarray]:
    """Seeded inputs: floats uniform in 0..1, integers 0 or 1, bool coins; the same numbers for the same name and shape.

    >>> spec = TensorSpec("x", (1, Dim.symbol("n")), "float32")
    >>> random_inputs([spec], {"n": 3})["x"].shape
    (1, 3)
    """
    out = {}
    for s in specs:
        want = (shapes or {}).get(s.name) or s.shape or ()
        dims = [Dim.symbol(d) if isinstance(d, str) else d for d in want]
        shape = tuple(int(d.subs(sizes)) if isinstance(d, Dim) else d for d in dims)  # type: ignore[arg-type]
        rng = np.random.default_rng([seed, zlib.crc32(s.name.encode())])
        t = dtypes.dtype(s.dtype)
        if t.kind == "f":
            out[s.name] = rng.random(shape, np.float32).astype(t.np)
        else:
            out[s.name] = rng.integers(0, 2, shape).astype(t.np)
    return out


def working_inputs(
    runner: Runner, seed: int = 0, shapes: dict[str, list[int | str]] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """(inputs, outputs) of the first guess at the symbolic sizes that the model accepts, or None."""
    for sizes in itertools.islice(shape_guesses(runner.inputs), len(GUESSES)):
        try:
            feeds = random_inputs(runner.inputs, sizes, seed, shapes)
        except TypeError:  # a symbol in --input-shape that is no symbol of the model
            return None
        try:
            runner.reset()
            outputs = runner.run(feeds)
            if (
                any(v.size for v in outputs.values()) or not outputs
            ):  # sizes that leave nothing to look at are too small
                return feeds, outputs
        except DeploykitError:
            continue
        except Exception:  # onnxruntime and onnx raise their own kinds
            continue
    return None


def difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(largest |a - b|, largest |a|); equal infinities and NaNs are equal, unequal ones an infinite difference."""
    if a.shape != b.shape:
        return float("inf"), 0.0
    if a.size == 0:
        return 0.0, 0.0
    if a.dtype == object:  # text
        return float(np.any(a != b)), 1.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        d = np.atleast_1d(np.abs(x - y))
    d[np.atleast_1d((x == y) | (np.isnan(x) & np.isnan(y)))] = 0
    finite = np.abs(x[np.isfinite(x)])
    return float(np.where(np.isnan(d), np.inf, d).max()), float(finite.max()) if finite.size else 0.0


def onnx_with_all_outputs(path: Path) -> OnnxRuntimeRunner:
    """onnxruntime on a model whose inner tensors (of the outermost graph) are outputs too."""
    import onnx

    model = onnx.load(str(path))
    have = {o.name for o in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in have:
                have.add(name)
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    runner = OnnxRuntimeRunner(model.SerializeToString(), 1, optimize=False)
    order = {name: i for i, name in enumerate(n for node in model.graph.node for n in node.output)}
    runner.outputs.sort(key=lambda o: order.get(o.name, len(order)))  # as they are computed
    return runner
