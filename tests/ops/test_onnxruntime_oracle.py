"""The samples' references against onnxruntime, op by op, where ONNX has the same op: two implementations that share no
code must give the same for every nasty geometry.  ``NotThere`` names what onnxruntime leaves out or does otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from deploykit.ops import REGISTRY
from deploykit.ops.dispatch import run_reference
from deploykit.ops.samples import Sample, samples_of
from tests.support.onnx_nodes import to_first, to_last
from tests.support.passports import complete


class NotThere(Exception):
    """onnxruntime has no kernel for this case."""


def ort(op: str, inputs: list[np.ndarray | None], attrs: dict[str, Any], outputs: int = 1, opset: int = 20) -> list:
    """Run one ONNX node; attrs that are None or () are left out."""
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    attrs = {k: v for k, v in attrs.items() if v is not None and v != ()}
    ys = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, ys, **attrs)],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in zip(names, inputs, strict=True)
            if x is not None
        ],
        [helper.make_empty_tensor_value_info(y) for y in ys],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return session.run(None, {n: x for n, x in zip(names, inputs, strict=True) if x is not None})
    except Exception as e:
        raise NotThere(str(e)) from e


def window(a: dict[str, Any], *names: str) -> dict[str, Any]:
    """Window attrs in ONNX's words; ``names`` are further attrs taken as they are."""
    mode = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER"}.get(a.get("pad_mode", ""))
    out = dict(auto_pad=mode, pads=a.get("pads"), strides=a.get("strides"), dilations=a.get("dilations"))
    if mode is not None:
        out["pads"] = None
    if "kernel" in a:
        out["kernel_shape"] = a["kernel"]
    if "groups" in a:
        out["group"] = a["groups"]
    return out | {n: int(a[n]) for n in names}


def first(x: np.ndarray | None) -> np.ndarray | None:
    return None if x is None else np.ascontiguousarray(to_first(x))


def conv(s: Sample, a: dict[str, Any]) -> list:
    x, w, b = (*s.inputs, None)[:3]
    if a["act"] != "none" or len(s.inputs) > 3:
        raise NotThere("epilogue")
    return [to_last(ort("Conv", [first(x), first(w), b], window(a))[0])]


def conv_transpose(s: Sample, a: dict[str, Any]) -> list:
    x, w, b = (*s.inputs, None)[:3]
    if a["act"] != "none":
        raise NotThere("epilogue")
    kernel, strides = w.shape[1:-1], a["strides"] or (1, 1, 1)
    if (
        a["pad_mode"] != "explicit"
        and not a["output_shape"]
        and any(k < s for k, s in zip(kernel, strides, strict=False))
    ):
        raise NotThere("gives less than input * stride when the stride is longer than the kernel")
    more = dict(output_padding=a["output_padding"], output_shape=a["output_shape"])
    return [to_last(ort("ConvTranspose", [first(x), first(w), b], window(a) | more)[0])]


def conv_integer(s: Sample, a: dict[str, Any]) -> list:
    x, w, *points = s.inputs
    return [to_last(ort("ConvInteger", [first(x), first(w), *points], window(a))[0])]


def deform_conv(s: Sample, a: dict[str, Any]) -> list:
    x, w, offset, bias, mask = (*s.inputs, None, None)[:5]
    how = window(a) | dict(offset_group=a["offset_groups"])
    how.pop("auto_pad")
    return [to_last(ort("DeformConv", [first(x), first(w), first(offset), bias, first(mask)], how, opset=22)[0])]


def matmul_integer(s: Sample, a: dict[str, Any]) -> list:
    return ort("MatMulInteger", list(s.inputs), {})


