"""Quantization-aware training: a model that computes in float as its int8 file will, so that training mends the rounding.

    qat = dk.quantization_aware(model, calibration=x_train[:256])     # a dk.keras model, a file, a Graph
    qat.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
    qat.fit(x_train, y_train, epochs=2)
    qat.export("model.dk")                                             # int8: the integers that were trained

Forward, weights and activations go through quantize and dequantize with the scales that the quantizer would use;
backward, the rounding counts as the identity inside the range and as constant outside (straight-through estimator,
Bengio et al. 2013; the scheme is that of Jacob et al. 2018).  Batch norms are folded into the weights first, dropout is
gone, so what is trained is what runs.  Weights' scales follow the weights; activations' ranges are the calibrated ones, or
follow the batches with ``momentum``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from deploykit import keras
from deploykit.autodiff import numeric as N
from deploykit.autodiff.tape import custom_gradient, stop_gradient
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.errors import InputError, UnsupportedError
from deploykit.graph.ir import Graph, Node, Value
from deploykit.ops import F, get

# inputs that are trained, by op
TRAINED = {
    "conv": (1, 2), "conv_transpose": (1, 2), "matmul": (1, 2), "layer_norm": (1, 2), "rms_norm": (1,),
    "group_norm": (1, 2), "instance_norm": (1, 2), "prelu": (1,), "gather": (0,), "lstm": (1, 2, 3), "gru": (1, 2, 3),
    "rnn": (1, 2, 3),
}  # fmt: skip


def quantization_aware(
    source: Any,
    calibration: Any,
    *,
    observer: str = "mse",
    keep_float: Iterable[str] = (),
    momentum: float | None = None,
    input_shapes: dict[str, Any] | None = None,
) -> QuantizationAware:
    """A trainable ``keras.Model`` that behaves as the int8 form of ``source``.

    source: a ``dk.keras`` model (its weights are copied, it stays as it is), a Graph, or anything that ``dk.convert``
    reads; its first dim must be open to train on batches (``input_shapes={"x": ["n", 3, 224, 224]}``).  calibration: real
    inputs, as for ``convert(quantize="int8")``; some hundred training samples.  observer: how their ranges are chosen
    (docs/quantization.md).  keep_float: nodes or ops that stay float.  momentum: None keeps the calibrated ranges; 0.99 lets
    them follow the smallest and largest numbers of the batches.  Raises InputError, and UnsupportedError with all nodes that
    cannot be trained.
    """
    from deploykit import quantization
    from deploykit.api import file_reader, import_graph

    graph = source.to_graph() if isinstance(source, keras.Model) else import_graph(source, input_shapes)
    if momentum is not None and not 0 <= momentum < 1:
        raise InputError(f"momentum: got {momentum}, expected None or 0 <= momentum < 1.")
    quantization.check_request(graph, "int8", calibration, observer)
    keep, read_file = tuple(keep_float), file_reader(graph.metadata.get("preprocessing", {}))
    ready = quantization.prepare(graph, "int8", calibration, keep, read_file)
    for note in ready.notes:
        warnings.warn(note, stacklevel=2)
    graph = ready.graph
    bodies = [n.name or n.op for n in graph.nodes if any(isinstance(a, Graph) for a in n.attrs.values())]
    if bodies or graph.variables:
        what = f"control flow in {', '.join(bodies[:8])}" if bodies else "variables of its own"
        raise UnsupportedError(f"this model has {what}, which cannot be trained. Train it where it was made.")
    made = quantization.calibrated(graph, "int8", {"observer": observer}, (), ready.first, ready.data)
    made.keep = keep
    return QuantizationAware(made, momentum)


@custom_gradient
def _through(x: Any, scale: Any, zero: Any) -> Any:
    """quantize and dequantize; the gradient passes where x is inside the range."""
    q = F.quantize(x, scale, zero)
    y = F.dequantize(q, scale, zero)
    info = np.iinfo(str(zero.dtype))
    low, high = ((F.cast(zero, dtype="float32") * -1.0 + k) * scale for k in (float(info.min), float(info.max)))

    def backward(g: Any) -> Any:
        inside = F.logical_and(F.greater_equal(x, low - scale / 2), F.less_equal(x, high + scale / 2))
        return F.where(inside, g, N.zeros_like(g)), None, None

    return y, backward


def fake_quantize(x: Any, low: Any, high: Any) -> Tensor:
    """x as uint8 with the range low..high, widened to contain 0, would give it back; straight-through gradient for x.

    >>> fake_quantize(np.float32([0.0, 0.76, 9.0]), np.float32(0), np.float32(127.5)).numpy().tolist()
    [0.0, 1.0, 9.0]
    """
    low, high = N.minimum(low, np.float32(0)), N.maximum(high, np.float32(0))
    span = (high - low) / np.float32(255)
    scale = N.where(span > 0, span, np.float32(1))
    zero = F.cast(N.clip(F.round(-low / scale), np.float32(0), np.float32(255)), dtype="uint8")
    return _through(x, scale, zero)


def fake_quantize_weight(w: Any, axis: int) -> Tensor:
    """w as int8 with one symmetric scale per slice along ``axis`` would give it back; straight-through gradient."""
    rank = len(w.shape)
    axis %= rank
    top = N.amax(N.abs(stop_gradient(w)), tuple(i for i in range(rank) if i != axis)) / np.float32(127)
    scale = N.where(top > 0, top, np.float32(1))
    spread = scale.reshape([-1 if i == axis else 1 for i in range(rank)])

    @custom_gradient
    def through(w: Any) -> Any:
        # no weight lies outside its own range
        return F.round(w / spread) * spread, lambda g: g

    return through(w)


class QuantizationAware(keras.Model):
    """What :func:`quantization_aware` returns."""

    def __init__(self, made: Any, momentum: float | None) -> None:
        from deploykit.converters import quantize as q
        from deploykit.converters.ir import walk

        super().__init__(name="quantization_aware")
        self._made, self.momentum = made, momentum
        graph: Graph = made.floats
        choices = q.Choices("int8", keep_float=made.keep, observer=made.options["observer"], ends=True)
        groups = q.calibrate_values(graph, choices)
        self._quantized = {id(n) for n in q.weighted_products(graph, choices)}
        self._weights_of: dict[Value, Any] = {}
        self._ranges: dict[Value, tuple[Any, Any]] = {}
        for n in graph.nodes:
            for i in _trained(n, graph):
                w = walk.operand(n, i)
                if w is None or w.data is None or w.data.dtype != np.float32 or w in self._weights_of:
                    continue
                v = self.add_weight(w.data.shape, "zeros", name=w.name or f"{n.op}_{len(self._weights_of)}")
                v.assign(w.data)
                self._weights_of[w] = v
        for value, group in groups.items():
            ranges = [made.ranges[v.name] for v, g in groups.items() if g is group and v.name in made.ranges]
            if group not in self._ranges and ranges:
                pair = []
                for k, number in enumerate((min(r[0] for r in ranges), max(r[1] for r in ranges))):
                    v = self.add_weight((), "zeros", trainable=False, name=f"{group.name}/{('low', 'high')[k]}")
                    v.assign(np.float32(number))
                    pair.append(v)
                self._ranges[group] = (pair[0], pair[1])
            if group in self._ranges:
                self._ranges[value] = self._ranges[group]
        self.built = True

    # ---- forward
    def call(self, inputs: Any, training: bool = False) -> Any:
        graph: Graph = self._made.floats
        given = self._feeds(inputs)
        here: dict[Value, Any] = {}
        for v in graph.inputs:
            here[v] = self._rounded(v, convert_to_tensor(given[v.name]), training)
        for n in graph.nodes:
            ins = [None if v is None else self._operand(n, i, v, here) for i, v in enumerate(n.inputs)]
            op = get(n.op)
            more = {"n_outputs": len(n.outputs)} if op.variable_outputs else {}
            got = op(*ins, **n.attrs, **more)
            for made, y in zip(n.outputs, got if isinstance(got, (tuple, list)) else (got,), strict=False):
                if made is not None:
                    here[made] = self._rounded(made, y, training)
        results = [here[v] if v in here else convert_to_tensor(v.data) for v in graph.outputs]
        return results[0] if len(results) == 1 else results

    def _feeds(self, inputs: Any) -> dict[str, Any]:
        names = [v.name for v in self._made.floats.inputs]
        if isinstance(inputs, dict):
            missing = [n for n in names if n not in inputs]
            if missing:
                raise InputError(f"inputs: {', '.join(missing)} missing; expected {', '.join(names)}.")
            return inputs
        flat = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        if len(flat) != len(names):
            raise InputError(f"inputs: got {len(flat)}, expected {len(names)}: {', '.join(names)}.")
        return dict(zip(names, flat, strict=True))

    def _operand(self, n: Node, i: int, v: Value, here: dict[Value, Any]) -> Any:
        if v.data is None:
            return here[v]
        w = self._weights_of.get(v)
        if w is None:
            return v.data
        if i == 1 and id(n) in self._quantized:
            from deploykit.converters.quantize import channel_axis

            return fake_quantize_weight(w.value, channel_axis(n, v.data))
        return w.value

    def _rounded(self, v: Value, x: Any, training: bool) -> Any:
        pair = self._ranges.get(v)
        if pair is None:
            return x
        low, high = pair
        if training and self.momentum is not None:
            m = np.float32(self.momentum)
            least, most = (stop_gradient(f(x)) for f in (N.amin, N.amax))
            low.assign(low.value * m + least * (1 - m))
            high.assign(high.value * m + most * (1 - m))
        return fake_quantize(x, low.value, high.value)

    # ---- out
    def float_graph(self) -> Graph:
        """The float Graph with the weights as trained, without any rounding."""
        from deploykit.converters.ir import walk

        for v, w in self._weights_of.items():
            v.data = w.numpy()
        return walk.clone(self._made.floats)

    def to_graph(self, signatures: Any = ("infer",), portable: bool = False) -> Graph:
        """The Graph with quantize and dequantize nodes, as it was trained.  ``portable``: for engines that round every
        operand of a sum, where ours adds before it rounds."""
        if tuple(signatures) != ("infer",):
            raise UnsupportedError("a quantized model has no training step of its own: export signatures=('infer',).")
        self.float_graph()
        for v, (low, high) in self._ranges.items():
            self._made.ranges[v.name] = (float(low.numpy()), float(high.numpy()))
        self._made.options |= {"portable": portable, "ends": True}
        graph, _ = self._made.apply()
        return graph

    def export(
        self, filepath: Any, format: str | None = None, verbose: Any = None, signatures: Any = ("infer",), **kwargs: Any
    ) -> Any:
        """Write ``model.dk``, ``model.tflite`` or ``model.onnx`` with the integers as trained; returns the report."""
        from deploykit.api import convert

        path = str(filepath)
        if format is not None and not path.endswith(f".{format}"):
            path = f"{path}.{format}"
        return convert(self.to_graph(signatures, not path.endswith(".dk")), path, **kwargs)


def _trained(n: Node, graph: Graph) -> tuple[int, ...]:
    """Which inputs of a node are trained, when they are constants: also biases added behind a product."""
    if n.op == "add":
        other = [v.producer for v in n.inputs if v is not None and v.producer is not None]
        return (0, 1) if other and other[0].op in ("conv", "conv_transpose", "matmul") else ()
    return TRAINED.get(n.op, ())
