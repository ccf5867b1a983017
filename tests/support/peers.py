"""Light peers in tests: skipped where they are missing, except in CI, where they must be there."""

from __future__ import annotations

import os

import pytest

from deploykit.runners import have_onnxruntime


def need_onnxruntime() -> None:
    """Skip the test (or, at module level, the file) without onnxruntime; fail in CI."""
    if have_onnxruntime():
        return
    assert not os.environ.get("CI"), "CI needs onnxruntime"
    pytest.skip("onnxruntime is not installed", allow_module_level=True)
