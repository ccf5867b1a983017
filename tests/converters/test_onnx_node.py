"""ONNX's node tests through convert -> .dk bytes -> engine, held to a list of known exceptions, and to onnxruntime."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.support.onnx_node_tests import (
    DOCS,
    EXCEPTIONS,
    PASSED,
    UNSUPPORTED,
    Result,
    collect,
    engine_runner,
    onnxruntime_runner,
    read_exceptions,
    run_all,
)
from tests.support.peers import need_onnxruntime


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    """Every case on the engine."""
    return {r.name: r for r in run_all(engine_runner, collect())}


def test_the_suite_is_the_one_that_was_counted():
    assert sum(c.counted for c in collect()) == 1609


def test_passing_cases_keep_passing(results):
    listed = {name.rstrip("?") for name in read_exceptions()}
    broken = [r for r in results.values() if r.status != PASSED and r.name not in listed]
    assert not broken, "\n".join(f"{r.name} ({r.op}), {r.status}: {r.reason}" for r in broken)


def test_the_list_of_exceptions_is_not_longer_than_needed(results):
    listed = read_exceptions()
    assert all(listed.values()), "every exception has a reason"
    unknown = [n for n in listed if n.rstrip("?") not in results]
    assert not unknown, f"no such case: {unknown}"
    healed = [n for n in listed if not n.endswith("?") and results[n].status == PASSED]
    assert not healed, f"these pass now; remove them from {EXCEPTIONS.name}: {healed}"


def test_more_than_onnxruntime(results):
    """On the counted cases, in this run."""
    need_onnxruntime()
    counted = [c for c in collect() if c.counted]
    ours = sum(results[c.name].status == PASSED for c in counted)
    theirs = sum(r.status == PASSED for r in run_all(onnxruntime_runner, counted))
    assert ours >= 0.97 * len(counted)
    assert ours > theirs


def test_the_whole_suite(results):
    """Strings, sequences, optionals and narrow types included; what is refused is refused with a reason."""
    need_onnxruntime()
    others = collect(others=True)
    assert len(collect()) + len(others) == 1884
    ours = [*results.values(), *run_all(engine_runner, others)]
    odd = [
        r
        for r in ours[len(results) :]
        if r.status not in (PASSED, UNSUPPORTED) or (not r.reason) != (r.status == PASSED)
    ]
    assert not odd, odd
    theirs = run_all(onnxruntime_runner, [*collect(), *others])
    passed = [sum(r.status == PASSED for r in side) for side in (ours, theirs)]
    assert passed[0] >= 0.92 * 1884
    assert passed[0] > passed[1]


def test_the_published_table_is_true(results):
    """docs/onnx-conformance.md: cases and passes by op (write it with `python -m tests.support.onnx_node_tests --docs`)."""
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| ", DOCS.read_text(encoding="utf-8"), re.M)
    published = {op: (int(n), int(passed)) for op, n, passed in rows}
    cases, passed = Counter[str](), Counter[str]()
    lucky = {n.rstrip("?") for n in read_exceptions() if n.endswith("?")}
    for c in collect():
        if c.counted:
            cases[c.op] += 1
            passed[c.op] += results[c.name].status == PASSED and c.name not in lucky
    assert published == {op: (n, passed[op]) for op, n in cases.items()}
