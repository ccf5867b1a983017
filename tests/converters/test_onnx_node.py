"""ONNX's own node tests through convert -> .dk bytes -> engine, held against the committed list of exceptions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support import onnx_node_tests as suite
from tests.support.peers import need_onnxruntime

EXCEPTIONS = Path(__file__).with_name("onnx_node_exceptions.txt")


@pytest.fixture(scope="module")
def results() -> list[suite.Result]:
    return suite.run_all(suite.RUNNERS["engine"], suite.collect(True))


def test_only_the_listed_cases_do_not_pass(results: list[suite.Result]) -> None:
    listed = suite.read_exceptions(EXCEPTIONS)
    failing = {r.name: r.reason for r in results if r.status != suite.PASSED}
    broken = {n: why for n, why in failing.items() if n not in listed}
    assert not broken, broken
    # random cases may pass by luck
    passing = {n for n, why in listed.items() if n not in failing and not why.startswith("random")}
    assert not passing, f"these pass now, take them out of the list: {passing}"
    assert all(listed.values()), "every exception needs a reason"


def test_the_bar(results: list[suite.Result]) -> None:
    passed = Counter(r.status for r in results)[suite.PASSED]
    assert passed >= 0.97 * len(results)


def test_more_than_onnxruntime(results: list[suite.Result]) -> None:
    need_onnxruntime()
    theirs = suite.run_all(suite.onnxruntime_runner, suite.collect(True))
    count = [sum(r.status == suite.PASSED for r in rs) for rs in (results, theirs)]
    assert count[0] > count[1], count
