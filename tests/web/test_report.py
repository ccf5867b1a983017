"""The page of ``convert --report`` in Chromium: light, dark and on a phone, readable by everybody, without a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import deploykit as dk
from tests.support import small
from tests.web.pages import clean, drive, need_browser, served


def test_report_page(tmp_path: Path) -> None:
    need_browser()
    x = np.random.default_rng(0).uniform(-1, 1, (16, 3, 16, 16)).astype(np.float32)
    page = tmp_path / "index.html"
    dk.convert(small.cnn(tmp_path / "m.onnx"), tmp_path / "m.dk", quantize="int8", calibration=x, report=page)
    with served(tmp_path, {}) as url:
        seen = drive(url, "report", tmp_path)
    clean(seen)
    assert max(seen["widths"]) <= 0
    assert all(h in seen["text"] for h in ("Accuracy against the source", "Error of each layer", "Memory plan"))
