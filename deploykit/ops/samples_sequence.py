"""Samples of image geometry, recurrent layers, attention, quantization and signal ops."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.ops.samples import FLOATS, Draw, Sample, i64, s64


def _f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# ---- image
def resize() -> list[Sample]:
    r = Draw("resize")
    out = []
    coordinates = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
    hw = dict(axes=(1, 2))
    for mode in ("nearest", "linear", "cubic"):
        for c in coordinates:
            how = dict(hw, mode=mode, coordinates=c)
            out.append(Sample([r((1, 3, 4, 2)), None, _f32(2.0, 1.5)], how))
            out.append(Sample([r((1, 5, 4, 2)), None, _f32(0.6, 0.8)], how))
            out.append(Sample([r((1, 3, 5, 2)), None, None, i64(7, 3)], how))
            out.append(Sample([r((1, 3, 2, 1)), None, None, i64(1, 1)], how))
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for c in ("half_pixel", "asymmetric", "align_corners"):
            out.append(Sample([r((1, 4, 6, 2)), None, None, i64(7, 3)], dict(hw, coordinates=c, nearest=rounding)))
    for mode in ("linear", "cubic"):
        out.append(Sample([r((1, 7, 6, 1)), None, None, i64(3, 4)], dict(hw, mode=mode, antialias=True)))
        out.append(Sample([r((1, 3, 6, 1)), None, None, i64(5, 4)], dict(hw, mode=mode, antialias=True)))
        out.append(Sample([r((1, 9, 3, 1)), None, _f32(0.2, 2.0)], dict(hw, mode=mode, antialias=True)))
    out.append(Sample([r((1, 4, 4, 1)), None, _f32(1.5, 0.7)], dict(hw, mode="cubic", exclude_outside=True)))
    out.append(Sample([r((1, 4, 4, 1)), None, _f32(1.5, 0.7)], dict(hw, mode="cubic", cubic_a=-0.5)))
    both = dict(hw, mode="cubic", exclude_outside=True, antialias=True)
    out.append(Sample([r((1, 6, 6, 1)), None, _f32(0.5, 0.7)], both))
    for aspect in ("not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            out.append(Sample([r((1, 4, 3, 2)), None, None, i64(6, 6)], dict(hw, aspect=aspect, mode=mode)))
    crop = dict(hw, coordinates="tf_crop_and_resize", extrapolation=10.0)
    for mode in ("nearest", "linear", "cubic"):
        inside, outside = _f32(0.2, 0.1, 0.8, 0.9), _f32(-0.4, 0.3, 0.7, 1.6)
        out.append(Sample([r((1, 5, 4, 2)), inside, None, i64(3, 4)], dict(crop, mode=mode)))
        out.append(Sample([r((1, 5, 4, 2)), outside, None, i64(4, 3)], dict(crop, mode=mode)))
    out.append(Sample([r((1, 5, 4, 2)), _f32(0.2, 0.1, 0.8, 0.9), None, i64(1, 3)], dict(crop, mode="linear")))
    # all axes, other layouts, 1-D and 3-D
    out.append(Sample([r((1, 2, 3, 4)), None, _f32(1, 1, 2, 2)], dict(mode="linear")))
    out.append(Sample([r((5,)), None, _f32(1.7)], dict(mode="linear")))
    out.append(Sample([r((2, 3, 2)), None, None, i64(3, 2, 5)], dict(mode="linear")))
    out.append(Sample([r((1, 2, 3, 2, 1)), None, _f32(2, 1.5, 2)], dict(mode="linear", axes=(1, 2, 3))))
    out.append(Sample([r((2, 3, 4)), None, None, i64(5, 6)], dict(axes=(-1, 0))))
    for d in ("float64", "float16", "bfloat16", "uint8", "int8", "int32"):
        out.append(Sample([r((1, 3, 4, 3), d), None, None, i64(5, 7)], hw, differentiable=False))
        out.append(Sample([r((1, 3, 4, 3), d), None, None, i64(5, 7)], dict(hw, mode="linear"), differentiable=False))
    over = np.array([0, 255, 0, 255, 255], np.uint8)  # cubic overshoots: saturates
    out.append(Sample([over, None, None, i64(11)], dict(mode="cubic"), differentiable=False))
    out.append(Sample([r((1, 7, 9, 21)), None, None, i64(14, 18)], dict(hw, mode="linear"), differentiable=False))
    out.append(Sample([r((1, 7, 9, 21)), None, None, i64(14, 18)], hw, differentiable=False))
    out.append(Sample([r((0, 3, 3, 2)), None, _f32(2, 2)], hw, differentiable=False))
    for s in out:
        s.fixed = (1, 2)  # roi and scales
    return out


def grid_sample() -> list[Sample]:
    r = Draw("grid_sample")
    out = []
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for corners in (False, True):
                how = dict(mode=mode, padding=padding, align_corners=corners)
                grid = r((2, 2, 3, 2), low=-1.8, high=1.8)
                out.append(Sample([r((2, 4, 5, 3)), grid], how))
        out.append(Sample([r((1, 3, 2, 4, 2)), r((1, 2, 2, 1, 3), low=-1.4, high=1.4)], dict(mode=mode)))
        out.append(
            Sample([r((1, 1, 1, 2)), r((1, 2, 2, 2), low=-2.5, high=2.5)], dict(mode=mode, padding="reflection"))
        )
    edge = np.array([-1, -0.75, -0.5, 0, 0.5, 1, 1.25, -3], np.float32)  # on pixels, between them, outside
    grid = np.stack(np.meshgrid(edge, edge), axis=-1)[None].astype(np.float32)
    for mode in ("linear", "nearest"):
        out.append(Sample([r((1, 4, 4, 2)), grid], dict(mode=mode)))
    for d in FLOATS[1:]:
        out.append(Sample([r((1, 4, 5, 3), d), r((1, 2, 2, 2), d, -1.0, 1.0)]))
    out.append(Sample([r((0, 4, 5, 3)), r((0, 2, 2, 2))]))
    return out


def roi_align() -> list[Sample]:
    r = Draw("roi_align")
    rois = np.array([[0, 0, 4, 4], [1.5, 0.5, 5.2, 3.7], [-2, -1, 3, 9], [2, 2, 2, 2], [7, 7, 9, 9]], np.float32)
    which = i64(0, 1, 1, 0, 1)
    out = []
    for mode in ("avg", "max"):
        for half in (False, True):
            how = dict(mode=mode, half_pixel=half)
            out.append(Sample([r((2, 6, 5, 3)), rois, which], dict(how, output_height=2, output_width=3)))
            out.append(Sample([r((2, 6, 5, 3)), rois * 2, which], dict(how, sampling_ratio=2, spatial_scale=0.5)))
    out.append(Sample([r((1, 4, 4, 2)), np.zeros((0, 4), np.float32), i64()], dict(output_height=2, output_width=2)))
    many = dict(output_height=3, output_width=3)
    out += [Sample([r((2, 6, 5, 3), d), rois.astype(dtypes.dtype(d).np), which], many) for d in FLOATS[1:]]
    return out


def col2im() -> list[Sample]:
    r = Draw("col2im")
    cases: list[tuple[int, int, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        (1, 1, (5, 5), (1, 5), {}),
        (2, 3, (4, 5), (2, 2), {}),
        (1, 2, (5, 5), (2, 3), dict(pads=(1, 0, 1, 1))),
        (1, 2, (6, 6), (2, 2), dict(strides=(2, 3))),
        (1, 1, (6, 6), (2, 2), dict(dilations=(2, 3), strides=(1, 2))),
        (1, 2, (7,), (3,), dict(strides=(2,))),
        (1, 2, (3, 4, 3), (2, 2, 2), dict(pads=(0, 1, 0, 0, 0, 1))),
    ]
    out = []
    from deploykit.ops.windows import window

    for n, c, image, block, how in cases:
        blocks = window(image, block, how.get("strides", ()), how.get("dilations", ()), how.get("pads", ())).out
        count = prod(blocks)
        out.append(Sample([r((n, c * int(np.prod(block)), count)), i64(*image), i64(*block)], how))
    for d in (*FLOATS[1:], "int32"):
        out.append(Sample([r((1, 8, 9), d), i64(4, 4), i64(2, 2)], differentiable=False))
    return out


# ---- recurrent
def _recurrent(name: str, gates: int, states: int, option: str) -> list[Sample]:
    r = Draw(name)

    def case(
        steps: int = 3,
        batch: int = 2,
        size: int = 2,
        hidden: int = 2,
        *,
        bias: bool = True,
        initial: bool = False,
        lengths: tuple[int, ...] = (),
        peep: bool = False,
        dtype: str = "float32",
        differentiable: bool = True,
        **attrs: Any,
    ) -> Sample:
        d = 2 if attrs.get("direction") == "bidirectional" else 1
        first = attrs.get("batch_first", False)
        state = (batch, d, hidden) if first else (d, batch, hidden)
        x = r((batch, steps, size) if first else (steps, batch, size), dtype)
        weights = [r((d, gates * hidden, size), dtype, -0.8, 0.8), r((d, gates * hidden, hidden), dtype, -0.8, 0.8)]
        inputs = [x, *weights, r((d, 2 * gates * hidden), dtype) if bias else None]
        inputs.append(np.array(lengths, np.int32) if lengths else None)
        inputs += [r(state, dtype) if initial else None for _ in range(states)]
        if peep:
            inputs.append(r((d, 3 * hidden), dtype))
        while inputs[-1] is None:
            inputs.pop()
        return Sample(inputs, attrs, differentiable=differentiable)

    f = {4: "HardSigmoid,Softsign,Elu", 3: "HardSigmoid,ScaledTanh", 1: "LeakyRelu"}[gates]
    out = [
        case(),
        case(bias=False),
        case(initial=True),
        case(1, 1, 1, 1),
        case(direction="reverse", initial=True),
        case(2, direction="bidirectional", initial=True),
        case(lengths=(3, 1)),
        case(lengths=(2, 3), direction="reverse", initial=True),
        case(lengths=(1, 3), direction="bidirectional", initial=True, batch_first=True),
        case(2, batch_first=True),
        case(2, 3, batch_first=True, direction="reverse"),
        case(clip=0.4),
        case(2, activations=f, activation_alpha=(0.3, 0.6), activation_beta=(0.4,)),
        case(2, 2, 3, 2, activations="Tanh,Sigmoid,Affine"[: [0, 4, 0, 12, 19][gates]], activation_alpha=(0.8,)),
        case(4, 3, 9, 17, initial=True, differentiable=False),
        case(2, 1, 33, 40, differentiable=False),
        case(3, lengths=(0, 2), initial=True, differentiable=False),
    ]
    if option:
        on: dict[str, Any] = {option: True}
        out += [case(**on), case(initial=True, direction="bidirectional", **on)]
    if gates == 4:
        out += [case(peep=True), case(peep=True, initial=True, direction="reverse", lengths=(3, 2))]
        out += [case(peep=True, direction="bidirectional", input_forget=True)]
    return out + [case(dtype=d, initial=True, differentiable=False) for d in FLOATS[1:]]


def lstm() -> list[Sample]:
    return _recurrent("lstm", 4, 2, "input_forget")


def gru() -> list[Sample]:
    return _recurrent("gru", 3, 1, "linear_before_reset")


def rnn() -> list[Sample]:
    return _recurrent("rnn", 1, 1, "")


# ---- attention
def attention() -> list[Sample]:
    r = Draw("attention")

    def qkv(
        h: int = 2, hk: int = 2, n: int = 3, s: int = 4, d: int = 2, dv: int = 3, b: tuple[int, ...] = (1,)
    ) -> list:
        return [r((*b, h, n, d)), r((*b, hk, s, d)), r((*b, hk, s, dv))]

    some = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)  # one row forbids everything
    out = [
        Sample(qkv()),
        Sample(qkv(), dict(scale=0.3)),
        Sample(qkv(), dict(causal=True)),
        Sample(qkv(n=4, s=3), dict(causal=True)),  # the first query sees nothing
        Sample(qkv(n=1, s=5), dict(causal=True)),
        Sample(qkv(), dict(softcap=0.5)),
        Sample([*qkv(), r((3, 4))]),
        Sample([*qkv(), r((1, 2, 3, 4))], dict(softcap=2.0, causal=True)),
        Sample([*qkv(), r((2, 1, 4))]),
        Sample([*qkv(), some]),
        Sample([*qkv(), np.where(some, 0, -np.inf).astype(np.float32)], differentiable=False),
        Sample(qkv(h=4, hk=2)),
        Sample(qkv(h=3, hk=1, b=(2,))),
        Sample([*qkv(h=4, hk=2), r((4, 3, 4))], dict(causal=True)),
        Sample(qkv(b=())),
        Sample([r((2, 1, 2, 3, 2)), r((2, 4, 2)), r((3, 2, 4, 2))], differentiable=False),  # batch dims broadcast
        Sample(qkv(h=2, hk=2, n=17, s=33, d=20, dv=24), dict(causal=True), differentiable=False),
        Sample(qkv(n=0), differentiable=False),
        Sample(qkv(s=0), differentiable=False),
    ]
    for d in FLOATS[1:]:
        out.append(Sample([t.astype(dtypes.dtype(d).np) for t in qkv()], dict(causal=True), differentiable=False))
    return out


def rotary_embedding() -> list[Sample]:
    r = Draw("rotary")
    out = []
    for inter in (False, True):
        how = dict(interleaved=inter)
        out.append(Sample([r((1, 2, 3, 4)), r((3, 2)), r((3, 2))], how))
        out.append(Sample([r((1, 2, 3, 7)), r((1, 1, 3, 2)), r((1, 1, 3, 2))], how))  # features that stay
        out.append(Sample([r((2, 3, 4)), r((2,)), r((2,))], how))
        out.append(Sample([r((6,)), r((3,)), r((3,))], how))
        out.append(Sample([r((2, 3, 66)), r((3, 33)), r((3, 33))], how, differentiable=False))
        out += [Sample([r((3, 4), d), r((3, 2), d), r((3, 2), d)], how, differentiable=False) for d in FLOATS[1:]]
    return out


# ---- quantize
_TARGETS = ("uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2")
_SMALL_FLOATS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn")


def _points(d: str, r: Draw, shape: tuple[int, ...]) -> np.ndarray:
    return r(shape, d) if dtypes.dtype(d).kind in "iu" else np.zeros(shape, np.float32).astype(dtypes.dtype(d).np)


def quantize() -> list[Sample]:
    r = Draw("quantize")
    # ties, both ends, beyond both ends
    ties = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.0, -0.0, 126.5, 127.5, -128.5, 255.5, 1e9, -1e9], np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, 1e-40, 3.0], np.float32)
    out = []
    for d in (*_TARGETS, *_SMALL_FLOATS):
        out.append(Sample([r((3, 5), low=-9.0, high=9.0), np.array(0.07, np.float32), _points(d, r, ())]))
        out.append(Sample([ties, np.array(1.0, np.float32)], dict(dtype=d)))
        out.append(Sample([r((2, 3, 4)), r((3,), low=0.01, high=0.2), _points(d, r, (3,))], dict(axis=1)))
    out.append(Sample([odd, np.array(0.5, np.float32), np.array(3, np.uint8)], dict(axis=0)))
    out.append(Sample([odd[1:], np.array(0.5, np.float32)], dict(dtype="float8_e4m3fn", saturate=False)))
    out.append(Sample([odd[1:], np.array(0.5, np.float32)], dict(dtype="float8_e5m2", saturate=False)))
    out.append(Sample([r((2, 6)), r((2, 3), low=0.01, high=0.2)], dict(axis=1, block_size=2, dtype="int8")))
    blocks: list[np.ndarray | None] = [r((5, 3)), r((3, 3), low=0.01, high=0.2), r((3, 3), "int4")]
    out.append(Sample(blocks, dict(axis=0, block_size=2)))
    out.append(Sample([r((2, 3, 4)), r((4,), low=0.01, high=0.2)], dict(axis=-1, dtype="int8")))
    out.append(Sample([r((3, 4), "int32"), np.array(3.0, np.float32), np.array(-7, np.int8)]))
    for d in ("float16", "bfloat16"):
        t = dtypes.dtype(d).np
        out.append(Sample([r((3, 4), d), np.array(0.06).astype(t), np.array(7, np.uint8)]))
        out.append(Sample([r((3, 4)), np.array(0.06).astype(t), np.array(7, np.uint8)]))
    out.append(Sample([r((67,)), np.array([0.02], np.float32), np.array([-3], np.int8)], dict(axis=0)))
    return [*out, Sample([r((0, 3)), np.array(0.1, np.float32)])]


def dequantize() -> list[Sample]:
    r = Draw("dequantize")
    out = []
    for d in (*_TARGETS, "int32"):
        out.append(Sample([r((3, 5), d), np.array(0.07, np.float32), r((), d) if d != "int32" else None]))
        out.append(Sample([r((2, 3, 4), d), r((3,), low=0.01, high=0.2), r((3,), d) if d != "int32" else None]))
    for d in _SMALL_FLOATS:
        out.append(Sample([r((3, 5), low=-5.0, high=5.0).astype(dtypes.dtype(d).np), np.array(0.5, np.float32)]))
    out.append(Sample([r((2, 6), "int8"), r((2, 3), low=0.01, high=0.2), r((2, 3), "int8")], dict(block_size=2)))
    out.append(Sample([r((5, 3), "uint4"), r((3, 3), low=0.01, high=0.2)], dict(axis=0, block_size=2)))
    for d in ("float16", "bfloat16"):
        t = dtypes.dtype(d).np
        out.append(Sample([r((3, 4), "uint8"), np.array(0.06).astype(t), np.array(7, np.uint8)]))
        out.append(Sample([r((3, 4), "int8"), np.array(0.06, np.float32)], dict(dtype=d)))
    out.append(Sample([r((67,), "int8"), np.array([0.02], np.float32), np.array([-3], np.int8)], dict(axis=0)))
    return [*out, Sample([r((0, 3), "uint8"), np.array(0.1, np.float32)])]


def dynamic_quantize() -> list[Sample]:
    r = Draw("dynamic_quantize")
    shapes = ((3, 4), (67,), (), (1,), (0, 3))
    out = [Sample([r(s)]) for s in shapes]
    out += [Sample([r((3, 4), low=1.0)]), Sample([r((3, 4), high=-1.0)]), Sample([np.zeros((2, 2), np.float32)])]
    return [*out, Sample([np.array([0, 0.5, 1, 1.5, 254, 255], np.float32)])]


# ---- signal
def dft() -> list[Sample]:
    r = Draw("dft")
    out = []
    for n in (1, 4, 5, 6, 12):  # powers of two, primes, the rest
        for inverse in (False, True):
            out.append(Sample([r((2, n, 2))], dict(inverse=inverse)))
            out.append(Sample([r((2, n, 1))], dict(inverse=inverse)))
        out.append(Sample([r((2, n, 1))], dict(onesided=True)))
    for n in (3, 4):
        out.append(Sample([r((2, n, 2))], dict(inverse=True, onesided=True)))
        out.append(Sample([r((1, n, 2)), s64(5)], dict(inverse=True, onesided=True)))
        out.append(Sample([r((1, n, 2)), s64(8)], dict(inverse=True, onesided=True)))
        out.append(Sample([r((1, n, 2)), s64(3)], dict(inverse=True, onesided=True)))
    for inverse in (False, True):
        out.append(Sample([r((2, 3, 4, 2)), None, s64(1)], dict(inverse=inverse)))
        out.append(Sample([r((2, 3, 2)), None, s64(0)], dict(inverse=inverse)))
        out.append(Sample([r((1, 5, 2)), s64(8)], dict(inverse=inverse)))
        out.append(Sample([r((1, 5, 1)), s64(3)], dict(inverse=inverse)))
    out.append(Sample([r((2, 4, 3, 1)), s64(6), s64(1)], dict(onesided=True)))
    out.append(Sample([r((1, 37, 1))], dict(onesided=True), differentiable=False))
    out.append(Sample([r((1, 512, 2))], differentiable=False))
    return out + [Sample([r((2, 6, 2), d)], differentiable=False) for d in FLOATS[1:]]


def stft() -> list[Sample]:
    r = Draw("stft")
    out = [
        Sample([r((1, 8, 1)), s64(2), r((4,), low=0.2, high=1.0)]),
        Sample([r((2, 9, 1)), s64(3), None, s64(5)]),
        Sample([r((2, 9, 1)), s64(2), r((4,)), s64(4)], dict(onesided=False)),
        Sample([r((1, 9, 2)), s64(4), r((4,))], dict(onesided=False)),
        Sample([r((1, 9, 1)), s64(1), r((3,)), s64(5)]),  # a window shorter than the frame
        Sample([r((1, 4, 1)), s64(3), r((4,))]),
        Sample([r((1, 100, 1)), s64(7), r((32,))], differentiable=False),
    ]
    return out + [Sample([r((1, 8, 1), d), s64(2), r((4,), d)], differentiable=False) for d in FLOATS[1:]]


def mel_weights() -> list[Sample]:
    def case(bins: int, length: int, rate: int, low: float, high: float, **attrs: Any) -> Sample:
        return Sample([s64(bins), s64(length), s64(rate), _f32(low)[0:1].reshape(()), _f32(high).reshape(())], attrs)

    return [
        case(8, 16, 8192, 0.0, 4096.0),
        case(4, 16, 16000, 20.0, 8000.0),
        case(20, 32, 16000, 300.0, 3000.0),
        case(40, 512, 16000, 60.0, 7600.0),
        case(4, 16, 8192, 0.0, 4096.0, dtype="float64"),
        case(4, 16, 8192, 0.0, 4096.0, dtype="float16"),
    ]
