"""Each repair on its own: the float function is kept, and what it promises gets better, measured on held-out inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.quantize import equalize
from deploykit.converters.quantize.repair import adaround, gptq
from deploykit.errors import InputError
from deploykit.graph import Graph
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder

R = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


def uneven(n: int, octaves: float = 5) -> np.ndarray:
    return np.exp2(np.linspace(-octaves, octaves, n)).astype(np.float32)


def depthwise_net() -> Graph:
    """conv 1x1, relu, depthwise, relu, conv 1x1, whose inner channels have very different ranges."""
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 12, 12, 8))
    s = uneven(16)
    y = b.op("relu", b.op("conv", x, normal(16, 1, 1, 8) * s[:, None, None, None], normal(16) * s))
    y = b.op("relu", b.op("conv", y, normal(16, 3, 3, 1), normal(16) * s, groups=16, pads=(1, 1, 1, 1)))
    y = b.op("conv", y, normal(8, 1, 1, 16) / s, normal(8))
    return b.output(y, "y")


def transformer_block() -> Graph:
    """A layer norm with a few outlier channels, as in trained transformers, and two products that read it."""
    b = GraphBuilder()
    x = b.input("x", "float32", (16, 128))
    gamma = np.ones(128, np.float32)
    gamma[[3, 50, 90]] = 60
    n = b.op("layer_norm", x, gamma, normal(128) * 0.1)
    w = [normal(128, 64) * 0.1 for _ in range(2)]
    for m in w:
        m[[3, 50, 90]] *= 0.02
    y = b.op("mul", b.op("matmul", n, w[0]), b.op("sigmoid", b.op("matmul", n, w[1])))
    return b.output(y, "y")


def few_directions(n: int, rows: int, size: int) -> list[np.ndarray]:
    """Inputs that lie near a subspace: rounding errors along it count, others hardly."""
    basis = np.random.default_rng(5).standard_normal((size // 8, size)).astype(np.float32)
    return [normal(rows, len(basis)) @ basis + 0.05 * normal(rows, size) + 0.5 for _ in range(n)]


def linear() -> Graph:
    b = GraphBuilder()
    x = b.input("x", "float32", (32, 128))
    return b.output(b.op("matmul", x, normal(128, 48)), "y")


def run(graph: Graph | bytes, x: np.ndarray) -> np.ndarray:
    return dk.Interpreter(graph if isinstance(graph, bytes) else to_bytes(graph)).run({"x": x})["y"]


def noise(graph: Graph, data: list[np.ndarray], held: list[np.ndarray], **options: Any) -> float:
    """Mean squared error on inputs that calibration did not see."""
    report = dk.convert(graph, calibration=data, verify=False, **options)
    assert report.graph is not None
    return float(np.mean([(run(graph, x) - run(report.graph, x)) ** 2 for x in held]))


def test_equalization_keeps_the_function() -> None:
    g, x = depthwise_net(), normal(1, 12, 12, 8)
    before = run(g, x)
    assert equalize(g) == 2
    assert np.abs(run(g, x) - before).max() < 1e-4 * np.abs(before).max()


def test_equalization_by_activations_keeps_the_function() -> None:
    """And channels between the convolutions then reach as far as each other."""
    from deploykit.quantization import _moments

    g, x = depthwise_net(), normal(1, 12, 12, 8)
    before = run(g, x)
    data = [{"x": normal(1, 12, 12, 8)} for _ in range(8)]
    assert equalize(g, _moments(g, data, False)) == 2
    assert np.abs(run(g, x) - before).max() < 1e-4 * np.abs(before).max()
    tops = [m.top for v, m in _moments(g, data, False).items() if v is not g.inputs[0]]
    assert all(t.max() < 20 * np.median(t) for t in tops)  # 1000 times before


def cases() -> list[Any]:
    images = [normal(1, 12, 12, 8) for _ in range(24)]
    rows = few_directions(24, 32, 128)
    tokens = [normal(16, 128) for _ in range(24)]
    return [
        pytest.param(depthwise_net(), images, "int8", "equalize", 0.5, id="equalize"),
        pytest.param(transformer_block(), tokens, "int8", "smooth", 0.5, id="smooth-int8"),
        pytest.param(transformer_block(), tokens, "dynamic", "smooth", 0.5, id="smooth-dynamic"),
        pytest.param(linear(), rows, "int4", "gptq", 0.6, id="gptq-int4"),
        pytest.param(linear(), rows, "int8", "gptq", 1.0, id="gptq-int8"),
        pytest.param(linear(), rows, "int8", "round", 1.0, id="round"),
    ]


@pytest.mark.parametrize(("graph", "data", "scheme", "repair", "most"), cases())
def test_less_noise(graph: Graph, data: list[np.ndarray], scheme: str, repair: str, most: float) -> None:
    plain = noise(graph, data[:16], data[16:], quantize=scheme, repair="none")
    assert noise(graph, data[:16], data[16:], quantize=scheme, repair=[repair]) < most * plain


def test_bias_correction_takes_the_mean_shift_off() -> None:
    g = linear()
    data = [np.abs(normal(32, 128)) + 1 for _ in range(24)]  # far from mean 0: rounding weights shifts outputs

    def shift(**options: Any) -> float:
        report = dk.convert(g, calibration=data[:16], quantize="int8", verify=False, observer="minmax", **options)
        assert report.graph is not None
        return float(np.abs(np.mean([run(report.graph, x) - run(g, x) for x in data[16:]], axis=(0, 1))).mean())

    assert shift(repair=["bias"]) < 0.5 * shift(repair="none")


def test_rounding_lowers_the_quadratic_form() -> None:
    x = few_directions(1, 512, 32)[0].astype(np.float64)
    h, w = x.T @ x / 512 + 1e-3 * np.eye(32), normal(32, 8).astype(np.float64)
    scale = np.abs(w).max(0) / 7

    def cost(q: np.ndarray) -> float:
        e = q * scale - w
        return float(np.einsum("ko,kl,lo->", e, h, e))

    nearest = cost(np.rint(w / scale))
    assert cost(adaround(w, h, scale, 7)) < 0.7 * nearest
    assert cost(gptq(w, h, lambda k, _: scale, -7, 7)) < 0.7 * nearest


@pytest.mark.parametrize("block", [32, 64, 128])
def test_int4_blocks(block: int) -> None:
    report = dk.convert(linear(), quantize="int4", block_size=block, verify=False)
    assert report.graph is not None
    w = next(n for n in report.graph.nodes if n.op == "matmul_weight_only")
    assert w.inputs[2].shape == (128 // block, 48)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int4", "block_size": 48}, "32, 64 or 128"),
        ({"quantize": "fp16", "repair": ["bias"]}, "does nothing for fp16"),
        ({"quantize": "int4", "repair": ["gptq"]}, "calibration"),
        ({"quantize": "int8", "repair": ["magic"], "calibration": [normal(32, 128)]}, "equalize, smooth"),
        ({"quantize": "int8", "repair": ["gptq", "round"], "calibration": [normal(32, 128)]}, "one of them"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dk.convert(linear(), **options)


def test_raw_pixels_are_noticed() -> None:
    b = GraphBuilder()
    g = b.output(b.op("conv", b.input("x", "float32", (1, 8, 8, 3)), normal(4, 3, 3, 3)), "y")
    pixels = R.integers(0, 256, (16, 1, 8, 8, 3)).astype(np.float32)

    def notes(data: Any) -> str:
        report = dk.convert(g, quantize="int8", calibration=data, verify=False)
        assert report.quantization is not None
        return " ".join(report.quantization["notes"])

    assert "raw pixels" in notes(list(pixels))
    assert "raw pixels" not in notes(list(pixels / 255))
    assert "everywhere" in notes([np.ones((1, 8, 8, 3), np.float32)] * 8)
    assert "only 2 samples" in notes(list(pixels[:2] / 255))
