"""Downloads of the npm package: connections that break, checksums, models kept in the browser."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.ops import GraphBuilder
from deploykit.web import serve
from tests.web import pages
from tests.web.test_package import node

PART = 8 << 20  # bytes of a download that are kept together (store.ts)


def large(path: Path, seed: int) -> bytes:
    """A model of 20 MB."""
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 64))
    w = b.constant(np.random.default_rng(seed).standard_normal((64, 80_000)).astype(np.float32))
    dk.convert(b.output(b.op("matmul", x, w), "y"), path, verify=False)
    return path.read_bytes()


class Flaky(serve.Handler):
    """Serves as ours does, but breaks connections: ``cuts`` says after how many bytes, answer by answer."""

    cuts: list[int] = []
    ranges = True
    etag = ""
    log: list[tuple[str, str]] = []

    def send_head(self) -> Any:
        if self.path == "/big.dk":
            self.log.append((self.command, self.headers.get("Range", "")))
            if not self.ranges:
                del self.headers["Range"]
        return super().send_head()

    def end_headers(self) -> None:
        if self.path == "/big.dk" and self.etag:
            self.send_header("ETag", self.etag)
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self.path != "/big.dk" or not self.cuts:
            super().copyfile(source, outputfile)
            return
        outputfile.write(source.read(self.cuts.pop(0)))
        self.close_connection = True


@contextlib.contextmanager
def flaky(folder: Path, cuts: list[int], **more: object) -> Iterator[tuple[str, type[Flaky]]]:
    handler = type("Handler", (Flaky,), {"cuts": cuts, "log": [], **more})
    with pages.served(folder, handler=handler) as url:
        yield url, handler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("download")
    large(out / "big.dk", 0)
    (out / "page.dk").write_text("<!doctype html>")
    (out / "blank.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>Blank</title>')
    return out


@pytest.mark.parametrize("etag", ["", '"one"'], ids=["by date", "by tag"])
def test_a_broken_connection_is_taken_up(folder: Path, etag: str) -> None:
    size = (folder / "big.dk").stat().st_size
    with flaky(folder, [1_000_000, 0, 5_000_000], etag=etag) as (url, server):
        seen = node(pages.engine(), "download", url + "big.dk")
    assert "value" in seen["load"], seen
    assert server.log == [("GET", ""), ("GET", "bytes=1000000-"), ("GET", "bytes=1000000-"), ("GET", "bytes=6000000-")]
    loaded = [p[0] for p in seen["progress"]]
    assert loaded == sorted(loaded) and loaded[-1] == size and all(p[1] == size for p in seen["progress"])


def test_a_server_without_ranges_sends_all_again(folder: Path) -> None:
    with flaky(folder, [1_000_000], ranges=False) as (url, server):
        seen = node(pages.engine(), "download", url + "big.dk")
    assert "value" in seen["load"] and server.log == [("GET", ""), ("GET", "bytes=1000000-")]


def test_a_file_that_changed_meanwhile_is_fetched_anew(folder: Path) -> None:
    class Changing(Flaky):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            super().copyfile(source, outputfile)
            type(self).etag = '"two"'

    handler = type("Handler", (Changing,), {"cuts": [1_000_000], "log": [], "etag": '"one"'})
    with pages.served(folder, handler=handler) as url:
        seen = node(pages.engine(), "download", url + "big.dk")
    assert "value" in seen["load"], seen
    assert handler.log == [("GET", ""), ("GET", "bytes=1000000-"), ("GET", "")]


def test_it_gives_up(folder: Path) -> None:
    with flaky(folder, [1_000_000] + [0] * 9) as (url, server):
        seen = node(pages.engine(), "download", url + "big.dk")
    assert seen["load"]["code"] == "DK-IO" and "broke after 1000000 bytes" in seen["load"]["message"]
    assert len(server.log) == 4  # three more tries


def test_checksum(folder: Path) -> None:
    """By `integrity`, in both ways to write it, from addresses, paths and bytes."""
    sha = hashlib.sha256((folder / "big.dk").read_bytes())
    other = hashlib.sha256(b"")
    good = [sha.hexdigest(), sha.hexdigest().upper(), "sha256-" + base64.b64encode(sha.digest()).decode()]
    with pages.served(folder) as url:
        for source in (url + "big.dk", folder / "big.dk"):
            seen = node(pages.engine(), "integrity", source, json.dumps([*good, other.hexdigest(), "md5-x"]))["tried"]
            assert all("value" in s for s in seen[:3]), seen
            assert seen[3]["code"] == "DK-FORMAT" and sha.hexdigest() in seen[3]["message"]
            assert seen[4]["code"] == "DK-INPUT"


def test_models_kept_in_the_browser(folder: Path, tmp_path: Path) -> None:
    """Kept by content: afterwards only asked whether it changed, or, by its hash, not at all; parts outlive an abort."""
    import shutil

    shutil.copytree(folder, tmp_path / "s")
    shutil.copytree(pages.engine(), tmp_path / "s" / "runtime")
    site = tmp_path / "s"
    sha = hashlib.sha256((site / "big.dk").read_bytes()).hexdigest()
    with flaky(site, []) as (url, server):
        command = ["node", str(pages.HERE / "package_browser.mjs"), url, "cache", sha]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=pages.HERE
        ) as chromium:
            assert chromium.stdin and chromium.stdout and chromium.stderr

            def step(name: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
                server.log.clear()
                chromium.stdin.write(name + "\n")  # type: ignore[union-attr]
                chromium.stdin.flush()  # type: ignore[union-attr]
                line = chromium.stdout.readline()  # type: ignore[union-attr]
                assert line, chromium.stderr.read()  # type: ignore[union-attr]
                return json.loads(line), list(server.log)

            seen, asked = step("broken off")  # by an abort, after more than a part
            assert seen["code"] == "AbortError" and seen["loaded"] > PART
            seen, asked = step("load")
            assert "value" in seen and asked == [("GET", f"bytes={PART}-")], (seen, asked)
            assert seen["progress"][0][0] > PART
            seen, asked = step("load")
            assert "value" in seen and asked == [("HEAD", "")], (seen, asked)
            seen, asked = step("by hash")
            assert "value" in seen and asked == []
            seen, asked = step("offline")
            assert "value" in seen and asked == []
            seen, asked = step("damage")  # of the kept file, on the disk
            assert seen["damaged"] == 1
            seen, asked = step("by hash")
            assert "value" in seen and asked == [("GET", "")]
            large(site / "big.dk", 1)
            seen, asked = step("load")
            assert "value" in seen and [a[0] for a in asked] == ["HEAD", "GET"]
            assert seen["kept"] == 1  # the version before is gone
            seen, asked = step("by hash")  # which now nobody has
            assert seen["code"] == "DK-FORMAT" and asked == [("GET", "")]
            seen, _ = step("page")  # an error page is not kept
            assert seen["code"] == "DK-FORMAT" and seen["kept"] == 1
            seen, _ = step("forget")
            assert seen["forgotten"] is True and seen["kept"] == 0
            chromium.stdin.close()
            assert chromium.wait(30) == 0
