"""A short run of the mutation fuzzer; ``runtime/fuzz/fuzz_dk.cc`` says how to run a long one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import fuzz_seeds

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
CASES = int(os.environ.get("DK_FUZZ_CASES", "50000"))


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer with ASan and UBSan, compiled once per checkout; DK_FUZZER names one that is already there."""
    ready = os.environ.get("DK_FUZZER")
    if ready:
        return Path(ready)
    tools = [shutil.which(t) for t in ("cmake", "c++")]
    if not all(tools) or not os.environ.get("CI"):
        pytest.skip("needs cmake, a C++ compiler with sanitizers and minutes: set CI=true or DK_FUZZER")
    build = RUNTIME.parent / "build" / "fuzz"
    configure = ["cmake", "-S", str(RUNTIME), "-B", str(build), "-DDEPLOYKIT_SANITIZE=ON", "-DDEPLOYKIT_FUZZ=ON"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(build), "--target", "fuzz_dk", "-j2"], check=True, capture_output=True)
    return build / "fuzz_dk"


def test_mutated_files_do_no_harm(fuzzer: Path, tmp_path: Path) -> None:
    seeds = fuzz_seeds.write(tmp_path / "seeds", per_op=2)
    whole = subprocess.run(
        [str(fuzzer), "-n", str(len(seeds) + CASES), *map(str, seeds)], capture_output=True, text=True, timeout=1500
    )
    assert whole.returncode == 0, whole.stderr[-4000:]
    assert "no crash" in whole.stdout
    words = whole.stdout.replace(",", "").split()
    passed, runs = int(words[words.index("pass") - 1]), int(words[words.index("runs") - 1])
    assert passed > CASES // 20 and runs > CASES // 10, "the mutations no longer get behind the checksums"
