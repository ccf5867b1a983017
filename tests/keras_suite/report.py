"""Tables of results, the baseline that regressions are measured against, and the page that shows them."""

from __future__ import annotations

import collections
import json
from pathlib import Path

from tests.keras_suite.run import Result

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
PAGE = HERE.parents[1] / "docs" / "keras-backend.md"
BEGIN, END = "<!-- suite -->", "<!-- end -->"


def folders(results: dict[str, Result]) -> dict[str, list[Result]]:
    """Results by top folder of keras/src, layers and ops by one more."""
    out: dict[str, list[Result]] = collections.defaultdict(list)
    for file, r in sorted(results.items()):
        parts = file.split("/")
        out["/".join(parts[:2]).removesuffix("_test.py") if parts[0] in ("layers", "ops") else parts[0]].append(r)
    return out


def table(results: dict[str, Result], other: dict[str, Result] | None = None) -> list[str]:
    """Markdown rows: passed, failed, skipped, not run (a package is missing), files not collected; with the results of another
    backend also what that passes in the same files, and our share of it (what we pass more in one file makes up for no other)."""
    more = " JAX passes | share |" if other else ""
    out = [f"| keras/src/ | passed | failed | skipped | not run | files not collected |{more}"]
    out.append("|---|---|---|---|---|---|" + ("---|---|" if other else ""))
    rows = [*folders(results).items(), ("**all**", list(results.values()))]
    files = {id(r): f for f, r in results.items()}
    for name, rs in rows:
        sums = [sum(n) for n in zip(*((r.passed, len(r.failed), r.skipped, len(r.absent)) for r in rs), strict=True)]
        cells = [*sums, sum(bool(r.collect) for r in rs)]
        row = f"| {name} | " + " | ".join(str(c) for c in cells) + " |"
        if other:
            pairs = [(r.passed, other[files[id(r)]].passed) for r in rs if files[id(r)] in other]
            total = sum(t for _, t in pairs)
            share = f"{sum(map(min, pairs)) / total:.1%}" if total else ""
            row += f" {total if pairs else ''} | {share} |"
        out.append(row)
    return out


def reasons(results: dict[str, Result]) -> list[str]:
    """Why files were not collected and tests not run."""
    why = collections.Counter(f"file: {r.collect.split(': ', 1)[-1]}" for r in results.values() if r.collect)
    why.update(f"test: needs {package}" for r in results.values() for package in r.absent.values())
    return [f"| {k} | {n} |" for k, n in why.most_common()]


# Files that cannot be imported without another backend's package, which only a run on request has.
ELSEWHERE = tuple(f"ModuleNotFoundError: No module named '{m}" for m in ("jax", "tensorflow"))


def regressions(results: dict[str, Result]) -> list[str]:
    """Tests that fail and are not among the known failures, files that are not collected any more."""
    known = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    out = []
    for file, r in sorted(results.items()):
        was = known.get(file, {"passed": 0, "failed": [], "collect": ""})
        out += [f"regression: {file}::{t}: {why}" for t, why in r.failed.items() if t not in was["failed"]]
        if r.collect.startswith(ELSEWHERE):  # not run, as single tests without a package are
            continue
        if r.collect and not was["collect"]:
            out.append(f"regression: {file} is not collected: {r.collect}")
        lost = was["passed"] - r.passed - len(r.failed) - len(r.absent)
        if lost > 0:
            out.append(f"regression: {file}: {lost} of {was['passed']} tests that passed are gone")
    return out


def write(results: dict[str, Result], other: dict[str, Result] | None = None) -> None:
    """The baseline (files that ran take the place of their old entries) and the page's table."""
    known = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    for file, r in results.items():
        known[file] = {"passed": r.passed, "failed": sorted(r.failed), "collect": r.collect[:100]}
    BASELINE.write_text(json.dumps(known, indent=0, sort_keys=True) + "\n")
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    body = "\n".join([*table(results, other), "", "| not collected, not run | |", "|---|---|", *reasons(results)])
    PAGE.write_text(f"{head}{BEGIN}\n{body}\n{END}{rest.split(END)[1]}")
