"""``python -m tests.keras_suite [folder or file of keras/src ...]``: run, tell, compare with the baseline, write the table.

    python -m tests.keras_suite losses metrics               # two folders
    python -m tests.keras_suite ops/nn_test.py -k softmax    # some tests of a file
    python -m tests.keras_suite --write                      # everything; new baseline and docs/keras-backend.md
    python -m tests.keras_suite --backend jax --save j.json  # another backend, for comparison (--against j.json)

JAX and TensorFlow are imported by some tests; where they are not installed these count as "not run".
"""

from __future__ import annotations

import argparse
import collections
import json
from dataclasses import asdict
from pathlib import Path

from tests.keras_suite import report
from tests.keras_suite.run import Result, find, run


def _save(path: str | None, results: dict[str, Result]) -> None:
    if path:
        Path(path).write_text(json.dumps({f: asdict(r) for f, r in results.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--backend", default="deploykit")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-k", dest="select", default="")
    parser.add_argument("--write", action="store_true", help="write the baseline and the table")
    parser.add_argument("--save", help="write all results to a JSON file")
    parser.add_argument("--load", nargs="*", default=[], help="results of earlier runs instead of running")
    parser.add_argument("--against", help="results of another backend for the table")
    parser.add_argument("--failures", type=int, default=25, help="how many kinds of errors to print")
    args = parser.parse_args()
    results: dict[str, Result] = {}
    for path in args.load:
        results.update({f: Result(**r) for f, r in json.loads(Path(path).read_text()).items()})
    if not args.load:
        results = run(find(args.files), args.backend, args.jobs, args.select, lambda r: _save(args.save, r))
    print("\n".join(report.table(results)))
    kinds = collections.Counter(why for r in results.values() for why in r.failed.values())
    for why, n in kinds.most_common(args.failures):
        print(f"{n:5d}  {why}")
    if args.write:
        other = json.loads(Path(args.against).read_text()) if args.against else None
        report.write(results, None if other is None else {f: Result(**r) for f, r in other.items()})
    elif not args.select and args.backend == "deploykit":
        print(*report.regressions(results), sep="\n")


main()
