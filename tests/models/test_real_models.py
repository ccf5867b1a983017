"""Every real ONNX model: converted to .dk bytes, run on the engine, held against onnxruntime on real inputs.

The bound is max(1e-4, 4 x noise) of the largest output, where noise is what onnxruntime's own optimised kernels differ
from its plain ones; integers must be equal.  Decisions (text read, speech onset ...) must be equal too.
"""

from __future__ import annotations

import numpy as np
import pytest

import deploykit as dk
from deploykit import onnx_source
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import difference
from tests.support import assets, cases
from tests.support.peers import need_onnxruntime

need_onnxruntime()

# mlsd's `scores` keeps a pixel where sigmoid(x) equals the max of its 3 x 3 window, so one bit decides.  onnxruntime is
# 6.5e-4 away from double precision there (float32 ties), we 3e-6: test_mlsd_is_right_in_double_precision is the judge.
TIES = "onnxruntime's float32 ties keep pixels in `scores` that double precision does not"

_files: dict[str, bytes] = {}


def convert(model: str) -> bytes:
    """The .dk bytes of a model, converted once per test process."""
    if model not in _files:
        _files[model] = to_bytes(dk.convert(assets.file(model), verify=False).graph)
    return _files[model]


def all_cases() -> list[tuple[str, int]]:
    """(model, number of the case): listed without fetching anything."""
    counts = {"silero_vad.onnx": 2, "ch_PP-OCRv4_det_infer.onnx": 2, "ch_PP-OCRv4_rec_infer.onnx": 2, "nmp.onnx": 2}
    counts |= {"Run_1663915512_Stage_0.onnx": 2, "face_detection_front_128x128_barracuda.onnx": 2, "rawi.int8.onnx": 2}
    return [(m, i) for m in assets.ONNX_MODELS for i in range(counts.get(m.split("/")[-1], 1))]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("model", "number"), all_cases(), ids=lambda v: str(v).split("/")[-1])
def test_agrees_with_onnxruntime(model: str, number: int, threads: int) -> None:
    case = cases.cases(model)[number]
    want, noise = cases.reference(assets.file(model), case)
    session = dk.Interpreter(convert(model), threads=threads)
    assert [s.name for s in session.inputs] == list(case.steps[0]) or {s.name for s in session.inputs} == set(
        case.steps[0]
    )
    got = cases.run(session.run, case)
    assert list(got[0]) == list(want[0])
    for k in want[0]:
        scale = max(difference(w[k], w[k])[1] for w in want)
        bound = max(1e-4, 4 * noise[k]) * scale
        for step, (w, g) in enumerate(zip(want, got, strict=True)):
            assert g[k].dtype == w[k].dtype and g[k].shape == w[k].shape
            error = difference(w[k], g[k])[0]
            if error > bound and "mlsd" in model and k == "scores":
                pytest.xfail(f"{TIES}: {error:.3g} > {bound:.3g}")
            assert error <= bound, f"{case.id} step {step} output {k}: {error:.3g} > {bound:.3g}"


def test_mlsd_is_right_in_double_precision() -> None:
    model = "models/mlsd-tiny/mlsd_512x512_tiny.onnx"
    feeds = cases.cases(model)[0].steps[0]
    evaluate = onnx_source.in_double(assets.file(model))
    assert evaluate is not None
    truth = evaluate(feeds)
    got = dk.Interpreter(convert(model)).run(feeds)
    for k, want in truth.items():
        error, scale = difference(want, got[k])
        assert error <= 1e-4 * scale, f"{k}: {error / scale:.3g}"


def test_every_case_is_listed() -> None:
    for model in assets.ONNX_MODELS:
        assert len(cases.cases(model)) == sum(m == model for m, _ in all_cases()), model


def test_silero_finds_the_onset_of_speech() -> None:
    model = "models/silero-vad/silero_vad.onnx"
    case = cases.cases(model)[0]
    want, _ = cases.reference(assets.file(model), case)
    got = cases.run(dk.Interpreter(convert(model)).run, case)
    onset = [next(i for i, o in enumerate(run) if o["output"].item() > 0.5) for run in (want, got)]
    assert onset[0] == onset[1]


def test_magika_knows_python() -> None:
    import json

    model = "models/magika/model.onnx"
    labels = json.loads(assets.file("models/magika/config.min.json").read_text())["target_labels_space"]
    got = cases.run(dk.Interpreter(convert(model)).run, cases.cases(model)[0])
    assert labels[int(got[0]["target_label"][0].argmax())] == "python"


def test_basic_pitch_hears_the_chord() -> None:
    """A major triad, MIDI 57, 61, 64: the three keys with most energy in the note posteriors."""
    model = "models/basic-pitch/nmp.onnx"
    case = cases.cases(model)[0]
    want, _ = cases.reference(assets.file(model), case)
    got = cases.run(dk.Interpreter(convert(model)).run, case)
    for k in want[0]:
        if want[0][k].shape[-1] == 88:
            top = [set(np.argsort(-o[0][k].mean((0, 1)))[:3].tolist()) for o in (want, got)]
            assert top[0] == top[1]


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        ("models/ppocr-v4/ch_PP-OCRv4_det_infer.onnx", [(1, 3, 64, 64), (2, 3, 96, 160), (1, 3, 192, 384)]),
        ("models/ppocr-v4/ch_PP-OCRv4_rec_infer.onnx", [(1, 3, 48, 64), (3, 3, 48, 160), (1, 3, 48, 320)]),
        ("models/ppocr-v4/ch_ppocr_mobile_v2.0_cls_infer.onnx", [(1, 3, 48, 192), (4, 3, 48, 192), (2, 3, 48, 96)]),
    ],
    ids=["det", "rec", "cls"],
)
def test_one_file_runs_at_any_shape(model: str, shapes: list[tuple[int, ...]]) -> None:
    session = dk.Interpreter(convert(model))
    for shape in [*shapes, shapes[0]]:
        x = cases.rng(model, str(shape)).standard_normal(shape).astype(np.float32) * 0.5
        case = cases.Case(model, "shape", [{"x": x}])
        want, noise = cases.reference(assets.file(model), case)
        got = session.run({"x": x})
        for k, w in want[0].items():
            error, scale = difference(w, got[k])
            assert error <= max(1e-4, 4 * noise[k]) * scale, f"{shape}: {error}"


def test_conversion_is_deterministic_across_processes() -> None:
    import hashlib
    import subprocess
    import sys

    path = assets.file("models/silero-vad/silero_vad_16k_op15.onnx")
    code = (
        "import hashlib, sys, deploykit as dk; from deploykit.graph.dkfile import to_bytes;"
        "print(hashlib.sha256(to_bytes(dk.convert(sys.argv[1], verify=False).graph)).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    here = [hashlib.sha256(to_bytes(dk.convert(path, verify=False).graph)).hexdigest() for _ in range(2)]
    assert seen == set(here)
