"""The page in Chromium, with recorded answers in place of the engine: what it does itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.web import site
from tests.web import pages
from tests.web.test_site import classifier


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pages.need_browser()
    folder = tmp_path_factory.mktemp("page")
    model = classifier(folder, labels=["a", "b", "c"], preprocessing={"range": [0.0, 16.0]})
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) % 17
    site.build(model, folder / "site", examples=[("first", {"image": x})], engine=pages.FAKE)
    return folder / "site"


@pytest.mark.parametrize("headers", [None, {}], ids=["our headers", "a host without headers"])
def test_offline_and_isolated(built: Path, headers: dict[str, str] | None, tmp_path: Path) -> None:
    """Once loaded, the page works without a network; where the host sends no headers the service worker isolates it."""
    with pages.served(built, headers) as url:
        seen = pages.drive(url, "offline", tmp_path)
    assert seen["isolated"] is True
    assert seen["offline"] in ("a", "b", "c")
    pages.clean(seen)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("model.dk", b"<!doctype html><p>not found", "DK-FORMAT"),
        ("model.dk", None, "DK-"),
        ("runtime/deploykit.js", None, "DK-IO"),
        ("runtime/deploykit.js", b"<!doctype html>", "DK-IO"),
    ],
    ids=["html for the model", "no model", "no engine", "html for the engine"],
)
def test_broken_sites_say_so(built: Path, file: str, content: bytes | None, code: str, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "site"
    shutil.copytree(built, broken)
    (broken / file).unlink()
    if content is not None:
        (broken / file).write_bytes(content)
    with pages.served(broken) as url:
        seen = pages.drive(url, "broken", tmp_path)
    assert seen["problem"].startswith(code), seen["problem"]
    assert seen["state"] == "Not started" and seen["card"] > 3
    assert not seen["violations"], seen["violations"]
