"""The npm package (web/npm) in Chromium: workers, files, memory, policy, and what it says when something is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.graph.dims import Dim
from deploykit.ops import GraphBuilder
from tests.web import pages
from tests.web.test_site import classifier


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, three models, files that are none, and an empty page."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(pages.engine(), folder / "runtime")
    (folder / "blank.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>Blank</title>')
    whole = classifier(folder).read_bytes()
    (folder / "cut.dk").write_bytes(whole[:-50])
    (folder / "page.dk").write_text("<!DOCTYPE html><title>Not found</title>")
    (folder / "flipped.dk").write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    b = GraphBuilder()
    x = b.input("x", "float32", (512, 512))
    dk.convert(b.output(b.op("matmul", x, x), "y"), folder / "heavy.dk", verify=False)
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"),))
    column = b.op("reshape", x, b.constant(np.array([-1, 1], np.int64)))
    dk.convert(b.output(b.op("mul", x, column), "y"), folder / "outer.dk", verify=False)
    return folder


def drive(url: str, scenario: str, *args: object) -> dict[str, Any]:
    command = ["node", str(pages.HERE / "package_browser.mjs"), url, scenario, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=pages.HERE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_answers_and_a_page_that_breathes(built: Path) -> None:
    """The native answers; during work in the worker the page's timers run, during work on its own thread they do not."""
    with pages.served(built) as url:
        seen = drive(url, "run")
    assert not seen["errors"] and seen["isolated"] and seen["environment"]["threads"]
    want = dk.Interpreter(built / "tiny.dk").run({"image": np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) % 17})
    for worker in ("true", "false"):
        got = seen[worker]["answer"]["class"]
        assert got["shape"] == [1, 3]
        np.testing.assert_allclose(got["data"], want["class"][0], rtol=1e-5, atol=1e-12)
    assert seen["true"]["breaths"] > 10 > 2 >= seen["false"]["breaths"], seen
    assert seen["file"]["value"] == seen["response"]["value"]


def test_wrong_use_keeps_the_page_going(built: Path) -> None:
    with pages.served(built) as url:
        seen = drive(url, "wrong", "cut.dk", "page.dk", "flipped.dk", "nothing.dk")
    codes = {k: v["code"] for k, v in seen["files"].items()}
    assert codes == {"cut.dk": "DK-FORMAT", "page.dk": "DK-FORMAT", "flipped.dk": "DK-FORMAT", "nothing.dk": "DK-IO"}
    for name in ("cut.dk", "page.dk", "flipped.dk"):
        with pytest.raises(dk.errors.DeploykitError) as e:
            dk.Interpreter((built / name).read_bytes())
        assert seen["files"][name]["message"] == str(e.value)
    assert seen["name"]["code"] == seen["shape"]["code"] == "DK-INPUT"
    assert seen["memory"]["code"] == "DK-MEMORY", seen["memory"]
    assert seen["after"]["value"]["y"]["data"] == [0, 0, 0, 0, 1, 2, 0, 2, 4]
    assert seen["abort"]["code"] == "AbortError"


def test_a_killed_worker_is_told(built: Path) -> None:
    with pages.served(built) as url:
        seen = drive(url, "killed")
    for key in ("busy", "idle"):
        assert seen[key]["code"] == "DK-ENGINE" and "was stopped" in seen[key]["message"], seen[key]
    assert seen["next"]["value"]["class"]["shape"] == [1, 3]


def test_no_simd_is_told(built: Path) -> None:
    with pages.served(built) as url:
        seen = drive(url, "simd")
    assert seen["environment"]["simd"] is False
    assert seen["load"]["code"] == "DK-ENGINE" and "SIMD" in seen["load"]["message"]


@pytest.mark.parametrize(
    ("file", "content", "code", "words"),
    [
        ("engine.wasm", b"<!doctype html>", "DK-IO", "an HTML page for engine.wasm"),
        ("engine.wasm", b"text", "DK-IO", "something else for engine.wasm"),
        ("engine.wasm", None, "DK-IO", "404"),
        ("worker.js", None, "DK-ENGINE", "worker.js has to lie beside"),
        ("worker.js", b"<!doctype html>", "DK-ENGINE", "worker.js has to lie beside"),
    ],
)
def test_missing_parts_are_named(
    built: Path, file: str, content: bytes | None, code: str, words: str, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "site")
    runtime = tmp_path / "site" / "runtime"
    for broken in [*runtime.glob("engine.*wasm")] if file == "engine.wasm" else [runtime / file]:
        broken.unlink()
        if content is not None:
            broken.write_bytes(content)
    with pages.served(tmp_path / "site") as url:
        seen = drive(url, "load")
    assert seen["load"]["code"] == code and words in seen["load"]["message"], seen
    assert ("value" in seen["page"]) == (file == "worker.js")  # the page's own thread needs no worker


def test_the_engine_that_suits_the_page(built: Path) -> None:
    """An isolated page has threads: equal bits with any number; another one has none, and the reason."""
    with pages.served(built) as url:
        seen = drive(url, "engines")
    assert not seen["errors"] and seen["bits"] == 1, seen
    relaxed = ".relaxed" if seen["relaxed"] else ""
    assert [i["engine"] for i in seen["infos"]] == [f"engine{relaxed}.threads.wasm"] * 4
    assert [i["threads"] for i in seen["infos"]] == [1, 2, 3, 2] and bool(seen["infos"][0]["notes"]) != seen["relaxed"]
    assert seen["killed"]["code"] == "DK-ENGINE" and "was stopped" in seen["killed"]["message"]
    with pages.served(built, {}) as url:
        seen = drive(url, "engines")
    assert not seen["errors"] and seen["bits"] == 1
    assert [i["engine"] for i in seen["infos"]] == [f"engine{relaxed}.wasm"] * 4
    assert all("threads off: the page is not cross-origin isolated" in " ".join(i["notes"]) for i in seen["infos"])


def test_from_another_origin(built: Path) -> None:
    """As from a CDN: the page, without isolation, imports the package from elsewhere, worker included."""
    share = {"Access-Control-Allow-Origin": "*"}
    with pages.served(built, {}) as url, pages.served(built, share) as other:
        seen = drive(url, "elsewhere", other)
    assert not seen["errors"] and seen["load"]["value"]["class"]["shape"] == [1, 3]
