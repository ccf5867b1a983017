"""All tests of kernels on every emulated Arm CPU: ``python tests/arm/full.py [CPU ...]``, about ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.arm import CPUS  # noqa: E402

# these start native processes of their own, or build models; tests/arm/test_arm.py has their samples
ELSEWHERE = ("test_samples.py", "test_samples_in_models.py")


def main(cpus: list[str]) -> int:
    """The sum of pytest's exit codes."""
    files = [str(p) for p in sorted((ROOT / "tests" / "kernels").glob("test_*.py")) if p.name not in ELSEWHERE]
    failed = 0
    for cpu in cpus:
        env = dict(os.environ, DK_ARM_CPU=cpu, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
        plugin = ["-p", "tests.support.on_arm", "-p", "no:cacheprovider"]
        command = [sys.executable, "-P", "-m", "pytest", "-q", *plugin, *files, "-k", "not test_bits"]
        failed += subprocess.run(command, cwd=ROOT, env=env).returncode != 0
    command = [sys.executable, "-m", "pytest", "-q", "tests/arm"]
    return failed + (subprocess.run(command, cwd=ROOT).returncode != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [*CPUS]))
