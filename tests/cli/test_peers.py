"""The race against other runtimes: who runs when, what counts as agreement, and the page made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit import peers
from deploykit.errors import InputError, UnsupportedError
from tests.bench import table
from tests.support import zoo
from tests.support.peers import need


class Fake:
    """Writes down that it ran."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, feeds: peers.Feeds) -> peers.Feeds:
        self.log.append(self.name)
        return feeds


def test_race_takes_turns_in_alternating_order() -> None:
    log: list[str] = []
    times = peers.race({k: Fake(k, log) for k in "abc"}, {}, 2)
    assert "".join(log) == "aaabbbccc" + "cccbbbaaa"
    assert all(len(t) == 2 and min(t) >= 0 for t in times.values())


def test_agreement_is_relative_to_the_largest_number_and_needs_every_output() -> None:
    a = {"y": np.float32([1, -8]), "z": np.float32([0])}
    assert peers.agreement(a, a) == 0
    assert peers.agreement({"y": a["y"]}, {"y": np.float32([3, -8])}) == 0.25
    assert peers.agreement(a, {"y": a["y"]}) == float("inf")


def test_sources_and_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runtime 'abacus'.*ncnn"):
        peers.open_peer("abacus", None, 1, {}, {})
    for name in ("onnxruntime", "litert", "openvino", "ncnn"):
        with pytest.raises((InputError, UnsupportedError), match="source|not installed"):
            peers.open_peer(name, None, 1, {}, {})


@pytest.mark.parametrize("name", ["ds_cnn", "lstm"])
def test_light_peers_agree_on_a_model_of_the_set(name: str, tmp_path: Path) -> None:
    import deploykit as dk

    need("onnxruntime")
    path, feeds = table.model(name, tmp_path)
    dk.convert(path, tmp_path / "m.dk", verify=False)
    ours = dk.Interpreter(tmp_path / "m.dk", threads=1).run(feeds)
    for peer in ("onnxruntime", "litert"):
        if peer == "litert":
            need("ai_edge_litert")
        theirs = peers.open_peer(peer, path, 1, feeds, ours)
        assert peers.agreement(ours, theirs.run(feeds)) < 1e-5


def test_every_model_of_the_set_is_a_valid_file() -> None:
    import onnx

    for name in ("yolo", "transformer", "lstm", "ds_cnn"):
        onnx.checker.check_model(zoo.ZOO[name](), full_check=True)


def test_page_names_the_fastest_peer_what_differs_and_what_is_missing(tmp_path: Path) -> None:
    need("onnxruntime")
    need("ai_edge_litert")
    row = {
        "model": "ds_cnn",
        "threads": 1,
        "ms": {"deploykit": [2.0, 1.0], "onnxruntime": [3.0, 2.5], "litert": [5.0, 2.0]},
        "differs": {"onnxruntime": 1e-6, "litert": 0.5},
        "missing": {"ncnn": "ncnn cannot run it.\nsecond line"},
    }
    text = table.page([row], ["onnxruntime", "litert"], 30)
    assert "| ds_cnn | 1 | 2.00 (1.00) | 3.00 (2.50) | 5.00 (2.00) ! | 1.50 (2.00) |" in text
    assert (
        "* ds_cnn on ncnn: ncnn cannot run it\n" in text.replace("it.", "it")
        and "second line" not in text
        and "30 rounds" in text
    )
