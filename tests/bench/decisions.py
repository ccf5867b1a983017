"""What quantized models decide on real inputs, against their float models: text, boxes, speech or not, classes.

    python -m tests.bench.decisions [--only ocr-text,faces,...] [--scheme int8] [--drop 0.5%]

Default settings of ``convert`` (for the recurrent VAD what ``auto`` takes: dynamic); calibration and judged inputs never
overlap (other lines of the page, other sentences, other crops).  ``--scheme auto --drop 0.5%`` searches instead which
layers stay in float, and prints them, with times; its metric is the share of decisions that stay the same on inputs from
where the calibration data came (``--metric none``: the distance of the outputs).  The Fashion-MNIST nets are trained here
first, once, and kept in the cache of tests/support/assets.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import deploykit as dk
from tests.bench.quantizers import crops
from tests.models import test_ocr_chain as ocr
from tests.support import assets

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], Feeds]
OCR = "models/ppocr-v4/"


@dataclass
class Task:
    """calibration: samples; held: inputs to judge on; decide(run, input): list of decisions; truth: of each, if known."""

    model: Path
    calibration: list[Feeds]
    held: list[Any]
    decide: Callable[[Run, Any], list[Any]]
    same: Callable[[Any, Any], bool] = lambda a, b: bool(a == b)
    truth: list[Any] | None = None
    tuning: list[Any] | None = None  # inputs that the search may look at; those it judges by decisions

    def metric(self) -> Callable[[Run], float] | None:
        """Share of the decisions on ``tuning`` that are those of the first run it sees, which is the float model's."""
        if self.tuning is None:
            return None
        wants: list[list[Any]] = []

        def same_decisions(run: Run) -> float:
            got = [self.decide(run, x) for x in self.tuning or ()]
            wants[:] = wants or got
            return float(
                np.mean([self.same(a, b) for w, g in zip(wants, got, strict=True) for a, b in zip(w, g, strict=True)])
            )

        return same_decisions


def page() -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(assets.fetch("inputs/page.png")).convert("RGB"))


def lines() -> list[tuple[int, int]]:
    """Top and bottom of each line of the page: runs of rows with ink."""
    from PIL import Image, ImageFilter

    gray = Image.fromarray(page()).convert("L")
    paper = np.asarray(gray.filter(ImageFilter.GaussianBlur(20)), np.int16)
    ink = (np.asarray(gray, np.int16)[:, 10:-10] < paper[:, 10:-10] - 25).sum(1) > 4
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ink.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= 6]


def line_crops(which: list[tuple[int, int]], n: int, seed: int) -> Iterator[np.ndarray]:
    """Parts of lines as a camera may cut them: other ends, heights, contrasts."""
    from PIL import Image

    r, image = np.random.default_rng(seed), page()
    for i in range(n):
        top, bottom = which[i % len(which)]
        t, b = max(0, top - int(r.integers(2, 6))), min(len(image), bottom + int(r.integers(2, 6)))
        wide = int(r.integers(120, 300))
        left = int(r.integers(0, image.shape[1] - wide))
        part = image[t:b, left : left + wide].astype(np.float32)
        part = np.clip((part - 128) * r.uniform(0.7, 1.15) + 128 + r.uniform(-20, 20), 0, 255).astype(np.uint8)
        w = max(48, round(wide * 48 / (b - t)))
        yield np.asarray(Image.fromarray(part).resize((w, 48), Image.Resampling.BILINEAR))


