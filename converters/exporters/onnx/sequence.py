"""Recurrent layers, signal processing, attention and random numbers as ONNX nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.onnx.exporter import Site, decomposed
from deploykit.converters.exporters.onnx.registry import as_int64, exports, swapped
from deploykit.converters.exporters.onnx.writer import element_type
from deploykit.errors import UnsupportedError
from deploykit.graph import Value
from deploykit.ops.core import get


# ---- recurrent
@exports("lstm", "gru", "rnn")
def _recurrent(s: Site) -> None:
    w, a = s.w, s.attrs
    r = s.x(2)
    hidden = (r.shape or (None,))[-1]
    if not isinstance(hidden, int):
        raise UnsupportedError("a recurrent weight of unknown size")
    flags: dict[str, Any] = dict(direction=a["direction"], hidden_size=hidden, clip=a["clip"] or None)
    if a["activations"]:
        flags["activations"] = a["activations"].split(",")
    for k in ("activation_alpha", "activation_beta"):
        flags[k] = list(a[k]) or None
    if s.node.op == "lstm":
        flags["input_forget"] = int(a["input_forget"])
    if s.node.op == "gru":
        flags["linear_before_reset"] = int(a["linear_before_reset"])
    names = [s.get(i) for i in range(len(s.node.inputs))]
    if len(names) > 4 and names[4] is not None:
        names[4] = w.node("Cast", names[4], to=element_type(dtypes.int32))
    if a["batch_first"]:  # few runtimes implement layout = 1
        for i in (0, 5, 6):
            if i < len(names) and names[i] is not None and (i < 6 or s.node.op == "lstm"):
                names[i] = w.node("Transpose", names[i], perm=[1, 0, 2])
    n = len(s.node.outputs)
    got = w.node(s.node.op.upper(), *names, outputs=[w.names.new(f"{w.hint}:{i}") for i in range(n)], **flags)
    if a["batch_first"]:
        perms = ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2])
        got = [w.node("Transpose", g, perm=p) if v is not None else g
               for g, p, v in zip(got, perms, s.node.outputs, strict=False)]  # fmt: skip
    s.outs(got)


@exports("dynamic_lstm")
def _dynamic_lstm(s: Site) -> None:
    """In standard ops when the number of steps is known, otherwise as onnxruntime's own op, which computes the same."""
    steps, w, r = (s.x(0).shape or (None,))[0], s.data(1), s.data(2)
    if isinstance(steps, int) or w is None or r is None:
        return decomposed(s, get("dynamic_lstm").decompose)
    zero = s.w.const(np.zeros(len(w), np.int8))
    scales = [s.w.node("Squeeze", s.get(i), s.w.i64(1)) if s.x(i).shape == (len(w), 1) else s.get(i) for i in (3, 4)]
    lengths = peepholes = None
    names = [s.get(0), s.get(1), s.get(2), s.get(5), lengths, s.get(6), s.get(7), peepholes,
             scales[0], zero, scales[1], zero]  # fmt: skip
    outs = [s.w.names.new(f"{s.w.hint}:{i}") for i in range(len(s.node.outputs))]
    flags = dict(direction=s.attrs["direction"], hidden_size=r.shape[1], domain="com.microsoft")
    s.exporter.domains.add("com.microsoft")
    s.outs(s.w.node("DynamicQuantizeLSTM", *names, outputs=outs, **flags))


# ---- signal
@exports("dft")
def _dft(s: Site) -> None:
    flags = dict(inverse=int(s.attrs["inverse"]), onesided=int(s.attrs["onesided"]))
    s.out(s.w.node("DFT", s.get(0), s.get(1), as_int64(s, 2), **flags))


@exports("mel_weights")
def _mel_weights(s: Site) -> None:
    names = [s.get(i) for i in range(5)]
    s.out(s.w.node("MelWeightMatrix", *names, output_datatype=element_type(dtypes.dtype(s.attrs["dtype"]))))


# ---- attention
@exports("attention")
def _attention(s: Site) -> None:
    """softmax(scale q k' + mask) v in plain ops: our causal and fully masked rows differ from ONNX Attention."""
    w, a = s.w, s.attrs
    q, k, v, mask = s.x(0), s.x(1), s.x(2), s.value(3)
    if any(t.shape is None or len(t.shape) < 3 for t in (q, k, v)):
        raise UnsupportedError("operands of unknown rank")
    depth = q.shape[-1]  # type: ignore[index]
    scale = a["scale"]
    if scale == 0.0:
        if not isinstance(depth, int):
            raise UnsupportedError("a head size known only at run time")
        scale = float(depth) ** -0.5
    heads = [t.shape[-3] for t in (q, k)]  # type: ignore[index]
    keys, values = (_repeated(s, t, heads) for t in (k, v))
    rank = len(k.shape)  # type: ignore[arg-type]
    scores = w.node("MatMul", w.node("Mul", w.get(q), w.scalar(scale, q)), swapped(s, keys, k))
    if a["softcap"] > 0:
        cap = w.scalar(a["softcap"], q)
        scores = w.node("Mul", cap, w.node("Tanh", w.node("Div", scores, cap)))
    low = w.scalar(-np.inf, q)
    if mask is not None and mask.dtype is dtypes.bool_:
        scores = w.node("Where", w.get(mask), scores, low)
    elif mask is not None:
        scores = w.node("Add", scores, w.get(mask))
    if a["causal"]:
        size_q = w.node("Shape", w.get(q), start=-2, end=-1)
        size_k = w.node("Shape", w.get(k), start=-2, end=-1)
        zero, one = w.const(np.int64(0)), w.const(np.int64(1))
        rows, columns = (w.node("Range", zero, w.node("Squeeze", n), one) for n in (size_q, size_k))
        last = w.node("Add", w.node("Unsqueeze", rows, w.i64(1)), w.node("Sub", size_k, size_q))
        scores = w.node("Where", w.node("LessOrEqual", columns, last), scores, low)
    p = w.node("Softmax", scores, axis=-1)
    if mask is not None or a["causal"]:  # a row that forbids everything
        p = w.node("Where", w.node("IsNaN", p), w.scalar(0, q), p)
    _ = rank
    s.out(w.node("MatMul", p, values))


