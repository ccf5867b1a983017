"""Custom operators whose meaning is public."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, handles
from deploykit.errors import FormatError
from deploykit.graph import Value


def flex_options(c: Call) -> dict[str, Any]:
    """Custom options written as a FlexBuffer map."""
    from flatbuffers import flexbuffers

    raw = c.proto.custom_options
    try:
        got = flexbuffers.Loads(bytes(raw)) if raw is not None else {}
    except Exception as e:  # its reader raises whatever it meets
        raise FormatError(f"options cannot be read: {type(e).__name__}") from None
    if not isinstance(got, dict):
        raise FormatError("options are no map")
    return got


_SCALES = ("y_scale", "x_scale", "h_scale", "w_scale")


@handles("CUSTOM:TFLite_Detection_PostProcess")
def detection_post_process(c: Call) -> list[Value]:
    """SSD: boxes decoded from anchors (center form), the best class of each, suppression over all classes together.

    Results are padded with zeros to ``max_detections``: boxes (y1, x1, y2, x2), classes, scores, count.
    """
    o = flex_options(c)
    if o.get("use_regular_nms"):
        raise c.unsupported("suppression class by class (use_regular_nms)")
    if o.get("max_classes_per_detection", 1) != 1:
        raise c.unsupported("more than one class per detection")
    for k in ("max_detections", "num_classes", *_SCALES, "nms_iou_threshold", "nms_score_threshold"):
        if not isinstance(o.get(k), (int, float)):
            raise FormatError(f"option '{k}' is {str(o.get(k))[:60]}; expected a number")
    most, classes = int(o["max_detections"]), int(o["num_classes"])
    codes, scores, anchors = c.x(0), c.x(1), c.x(2)
    if c.dims_of(codes, 3, "the boxes")[0] not in (1,) or c.dims_of(scores, 3, "the scores")[0] not in (1,):
        raise c.unsupported("a batch of more than one")
    codes, scores = c.op("squeeze", codes, c.i64(0)), c.op("squeeze", scores, c.i64(0))

    def part(x: Value, a: int, b: int) -> Value:
        return c.op("slice", x, c.i64(a), c.i64(b), c.i64(1))

    scale = [float(o[k]) for k in _SCALES]
    code = c.op("div", part(codes, 0, 4), c.const(np.array(scale, np.float32)))
    middle, size = part(anchors, 0, 2), part(anchors, 2, 4)
    center = c.op("add", c.op("mul", part(code, 0, 2), size), middle)
    half = c.op("mul", c.op("mul", c.op("exp", part(code, 2, 4)), size), c.const(np.float32(0.5)))
    boxes = c.op("concat", c.op("sub", center, half), c.op("add", center, half), axis=1)
    columns = c.shape(scores)[1]
    if not isinstance(columns, int) or columns < classes:
        raise FormatError(f"scores have {columns} columns for {classes} classes")
    scores = part(scores, columns - classes, columns)  # a column in front is the background
    best = c.op("reduce_max", scores, c.i64(1), keepdims=False)
    label = c.op("arg_max", scores, axis=1, keepdims=False)
    kept = c.op(
        "non_max_suppression",
        c.op("unsqueeze", boxes, c.i64(0)),
        c.op("unsqueeze", best, c.i64(0, 1)),
        c.const(np.int64(most)),
        c.const(np.float32(o["nms_iou_threshold"])),
        c.const(
            np.nextafter(np.float32(o["nms_score_threshold"]), np.float32(-np.inf))
        ),  # ours wants more, theirs as much
    )
    at = c.reshape(c.op("slice", kept, c.i64(2), c.i64(3), c.i64(1)), -1)
    count = c.dims(at, 0, 1)
    room = c.op("sub", c.i64(most), count)

    def padded(x: Value, rank: int) -> Value:
        chosen = c.op("gather", x, at, axis=0)
        zero = c.i64(*[0] * rank)
        pads = c.op("concat", zero, room, *([c.i64(*[0] * (rank - 1))] if rank > 1 else []), axis=0)
        shape = c.i64(1, most, *([4] if rank > 1 else []))
        return c.op("reshape", c.op("pad", chosen, pads), shape)

    found = c.cast(count, "float32")
    return [padded(boxes, 2), padded(c.cast(label, "float32"), 1), padded(best, 1), found]
