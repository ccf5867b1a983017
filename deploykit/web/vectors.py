"""Test vectors of a page: inputs with the answers that the native engine gives, so that the page can check itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import InputError
from deploykit.interpreter import Interpreter

ALIGN = 8  # typed arrays must start at a multiple of their element's size

Feeds = dict[str, np.ndarray]


def made_up(model: Path, seed: int = 0, shapes: dict[str, list[int | str]] | None = None) -> Feeds:
    """Inputs from a seed at sizes that the model accepts; raises InputError when none are found."""
    from deploykit.runners import DkRunner, working_inputs

    found = working_inputs(DkRunner(model), seed, shapes or {})
    if found is None:
        raise InputError("no sizes for the symbolic dims were found that the model accepts; give --input-shape.")
    return found[0]


def answers(session: Interpreter, feeds: Feeds) -> Feeds:
    """Outputs on fresh variables."""
    session.reset()
    return {k: np.array(v) for k, v in session.run(feeds).items()}


def deterministic(session: Interpreter, feeds: Feeds) -> bool:
    """Whether the model answers the same twice: one that draws random numbers cannot be compared."""
    first, second = answers(session, feeds), answers(session, feeds)
    return all(a.tobytes() == second[k].tobytes() for k, a in first.items())


def pack(cases: list[tuple[str, Feeds, Feeds]]) -> tuple[bytes, list[dict[str, Any]]]:
    """(title, inputs, outputs) to one little-endian blob and its index."""
    blob = bytearray()

    def put(named: Feeds) -> dict[str, Any]:
        out = {}
        for name, a in named.items():
            raw = np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes()
            out[name] = {"dtype": a.dtype.name, "shape": list(a.shape), "offset": len(blob), "bytes": len(raw)}
            blob.extend(raw)
            blob.extend(bytes(-len(blob) % ALIGN))
        return out

    index = [{"title": title, "inputs": put(x), "outputs": put(y)} for title, x, y in cases]
    return bytes(blob), index