def ocr_text() -> Task:
    model = assets.fetch(OCR + ocr.REC)
    alphabet, found = ocr.characters(model), lines()
    half = len(found) // 2

    def decide(run: Run, image: np.ndarray) -> list[Any]:
        best = next(iter(run({"x": ocr.normalized(image)}).values()))[0].argmax(-1)
        kept = best[np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)]
        return ["".join(alphabet[i] for i in kept)]

    calibration = [{"x": ocr.normalized(a)} for a in line_crops(found[:half], 48, 0)]
    # Letters are cut off at the ends and 15 pixels high: many texts change with two grey levels of noise, in float too
    r, run = np.random.default_rng(2), runner(model)

    def noisy(a: np.ndarray) -> np.ndarray:
        return np.clip(a.astype(int) + r.integers(-2, 3, a.shape), 0, 255).astype(np.uint8)

    def steady(which: list[tuple[int, int]], seed: int) -> list[np.ndarray]:
        return [a for a in line_crops(which, 240, seed) if decide(run, a) == decide(run, noisy(a)) != [""]]

    return Task(model, calibration, steady(found[half:], 1), decide, tuning=steady(found[:half], 3))


def ocr_boxes() -> Task:
    model = assets.fetch(OCR + ocr.DET)
    spec = dk.Interpreter(dk_bytes(model)).inputs[0]

    def decide(run: Run, x: np.ndarray) -> list[Any]:
        return [ocr.regions(next(iter(run({"x": x}).values()))[0, 0] > 0.3)]

    data, held, tuning = (list(crops("ppocr-det", spec, n, seed)) for n, seed in ((48, 0), (120, 1), (120, 2)))
    return Task(model, [{"x": a} for a in data], held, decide, lambda a, b: alike(a, b, 0.7), tuning=tuning)


def dk_bytes(model: Path) -> bytes:
    from deploykit.graph.dkfile import to_bytes

    graph = dk.convert(model, verify=False).graph
    assert graph is not None
    return to_bytes(graph)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of (x0, y0, x1, y1)."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def alike(a: list[Any], b: list[Any], least: float) -> bool:
    """Whether two lists of boxes are the same ones, each overlapping its twin."""
    return len(a) == len(b) and all(max((overlap(x, y) for y in b), default=0) >= least for x in a)


def vad() -> Task:
    """Speech or not in each 32 ms; the state is carried on.  A sentence is one input with many decisions."""
    model = assets.fetch("models/silero-vad/silero_vad_16k_op15.onnx")
    names = [n for n in assets.FILES if n.startswith("inputs/speech")]
    r = np.random.default_rng(0)

    def chunks(name: str) -> np.ndarray:
        with wave.open(str(assets.fetch(name)), "rb") as f:
            a = np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float32) / 32768
        quiet = (r.standard_normal(16000) * 0.002).astype(np.float32)
        a = np.concatenate([np.zeros(64, np.float32), a, quiet, a[::2] * 0.5, quiet])
        return np.stack([a[i : i + 576] for i in range(0, len(a) - 576, 512)])

    def decide(run: Run, rows: np.ndarray) -> list[Any]:
        state, out = np.zeros((2, 1, 128), np.float32), []
        for row in rows:
            got = run({"input": row[None], "state": state, "sr": np.array(16000, np.int64)})
            state = got["stateN"]
            out.append(bool(got["output"].reshape(()) > 0.5))
        return out

    float_run, samples = runner(model), []

    def watched(feeds: Feeds) -> Feeds:
        samples.append(feeds)
        return float_run(feeds)

    decide(watched, chunks(names[0]))
    return Task(model, samples[::3], [chunks(n) for n in names[1:]], decide)


def runner(model: Path | bytes) -> Run:
    return dk.Interpreter(model if isinstance(model, bytes) else dk_bytes(model), threads=2).run


