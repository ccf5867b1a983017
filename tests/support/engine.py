"""One op in the compiled engine, on two lanes: what tests of kernels call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploykit import native


def run_op(name: str, inputs: Sequence[Any], attrs: dict[str, Any] | None = None, n_outputs: int = 1) -> Any:
    """The output of an op as an array; a list of arrays when ``n_outputs`` is above 1."""
    got = native.run_op(name, inputs, attrs, n_outputs, threads=2)
    return got[0] if n_outputs == 1 else got
