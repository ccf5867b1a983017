"""Functional models: the calls between symbolic inputs and outputs, replayed on tensors; and ``Sequential``."""

from __future__ import annotations

from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.autodiff import tree
from deploykit.autodiff.tensor import Tensor
from deploykit.errors import FormatError, InputError, ShapeError
from deploykit.keras.layers.base import CallNode, KerasTensor, Layer, is_symbolic, show, symbolic, unique_name
from deploykit.keras.models.model import Model
from deploykit.keras.serialize import deserialize, serialize


class InputLayer(Layer):
    """Stands for an input of a functional model."""

    def __init__(self, shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: Any = None, ragged: Any = None, batch_shape: Any = None, input_tensor: Any = None, optional: bool = False, name: str | None = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(name=name or unique_name("input_layer"), **kwargs)
        if (shape is None) == (batch_shape is None):
            raise InputError("Input: give shape (without the batch) or batch_shape.")
        if not isinstance(batch_shape, (list, tuple, type(None))) or not isinstance(
            shape, (int, list, tuple, type(None))
        ):
            raise InputError(f"Input: got shape={shape!r}, batch_shape={batch_shape!r}; expected lists of sizes.")
        self.batch_shape = tuple(batch_shape) if batch_shape is not None else (batch_size, *_shape(shape))
        self._dtype = str(getattr(dtype, "name", dtype) or "float32")
        self.built = True
        t = symbolic(self.batch_shape, self._dtype, self.name)
        node = CallNode(self, (), {})
        t.node = node
        node.outputs.append(t)
        self._nodes.append(node)

    def call(self) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_shape": list(self.batch_shape),
            "dtype": self._dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
        }


