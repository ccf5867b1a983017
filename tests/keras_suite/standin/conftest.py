"""What Keras' tests import from the ``conftest`` of its repository, which the wheel lacks; and a reporter.

Loaded as a pytest plugin by name (``-p conftest``): so that the backend is ours before Keras is imported.
KERAS_SUITE_REPORT names the file that takes one JSON line per test and file.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

if os.environ.get("KERAS_BACKEND") == "deploykit":
    import deploykit.keras_backend  # noqa: F401
    from deploykit.keras_backend.hook import GATES

    # this test has a list of backends of its own, which gets our entry while it is imported, as Keras' lists do
    GATES["keras.src.trainers.trainer_test"] = [
        (
            "else:\n    raise ImportError(",
            'elif backend.backend() == "deploykit":\n    from deploykit.keras_backend.trainer import Trainer\n',
        )
    ]

LIMIT = 180  # seconds per test


def skip_if_backend(given: str, reason: str) -> pytest.MarkDecorator:
    """Skip a test on one backend."""
    import keras

    return pytest.mark.skipif(keras.backend.backend() == given, reason=reason)


def pytest_configure(config: pytest.Config) -> None:
    for name in ("requires_trainable_backend", "multi_device", "run_serially"):
        config.addinivalue_line("markers", f"{name}: of Keras' tests")


def _write(**line: Any) -> None:
    if "KERAS_SUITE_REPORT" not in os.environ:  # this folder was walked through by another pytest
        return
    with open(os.environ["KERAS_SUITE_REPORT"], "a") as f:
        f.write(json.dumps(line) + "\n")


def _file(path: Any) -> str:
    text = str(path)
    return text[text.index("keras/src/") + len("keras/src/") :]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed and report.nodeid.endswith("_test.py"):
        last = str(report.longrepr).strip().splitlines()[-1]
        _write(file=_file(report.nodeid), collect=last.removeprefix("E").strip()[:200])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    if "KERAS_SUITE_REPORT" not in os.environ:
        return (yield)

    def stop(*_: Any) -> None:
        raise TimeoutError(f"longer than {LIMIT} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    _write(file=_file(item.path), begins=item.name)
    try:
        return (yield)
    finally:
        signal.alarm(0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = report.outcome
    if report.when != "call" and outcome == "passed":
        return
    why = ""
    if outcome == "failed":
        lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E  ")]
        why = (lines[0][1:].strip() if lines else str(report.longrepr).strip().splitlines()[-1])[:300]
    elif outcome == "skipped" and isinstance(report.longrepr, tuple):
        why = report.longrepr[2][:120]
    path, _, name = report.nodeid.partition("::")
    _write(file=_file(path), test=name, outcome=outcome, why=why, seconds=round(report.duration, 2))
