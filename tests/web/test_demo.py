"""The web demo: its pages of the models that ``deploykit demo`` makes, and the one that opens any model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploykit.cli import demo_cmd
from deploykit.web import demo
from tests.web import pages


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo_cmd.run(folder / "models", quiet=True)
    info = demo.build(folder / "models", folder / "site", engine=pages.engine())
    assert info["pages"] == ["index.html", "digits.html", "digits-int8.html", "faces.html", "profile.html"]
    return folder / "site"


def test_one_engine_and_no_broken_links(built: Path) -> None:
    assert [p.parent.name for p in built.rglob("deploykit.js")] == ["runtime"]
    for page in built.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"\$[a-z{]", text), page
        for target in re.findall(r'(?:href|src)="([^"#]*)"', text):
            assert target == "./" or (built / target).is_file(), (page.name, target)
    worker = (built / "sw.js").read_text()
    for name in ("digits.html", "faces.html", "profile.html", "faces.dk", "digits-int8.bin"):
        assert f'"{name}"' in worker


def test_in_chromium(built: Path, tmp_path: Path) -> None:
    with pages.served(built) as url:
        seen = pages.drive(url, "demo", tmp_path)
    pages.clean(seen)
    assert len(seen["pages"]) == 3 and all(v.startswith("Yes") for v in seen["pages"].values()), seen["pages"]
    assert "last bit" in seen["pages"]["digits-int8.html"]  # whole numbers: the same bits on every kernel set
    assert seen["ops"] > 0 and "digits.dk" in seen["card"]
    assert seen["bad"].startswith("DK-FORMAT") and seen["state"] == "The file before is still open"
    assert not seen["dark overflows"] and not seen["phone overflows"]
