"""References of the image and signal families against ONNX's node tests."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.ops import F
from tests.support.onnx_nodes import Case, cases_of, check, to_first, to_last


def resize(x, attrs, opset):
    data, roi, scales, sizes = (*x, None, None)[:4]
    if roi is not None and roi.size == 0:
        roi = None
    return F.resize(
        data,
        roi,
        None if scales is None or not scales.size else scales,
        sizes,
        axes=attrs.get("axes") or (),
        mode=attrs["mode"],
        coordinates=attrs["coordinate_transformation_mode"],
        nearest=attrs["nearest_mode"],
        aspect=attrs.get("keep_aspect_ratio_policy") or "stretch",
        cubic_a=attrs["cubic_coeff_a"],
        exclude_outside=attrs["exclude_outside"],
        antialias=attrs.get("antialias") or 0,
        extrapolation=attrs["extrapolation_value"],
    )


def upsample(x, attrs, opset):
    return F.resize(x[0], None, x[1], mode=attrs["mode"], coordinates="asymmetric", nearest="floor")


def grid_sample(x, attrs, opset):
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(attrs["mode"], attrs["mode"])
    y = F.grid_sample(
        to_last(x[0]), x[1], mode=mode, padding=attrs["padding_mode"], align_corners=attrs["align_corners"]
    )
    return to_first(y)


def roi_align(x, attrs, opset):
    keep = ("mode", "output_height", "output_width", "sampling_ratio", "spatial_scale")
    half = attrs.get("coordinate_transformation_mode", "output_half_pixel") == "half_pixel"
    return to_first(F.roi_align(to_last(x[0]), *x[1:], half_pixel=half, **{k: attrs[k] for k in keep}))


def col2im(x, attrs, opset):
    return F.col2im(*x, **{k: attrs[k] or () for k in ("dilations", "pads", "strides")})


ADAPTERS = {
    "Resize": resize,
    "Upsample": upsample,
    "GridSample": grid_sample,
    "RoiAlign": roi_align,
    "Col2Im": col2im,
}


@pytest.mark.parametrize("case", cases_of(*ADAPTERS), ids=lambda c: c.name)
def test_reference_gives_what_onnx_expects(case: Case) -> None:
    check(case, ADAPTERS[case.op])


def test_im2col_times_weight_is_conv() -> None:
    r = np.random.default_rng(0)
    x, w = r.normal(size=(2, 6, 5, 3)), r.normal(size=(4, 3, 2, 3))
    how = dict(strides=(2, 1), dilations=(1, 2), pads=(1, 0, 0, 2))
    cols = F.im2col(x, kernel=(3, 2), **how)
    np.testing.assert_allclose(cols @ w.reshape(4, -1).T, F.conv(x, w, **how), rtol=1e-12)
