"""What ops with a gradient mean in PyTorch, where it can say them, for :mod:`tests.ops.test_gradients_torch`.

A function takes the op's inputs (floats as tensors, the rest as arrays) and attrs, and gives None for attrs that PyTorch has
no word for.
"""

from __future__ import annotations

from itertools import product as each
from typing import Any

import numpy as np

from tests.support.peers import need

torch = need("torch")
F = torch.nn.functional
ACTS = {"none": lambda x: x, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu6": F.relu6}


def ints(a: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.atleast_1d(a))


def first(x: Any) -> Any:
    """Channels first."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    return x.movedim(1, -1)


def along(v: Any, x: Any, axis: int) -> Any:
    return v.reshape((-1,) + (1,) * (x.ndim - 1 - axis % x.ndim))


# ---- windows
def windows(x: Any, fill: float, how: dict[str, Any]) -> Any:
    """(padded x with channels first, kernel, strides, dilations), or None."""
    rank, k = x.ndim - 2, how["kernel"]
    if how.get("pad_mode", "explicit") != "explicit" or how.get("ceil_mode"):
        return None
    s, d, p = how["strides"] or (1,) * rank, how["dilations"] or (1,) * rank, how["pads"] or (0,) * (2 * rank)
    sides = [n for i in reversed(range(rank)) for n in (p[i], p[rank + i])]
    return F.pad(first(x), sides, value=fill), k, s, d


def shares(x: Any, fill: float, how: dict[str, Any]) -> Any:
    """Everything under the windows: [batch, channels, places..., positions in the kernel], or None."""
    got = windows(x, fill, how)
    if got is None:
        return None
    x, k, s, d = got
    n = [(size - dil * (kern - 1) - 1) // step + 1 for size, kern, step, dil in zip(x.shape[2:], k, s, d, strict=True)]
    parts = []
    for at in each(*map(range, k)):
        cut = [slice(i * dil, i * dil + step * (m - 1) + 1, step) for i, dil, step, m in zip(at, d, s, n, strict=True)]
        parts.append(x[(slice(None), slice(None), *cut)])
    return torch.stack(parts, -1)


def max_pool(x: Any, **how: Any) -> Any:
    got = windows(x, -np.inf, how)
    if got is None or x.ndim == 2:
        return None
    x, k, s, d = got
    return last(getattr(F, f"max_pool{x.ndim - 2}d")(x, k, s, 0, d))


def avg_pool(x: Any, *, count_include_pad: bool, **how: Any) -> Any:
    if (got := shares(x, 0.0, how)) is None:
        return None
    counted = shares(torch.ones_like(x), 1.0 if count_include_pad else 0.0, how)
    return last(got.sum(-1) / counted.sum(-1))


def lp_pool(x: Any, *, p: int, **how: Any) -> Any:
    got = shares(x, 0.0, how)
    return None if got is None else last((got.abs() ** p).sum(-1) ** (1 / p))


def max_pool_gradient(x: Any, y: Any, g: Any, **how: Any) -> Any:
    x = x if torch.is_tensor(x) else torch.tensor(x, requires_grad=True)
    own = max_pool(x, **how)
    return None if own is None else torch.autograd.grad(own, x, torch.as_tensor(g), create_graph=True)[0]


def conv(x: Any, w: Any, bias: Any = None, residual: Any = None, **how: Any) -> Any:
    if how["act"] not in ACTS or (got := windows(x, 0.0, {**how, "kernel": w.shape[1:-1]})) is None:
        return None
    x, _, s, d = got
    y = last(getattr(F, f"conv{x.ndim - 2}d")(x, first(w), bias, s, 0, d, how["groups"]))
    act = ACTS[how["act"]]
    if residual is None:
        return act(y)
    return act(y + residual) if how["act_after"] else act(y) + residual


def conv_weight_gradient(rows: Any, read: Any, *, kernel: Any, groups: int, **how: Any) -> Any:
    w = torch.zeros((rows.shape[-1], *kernel, read.shape[-1] // groups), dtype=rows.dtype, requires_grad=True)
    y = conv(read, w, groups=groups, act="none", act_after=False, **how)
    if y is None or y.shape != rows.shape:
        return None
    return torch.autograd.grad(y, w, rows, create_graph=True)[0]


def conv_transpose(x: Any, w: Any, bias: Any = None, **how: Any) -> Any:
    rank = x.ndim - 2
    if how["act"] not in ACTS or how["pad_mode"] != "explicit" or how["output_shape"]:
        return None
    s, d, p = how["strides"] or (1,) * rank, how["dilations"] or (1,) * rank, how["pads"] or (0,) * (2 * rank)
    more = how["output_padding"] or (0,) * rank
    y = getattr(F, f"conv_transpose{rank}d")(first(x), first(w), None, s, 0, 0, how["groups"], d)
    y = F.pad(y, [n for i in reversed(range(rank)) for n in (-p[i], more[i] - p[rank + i])])
    y = last(y)
    return ACTS[how["act"]](y if bias is None else y + bias)


# ---- norms
def batch_norm(x: Any, scale: Any, bias: Any, mean: Any, variance: Any, *, epsilon: float, axis: int) -> Any:
    # F.batch_norm has no gradient for statistics that are given
    scale, bias, mean, variance = (along(v, x, axis) for v in (scale, bias, mean, variance))
    return (x - mean) / torch.sqrt(variance + epsilon) * scale + bias


def batch_norm_train(x: Any, scale: Any, bias: Any, *, epsilon: float, axis: int, act: str) -> Any:
    if x.numel() == 0 or x.ndim < 2:
        return None
    c = x.movedim(axis, -1).reshape(-1, x.shape[axis])
    if len(c) < 2:
        return None
    y = F.batch_norm(x.movedim(axis, 1), None, None, scale, bias, True, 0.0, epsilon).movedim(1, axis)
    return ACTS[act](y), c.mean(0), c.var(0, unbiased=False)


def group_norm(x: Any, scale: Any = None, bias: Any = None, *, groups: int, epsilon: float) -> Any:
    y = last(F.group_norm(first(x), groups, None, None, epsilon))
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def rms_norm(x: Any, scale: Any = None, *, axis: int, epsilon: float) -> Any:
    y = F.rms_norm(x, x.shape[axis % x.ndim :], None, epsilon)
    return y if scale is None else y * scale


def lrn(x: Any, *, size: int, alpha: float, beta: float, bias: float) -> Any:
    if x.ndim < 3 or size % 2 == 0:
        return None
    return last(F.local_response_norm(first(x), size, alpha, beta, bias))


# ---- places
def pad(x: Any, pads: Any, value: Any = None, axes: Any = None, *, mode: str) -> Any:
    over = range(x.ndim) if axes is None else [a % x.ndim for a in ints(axes)]
    pads, n = ints(pads), len(over)
    if mode == "constant":
        sides = [0] * (2 * x.ndim)
        for i, a in enumerate(over):
            sides[2 * (x.ndim - 1 - a) : 2 * (x.ndim - a)] = pads[i], pads[n + i]
        inside = F.pad(x, sides)
        return inside if value is None else inside + value * F.pad(torch.ones_like(x) * -1, sides, value=0.0) + value
    if min(pads) < 0:
        return None
    for i, a in enumerate(over):
        x = x.index_select(a, torch.tensor(np.pad(np.arange(x.shape[a]), (pads[i], pads[n + i]), mode=mode)))
    return x


def cut(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    over = range(len(ints(starts))) if axes is None else ints(axes)
    steps = (1,) * len(over) if steps is None else ints(steps)
    for a, b, e, s in zip(over, ints(starts), ints(ends), steps, strict=True):
        n = x.shape[a]
        if s < 0:  # an end before the first element has no name in Python
            if e < -n:
                e = None
            if b < -n:
                return None
        x = x.index_select(a, torch.tensor(np.arange(n)[b:e:s].copy()))
    return x


def shaped(f: Any) -> Any:
    """An op that only says the shape anew: f of an empty array and the other inputs."""
    return lambda x, *rest, **how: x.reshape(f(np.empty(x.shape), *rest, **how).shape)


def reshape(x: Any, to: Any, *, allow_zero: bool) -> Any:
    return x.reshape([x.shape[i] if d == 0 and not allow_zero else int(d) for i, d in enumerate(ints(to))])


def accumulated(f: Any) -> Any:
    def run(x: Any, axis: Any, *, exclusive: bool, reverse: bool) -> Any:
        (a,), start = ints(axis), 0.0 if f is torch.cumsum else 1.0
        x = x.flip(a) if reverse else x
        if exclusive:
            x = torch.cat([torch.full_like(x.narrow(a, 0, 1), start), x.narrow(a, 0, x.shape[a] - 1)], a)
        y = f(x, a)
        return y.flip(a) if reverse else y

    return run


def blocks(deep: bool) -> Any:
    def run(x: Any, *, block: int, mode: str) -> Any:
        c, b2 = x.shape[-1], block * block
        if x.numel() == 0:
            return None
        if deep:  # depth to space
            if mode == "dcr":
                x = x.unflatten(-1, (b2, c // b2)).movedim(-2, -1).flatten(-2)
            return last(F.pixel_shuffle(first(x), block))
        y = last(F.pixel_unshuffle(first(x), block))
        return y if mode == "crd" else y.unflatten(-1, (c, b2)).movedim(-2, -1).flatten(-2)

    return run


def scatter_elements(x: Any, at: Any, updates: Any, *, axis: int, reduction: str) -> Any:
    at = torch.tensor(np.where(at < 0, at + x.shape[axis], at))
    if reduction == "none":  # PyTorch's gradient is that of places named once
        lanes = at.movedim(axis, -1).sort().values
        if (lanes[..., 1:] == lanes[..., :-1]).any():
            return None
        return x.scatter(axis, at, updates)
    return x.scatter_add(axis, at, updates) if reduction == "add" else None


def scatter_nd(x: Any, at: Any, updates: Any, *, reduction: str) -> Any:
    places = at.reshape(-1, at.shape[-1]).tolist()
    if reduction not in ("none", "add") or (reduction == "none" and len({*map(tuple, places)}) < len(places)):
        return None
    return x.index_put(tuple(torch.tensor(a) for a in np.moveaxis(at, -1, 0)), updates, reduction == "add")


def gather(x: Any, at: Any, *, axis: int) -> Any:
    axis %= x.ndim
    flat = torch.tensor(np.where(at < 0, at + x.shape[axis], at).reshape(-1))
    return x.index_select(axis, flat).reshape((*x.shape[:axis], *at.shape, *x.shape[axis + 1 :]))


def gather_nd(x: Any, at: Any, *, batch_dims: int) -> Any:
    return None if batch_dims else x[tuple(torch.tensor(a) for a in np.moveaxis(at, -1, 0))]


def reverse_sequence(x: Any, lengths: Any, *, batch_axis: int, time_axis: int) -> Any:
    rows = []
    for row, n in zip(x.movedim(batch_axis, 0), ints(lengths), strict=True):
        t = time_axis % x.ndim - (time_axis % x.ndim > batch_axis % x.ndim)
        rows.append(torch.cat([row.narrow(t, 0, n).flip(t), row.narrow(t, n, row.shape[t] - n)], t))
    return torch.stack(rows).movedim(0, batch_axis)


def split(x: Any, sizes: Any = None, *, axis: int, n_outputs: int) -> Any:
    n, share = x.shape[axis], -(-x.shape[axis] // n_outputs)
    even = [min(share, max(0, n - share * k)) for k in range(n_outputs)]
    return torch.split(x, even if sizes is None else list(ints(sizes)), axis)


def trilu(x: Any, k: Any = None, *, upper: bool) -> Any:
    return (torch.triu if upper else torch.tril)(x, 0 if k is None else int(k))


# ---- the rest
def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    return x.clone() if low is None and high is None else torch.clamp(x, low, high)


def rotary_embedding(x: Any, cos: Any, sin: Any, *, interleaved: bool) -> Any:
    n = 2 * cos.shape[-1]
    a, b = (x[..., 0:n:2], x[..., 1:n:2]) if interleaved else (x[..., : n // 2], x[..., n // 2 : n])
    u, v = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((u, v), -1).flatten(-2) if interleaved else torch.cat((u, v), -1)
    return torch.cat((turned, x[..., n:]), -1)


def attention(q: Any, k: Any, v: Any, mask: Any = None, *, scale: float, causal: bool, softcap: float) -> Any:
    if softcap or q.ndim != 4 or q.shape[1] != k.shape[1]:
        return None
    s = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    if mask is not None:
        s = s + mask if torch.is_tensor(mask) else s.masked_fill(~torch.from_numpy(np.asarray(mask)), -np.inf)
    if causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(s.shape[-1] - s.shape[-2]), -np.inf)
    p = torch.softmax(s, -1)
    return None if p.isnan().any() else p @ v  # rows that see nothing


def adam_update(p: Any, m: Any, v: Any, g: Any, rate: Any, *, beta_1: float, beta_2: float, epsilon: float) -> Any:
    m, v = torch.lerp(g, m, beta_1), torch.lerp(g * g, v, beta_2)
    return p - rate * m / (torch.sqrt(v) + epsilon), m, v


def gelu_gradient(g: Any, x: Any, *, approximate: bool) -> Any:
    return torch.autograd.grad(F.gelu(x, approximate="tanh" if approximate else "none"), x, g, create_graph=True)[0]


def resize(x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, **how: Any) -> Any:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(how["mode"])
    corners = {"half_pixel": False, "align_corners": True}.get(how["coordinates"])
    unusual = how["aspect"] != "stretch" or how["antialias"] or how["exclude_outside"] or how["cubic_a"] != -0.75
    if sizes is None or x.ndim != 4 or tuple(how["axes"]) != (1, 2) or mode is None or corners is None or unusual:
        return None
    ratios = [r for out, n in zip(ints(sizes), x.shape[1:3], strict=True) for r in (out / n, n / out)]
    if any(float(np.float32(r)) != r for r in ratios):
        return None  # the op keeps places in float32
    return last(F.interpolate(first(x), ints(sizes), mode=mode, align_corners=corners))


def recurrent(cell: Any) -> Any:
    """One direction, default activations, every sequence as long as the longest."""

    def run(x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h0: Any = None, *more: Any, **how: Any) -> Any:
        usual = not how["activations"] and not how["clip"] and how["direction"] != "bidirectional"
        peephole = more[1] if len(more) > 1 else None
        if not usual or lengths is not None or peephole is not None or how.get("input_forget"):
            return None
        u, back = r.shape[-1], how["direction"] == "reverse"
        x = x.transpose(0, 1) if how["batch_first"] else x
        b = torch.zeros(2 * w.shape[1], dtype=x.dtype) if b is None else b[0]
        zeros = torch.zeros((x.shape[1], u), dtype=x.dtype)
        first_of = lambda s: zeros if s is None else (s[:, 0] if how["batch_first"] else s[0])  # noqa: E731
        state = [first_of(s) for s in (h0, *more[:1])] + [zeros] * (not more)
        ys = []
        for share in (x.flip(0) if back else x).unbind(0):
            state = cell(share @ w[0].T, r[0], b, state, how)
            ys.append(state[0])
        y = torch.stack(ys[::-1] if back else ys)
        ends = [s[:, None] if how["batch_first"] else s[None] for s in state[: cell.states]]
        return (y.transpose(0, 1)[:, :, None] if how["batch_first"] else y[:, None], *ends)

    return run


def lstm_cell(z: Any, r: Any, b: Any, state: Any, how: Any) -> Any:
    h, c = state
    i, o, f, g = (z + h @ r.T + b[: len(b) // 2] + b[len(b) // 2 :]).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def gru_cell(x: Any, r: Any, b: Any, state: Any, how: Any) -> Any:
    h, u = state[0], r.shape[-1]
    of_x, of_h = b.chunk(2)
    x = x + of_x
    zr = torch.sigmoid(x[:, : 2 * u] + h @ r[: 2 * u].T + of_h[: 2 * u])
    z, reset = zr.chunk(2, -1)
    if how["linear_before_reset"]:
        n = torch.tanh(x[:, 2 * u :] + reset * (h @ r[2 * u :].T + of_h[2 * u :]))
    else:
        n = torch.tanh(x[:, 2 * u :] + (reset * h) @ r[2 * u :].T + of_h[2 * u :])
    return [(1 - z) * n + z * h]


def rnn_cell(x: Any, r: Any, b: Any, state: Any, how: Any) -> Any:
    return [torch.tanh(x + state[0] @ r.T + b[: len(b) // 2] + b[len(b) // 2 :])]


lstm_cell.states, gru_cell.states, rnn_cell.states = 2, 1, 1  # type: ignore[attr-defined]


def reduced_product(x: Any, over: Any, keepdims: bool) -> Any:
    for a in sorted(over, reverse=True):
        x = x.prod(a, keepdim=keepdims)
    return x


TABLE = {
    "mod": lambda x, y, fmod: (torch.fmod if fmod else torch.remainder)(x, y),
    "floor_div": lambda x, y: torch.floor(x / y).detach() + 0 * (x + y),
    **{n: getattr(torch, n) for n in ("sign", "floor", "ceil", "trunc", "round")},
    "clip": clip,
    "cast": lambda x, dtype, saturate: x.to(getattr(torch, dtype)),
    "hard_sigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1),
    "prelu": lambda x, a: torch.where(x > 0, x, x * a),
    "thresholded_relu": lambda x, alpha: F.threshold(x, alpha, 0.0),
    "shrink": lambda x, lambd, bias: torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0 * x)),
    "conv": conv,
    "conv_transpose": conv_transpose,
    "conv_weight_gradient": conv_weight_gradient,
    "max_pool": max_pool,
    "max_pool_gradient": max_pool_gradient,
    "avg_pool": avg_pool,
    "lp_pool": lp_pool,
    "batch_norm": batch_norm,
    "batch_norm_train": batch_norm_train,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "lrn": lrn,
    "reshape": reshape,
    "flatten": shaped(lambda a, axis: a.reshape(int(np.prod(a.shape[: axis % (a.ndim + 1)])), -1) if a.size else a),
    "squeeze": shaped(lambda a, axes=None: np.squeeze(a, None if axes is None else ints(axes))),
    "unsqueeze": shaped(lambda a, axes: np.expand_dims(a, ints(axes))),
    "split": split,
    "slice": cut,
    "pad": pad,
    "tile": lambda x, repeats: torch.tile(x, ints(repeats)),
    "fill": lambda shape, value: value.expand(ints(shape)),
    "depth_to_space": blocks(True),
    "space_to_depth": blocks(False),
    "trilu": trilu,
    "reverse": lambda x, axes: torch.flip(x, axes),
    "reverse_sequence": reverse_sequence,
    "gather": gather,
    "gather_elements": lambda x, at, axis: x.gather(axis, torch.tensor(np.where(at < 0, at + x.shape[axis], at))),
    "gather_nd": gather_nd,
    "scatter_elements": scatter_elements,
    "scatter_nd": scatter_nd,
    "top_k": lambda x, k, axis, largest, sorted: torch.topk(x, ints(k)[0], axis, largest)[0],
    "resize": resize,
    "cumsum": accumulated(torch.cumsum),
    "cumprod": accumulated(torch.cumprod),
    "lstm": recurrent(lstm_cell),
    "gru": recurrent(gru_cell),
    "rnn": recurrent(rnn_cell),
    "attention": attention,
    "adam_update": adam_update,
    "gelu_gradient": gelu_gradient,
    "rotary_embedding": rotary_embedding,
}  # fmt: skip
