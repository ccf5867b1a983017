"""Schemes: which tensors become integers, and the nodes that say so (docs/quantization-ir.md).

int8    activations uint8 with a zero point each, weights int8 symmetric per output channel (the LiteRT 8-bit rules);
        explicit quantize and dequantize nodes, which later passes turn into integer ops.
int16x8 the same with symmetric int16 activations, for engines with 16-bit kernels (LiteRT's 16x8 rules); ours computes
        such products in float.
dynamic weights int8 per output channel, activations of products quantized row by row when the model runs.
fp16    weights float16.
int4    weights of products int4 in blocks of 32 (or 64, 128) along the summed axis, other weights int8.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr, operand, same_shape
from deploykit.converters.quantize import repair
from deploykit.errors import InputError
from deploykit.graph import Graph, Node, Value

SCHEMES = ("fp16", "dynamic", "int8", "int16x8", "int4")
STATIC = ("int8", "int16x8")  # activations have ranges from calibration
LEAST = 64  # weights of fewer elements stay as they are

PRODUCTS = frozenset(("conv", "matmul"))
CLAMPS = frozenset(("relu", "relu6", "clip"))
# ops with an integer form between quantize and dequantize
ARITHMETIC = frozenset(("add", "sub", "mul", "avg_pool", "reduce_mean", "softmax", "global_avg_pool"))
TABLES = frozenset(
    "sigmoid tanh silu hard_swish hard_sigmoid leaky_relu elu gelu mish softplus selu relu relu6 clip".split()
)
# results are elements of the inputs: one range for all of them
MOVES = frozenset(
    "reshape flatten squeeze unsqueeze transpose slice split concat max_pool depth_to_space space_to_depth expand tile "
    "reverse resize pad".split()
)
INTEGER = PRODUCTS | ARITHMETIC | TABLES | MOVES
# of these LiteRT has 16-bit kernels; an average keeps the scale of its input there
WIDE = (
    PRODUCTS | MOVES | frozenset("add sub mul avg_pool reduce_mean softmax sigmoid tanh relu relu6 leaky_relu".split())
)
WIDE_MOVES = MOVES | {"avg_pool"}
UNIT = frozenset(("sigmoid", "tanh", "softmax"))  # whose 16-bit results have the scale 2**-15


@dataclass
class Choices:
    """What the user may say, and what was done: ``counts`` by kind, ``notes`` for people."""

    scheme: str
    observer: str = "mse"
    keep_float: tuple[str, ...] = ()
    block_size: int = 32
    repairs: tuple[str, ...] = ()
    portable: bool = False  # for other engines: round also where ours adds before it rounds
    ends: bool = False  # integers up to the outputs, also where only floats are read
    moments: dict[Value, repair.Moments] = field(default_factory=dict)  # of inputs of products, for the repairs
    reads: dict[Node, Value] = field(default_factory=dict)  # first inputs before quantize nodes came in between
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def loose(self) -> bool:
        """Whether what only floats read stays unrounded."""
        return self.scheme == "int8" and not (self.ends or self.portable)

    def keeps(self, n: Node) -> bool:
        """Whether a node was asked to stay float, by its name, an output's name, or its op."""
        return bool(self.keep_float) and (
            n.name in self.keep_float
            or n.op in self.keep_float
            or any(v is not None and v.name in self.keep_float for v in n.outputs)
        )


def _is_activation(v: Value | None) -> bool:
    return v is not None and v.data is None and v.dtype is dtypes.float32


def _weight_ok(n: Node) -> bool:
    """A product with a constant weight of known shape (or a product of two activations)."""
    w = operand(n, 1)
    if w is None or w.dtype is not dtypes.float32:
        return False
    if n.op == "matmul":
        return (
            w.data is not None and w.data.ndim == 2 and attr(n, "alpha") == 1.0 and not attr(n, "transpose_a")
        ) or w.data is None
    return w.data is not None


def _wanted(graph: Graph, choices: Choices) -> set[Node]:
    out = set()
    allowed = WIDE if choices.scheme == "int16x8" else INTEGER
    for n in graph.nodes:
        if n.op not in allowed or choices.keeps(n) or not _is_activation(n.outputs[0]):
            continue
        if n.op in PRODUCTS and not _weight_ok(n):
            continue
        out.add(n)
    if choices.loose:
        readers = graph.consumers()
        for n in reversed(
            graph.nodes
        ):  # what no product uses need not be rounded: softmax at the end, transformers' sums
            if n in out and n.op not in PRODUCTS and not any(u in out for u in readers.get(n.output, ())):
                out.discard(n)
    return out