def _repeated(s: Site, t: Value, heads: list[Any]) -> str:
    """Keys or values of grouped heads, repeated for each query head."""
    name = s.w.get(t)
    if heads[0] == heads[1]:
        return str(name)
    if not all(isinstance(h, int) for h in heads):
        raise UnsupportedError("numbers of heads known only at run time")
    times, shape = heads[0] // heads[1], t.shape or ()
    rank = len(shape)
    wide = s.w.node("Unsqueeze", name, s.w.i64(rank - 2))
    repeats = [1] * (rank + 1)
    repeats[rank - 2] = times
    wide = s.w.node("Tile", wide, s.w.i64(*repeats))
    parts = [s.w.node("Shape", name, end=rank - 3)] if rank > 3 else []
    parts += [s.w.i64(heads[0]), s.w.node("Shape", name, start=rank - 2)]
    target = s.w.node("Concat", *parts, axis=0)
    return s.w.node("Reshape", wide, target)


@exports("rotary_embedding")
def _rotary(s: Site) -> None:
    w, x, cos = s.w, s.x(), s.x(1)
    n = (cos.shape or (None,))[-1]
    if not isinstance(n, int) or x.shape is None or not isinstance(x.shape[-1], int):
        raise UnsupportedError("sizes known only at run time")
    name, size = s.get(0), x.shape[-1]

    def cut(v: str | None, a: int, b: int, step: int = 1) -> str:
        return w.node("Slice", v, w.i64(a), w.i64(b), w.i64(-1), w.i64(step))

    if s.attrs["interleaved"]:
        part = [cut(name, 0, 2 * n, 2), cut(name, 1, 2 * n, 2)]
    else:
        part = [cut(name, 0, n), cut(name, n, 2 * n)]
    c, sin = s.get(1), s.get(2)
    real = w.node("Sub", w.node("Mul", part[0], c), w.node("Mul", part[1], sin))
    imag = w.node("Add", w.node("Mul", part[0], sin), w.node("Mul", part[1], c))
    if s.attrs["interleaved"]:
        pair = w.node("Concat", *(w.node("Unsqueeze", v, w.i64(-1)) for v in (real, imag)), axis=-1)
        y = w.node("Reshape", pair, w.i64(*[0] * (len(x.shape) - 1), 2 * n))
    else:
        y = w.node("Concat", real, imag, axis=-1)
    s.out(y if 2 * n == size else w.node("Concat", y, cut(name, 2 * n, size), axis=-1))


# ---- random
def _seed(seed: int) -> dict[str, float]:
    value = np.uint32(seed % (1 << 32)).view(np.float32)  # the importer reads the bits back
    return {"seed": float(value)} if seed and np.isfinite(value) else {}


@exports("random_uniform", "random_normal")
def _random(s: Site) -> None:
    a, shape = s.attrs, s.data(0)
    name = "RandomUniform" if s.node.op == "random_uniform" else "RandomNormal"
    flags = {k: a[k] for k in ("low", "high", "mean", "scale") if k in a} | _seed(a["seed"])
    dtype = element_type(dtypes.dtype(a["dtype"]))
    if shape is not None:
        s.out(s.w.node(name, shape=[int(d) for d in shape], dtype=dtype, **flags))
    else:
        s.out(s.w.node(name + "Like", s.w.node("ConstantOfShape", as_int64(s, 0)), dtype=dtype, **flags))


@exports("bernoulli")
def _bernoulli(s: Site) -> None:
    dtype = s.attrs["dtype"]
    target = element_type(dtypes.dtype(dtype)) if dtype else None
    s.out(s.w.node("Bernoulli", s.get(0), dtype=target, **_seed(s.attrs["seed"])))


@exports("multinomial")
def _multinomial(s: Site) -> None:
    a = s.attrs
    dtype = element_type(dtypes.dtype(a["dtype"]))
    s.out(s.w.node("Multinomial", s.get(0), sample_size=a["samples"], dtype=dtype, **_seed(a["seed"])))
