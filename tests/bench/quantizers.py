"""Our quantizer against onnxruntime's and ai-edge-quantizer, on public models with real weights and photographs.

    python -m tests.bench.quantizers [--models blazeface,mlsd] [--samples 48] [--tools ours,onnxruntime,ai-edge-quantizer]

Every tool gets the same float model and the same calibration photographs (random crops); each result runs on its own
runtime and is compared with the float model, on that runtime too, on crops that calibration did not see.  Printed per
tool: signal to noise of the worst output and the mean over the outputs in dB, bytes of the file as a fraction of its
float file, seconds.  onnxruntime: Q/DQ, uint8 activations, int8 weights per channel, MinMax.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import deploykit as dk
from tests.support import assets

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "ihc.png")
MP = "models/mediapipe-a/"
# name -> file, low and high of the pixels, seconds that crops of pages take
MODELS: dict[str, tuple[str, float, float, tuple[str, ...]]] = {
    "blazeface": ("models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx", -1, 1, PHOTOS),
    "mlsd": ("models/mlsd-tiny/mlsd_512x512_tiny.onnx", 0, 255, PHOTOS),
    "ppocr-cls": ("models/ppocr-v4/ch_ppocr_mobile_v2.0_cls_infer.onnx", -1, 1, ("page.png",)),
    "ppocr-det": ("models/ppocr-v4/ch_PP-OCRv4_det_infer.onnx", -1, 1, ("page.png", *PHOTOS)),
    "ppocr-rec": ("models/ppocr-v4/ch_PP-OCRv4_rec_infer.onnx", -1, 1, ("page.png",)),
    "face-short": (MP + "face_detection_short_range.tflite", -1, 1, PHOTOS),
    "face-mesh": (MP + "face_landmark.tflite", 0, 1, PHOTOS),
    "hand": (MP + "hand_landmark_lite.tflite", 0, 1, PHOTOS),
    "palm": (MP + "palm_detection_lite.tflite", 0, 1, PHOTOS),
    "recrop": (MP + "hand_recrop.tflite", 0, 1, PHOTOS),
    "selfie": (MP + "selfie_segmentation.tflite", 0, 1, PHOTOS),
}
SIZES = {"ppocr-cls": (48, 192), "ppocr-det": (192, 384), "ppocr-rec": (48, 320)}
Feeds = dict[str, np.ndarray]


def crops(name: str, spec: Any, n: int, seed: int) -> Iterator[np.ndarray]:
    """Random crops of the model's photographs, resized to its input."""
    _, low, high, photos = MODELS[name]
    r = np.random.default_rng(seed)
    images = [Image.open(assets.fetch(f"inputs/{p}")).convert("RGB") for p in photos]
    nchw = spec.shape[1] in (1, 3)
    h, w = SIZES.get(name) or (spec.shape[2:] if nchw else spec.shape[1:3])
    for i in range(n):
        im = images[i % len(images)]
        tall = r.uniform(0.4, 1.0) * min(im.height, im.width * h / w) if name != "ppocr-rec" else 22
        wide = tall * w / h
        x, y = r.uniform(0, im.width - wide), r.uniform(0, im.height - tall)
        a = np.asarray(im.resize((w, h), Image.Resampling.BILINEAR, (x, y, x + wide, y + tall)), np.float32)
        a = (a / 255 * (high - low) + low)[None]
        if name == "mlsd":
            a = np.concatenate([a, np.ones_like(a[..., :1])], -1)
        yield np.ascontiguousarray(a.transpose(0, 3, 1, 2)) if nchw else a


def nearness(run: Callable[[Feeds], Any], want: Callable[[Feeds], Any], held: list[Feeds]) -> list[float]:
    """Signal to noise in dB of each output."""
    sums: dict[int, np.ndarray] = {}
    for feeds in held:
        for k, (a, b) in enumerate(zip(want(feeds), run(feeds), strict=True)):
            a, b = a.astype(np.float64), b.astype(np.float64).reshape(a.shape)
            sums[k] = sums.get(k, np.zeros(2)) + [(a * a).sum(), ((a - b) ** 2).sum()]
    return [float(10 * np.log10(s / max(n, 1e-30))) for s, n in sums.values()]


def floats(model: Path, folder: Path) -> Path:
    """The model with float32 weights, whatever width the file stores them in: what every tool starts from."""
    from deploykit.api import import_graph
    from deploykit.quantization import widened

    dk.convert(widened(import_graph(model)), folder / "float.dk", verify=False, test_vectors=0)
    return folder / "float.dk"


def ours(model: Path, data: list[Feeds], held: list[Feeds], folder: Path, **options: Any) -> tuple[list[float], float]:
    dk.convert(model, folder / "f.dk", verify=False)
    dk.convert(floats(model, folder), folder / "q.dk", quantize="int8", calibration=data, verify=False, **options)
    f, q = (dk.Interpreter(folder / n) for n in ("f.dk", "q.dk"))
    ratio = (folder / "q.dk").stat().st_size / (folder / "float.dk").stat().st_size
    return nearness(lambda x: q.run(x).values(), lambda x: f.run(x).values(), held), ratio