def calibrate_values(graph: Graph, choices: Choices) -> dict[Value, Value]:
    """activation -> representative of the group that shares its range; only activations that become integers.

    An output of a product or sum that only a clamp reads is left out: it never exists in the integer form.  So is that of
    a product that only a sum reads: our engine adds the other tensor before it rounds, and what only float ops or people
    read is never rounded.
    """
    wanted = _wanted(graph, choices)
    wide = choices.scheme == "int16x8"
    moves, clamps = (WIDE_MOVES, CLAMPS - {"clip"}) if wide else (MOVES, CLAMPS)
    readers = graph.consumers()
    group: dict[Value, Value] = {}

    def find(v: Value) -> Value:
        while group.get(v, v) is not v:
            v = group[v]
        return v

    for n in graph.nodes:
        if n not in wanted:
            continue
        values = [v for v in (*n.inputs, *n.outputs) if _is_activation(v)]
        for v in values:
            group.setdefault(v, v)  # type: ignore[arg-type]
        if n.op in moves and not (n.op == "pad" and attr(n, "mode") == "constant" and operand(n, 2) is not None):
            data = [v for v in (*(n.inputs if n.op == "concat" else n.inputs[:1]), *n.outputs) if _is_activation(v)]
            for v in data[1:]:
                group[find(v)] = find(data[0])  # type: ignore[arg-type]
    outputs = set(graph.outputs)
    for n in wanted:
        y = n.output
        users = readers.get(y, [])
        if (
            n.op in PRODUCTS | {"add", "sub", "mul"}
            and y not in outputs
            and len(users) == 1
            and users[0].op in clamps
            and users[0] in wanted
        ):
            group.pop(y, None)
        if n.op in PRODUCTS and choices.loose and not any(u in wanted for u in users):
            group.pop(y, None)
    sums: set[Node] = set()  # one of a sum's two operands stays unrounded
    for n in graph.nodes if not choices.portable else ():  # our engine adds before it rounds
        y = n.outputs[0] if n.outputs else None
        users = readers.get(y, []) if y is not None else []
        if y is None or n.op not in PRODUCTS or n not in wanted or y in outputs or len(users) != 1:
            continue
        total = users[0]
        other = next((v for v in total.inputs if v is not y), None)
        if total.op != "add" or total not in wanted or total in sums or other not in group:
            continue
        if n.op == "conv" and attr(n, "groups") != 1:
            continue
        if same_shape(y, other):  # type: ignore[arg-type]
            sums.add(total)
            group.pop(y, None)
    return {v: find(v) for v in list(group)}


def observed_values(graph: Graph) -> list[Value]:
    """All activations that become integers under some choice of nodes."""
    wanted = _wanted(graph, Choices("int8", ends=True))
    values = (v for n in graph.nodes if n in wanted for v in (*n.inputs, *n.outputs))
    return list(dict.fromkeys(v for v in values if v is not None and _is_activation(v)))


def quantize_static(
    graph: Graph, groups: dict[Value, Value], ranges: dict[Value, tuple[float, float]], choices: Choices
) -> None:
    """Insert quantize and dequantize nodes for activations and weights; edits the graph in place."""
    wanted = _wanted(graph, choices)
    choices.reads = {n: n.inputs[0] for n in wanted if n.inputs and n.inputs[0] is not None}
    merged: dict[Value, tuple[float, float]] = {}
    for v, g in groups.items():
        if v in ranges:
            low, high = merged.get(g, (np.inf, -np.inf))
            mine = ranges[v]
            if choices.scheme == "int16x8" and v.producer is not None and v.producer.op in UNIT:
                mine = (-32767 / 32768, 32767 / 32768)
            merged[g] = (min(low, mine[0]), max(high, mine[1]))
    rw = Rewriter(graph)
    for v in list(dict.fromkeys([*graph.inputs, *(o for n in graph.nodes for o in n.outputs if o is not None)])):
        if v not in groups or groups[v] not in merged:
            continue
        users = list(rw.users(v))
        if not any(u in wanted for u in users) and (v.producer is None or v.producer not in wanted):
            continue
        scale, zero = activation_scale(*merged[groups[v]], wide=choices.scheme == "int16x8")
        place = rw.before(next(iter(rw.nodes()), None)) if v.producer is None else rw.after(v.producer)
        with place:
            q = rw.op("quantize", v, scale, zero)
            d = rw.op("dequantize", q, scale, zero)
        for u in users:
            if u is q.producer:
                continue
            for i, x in enumerate(u.inputs):
                if x is v:
                    rw.set_input(u, i, d)
        graph.outputs = [d if o is v else o for o in graph.outputs]
        choices.counts["activations"] += 1
    for n in rw.nodes():
        if n in wanted and n.op in PRODUCTS:
            w = n.inputs[1]
            if w is not None and w.data is not None:
                with rw.before(n):
                    narrow = _narrow_weight(rw, n, w, choices)
                    _correct_bias(rw, n, w, narrow, choices)
                    rw.set_input(n, 1, narrow)
                choices.counts["weights"] += 1
    rw.commit()


