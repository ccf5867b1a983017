"""The web demo: its pages of the models that ``deploykit demo`` makes, and the one that opens any model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit.cli import demo_cmd
from deploykit.data import digits
from deploykit.graph import dkfile
from deploykit.web import demo
from tests.support.machine import SATURATES
from tests.web import pages


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")  # models beside the site
    demo_cmd.run(folder / "models", quiet=True)
    info = demo.build(folder / "models", folder / "site", engine=pages.engine())
    assert info["pages"] == [
        "index.html",
        "digits.html",
        "digits-int8.html",
        "faces.html",
        "teach.html",
        "profile.html",
    ]
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
    far = re.search(r"largest difference ([^ ]+) of", seen["pages"]["digits-int8.html"])  # softmax alone is of floats
    assert far is None or float(far[1]) < 1e-6, seen["pages"]
    assert seen["ops"] > 0 and "digits.dk" in seen["card"]
    assert seen["bad"].startswith("DK-FORMAT") and seen["state"] == "The file before is still open"
    assert not seen["dark overflows"] and not seen["phone overflows"]


def taught_natively(source: Path, feeds: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """The layer after a hundred steps, by the kernels that round as those of the page: without relaxed instructions a product
    is rounded before it is added, as on x86 without FMA."""
    np.savez(folder / "feeds.npz", **feeds)
    code = """if True:
        import sys
        import numpy as np
        import deploykit as dk
        from deploykit.web import demo
        source, feeds, out = sys.argv[1:]
        native, feeds = dk.Interpreter(source, signature="train"), dict(np.load(feeds))
        for _ in range(100):
            native.run(feeds)
        np.savez(out, **{name: native.variable(name) for name in demo.TRAINED})
    """
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    if SATURATES:
        env["DK_ISA"] = "x86_sse41"
    arguments = [sys.executable, "-P", "-c", code, str(source), str(folder / "feeds.npz"), str(folder / "native.npz")]
    subprocess.run(arguments, check=True, env=env)
    return dict(np.load(folder / "native.npz"))


def test_fine_tuning_gives_the_native_weights(built: Path, tmp_path: Path) -> None:
    """Twenty examples in Chromium and on the native engine, a hundred steps: the same last layer; the body is untouched."""
    with pages.served(built) as url:
        seen = pages.drive(url + "teach.html", "teach", tmp_path)
    pages.clean(seen)
    assert seen["count"] == "20 examples" and not seen["overflows"]
    assert "Right before: 0 of 20" in seen["taught"] and "now: 20" in seen["taught"]

    source = built.parent / "models" / "digits-tune.dk"
    _, (x, y) = digits()
    first = [int(np.flatnonzero(y == d)[0]) for d in range(10)] * 2
    feeds = {"image": x[first][..., None].astype(np.float32), "y": ((y[first] + 1) % 10).astype(np.int32)}
    native = taught_natively(source, feeds, tmp_path)
    saved, before = dk.Interpreter(tmp_path / "taught.dk"), dk.Interpreter(source)
    for name in demo.TRAINED:
        got, want = saved.variable(name), native[name]
        assert np.abs(want - before.variable(name)).max() > 0.1
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max(), name
    # layers are numbered by process: conv2d/kernel, or conv2d_7/kernel after other tests
    body = [v.name for v in dkfile.load(source).variables if re.fullmatch(r"conv2d(_\d+)?/kernel", v.name)]
    assert body and not set(body) & set(demo.TRAINED)
    for name in body:
        np.testing.assert_array_equal(saved.variable(name), before.variable(name))
    right = saved.run({"image": feeds["image"]})["digit"].argmax(1) == feeds["y"]
    assert right.all()
    dk.Interpreter(tmp_path / "taught.dk", signature="train").run(feeds)  # and it can go on