def onnxruntime(model: Path, data: list[Feeds], held: list[Feeds], folder: Path) -> tuple[list[float], float]:
    import onnx
    import onnxruntime as ort
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if model.suffix == ".tflite":
        dk.convert(floats(model, folder), folder / "m.onnx", verify=False)
        model = folder / "m.onnx"
    loaded = onnx.load(model)
    if loaded.opset_import[0].version < 13:
        loaded = onnx.version_converter.convert_version(loaded, 13)
    onnx.save(loaded, folder / "new.onnx")
    quant_pre_process(folder / "new.onnx", folder / "ready.onnx", skip_symbolic_shape=True)

    class Reader(q.CalibrationDataReader):
        rows = iter(data)

        def get_next(self) -> Feeds | None:
            return next(self.rows, None)

    how = dict(activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8, per_channel=True)
    q.quantize_static(folder / "ready.onnx", folder / "q.onnx", Reader(), quant_format=q.QuantFormat.QDQ, **how)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    a, b = (ort.InferenceSession(p, options, providers=["CPUExecutionProvider"]) for p in (model, folder / "q.onnx"))
    ratio = (folder / "q.onnx").stat().st_size / model.stat().st_size
    return nearness(lambda x: b.run(None, x), lambda x: a.run(None, x), held), ratio


def ai_edge_quantizer(model: Path, data: list[Feeds], held: list[Feeds], folder: Path) -> tuple[list[float], float]:
    from ai_edge_quantizer import quantizer, recipe

    source, model = floats(model, folder), folder / "m.tflite"
    dk.convert(source, model, verify=False)
    qt = quantizer.Quantizer(str(model), recipe.static_wi8_ai8())
    signature = next(iter(qt_signatures(model)))
    found = qt.calibrate({signature: [signature_names(model, signature, x) for x in data]})
    qt.quantize(found).export_model(str(folder / "q.tflite"), overwrite=True)
    ratio = (folder / "q.tflite").stat().st_size / model.stat().st_size
    return nearness(litert(folder / "q.tflite"), litert(model), held), ratio


def litert(path: Path) -> Callable[[Feeds], Any]:
    """A file on LiteRT, from floats to floats; outputs in the order of their names."""
    from ai_edge_litert.interpreter import Interpreter

    it = Interpreter(str(path))
    outs = sorted(it.get_output_details(), key=lambda o: o["name"])

    def run(feeds: Feeds) -> list[np.ndarray]:
        for d, x in zip(it.get_input_details(), feeds.values(), strict=True):
            it.resize_tensor_input(d["index"], x.shape)
        it.allocate_tensors()
        for d, x in zip(it.get_input_details(), feeds.values(), strict=True):
            scale, zero = d["quantization"]
            whole = np.clip(np.rint(x / (scale or 1)) + zero, -128, 127) if d["dtype"] is np.int8 else x
            it.set_tensor(d["index"], whole.astype(d["dtype"]))
        it.invoke()
        got = []
        for o in outs:
            y, (scale, zero) = it.get_tensor(o["index"]), o["quantization"]
            got.append((y.astype(np.float32) - zero) * scale if y.dtype == np.int8 else y)
        return got

    return run


def qt_signatures(model: Path) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(model)).get_signature_list() or {"": {}}


def signature_names(model: Path, signature: str, x: Feeds) -> Feeds:
    inputs = qt_signatures(model)[signature].get("inputs")
    return dict(zip(inputs, x.values(), strict=True)) if inputs else x


TOOLS: dict[str, Callable[..., tuple[list[float], float]]] = {
    "deploykit, no repairs": lambda *a: ours(*a, repair="none"),
    "deploykit": ours,
    "onnxruntime": onnxruntime,
    "ai-edge-quantizer": ai_edge_quantizer,
}


def main() -> None:
    """Print a Markdown table."""
    p = argparse.ArgumentParser()
    p.add_argument("--models", default=",".join(MODELS))
    p.add_argument("--samples", type=int, default=48)
    p.add_argument("--tools", default=",".join(TOOLS))
    args = p.parse_args()
    tools = [t for t in TOOLS if t in [s.strip() for s in args.tools.split(",")] or args.tools == ",".join(TOOLS)]
    print("| model | tool | worst output | mean of outputs | file / float file | s |\n|---|---|---|---|---|---|")
    for name in args.models.split(","):
        from deploykit.runners import open_runner

        model = assets.fetch(MODELS[name][0])
        spec = open_runner(model, 1).inputs[0]
        data, held = ([{spec.name: a} for a in crops(name, spec, args.samples, seed)] for seed in (0, 1))
        held = held[: max(16, args.samples // 3)]
        for tool in tools:
            started = time.perf_counter()
            try:
                with tempfile.TemporaryDirectory() as t:
                    db, ratio = TOOLS[tool](model, data, held, Path(t))
            except Exception as e:  # a tool that does not take the model: the table says so
                print(f"| {name} | {tool} | {type(e).__name__}: {str(e).splitlines()[0][:80]} | | | |", flush=True)
                continue
            took = time.perf_counter() - started
            print(f"| {name} | {tool} | {min(db):.1f} | {np.mean(db):.1f} | {ratio:.3f} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
