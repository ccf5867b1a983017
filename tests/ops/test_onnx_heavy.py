"""References of the heavy families (products, convolutions, pools, norms) against ONNX's node tests."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.ops import F
from tests.support.onnx_nodes import Case, cases_of, check, to_first, to_last


def geometry(attrs, *, kernel=False, groups=True):
    """ONNX's window attrs in our words; auto_pad VALID is explicit without pads."""
    mode = attrs.get("auto_pad") or "NOTSET"
    out = dict(
        strides=attrs.get("strides") or (),
        dilations=attrs.get("dilations") or (),
        pads=(attrs.get("pads") or ()) if mode == "NOTSET" else (),
        pad_mode={"SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}.get(mode, "explicit"),
    )
    if kernel:
        out["kernel"] = attrs["kernel_shape"]
    if groups:
        out["groups"] = attrs["group"]
    return out


def matmul(x, attrs, opset):
    return F.matmul(*x)


def gemm(x, attrs, opset):
    a, b, c = (*x, None)[:3]
    scaled = None if c is None else c * np.asarray(attrs["beta"], c.dtype)
    return F.matmul(a, b, scaled, transpose_a=attrs["transA"], transpose_b=attrs["transB"], alpha=attrs["alpha"])


def conv(x, attrs, opset):
    return to_first(F.conv(to_last(x[0]), to_last(x[1]), *x[2:], **geometry(attrs)))


def conv_transpose(x, attrs, opset):
    more = dict(output_padding=attrs["output_padding"] or (), output_shape=attrs["output_shape"] or ())
    return to_first(F.conv_transpose(to_last(x[0]), to_last(x[1]), *x[2:], **geometry(attrs), **more))


def conv_integer(x, attrs, opset):
    return to_first(F.conv_integer(to_last(x[0]), to_last(x[1]), *x[2:], **geometry(attrs)))


def deform_conv(x, attrs, opset):
    data, weight, offset, bias, mask = (*x, None, None)[:5]
    g = {k: v for k, v in geometry(attrs).items() if k != "pad_mode"}
    last = [None if t is None else to_last(t) for t in (data, weight, offset, mask)]
    return to_first(F.deform_conv(*last[:3], bias, last[3], **g, offset_groups=attrs["offset_group"]))


def max_pool(x, attrs, opset):
    g = geometry(attrs, kernel=True, groups=False)
    y, where = F.max_pool(
        to_last(x[0]), **g, ceil_mode=attrs.get("ceil_mode") or 0, column_major=attrs.get("storage_order") or 0
    )
    where = to_first(where)  # ONNX counts through the whole tensor
    n, c, *size = x[0].shape
    planes = np.arange(n * c).reshape([n, c] + [1] * len(size)) * int(np.prod(size))
    return to_first(y), where + planes


def avg_pool(x, attrs, opset):
    g = geometry(attrs, kernel=True, groups=False)
    more = dict(ceil_mode=attrs.get("ceil_mode") or 0, count_include_pad=attrs.get("count_include_pad") or 0)
    return to_first(F.avg_pool(to_last(x[0]), **g, **more))


def lp_pool(x, attrs, opset):
    g = geometry(attrs, kernel=True, groups=False)
    return to_first(F.lp_pool(to_last(x[0]), **g, ceil_mode=attrs.get("ceil_mode") or 0, p=attrs["p"]))


def max_unpool(x, attrs, opset):
    data, where, shape = (*x, None)[:3]
    n, c = data.shape[:2]
    if shape is not None:
        size = shape[2:]
    else:
        k, s, p = attrs["kernel_shape"], attrs["strides"], attrs["pads"] or [0] * 2 * len(attrs["kernel_shape"])
        size = [(d - 1) * s[i] - p[i] - p[len(k) + i] + k[i] for i, d in enumerate(data.shape[2:])]
    if shape is not None and "without" not in str(attrs):
        # ONNX's positions count through a tensor of the size that kernel and strides imply
        k, s = attrs["kernel_shape"], attrs["strides"]
        implied = [(d - 1) * s[i] + k[i] for i, d in enumerate(data.shape[2:])]
        plane = int(np.prod(implied))
    else:
        plane = int(np.prod(size))
    local = where % plane
    if shape is not None:
        local = np.ravel_multi_index(np.unravel_index(local, implied), tuple(size))
    last = None if shape is None else np.array([n, *size, c])
    return to_first(
        F.max_unpool(to_last(data), to_last(local), last, kernel=attrs["kernel_shape"], strides=attrs["strides"])
    )


def batch_norm(x, attrs, opset):
    return F.batch_norm(*x, epsilon=attrs["epsilon"], axis=1)


def instance_norm(x, attrs, opset):
    data, scale, bias = x
    return to_first(F.group_norm(to_last(data), scale, bias, groups=data.shape[1], epsilon=attrs["epsilon"]))


def group_norm(x, attrs, opset):
    data, scale, bias = x
    return to_first(F.group_norm(to_last(data), scale, bias, groups=attrs["num_groups"], epsilon=attrs["epsilon"]))


def layer_norm(x, attrs, opset):
    return F.layer_norm(*x, axis=attrs["axis"], epsilon=attrs["epsilon"])


def rms_norm(x, attrs, opset):
    return F.rms_norm(*x, axis=attrs["axis"], epsilon=attrs["epsilon"])


def lrn(x, attrs, opset):
    return to_first(F.lrn(to_last(x[0]), **{k: attrs[k] for k in ("size", "alpha", "beta", "bias")}))


def global_pool(op):
    def run(x, attrs, opset):
        y = op(to_last(x[0]), kernel=x[0].shape[2:])
        return to_first(y[0] if isinstance(y, tuple) else y)

    return run


ADAPTERS = {
    "MatMul": matmul,
    "Gemm": gemm,
    "MatMulInteger": lambda x, a, o: F.matmul_integer(*x),
    "Einsum": lambda x, a, o: F.einsum(*x, equation=a["equation"]),
    "Det": lambda x, a, o: F.det(*x),
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "ConvInteger": conv_integer,
    "DeformConv": deform_conv,
    "MaxPool": max_pool,
    "AveragePool": avg_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_pool(F.avg_pool),
    "GlobalMaxPool": global_pool(F.max_pool),
    "MaxUnpool": max_unpool,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "LRN": lrn,
}
# Mean and inverse deviation as further results, and the training form, are the importer's business: decomposed there.
CASES = [c for c in cases_of(*ADAPTERS) if not c.attrs.get("training_mode")]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_reference_gives_what_onnx_expects(case: Case) -> None:
    if case.op == "LayerNormalization":
        case.outputs[1:] = []
    check(case, ADAPTERS[case.op])
