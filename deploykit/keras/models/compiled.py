"""Losses and metrics of ``compile`` for the outputs of a model: one for all, lists, or dicts by output name."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.autodiff import tree
from deploykit.errors import InputError
from deploykit.keras import losses as losses_module
from deploykit.keras import metrics as metrics_module


def _per_output(given: Any, outputs: Any, what: str) -> list[Any]:
    """One entry per output leaf."""
    leaves = tree.flatten(outputs)[0]
    if isinstance(given, dict) and "class_name" not in given:
        if isinstance(outputs, dict):
            keys = sorted(outputs)
            unknown = set(given) - set(keys)
        else:
            keys = [getattr(getattr(t, "node", None), "layer", t).name if hasattr(t, "node") else str(i) for i, t in enumerate(leaves)]  # fmt: skip
            if len(given) == len(leaves) and set(given) - set(keys):
                return list(given.values())
            unknown = set(given) - set(keys)
        if unknown:
            raise InputError(
                f"compile: {what} for {', '.join(sorted(unknown))}, but the outputs are {', '.join(keys)}."
            )
        return [given.get(k) for k in keys]
    if isinstance(given, (list, tuple)):
        if len(given) != len(leaves):
            raise InputError(f"compile: {len(given)} {what} for {len(leaves)} outputs.")
        return list(given)
    return [given] * len(leaves)


class CompiledLoss:
    """Weighted sum of the losses of all outputs."""

    def __init__(self, loss: Any, weights: Any = None) -> None:
        self.given, self.weights = loss, weights
        for w in [] if weights is None else tree.flatten(weights)[0]:
            if isinstance(w, str) or not np.isscalar(w):
                raise InputError(f"compile(loss_weights=...): got {w!r}, expected numbers, one per output.")
        self._made: list[Any] | None = None

    def for_outputs(self, outputs: Any) -> list[Any]:
        """A Loss (or None) per output."""
        if self._made is None:
            self._made = [losses_module.as_loss(x) for x in _per_output(self.given, outputs, "losses")]
        return self._made

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        parts = self.for_outputs(y_pred)
        preds = tree.flatten(y_pred)[0]
        trues = tree.flatten(y)[0] if y is not None else []
        if len(trues) != len(preds):
            raise InputError(f"the model gives {len(preds)} outputs, the data {len(trues)} labels.")
        weights = _per_output(self.weights, y_pred, "loss_weights") if self.weights is not None else [None] * len(preds)
        sample = tree.flatten(sample_weight)[0] if sample_weight is not None else [None]
        sample = sample * len(preds) if len(sample) == 1 else sample
        total: Any = None
        for loss, t, p, w, s in zip(parts, trues, preds, weights, sample, strict=True):
            if loss is None:
                continue
            value = loss(t, p, sample_weight=s)
            value = value if w is None else value * float(w)
            total = value if total is None else total + value
        if total is None:
            raise InputError("compile: no output has a loss.")
        return total


class CompiledMetrics:
    """The metrics of all outputs."""

    def __init__(self, metrics: Any, weighted: Any) -> None:
        self.given, self.weighted = metrics, weighted
        self._made: list[tuple[int, Any, bool]] | None = None

    @property
    def metrics(self) -> list[Any]:
        """Metric objects, once the outputs are known."""
        return [m for _, m, _ in self._made or []]

    def _build(self, y: Any, y_pred: Any) -> None:
        preds, trues = tree.flatten(y_pred)[0], tree.flatten(y)[0]
        made = []
        for given, weighted in ((self.given, False), (self.weighted, True)):
            if given is None:
                continue
            if len(preds) == 1 and not isinstance(given, dict):
                per = [given]
            elif isinstance(given, (list, tuple)) and len(given) == len(preds) and len(preds) > 1:
                per = list(given)
            elif isinstance(given, (list, tuple)):
                per = [list(given)] * len(preds)
            else:
                per = _per_output(given, y_pred, "metrics")
            for i, ms in enumerate(per):
                for m in ms if isinstance(ms, (list, tuple)) else [ms]:
                    if m is not None:
                        made.append((i, metrics_module.as_metric(m, trues[i], preds[i]), weighted))
        names: dict[str, int] = {}
        for _, m, _ in made:
            n = names.get(m.name, 0)
            names[m.name] = n + 1
            if n:
                m.name = f"{m.name}_{n}"
        self._made = made

    def update(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        """Take in a batch."""
        if self.given is None and self.weighted is None:
            return
        if self._made is None:
            self._build(y, y_pred)
        preds, trues = tree.flatten(y_pred)[0], tree.flatten(y)[0]
        sample = tree.flatten(sample_weight)[0] if sample_weight is not None else [None]
        sample = sample * len(preds) if len(sample) == 1 else sample
        for i, m, weighted in self._made or []:
            if weighted:
                m.update_state(trues[i], preds[i], sample_weight=sample[i])
            else:
                m.update_state(trues[i], preds[i])