def activation_scale(low: float, high: float, wide: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(scale, zero point) of uint8, or symmetric int16 when wide, for a range, which is widened to contain 0.

    >>> activation_scale(-1.0, 1.55)
    (array(0.01, dtype=float32), array(100, dtype=uint8))
    """
    if wide:
        reach = np.float32(max(-low, high) / 32767) or np.float32(1.0)
        return np.asarray(reach, np.float32), np.asarray(0, np.int16)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1.0)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray(scale, np.float32), np.asarray(zero, np.uint8)


def symmetric(w: np.ndarray, axis: int, top: int = 127, least: Any = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(integers, scale per slice along axis) without zero points; no scale below ``least``."""
    rest = tuple(i for i in range(w.ndim) if i != axis)
    scale = np.abs(w).max(axis=rest, initial=0.0).astype(np.float32) / np.float32(top)
    scale = np.maximum(np.where(scale > 0, scale, np.float32(1.0)), least).astype(np.float32)
    wide = scale.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
    return np.clip(np.rint(w / wide), -top, top).astype(np.int8), scale


def weighted_products(graph: Graph, choices: Choices) -> list[Node]:
    """The products whose constant weights :func:`quantize_static` makes int8."""
    return [
        n for n in _wanted(graph, choices) if n.op in PRODUCTS and n.inputs[1] is not None and n.inputs[1].is_constant
    ]


def channel_axis(n: Node, w: np.ndarray) -> int:
    """The axis of a product's weight along which outputs lie."""
    if n.op == "conv":
        return 0
    if n.op == "conv_transpose":
        return w.ndim - 1
    return 0 if attr(n, "transpose_b") else w.ndim - 1


def _rounded(n: Node, w: np.ndarray, axis: int, choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """(int8, scale per output) by rounding to the nearest, or as the repairs know better."""
    wide = choices.scheme == "int16x8"  # biases have 64 bits there
    q, scale = symmetric(w, axis, least=0.0 if wide else _least_scale(n, w.shape[axis]))
    h = None
    x = choices.reads.get(n)
    if repair.weighed(n) and {"gptq", "round"} & set(choices.repairs) and x is not None:
        h = repair.hessian(n, choices.moments.get(x))
    if h is None:
        return q, scale
    flat = np.moveaxis(w, axis, -1).reshape(-1, w.shape[axis])  # [inputs, outputs]
    if len(flat) != len(h):
        return q, scale
    if "gptq" in choices.repairs:
        better = repair.gptq(flat, h, lambda k, _: scale, -127, 127)
    else:
        better = repair.adaround(flat, h, scale)
    choices.counts["weights rounded by their effect"] += 1
    shape = [s for i, s in enumerate(w.shape) if i != axis] + [w.shape[axis]]
    return np.ascontiguousarray(np.moveaxis(better.reshape(shape), -1, axis)).astype(np.int8), scale


def _least_scale(n: Node, outputs: int) -> Any:
    """The weight scales from which on the bias fits 32 bits: channels of tiny weights would saturate it otherwise."""
    bias, d = operand(n, 2), n.inputs[0].producer if n.inputs[0] is not None else None
    if bias is None or bias.data is None or bias.data.size not in (1, outputs) or d is None or d.op != "dequantize":
        return 0.0
    x_scale = d.inputs[1].data  # type: ignore[union-attr]
    return np.abs(bias.data.reshape(-1)) / (np.float32(2**30) * x_scale) if x_scale is not None else 0.0


def _correct_bias(rw: Rewriter, n: Node, w: Value, narrow: Value, choices: Choices) -> None:
    """Take the mean shift that rounded weights give off the bias."""
    x, bias = choices.reads.get(n), operand(n, 2)
    m = choices.moments.get(x) if x is not None else None
    made = narrow.producer
    if "bias" not in choices.repairs or m is None or made is None or w.data is None:
        return
    if bias is not None and (bias.data is None or bias.data.ndim != 1):
        return
    q, scale = (v.data for v in made.inputs[:2] if v is not None)
    assert q is not None and scale is not None
    shape = [1] * q.ndim
    shape[attr(made, "axis") % q.ndim] = -1
    shift = repair.bias_shift(n, q.astype(np.float32) * scale.reshape(shape) - w.data, m.mean)
    if shift is None:
        return
    old = bias.data if bias is not None and bias.data is not None else np.float32(0)
    rw.set_input(n, 2, rw.constant((old - shift).astype(np.float32), bias.name if bias is not None else "bias"))
    choices.counts["biases corrected"] += 1


def _narrow_weight(rw: Rewriter, n: Node, w: Value, choices: Choices) -> Value:
    assert w.data is not None
    axis = channel_axis(n, w.data)
    q, scale = _rounded(n, w.data, axis, choices)
    return rw.op("dequantize", rw.constant(q, w.name), scale, np.zeros(scale.shape, np.int8), axis=axis)


# ---------------------------------------------------------------- weights only
_HOLDERS = {
    "conv": (1,),
    "conv_transpose": (1,),
    "matmul": (1,),
    "lstm": (1, 2),
    "gru": (1, 2),
    "rnn": (1, 2),
    "gather": (0,),
}


def quantize_weights(graph: Graph, choices: Choices) -> None:
    """fp16, dynamic or int4, in this graph and its bodies; edits in place."""
    if choices.scheme not in SCHEMES:
        raise InputError(f"quantize: got {choices.scheme!r}, expected one of {', '.join(SCHEMES)}, auto.")
    for g in graph.walk():
        rw = Rewriter(g)
        narrow: dict[tuple[int, int], Value] = {}  # a weight read twice is stored once
        for n in rw.nodes():
            for i in _HOLDERS.get(n.op, ()):
                w = operand(n, i)
                if (
                    w is None
                    or w.data is None
                    or w.dtype is not dtypes.float32
                    or w.data.size < LEAST
                    or choices.keeps(n)
                ):
                    continue
                if choices.scheme == "dynamic" and (_dynamic(rw, n, w) or _dynamic_lstm(rw, n, choices)):
                    choices.counts["products"] += 1
                    break
                axis = _axis_of_holder(n, w.data)
                key = (id(w.data), axis)
                if key not in narrow:
                    with rw.before(n):
                        narrow[key] = _stored(rw, n, w, axis, choices)
                    choices.counts["weights"] += 1
                rw.set_input(n, i, narrow[key])
        rw.commit()


def _axis_of_holder(n: Node, w: np.ndarray) -> int:
    if n.op in ("lstm", "gru", "rnn"):
        return 1  # [directions, gates * hidden, features]
    return 0 if n.op == "gather" else channel_axis(n, w)


def _stored(rw: Rewriter, n: Node, w: Value, axis: int, choices: Choices) -> Value:
    assert w.data is not None
    data = w.data
    if choices.scheme == "fp16":
        if np.abs(data).max() > 65504:
            choices.notes.append(f"weight '{w.name}' of {n.op} '{n.name}' is too large for float16 and stays float32")
            return w
        return rw.op("cast", rw.constant(data.astype(np.float16), w.name), dtype="float32")
    if (
        choices.scheme == "int4"
        and n.op == "matmul"
        and data.ndim == 2
        and n.inputs[0] is not None
        and (n.inputs[0].rank or 0) >= 2
    ):
        summed = 1 - axis
        if data.shape[summed] % choices.block_size == 0:
            return _blocks(rw, n, w, summed, choices)
        choices.notes.append(
            f"weight '{w.name}' of {n.op} '{n.name}' is int8: its {data.shape[summed]} inputs are not a multiple of the "
            f"block size {choices.block_size}"
        )
    q, scale = symmetric(data, axis)
    return rw.op("dequantize", rw.constant(q, w.name), scale, np.zeros(scale.shape, np.int8), axis=axis)


def _block_scale(parts: np.ndarray) -> np.ndarray:
    """Of 12 scales per block [..., block, outputs] the one with the least squared error: [..., 1, outputs]."""
    top = np.abs(parts).max(-2, keepdims=True)
    best, least = np.ones_like(top), np.full(top.shape, np.inf)
    for keep in np.linspace(1.0, 0.72, 12):
        scale = np.where(top > 0, top * keep / 7, 1.0)
        error = ((np.clip(np.rint(parts / scale), -8, 7) * scale - parts) ** 2).sum(-2, keepdims=True)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best


def _blocks(rw: Rewriter, n: Node, w: Value, summed: int, choices: Choices) -> Value:
    """int4 in blocks along the summed axis."""
    assert w.data is not None, "only constants are weights"
    block = choices.block_size
    data = np.moveaxis(w.data, summed, 0)
    x = n.inputs[0]
    h = repair.hessian(n, choices.moments.get(x)) if x is not None and "gptq" in choices.repairs else None
    if h is not None and len(h) == len(data):
        scales = np.zeros((len(data) // block, data.shape[1]), np.float32)

        def grid(k: int, left: np.ndarray) -> np.ndarray:
            if k % block == 0:
                scales[k // block] = _block_scale(left[k : k + block])[0]
            return scales[k // block]

        q, scale = repair.gptq(data, h, grid, -8, 7), scales
        choices.counts["weights rounded by their effect"] += 1
    else:
        parts = data.reshape(-1, block, data.shape[1])
        best = _block_scale(parts)
        q, scale = np.clip(np.rint(parts / best), -8, 7).reshape(data.shape), best[:, 0, :].astype(np.float32)
    q, scale = (np.ascontiguousarray(np.moveaxis(a, 0, summed)) for a in (q, scale))
    small = q.astype(dtypes.int4.np)
    return rw.op("dequantize", rw.constant(small, w.name), scale, None, axis=summed, block_size=block)


def _dynamic(rw: Rewriter, n: Node, w: Value) -> bool:
    """matmul(x, constant) with activations quantized at run time."""
    assert w.data is not None
    x, bias = n.inputs[0], operand(n, 2)
    if n.op != "matmul" or w.data.ndim != 2 or x is None or (x.rank or 0) < 2 or x.dtype is not dtypes.float32:
        return False
    if attr(n, "transpose_a") or attr(n, "alpha") != 1.0 or operand(n, 3) is not None:
        return False
    data = w.data.T if attr(n, "transpose_b") else w.data
    if bias is not None and (bias.rank != 1 or bias.shape != (data.shape[1],)):
        return False
    q, scale = symmetric(np.ascontiguousarray(data), 1)
    act = {k: n.attrs[k] for k in ("act", "act_alpha", "act_beta") if k in n.attrs}
    with rw.before(n):
        y = rw.op("dynamic_matmul", x, rw.constant(q, w.name), scale, bias, **act)
    rw.replace(n.output, y)
    return True


def _dynamic_lstm(rw: Rewriter, n: Node, choices: Choices) -> bool:
    """lstm with default activations and constant weights; other engines have no such op."""
    lengths, peephole = (operand(n, i) for i in (4, 7))
    plain = ("activations", "activation_alpha", "activation_beta", "clip", "input_forget")
    if n.op != "lstm" or choices.portable or lengths or peephole or any(attr(n, a) for a in plain):
        return False
    x, w, r = (operand(n, i) for i in range(3))
    if x is None or w is None or r is None or w.data is None or r.data is None or x.dtype is not dtypes.float32:
        return False
    ends = [operand(n, i) for i in (3, 5, 6)]
    first = attr(n, "batch_first")

    def turned(v: Value | None, order: tuple[int, ...]) -> Value | None:
        return rw.op("transpose", v, perm=order) if v is not None and first else v

    with rw.before(n):
        parts = []
        for v, a in ((w, w.data), (r, r.data)):  # [direction, gates, summed]
            q, scale = zip(*(symmetric(np.ascontiguousarray(d.T), 1) for d in a), strict=True)
            parts.append((rw.constant(np.stack(q), v.name), np.stack(scale)))
        (qw, ws), (qr, rs) = parts
        h0, c0 = (turned(v, (1, 0, 2)) for v in ends[1:])
        made = rw.op(
            "dynamic_lstm", turned(x, (1, 0, 2)), qw, qr, ws, rs, ends[0], h0, c0,
            outputs=3, direction=attr(n, "direction"),
        )  # fmt: skip
        new = [turned(v, order) for v, order in zip(made, ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2)), strict=True)]
    for old, v in zip(n.outputs, new, strict=False):
        if old is not None and v is not None:
            rw.replace(old, v)
    return True
