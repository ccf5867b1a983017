"""What tensorflow_ops.py gives to TensorFlow's converter: functions of few operators, sizes and options drawn by seed.

Imports neither tensorflow nor anything of ours: it runs where only tensorflow is installed.  A name that contains
``positive`` or ``unit`` says what range its inputs have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Case = tuple[str, Callable[..., Any], list[Any], tuple[str, ...]]
BOTH, FLOAT = ("float", "int8"), ("float",)


def cases(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """(name, function, inputs that stand for shape, dtype and range, forms)."""
    for family in (elementwise, reductions, layers, moving, indexing, flow):
        yield from family(tf, r)


def _f(r: np.random.Generator, *shape: int) -> np.ndarray:
    return r.standard_normal(shape).astype(np.float32)


def _shape(r: np.random.Generator, rank: int, low: int = 1, high: int = 7) -> tuple[int, ...]:
    return tuple(int(n) for n in r.integers(low, high, rank))


def elementwise(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """One or two inputs, element by element."""
    m, n = tf.math, tf.nn
    shape = _shape(r, int(r.integers(1, 5)), 2)
    x, positive = _f(r, *shape), r.uniform(0.1, 2, shape).astype(np.float32)
    names = "abs ceil cos erf exp floor negative round sigmoid sign sin softplus square tanh"
    one = {k: getattr(m, k) for k in names.split()}
    one |= {"relu": n.relu, "relu6": n.relu6, "elu": n.elu, "gelu": n.gelu, "silu": n.silu, "softmax": n.softmax}
    one |= {"log_softmax": n.log_softmax, "relu1": lambda v: tf.clip_by_value(v, -1.0, 1.0)}
    one |= {"gelu_tanh": lambda v: n.gelu(v, approximate=True), "l2": lambda v: n.l2_normalize(v, -1)}
    one |= {
        "hard_swish": lambda v: v * n.relu6(v + 3) / 6,
        "selu": n.selu,
        "relu_0_1": lambda v: tf.clip_by_value(v, 0.0, 1.0),
    }
    slope = float(r.uniform(0.05, 0.4))
    one["leaky_relu"] = lambda v: n.leaky_relu(v, slope)
    one |= {"softmax_beta": lambda v: n.softmax(v * slope), "zeros_like": lambda v: tf.zeros_like(v) + v}
    for k, f in one.items():
        yield k, f, [x], BOTH
    for k in ("log", "rsqrt", "sqrt"):
        yield f"{k}_positive", getattr(m, k), [positive], BOTH
    two = {"add": m.add, "subtract": m.subtract, "multiply": m.multiply, "maximum": m.maximum, "minimum": m.minimum}
    two["squared_difference"] = m.squared_difference
    other = tuple(s if r.random() < 0.6 else 1 for s in shape)[int(r.integers(0, len(shape))) :] or (1,)
    for k, f in two.items():
        yield k, f, [x, _f(r, *shape)], BOTH
        yield f"{k}_broadcast", f, [x, _f(r, *other)], BOTH
        yield f"{k}_relu", lambda a, b, f=f: n.relu(f(a, b)), [x, _f(r, *shape)], BOTH
    yield "add_n", lambda a, b, c: m.add_n([a, b, c]), [x, x, x], BOTH
    yield "divide_positive", m.divide, [positive, positive], FLOAT
    yield "divide_constant", lambda a: a / 0.7, [x], BOTH
    yield "pow_positive", m.pow, [positive, positive], FLOAT
    yield "floordiv_positive", m.floordiv, [positive, positive], FLOAT
    yield "floormod_positive", m.floormod, [positive, positive], FLOAT
    yield "atan2_positive", m.atan2, [positive, positive], FLOAT
    for k in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
        yield k, getattr(m, k), [x, np.roll(x, 1)], BOTH if k != "equal" else FLOAT
    i = r.integers(0, 3, shape).astype(np.int32)
    for k in ("add", "subtract", "multiply", "maximum", "minimum", "squared_difference", "floormod", "bitwise_xor"):
        g = tf.bitwise.bitwise_xor if k == "bitwise_xor" else getattr(m, k)
        yield f"int_{k}", (lambda a, b, g=g: g(a, b + 4)), [i, i], FLOAT
    yield "int_right_shift", lambda a, b: tf.bitwise.right_shift(a + 40, b), [i, i], FLOAT
    b = i > 1
    for k in ("logical_and", "logical_or"):
        yield k, getattr(m, k), [b, b], FLOAT
    yield "logical_not", m.logical_not, [b], FLOAT
    yield "select", lambda c, p, q: tf.where(c, p, q), [b, x, _f(r, *shape)], FLOAT
    yield "select_broadcast", lambda c, p, q: tf.where(c, p, q), [b, x, _f(r, 1)], FLOAT
    for d in ("int32", "bool", "int64", "float16"):
        yield f"cast_{d}", lambda a, d=d: tf.cast(tf.cast(a, d), tf.float32), [x], FLOAT
    shape4 = (2, *_shape(r, 2, 3), 4)
    alpha = tf.constant(r.uniform(0, 0.5, (1, 1, 4)).astype(np.float32))
    yield "prelu", lambda v: n.relu(v) - alpha * n.relu(-v), [_f(r, *shape4)], BOTH
    yield "lrn", lambda v: n.local_response_normalization(v, 2, 1.0, 0.1, 0.5), [_f(r, *shape4)], FLOAT
    yield "fake_quant", lambda v: tf.quantization.fake_quant_with_min_max_args(v, -2, 2), [x], FLOAT


def reductions(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """Over some axes, with and without keeping them."""
    x = _f(r, *_shape(r, 4, 2))
    axes = [[-1], [1, 2], [0], [0, 3], [0, 1, 2, 3]][int(r.integers(0, 5))]
    keep = bool(r.integers(0, 2))
    for k in ("sum", "mean", "max", "min", "prod", "any", "all"):
        f = getattr(tf, f"reduce_{k}")
        logic = k in ("any", "all")
        yield f"reduce_{k}", lambda v, f=f: f(v, axes, keep), [x > 0 if logic else x], FLOAT if logic else BOTH
    axis = int(r.integers(0, 4))
    yield "argmax", lambda v: tf.argmax(v, axis, tf.int32), [x], BOTH
    yield "argmin", lambda v: tf.argmin(v, axis, tf.int32), [x], BOTH
    yield "cumsum", lambda v: tf.cumsum(v, axis, exclusive=keep, reverse=not keep), [x], FLOAT
    yield "top_k", lambda v: tf.math.top_k(v, 2), [x], BOTH
    if axes != [0, 1, 2, 3]:
        yield "softmax_axis", lambda v: tf.nn.softmax(v, axis), [x], BOTH


def layers(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """What has weights, and pools, resizing, products."""
    n = tf.nn
    h, w, c, out = (int(v) for v in (*r.integers(8, 14, 2), r.integers(2, 6), r.integers(3, 9)))
    x = _f(r, int(r.integers(1, 3)), h, w, c)
    pad, stride = ("SAME", "VALID")[int(r.integers(0, 2))], int(r.integers(1, 3))
    act = (n.relu, n.relu6, lambda v: v, n.tanh)[int(r.integers(0, 4))]
    kh, kw = (int(v) for v in r.integers(1, 4, 2))
    k, d = tf.constant(_f(r, kh, kw, c, out)), tf.constant(_f(r, 3, 3, c, int(r.integers(1, 3))))
    bias = tf.constant(_f(r, out))
    yield "conv", lambda v: act(n.bias_add(n.conv2d(v, k, stride, pad), bias)), [x], BOTH
    yield "conv_1x1", lambda v: n.conv2d(v, k[:1, :1], 1, pad), [x], BOTH
    yield "conv_dilated", lambda v: n.conv2d(v, d[..., :1], 1, pad, dilations=2), [x], BOTH
    yield "conv_1d", lambda v: n.conv1d(v, k[0], stride, pad), [x[:, 0]], BOTH
    yield "depthwise", lambda v: act(n.depthwise_conv2d(v, d, [1, stride, stride, 1], pad)), [x], BOTH
    size = [x.shape[0], h * 2, w * 2, out]
    t = tf.constant(_f(r, 3, 3, out, c))
    yield "conv_transposed", lambda v: n.conv2d_transpose(v, t, size, 2, "SAME"), [x], BOTH
    yield (
        "conv_transposed_relu",
        lambda v: n.relu(n.bias_add(n.conv2d_transpose(v, t, size, 2, "SAME"), bias)),
        [x],
        BOTH,
    )
    k3 = tf.constant(_f(r, 2, 3, 3, c, 4))
    yield "conv_3d", lambda v: n.conv3d(v, k3, [1] * 5, pad), [_f(r, 1, 5, 6, 7, c)], FLOAT
    t3 = tf.constant(_f(r, 2, 2, 2, 3, c))
    yield (
        "conv_3d_transposed",
        lambda v: n.conv3d_transpose(v, t3, [1, 6, 8, 10, 3], 2, "SAME"),
        [_f(r, 1, 3, 4, 5, c)],
        FLOAT,
    )
    pool = int(r.integers(2, 4))
    yield "max_pool", lambda v: n.max_pool2d(v, pool, stride, pad), [x], BOTH
    yield "avg_pool", lambda v: n.avg_pool2d(v, pool, stride, pad), [x], BOTH
    dense = tf.constant(_f(r, c, out))
    yield "dense", lambda v: act(tf.matmul(v, dense) + bias), [x[0, 0]], BOTH
    yield "dense_rank_4", lambda v: tf.matmul(v, dense), [x], BOTH
    a, b = _f(r, 2, 3, h, c), _f(r, 2, 3, c, w)
    yield "matmul", tf.matmul, [a, b], BOTH
    yield "matmul_transposed", lambda p, q: tf.matmul(p, q, transpose_b=True), [a, b.swapaxes(2, 3).copy()], BOTH
    yield "matmul_broadcast", tf.matmul, [a, b[:, :1]], FLOAT
    yield "einsum", lambda p, q: tf.einsum("abhc,abcw->abhw", p, q), [a, b], FLOAT
    even, half = bool(r.integers(0, 2)), bool(r.integers(0, 2))
    big = [int(v) for v in r.integers(4, 24, 2)]
    v1 = tf.compat.v1.image
    yield "resize_bilinear", lambda v: tf.image.resize(v, big), [x], BOTH
    yield "resize_nearest", lambda v: tf.image.resize(v, big, "nearest"), [x], BOTH
    corners = dict(align_corners=even, half_pixel_centers=half and not even)
    yield "resize_bilinear_v1", lambda v: tf.raw_ops.ResizeBilinear(images=v, size=big, **corners), [x], BOTH
    yield "resize_nearest_v1", lambda v: tf.raw_ops.ResizeNearestNeighbor(images=v, size=big, **corners), [x], BOTH
    yield "resize_corners", lambda v: v1.resize_bilinear(v, big, align_corners=True), [x], BOTH
    gamma = tf.constant(r.uniform(0.5, 2, c).astype(np.float32))
    yield "batch_norm", lambda v: n.batch_normalization(v, gamma, gamma, gamma, gamma, 1e-3), [x], BOTH

    def layer_norm(v: Any) -> Any:
        mean, var = n.moments(v, [-1], keepdims=True)
        return (v - mean) * tf.math.rsqrt(var + 1e-3) * gamma

    yield "layer_norm", layer_norm, [x], FLOAT
    half_n = int(2 ** r.integers(3, 6))
    signal = _f(r, 2, half_n)
    yield "rfft2d_abs", lambda v: tf.abs(tf.signal.rfft2d(v)), [_f(r, 1, 8, half_n)], FLOAT
    yield "stft", lambda v: tf.abs(tf.signal.stft(v, 8, 4, 8)), [signal], FLOAT


def moving(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """What moves elements."""
    s = _shape(r, 4, 2)
    x = _f(r, *s)
    perm = [int(v) for v in r.permutation(4)]
    axis = int(r.integers(0, 4))
    yield "transpose", lambda v: tf.transpose(v, perm), [x], BOTH
    yield "reshape", lambda v: tf.reshape(v, [s[0], -1]), [x], BOTH
    yield "squeeze", tf.squeeze, [_f(r, 1, s[1], 1, s[2])], BOTH
    yield "expand_dims", lambda v: tf.expand_dims(v, axis), [x], BOTH
    yield "concat", lambda p, q: tf.concat([p, q, p], axis), [x, x], BOTH
    yield "stack", lambda p, q: tf.stack([p, q], axis), [x, x], BOTH
    yield "unstack", lambda v: tf.unstack(v, axis=axis), [x], BOTH
    y = _f(r, 4, 6, 8, 4)
    yield "split", lambda v: tf.split(v, 2, axis), [y], BOTH
    yield "split_v", lambda v: tf.split(v, [1, y.shape[axis] - 1], axis), [y], BOTH
    pads = [[int(v) for v in r.integers(0, 3, 2)] for _ in range(4)]
    fill = float(r.standard_normal())
    yield "pad", lambda v: tf.pad(v, pads), [x], BOTH
    yield "pad_v2", lambda v: tf.pad(v, pads, constant_values=fill), [x], BOTH
    small = [[min(v, 1) for v in p] for p in pads]
    for mode in ("REFLECT", "SYMMETRIC"):
        yield f"mirror_{mode.lower()}", lambda v, mode=mode: tf.pad(v, small, mode), [x], BOTH
    begin = [int(r.integers(0, v)) for v in s]
    yield "slice", lambda v: tf.slice(v, begin, [-1] * 4), [x], BOTH
    yield "strided_slice", lambda v: v[:, 1::2, ::-1], [x], BOTH
    yield "strided_slice_masks", lambda v: v[0, ..., tf.newaxis, :-1], [x], BOTH
    yield "tile", lambda v: tf.tile(v, [1, 2, 1, 3]), [x], BOTH
    yield "broadcast_to", lambda v: tf.broadcast_to(v, [3, *s[:3], 5]), [_f(r, *s[:3], 1)], FLOAT
    yield "reverse", lambda v: tf.reverse(v, [axis]), [x], FLOAT
    lengths = np.ones(s[0], np.int32)
    yield "reverse_sequence", lambda v, q: tf.reverse_sequence(v, q, 1, 0), [x, lengths], FLOAT
    yield "space_to_depth", lambda v: tf.nn.space_to_depth(v, 2), [y], BOTH
    yield "depth_to_space", lambda v: tf.nn.depth_to_space(v, 2), [y], BOTH
    yield "space_to_batch", lambda v: tf.space_to_batch(v, [2, 2], [[0, 0], [2, 0]]), [y], BOTH
    yield "batch_to_space", lambda v: tf.batch_to_space(v, [2, 2], [[0, 1], [1, 0]]), [y], BOTH
    yield "fill_shape", lambda v: tf.fill(tf.shape(v), 2.0) + v, [x], FLOAT
    yield "shape", tf.shape, [x], FLOAT
    yield "rank", lambda v: tf.cast(tf.rank(v), tf.float32) + v, [x], FLOAT
    yield "range", lambda i: tf.range(0, i[0] + 5, 2), [np.array([2], np.int32)], FLOAT
    m = _f(r, 3, 5, 5)
    yield "matrix_diag", tf.linalg.diag, [m[0]], FLOAT
    yield "matrix_set_diag", tf.linalg.set_diag, [m, m[:, 0].copy()], FLOAT
    yield "roll", lambda v: tf.roll(v, 2, 1), [x], FLOAT


def indexing(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """Reading and writing at positions."""
    x = _f(r, *_shape(r, 3, 4))
    at = r.integers(0, 3, 5).astype(np.int32)
    axis = int(r.integers(0, 3))
    yield "gather", lambda v, i: tf.gather(v, i, axis=axis), [x, at], FLOAT
    where = [int(v) for v in at]
    yield "gather_constant", lambda v: tf.gather(v, where, axis=axis), [x], BOTH
    yield "gather_batch", lambda v, i: tf.gather(v, i, batch_dims=1), [x, np.stack([at] * x.shape[0])], FLOAT
    pairs = r.integers(0, 3, (4, 2)).astype(np.int32)
    yield "gather_nd", tf.gather_nd, [x, pairs], FLOAT
    yield "scatter_nd", lambda i, v: tf.scatter_nd(i, v, [3, 4, x.shape[2]]), [pairs, _f(r, 4, x.shape[2])], FLOAT
    whole = [[0, 1], [2, 2]]
    yield "tensor_scatter", lambda v, u: tf.tensor_scatter_nd_update(v, whole, u), [x, _f(r, 2, x.shape[2])], FLOAT
    yield "embedding", lambda i, v: tf.nn.embedding_lookup(v, i), [at, x], FLOAT
    yield "one_hot", lambda i: tf.one_hot(i, 4, 2.0, -1.0, axis=-1), [at], FLOAT
    yield "where", lambda b: tf.where(b), [x > 0], FLOAT
    yield "unique", lambda i: tf.unique(i), [at], FLOAT
    yield "sparse_to_dense", lambda i, v: tf.raw_ops.SparseToDense(
        sparse_indices=[0, 2, 3], output_shape=[6], sparse_values=v, default_value=-1.0), [at, _f(r, 3)], FLOAT  # fmt: skip
    yield "segment_sum", lambda v: tf.math.segment_sum(v, [0, 0, 1, 2]), [x[:4]], FLOAT
    yield "unsorted_segment_max", lambda v: tf.math.unsorted_segment_max(v, [1, 0, 1, 2], 3), [x[:4]], FLOAT
    yield "unsorted_segment_min", lambda v: tf.math.unsorted_segment_min(v, [1, 0, 1, 2], 3), [x[:4]], FLOAT
    yield "unsorted_segment_prod", lambda v: tf.math.unsorted_segment_prod(v, [1, 0, 1, 2], 3), [x[:4]], FLOAT
    yield "unsorted_segment_sum", lambda v: tf.math.unsorted_segment_sum(v, [1, 0, 1, 2], 3), [x[:4]], FLOAT
    yield "dynamic_update", lambda v, u: tf.raw_ops.XlaDynamicUpdateSlice(input=v, update=u, indices=[1, 0, 1]), \
        [x, _f(r, 2, 2, 2)], FLOAT  # fmt: skip
    yield "bucketize", lambda v: tf.raw_ops.Bucketize(input=v, boundaries=[-1.0, 0.0, 0.5]), [x], FLOAT
    boxes = np.sort(r.random((12, 2, 2)).astype(np.float32), 1).reshape(12, 4)
    yield "nms_positive", lambda b, s: tf.image.non_max_suppression_padded(
        b, s, 5, 0.5, 0.2, pad_to_max_output_size=True), [boxes, boxes[:, 0].copy()], FLOAT  # fmt: skip


def flow(tf: Any, r: np.random.Generator) -> Iterator[Case]:
    """Control flow and recurrences."""
    x = _f(r, 3, int(r.integers(2, 7)))
    yield "cond", lambda b, v: tf.cond(b[0], lambda: v + 1, lambda: v * 2), [np.array([True]), x], FLOAT
    steps = int(r.integers(2, 6))
    yield (
        "while",
        lambda v: tf.while_loop(lambda i, y: i < steps, lambda i, y: (i + 1, y * 0.5 + v), [0, v]),
        [x],
        FLOAT,
    )
    k = x.shape[1]
    w, u, b = (tf.constant(_f(r, *s) * 0.4) for s in ((k, 4 * k), (k, 4 * k), (4 * k,)))

    def lstm(seq: Any) -> Any:
        h = c = tf.zeros_like(seq[:, 0])
        for t in range(3):
            i, f, g, o = tf.split(seq[:, t] @ w + h @ u + b, 4, -1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
        return h

    yield "lstm_cell", lstm, [_f(r, 2, 3, k)], BOTH
    yield "svdf_like", lambda v: tf.reduce_sum(v * b[:k], -1, True) + v, [x], BOTH
    yield "constant_only", lambda v: v + tf.constant(np.eye(3, k, dtype=np.float32)), [x], BOTH
    yield "complex_abs", lambda v: tf.abs(tf.complex(v, v * 2)), [x], FLOAT
