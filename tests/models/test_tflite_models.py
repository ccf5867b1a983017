"""Every real TFLite model: converted to .dk bytes, run on the engine, held against LiteRT on real inputs.

Float outputs: max(1e-4, 4 x noise) of the largest, where noise is what LiteRT's optimised kernels differ from its plain
ones.  8-bit outputs: one step, and 99.9 % of them equal over all steps.
"""

from __future__ import annotations

import numpy as np
import pytest

import deploykit as dk
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import difference
from tests.support import assets, cases, tflite_cases
from tests.support.peers import need

need("ai_edge_litert")

_files: dict[str, bytes] = {}
_reports: dict[str, dk.Report] = {}


def convert(model: str) -> bytes:
    """The .dk bytes of a model, converted once per test process."""
    if model not in _files:
        _reports[model] = dk.convert(assets.file(model), verify=False)
        _files[model] = to_bytes(_reports[model].graph)
    return _files[model]


def all_cases() -> list[tuple[str, int]]:
    """(model, number of the case): listed without fetching anything."""
    one = ("openwakeword-a/alexa.tflite", "openwakeword-a/okay_nabu.tflite")
    return [(m, i) for m in assets.TFLITE_MODELS for i in range(1 if m.endswith(one) else 2)]


@pytest.mark.parametrize(("model", "number"), all_cases(), ids=lambda v: str(v).removeprefix("models/"))
def test_agrees_with_litert(model: str, number: int) -> None:
    case = tflite_cases.cases(model)[number]
    want, noise = tflite_cases.reference(model, case)
    got = cases.run(dk.Interpreter(convert(model), threads=2).run, case)
    assert list(got[0]) == list(want[0])
    for k in want[0]:
        w, g = (np.stack([o[k] for o in side]) for side in (want, got))
        assert (w.dtype, w.shape) == (g.dtype, g.shape)
        error, scale = difference(w, g)
        if w.dtype.kind == "f":
            bound = max(1e-4, 4 * noise[k]) * scale
            assert error <= bound, f"{case.id} {k}: {error:.3g} > {bound:.3g}"
        else:
            assert error <= 1 and (w == g).mean() >= 0.999, f"{case.id} {k}: {error}, {(w != g).mean():.2%} differ"


def test_every_case_is_listed() -> None:
    for model in assets.TFLITE_MODELS:
        assert len(tflite_cases.cases(model)) == sum(m == model for m, _ in all_cases()), model


@pytest.mark.parametrize("model", assets.TFLITE_MODELS)
def test_no_transposes_are_left(model: str) -> None:
    """Channels last goes straight in; whatever is transposed in the source is transposed for a reason of its own."""
    from deploykit.converters.importers.tflite.reader import read_model

    convert(model)
    source = read_model(assets.file(model))
    own = sum(source.op_name(o.opcode_index)[0] == "TRANSPOSE" for g in source.model.subgraphs for o in g.operators)
    left = _reports[model].transposes_left
    assert left <= own and (own == 0 or left <= own // 10), f"{left} of {own}"


def test_two_formats_of_one_network_agree() -> None:
    """basic-pitch ships as ONNX and as TFLite."""
    chord = tflite_cases.cases("models/basic-pitch/nmp.tflite")[0].steps[0]["serving_default_input_2:0"]
    runs = [dk.Interpreter(convert(f"models/basic-pitch/nmp.{kind}")).run(chord) for kind in ("tflite", "onnx")]
    for a, b in zip(*(sorted(r.values(), key=lambda v: (v.shape, float(v.sum()))) for r in runs), strict=True):
        assert difference(a, b)[0] <= 8e-3 * np.abs(a).max()  # a log of near-silent bins: noise 2e-3 on either side


def test_metadata_is_kept() -> None:
    face = dk.convert(assets.file("models/mediapipe-a/face_detection_short_range.tflite"), verify=False).graph.metadata
    assert face["preprocessing"] == {"range": [0.0, 255.0], "mean": [127.5], "std": [127.5]}
    hand = dk.convert(assets.file("models/mediapipe-a/hand_landmark_lite.tflite"), verify=False).graph.metadata
    assert hand["labels"] == ["Left", "Right"]
    pitch = dk.convert(assets.file("models/basic-pitch/nmp.tflite"), verify=False).graph.metadata
    assert pitch["signatures"]["serving_default"]["outputs"]["note"] == "StatefulPartitionedCall:1"
