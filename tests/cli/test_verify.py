"""``deploykit verify``: stored test vectors are replayed on the kernel sets, and what differs is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import deploykit as dk
from deploykit import native, replay, vectors
from deploykit.cli.verify_cmd import command
from deploykit.errors import DeploykitError, FormatError
from deploykit.graph import dkfile
from deploykit.interpreter import TensorSpec
from deploykit.web import site
from tests.support import small
from tests.web import pages


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    dk.convert(small.cnn(folder / "m.onnx"), folder / "m.dk", test_vectors=2)
    return folder / "m.dk"


@pytest.fixture
def two_sets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scalar kernels and the best ones: each set takes a process per run."""
    sets = list(dict.fromkeys(["scalar", native.describe()["isa"]]))
    monkeypatch.setattr(vectors, "kernel_sets", lambda: sets)
    return sets


def edited(model: Path, to: Path, edit: Any) -> Path:
    g = dkfile.load(model)
    edit(g.metadata)
    to.write_bytes(dkfile.to_bytes(g))
    return to


def test_stored_vectors_pass(model: Path, two_sets: list[str]) -> None:
    r = replay.verify(model)
    assert r["status"] == "passed" and r["vectors"] == 2
    native_runs = [x for x in r["runs"] if "thread" in x["engine"]]
    assert len(native_runs) == 2 * len(two_sets)
    done = CliRunner().invoke(command, [str(model)], standalone_mode=False)
    told = " ".join(done.output.split())  # long paths break lines
    assert done.return_value == 0 and "2 stored test vectors" in told and "passed" in told


def test_kernel_sets_of_this_machine() -> None:
    sets = vectors.kernel_sets()
    assert "scalar" in sets and native.describe()["isa"] in sets


def test_other_answers_fail(model: Path, tmp_path: Path, two_sets: list[str]) -> None:
    def edit(metadata: dict[str, Any]) -> None:
        d = metadata["test_vectors"][1]["outputs"]["y"]
        d["crc32"] += 1
        d["samples"][3] += 0.01 * d["largest"]

    path = edited(model, tmp_path / "m.dk", edit)
    done = CliRunner().invoke(command, [str(path), "--json"], standalone_mode=False)
    r = json.loads(done.output)
    assert done.return_value == 1 and r["status"] == "failed"
    assert "output 'y' (seed 1): difference" in r["runs"][0]["problem"]


def test_the_first_tensor_that_differs_is_named(
    model: Path, two_sets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best set is made to go wrong from an inner tensor on."""
    names = [v.name for n in dkfile.load(model).nodes for v in n.outputs if v is not None]
    assert len(names) > 2
    first = names[1]
    if len(two_sets) == 1:
        pytest.skip("one kernel set only")
    plain = vectors.replay

    def wrong(m: Path, isa: str, vs: Any, threads: int = 1, inner: bool = False) -> Any:
        outputs = plain(m, isa, vs, threads, inner)
        if isa == two_sets[1]:
            for o in outputs:
                seen = not inner
                for k in o:
                    seen = seen or k == first
                    if seen:
                        o[k] = o[k] * np.float32(1.01)
        return outputs

    monkeypatch.setattr(vectors, "replay", wrong)
    r = replay.verify(model, threads=(1,))
    bad = [x for x in r["runs"] if not x["ok"]]
    assert r["status"] == "failed" and [x["tensor"] for x in bad] == [first]
    done = CliRunner().invoke(command, [str(model)], standalone_mode=False)
    told = " ".join(done.output.split())
    assert done.return_value == 1 and f"first tensor that differs from the scalar kernels: {first}" in told


def test_damage_is_seen_first(model: Path, tmp_path: Path) -> None:
    data = bytearray(model.read_bytes())
    data[-5] ^= 1
    (tmp_path / "m.dk").write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        replay.verify(tmp_path / "m.dk")


@pytest.mark.parametrize("what", [[{"seed": "x"}], [{"seed": 0, "shapes": {}, "outputs": {}}], {"a": 1}, 3,
                                  [{"seed": 0, "shapes": {"x": [-1]}, "outputs": {"y": {}}}]])  # fmt: skip
def test_damaged_vectors(model: Path, tmp_path: Path, what: Any) -> None:
    path = edited(model, tmp_path / "m.dk", lambda m: m.__setitem__("test_vectors", what))
    with pytest.raises(DeploykitError, match="test vectors"):
        replay.verify(path)


def test_without_vectors_the_sets_are_compared(model: Path, tmp_path: Path, two_sets: list[str]) -> None:
    path = edited(model, tmp_path / "m.dk", lambda m: m.pop("test_vectors"))
    r = replay.verify(path, threads=(1,))
    assert r["status"] == "passed" and r["vectors"] == 0 and r["replayed"] == 1


def test_vectors_are_not_taken_over_from_another_model(model: Path, tmp_path: Path) -> None:
    dk.convert(model, tmp_path / "again.dk", fix_batch=2)
    assert "test_vectors" not in dk.Interpreter(tmp_path / "again.dk").metadata


def test_inputs_are_the_same_everywhere() -> None:
    """Golden numbers: files made today must be replayed by every later version."""
    specs = [TensorSpec("x", (4,), "float32"), TensorSpec("i", (8,), "int64"), TensorSpec("b", (8,), "bool")]
    got = vectors.feeds(specs, {"x": [4], "i": [8], "b": [8]}, 3)
    assert got["x"].tolist() == [0.037092506885528564, 0.010015547275543213, 0.7592770457267761, 0.13416612148284912]
    assert got["i"].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert got["b"].tolist() == [True, True, True, False, True, False, True, True]


def test_the_browsers_engine_in_node(model: Path, two_sets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("node") is None:
        assert not os.environ.get("CI"), "CI needs Node"
        pytest.skip("Node is not installed")
    folder = pages.engine()
    monkeypatch.setattr(site, "runtime", lambda: folder)
    runs = [x for x in replay.verify(model, threads=(1,))["runs"] if "Node" in x["engine"]]
    assert [x["ok"] for x in runs] == [True]
