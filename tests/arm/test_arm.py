"""The engine for AArch64 on emulated CPUs: plain NEON, with dot products, with i8mm, and the portable kernels.

Integers must have the reference's and the native engine's bits, floats keep to the tolerance classes of the passports,
and threads change no bit.  ``python tests/arm/full.py`` runs more: every test of kernels on every CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import native
from deploykit.graph import dkfile
from deploykit.ops.core import REGISTRY
from deploykit.ops.samples import samples_of
from tests.support import quantized_bits
from tests.support.arm import CPUS, Arm
from tests.support.sample_matrix import check, difference, flushed, run_reference, runnable
from tests.support.sample_models import feeds_of, model_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = [n for n, op in REGISTRY.items() if runnable(op)]


@pytest.fixture(scope="module", params=[*CPUS, "scalar"])
def arm(request: pytest.FixtureRequest) -> Iterator[Arm]:
    scalar = request.param == "scalar"
    with Arm("max" if scalar else request.param, "scalar" if scalar else "") as engine:
        yield engine


def test_the_cpu_chooses_the_kernels() -> None:
    for cpu, isa in CPUS.items():
        with Arm(cpu) as engine:
            assert engine.about()[0] == isa, cpu
    with Arm("cortex-a53", "arm_i8mm") as engine:
        assert engine.about()[0] == "arm_neon", "a set that the CPU does not run was forced"


def test_samples(arm: Arm) -> None:
    """Every sample of every passport, 1, 2 and 3 threads, against the references."""
    failures, ran = {}, 0
    for name in NAMES:
        op = REGISTRY[name]
        samples = [s for s in samples_of(op) if not s.variables]
        ran += len(samples)
        if wrong := [f for s in samples for f in check(op, s, (1, 2, 3), arm.run_op)]:
            failures[name] = wrong
    assert not failures, "\n".join(f"{k}: {line}" for k, v in failures.items() for line in v[:3])
    assert ran > 3900


@pytest.mark.parametrize("constants", [False, True], ids=["intermediates", "constants"])
def test_samples_in_models(arm: Arm, constants: bool) -> None:
    """As .dk files: operands that the plan may overwrite, then weights that are packed at load; run twice."""
    failures, ran = [], 0
    for name in NAMES:
        op = REGISTRY[name]
        for k, sample in enumerate(samples_of(op)):
            if constants and sum(x is not None for x in sample.inputs) < 2:
                continue
            sample.inputs = [flushed(x) for x in sample.inputs]
            attrs = op.complete(sample.attrs)
            if op.variable_outputs:
                attrs["n_outputs"] = sample.n_outputs
            want = run_reference(op, list(sample.inputs), attrs)
            data = dkfile.to_bytes(model_of(op, sample, constants=constants))
            runs = 1 if "random" in op.flags else 2  # the second run reuses the plan and the arena
            arm.open(data, threads=1 + k % 3)
            for _ in range(runs):
                ran += 1
                got = arm.run(*feeds_of(sample, constants=constants))
                wrong = [difference(g, w, op.tolerance) for g, w in zip(got, want, strict=True)]
                failures += [f"{sample!r}, output {i}: {w}" for i, w in enumerate(wrong) if w]
    assert not failures, "\n".join(failures[:20])
    assert ran > 3000


def test_integer_bits(arm: Arm) -> None:
    """Larger shapes of the integer ops, whole and broken tiles, sums at the extremes: the native engine's bits."""
    for name, (op, inputs, attrs) in quantized_bits.cases().items():
        want = native.run_op(op, inputs, attrs, 1)[0].tobytes()
        for threads in (1, 3):
            same = arm.run_op(op, inputs, attrs, 1, threads)[0].tobytes() == want
            assert same, f"{name}, {threads} threads"


@pytest.mark.parametrize("file", ["test_conv.py", "test_matmul.py"])
def test_kernels(file: str) -> None:
    """Tests of the float kernels, which all CPUs share, with the emulated engine in the native one's place."""
    env = dict(os.environ, DK_ARM_CPU="cortex-a53", PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
    plugin = ["-p", "tests.support.on_arm", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-P", "-m", "pytest", "-q", *plugin, f"tests/kernels/{file}"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
