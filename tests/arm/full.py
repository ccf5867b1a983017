"""All that can be tried for Arm: ``python tests/arm/full.py [kernels] [models] [targets]``, without a word all three.

kernels: every test of tests/kernels on every emulated CPU.  models: every real model on every CPU, with 1, 2 and 3
threads.  targets: the library compiled for each target of runtime/cross/build.py.  An hour or so on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.arm import CPUS, build  # noqa: E402

# these start native processes of their own, or build models; tests/arm/test_arm.py has their samples
ELSEWHERE = ("test_samples.py", "test_samples_in_models.py")


# what the library may take of Android's C library: functions whose arguments look the same in musl, whose headers
# describe it here, and three helpers for atomics that Android's compilers bring
ANDROID = set(
    """__aarch64_cas8_acq_rel __aarch64_ldadd4_acq_rel __aarch64_ldadd8_relax __errno __sched_cpucount acos acosf
    acosh acoshf asin asinf asinh asinhf atan atan2 atan2f atanf atanh atanhf atoi clock_gettime close cos
    cosf cosh coshf erf exp expf expm1 expm1f fmod fmodf fprintf free fstat getauxval getenv getrandom ldexp
    log log10 log1p log1pf madvise memcpy memmove memset mmap munmap open posix_memalign pow powf
    pthread_atfork pthread_attr_destroy pthread_attr_init pthread_attr_setdetachstate
    pthread_attr_setstacksize pthread_create pthread_mutex_lock pthread_mutex_unlock pthread_sigmask read
    sched_getaffinity sched_yield sigfillset sin sincos sinf sinh sinhf snprintf stderr strcmp strerror strlen
    strtoll syscall sysconf tan tanf tanh tanhf vsnprintf""".split()
)


def pytest_run(*arguments: str, **env: str) -> int:
    """1 when tests failed."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]), **env)
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return int(subprocess.run(command, cwd=ROOT, env=env).returncode != 0)


def kernels() -> int:
    files = [str(p) for p in sorted((ROOT / "tests" / "kernels").glob("test_*.py")) if p.name not in ELSEWHERE]
    on_arm = ["-p", "tests.support.on_arm", "-k", "not test_bits", *files]
    return sum(pytest_run(*on_arm, DK_ARM_CPU=cpu) for cpu in CPUS) + pytest_run("tests/arm/test_arm.py")


def models() -> int:
    return pytest_run("tests/arm/test_models.py", DK_ARM_FULL="1")


def targets() -> int:
    made = {t: build().library(t) for t in build().TARGETS}
    for t, path in made.items():
        print(f"{t}: {path.stat().st_size:,} bytes")
    lines = [x.split() for x in subprocess.check_output(["nm", made["aarch64-linux-android"]], text=True).splitlines()]
    defined = {x[2] for x in lines if len(x) == 3 and x[1] in "TDBRVW"}
    foreign = {x[1] for x in lines if len(x) == 2 and x[0] == "U"} - defined
    print("not known to be Android's:", sorted(foreign - ANDROID) or "nothing")
    return int(not foreign <= ANDROID)


if __name__ == "__main__":
    words = sys.argv[1:] or ["kernels", "models", "targets"]
    sys.exit(sum({"kernels": kernels, "models": models, "targets": targets}[w]() for w in words))
