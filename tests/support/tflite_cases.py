"""How each real .tflite model is fed, and LiteRT as the reference for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import assets
from tests.support.cases import Case, Feeds, photo, rng, run, speech

FACE = (150, 0, 330, 180)  # astronaut.png: the face


def cases(model: str) -> list[Case]:
    """All cases of one of assets.TFLITE_MODELS."""
    r = rng(model)

    def normal(*shape: int) -> np.ndarray:
        return r.standard_normal(shape).astype(np.float32)

    def one(name: str, key: str, x: np.ndarray) -> Case:
        return Case(model, name, [{key: np.ascontiguousarray(x)}])

    match model.split("/")[-2:]:
        case ["basic-pitch", _]:
            t = np.arange(43844) / 22050
            chord = np.asarray(sum(0.2 * np.sin(2 * np.pi * f * t) for f in (220, 277.18, 329.63)), np.float32)
            key = "serving_default_input_2:0"
            return [one("chord", key, chord[None, :, None]), one("seed", key, normal(1, 43844, 1) * 0.1)]
        case ["fer-tflite", _]:
            grey = photo("astronaut.png", 64, 64, -1, 1, FACE).mean(-1, keepdims=True)
            return [one("face", "x", grey), one("seed", "x", normal(1, 64, 64, 1) * 0.5)]
        case ["tflm-sine", _]:
            key = "serving_default_dense_input:0"
            batch = np.linspace(0, 6, 7, dtype=np.float32)[:, None]
            return [one("pi", key, np.array([[np.pi / 2]], np.float32)), one("batch", key, batch)]
        case ["openwakeword-a", "melspectrogram.tflite"]:
            key = "serving_default_input:0"
            return [one(n, key, speech(k)[None] * 32768) for n, k in (("speech1s", 16000), ("chunk", 1760))]
        case ["openwakeword-a", "embedding_model.tflite"]:
            key = "serving_default_input_1:0"
            return [one("seed", key, normal(1, 76, 32, 1) + 1), one("batch3", key, normal(3, 76, 32, 1) + 1)]
        case ["openwakeword-a", name]:
            number = {"alexa.tflite": "79e3d279", "okay_nabu.tflite": "c338b170"}[name]
            return [one("seed", f"serving_default_onnx_tf__tf_Flatten_0_{number}:0", normal(1, 16, 96) * 3)]
        case ["microwakeword-a", _]:
            key = "serving_default_input_audio:0"
            noise = [{key: r.integers(-128, 128, (1, 3, 40)).astype(np.int8)} for _ in range(30)]
            return [Case(model, "noise", noise), Case(model, "speech", [{key: x} for x in features()])]
        case ["mediapipe-a", name]:
            key = "input" if "face_detection" in name else "input_1"
            size = {"face_detection": 128, "face_landmark": 192, "palm": 192, "hand_landmark": 224}
            n = next((v for k, v in size.items() if name.startswith(k)), 256)
            low = -1 if "face_detection" in name else 0
            box = FACE if name == "face_landmark.tflite" else None
            seeded = r.random((1, n, n, 3), np.float32) * (1 - low) + low
            return [one("photo", key, photo("astronaut.png", n, n, low, 1, box)), one("seed", key, seeded)]
    raise AssertionError(f"no cases for {model}")


def features() -> list[np.ndarray]:
    """Log energies of 40 bands every 10 ms of speech, three frames a step, as int8: like the models' own front end."""
    a = speech(32000)
    frames = np.stack([a[i : i + 480] * np.hanning(480) for i in range(0, len(a) - 480, 160)])
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = np.unique(np.geomspace(2, 250, 41).astype(int))
    edges = np.interp(np.linspace(0, len(edges) - 1, 41), np.arange(len(edges)), edges).astype(int)
    bands = np.stack([power[:, lo : max(hi, lo + 1)].mean(1) for lo, hi in zip(edges[:-1], edges[1:], strict=True)], 1)
    q = np.clip(np.log(bands + 1e-6) * 18 + 100, -128, 127).astype(np.int8)
    return [q[i : i + 3][None] for i in range(0, len(q) - 2, 3)]


def runnable(path: Path) -> bytes:
    """The model's bytes with MediaPipe's custom transposed convolution written as the builtin one, which LiteRT runs."""
    data = path.read_bytes()
    if b"Convolution2DTransposeBias" not in data:
        return data
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    m = s.ModelT.InitFromObj(s.Model.GetRootAsModel(data, 0))
    for code, op in enumerate(m.operatorCodes):
        if op.customCode != b"Convolution2DTransposeBias":
            continue
        op.customCode, op.version = None, 3
        op.builtinCode = op.deprecatedBuiltinCode = s.BuiltinOperator.TRANSPOSE_CONV
        for g in m.subgraphs:
            for o in g.operators:
                if o.opcodeIndex == code:
                    _builtin(s, m, g, o)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(m.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _builtin(s, m, g, o) -> None:
    pad, w, h = np.frombuffer(bytes(bytearray(o.customOptions))[:12], np.int32)
    options = s.TransposeConvOptionsT()
    options.padding, options.strideW, options.strideH = int(pad != 1), int(w), int(h)
    o.builtinOptionsType, o.builtinOptions, o.customOptions = s.BuiltinOptions.TransposeConvOptions, options, None
    buffer, shape = s.BufferT(), s.TensorT()
    buffer.data = np.frombuffer(np.array(g.tensors[o.outputs[0]].shape, np.int32).tobytes(), np.uint8)
    m.buffers.append(buffer)
    shape.shape, shape.type, shape.buffer, shape.name = np.array([4], np.int32), 2, len(m.buffers) - 1, b"shape"
    g.tensors.append(shape)
    x, weights, bias = o.inputs
    o.inputs = np.array([len(g.tensors) - 1, weights, x, bias], np.int32)


def reference(model: str, case: Case) -> tuple[list[Feeds], dict[str, float]]:
    """(outputs of LiteRT's plain kernels, noise per output: its optimised kernels on 2 threads against those)."""
    from deploykit.runners import LiteRtRunner, difference

    data = runnable(assets.file(model))
    plain = run(LiteRtRunner(data, 1, optimize=False).run, case)
    try:
        noisy = run(LiteRtRunner(data, 2).run, case)
    except RuntimeError:  # its delegate does not take every shape
        noisy = plain
    noise = {}
    for k in plain[0]:
        pairs = [difference(a[k], b[k]) for a, b in zip(plain, noisy, strict=True)]
        scale = max(p[1] for p in pairs)
        noise[k] = max(p[0] for p in pairs) / scale if scale else 0.0
    return plain, noise
