"""Gradients of the heavy ops as training traces them: data with symbolic batch and space, weights of known sizes."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.graph import Dim
from deploykit.ops import REGISTRY, F, GraphBuilder
from deploykit.ops.infer import infer_op
from deploykit.ops.reference import run_graph
from deploykit.ops.samples import Draw

R = Draw("symbolic gradients")
SAME = dict(pad_mode="same_upper", strides=(2, 2))
# (op, inputs, attrs, symbolic dims of the first input)
CASES = [
    ("conv", [R((2, 5, 6, 3)), R((4, 3, 3, 3)), R((4,))], dict(strides=(2, 2), pads=(1, 0, 1, 1), act="relu"), "nhwc"),
    ("conv", [R((2, 5, 6, 4)), R((6, 3, 2, 2)), None], dict(groups=2, dilations=(2, 1)), "nhwc"),
    ("conv", [R((2, 5, 6, 4)), R((4, 3, 3, 1)), R((4,))], dict(groups=4, pads=(1, 1, 1, 1), act="silu"), "nhwc"),
    ("conv", [R((2, 5, 6, 3)), R((4, 3, 3, 3)), None], SAME, "n---"),
    ("conv_transpose", [R((2, 3, 3, 2)), R((2, 3, 3, 3))], dict(strides=(2, 2), output_padding=(1, 1)), "n---"),
    ("matmul", [R((2, 3, 4)), R((4, 5)), R((5,))], dict(act="gelu"), "nt-"),
    ("matmul", [R((2, 3, 4)), R((5, 4)), R((5,))], dict(transpose_b=True, act="tanh"), "nt-"),
    ("max_pool", [R.apart((2, 5, 6, 3))], dict(kernel=(3, 2), strides=(2, 2), pads=(1, 0, 1, 1)), "nhw-"),
    ("avg_pool", [R((2, 5, 6, 3))], dict(kernel=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2)), "n---"),
    ("lp_pool", [R((2, 4, 4, 3), low=0.5)], dict(kernel=(2, 2)), "n---"),
    ("batch_norm", [R((2, 3, 4)), R((4,)), R((4,)), R((4,)), R((4,), low=0.5)], {}, "nh-"),
    ("layer_norm", [R((2, 3, 4)), R((4,)), R((4,))], {}, "nh-"),
    ("rms_norm", [R((2, 3, 4)), R((4,))], {}, "nh-"),
    ("group_norm", [R((2, 3, 2, 4)), R((4,)), R((4,))], dict(groups=2), "nhw-"),
    ("lrn", [R((2, 3, 6))], dict(size=3, alpha=0.5), "nh-"),
    ("im2col", [R((2, 5, 6, 3))], dict(kernel=(3, 2)), "n---"),
    ("lstm", [R((3, 2, 4)), R((1, 12, 4)), R((1, 12, 3)), R((1, 24))], {}, "-n-"),
    ("gru", [R((3, 2, 4)), R((2, 9, 4)), R((2, 9, 3)), R((2, 18))], dict(direction="bidirectional"), "-n-"),
    ("rotary_embedding", [R((2, 3, 5, 4)), R((5, 2)), R((5, 2))], {}, "nh--"),
    ("dft", [R((2, 6, 1))], dict(onesided=True), "nt-"),
]


def traced(op, inputs, attrs, marks):
    """Gradients through a recorded graph; marked dims of the first input are symbols."""
    b = GraphBuilder()
    args = []
    for i, x in enumerate(inputs):
        shape = None if x is None else list(x.shape)
        if i == 0:
            shape = [Dim.symbol(m) if m != "-" else n for m, n in zip(marks.ljust(x.ndim, "-"), x.shape, strict=True)]
        args.append(None if x is None else b.input(f"x{i}", dtypes.dtype(x.dtype), tuple(shape)))
    with b.tracing():
        y = op(*args, **attrs)
        ys = y if isinstance(y, tuple) else (y,)
        gs = tuple(F.add(v, v) if v.dtype.kind == "f" else None for v in ys)
        grads = op.vjp(gs if isinstance(y, tuple) else gs[0], y, *args, **op.complete(attrs))
    for i, g in enumerate(grads):
        if g is not None:
            b.output(g, f"g{i}")
    return [i for i, g in enumerate(grads) if g is not None], run_graph(b.graph, [x for x in inputs if x is not None])


@pytest.mark.parametrize(("name", "inputs", "attrs", "marks"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_gradient_with_symbolic_data(name, inputs, attrs, marks) -> None:
    op = REGISTRY[name]
    marks = "".join("-" if name == "conv" and m == "c" else m for m in marks)  # a weight fixes the channels
    y = op(*inputs, **attrs)
    gs = tuple(v + v if v.dtype.kind == "f" else None for v in (y if isinstance(y, tuple) else (y,)))
    want = op.vjp(gs if isinstance(y, tuple) else gs[0], y, *inputs, **op.complete(attrs))
    where, got = traced(op, inputs, attrs, marks)
    assert where == [i for i, g in enumerate(want) if g is not None] and where
    for i, g in zip(where, got, strict=True):
        assert g.shape == inputs[i].shape
        np.testing.assert_allclose(g, want[i], rtol=2e-5, atol=2e-6)


def test_attention_with_symbolic_lengths() -> None:
    op, r = REGISTRY["attention"], Draw(3)
    q, k, v = r((2, 2, 3, 4)), r((2, 2, 5, 4)), r((2, 2, 5, 4))
    for attrs in ({}, {"causal": True}):
        y = op(q, k, v, **attrs)
        want = op.vjp(y + y, y, q, k, v, **op.complete(attrs))
        b = GraphBuilder()
        n, t, s = (Dim.symbol(c) for c in "nts")
        args = [
            b.input(name, "float32", shape)
            for name, shape in zip("qkv", [(n, 2, t, 4), *[(n, 2, s, 4)] * 2], strict=True)
        ]
        with b.tracing():
            out = op(*args, **attrs)
            grads = op.vjp(F.add(out, out), out, *args, **op.complete(attrs))
        for g in grads[:3]:
            b.output(g)
        for a, w in zip(run_graph(b.graph, [q, k, v]), want, strict=False):
            np.testing.assert_allclose(a, w, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "shape", "attrs"),
    [("avg_pool", (1, None, None, 2), dict(kernel=(2, 2))), ("conv", (1, None, None, 2), SAME)],
)
def test_a_gradient_says_which_size_it_must_know(name, shape, attrs) -> None:
    op = REGISTRY[name]
    b = GraphBuilder()
    x = b.input("x", "float32", tuple(Dim.fresh() if d is None else d for d in shape))
    extra = [np.ones((3, 2, 2, 2), np.float32)] if name == "conv" else []
    with b.tracing(), pytest.raises(ValueError, match="known? .*size"):
        y = op(x, *extra, **attrs)
        op.vjp(y, y, x, *[b.constant(e) for e in extra], **op.complete(attrs))


def test_shapes_of_one_window_agree_whatever_the_spelling() -> None:
    h = Dim.symbol("h")
    from deploykit.ops.core import Spec

    def size(**attrs):
        op = REGISTRY["max_pool"]
        x = Spec(dtypes.float32, (1, h, h, 1))
        return infer_op(op, [x], op.complete(dict(kernel=(3, 3), strides=(2, 2), **attrs)))[0].shape[1]

    assert size(pads=(1, 1, 1, 1)) == size(pad_mode="same_upper") == (h + 1) // 2
    assert size() == size(pads=(0, 0, 0, 0)) != size(ceil_mode=True)


@pytest.mark.parametrize("attrs", [{}, {"axes": (1, 2)}], ids=["all axes", "space"])
def test_resize_with_symbolic_batch(attrs) -> None:
    op, x = REGISTRY["resize"], R((2, 3, 4, 2))
    scales = np.array([2.0, 1.5] if attrs else [1.0, 2.0, 1.5, 1.0], np.float32)
    attrs = dict(attrs, mode="linear")
    y = op(x, None, scales, **attrs)
    want = op.vjp(y + y, y, x, None, scales, **op.complete(attrs))[0]
    b = GraphBuilder()
    v = b.input("x", "float32", (Dim.symbol("n"), 3, 4, 2))
    with b.tracing():
        out = op(v, None, scales, **attrs)
        b.output(op.vjp(F.add(out, out), out, v, None, scales, **op.complete(attrs))[0])
    (got,) = run_graph(b.graph, [x])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
