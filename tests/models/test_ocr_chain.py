"""PP-OCRv4 as people use it: find the lines of a page, check their direction, read them; on our engine and on
onnxruntime, with the same code around.  The text must be the same, and it must be the text of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import deploykit as dk
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import OnnxRuntimeRunner
from tests.support import assets
from tests.support.peers import need_onnxruntime

need_onnxruntime()

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
FOLDER = "models/ppocr-v4/"
DET, REC, CLS = "ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx", "ch_ppocr_mobile_v2.0_cls_infer.onnx"


def characters(path: Path) -> list[str]:
    """CTC alphabet from the model's metadata: blank, the listed ones, space."""
    import onnx

    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    return ["", *props["character"].splitlines(), " "]


def normalized(image: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] to float32 [1, 3, h, w] in -1..1."""
    return np.ascontiguousarray((image.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])


def resized(image: np.ndarray, h: int, w: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))


def regions(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Bounding boxes (x0, y0, x1, y1) of the connected regions of a mask, top to bottom."""
    label = np.zeros(mask.shape, int)
    boxes = []
    for y0, x0 in zip(*np.nonzero(mask), strict=True):
        if label[y0, x0]:
            continue
        stack, found = [(y0, x0)], []
        label[y0, x0] = len(boxes) + 1
        while stack:
            y, x = stack.pop()
            found.append((y, x))
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] and not label[v, u]:
                    label[v, u] = len(boxes) + 1
                    stack.append((v, u))
        ys, xs = np.array(found).T
        boxes.append((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    return sorted((b for b in boxes if (b[2] - b[0]) * (b[3] - b[1]) > 60), key=lambda b: (b[1] // 8, b[0]))


def read_page(image: np.ndarray, det: Run, cls: Run, rec: Run, alphabet: list[str]) -> list[str]:
    """Lines of text in a uint8 [h, w, 3] image."""
    scale = 2
    h, w = (-(-s * scale // 32) * 32 for s in image.shape[:2])
    probability = next(iter(det({"x": normalized(resized(image, h, w))}).values()))[0, 0]
    texts = []
    for x0, y0, x1, y1 in regions(probability > 0.3):
        grow = int(0.6 * (y1 - y0)) + 1  # DB shrinks regions by about this much; undo it
        box = [max(0, y0 - grow) / h, min(h, y1 + grow) / h, max(0, x0 - grow) / w, min(w, x1 + grow) / w]
        size = np.array([image.shape[0]] * 2 + [image.shape[1]] * 2)
        t, b, le, r = (np.array(box) * size).round().astype(int)
        line = image[t:b, le:r]
        width = max(48, round(line.shape[1] * 48 / line.shape[0]))
        upside_down = next(iter(cls({"x": normalized(resized(line, 48, 192))}).values()))[0]
        if upside_down[1] > 0.9:
            line = line[::-1, ::-1]
        scores = next(iter(rec({"x": normalized(resized(line, 48, width))}).values()))[0]
        best = scores.argmax(-1)
        kept = best[np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)]
        texts.append("".join(alphabet[i] for i in kept))
    return texts


def test_the_page_is_read() -> None:
    from PIL import Image

    image = np.asarray(Image.open(assets.file("inputs/page.png")).convert("RGB"))
    paths = [assets.file(FOLDER + n) for n in (DET, CLS, REC)]
    alphabet = characters(paths[2])
    theirs = read_page(image, *(OnnxRuntimeRunner(p, 1).run for p in paths), alphabet)
    ours = read_page(image, *(dk.Interpreter(to_bytes(dk.convert(p, verify=False).graph)).run for p in paths), alphabet)
    assert ours == theirs
    assert any("Region-based segmentation" in line for line in ours), ours
