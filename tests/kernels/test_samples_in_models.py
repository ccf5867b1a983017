"""All passports' samples as models: ``.dk`` bytes with one op between copies, so that its operands are intermediates
that the plan may overwrite, and what its shape depends on is known only while running."""

from __future__ import annotations

import numpy as np
import pytest

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import native
from deploykit.graph import dkfile
from deploykit.ops.core import REGISTRY
from deploykit.ops.dispatch import run_reference
from deploykit.ops.samples import samples_of
from tests.support.sample_matrix import difference, flushed, runnable
from tests.support.sample_models import model_of

NAMES = [n for n, op in REGISTRY.items() if runnable(op) and samples_of(op)]


@pytest.mark.parametrize("name", NAMES)
def test_samples_in_models(name: str) -> None:
    op = REGISTRY[name]
    for sample in samples_of(op):
        inputs = [flushed(x) for x in sample.inputs]
        attrs = op.complete(sample.attrs)
        if op.variable_outputs:
            attrs["n_outputs"] = sample.n_outputs
        want = run_reference(op, list(inputs), attrs)
        model = native.NativeModel(dkfile.to_bytes(model_of(op, sample)))
        session = native.NativeSession(model, threads=1)
        for _ in range(1 if "random" in op.flags else 2):  # the second run reuses the plan and the arena
            got = session(*(np.asarray(x) for x in inputs if x is not None))
            for i, (g, w) in enumerate(zip(got, want, strict=True)):
                wrong = difference(g, w, op.tolerance)
                assert wrong is None, f"{sample!r}, output {i}: {wrong}"
        session.close()
        model.close()
