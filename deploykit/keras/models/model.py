"""``Model``: a layer that trains: compile, fit, evaluate, predict, save, export.  A whole step is one graph."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from deploykit import hooks
from deploykit.autodiff import numeric as N
from deploykit.autodiff import tree
from deploykit.autodiff.compiled import Function, Spec
from deploykit.autodiff.tape import GradientTape
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.errors import InputError
from deploykit.keras import losses as losses_module
from deploykit.keras import metrics as metrics_module
from deploykit.keras import optimizers as optimizers_module
from deploykit.keras.layers.base import Layer, call_context
from deploykit.keras.models import data as data_module
from deploykit.keras.models.compiled import CompiledLoss, CompiledMetrics


class Model(Layer):
    """Base of models.  ``Model(inputs, outputs)`` makes a functional one; subclasses write ``__init__`` and ``call``."""

    inputs: Any
    outputs: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and (len(args) >= 2 or "inputs" in kwargs):
            from deploykit.keras.models.functional import Functional

            return Functional.__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or "inputs" in kwargs:
            raise InputError(f"{type(self).__name__}: a subclass of Model takes its layers in __init__ and writes call(); for a functional model use keras.Model(inputs, outputs).")  # fmt: skip
        super().__init__(**kwargs)
        self.optimizer: Any = None
        self.compiled = False
        self.stop_training = False
        self.history: Any = None
        self._loss_tracker = metrics_module.Mean(name="loss")
        self._functions: dict[str, Function] = {}

    # ---- compile
    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None, metrics: Any = None,
        weighted_metrics: Any = None, run_eagerly: bool = False, steps_per_execution: int = 1, jit_compile: Any = "auto",
        auto_scale_loss: bool = True, threads: int | None = None,
    ) -> None:  # fmt: skip
        """Say how to train: optimizer, loss, metrics (names, objects or functions; lists or dicts for several outputs).

        run_eagerly: op by op, for debugging.  threads: lanes of the engine.  The other arguments are Keras' and change
        nothing here: a step is always one graph.
        """
        self.optimizer = optimizers_module.get(optimizer)
        self._compile_loss = CompiledLoss(loss, loss_weights) if loss is not None else None
        self._compile_metrics = CompiledMetrics(metrics, weighted_metrics)
        self.run_eagerly, self.threads = run_eagerly, threads
        self._arguments_of_compile = dict(
            optimizer=self.optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
        )
        self._loss_tracker = metrics_module.Mean(name="loss")
        self._functions = {}
        self.compiled = True

    def _need_compile(self, what: str) -> None:
        if not self.compiled:
            raise InputError(f"{what}: call model.compile(optimizer, loss, ...) first.")

    @property
    def metrics(self) -> list[Any]:
        """The loss, and what compile was told."""
        out = [self._loss_tracker] if self.compiled else []
        if self.compiled:
            out += self._compile_metrics.metrics
        return out + [
            m for m in self.__dict__.values() if isinstance(m, metrics_module.Metric) and m is not self._loss_tracker
        ]

    @property
    def metrics_names(self) -> list[str]:
        """Names of the metrics."""
        return [m.name for m in self.metrics]

    def reset_metrics(self) -> None:
        """Begin counting anew."""
        for m in self.metrics:
            m.reset_state()

    # ---- one step: users may write their own
    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:  # fmt: skip
        """The loss of a batch: of compile, plus penalties of layers."""
        parts = []
        if self._compile_loss is not None:
            parts.append(self._compile_loss(y, y_pred, sample_weight))
        parts += self.losses
        if not parts:
            raise InputError(
                "compute_loss: no loss. Give compile(loss=...), add penalties, or write compute_loss or train_step."
            )
        total = parts[0]
        for p in parts[1:]:
            total = total + p
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update the metrics and give all results."""
        self._compile_metrics.update(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """All metrics so far, by name."""
        out: dict[str, Any] = {}
        for m in self.metrics:
            r = m.result()
            out.update(r if isinstance(r, dict) else {m.name: r})
        return out

    def _with_losses(self, x: Any, training: bool) -> Any:
        saved, call_context.losses = call_context.losses, []
        try:
            y = self(x, training=training) if self._takes_training else self(x)
            self._losses = call_context.losses
        finally:
            call_context.losses = saved
        return y

    def train_step(self, data: Any) -> dict[str, Any]:
        """Forward, backward, update; the metrics."""
        x, y, sample_weight = data_module.unpack(data)
        with GradientTape() as tape:
            y_pred = self._with_losses(x, True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
        self._losses = []
        self._loss_tracker.update_state(loss, sample_weight=N.cast(N.shape(tree.flatten(x)[0][0])[0], "float32"))
        variables = self.trainable_variables
        if variables:
            self.optimizer.apply(tape.gradient(loss, variables), variables)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Forward and metrics."""
        x, y, sample_weight = data_module.unpack(data)
        y_pred = self._with_losses(x, False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._losses = []
        self._loss_tracker.update_state(loss, sample_weight=N.cast(N.shape(tree.flatten(x)[0][0])[0], "float32"))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Forward."""
        x, _, _ = data_module.unpack(data)
        return self(x, training=False) if self._takes_training else self(x)

    def _function(self, name: str) -> Any:
        step = getattr(self, f"{name}_step")
        if getattr(self, "run_eagerly", False):
            return step
        if name not in self._functions:
            self._functions[name] = Function(lambda data: step(data), threads=getattr(self, "threads", None))
        return self._functions[name]

    def make_train_function(self, force: bool = False) -> Any:
        """The traced training step."""
        return self._function("train")

    # ---- loops
    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1, verbose: Any = "auto",
        callbacks: Any = None, validation_split: float = 0.0, validation_data: Any = None, shuffle: bool = True,
        class_weight: Any = None, sample_weight: Any = None, initial_epoch: int = 0, steps_per_epoch: int | None = None,
        validation_steps: int | None = None, validation_batch_size: int | None = None, validation_freq: int = 1,
    ) -> Any:  # fmt: skip
        """Train on arrays, a Dataset, or any iterable of (x, y[, sample_weight]) batches; returns the History."""
        from deploykit.keras.callbacks import CallbackList

        self._need_compile("fit")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = data_module.split(x, y, sample_weight, validation_split)
        batches = data_module.adapt(x, y, sample_weight, batch_size, shuffle, class_weight, steps_per_epoch)
        self._build_from(batches)
        callback = CallbackList.of(callbacks, self, verbose, epochs=epochs, steps=batches.steps)
        self.stop_training = False
        train = self._function("train")
        callback.on_train_begin()
        logs: dict[str, Any] = {}
        initial_epoch = getattr(self, "_initial_epoch", None) or initial_epoch
        for epoch in range(initial_epoch, epochs):
            self.reset_metrics()
            callback.on_epoch_begin(epoch)
            seen = 0
            for step, batch in enumerate(batches.epoch(epoch)):
                callback.on_train_batch_begin(step)
                logs = train(batch)
                seen += 1
                callback.on_train_batch_end(step, logs)
                if self.stop_training:
                    break
            if not seen:
                raise InputError("fit: the dataset gave no batches; check its size, or repeat() it.")
            epoch_logs = _numbers(logs)
            if validation_data is not None and self._validates(epoch, validation_freq):
                vx, vy, vw = data_module.unpack(validation_data)
                got = self.evaluate(vx, vy, batch_size=validation_batch_size or batch_size, sample_weight=vw, steps=validation_steps, verbose=0, return_dict=True, callbacks=callback)  # fmt: skip
                epoch_logs |= {f"val_{k}": v for k, v in got.items()}
            callback.on_epoch_end(epoch, epoch_logs)
            if self.stop_training:
                break
        if getattr(self.optimizer, "use_ema", False):
            self.optimizer.finalize_variable_values(self.trainable_variables)
        callback.on_train_end(_numbers(logs))
        self._initial_epoch = None
        return self.history

    @staticmethod
    def _validates(epoch: int, freq: Any) -> bool:
        return (epoch + 1) % freq == 0 if isinstance(freq, int) else (epoch + 1) in freq

    def _build_from(self, batches: Any) -> None:
        """Make weights and optimizer state before the first step is traced, from a look at a batch."""
        if not self.built or any(
            not layer.built for layer in self.layers_inside if type(layer).build is not Layer.build
        ):
            first = batches.peek()
            if first is not None:
                x, _, _ = data_module.unpack(first)
                self(tree.map_structure(lambda a: convert_to_tensor(a[:1]), x))
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        if self.optimizer is not None and not self.optimizer.built and self.trainable_variables:
            self.optimizer.build(self.trainable_variables)

    def evaluate(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: Any = "auto", sample_weight: Any = None,
        steps: int | None = None, callbacks: Any = None, return_dict: bool = False,
    ) -> Any:  # fmt: skip
        """Loss and metrics on data: a list in the order of ``metrics_names``, or a dict."""
        from deploykit.keras.callbacks import CallbackList

        self._need_compile("evaluate")
        batches = data_module.adapt(x, y, sample_weight, batch_size, False, None, steps)
        self._build_from(batches)
        callback = CallbackList.of(callbacks, self, verbose, epochs=1, steps=batches.steps)
        test = self._function("test")
        self.reset_metrics()
        callback.on_test_begin()
        logs: Any = None
        for step, batch in enumerate(batches.epoch(0)):
            callback.on_test_batch_begin(step)
            logs = test(batch)
            callback.on_test_batch_end(step, logs)
        if logs is None:
            raise InputError("evaluate: the dataset gave no batches.")
        out = _numbers(logs)
        callback.on_test_end(out)
        if return_dict:
            return out
        values = list(out.values())
        return values[0] if len(values) == 1 else values

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = "auto", steps: int | None = None, callbacks: Any = None) -> Any:  # fmt: skip
        """Outputs for inputs, as arrays."""
        from deploykit.keras.callbacks import CallbackList

        batches = data_module.adapt(x, None, None, batch_size, False, None, steps)
        self._build_from(batches)
        callback = CallbackList.of(callbacks, self, verbose, epochs=1, steps=batches.steps)
        predict = self._function("predict")
        callback.on_predict_begin()
        parts: list[Any] = []
        for step, batch in enumerate(batches.epoch(0)):
            callback.on_predict_batch_begin(step)
            parts.append(tree.map_structure(lambda t: np.asarray(t), predict(batch)))
            callback.on_predict_batch_end(step)
        callback.on_predict_end()
        if not parts:
            raise InputError("predict: the dataset gave no batches.")
        return tree.map_structure(lambda *a: np.concatenate(a), parts[0], *parts[1:])

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False) -> Any:  # fmt: skip
        """One step on one batch."""
        self._need_compile("train_on_batch")
        if class_weight is not None:
            sample_weight = data_module.class_weights(y, class_weight)
        return self._on_batch("train", (x, y, sample_weight), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch."""
        self._need_compile("test_on_batch")
        return self._on_batch("test", (x, y, sample_weight), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Outputs of one batch."""
        batch = (tree.map_structure(np.asarray, x),)
        return tree.map_structure(np.asarray, self._function("predict")(batch))

    def _on_batch(self, name: str, data: Any, return_dict: bool) -> Any:
        batch = tuple(
            tree.map_structure(lambda a: a if isinstance(a, Tensor) else np.asarray(a), d)
            for d in data
            if d is not None
        )
        if not self.optimizer.built:
            self._build_from(data_module.One(batch))
        self.reset_metrics()
        logs = {k: np.asarray(v) for k, v in self._function(name)(batch).items()}
        if return_dict:
            return {k: float(v) if v.ndim == 0 else v for k, v in logs.items()}
        values = [float(v) if v.ndim == 0 else v for v in logs.values()]
        return values[0] if len(values) == 1 else values

    # ---- looking
    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside."""
        return list(self._layers)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by name or number."""
        if (name is None) == (index is None):
            raise InputError("get_layer: give either name or index.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise InputError(f"get_layer: index {index}, but the model has {len(self.layers)} layers.")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise InputError(f"no layer '{name}'; layers: {', '.join(x.name for x in self.layers)}.")

    def summary(self, line_length: int | None = None, positions: Any = None, print_fn: Any = None, expand_nested: bool = False, show_trainable: bool = False, layer_range: Any = None) -> None:  # fmt: skip
        """Print layers, output shapes and numbers of weights."""
        from deploykit.keras.utils import summary_text

        text = summary_text(self, expand_nested=expand_nested, show_trainable=show_trainable)
        (print_fn or print)(text)

    def plot(self, path: str | os.PathLike[str] | None = None) -> str:
        """The architecture as SVG text; written to a file when ``path`` is given."""
        from deploykit.keras.utils import draw

        return draw(self, path)

    # ---- saving
    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
        """Write the whole model: ``.keras`` (Keras' own format, needs h5py) or ``.dkt`` (safetensors and JSON)."""
        from deploykit.keras import saving

        saving.save_model(self, filepath, overwrite=overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the weights: ``.weights.h5`` (needs h5py) or ``.safetensors``."""
        from deploykit.keras import saving

        saving.save_weights(self, filepath, overwrite=overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Read weights written by :meth:`save_weights`, by Keras, or those of a saved model."""
        from deploykit.keras import saving

        saving.load_weights(self, filepath, skip_mismatch=skip_mismatch)

    def get_compile_config(self) -> Any:
        """What ``compile`` was told, JSON-able; None where it cannot be said."""
        from deploykit.keras.serialize import serialize

        if not self.compiled:
            return None
        try:
            return {k: serialize(v) for k, v in self._arguments_of_compile.items()}
        except InputError:
            return None

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a file says."""
        from deploykit.keras.serialize import deserialize

        known = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
        self.compile(**{k: deserialize(config[k]) for k in known if config.get(k) is not None})
        if self.built and self.trainable_variables:
            self.optimizer.build(self.trainable_variables)

    def to_json(self, **kwargs: Any) -> str:
        """The architecture."""
        import json

        from deploykit.keras.serialize import serialize

        return json.dumps(serialize(self), **kwargs)

    # ---- export
    def to_graph(self, signatures: Any = ("infer",)) -> Any:
        """The Graph of the model in inference, with any batch size; inputs and outputs carry their layers' names.

        signatures: with "train", the training step (x, y -> metrics; weights and optimizer state as variables) becomes
        an entry point of its own.
        """
        if not hasattr(self, "inputs"):
            raise InputError(f"model '{self.name}' is subclassed: its input shapes are not known. Wrap it: x = keras.Input(shape); keras.Model(x, model(x)).")  # fmt: skip
        specs = [Spec(tuple("batch" if d is None and not i else d for i, d in enumerate(t.shape)), str(t.dtype), t.name) for t in self.inputs]  # fmt: skip
        build = tree.flatten(self._flow()._inputs_nest if hasattr(self, "_flow") else self._inputs_nest)[1]  # type: ignore[attr-defined]
        train = "train" in signatures

        def infer(x: Any) -> Any:
            return self(x, training=False)

        function = Function(infer)
        concrete = function.concrete(build(specs), constants=not train)
        graph = concrete.graph
        names = [t.node.layer.name for t in self.outputs]
        graph.output_names = [
            n if names.count(n) == 1 else f"{n}_{t.index}" for n, t in zip(names, self.outputs, strict=True)
        ]
        graph.metadata["model"] = self.name
        if train:
            graph.signatures["train"] = self._train_graph(specs, build, graph)
        return graph

    def _train_graph(self, specs: list[Spec], build: Any, main: Any) -> Any:
        self._need_compile("export of the training step")
        self.optimizer.build(self.trainable_variables)
        y = [
            Spec(("batch", *d), k, f"y_{i}" if len(self.outputs) > 1 else "y")
            for i, (d, k) in enumerate(self._labels())
        ]
        target = y[0] if len(y) == 1 else y
        concrete = Function(lambda x, y: self.train_step((x, y))).concrete(build(specs), target)
        known = {v.name: v for v in main.variables}
        for v in concrete.graph.variables:
            if v.name not in known:
                main.variables.append(v)
        concrete.graph.variables = []
        concrete.graph.output_names = list(tree.flatten({k: k for k in self.metrics_names})[0])
        return concrete.graph

    def _labels(self) -> list[tuple[tuple[Any, ...], str]]:
        """Shape (without batch) and dtype of the labels of each output."""
        assert self._compile_loss is not None
        out = []
        for t, loss in zip(self.outputs, self._compile_loss.for_outputs(self.outputs), strict=True):
            sparse = getattr(loss, "fn", None) is losses_module.sparse_categorical_crossentropy
            out.append((t.shape[1:-1], "int32") if sparse else (t.shape[1:], "float32"))
        return out

    def export(self, filepath: Any, format: str | None = None, verbose: Any = None, signatures: Any = ("infer",), **kwargs: Any) -> Any:  # fmt: skip
        """Write ``model.dk`` or ``model.onnx`` for deployment, checked against this model; returns the report."""
        path = str(filepath)
        if format is not None and not path.endswith(f".{format}"):
            path = f"{path}.{format}"
        source = self if tuple(signatures) == ("infer",) else self.to_graph(signatures)
        return hooks.package().convert(source, path, **kwargs)


def _numbers(logs: Any) -> dict[str, Any]:
    out = {}
    for k, v in (logs or {}).items():
        a = np.asarray(v)
        out[k] = float(a) if a.ndim == 0 else a
    return out
