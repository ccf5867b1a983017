"""Digests of every passport sample's results, on the engine of ``DK_LIBRARY``.

    DK_ISA=x86_avx2 DK_LIBRARY=engine.so python tests/support/sample_bits.py       prints {"isa": ..., "digests": {case: digest}}

Two builds of one source must print the same.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import native
from deploykit.errors import DeploykitError
from deploykit.ops.core import REGISTRY
from deploykit.ops.samples import samples_of


def digests() -> dict[str, str]:
    """Digest of the results, or the text of the error, by op and number of the sample."""
    found = {}
    for op in sorted(REGISTRY.values(), key=lambda o: o.opcode):
        for i, sample in enumerate(samples_of(op)):
            n = sample.n_outputs if op.variable_outputs else len(op.results)
            h = hashlib.sha256()
            try:
                for y in native.run_op(op.name, sample.inputs, sample.attrs, n, 2):
                    h.update(f"{y.dtype}{y.shape}".encode() + np.ascontiguousarray(y).tobytes())
            except DeploykitError as e:
                h.update(str(e).encode())
            found[f"{op.name} {i}"] = h.hexdigest()[:16]
    return found


if __name__ == "__main__":
    library = native.library()
    print(json.dumps({"isa": library.dk_isa().decode(), "library": str(Path(library._name)), "digests": digests()}))
