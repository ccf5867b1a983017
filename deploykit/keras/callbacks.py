"""Callbacks of ``fit``: the hooks of Keras 3 and the usual ones."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import InputError


class Callback:
    """Base: override the hooks you want.  ``self.model`` and ``self.params`` are set before training."""

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called once."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """epochs, steps, verbose."""
        self.params = params

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...
    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_test_batch_end(self, batch: int, logs: Any = None) -> None: ...
    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None: ...
    def on_train_begin(self, logs: Any = None) -> None: ...
    def on_train_end(self, logs: Any = None) -> None: ...
    def on_test_begin(self, logs: Any = None) -> None: ...
    def on_test_end(self, logs: Any = None) -> None: ...
    def on_predict_begin(self, logs: Any = None) -> None: ...
    def on_predict_end(self, logs: Any = None) -> None: ...


class History(Callback):
    """What ``fit`` returns: ``history.history["loss"]`` per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for k, v in (logs or {}).items():
            self.history.setdefault(k, []).append(v)

    def plot(self, path: str | os.PathLike[str] | None = None) -> str:
        """The curves as SVG text; written to a file when ``path`` is given."""
        from deploykit.keras.utils import plot_history

        return plot_history(self.history, self.epoch, path)


class ProgbarLogger(Callback):
    """A line per epoch; on a terminal a bar that moves."""

    def __init__(self) -> None:
        super().__init__()
        self._terminal = sys.stdout.isatty()
        self._last = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()
        print(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def _line(self, step: int, logs: Any) -> str:
        total = self.params.get("steps")
        seconds = time.perf_counter() - self._start
        done = f"{step}/{total}" if total else str(step)
        bar = ""
        if total and self._terminal:
            filled = int(20 * step / total)
            bar = " " + "━" * filled + "─" * (20 - filled)
        values = " - ".join(f"{k}: {float(np.mean(np.asarray(v))):.4f}" for k, v in (logs or {}).items())
        return f"{done}{bar} {seconds:.0f}s {1e3 * seconds / max(step, 1):.0f}ms/step - {values}"

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step = batch + 1
        now = time.perf_counter()
        if self._terminal and now - self._last > 0.1:
            self._last = now
            print("\r" + self._line(batch + 1, logs), end="\033[K", flush=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        print(("\r" if self._terminal else "") + self._line(self._step, logs) + ("\033[K" if self._terminal else ""))


class CallbackList:
    """Callbacks as one."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self.callbacks = callbacks

    @classmethod
    def of(cls, given: Any, model: Any, verbose: Any, **params: Any) -> CallbackList:
        """History, a progress bar if wanted, and the user's."""
        if isinstance(given, CallbackList):
            return given
        callbacks = list(given) if isinstance(given, (list, tuple)) else [given] if given is not None else []
        wrong = [type(c).__name__ for c in callbacks if not hasattr(c, "on_epoch_end")]
        if wrong:
            raise InputError(f"callbacks: got {wrong[0]}, expected keras.callbacks.Callback objects.")
        training = "epochs" in params and params["epochs"] is not None
        history = History()
        model.history = history if training else model.history
        bar: list[Callback] = (
            [ProgbarLogger()] if verbose not in (0, False) and params["epochs"] and verbose != "none" else []
        )
        out = cls([history, *bar, *callbacks])
        for c in out.callbacks:
            c.set_model(model)
            c.set_params({"verbose": verbose, **params})
        return out

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def call(*args: Any) -> None:
            for c in self.callbacks:
                getattr(c, name)(*args)

        return call


class LambdaCallback(Callback):
    """Hooks as functions."""

    def __init__(self, on_epoch_begin: Any = None, on_epoch_end: Any = None, on_train_begin: Any = None, on_train_end: Any = None, on_train_batch_begin: Any = None, on_train_batch_end: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__()
        given = dict(on_epoch_begin=on_epoch_begin, on_epoch_end=on_epoch_end, on_train_begin=on_train_begin, on_train_end=on_train_end, on_train_batch_begin=on_train_batch_begin, on_train_batch_end=on_train_batch_end, **kwargs)  # fmt: skip
        for k, f in given.items():
            if f is not None:
                setattr(self, k, f)


class _Watch(Callback):
    """Callbacks that follow a monitored value."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise InputError(f"{type(self).__name__}: got mode={mode!r}, expected auto, min or max.")
        up = mode == "max" or (
            mode == "auto" and any(w in monitor for w in ("acc", "auc", "precision", "recall", "iou", "f1", "r2"))
        )
        self.monitor, self._sign, self.min_delta = monitor, 1.0 if up else -1.0, abs(min_delta)
        self.best = -np.inf * self._sign

    def value(self, logs: Any) -> float | None:
        """The monitored value; a warning names what there is."""
        v = (logs or {}).get(self.monitor)
        if v is None:
            import warnings

            warnings.warn(
                f"{type(self).__name__}: '{self.monitor}' is not there; available: {', '.join(logs or {})}.",
                stacklevel=2,
            )
        return None if v is None else float(v)

    def better(self, value: float, than: float) -> bool:
        """Whether a value is an improvement."""
        return (value - than) * self._sign > self.min_delta


class EarlyStopping(_Watch):
    """Stop when the monitored value does not improve for ``patience`` epochs."""

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0, verbose: int = 0, mode: str = "auto", baseline: float | None = None, restore_best_weights: bool = False, start_from_epoch: int = 0) -> None:  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        self.patience, self.baseline, self.verbose = patience, baseline, verbose
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch

    def on_train_begin(self, logs: Any = None) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best, self.best_weights = -np.inf * self._sign, None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = self.value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")


class ModelCheckpoint(_Watch):
    """Save the model (or its weights) each epoch, or when it is the best so far."""

    def __init__(self, filepath: Any, monitor: str = "val_loss", verbose: int = 0, save_best_only: bool = False, save_weights_only: bool = False, mode: str = "auto", save_freq: Any = "epoch", initial_value_threshold: float | None = None) -> None:  # fmt: skip
        super().__init__(monitor, mode)
        self.filepath, self.verbose, self.save_freq = os.fspath(filepath), verbose, save_freq
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        if initial_value_threshold is not None:
            self.best = initial_value_threshold
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if isinstance(self.save_freq, int) and self._batches % self.save_freq == 0:
            self._save(0, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def _save(self, epoch: int, logs: Any) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if value is None or not self.better(value, self.best):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except KeyError as e:
            raise InputError(
                f"ModelCheckpoint: '{self.filepath}' names {e}; known: epoch, {', '.join(logs or {})}."
            ) from None
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)


class ReduceLROnPlateau(_Watch):
    """Multiply the learning rate when the monitored value does not improve."""

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0, mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0, min_lr: float = 0.0, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        if factor >= 1:
            raise InputError(f"ReduceLROnPlateau: got factor={factor}, expected less than 1.")
        self.factor, self.patience, self.verbose, self.cooldown, self.min_lr = (
            factor,
            patience,
            verbose,
            cooldown,
            min_lr,
        )

    def on_train_begin(self, logs: Any = None) -> None:
        self.wait = self._cooling = 0
        self.best = -np.inf * self._sign

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        value = self.value(logs)
        if value is None:
            return
        if self._cooling > 0:
            self._cooling -= 1
            self.wait = 0
        if self.better(value, self.best):
            self.best, self.wait = value, 0
        elif self._cooling <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                old = float(np.asarray(self.model.optimizer.learning_rate))
                if old > self.min_lr:
                    self.model.optimizer.learning_rate = max(old * self.factor, self.min_lr)
                    self._cooling, self.wait = self.cooldown, 0


class LearningRateScheduler(Callback):
    """The learning rate of each epoch from a function (epoch[, rate])."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        old = float(np.asarray(self.model.optimizer.learning_rate))
        try:
            rate = self.schedule(epoch, old)
        except TypeError:
            rate = self.schedule(epoch)
        if not isinstance(rate, (float, int, np.floating)):
            raise InputError(f"LearningRateScheduler: the schedule gave {type(rate).__name__}, expected a float.")
        self.model.optimizer.learning_rate = float(rate)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))


class TerminateOnNaN(Callback):
    """Stop when the loss is no number."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = float(np.asarray((logs or {}).get("loss", 0.0)))
        if not np.isfinite(loss):
            print(f"Batch {batch}: loss is {loss}, terminating training")
            self.model.stop_training = True


class CSVLogger(Callback):
    """A line per epoch in a CSV file."""

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename, self.separator, self.append = os.fspath(filename), separator, append

    def on_train_begin(self, logs: Any = None) -> None:
        exists = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        self._file = open(self.filename, "a" if self.append else "w", newline="")
        self._header = exists
        self._keys: list[str] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        self._keys = self._keys or sorted(logs)
        writer = csv.writer(self._file, delimiter=self.separator)
        if not self._header:
            writer.writerow(["epoch", *self._keys])
            self._header = True
        writer.writerow([epoch, *(logs.get(k, "NA") for k in self._keys)])
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._file.close()


class BackupAndRestore(Callback):
    """Keep the state of training in a folder after each epoch; a run that was killed goes on from there."""

    def __init__(self, backup_dir: Any, save_freq: Any = "epoch", delete_checkpoint: bool = True) -> None:
        super().__init__()
        self.folder = Path(backup_dir)
        self.delete_checkpoint = delete_checkpoint
        self.file = self.folder / "training.safetensors"

    def on_train_begin(self, logs: Any = None) -> None:
        from deploykit.autodiff import random
        from deploykit.keras import saving

        if not self.file.is_file():
            return
        tensors, meta = saving.read_safetensors(self.file)
        self.model._build_optimizer()
        for v in saving.all_state(self.model):
            v[1].assign(tensors[v[0]])
        self.model._initial_epoch = int(meta["epoch"])
        random.default_generator().set_state((int(meta["seed"]), int(meta["draws"])))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        from deploykit.autodiff import random
        from deploykit.keras import saving

        self.folder.mkdir(parents=True, exist_ok=True)
        seed, draws = random.default_generator().get_state()
        tensors = {k: v.numpy() for k, v in saving.all_state(self.model)}
        saving.write_safetensors(self.file, tensors, {"epoch": str(epoch + 1), "seed": str(seed), "draws": str(draws)})

    def on_train_end(self, logs: Any = None) -> None:
        if self.delete_checkpoint and self.file.is_file():
            self.file.unlink()


class SwapEMAWeights(Callback):
    """Averaged weights for evaluation (and at the end of each epoch, for checkpoints)."""

    def __init__(self, swap_on_epoch: bool = False) -> None:
        super().__init__()
        self.swap_on_epoch = swap_on_epoch

    def _swap(self) -> None:
        o = self.model.optimizer
        if not getattr(o, "use_ema", False):
            raise InputError("SwapEMAWeights: the optimizer does not average; make it with use_ema=True.")
        for v in self.model.trainable_variables:
            a = o.slot("average", v)
            now, average = v.numpy(), a.numpy()
            v.assign(average)
            a.assign(now)

    def on_test_begin(self, logs: Any = None) -> None:
        self._swap()

    def on_test_end(self, logs: Any = None) -> None:
        self._swap()

    def on_predict_begin(self, logs: Any = None) -> None:
        self._swap()

    def on_predict_end(self, logs: Any = None) -> None:
        self._swap()


class TensorBoard(Callback):
    """Event files for TensorBoard: losses and metrics per epoch (or every ``update_freq`` batches), histograms of weights,
    the model's graph."""

    def __init__(self, log_dir: Any = "logs", histogram_freq: int = 0, write_graph: bool = True, write_images: bool = False, write_steps_per_second: bool = False, update_freq: Any = "epoch", profile_batch: int = 0, embeddings_freq: int = 0, embeddings_metadata: Any = None) -> None:  # fmt: skip
        super().__init__()
        self.log_dir, self.histogram_freq, self.write_graph = Path(log_dir), histogram_freq, write_graph
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._writers: dict[str, Any] = {}
        self._batches = 0

    def _writer(self, name: str) -> Any:
        from deploykit import summary

        if name not in self._writers:
            self._writers[name] = summary.create_file_writer(self.log_dir / name)
        return self._writers[name]

    def on_train_begin(self, logs: Any = None) -> None:
        if self.write_graph and hasattr(self.model, "inputs"):
            self._writer("train").graph(self.model.to_graph())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if isinstance(self.update_freq, int) and self._batches % self.update_freq == 0:
            for k, v in (logs or {}).items():
                self._writer("train").scalar(f"batch_{k}", v, self._batches)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for k, v in (logs or {}).items():
            if np.ndim(v) == 0:
                where = "validation" if k.startswith("val_") else "train"
                self._writer(where).scalar(f"epoch_{k.removeprefix('val_')}", v, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for w in self.model.weights:
                self._writer("train").histogram(f"{w.path}/histogram", w.numpy(), epoch)
        for w in self._writers.values():
            w.flush()

    def on_train_end(self, logs: Any = None) -> None:
        for w in self._writers.values():
            w.close()
        self._writers = {}
