"""Real models on emulated Arm CPUs against the native engine: integers bit for bit, floats within the loose class.

A handful runs by default; with DK_ARM_FULL=1 (set by tests/arm/full.py) all models run on all CPUs, with one, two and
three threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

import deploykit as dk
from deploykit.graph.dkfile import to_bytes
from tests.support import assets, cases, tflite_cases
from tests.support.arm import CPUS, Arm
from tests.support.sample_matrix import difference

FULL = bool(os.environ.get("DK_ARM_FULL"))
STEPS = 6  # of the speech and wake word models, whose state goes from one to the next
INTEGER = ("rawi.int8.onnx", "alexa.tflite", "hey_jarvis.tflite")
FLOAT = ("silero_vad.onnx", "face_detection_front_128x128_barracuda.onnx", "emotion_model_quantized.tflite")


def jobs() -> list[tuple[str, str, int]]:
    """(model, CPU, threads): every CPU for models with integer products, one for the others."""
    models = assets.ONNX_MODELS + assets.TFLITE_MODELS
    if FULL:
        return [(m, cpu, 1 + i) for m in models for i, cpu in enumerate(CPUS)]
    each = [(m, cpu, 1 + i) for m in models if m.endswith(INTEGER) for i, cpu in enumerate(CPUS)]
    return each + [(m, "cortex-a53", 1 + i) for i, m in enumerate(m for m in models if m.endswith(FLOAT))]


@cache
def converted(model: str) -> bytes:
    """The .dk bytes of a model."""
    return to_bytes(dk.convert(assets.file(model), verify=False).graph)


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Arm]]:
    started = {cpu: Arm(cpu) for cpu in CPUS}
    yield started
    for engine in started.values():
        engine.close()


@pytest.mark.parametrize(("model", "cpu", "threads"), jobs(), ids=lambda v: str(v).removeprefix("models/"))
def test_agrees_with_native(engines: dict[str, Arm], model: str, cpu: str, threads: int) -> None:
    data = converted(model)
    of = cases.cases if model.endswith(".onnx") else tflite_cases.cases
    native = dk.Interpreter(data, threads=threads)
    inputs, outputs = ([s.name for s in side] for side in (native.inputs, native.outputs))
    for case in of(model)[: None if FULL else 1]:
        case.steps = case.steps[:STEPS]
        native.reset()
        want = cases.run(native.run, case)
        arm = engines[cpu]
        arm.open(data, threads)
        got = cases.run(lambda f, a=arm: dict(zip(outputs, a.run(*(f[n] for n in inputs)), strict=True)), case)
        for k in want[0]:
            w, g = (np.stack([o[k] for o in side]) for side in (want, got))
            wrong = difference(g, w, "loose")
            assert wrong is None, f"{case.id} {k}: {wrong}"