def _shape(shape: Any) -> tuple[Any, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def Input(shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: Any = None, batch_shape: Any = None, name: str | None = None, tensor: Any = None, optional: bool = False) -> Any:  # fmt: skip
    """A symbolic input.  shape: without the batch dim; None for any size."""
    layer = InputLayer(shape=shape, batch_size=batch_size, dtype=dtype, batch_shape=batch_shape, name=name)
    return layer.output


class Functional(Model):
    """A model of the calls that lead from ``inputs`` to ``outputs`` (nests of symbolic tensors)."""

    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(name=name, trainable=trainable, **kwargs)
        self._inputs_nest, self._outputs_nest = inputs, outputs
        self._inputs, _ = tree.flatten(inputs)
        self._outputs, self._build_outputs = tree.flatten(outputs)
        for what, ts in (("inputs", self._inputs), ("outputs", self._outputs)):
            wrong = [type(t).__name__ for t in ts if not isinstance(t, KerasTensor)]
            if wrong:
                raise InputError(f"Model: {what} must be symbolic tensors (of keras.Input and layers), got {wrong[0]}.")
        self._order = self._sorted()
        self._layers = self._by_depth()
        self.built = True

    def _sorted(self) -> list[CallNode]:
        """The calls in order; raises where an output does not come from the inputs."""
        given = {id(t) for t in self._inputs}
        done: dict[int, None] = {}
        order: list[CallNode] = []
        stack: list[tuple[CallNode, bool]] = [(t.node, False) for t in reversed(self._outputs) if t.node is not None and id(t) not in given]  # fmt: skip
        while stack:
            node, ready = stack.pop()
            if id(node) in done:
                continue
            if ready:
                done[id(node)] = None
                order.append(node)
                continue
            if isinstance(node.layer, InputLayer):
                raise InputError(
                    f"Model: the outputs depend on input '{node.layer.name}', which is not among the inputs."
                )
            stack.append((node, True))
            for t in reversed(node.inputs()):
                if id(t) not in given and t.node is not None and id(t.node) not in done:
                    stack.append((t.node, False))
        return order

    def _by_depth(self) -> list[Layer]:
        """The layers in Keras' order, by which its files name weights: the longest way to an output first; where that is
        equal, as a walk from the outputs up meets them."""
        given = {id(t) for t in self._inputs}
        depth: dict[int, int] = {}  # of calls
        longest: dict[int, int] = {}  # of layers: of their calls
        layers: dict[int, Layer] = {}
        inputs = [t.node for t in self._inputs if t.node is not None and isinstance(t.node.layer, InputLayer)]
        for node in [*reversed(self._order), *inputs]:
            key = id(node.layer)
            layers[key] = node.layer
            d = depth[id(node)] = longest[key] = max(depth.get(id(node), 0), longest.get(key, 0))
            for t in node.inputs():
                if t.node is not None and (id(t) not in given or isinstance(t.node.layer, InputLayer)):
                    depth[id(t.node)] = max(depth.get(id(t.node), 0), d + 1)
        met: dict[int, int] = {}
        visited: set[int] = set()
        stack = list(reversed(self._outputs))
        while stack:
            t = stack.pop()
            node = t.node
            if node is None or id(node) in visited or (id(t) in given and not isinstance(node.layer, InputLayer)):
                continue
            visited.add(id(node))
            met.setdefault(id(node.layer), len(met))
            stack += reversed(node.inputs())
        return [layers[k] for k in sorted(layers, key=lambda k: (-longest[k], met.get(k, -1)))]

    @property
    def layers(self) -> list[Layer]:
        """The layers in Keras' order: those farthest from the outputs first."""
        return list(self._layers)

    @property
    def inputs(self) -> list[KerasTensor]:
        """Symbolic inputs."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[KerasTensor]:
        """Symbolic outputs."""
        return list(self._outputs)

    @property
    def input_shape(self) -> Any:
        """Shape of the input (a list for several)."""
        s = [t.shape for t in self._inputs]
        return s[0] if len(s) == 1 else s

    @property
    def output_shape(self) -> Any:
        """Shape of the output (a list for several)."""
        s = [t.shape for t in self._outputs]
        return s[0] if len(s) == 1 else s

    input = property(lambda self: self._inputs[0] if len(self._inputs) == 1 else self._inputs_nest)
    output = property(lambda self: self._outputs[0] if len(self._outputs) == 1 else self._outputs_nest)

    def _match(self, inputs: Any) -> list[Any]:
        if isinstance(inputs, dict) and not isinstance(self._inputs_nest, dict):
            names = [t.name for t in self._inputs]
            missing = [n for n in names if n not in inputs]
            if missing:
                raise InputError(f"model '{self.name}': no input for {', '.join(missing)}; got {', '.join(inputs)}.")
            leaves = [inputs[n] for n in names]
        else:
            leaves = tree.flatten(inputs)[0]
        if len(leaves) != len(self._inputs):
            raise InputError(f"model '{self.name}': got {len(leaves)} inputs, expected {len(self._inputs)}.")
        out = []
        for x, t in zip(leaves, self._inputs, strict=True):
            want = t.shape
            if len(x.shape) == len(want) - 1 and want[-1] == 1:
                x = N.expand_dims(x, -1)
            fits = len(x.shape) == len(want) and all(
                w is None or not isinstance(d, int) or d == w for d, w in zip(x.shape, want, strict=True)
            )
            if not fits:
                raise ShapeError(
                    f"model '{self.name}': input '{t.name}'; got shape {show(x.shape)}, expected {show(want)}."
                )
            out.append(N.cast(x, t.dtype) if x.dtype != t.dtype else x)
        return out

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        known: dict[int, Any] = {id(t): x for t, x in zip(self._inputs, self._match(inputs), strict=True)}

        def fill(x: Any) -> Any:
            return known[id(x)] if isinstance(x, KerasTensor) else x

        for node in self._order:
            args, kwargs = (
                tree.map_structure(fill, node.args),
                {k: tree.map_structure(fill, v) for k, v in node.kwargs.items()},
            )
            out = node.layer(*args, **kwargs)
            for t, y in zip(node.outputs, tree.flatten(out)[0], strict=True):
                known[id(t)] = y
        return self._build_outputs([known[id(t)] for t in self._outputs])

    def _convert(self, x: Any) -> Any:
        return x if isinstance(x, Tensor) else super()._convert(x)

    # ---- configs, in Keras' form
    def get_config(self) -> dict[str, Any]:
        if type(self) is not Functional and type(self).__init__ is not Functional.__init__:
            return super().get_config()
        inside = {id(n) for n in self._order} | {id(t.node) for t in self._inputs}
        number: dict[int, int] = {}
        for layer in self._layers:
            own = [n for n in layer._nodes if id(n) in inside]
            number |= {id(n): i for i, n in enumerate(own)}

        def ref(t: KerasTensor) -> list[Any]:
            assert t.node is not None
            return [t.node.layer.name, number[id(t.node)], t.index]

        def pack(x: Any) -> Any:
            if isinstance(x, KerasTensor):
                return {
                    "class_name": "__keras_tensor__",
                    "config": {"shape": list(x.shape), "dtype": x.dtype.name, "keras_history": ref(x)},
                }
            return serialize(x)

        layers = []
        for layer in self._layers:
            calls = [
                {"args": [_map(pack, a) for a in n.args], "kwargs": {k: _map(pack, v) for k, v in n.kwargs.items()}}
                for n in layer._nodes
                if id(n) in inside and not isinstance(layer, InputLayer)
            ]
            layers.append({**serialize(layer), "name": layer.name, "inbound_nodes": calls})
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": layers,
            "input_layers": _map(ref, self._inputs_nest) if not isinstance(self._inputs_nest, KerasTensor) else ref(self._inputs_nest),
            "output_layers": _map(ref, self._outputs_nest) if not isinstance(self._outputs_nest, KerasTensor) else ref(self._outputs_nest),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        if "layers" not in config or "output_layers" not in config:
            return cls(**{k: deserialize(v, custom_objects) for k, v in config.items()})
        made: dict[str, Layer] = {}
        outputs: dict[tuple[str, int], list[KerasTensor]] = {}
        pending: list[tuple[Layer, int, dict[str, Any]]] = []
        for d in config["layers"]:
            layer = deserialize(
                {k: v for k, v in d.items() if k not in ("inbound_nodes", "build_config")}, custom_objects
            )
            made[layer.name] = layer
            if isinstance(layer, InputLayer):
                outputs[layer.name, 0] = list(layer._nodes[0].outputs)
            pending += [(layer, i, c) for i, c in enumerate(d["inbound_nodes"])]

        def unpack(x: Any) -> Any:
            if isinstance(x, dict) and x.get("class_name") == "__keras_tensor__":
                name, node, index = x["config"]["keras_history"]
                return outputs[name, node][index]
            if isinstance(x, dict) and x.get("class_name") == "__tuple__":
                return tuple(_map(unpack, v) for v in x["config"]["value"])
            return deserialize(x, custom_objects)

        while pending:
            left = []
            for layer, i, c in pending:
                needed = _histories(c)
                if any(k not in outputs for k in needed):
                    left.append((layer, i, c))
                    continue
                if "args" not in c:
                    raise InputError("this model was saved by Keras 2; save it again with Keras 3.")
                args = [_map(unpack, a) for a in c["args"]]
                # "training" is how the layer was called when the model was made; how the model is called later counts
                kwargs = {k: _map(unpack, v) for k, v in c["kwargs"].items() if k != "training"}
                got = layer(*args, **{k: v for k, v in kwargs.items() if v is not None})
                outputs[layer.name, i] = tree.flatten(got)[0]
            if len(left) == len(pending):
                raise InputError(
                    f"model '{config.get('name')}': layers {[x[0].name for x in left]} have inputs that nothing gives."
                )
            pending = left

        def find(r: Any) -> Any:
            if isinstance(r, list) and len(r) == 3 and isinstance(r[0], str):
                return outputs[r[0], r[1]][r[2]]
            return {k: find(v) for k, v in r.items()} if isinstance(r, dict) else [find(v) for v in r]

        ins, outs = find(config["input_layers"]), find(config["output_layers"])
        one = lambda x: x[0] if isinstance(x, list) and len(x) == 1 else x  # noqa: E731
        return Functional(one(ins), one(outs), name=config.get("name"), trainable=config.get("trainable", True))


def _map(f: Any, x: Any) -> Any:
    if isinstance(x, dict) and "class_name" not in x:
        return {k: _map(f, v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_map(f, v) for v in x]
    return f(x)


def _histories(x: Any) -> list[tuple[str, int]]:
    if isinstance(x, dict):
        if x.get("class_name") == "__keras_tensor__":
            h = x["config"]["keras_history"]
            return [(h[0], h[1])]
        return [k for v in x.values() for k in _histories(v)]
    return [k for v in x for k in _histories(v)] if isinstance(x, (list, tuple)) else []


class Sequential(Model):
    """Layers one after the other.

    >>> from deploykit import keras
    >>> m = Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> m.output_shape
    (None, 2)
    """

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, trainable=trainable, **kwargs)
        self._stack: list[Layer] = []
        self._functional: Functional | None = None
        for layer in layers or []:
            self.add(layer, rebuild=False)
        self._rebuild()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Append a layer (or a symbolic input, first)."""
        if isinstance(layer, KerasTensor):
            assert layer.node is not None
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise InputError(f"Sequential: got {type(layer).__name__}, expected a layer.")
        if any(layer.name == other.name for other in self._stack):
            raise InputError(f"Sequential: two layers are named '{layer.name}'.")
        if not self._stack and layer._given_shape is not None and not isinstance(layer, InputLayer):
            self._stack.append(InputLayer(shape=layer._given_shape))
        self._stack.append(layer)
        self._layers.append(layer)
        if rebuild:
            self._rebuild()

    def pop(self, rebuild: bool = True) -> Layer:
        """Remove the last layer and return it."""
        layer = self._stack.pop()
        self._layers = [x for x in self._layers if x is not layer]
        self._functional = None
        self.built = False
        if rebuild:
            self._rebuild()
        return layer

    def _rebuild(self) -> None:
        self._functional = None
        self._calls: dict[str, Any] = {}
        if self._stack and isinstance(self._stack[0], InputLayer) and len(self._stack) > 1:
            self._make(self._stack[0].output)

    def _make(self, x: KerasTensor) -> None:
        start, y = x, x
        for layer in self._stack:
            if not isinstance(layer, InputLayer):
                y = layer(y)
        inside = Functional(start, y, name=self.name)
        object.__setattr__(self, "_functional", inside)
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        if self._functional is None and input_shape is not None:
            layer = InputLayer(batch_shape=tuple(input_shape))
            self._make(layer.output)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input."""
        return [x for x in self._stack if not isinstance(x, InputLayer)]

    def _flow(self) -> Functional:
        if self._functional is None:
            raise InputError(
                f"model '{self.name}' has no shapes yet: begin with keras.Input, call build(shape), or call it."
            )
        return self._functional

    inputs = property(lambda self: self._flow().inputs)
    outputs = property(lambda self: self._flow().outputs)
    input_shape = property(lambda self: self._flow().input_shape)
    output_shape = property(lambda self: self._flow().output_shape)
    input = property(lambda self: self._flow().input)
    output = property(lambda self: self._flow().output)

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if self._functional is not None:
            return self._functional.call(inputs, training=training, mask=mask)
        x = inputs
        for layer in self.layers:
            x = layer(x)
        return x

    def _maybe_build(self, first: Any) -> None:
        if self._functional is None and not is_symbolic(first):
            shape = tuple(None if i == 0 else (d if isinstance(d, int) else None) for i, d in enumerate(first.shape))
            self._make(InputLayer(batch_shape=shape, dtype=first.dtype.name).output)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": [serialize(x) for x in self._stack],
            "build_input_shape": list(self.input_shape) if self._functional is not None else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        if not isinstance(config.get("layers"), list):
            raise FormatError(f"Sequential: its layers are {str(config.get('layers'))[:60]}; expected a list.")
        layers = [deserialize(d, custom_objects) for d in config["layers"]]
        model = cls(layers, name=config.get("name"), trainable=config.get("trainable", True))
        shape = config.get("build_input_shape")
        if model._functional is None and shape is not None:
            model.build(tuple(shape))
        return model
