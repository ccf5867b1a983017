"""Each aten op against torch: many ops in one exported program per family, with fixed and with open dims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.importers.pytorch.call import find
from deploykit.errors import UnsupportedError
from deploykit.graph.dkfile import to_bytes
from tests.support.peers import need

torch = need("torch")
import torch.nn.functional as F  # noqa: E402

Ops = dict[str, Callable[..., Any]]


def named(module: Any, name: str, which: int, factor: float = 1) -> Callable[..., Any]:
    """The function of that name on one of the inputs."""
    return lambda *xs: getattr(module, name)(xs[which] * factor)


# x, y [3, 4] floats; p positive; i, j ints; b bools
UNARY: Ops = {
    **{n: named(torch, n, 0) for n in (
        "abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "neg", "relu", "round", "sigmoid", "sign",
        "sin", "sinh", "square", "tan", "tanh", "trunc", "frac", "isnan", "isinf", "exp2", "asinh", "logical_not")},
    **{n: named(torch, n, 2) for n in (
        "log", "log1p", "log2", "log10", "rsqrt", "sqrt", "reciprocal")},
    **{n: named(torch, n, 0, 0.3) for n in ("acos", "asin", "atanh")},
    "acosh": lambda x, y, p, i, j, b: torch.acosh(p + 1),
    "int to float": lambda x, y, p, i, j, b: torch.sqrt(i.abs() + 1),
    "int sigmoid": lambda x, y, p, i, j, b: torch.sigmoid(i),
    "round digits": lambda x, y, p, i, j, b: torch.round(x, decimals=1),
    **{n: named(F, n, 0, 3) for n in (
        "hardswish", "hardsigmoid", "silu", "mish", "softplus", "relu6", "hardtanh", "elu", "selu", "celu", "gelu",
        "leaky_relu", "logsigmoid", "softsign", "tanhshrink", "hardshrink", "softshrink")},
    "gelu tanh": lambda x, y, p, i, j, b: F.gelu(x, approximate="tanh"),
    "elu alpha": lambda x, y, p, i, j, b: F.elu(x, 0.7),
    "threshold": lambda x, y, p, i, j, b: F.threshold(x, 0.1, 20.0),
    "softplus beta": lambda x, y, p, i, j, b: F.softplus(x, 2.0, 1.0),
    "clamp": lambda x, y, p, i, j, b: torch.clamp(x, -0.5, 0.5),
    "clamp low": lambda x, y, p, i, j, b: torch.clamp_min(x, 0.2),
    "clamp tensors": lambda x, y, p, i, j, b: torch.clamp(x, y - 0.1, y + 0.1),
    "clamp ints": lambda x, y, p, i, j, b: i.clamp(1, 3),
    "bitwise_not": lambda x, y, p, i, j, b: (~i, ~b),
    "to": lambda x, y, p, i, j, b: (x.to(torch.int32), i.float(), b.int(), x.double(), x.half().float(), x.bool()),
    "nan_to_num": lambda x, y, p, i, j, b: torch.nan_to_num(x / 0),
}  # fmt: skip
BINARY: Ops = {
    "add": lambda x, y, p, i, j, b: (x + y, x + 1, 2 + x, x + i, i + j, i + 1.5, torch.add(x, y, alpha=3), b + b),
    "sub": lambda x, y, p, i, j, b: (x - y, 1 - x, x - i, torch.sub(x, y, alpha=2), torch.rsub(x, 2)),
    "mul": lambda x, y, p, i, j, b: (x * y, x * 2, i * j, i * 0.5, x * b),
    "div": lambda x, y, p, i, j, b: (x / p, i / 2, x / 3, torch.div(x, p, rounding_mode="floor")),
    "div trunc": lambda x, y, p, i, j, b: (
        torch.div(i, 2, rounding_mode="trunc"),
        torch.div(x, p, rounding_mode="trunc"),
    ),
    "floor_divide": lambda x, y, p, i, j, b: (i // 2, torch.floor_divide(x, p)),
    "remainder": lambda x, y, p, i, j, b: (x % p, i % 3, torch.fmod(x, p), torch.fmod(i, 3)),
    "pow": lambda x, y, p, i, j, b: (p**y, x**2, p**0.5, p**-0.5, 2**x, x**3, i**2, p**1.7),
    "atan2": lambda x, y, p, i, j, b: torch.atan2(x, y),
    "maximum": lambda x, y, p, i, j, b: (
        torch.maximum(x, y),
        torch.minimum(x, y),
        torch.max(x, y),
        torch.minimum(i, j),
    ),
    "compare": lambda x, y, p, i, j, b: (x == y, x != 0, x < y, x <= 0.1, x > i, i >= 2, i == 1.5, b == b),
    "logical": lambda x, y, p, i, j, b: (b & (x > 0), b | (x > 0), b ^ (x > 0), torch.logical_and(i, b)),
    "bitwise": lambda x, y, p, i, j, b: (i & j, i | j, i ^ j, i << 1, j >> 1),
    "where": lambda x, y, p, i, j, b: (torch.where(b, x, y), torch.where(x > 0, x, 0.0), torch.where(b, 1.0, x)),
    "masked_fill": lambda x, y, p, i, j, b: x.masked_fill(b, -1e4),
    "addcmul": lambda x, y, p, i, j, b: (torch.addcmul(x, y, p, value=0.5), torch.addcdiv(x, y, p, value=2)),
    "lerp": lambda x, y, p, i, j, b: torch.lerp(x, y, 0.3),
    "mm": lambda x, y, p, i, j, b: (x @ y.T, torch.mm(x, y.t()), torch.addmm(x @ x.T, x, y.T, beta=0.5, alpha=2)),
    "bmm": lambda x, y, p, i, j, b: (torch.bmm(x[None], y.T[None]), torch.baddbmm((x @ x.T)[None], x[None], y.T[None])),
    "mv": lambda x, y, p, i, j, b: (x @ y[0], torch.dot(x[0], y[1]), torch.outer(x[0], y[1])),
    "einsum": lambda x, y, p, i, j, b: torch.einsum("ab,cb->ca", x, y),
    "linear": lambda x, y, p, i, j, b: (F.linear(x, y), F.linear(x, y, y[:, 0])),
    "cosine_similarity": lambda x, y, p, i, j, b: (F.cosine_similarity(x, y), F.normalize(x), torch.cdist(x, y)),
    "mse_loss": lambda x, y, p, i, j, b: F.mse_loss(x, y),
}
# x [2, 3, 4, 5]
REDUCE: Ops = {
    "sum": lambda x: (x.sum(), x.sum(1), x.sum((1, -1), keepdim=True), (x > 0).sum(), x.sum(1, dtype=torch.float64)),
    "mean": lambda x: (x.mean(), x.mean(-1), x.mean((0, 2))),
    "amax": lambda x: (x.amax(1), x.amin((1, 2), True), x.max(), x.min(), x.amax()),
    "max": lambda x: (*x.max(2), *x.min(-1, keepdim=True)),
    "argmax": lambda x: (x.argmax(), x.argmax(1), x.argmin(-1, True)),
    "prod": lambda x: (x.prod(), x.prod(1)),
    "any": lambda x: ((x > 1).any(), (x > 1).any(1), (x > -1).all(), (x > -1).all(-1, True)),
    "var": lambda x: (x.var(), x.var(1), x.std((1, 2), correction=0), *torch.var_mean(x, 1, unbiased=False)),
    "cumsum": lambda x: (x.cumsum(1), x.cumprod(-1)),
    "logsumexp": lambda x: (x.logsumexp(1), x.logsumexp((1, 2), True)),
    "norm": lambda x: (x.norm(dim=1), torch.linalg.vector_norm(x, 1, (1, 2)), torch.linalg.vector_norm(x, float("inf"), 1),
                       torch.linalg.vector_norm(x, 3, 1), x.norm()),
    "softmax": lambda x: (x.softmax(1), x.log_softmax(-1)),
    "sort": lambda x: (*x.sort(2), *x.sort(1, descending=True), x.argsort(-1)),
    "topk": lambda x: (*x.topk(2), *x.topk(2, 1, largest=False)),
    "nonzero": lambda x: x[0, 0, 0].gt(0).nonzero(),
    "median": lambda x: x.amax(0).amin(0),
}  # fmt: skip
SHAPE: Ops = {
    "view": lambda x: (x.view(x.shape[0], -1), x.reshape(-1, 5), x.flatten(1, 2), x.unflatten(1, (3, 1))),
    "unsqueeze": lambda x: (x[None], x.unsqueeze(-1), x[:, :1].squeeze(1), x[:, :1].squeeze(), x.squeeze(1)),
    "permute": lambda x: (x.permute(0, 2, 3, 1), x.transpose(1, -1), x.movedim(1, -1), x[0, 0].t(), x.mT),
    "expand": lambda x: (x[:, :1].expand(-1, 3, -1, -1), x[0, 0].expand(2, 4, 5), x[0].repeat(2, 1, 1, 2)),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "cat": lambda x: (torch.cat([x, x * 2], 1), torch.stack([x, x], -1), torch.hstack([x, x])),
    "split": lambda x: (*x.split(2, 1), *x.chunk(2, -1), *x.split([1, 3], 2), *x.unbind(1)),
    "slice": lambda x: (x[:, 1:], x[..., ::2], x[:, -2:, 1:-1], x[:, 1], x[..., -1], x.narrow(2, 1, 2)),
    "flip": lambda x: (x.flip(1), x.flip(-1, 2), x.roll(1, 2), x.roll((1, -2), (1, 3)), x.rot90(1, (2, 3))),
    "pad": lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 1, 2, 0), value=3.0), F.pad(x, (1, 2, 2, 1), mode="reflect"),
                      F.pad(x, (1, 2, 3, 1), mode="replicate"), F.pad(x, (-1, 2)), F.pad(x, (1, 1, 2, 2), mode="circular")),
    "tril": lambda x: (x.tril(), x.triu(1), torch.ones_like(x[0, 0], dtype=torch.bool).tril(-1)),
    "diagonal": lambda x: (x.diagonal(0, 1, 2), torch.diagonal(x[0, 0], 1)),
    "pixel_shuffle": lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., :4], 2),
    "unfold": lambda x: (x.unfold(3, 3, 1), x.unfold(2, 2, 2)),
    "like": lambda x: (torch.zeros_like(x), torch.ones_like(x), torch.full_like(x, 2.5), x.new_zeros(2, 3)),
    "arange": lambda x: (torch.arange(x.shape[1]), torch.arange(0, 1, 0.25), torch.arange(5, 0, -2), torch.eye(3)),
    "linspace": lambda x: torch.linspace(0, 1, 5),
    "meshgrid": lambda x: torch.meshgrid(torch.arange(3), torch.arange(4), indexing="xy"),
    "one_hot": lambda x: F.one_hot(torch.arange(3), 5),
    "numbers": lambda x: (x * x.shape[1], x / (x.shape[2] - 1), torch.full((x.shape[1], 2), 3)),
}  # fmt: skip
INDEX: Ops = {
    "index": lambda x, i, k: (x[:, i], x[i], x[:, i, i], x[i, :, i], x[:, :, i[None], i[:, None]], x[0, 0][x[0, 0] > 0]),
    "index_select": lambda x, i, k: (x.index_select(1, i), torch.take_along_dim(x, k, 1)),
    "gather": lambda x, i, k: x.gather(1, k),
    "scatter": lambda x, i, k: (x.scatter(1, k, 2.0), x.scatter(1, k[:, :1], x), x.scatter_add(1, k[:, :1], x),
                                x.scatter_reduce(1, k[:, :1], x, "amax")),
    "index_put": lambda x, i, k: (x.index_put((i,), x[0] * 2), x.index_put((torch.tensor([0, 1]),), x[:2], accumulate=True),
                                  x.index_add(1, torch.tensor([0, 2]), x[:, :2])),
    "assign": lambda x, i, k: assigned(x),
    "copy": lambda x, i, k: (x.slice_scatter(x[:, :1] * 2, 1, 1, 2), x.select_scatter(x[:, 0] * 3, 1, -1),
                             x.index_copy(2, torch.tensor([3, 1]), x[:, :, :2])),
    "embedding": lambda x, i, k: F.embedding(i, x[0, 0]),
    "masked": lambda x, i, k: (x.masked_scatter(x > 0, x.flip(1)), torch.where(x > 0)[0]),
    "bags": lambda x, i, k: (F.embedding_bag(torch.tensor([[0, 2], [3, 1]]), x[0, 0], mode="sum"),
                             F.embedding_bag(torch.tensor([0, 2, 3, 1]), x[0, 0], torch.tensor([0, 3]), mode="mean"),
                             F.embedding_bag(torch.tensor([0, 2, 3, 1]), x[0, 0], torch.tensor([0, 1, 1]), mode="max")),
    "bucketize": lambda x, i, k: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])),
    "as_strided": lambda x, i, k: torch.as_strided(x.clone(), (2, 3), (3, 1), 1),
}  # fmt: skip


def assigned(x: Any) -> Any:
    y = x.clone()
    y[:, 0] = 1.0
    y[:, 1:, ::2] = x[:, 1:, ::2] * 2
    y[y > 1] = 0.5
    return y


# x [2, 4, 12, 10]
NN: Ops = {
    "conv2d": lambda x, w: (F.conv2d(x, w), F.conv2d(x, w, padding=1, stride=2), F.conv2d(x, w, dilation=2),
                            F.conv2d(x, w[:, :2], groups=2), F.conv2d(x, w, padding="same")),
    "depthwise": lambda x, w: F.conv2d(x, w[:4, :1], padding=1, groups=4),
    "conv1d": lambda x, w: (F.conv1d(x[:, :, 0], w[:, :, 0], padding=1), F.conv1d(x[0, :, 0], w[:, :, 0], w[:, 0, 0, 0])),
    "conv3d": lambda x, w: F.conv3d(x[:, None], w[:, :1, None].expand(-1, -1, 2, -1, -1)),
    "conv_transpose": lambda x, w: (F.conv_transpose2d(x, w.transpose(0, 1), stride=2, padding=1, output_padding=1),
                                    F.conv_transpose1d(x[:, :, 0], w.transpose(0, 1)[:, :, 0], stride=3),
                                    F.conv_transpose2d(x, w.transpose(0, 1)[:, :2], groups=2)),
    "max_pool": lambda x, w: (F.max_pool2d(x, 2), F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, ceil_mode=True),
                              F.max_pool1d(x[:, :, 0], 2), *F.max_pool2d(x, 2, return_indices=True)),
    "avg_pool": lambda x, w: (F.avg_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                              F.avg_pool1d(x[:, :, 0], 2), F.avg_pool3d(x[:, None], 2), F.lp_pool2d(x.abs(), 2, 2)),
    "adaptive": lambda x, w: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (6, 5)), F.adaptive_avg_pool2d(x, (5, 3)),
                              F.adaptive_avg_pool1d(x[:, :, 0], 3), F.adaptive_max_pool2d(x, (4, 5))),
    "norms": lambda x, w: (F.layer_norm(x, (10,)), F.layer_norm(x, (12, 10), w[0, 0, 0, 0].expand(12, 10)), F.group_norm(x, 2),
                           F.instance_norm(x), F.rms_norm(x, (10,)), F.local_response_norm(x, 3)),
    "batch_norm": lambda x, w: F.batch_norm(x, w[:4, 0, 0, 0], w[:4, 0, 0, 1].abs() + 1, w[:4, 1, 0, 0], w[:4, 1, 0, 1]),
    "prelu": lambda x, w: (F.prelu(x, w[:4, 0, 0, 0]), F.prelu(x, w[0, 0, 0, :1]), F.glu(x, 1)),
    "interpolate": lambda x, w: (F.interpolate(x, scale_factor=2), F.interpolate(x, (7, 5)),
                                 F.interpolate(x, scale_factor=2.0, mode="bilinear"), F.interpolate(x, (20, 15), mode="bilinear"),
                                 F.interpolate(x, (20, 15), mode="bilinear", align_corners=True),
                                 F.interpolate(x, (20, 15), mode="bicubic"), F.interpolate(x[:, :, 0], 7, mode="linear"),
                                 F.interpolate(x, (7, 23), mode="nearest-exact")),
    "grid_sample": lambda x, w: (F.grid_sample(x, torch.tanh(x[:, :2].permute(0, 2, 3, 1)), align_corners=False),
                                 F.grid_sample(x, torch.tanh(x[:, :2].permute(0, 2, 3, 1)) * 1.3, "nearest", "border", True)),
    "affine_grid": lambda x, w: F.affine_grid(w[:2, :2, 0], [2, 4, 3, 5], align_corners=False),
    "im2col": lambda x, w: (F.unfold(x, 3, padding=1), F.fold(F.unfold(x, 3, stride=2), (12, 10), 3, stride=2)),
    "attention": lambda x, w: (F.scaled_dot_product_attention(x, x, x), F.scaled_dot_product_attention(x, x, x, is_causal=True),
                               F.scaled_dot_product_attention(x, x[:, :, :7], x[:, :, :7], scale=0.5),
                               F.scaled_dot_product_attention(x, x[:, :, :7], x[:, :, :7], is_causal=True),
                               F.scaled_dot_product_attention(x, x, x, attn_mask=x[0, 0] @ x[0, 0].T > 0)),
    "dropout": lambda x, w: (F.dropout(x, 0.5, training=False), F.dropout2d(x, training=False)),
    "stft-like": lambda x, w: x.unfold(2, 4, 2) @ w[0, :, 0, :1],
}  # fmt: skip


class Many(torch.nn.Module):
    def __init__(self, ops: Ops) -> None:
        super().__init__()
        self.ops = ops

    def forward(self, *xs):
        return {k: f(*xs) for k, f in self.ops.items()}


def inputs(family: str) -> tuple[Any, ...]:
    torch.manual_seed(3)
    if family in ("unary", "binary"):
        i, j = (torch.randint(-2, 5, (3, 4)) for _ in range(2))
        return torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 4) + 0.1, i, j, torch.randn(3, 4) > 0
    x = torch.randn(2, 3, 4, 5)
    if family == "index":
        return x, torch.tensor([1, 0]), torch.randint(0, 3, (2, 2, 4, 5))
    return (torch.randn(2, 4, 12, 10), torch.randn(6, 4, 3, 3) * 0.3) if family == "nn" else (x,)


FAMILIES = {"unary": UNARY, "binary": BINARY, "reduce": REDUCE, "shape": SHAPE, "index": INDEX, "nn": NN}


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_torch(family: str) -> None:
    xs = inputs(family)
    program = torch.export.export(Many(FAMILIES[family]), xs)
    session = dk.Interpreter(to_bytes(dk.convert(program, verify=False).graph))
    got = list(session.run(*(x.numpy() for x in xs)).values())
    want = torch.utils._pytree.tree_flatten_with_path(program.module()(*xs))[0]
    assert len(got) == len(want)
    bad = []
    for g, (path, w) in zip(got, want, strict=True):
        w = w.numpy()
        if g.dtype != w.dtype or g.shape != w.shape:
            bad.append(f"{path}: {g.dtype}{g.shape} for {w.dtype}{w.shape}")
            continue
        if w.dtype.kind == "f":
            same = np.allclose(
                g, w, rtol=1e-4, atol=2e-5 * max(1, np.abs(w[np.isfinite(w)]).max(initial=0)), equal_nan=True
            )
        else:
            same = np.array_equal(g, w)
        if not same:
            bad.append(f"{path}: {np.abs(g.astype(np.float64) - w).max()}")
    assert not bad, bad


def core_ops() -> list[str]:
    """Names of the forward ops that torch marks as core; exported programs hold none that work in place (``resize_``)."""
    out = []
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        for o in packet.overloads() if hasattr(packet, "overloads") else ():
            if torch.Tag.core in getattr(packet, o).tags and "backward" not in name and name[-1] != "_" and o != "out":
                out.append(f"{name}.{o}")
    return out


def test_core_ops_are_covered() -> None:
    """Every one of them (181 in torch 2.13)."""
    missing = [o for o in core_ops() if find(o) is None]
    assert not missing, missing


# ---- Fourier transforms and what else has complex numbers inside
class Spectra(torch.nn.Module):
    def forward(self, x):
        window = torch.hann_window(64)
        s = torch.stft(x, 64, 16, window=window, return_complex=True)
        z, image = torch.fft.rfft(x), x.reshape(-1, 16, 50)
        return {
            "power": (s.abs() ** 2).mean(-1),
            "back": torch.istft(s * 0.5 + s, 64, 16, window=window),
            "inverse": torch.fft.irfft(z * 2, n=x.shape[-1]),
            "ortho": torch.fft.irfft(z, norm="ortho"),
            "parts": torch.view_as_real(z),
            "angle": z[:, 1:-1].angle(),
            "plane": torch.fft.fft2(image, norm="ortho").real,
            "plane back": torch.fft.ifft2(torch.fft.fft2(image), norm="forward").real,
            "real plane": torch.fft.irfft2(torch.fft.rfft2(image, norm="forward"), s=(16, 50)),
            "shift": torch.fft.fftshift(torch.fft.fft(x)).imag,
            "square": (z * z.conj()).real,
            "sum": (z + 1.0).real,
            "difference": (z / 2 - z).imag,
            "polar": torch.view_as_real(torch.polar(x, x) * torch.complex(x, -x)),
            "moved": torch.view_as_real(torch.cat([z, z.flip(1)], 0).transpose(0, 1)[3:9].sum(0)),
        }


def test_complex_numbers() -> None:
    x = torch.randn(2, 800, generator=torch.Generator().manual_seed(1))
    program = torch.export.export(Spectra().eval(), (x,))
    got = dk.Interpreter(to_bytes(dk.convert(program, verify=False).graph)).run(x.numpy())
    for k, w in program.module()(x).items():
        g = got[k.replace(" ", "_")] if k not in got else got[k]
        assert g.shape == tuple(w.shape) and np.abs(g - w.numpy()).max() <= 1e-5 * w.abs().max(), k


def test_spectrogram_of_any_length() -> None:
    class Spectrogram(torch.nn.Module):
        def forward(self, x):
            return torch.stft(x, 64, 16, window=torch.hann_window(64), return_complex=True).abs()

    dims = {0: torch.export.Dim("n"), 1: torch.export.Dim("t", min=100)}
    program = torch.export.export(Spectrogram().eval(), (torch.randn(2, 800),), dynamic_shapes=(dims,))
    report = dk.convert(program)
    assert report.verification["status"] == "passed"
    session = dk.Interpreter(to_bytes(report.graph))
    for shape in ((1, 800), (3, 1111), (2, 100)):
        x = torch.randn(shape)
        want = program.module()(x).numpy()
        assert np.abs(next(iter(session.run(x.numpy()).values())) - want).max() <= 1e-5 * want.max()


def test_complex_ends_are_refused() -> None:
    class Ends(torch.nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x)

    class Middle(torch.nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).sqrt().real

    for net, says in ((Ends(), "output that is complex"), (Middle(), "view_as_real")):
        with pytest.raises(UnsupportedError, match=says):
            dk.convert(torch.export.export(net, (torch.randn(2, 8),)))
    with pytest.raises(UnsupportedError, match="complex64"):
        dk.convert(torch.export.export(RealOf(), (torch.randn(2, 8, dtype=torch.complex64),)))


class RealOf(torch.nn.Module):
    def forward(self, x):
        return torch.view_as_real(x)


def test_rare_core_ops() -> None:
    class Rare(torch.nn.Module):
        def forward(self, x):
            rows = x.reshape(-1, 12)
            normal = torch.ops.aten._native_batch_norm_legit.no_stats
            y, mean, scale = normal(x, torch.arange(3.0) + 1, torch.arange(3.0), True, 0.1, 1e-5)
            return (
                y,
                mean,
                scale,
                normal(x, None, None, True, 0.1, 1e-5)[0],
                *(torch.pdist(rows, p) for p in (0.0, 1.0, 2.0, 3.0)),
            )

    x = torch.randn(4, 3, 5, 4)
    program = torch.export.export(Rare(), (x,))
    got = dk.Interpreter(to_bytes(dk.convert(program, verify=False).graph)).run(x.numpy())
    for g, w in zip(got.values(), program.module()(x), strict=True):
        assert g.shape == tuple(w.shape) and np.abs(g - w.numpy()).max() <= 1e-5 * w.abs().max()
