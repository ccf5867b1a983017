"""The engine compiled with instruments, and the tests on it.

    python -m tests.trust.instrumented coverage [PYTEST ARGUMENTS]    lines of reader, verifier and planner that tests reach
    python -m tests.trust.instrumented address [PYTEST ARGUMENTS]     AddressSanitizer and UBSan under the Python tests
    python -m tests.trust.instrumented suite [WORD ...]               the same under the whole suite, file by file
    python -m tests.trust.instrumented memory [CASES]                 MemorySanitizer (clang) under fuzz_dk: every op's seeds
    python -m tests.trust.instrumented thread [ROUNDS]                ThreadSanitizer under fuzz/stress.cc: shared models

Builds lie in build/coverage, build/address, build/memory and build/thread.  Needs cmake, ninja and GCC.  ``suite`` writes what
became of each file, with date and commit, to build/address/suite.json, and goes on there when it is started again.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
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
    library, env = sanitized()
    return pytest_on(library, arguments or ["tests/format", "tests/runtime", "tests/kernels"], **env)


def sanitized() -> tuple[Path, dict[str, str]]:
    """The library with AddressSanitizer and UBSan, and the environment in which Python can load it."""
    folder = build("address", "core", "-DDEPLOYKIT_SANITIZE=ON")
    preload = [
        subprocess.check_output(["g++", f"-print-file-name=lib{n}.so"], text=True).strip() for n in ("asan", "ubsan")
    ]
    options = "detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0"
    env = {"LD_PRELOAD": " ".join(preload), "ASAN_OPTIONS": options, "UBSAN_OPTIONS": "print_stacktrace=1"}
    return folder / "_core.so", env


# these drive other programs: browsers, emulators, compilers, builds of their own
ELSEWHERE = ("tests/web/", "tests/arm/", "tests/budgets/", "tests/keras_suite/", "tests/bench/")


def suite(words: list[str]) -> int:
    """Every test file in a process of its own; files that passed on this commit are not run again."""
    library, env = sanitized()
    state = library.parent / "suite.json"
    seen: dict[str, dict[str, str]] = json.loads(state.read_text()) if state.exists() else {}
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    files = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("test_*.py"))
    files = [f for f in files if not f.startswith(ELSEWHERE) and (not words or any(w in f for w in words))]
    for f in files:
        if seen.get(f, {}).get("commit") == commit and seen[f]["end"] == "passed":
            continue
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"DK_LIBRARY": str(library)} | env, capture_output=True, text=True
        )
        text = done.stdout + done.stderr
        report = re.search(r"(ERROR: AddressSanitizer|runtime error:).*", text)
        end = report[0] if report else "passed" if done.returncode in (0, 5) else "failed"  # 5: nothing to run here
        last = next((x for x in reversed(done.stdout.splitlines()) if x.strip()), "")
        seen[f] = {"end": end, "commit": commit, "date": time.strftime("%Y-%m-%d %H:%M"), "tests": last}
        state.write_text(json.dumps(seen, indent=1))
        print(f"{f}: {end}: {last}", flush=True)
        if end != "passed":
            print(text[-3000:], flush=True)
    mine = [seen[f]["end"] for f in files]
    print(collections.Counter(mine))
    return int(set(mine) != {"passed"})


def memory(arguments: list[str]) -> int:
    """Uninitialised memory: seeds of every op, and CASES mutations of them, verified, loaded and run."""
    from tests.support import fuzz_seeds

    flags = "-fsanitize=memory -fno-omit-frame-pointer -g -O1"
    options = [
        "-DDEPLOYKIT_FUZZ=ON",
        f"-DCMAKE_CXX_FLAGS={flags}",
        f"-DCMAKE_C_FLAGS={flags}",
        "-DCMAKE_C_COMPILER=clang",
    ]
    folder = build("memory", "fuzz_dk", *options, compiler="clang++")
    with tempfile.TemporaryDirectory() as d:
        files = [str(p) for p in fuzz_seeds.write(Path(d))]
        command = [str(folder / "fuzz_dk"), "-n", str(len(files) + int(arguments[0] if arguments else 20_000)), *files]
        return subprocess.run(command).returncode


def thread(arguments: list[str]) -> int:
    """Threads that share models of every op, 64 models at a time."""
    from deploykit.ops.core import REGISTRY
    from tests.support import fuzz_seeds

    drawing = {f"op_{n}" for n, op in REGISTRY.items() if "random" in op.flags}  # their results are not to be equal
    folder = build("thread", "stress", "-DDEPLOYKIT_TSAN=ON")
    rounds, failed = arguments[0] if arguments else "2", 0
    with tempfile.TemporaryDirectory() as d:
        made = fuzz_seeds.write(Path(d), per_op=1)
        files = [str(p) for p in made if p.stem.rpartition("_")[0] not in drawing]
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
    kinds = {"coverage": coverage, "address": address, "suite": suite, "memory": memory, "thread": thread}
    if len(sys.argv) < 2 or sys.argv[1] not in kinds:
        raise SystemExit(__doc__)
    sys.exit(kinds[sys.argv[1]](sys.argv[2:]))
