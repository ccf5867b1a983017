"""``Model.fit`` and its relatives: each step is traced once per signature into one graph, which the engine replays.

Forward pass, gradients, optimizer update and metrics are one graph with mutable variables; a batch is its input.
``compile(run_eagerly=True)`` (or ``jit_compile=False``) runs the same Python step by step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src import backend, tree
from keras.src import callbacks as callbacks_module
from keras.src import optimizers as optimizers_module
from keras.src.backend import config
from keras.src.trainers import trainer as base_trainer
from keras.src.trainers.data_adapters import array_slicing, data_adapter_utils
from keras.src.trainers.epoch_iterator import EpochIterator
from keras.src.utils import traceback_utils
from keras.src.utils.python_utils import pythonify_logs

from deploykit.autodiff import function
from deploykit.autodiff.tape import GradientTape, no_gradient
from deploykit.autodiff.tensor import TraceError

_split = data_adapter_utils.unpack_x_y_sample_weight


def _batch_size(x: Any) -> Any:
    return next(i for i in tree.flatten(x) if i is not None).shape[0]


class Trainer(base_trainer.Trainer):
    """What Keras' ``Model`` takes from a backend."""

    def __init__(self) -> None:
        super().__init__()
        self.train_function: Any = None
        self.test_function: Any = None
        self.predict_function: Any = None

    # ---- one step
    def _forward(self, x: Any, training: bool) -> Any:
        return self(x, training=training) if self._call_has_training_arg else self(x)  # type: ignore[operator]

    def train_step(self, data: Any) -> Any:
        """Forward, backward, update, metrics of one batch; overridable, as with the other backends."""
        x, y, sample_weight = _split(data)
        values = self.trainable_variables
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v for v in values if backend.is_float_dtype(v.dtype)])
            y_pred = self._forward(x, True)
            loss = self._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
            scaled = loss if self.optimizer is None else self.optimizer.scale_loss(loss)
        self._loss_tracker.update_state(loss, sample_weight=_batch_size(x))
        if values:
            self.optimizer.apply(tape.gradient(scaled, values), values)
        else:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data: Any) -> Any:
        """Loss and metrics of one batch."""
        x, y, sample_weight = _split(data)
        y_pred = self._forward(x, False)
        loss = self._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False)
        self._loss_tracker.update_state(loss, sample_weight=_batch_size(x))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Outputs of one batch."""
        return self._forward(_split(data)[0], False)

    # ---- the steps as functions of a list of batches
    def _compiled(self, step: Callable[[Any], Any], join: bool = False) -> Callable[[Any], Any]:
        run = _traced(step) if self.jit_compile and not self.run_eagerly else step

        def batches(data: Any) -> Any:
            outs = [run(tree.map_structure(_as_input, batch)) for batch in data]
            if not join or len(outs) == 1:
                return outs[-1]
            return tree.map_structure(lambda *ys: np.concatenate([np.asarray(y) for y in ys]), *outs)

        return batches

    def make_train_function(self, force: bool = False) -> Any:
        """Sets ``train_function``."""
        if self.train_function is None or force:
            self.train_function = self._compiled(lambda data: self.train_step(data))
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Sets ``test_function``."""
        if self.test_function is None or force:
            self.test_function = self._compiled(lambda data: self.test_step(data))
        return self.test_function

    def make_predict_function(self, force: bool = False) -> Any:
        """Sets ``predict_function``."""
        if self.predict_function is None or force:
            self.predict_function = self._compiled(lambda data: self.predict_step(data), join=True)
        return self.predict_function

    # ---- loops
    def _callbacks(self, given: Any, verbose: Any, epochs: int, steps: Any, history: bool = False) -> Any:
        if isinstance(given, callbacks_module.CallbackList):
            return given
        return callbacks_module.CallbackList(
            given,
            add_history=history,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
            model=self,
        )

    @traceback_utils.filter_traceback
    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """As Keras documents it."""
        self._assert_compile_called("fit")
        limit = config.max_epochs()
        if limit and limit < epochs:
            warnings.warn(f"Limiting epochs to {limit}", stacklevel=2)
            epochs = limit
        self._eval_epoch_iterator: Any = None
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = array_slicing.train_validation_split(
                (x, y, sample_weight), validation_split=validation_split
            )
        batches = EpochIterator(
            x=x, y=y, sample_weight=sample_weight, batch_size=batch_size, steps_per_epoch=steps_per_epoch, shuffle=shuffle,
            class_weight=class_weight, steps_per_execution=self.steps_per_execution,
        )  # fmt: skip
        self._symbolic_build(iterator=batches)
        batches.reset()
        callbacks = self._callbacks(callbacks, verbose, epochs, batches.num_batches, history=True)
        self.stop_training = False
        self.make_train_function()
        callbacks.on_train_begin()
        last: Any = {}
        for epoch in range(self._initial_epoch or initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            logs: Any = {}
            for begin, end, data in batches:
                callbacks.on_train_batch_begin(begin)
                logs = self.train_function(data)
                callbacks.on_train_batch_end(end, logs)
                if self.stop_training:
                    break
            epoch_logs = dict(self._get_metrics_result_or_logs(logs))
            if validation_data is not None and self._should_eval(epoch, validation_freq):
                epoch_logs.update(
                    self._validate(validation_data, validation_batch_size or batch_size, validation_steps, callbacks)
                )
            callbacks.on_epoch_end(epoch, epoch_logs)
            last = epoch_logs
            if self.stop_training:
                break
        if isinstance(self.optimizer, optimizers_module.Optimizer) and epochs > 0:
            self.optimizer.finalize_variable_values(self.trainable_weights)
        self._eval_epoch_iterator = None
        callbacks.on_train_end(logs=last)
        return self.history

    def _validate(self, data: Any, batch_size: Any, steps: Any, callbacks: Any) -> dict[str, Any]:
        x, y, sample_weight = _split(data)
        if self._eval_epoch_iterator is None:
            self._eval_epoch_iterator = EpochIterator(
                x=x, y=y, sample_weight=sample_weight, batch_size=batch_size, steps_per_epoch=steps, shuffle=False,
                steps_per_execution=self.steps_per_execution,
            )  # fmt: skip
        logs = self.evaluate(
            x=x, y=y, sample_weight=sample_weight, batch_size=batch_size, steps=steps, callbacks=callbacks,
            return_dict=True, _use_cached_eval_dataset=True,
        )  # fmt: skip
        return {f"val_{k}": v for k, v in logs.items()}

    @traceback_utils.filter_traceback
    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """As Keras documents it."""
        cached = kwargs.pop("_use_cached_eval_dataset", False)
        if kwargs:
            raise ValueError(f"Arguments not recognized: {kwargs}")
        if cached:
            batches: Any = self._eval_epoch_iterator
        else:
            batches = EpochIterator(
                x=x, y=y, sample_weight=sample_weight, batch_size=batch_size, steps_per_epoch=steps, shuffle=False,
                steps_per_execution=self.steps_per_execution,
            )  # fmt: skip
        self._symbolic_build(iterator=batches)
        batches.reset()
        callbacks = self._callbacks(callbacks, verbose, 1, batches.num_batches)
        self.make_test_function()
        self.stop_evaluating = False
        callbacks.on_test_begin()
        logs: Any = {}
        self.reset_metrics()
        for begin, end, data in batches:
            callbacks.on_test_batch_begin(begin)
            logs = self.test_function(data)
            callbacks.on_test_batch_end(end, logs)
            if self.stop_evaluating:
                break
        logs = pythonify_logs(self._get_metrics_result_or_logs(logs))
        callbacks.on_test_end(logs)
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    @traceback_utils.filter_traceback
    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As Keras documents it."""
        batches = EpochIterator(
            x=x,
            batch_size=batch_size,
            steps_per_epoch=steps,
            shuffle=False,
            steps_per_execution=self.steps_per_execution,
        )
        callbacks = self._callbacks(callbacks, verbose, 1, batches.num_batches)
        self.make_predict_function()
        self.stop_predicting = False
        callbacks.on_predict_begin()
        parts: list[Any] = []
        for begin, end, data in batches:
            callbacks.on_predict_batch_begin(begin)
            out = tree.map_structure(backend.convert_to_numpy, self.predict_function(data))
            parts.append(out)
            callbacks.on_predict_batch_end(end, {"outputs": out})
            if self.stop_predicting:
                break
        callbacks.on_predict_end()
        return tree.map_structure(lambda *ys: np.concatenate(ys), *parts)

    # ---- single batches
    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """As Keras documents it."""
        self._assert_compile_called("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Arguments `sample_weight` and `class_weight` cannot be specified at the same time. "
                    f"Received: sample_weight={sample_weight}, class_weight={class_weight}"
                )
            sample_weight = data_adapter_utils.class_weight_to_sample_weights(y, class_weight)
        return self._on_batch((x, y, sample_weight), "train", return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """As Keras documents it."""
        self._assert_compile_called("test_on_batch")
        return self._on_batch((x, y, sample_weight), "test", return_dict)

    def _on_batch(self, data: Any, kind: str, return_dict: bool) -> Any:
        data = tree.map_structure(lambda v: v if v is None else backend.convert_to_tensor(v), data)
        self._symbolic_build(data_batch=data)
        getattr(self, f"make_{kind}_function")()
        self.reset_metrics()
        logs = pythonify_logs(getattr(self, f"{kind}_function")([data]))
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def to_graph(self, input_signature: Any = None) -> Any:
        """The Graph of the model in inference: what ``dk.convert`` asks of a model in memory."""
        from deploykit.keras_backend.graph import to_graph

        return to_graph(self, input_signature)

    def predict_on_batch(self, x):
        """As Keras documents it."""
        self.make_predict_function()
        return tree.map_structure(backend.convert_to_numpy, self.predict_function([(x,)]))


def _as_input(x: Any) -> Any:
    """Arrays of numbers become tensors; None and objects pass."""
    if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind not in "OUS":
        return backend.convert_to_tensor(x)
    return x


def _traced(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``step`` through ``dk.function``; where tracing is impossible, a warning says why and steps run eagerly."""
    compiled = function(step)
    eager = False

    def run(data: Any) -> Any:
        nonlocal eager
        if not eager:
            try:
                return compiled(data)
            except TraceError as e:
                eager = True
                warnings.warn(f"the step cannot be traced and runs eagerly, which is slower: {e.message}", stacklevel=3)
        with no_gradient():
            return step(data)

    return run
