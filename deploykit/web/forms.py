"""Choose what a page asks for and how it shows answers, from a model's signature and metadata.

Every input gets an *editor* (draw, image, audio, text, tensor), every output a *view* (classes, boxes, map, tensor).
What cannot be told from shapes is said by metadata: ``labels``, ``preprocessing``, ``task``, ``detector``; see
docs/web.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.errors import InputError
from deploykit.interpreter import TensorSpec

EDITORS = ("draw", "image", "audio", "text", "tensor")
DRAWN = (8, 28)  # sizes at which people's handwriting is classified: UCI digits, MNIST and its relatives
MOST_CLASSES = 100_000
_DECODERS = ("anchors", "yolo", "boxes")


def editors(specs: list[TensorSpec], shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any]) -> list[dict]:
    """One description per input: name, dtype, shape (ints or symbols), a shape that works, the editor and its facts."""
    out = []
    for spec in specs:
        shape = shapes.get(spec.name) or tuple(d if isinstance(d, int) else 1 for d in spec.shape or ())
        kind, facts = _editor(spec, shape, metadata)
        dims = None if spec.shape is None else [d if isinstance(d, int) else str(d) for d in spec.shape]
        out.append(
            {"name": spec.name, "dtype": spec.dtype, "shape": dims, "example": list(shape), "editor": kind} | facts
        )
    return out


def image_layout(shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Where height, width and channels of an image stand in a shape; None when it is no image.

    >>> image_layout((1, 224, 224, 3))
    {'height': 224, 'width': 224, 'channels': 3, 'first': False}
    >>> image_layout((1, 3, 320, 320))["first"]
    True
    >>> image_layout((1, 16, 96)) is None
    True
    """
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1):
        return None
    a, b, c = shape[-3:]
    first = a in (1, 3, 4) and c not in (1, 3, 4)
    channels, h, w = (a, b, c) if first else (c, a, b)
    if len(shape) == 3 and first and channels == 1 and not (h == w and h in DRAWN):
        return None  # more likely a batch of one sequence
    if channels not in (1, 3, 4) or min(h, w) < 8:
        return None
    return {"height": h, "width": w, "channels": channels, "first": first}


def _editor(spec: TensorSpec, shape: tuple[int, ...], metadata: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    prep = metadata.get("preprocessing") or {}
    text = prep.get("text")
    if isinstance(text, dict) and text.get("input", spec.name) == spec.name and "int" in spec.dtype:
        return "text", {"text": text}
    numeric = spec.dtype in ("float32", "uint8", "int8")
    if (
        prep.get("sample_rate")
        and spec.dtype in ("float32", "int16")
        and math.prod(shape) == max(shape, default=0) > 64
    ):
        return "audio", {"rate": int(prep["sample_rate"]), "axis": shape.index(max(shape))}
    layout = image_layout(shape) if numeric else None
    if layout is None:
        return "tensor", {}
    scale = {k: prep[k] for k in ("range", "mean", "std") if k in prep}
    drawn = layout["channels"] == 1 and layout["height"] == layout["width"] and layout["height"] in DRAWN
    facts = layout | {"preprocessing": scale}
    return ("draw", facts | {"ink": prep.get("ink", "light")}) if drawn else ("image", facts)


def views(answers: dict[str, np.ndarray], inputs: list[dict], metadata: dict[str, Any]) -> list[dict]:
    """One description per view: its kind, the outputs it reads, and what it needs to show them.

    answers: an output of each name, as a run gave it (before a run, dtypes and shapes of outputs may be unknown).
    """
    out: list[dict[str, Any]] = []
    detector = metadata.get("detector")
    taken: set[str] = set()
    if isinstance(detector, dict) and any(i["editor"] == "image" for i in inputs):
        used = _detector_outputs(detector, list(answers))
        out.append({"view": "boxes", "outputs": used, "detector": detector, "labels": metadata.get("labels")})
        taken = set(used)
    for name, array in answers.items():
        if name not in taken:
            scores = len(answers) == 1 or _shares(array)
            out.append({"outputs": [name]} | _view(array.dtype.name, array.shape, scores, inputs, metadata))
    return out


def _shares(a: np.ndarray) -> bool:
    """Whether the numbers of an answer are shares of one."""
    return a.dtype.kind == "f" and bool((a >= 0).all()) and abs(float(a.sum()) - 1) < 0.01


def _detector_outputs(detector: dict[str, Any], names: list[str]) -> list[str]:
    kind = detector.get("kind")
    if kind not in _DECODERS:
        raise InputError(
            f"metadata 'detector': kind {kind!r}; expected one of {', '.join(_DECODERS)}. See docs/web.md."
        )
    used: list[str] = []
    for key in ("scores", "boxes", "classes", "output"):
        value = detector.get(key, [])
        used += [value] if isinstance(value, str) else list(value)
    unknown = [n for n in used if n not in names]
    if unknown or not used:
        raise InputError(
            f"metadata 'detector' names outputs {unknown or 'of no name'}; the model's outputs: {', '.join(names)}."
        )
    return used


def _view(
    dtype: str, shape: tuple[int, ...], scores: bool, inputs: list[dict], metadata: dict[str, Any]
) -> dict[str, Any]:
    labels = metadata.get("labels")
    n = shape[-1] if shape else 0
    flat = math.prod(shape) == n
    if isinstance(labels, list) and n == len(labels) and flat:
        return {"view": "classes", "labels": [str(label) for label in labels]}
    seen = any(i["editor"] in ("draw", "image") for i in inputs)
    if scores and flat and 2 <= n <= MOST_CLASSES and seen and dtype in ("float32", "uint8", "int8"):
        return {"view": "classes", "labels": None}
    layout = image_layout(shape)
    if layout and seen and not layout["first"]:
        return {"view": "map"} | layout
    return {"view": "tensor"}


def title(name: str, metadata: dict[str, Any]) -> str:
    """A heading for people.

    >>> title("mobilenet_v2.dk", {})
    'mobilenet v2'
    """
    given = metadata.get("title") or metadata.get("name")
    if isinstance(given, str) and given.strip():
        return given.strip()
    return name.rsplit(".", 1)[0].replace("_", " ").strip() or "model"