def seven_bits(s: Sample) -> Sample:
    """8-bit operands halved: without VNNI, onnxruntime adds pairs of products up in saturating 16 bits."""
    return Sample([None if t is None else t // 2 for t in s.inputs], s.attrs)


def max_pool(s: Sample, a: dict[str, Any]) -> list:
    x = first(s.inputs[0])
    if x.dtype.kind == "f" and np.isnan(x).any():
        raise NotThere("NaN depends on where in the window it stands")
    y, where = ort("MaxPool", [x], window(a, "ceil_mode") | dict(storage_order=int(a["column_major"])), 2, 12)
    plane = int(np.prod(x.shape[2:]))
    return [to_last(y), to_last(where % plane)]


def avg_pool(s: Sample, a: dict[str, Any]) -> list:
    return [to_last(ort("AveragePool", [first(s.inputs[0])], window(a, "ceil_mode", "count_include_pad"))[0])]


def lp_pool(s: Sample, a: dict[str, Any]) -> list:
    return [to_last(ort("LpPool", [first(s.inputs[0])], window(a, "ceil_mode", "p"), opset=18)[0])]


def resize(s: Sample, a: dict[str, Any]) -> list:
    x, roi, scales, sizes = (*s.inputs, None, None)[:4]
    how = dict(
        axes=a["axes"],
        mode=a["mode"],
        coordinate_transformation_mode=a["coordinates"],
        nearest_mode=a["nearest"],
        keep_aspect_ratio_policy=a["aspect"],
        cubic_coeff_a=a["cubic_a"],
        exclude_outside=int(a["exclude_outside"]),
        antialias=int(a["antialias"]),
        extrapolation_value=a["extrapolation"],
    )
    whole = scales is None or all(float(f * x.shape[i]).is_integer() for i, f in zip(a["axes"], scales, strict=False))
    if a["coordinates"] == "align_corners" and not whole:
        raise NotThere("ONNX's formula takes the fractional length, onnxruntime the cut one")
    if a["coordinates"] == "tf_crop_and_resize" and a["mode"] != "nearest":
        raise NotThere("takes other coordinates than ONNX's formula")
    if x.dtype.kind in "iu" and a["mode"] != "nearest":
        raise NotThere("cuts off where ONNX rounds")
    if a["mode"] == "nearest":
        return ort("Resize", [x, roi, scales, sizes], how, opset=19)
    # its interpolating kernels want the resized dims last
    if len(a["axes"]) == 2 and x.ndim == 4:
        return [to_last(ort("Resize", [first(x), roi, scales, sizes], how | dict(axes=(2, 3)), opset=19)[0])]
    return ort("Resize", [x, roi, scales, sizes], how, opset=19)


def grid_sample(s: Sample, a: dict[str, Any]) -> list:
    how = dict(mode=a["mode"], padding_mode=a["padding"], align_corners=int(a["align_corners"]))
    return [to_last(ort("GridSample", [first(s.inputs[0]), s.inputs[1]], how)[0])]


def roi_align(s: Sample, a: dict[str, Any]) -> list:
    how = {k: v for k, v in a.items() if k != "half_pixel"}
    how["coordinate_transformation_mode"] = "half_pixel" if a["half_pixel"] else "output_half_pixel"
    return [to_last(ort("RoiAlign", [first(s.inputs[0]), *s.inputs[1:]], how, opset=16)[0])]


def lrn(s: Sample, a: dict[str, Any]) -> list:
    x = s.inputs[0]
    if x.ndim != 4:
        raise NotThere("rank")
    return [to_last(ort("LRN", [first(x)], a)[0])]


def dft(s: Sample, a: dict[str, Any]) -> list:
    if a["inverse"] and a["onesided"]:
        raise NotThere("inverse of a onesided transform")
    return ort("DFT", list(s.inputs), a | dict(inverse=int(a["inverse"]), onesided=int(a["onesided"])))


def same_name(name: str, opset: int = 21, *ints: str) -> Callable[[Sample, dict[str, Any]], list]:
    def run(s: Sample, a: dict[str, Any]) -> list:
        return ort(name, list(s.inputs), a | {k: int(a[k]) for k in ints}, len(REGISTRY_OUTPUTS[name]), opset)

    return run


REGISTRY_OUTPUTS = {"DynamicQuantizeLinear": "abc"} | dict.fromkeys(
    ("Einsum", "Det", "LayerNormalization", "Col2Im", "STFT"), "a"
)


def quantize(s: Sample, a: dict[str, Any]) -> list:
    x, scale, point = (*s.inputs, None)[:3]
    if x.dtype.kind == "f" and np.isnan(x).any():
        raise NotThere("NaN becomes the least integer")
    code = (
        None
        if point is not None
        else helper.np_dtype_to_tensor_dtype(run_reference(REGISTRY["quantize"], s.inputs, a)[0].dtype)
    )
    how = dict(axis=a["axis"], block_size=a["block_size"], saturate=int(a["saturate"]), output_dtype=code)
    (y,) = ort("QuantizeLinear", [x, scale, point], how, opset=21)
    want = run_reference(REGISTRY["quantize"], s.inputs, a)[0].dtype
    return [y.view(want) if want.name.startswith("float8") else y]  # it hands float8 out as bytes


def dequantize(s: Sample, a: dict[str, Any]) -> list:
    if a["dtype"]:
        raise NotThere("another result dtype")
    return ort("DequantizeLinear", list(s.inputs), dict(axis=a["axis"], block_size=a["block_size"]), opset=21)


ORACLES: dict[str, Callable[[Sample, dict[str, Any]], list]] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "conv_integer": conv_integer,
    "deform_conv": deform_conv,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "lp_pool": lp_pool,
    "resize": resize,
    "grid_sample": grid_sample,
    "roi_align": roi_align,
    "lrn": lrn,
    "matmul_integer": matmul_integer,
    "einsum": same_name("Einsum"),
    "det": same_name("Det"),
    "layer_norm": same_name("LayerNormalization"),
    "col2im": same_name("Col2Im"),
    "dft": dft,
    "stft": same_name("STFT", 17, "onesided"),
    "quantize": quantize,
    "dequantize": dequantize,
    "dynamic_quantize": same_name("DynamicQuantizeLinear"),
}
CASES = [(n, i) for n in ORACLES for i in range(len(samples_of(REGISTRY[n])))]


@pytest.mark.parametrize(("name", "index"), CASES, ids=[f"{n}-{i}" for n, i in CASES])
def test_reference_agrees_with_onnxruntime(name: str, index: int) -> None:
    op = REGISTRY[name]
    s = samples_of(op)[index]
    if name in ("conv_integer", "matmul_integer"):
        s = seven_bits(s)
    attrs = complete(op, s)
    got = run_reference(op, list(s.inputs), attrs)
    try:
        want = ORACLES[name](s, attrs)
    except NotThere as e:
        pytest.skip(str(e)[:100])
    for a, b in zip(got, want, strict=False):
        assert a.shape == b.shape and a.dtype == b.dtype, f"{s}: {a.dtype}{a.shape}, onnxruntime {b.dtype}{b.shape}"
        size = np.abs(b.astype(np.float64))
        scale = float(np.max(size[np.isfinite(size)], initial=0.0)) or 1.0
        eps = {"float16": 2e-3, "bfloat16": 2e-2}.get(a.dtype.name, 1e-5)
        np.testing.assert_allclose(
            a.astype(np.float64), b.astype(np.float64), rtol=eps, atol=eps * scale, err_msg=str(s)
        )
