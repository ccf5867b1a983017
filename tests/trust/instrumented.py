"""The engine compiled with instruments, and the tests on it.

    python -m tests.trust.instrumented coverage [PYTEST ARGUMENTS]    lines of reader, verifier and planner that tests reach
    python -m tests.trust.instrumented address [PYTEST ARGUMENTS]     AddressSanitizer and UBSan under the Python tests
    python -m tests.trust.instrumented thread [ROUNDS]                ThreadSanitizer under fuzz/stress.cc: shared models

Builds lie in build/coverage, build/address and build/thread.  Needs cmake, ninja and GCC.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
# what coverage is asked of, by what it is
GROUPS = {
    "reader and verifier": r"src/format/(flat|load|opset|sniff|model)",
    "planner": r"src/engine/(plan|planner|plan_infer|plan_memory|memory_plan)\.",
    "rest of the engine": r"src/engine/",
}
COVERING = ["tests/format", "tests/runtime", "tests/trust/test_load.py", "tests/cli/test_verify.py"]


def build(name: str, target: str, *options: str, compiler: str = "g++") -> Path:
    """A target built with options, in build/<name>."""
    folder = ROOT / "build" / name
    configure = ["cmake", "-S", RUNTIME, "-B", folder, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={compiler}", *options]
    for command in (configure, ["ninja", "-C", folder, target]):
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(done.stdout[-4000:])
    return folder


def pytest_on(library: Path, arguments: list[str], **more: str) -> int:
    """Run tests on a library; pytest's exit code."""
    env = os.environ | {"DK_LIBRARY": str(library)} | more
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env).returncode


# ---------------------------------------------------------------- coverage
def coverage(arguments: list[str]) -> int:
    """Print the lines reached by group, and those that were not."""
    folder = build("coverage", "core", "-DDEPLOYKIT_COVERAGE=ON", "-DDEPLOYKIT_FUZZ=ON")
    subprocess.run(["ninja", "-C", str(folder), "fuzz_dk"], check=True, stdout=subprocess.DEVNULL)
    for old in folder.rglob("*.gcda"):
        old.unlink()
    status = pytest_on(folder / "_core.so", arguments or COVERING, DK_FUZZER=str(folder / "fuzz_dk"))
    hits = lines_of(folder)
    for group in GROUPS:
        files = {f: rows for f, rows in hits.items() if group_of(f) == group}
        reached, total = (sum(f(rows) for rows in files.values()) for f in (lambda r: sum(map(bool, r.values())), len))
        print(f"{group}: {reached} of {total} lines, {100 * reached / max(1, total):.1f} %")
        for f, rows in sorted(files.items()):
            missed = [n for n, count in sorted(rows.items()) if not count]
            print(f"  {f}: {len(rows) - len(missed)} of {len(rows)}; not: {' '.join(map(str, missed)) or '-'}")
    return status


def group_of(file: str) -> str:
    """The first group whose pattern fits, or ''."""
    return next((g for g, pattern in GROUPS.items() if re.search(pattern, file)), "")


def lines_of(folder: Path) -> dict[str, dict[int, int]]:
    """How often each line of a source was run."""
    hits: dict[str, dict[int, int]] = collections.defaultdict(lambda: collections.defaultdict(int))
    with tempfile.TemporaryDirectory() as d:
        for data in folder.rglob("*.gcda"):
            done = subprocess.run(
                ["gcov", "--json-format", "--stdout", str(data)], cwd=d, capture_output=True, check=True
            )
            for text in done.stdout.splitlines():
                for file in json.loads(text)["files"]:
                    name = os.path.relpath(os.path.join(folder, file["file"]), RUNTIME)
                    for line in file["lines"]:
                        hits[name][line["line_number"]] += line["count"]
    return hits


# ---------------------------------------------------------------- sanitizers
def address(arguments: list[str]) -> int:
    """The Python tests with the sanitizers' library loaded first."""
    folder = build("address", "core", "-DDEPLOYKIT_SANITIZE=ON")
    preload = [
        subprocess.check_output(["g++", f"-print-file-name=lib{n}.so"], text=True).strip() for n in ("asan", "ubsan")
    ]
    options = "detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0"
    return pytest_on(folder / "_core.so", arguments or ["tests/format", "tests/runtime", "tests/kernels"],
                     LD_PRELOAD=" ".join(preload), ASAN_OPTIONS=options, UBSAN_OPTIONS="print_stacktrace=1")  # fmt: skip


def thread(arguments: list[str]) -> int:
    """Threads that share models of every op, 64 models at a time."""
    from tests.support import fuzz_seeds

    folder = build("thread", "stress", "-DDEPLOYKIT_TSAN=ON")
    rounds, failed = arguments[0] if arguments else "2", 0
    with tempfile.TemporaryDirectory() as d:
        files = [
            str(p) for p in fuzz_seeds.write(Path(d), per_op=1) if "random" not in p.name and "dropout" not in p.name
        ]
        for at in range(0, len(files), 64):
            command = [str(folder / "stress"), "-t", "8", "-n", rounds, *files[at : at + 64]]
            done = subprocess.run(
                command, env=os.environ | {"TSAN_OPTIONS": "halt_on_error=0"}, capture_output=True, text=True
            )
            print(
                f"models {at} to {min(at + 64, len(files)) - 1}: {done.stdout.strip()}", done.stderr[-3000:], flush=True
            )
            failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    kinds = {"coverage": coverage, "address": address, "thread": thread}
    if len(sys.argv) < 2 or sys.argv[1] not in kinds:
        raise SystemExit(__doc__)
    sys.exit(kinds[sys.argv[1]](sys.argv[2:]))