def face_crops(n: int, seed: int) -> Iterator[np.ndarray]:
    """The astronaut's face at many sizes and places, and every third time another photo."""
    from PIL import Image

    r = np.random.default_rng(seed)
    faces = Image.open(assets.fetch("inputs/astronaut.png")).convert("RGB")
    others = [Image.open(assets.fetch(f"inputs/{p}")).convert("RGB") for p in ("chelsea.png", "coffee.png", "ihc.png")]
    for i in range(n):
        if i % 3 == 2:
            im = others[i // 3 % 3]
            side = r.uniform(0.5, 1) * min(im.size)
            x, y = r.uniform(0, im.width - side), r.uniform(0, im.height - side)
        else:
            im, side = faces, r.uniform(150, 420)
            x = float(np.clip(224 - side * r.uniform(0.35, 0.65), 0, im.width - side))
            y = float(np.clip(115 - side * r.uniform(0.3, 0.6), 0, im.height - side))
        a = np.asarray(im.resize((128, 128), Image.Resampling.BILINEAR, (x, y, x + side, y + side)), np.float32)
        yield ((a / 255 * r.uniform(0.7, 1.0)) * 2 - 1)[None]


def anchors() -> np.ndarray:
    """Centres of BlazeFace's 896 places, in pixels."""
    rows = []
    for n, each in ((16, 2), (8, 6)):
        at = (np.arange(n) + 0.5) * 128 / n
        rows += [(x, y) for y in at for x in at for _ in range(each)]
    return np.array(rows)


def faces(name: str, scores: list[str], boxes: list[str]) -> Task:
    model = assets.fetch(name)
    centres = anchors()

    def decide(run: Run, x: np.ndarray) -> list[Any]:
        y = run({input_name: x})
        s = np.concatenate([y[k].reshape(-1) for k in scores])
        b = np.concatenate([y[k].reshape(-1, 16) for k in boxes])
        found: list[Any] = []
        for i in np.argsort(-s):
            if s[i] <= 0:  # a probability of one half
                break
            cx, cy, w, h = b[i, :4]
            cx, cy = centres[i] + (cx, cy)
            box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            if all(overlap(box, f) < 0.3 for f in found):
                found.append(box)
        return [found]

    input_name = dk.Interpreter(dk_bytes(model)).inputs[0].name
    calibration = [{input_name: a.astype(np.float32)} for a in face_crops(96, 0)]
    held = [a.astype(np.float32) for a in face_crops(300, 1)]
    return Task(model, calibration, held, decide, lambda a, b: alike(a, b, 0.75))


def fashion(kind: str) -> Task:
    """A net trained on Fashion-MNIST, all 10,000 test images."""
    (x, _), (tx, ty) = fashion_data()
    model = assets.cache() / "trained" / f"fashion-{kind}.dk"
    if not model.is_file():
        model.parent.mkdir(parents=True, exist_ok=True)
        train(kind, model)
    spec = dk.Interpreter(model).inputs[0]

    def decide(run: Run, images: np.ndarray) -> list[Any]:
        return list(next(iter(run({spec.name: images}).values())).argmax(-1))

    calibration = [{spec.name: a[None]} for a in x[:256]]
    return Task(model, calibration, list(tx.reshape(100, 100, 28, 28, 1)), decide, truth=list(ty))


def fashion_data() -> Any:
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        folder = assets.fetch(f"data/fashion-mnist/{part}-ubyte.gz").parent
    (x, y), (tx, ty) = dk.data.fashion_mnist(folder)
    return tuple(((a[..., None] / 255).astype(np.float32), b.astype(np.int32)) for a, b in ((x, y), (tx, ty)))


def train(kind: str, out: Path) -> None:
    from deploykit import keras

    l = keras.layers
    (x, y), (tx, ty) = fashion_data()
    keras.utils.set_random_seed(1)
    inputs = h = keras.Input((28, 28, 1))
    if kind == "cnn":
        for n in (32, 64):
            h = l.MaxPooling2D()(l.Conv2D(n, 3, padding="same", activation="relu")(h))
        h = l.Dropout(0.3)(l.Dense(128, activation="relu")(l.Flatten()(h)))
        epochs = 5
    else:  # inverted residual blocks, as in MobileNetV2

        def bn(v: Any, act: bool = True) -> Any:
            v = l.BatchNormalization(momentum=0.9)(v)
            return l.ReLU(6.0)(v) if act else v

        h = bn(l.Conv2D(24, 3, strides=2, padding="same", use_bias=False)(h))
        for n, stride in ((32, 1), (32, 1), (64, 2), (64, 1)):
            v = bn(l.Conv2D(3 * h.shape[-1], 1, use_bias=False)(h))
            v = bn(l.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(v))
            v = bn(l.Conv2D(n, 1, use_bias=False)(v), act=False)
            h = l.Add()([h, v]) if stride == 1 and h.shape[-1] == n else v
        h = l.GlobalAveragePooling2D()(bn(l.Conv2D(160, 1, use_bias=False)(h)))
        epochs = 8
    model = keras.Model(inputs, l.Dense(10)(h))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * (len(x) // 128))
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=128, verbose=2, validation_data=(tx, ty))
    model.export(str(out))


TASKS: dict[str, Callable[[], Task]] = {
    "ocr-text": ocr_text,
    "ocr-boxes": ocr_boxes,
    "vad": vad,
    "faces-onnx": lambda: faces(
        "models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx",
        ["Identity:0", "Identity_1:0"],
        ["Identity_2:0", "Identity_3:0"],
    ),
    "faces-tflite": lambda: faces(
        "models/mediapipe-a/face_detection_short_range.tflite", ["classificators"], ["regressors"]
    ),
    "fashion-cnn": lambda: fashion("cnn"),
    "fashion-mobilenet": lambda: fashion("mobilenet"),
}


def judge(task: Task, **options: Any) -> dict[str, Any]:
    """Convert, run both, count equal decisions."""
    with tempfile.TemporaryDirectory() as t:
        q = Path(t) / "q.dk"
        report = dk.convert(task.model, q, calibration=task.calibration, verify=False, test_vectors=0, **options)
        f = Path(t) / "f.dk"
        dk.convert(task.model, f, verify=False, test_vectors=0)
        a, b = dk.Interpreter(f, threads=2), dk.Interpreter(q, threads=2)
        pairs = [p for x in task.held for p in zip(task.decide(a.run, x), task.decide(b.run, x), strict=True)]
        ratio = q.stat().st_size / f.stat().st_size
    out: dict[str, Any] = {"n": len(pairs), "same": sum(task.same(x, y) for x, y in pairs), "ratio": ratio}
    if task.truth is not None:
        out["right"] = [float(np.mean([p[k] == y for p, y in zip(pairs, task.truth, strict=True)])) for k in (0, 1)]
    out["report"] = report
    return out


def main() -> None:
    """Print a Markdown table."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--only", default=",".join(TASKS))
    p.add_argument("--scheme", default="int8")
    p.add_argument("--drop", default=None)
    p.add_argument("--metric", choices=("decisions", "none"), default="decisions")
    a = p.parse_args()
    options: dict[str, Any] = {"quantize": a.scheme}
    if a.drop:
        options["max_accuracy_drop"] = a.drop
    print("| task | real inputs | same decision | accuracy float, quantized | file / float file | repairs | s |")
    print("|---|---|---|---|---|---|---|")
    for name in a.only.split(","):
        started = time.perf_counter()
        task = TASKS[name]()
        if a.drop and a.metric == "decisions":
            options["metric"] = task.metric()
        r = judge(task, **options | ({"quantize": "auto"} if name == "vad" and not a.drop else {}))
        right = ", ".join(f"{100 * v:.2f} %" for v in r.get("right", ()))
        q = r["report"].quantization
        took = time.perf_counter() - started
        share = f"{100 * r['same'] / r['n']:.2f} %"
        repairs = " + ".join(q.get("repairs", ())) or "none"
        print(f"| {name} | {r['n']} | {share} | {right} | {r['ratio']:.3f} | {repairs} | {took:.0f} |", flush=True)
        if "search" in q:
            found, rows = q["search"], q["search"]["layers"]
            kept = found["chosen"]["float"]
            ms = [sum(r[f"{k}_us"] for r in rows) / 1e3 for k in ("float", "int8")]
            print(
                f"  ms float, int8, chosen: {ms[0]:.2f}, {ms[1]:.2f}, {found['chosen']['ms']:.2f}; drop on tuning inputs",
                end=" ",
            )
            print(
                f"{found['chosen']['drop']:.4f}\n  in float, {len(kept)} of {len(rows)}: {', '.join(kept)}", flush=True
            )


if __name__ == "__main__":
    main()
