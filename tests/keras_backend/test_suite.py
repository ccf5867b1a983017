"""A fast part of Keras' own test suite; the whole is ``python -m tests.keras_suite``."""

from __future__ import annotations

from tests.keras_suite import report
from tests.keras_suite.run import find, run
from tests.support.peers import have_keras

have_keras()
FAST = (
    "activations",
    "constraints",
    "initializers",
    "losses",
    "regularizers",
    "ops/core_test.py",
    "ops/linalg_test.py",
)


def test_no_regressions() -> None:
    results = run(find(FAST), "deploykit", jobs=2)
    assert sum(r.passed for r in results.values()) > 600
    assert not report.regressions(results)
