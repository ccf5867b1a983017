"""Documents whose structure is wrong: each reader says which field, what came and what is allowed.  All were found by
``tests.trust.fuzz_long``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit.keras as k
from deploykit.errors import DeploykitError, FormatError, InputError
from deploykit.keras.saving import model_from_json
from deploykit.ops.builder import GraphBuilder
from tests.support import fuzz_importers, fuzz_long


def onnx_model(op: str, attributes: dict[str, Any], inputs: list[tuple[str, int, list[Any]]], opset: int = 17) -> bytes:
    import onnx

    h = onnx.helper
    node = h.make_node(op, [n for n, _, _ in inputs], ["y"], name="the_node")
    for key, v in attributes.items():
        node.attribute.append(h.make_attribute(key, v))
    infos = [h.make_tensor_value_info(n, t, s) for n, t, s in inputs]
    graph = h.make_graph([node], "g", infos, [h.make_tensor_value_info("y", 1, None)])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", opset)]).SerializeToString()


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "says"),
    [
        ("Concat", {"axis": 0.5}, [("x", 1, [2]), ("z", 1, [2])], "attribute 'axis' has kind 1; expected INT"),
        ("Pad", {}, [("x", 1, [2])], "attribute 'pads' .INTS. is missing"),
        (
            "Resize",
            {"mode": [1, 2]},
            [("x", 1, [1, 1, 2, 2]), ("r", 1, [8]), ("s", 1, [4])],
            "attribute 'mode' has kind 7",
        ),
        ("Sum", {}, [], "no inputs"),
        ("If", {"then_branch": 1, "else_branch": 2}, [("c", 9, [])], "expected GRAPH"),
    ],
)
def test_onnx_attributes_are_held_against_the_standard(op: str, attributes: Any, inputs: Any, says: str) -> None:
    from deploykit.converters.importers.onnx import import_onnx

    with pytest.raises(DeploykitError, match=says) as e:
        import_onnx(onnx_model(op, attributes, inputs, 10 if op == "Pad" else 17))
    assert e.value.__cause__ is None and "the_node" in str(e.value)


@pytest.mark.parametrize("length", [4097, 2**31 - 1, 2**40])
@pytest.mark.parametrize("op", ["unsqueeze", "expand", "fill"])
def test_a_length_that_is_only_claimed_takes_no_time(op: str, length: int) -> None:
    """One dim is made for each entry: a list declared as 2^31 long took all memory."""
    b = GraphBuilder()
    places = b.input("places", "int64", (length,))
    began = time.process_time()
    with pytest.raises(DeploykitError, match="at most 4096"):
        b.op(op, *((places, np.float32(0)) if op == "fill" else (b.input("x", "float32", (2,)), places)))
    assert time.process_time() - began < 0.5


def test_a_long_honest_list_still_passes() -> None:
    b = GraphBuilder()
    assert len(b.op("split", b.input("x", "float32", (4096,)), np.ones(4096, np.int64), axis=0, outputs=4096)) == 4096


def keras_document() -> dict[str, Any]:
    model = k.Sequential([k.Input((4,)), k.layers.Dense(5, name="first"), k.layers.Reshape((5, 1)), k.layers.LSTM(3)])
    return dict(json.loads(model.to_json()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["config"]["layers"][1]["config"].update(units=None), "Dense: 'units' is 'None'; expected int"),
        (lambda d: d["config"]["layers"][1]["config"].update(units=[3]), "Dense: 'units' is"),
        (lambda d: d["config"]["layers"][1]["config"].pop("units"), "Dense: its config lacks 'units'"),
        (lambda d: d["config"]["layers"][1]["config"].update(activation=7), "unknown activation|activation: got 7"),
        (lambda d: d["config"]["layers"][1]["config"].update(kernel_initializer=[[]]), "initializer: got"),
        (lambda d: d["config"]["layers"][1]["config"].update(dtype=5), "Dense: 'dtype' is '5'; expected str"),
        (lambda d: d["config"]["layers"][0]["config"].update(batch_shape=7), "batch_shape=7; expected lists"),
        (lambda d: d["config"]["layers"][2]["config"].update(target_shape=5), "target_shape is 5; expected whole"),
        (
            lambda d: d["config"]["layers"][1]["config"].update(dtype="float31"),
            "'dtype' is 'float31'; known are float32",
        ),
        (lambda d: d["config"].update(layers=3), "its layers are 3; expected a list"),
        (
            lambda d: d["config"]["layers"].__setitem__(1, {"class_name": ["Dense"], "config": {}}),
            "a saved object is damaged",
        ),
        (
            lambda d: d["config"]["layers"].__setitem__(1, {"class_name": "Dense", "config": 4}),
            "a saved object is damaged",
        ),
    ],
)
def test_keras_configs_are_held_against_the_layers(change: Any, says: str) -> None:
    document = keras_document()
    change(document)
    with pytest.raises((FormatError, InputError), match=says):
        model_from_json(json.dumps(document))


# (kind, seed, case) of fuzz_long
FOUND = [
    ("onnx", 21, 29259), ("onnx", 21, 11), ("onnx", 21, 5093), ("onnx", 21, 15799), ("tfjs", 21, 2443), ("tfjs", 21, 3585),
    ("tfjs", 21, 4964), ("tfjs", 21, 18642), ("tflite", 2, 10706), ("tflite", 2, 53726), ("tflite", 2, 72839),
    ("onnx", 1, 850), ("tflite", 9, 26813), ("tflite", 1, 53039), ("tflite", 1, 57968), ("tflite", 1, 590319),
    ("tflite", 9, 37852), ("tflite", 9, 52251), ("tflite", 1, 557), ("tflite", 1, 1914),
    ("tfjs", 1, 86), ("tfjs", 1, 149), ("tfjs", 1, 265), ("tfjs", 9, 242), ("tfjs", 9, 1273), ("tfjs", 9, 10140),
]  # fmt: skip


@pytest.mark.parametrize("kind", sorted({f[0] for f in FOUND}))
def test_found(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_importers, "_read_only", True)
    with fuzz_long.prepared(kind) as case:
        for of, seed, number in FOUND:
            if of == kind:
                how = fuzz_long.timed(case, fuzz_long.random_of(seed, number), tmp_path)
                assert how == "ok" or how.startswith("DK-"), (kind, seed, number, how)
