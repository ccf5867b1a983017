"""``Layer``: a block that owns variables, and the symbolic tensors that functional models are made of."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.autodiff import state, tree
from deploykit.autodiff import tensor as tensors
from deploykit.autodiff.tape import no_gradient
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.autodiff.trace import Trace
from deploykit.autodiff.variable import Variable
from deploykit.errors import DeploykitError, InputError, ShapeError
from deploykit.graph.dims import Dim
from deploykit.graph.growth import take
from deploykit.graph.ir import Value
from deploykit.keras import constraints, initializers, regularizers
from deploykit.keras.serialize import Configurable, clear_session, deserialize, snake_case, unique_name
from deploykit.ops.core import Op

__all__ = ["clear_session", "unique_name"]


# ---------------------------------------------------------------- symbolic tensors
class _Call(threading.local):
    training: bool | None = None
    path: tuple[str, ...] = ()
    losses: list[Any] | None = None


_COSTLY = 1 << 14  # elements: larger weights of files get no first value before they are loaded
call_context = _Call()


class _Scratch(Trace):
    """Where a call on symbolic tensors is recorded to learn shapes; its graph is never run.  One per call: it goes when
    the call is over, and with it every hold on the variables that the call has read."""

    def __init__(self) -> None:
        super().__init__("symbolic")

    def localize(self, v: Value) -> Value:
        return v  # of another call


class KerasTensor(Tensor):
    """A tensor of a functional model: shape and dtype, and the call that made it.  None is any size."""

    __slots__ = ("index", "name", "node")

    def __init__(self, payload: Any, node: CallNode | None = None, index: int = 0, name: str = "") -> None:
        super().__init__(payload)
        self.node, self.index, self.name = node, index, name

    @property
    def shape(self) -> Any:
        """Dims, None where any size will do."""
        return tuple(None if isinstance(d, Dim) else d for d in self.payload.shape)  # type: ignore[union-attr]

    @property
    def inner(self) -> Tensor:
        """The traced tensor, with symbolic dims."""
        return Tensor(self.payload)

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    @staticmethod
    def __dk_apply__(op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        return OpLayer(op.name, attrs)(*inputs)


class CallNode:
    """One call of a layer on symbolic tensors."""

    __slots__ = ("args", "kwargs", "layer", "outputs")

    def __init__(self, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.layer, self.args, self.kwargs = layer, args, kwargs
        self.outputs: list[KerasTensor] = []

    def inputs(self) -> list[KerasTensor]:
        """The symbolic tensors among the arguments."""
        return [t for t in tree.flatten((self.args, self.kwargs))[0] if isinstance(t, KerasTensor)]


def symbolic(shape: Any, dtype: Any = "float32", name: str = "") -> KerasTensor:
    """A symbolic tensor without history."""
    if not isinstance(shape, (list, tuple)) or not all(d is None or hasattr(d, "__index__") for d in shape):
        raise InputError(f"an input's shape is {str(shape)[:60]}; expected sizes, None where unknown.")
    dims = tuple(Dim.fresh("any") if d is None else int(d) for d in shape)
    return KerasTensor(_Scratch().input(name or "input", dtypes.dtype(dtype), dims).payload, name=name)


def is_symbolic(*nests: Any) -> bool:
    """Whether a symbolic tensor is among the leaves."""
    return any(isinstance(x, KerasTensor) for x in tree.flatten(list(nests))[0])


# ---------------------------------------------------------------- layers
class InputSpec(Configurable):
    """What a layer wants of an input: rank, sizes by axis."""

    def __init__(self, dtype: Any = None, shape: Any = None, ndim: int | None = None, max_ndim: int | None = None, min_ndim: int | None = None, axes: Any = None, allow_last_axis_squeeze: bool = False, name: Any = None, optional: bool = False) -> None:  # fmt: skip
        self.dtype, self.shape, self.ndim, self.max_ndim, self.min_ndim = dtype, shape, ndim, max_ndim, min_ndim
        self.axes = {int(k): v for k, v in (axes or {}).items()}
        if shape is not None:
            self.ndim = len(shape)

    def check(self, shape: Any, layer: str) -> None:
        """Raise ShapeError unless the shape fits."""
        n = len(shape)
        want = None
        if self.ndim is not None and n != self.ndim:
            want = f"rank {self.ndim}"
        elif self.min_ndim is not None and n < self.min_ndim:
            want = f"rank {self.min_ndim} or more"
        elif self.max_ndim is not None and n > self.max_ndim:
            want = f"rank {self.max_ndim} or less"
        else:
            for axis, size in self.axes.items():
                d = shape[axis] if -n <= axis < n else None
                if size is not None and isinstance(d, int) and d != size:
                    want = f"size {size} along axis {axis}"
        if want:
            raise ShapeError(f"layer '{layer}': input; got shape {show(shape)}, expected {want}.")


def show(shape: Any) -> str:
    """A shape for messages."""
    return "(" + ", ".join("None" if d is None or isinstance(d, Dim) else str(d) for d in shape) + ")"


class Layer(Configurable):
    """Base of all layers.  Subclasses write ``call(inputs)`` and, for weights that depend on the input, ``build(shape)``.

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="w")
    ...     def call(self, x):
    ...         return x * self.w
    >>> Scale()(np.float32([[1, 2]])).numpy().tolist()
    [[1.0, 2.0]]
    """

    _layers: list[Layer]
    _weights: list[Any]
    input_spec: Any = None
    supports_masking = False
    kernel_constraint: Any = None

    def __init__(self, *, activity_regularizer: Any = None, trainable: bool = True, dtype: Any = None, autocast: bool = True, name: str | None = None, **kwargs: Any) -> None:  # fmt: skip
        self.__dict__.setdefault("_layers", [])
        self.__dict__.setdefault("_weights", [])
        shape = kwargs.pop("input_shape", None)
        dim = kwargs.pop("input_dim", None)
        self._given_shape = (dim,) if dim is not None else shape
        if kwargs:
            raise InputError(f"{type(self).__name__}: unknown arguments: {', '.join(sorted(kwargs))}.")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.trainable = trainable
        if isinstance(dtype, dict):
            dtype = deserialize(dtype)
        self._dtype = getattr(dtype, "name", dtype) or "float32"
        if self._dtype.startswith("mixed_"):
            self._dtype = "float32"
        self.autocast = autocast
        self.built = False
        self._build_shape: Any = None
        self._losses: list[Any] = []
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self._nodes: list[CallNode] = []
        self._signature = inspect.signature(self.call)
        takes = self._signature.parameters
        variadic = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        self._takes_training = "training" in takes
        self._takes_mask = "mask" in takes
        del variadic

    # ---- tracking
    def __setattr__(self, name: str, value: Any) -> None:
        found: list[Any] = []
        if isinstance(value, (Layer, Variable)):
            found = [value]
        elif isinstance(value, (list, tuple, dict)) and not name.startswith("_"):
            found = [v for v in tree.flatten(value)[0] if isinstance(v, (Layer, Variable))]
        for v in found:
            own = self.__dict__.setdefault("_layers" if isinstance(v, Layer) else "_weights", [])
            if not any(v is o for o in own):
                own.append(v)
        object.__setattr__(self, name, value)

    @property
    def dtype(self) -> str:
        """dtype of the weights."""
        return self._dtype

    variable_dtype = compute_dtype = dtype

    @property
    def path(self) -> str:
        """Name with those of the layers around."""
        return "/".join((*call_context.path, self.name))

    def add_weight(
        self, shape: Any = None, initializer: Any = None, dtype: Any = None, trainable: bool = True, autocast: bool = True,
        regularizer: Any = None, constraint: Any = None, aggregation: str = "none", overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:  # fmt: skip
        """A new variable of this layer."""
        d = dtypes.dtype(dtype or self._dtype)
        if initializer is None:
            initializer = "glorot_uniform" if d.kind == "f" else "zeros"
        init = initializers.get(initializer)
        shape = () if shape is None else tuple(shape)
        if any(not isinstance(s, (int, np.integer)) for s in shape):
            raise ShapeError(f"layer '{self.name}': weight '{name}' would have shape {show(shape)}: a size is not known. Give the layer inputs whose last dims are fixed.")  # fmt: skip
        if take(f"weight '{name}' of layer '{self.name}'", shape, max(4, d.itemsize)) and np.prod(shape) > _COSTLY:
            init = None  # orthogonal ones take minutes
        with no_gradient(), _untraced():
            value = np.asarray(init(shape, dtype=d.name) if init is not None else np.zeros(shape))
        v = _Weight(
            value.astype(d.np, copy=False),
            trainable=trainable,
            name=name or "variable",
            path=f"{self.path}/{name or 'variable'}",
        )
        v.regularizer, v.constraint = regularizers.get(regularizer), constraints.get(constraint)
        self._weights.append(v)
        return v

    def add_loss(self, loss: Any) -> None:
        """Add to the training loss, from inside ``call``."""
        into = call_context.losses
        if into is not None:
            into.extend(loss if isinstance(loss, (list, tuple)) else [loss])

    def _all_layers(self) -> Iterator[Layer]:
        yield self
        for layer in self._layers:
            yield from layer._all_layers()

    @property
    def layers_inside(self) -> list[Layer]:
        """This layer and all inside it, each once."""
        return list({id(x): x for x in self._all_layers()}.values())

    def _collect(self, trainable: bool | None) -> list[Variable]:
        out: dict[int, Variable] = {}

        def visit(layer: Layer, on: bool) -> None:
            on = on and layer.trainable
            for v in layer._weights:
                if trainable is None or (v.trainable and on) == trainable:
                    out.setdefault(id(v), v)
            for inner in layer._layers:
                visit(inner, on)

        visit(self, True)
        return list(out.values())

    @property
    def weights(self) -> list[Variable]:
        """All variables except seeds: own ones first, trainable before fixed, as Keras orders them."""
        mine = sorted(self._weights, key=lambda v: not v.trainable) if not self._layers else self._weights
        out = {id(v): v for v in mine}
        for inner in self._layers:
            out.update({id(v): v for v in inner.weights})
        return list(out.values())

    @property
    def variables(self) -> list[Variable]:
        """All variables."""
        return self._collect(None)

    @property
    def trainable(self) -> bool:
        """Whether gradients change the weights; setting it sets it in all layers inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.__dict__.get("_layers", ()):
            layer.trainable = value

    @property
    def trainable_variables(self) -> list[Variable]:
        """Variables that training changes."""
        return self._collect(True)

    trainable_weights = trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The others."""
        return self._collect(False)

    non_trainable_weights = non_trainable_variables

    @property
    def losses(self) -> list[Any]:
        """Penalties: of weight regularizers now, and those added by the last call."""
        out = []
        for layer in self.layers_inside:
            for v in layer._weights:
                r = getattr(v, "regularizer", None)
                if r is not None and v.trainable and layer.trainable:
                    out.append(r(v.value))
        return out + list(self._losses)

    def get_weights(self) -> list[np.ndarray]:
        """Values of ``weights``."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Set ``weights`` from arrays in the same order."""
        own = self.weights
        if len(weights) != len(own):
            raise InputError(f"layer '{self.name}': set_weights got {len(weights)} arrays, expected {len(own)}.")
        wrong = [
            f"'{v.path}' {v.shape} from {np.shape(w)}"
            for v, w in zip(own, weights, strict=True)
            if np.shape(w) != v.shape
        ]
        if wrong:
            raise ShapeError(f"layer '{self.name}': set_weights; shapes differ: {'; '.join(wrong)}.")
        for v, w in zip(own, weights, strict=True):
            v.assign(w)

    def count_params(self) -> int:
        """Number of weights."""
        return sum(v.size for v in self.weights)

    # ---- calling
    def build(self, *input_shape: Any) -> None:
        """Make the weights; the shapes of the inputs, None for any size."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The computation."""
        raise NotImplementedError(f"{type(self).__name__}.call is not written.")

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the output; layers that do not know masks drop it."""
        return previous_mask if self.supports_masking else None

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Shape of the output for shapes of the inputs."""
        shapes = [*args, *kwargs.values()]
        given = [symbolic(s, self._dtype) if _is_shape(s) else tree.map_structure(lambda x: x, s) for s in shapes]
        out = self(*given)
        return tree.map_structure(lambda t: t.shape, out)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """As calling the layer on symbolic tensors."""
        return self(*args, **kwargs)

    def _check_inputs(self, first: Any) -> None:
        if self.input_spec is None:
            return
        specs = tree.flatten(self.input_spec)[0]
        leaves = tree.flatten(first)[0]
        if len(specs) != len(leaves):
            raise ShapeError(f"layer '{self.name}': got {len(leaves)} inputs, expected {len(specs)}.")
        for spec, x in zip(specs, leaves, strict=True):
            if spec is not None and hasattr(x, "shape"):
                spec.check(x.shape, self.name)

    def _maybe_build(self, first: Any) -> None:
        if self.built:
            return
        shapes = tree.map_structure(lambda x: _shape_of(x), first)
        shapes = shapes if isinstance(first, (list, tuple, dict)) else shapes
        saved = call_context.path
        call_context.path = (*saved, self.name)
        try:
            call_context.path = saved
            with _untraced_variables():
                self.build(shapes)
        finally:
            call_context.path = saved
        self._build_shape = shapes
        self.built = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_symbolic(args, kwargs):
            return self._call_symbolic(args, kwargs)
        args = tree.map_structure(self._convert, args)
        kwargs = {
            k: tree.map_structure(self._convert, v) if k not in ("training", "mask") else v for k, v in kwargs.items()
        }
        return self._run(args, kwargs)

    def _convert(self, x: Any) -> Any:
        if isinstance(x, (np.ndarray, np.generic)) or (isinstance(x, Variable)):
            x = convert_to_tensor(x)
        if (
            isinstance(x, Tensor)
            and self.autocast
            and dtypes.dtype(x.dtype).kind == "f"
            and x.dtype.name != self._dtype
        ):
            return N.cast(x, self._dtype)
        return x

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args else next(iter(kwargs.values()), None)
        self._check_inputs(first)
        saved = call_context.training, call_context.path
        try:
            if self._takes_training:
                training = kwargs.get("training")
                if training is None and len(args) > 1:
                    names = list(self._signature.parameters)
                    k = names.index("training")
                    training = args[k] if len(args) > k else None
                training = call_context.training if training is None else training
                if "training" in kwargs or list(self._signature.parameters).index("training") >= len(args):
                    kwargs["training"] = bool(training) if training is not None else False
                call_context.training = bool(training) if training is not None else call_context.training
            elif "training" in kwargs:
                call_context.training = kwargs.pop("training")
            mask = tree.map_structure(lambda x: getattr(x, "_keras_mask", None), first) if first is not None else None
            if self._takes_mask and kwargs.get("mask") is None and any(m is not None for m in tree.flatten(mask)[0]):
                kwargs["mask"] = mask
            self._maybe_build(first)
            call_context.path = (*saved[1], self.name)
            out = self.call(*args, **kwargs)
        except DeploykitError as e:
            if f"layer '{self.name}'" not in str(e) and not getattr(e, "layered", False):
                e.layered = True  # type: ignore[attr-defined]
                e.message = f"layer '{self.name}' ({type(self).__name__}): {e.message}"
                e.args = (f"{e.code}: {e.message}",)
            raise
        finally:
            call_context.training, call_context.path = saved
        if any(m is not None for m in tree.flatten(mask)[0]) or type(self).compute_mask is not Layer.compute_mask:
            self._attach_mask(out, self.compute_mask(first, mask))
        if self.activity_regularizer is not None:
            for y in tree.flatten(out)[0]:
                batch = N.cast(N.shape(y)[0], "float32")
                self.add_loss(self.activity_regularizer(y) / batch)
        return out

    @staticmethod
    def _attach_mask(out: Any, mask: Any) -> None:
        masks = tree.flatten(mask)[0]
        leaves = tree.flatten(out)[0]
        if len(masks) != len(leaves):
            masks = [masks[0] if masks else None] * len(leaves)
        for y, m in zip(leaves, masks, strict=True):
            if m is not None and isinstance(y, Tensor):
                y._keras_mask = m

    def _call_symbolic(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        node = CallNode(self, args, dict(kwargs))

        def inner(x: Any) -> Any:
            if not isinstance(x, KerasTensor):
                return x
            t = x.inner
            mask = getattr(x, "_keras_mask", None)
            if mask is not None:
                t._keras_mask = mask
            return t

        plain_args = tree.map_structure(inner, args)
        plain = {k: tree.map_structure(inner, v) for k, v in kwargs.items()}
        scratch = _Scratch()
        with scratch.active(), no_gradient(), _quiet_losses():
            out = self._run(tree.map_structure(self._convert, plain_args), plain)
        leaves, build = tree.flatten(out)
        for i, y in enumerate(leaves):
            t = convert_to_tensor(y)
            v = t.payload
            if isinstance(v, np.ndarray):
                v = scratch.builder.constant(v)
            k = KerasTensor(v, node, i, f"{self.name}_{i}" if i else self.name)
            mask = getattr(t, "_keras_mask", None)
            if mask is not None:
                k._keras_mask = mask
            node.outputs.append(k)
        self._nodes.append(node)
        return build(list(node.outputs))

    @property
    def input(self) -> Any:
        """The symbolic input of the first call."""
        ins = self._first_node().inputs()
        return ins[0] if len(ins) == 1 else ins

    @property
    def output(self) -> Any:
        """The symbolic output of the first call."""
        outs = self._first_node().outputs
        return outs[0] if len(outs) == 1 else list(outs)

    def _first_node(self) -> CallNode:
        if not self._nodes:
            raise InputError(
                f"layer '{self.name}' has not been called on a symbolic tensor, so it has no input or output."
            )
        return self._nodes[0]

    # ---- configs
    def get_config(self) -> dict[str, Any]:
        config = {
            k: v for k, v in super().get_config().items() if not (v is None and k in ("input_shape", "input_dim"))
        }
        for k in ("activity_regularizer", "autocast"):
            if config.get(k) in (None, True):
                config.pop(k, None)
        return {"name": self.name, "trainable": self.trainable, **config, "dtype": self._dtype} | {
            "name": self.name,
            "trainable": self.trainable,
        }

    def get_build_config(self) -> dict[str, Any] | None:
        """What ``build_from_config`` needs."""
        return {"input_shape": self._build_shape} if self._build_shape is not None else None

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build from shapes in a file."""
        shape = config.get("input_shape")
        if shape is not None and not self.built:
            self.build(tuple(shape) if shape and not isinstance(shape[0], (list, tuple)) else [tuple(s) for s in shape])
            self._build_shape, self.built = shape, True

    def save_own_variables(self, store: Any) -> None:
        """Variables of this layer alone, by number."""
        for i, v in enumerate(self._own_variables()):
            store[str(i)] = v.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Back from :meth:`save_own_variables`."""
        own = self._own_variables()
        if len(store.keys()) != len(own):
            raise InputError(
                f"layer '{self.name}': the file holds {len(store.keys())} variables for it, expected {len(own)}."
            )
        for i, v in enumerate(own):
            value = np.asarray(store[str(i)])
            if value.shape != v.shape:
                raise ShapeError(
                    f"layer '{self.name}': variable '{v.name}' has shape {v.shape}, the file {value.shape}."
                )
            v.assign(value)

    def _own_variables(self) -> list[Variable]:
        return [v for v in self._weights if v.trainable] + [v for v in self._weights if not v.trainable]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


class _Weight(Variable):
    """A variable with its regularizer and constraint."""

    __slots__ = ("constraint", "regularizer")
    constraint: Any
    regularizer: Any


def _shape_of(x: Any) -> Any:
    return tuple(None if isinstance(d, Dim) else d for d in x.shape) if hasattr(x, "shape") else x


def _is_shape(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and all(d is None or isinstance(d, int) for d in x)


@contextmanager
def _untraced() -> Iterator[None]:
    """Ops inside run at once, whatever trace is active."""
    traces, state.current.traces = state.current.traces, []
    try:
        yield
    finally:
        state.current.traces = traces


_untraced_variables = _untraced


@contextmanager
def _quiet_losses() -> Iterator[None]:
    saved, call_context.losses = call_context.losses, None
    try:
        yield
    finally:
        call_context.losses = saved


class OpLayer(Layer):
    """One op on symbolic tensors: what an expression such as ``x + y`` becomes in a functional model."""

    def __init__(self, op: str, attrs: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("name", None)
        kwargs["name"] = kwargs["name"] or unique_name(op)
        super().__init__(**kwargs)
        self.op, self.attrs = op, dict(attrs or {})
        self.built = True

    def _convert(self, x: Any) -> Any:
        return x

    def call(self, *inputs: Any) -> Any:
        from deploykit.ops import get

        attrs = {k: tuple(v) if isinstance(v, list) else v for k, v in self.attrs.items()}
        return tensors.apply(get(self.op), list(inputs), attrs)
