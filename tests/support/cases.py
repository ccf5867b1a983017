"""How each real model is fed: real photographs, speech and bytes where there are some, seeded numbers else.

A case is a list of steps (feeds by input name); a stateful model names which output goes into which input of the next
step.  ``reference`` runs a case on onnxruntime's plain kernels and measures how far its optimised ones are from that.
"""

from __future__ import annotations

import wave
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tests.support import assets

Feeds = dict[str, np.ndarray]
LINE = (0, 12, 384, 40)  # a line of text in page.png


@dataclass
class Case:
    """One way to run one model."""

    model: str
    name: str
    steps: list[Feeds]
    state: dict[str, str] = field(default_factory=dict)  # output -> input of the next step

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.model.split('/')[-1].removesuffix('.onnx')}-{self.name}"


def rng(*key: str) -> np.random.Generator:
    """Seeded by words."""
    return np.random.default_rng(zlib.crc32("/".join(key).encode()))


def photo(
    name: str, h: int, w: int, low: float, high: float, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """[1, h, w, 3] in low..high."""
    from PIL import Image

    image = Image.open(assets.file(f"inputs/{name}")).convert("RGB")
    image = image.crop(box) if box else image
    a = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR), np.float32) / 255
    return (a * (high - low) + low)[None].astype(np.float32)


def first(a: np.ndarray) -> np.ndarray:
    """NHWC to NCHW."""
    return np.ascontiguousarray(a.transpose(0, 3, 1, 2))


@cache
def speech_samples() -> np.ndarray:
    """A LibriVox sentence, 16 kHz mono, in -1..1."""
    with wave.open(str(assets.file("inputs/speech.wav")), "rb") as f:
        assert f.getframerate() == 16000
        return np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float32) / 32768


def speech(n: int, skip: int = 4000) -> np.ndarray:
    """n samples of speech."""
    a = speech_samples()
    return np.tile(a, 1 + (n + skip) // len(a))[skip : skip + n]


def silero(model: str, rate: int, with_rate: bool) -> Case:
    """24 chunks of two seconds of speech, each with the tail of the one before, state carried."""
    n, context = (512, 64) if rate == 16000 else (256, 32)
    a = speech(32000)[:: 16000 // rate]
    a = np.concatenate([np.zeros(context, np.float32), a])
    steps = []
    for i in range(24):
        feeds = {"input": a[None, i * n : i * n + n + context], "state": np.zeros((2, 1, 128), np.float32)}
        if with_rate:
            feeds["sr"] = np.array(rate, np.int64)
        steps.append(feeds)
    return Case(model, f"speech{rate // 1000}k", steps, {"stateN": "state"})


def cases(model: str) -> list[Case]:
    """All cases of one of assets.ONNX_MODELS."""
    r = rng(model)

    def normal(*shape: int) -> np.ndarray:
        return r.standard_normal(shape).astype(np.float32)

    def one(name: str, **feeds: Any) -> Case:
        return Case(model, name, [feeds])

    match model.split("/")[-1]:
        case "ch_PP-OCRv4_det_infer.onnx":
            return [
                one("page", x=first(photo("page.png", 192, 384, -1, 1))),
                one("seed", x=normal(1, 3, 96, 160) * 0.5),
            ]
        case "ch_PP-OCRv4_rec_infer.onnx":
            return [
                one("line", x=first(photo("page.png", 48, 640, -1, 1, LINE))),
                one("seed", x=normal(2, 3, 48, 160) * 0.5),
            ]
        case "ch_ppocr_mobile_v2.0_cls_infer.onnx":
            return [one("line", x=first(photo("page.png", 48, 192, -1, 1, LINE)))]
        case "silero_vad.onnx":
            return [silero(model, 16000, True), silero(model, 8000, True)]
        case "silero_vad_16k_op15.onnx":
            return [silero(model, 16000, True)]
        case "nmp.onnx":
            t = np.arange(43844) / 22050
            chord = sum(0.2 * np.sin(2 * np.pi * f * t) for f in (220, 277.18, 329.63))
            chord = np.asarray(chord, np.float32)[None, :, None]
            return [
                Case(model, "chord", [{"serving_default_input_2:0": chord}]),
                Case(model, "seed", [{"serving_default_input_2:0": normal(1, 43844, 1) * 0.1}]),
            ]
        case "model.onnx":
            text = b"def answer(x: int) -> int:\n    'Give it back.'\n    return x if x else 42\n\n" * 30
            v = np.full((2, 2048), 256, np.int32)
            v[0, :1024], v[0, 1024:] = list(text[:1024]), list(text[-1024:])
            v[1] = r.integers(0, 256, 2048)
            return [one("python_and_noise", bytes=v)]
        case "sig_bak_ovr.onnx":
            return [one("speech", input_1=speech(144160)[None])]
        case "model_v8.onnx":
            return [one("seed", input_1=normal(1, 900, 120))]
        case "Run_1663915512_Stage_0.onnx":
            h0 = np.zeros((4, 1, 64), np.float32)
            return [one(f"seed{t}", input=r.random((1, 3, t, 160), np.float32), h0=h0) for t in (60, 101)]
        case "face_detection_front_128x128_barracuda.onnx":
            face = photo("astronaut.png", 128, 128, -1, 1)
            return [
                Case(model, "face", [{"input:0": face}]),
                Case(model, "seed", [{"input:0": normal(1, 128, 128, 3) * 0.5}]),
            ]
        case "mlsd_512x512_tiny.onnx":
            a = photo("motorcycle_left.png", 512, 512, 0, 255)
            a = np.concatenate([a, np.ones_like(a[..., :1])], -1)
            return [Case(model, "photo", [{"input_image_with_alpha:0": a}])]
        case "rawi.int8.onnx":
            return [one("seed", input=r.integers(1, 36, (2, 40))), one("short", input=r.integers(1, 36, (1, 7)))]
    raise AssertionError(f"no cases for {model}")


def run(runner: Any, case: Case) -> list[Feeds]:
    """Outputs of every step; ``runner(feeds) -> outputs``."""
    out: list[Feeds] = []
    state: Feeds = {}
    for feeds in case.steps:
        got = runner({k: state.get(k, v) for k, v in feeds.items()})
        out.append(got)
        state = {i: got[o] for o, i in case.state.items()}
    return out


def reference(path: Any, case: Case) -> tuple[list[Feeds], dict[str, float]]:
    """(outputs of onnxruntime's plain kernels, noise per output: its optimised kernels on 2 threads against those)."""
    from deploykit.runners import OnnxRuntimeRunner, difference

    plain = run(OnnxRuntimeRunner(path, 1, optimize=False).run, case)
    noisy = run(OnnxRuntimeRunner(path, 2).run, case)
    noise = {}
    for k in plain[0]:
        pairs = [difference(a[k], b[k]) for a, b in zip(plain, noisy, strict=True)]
        scale = max(p[1] for p in pairs)
        noise[k] = max(p[0] for p in pairs) / scale if scale else 0.0
    return plain, noise
