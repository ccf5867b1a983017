"""Where a ``.dk`` file comes from: the metadata key ``lineage``, written by ``convert``, shown by ``inspect`` and ``verify``."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

KEY = "lineage"
# what does not shape the file, or is told otherwise: paths are nobody's business
BESIDE = "src dst calibration progress search_progress report inputs verify verify_passes metadata test_vectors".split()


def record(
    function: Callable[..., Any], given: dict[str, Any], samples: list[dict[str, np.ndarray]], told: Any
) -> dict[str, Any]:
    """Options that were not the default, calibration data by its hash, passes that changed something, the first engine.

    The same conversion gives the same record: no clock, no machine.
    """
    usual = {k: p.default for k, p in inspect.signature(function).parameters.items()}
    out: dict[str, Any] = {
        "options": {k: _plain(v) for k, v in given.items() if k not in BESIDE and v is not usual[k] and v != usual[k]},
        "passes": {p.name: p.changes for p in told.passes if p.changes},
        "runtime": told.runtime,
    }
    if samples:
        digest = hashlib.sha256()
        for feeds in samples:
            for name in sorted(feeds):
                digest.update(f"{name} {feeds[name].dtype} {feeds[name].shape} ".encode())
                digest.update(np.ascontiguousarray(feeds[name]).tobytes())
        out["calibration"] = {"samples": len(samples), "sha256": digest.hexdigest()}
    return out


def _plain(v: Any) -> Any:
    if isinstance(v, (str, int, float, bool)):
        return v
    if isinstance(v, dict):
        return {str(k): _plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple, set, frozenset)):
        items = [_plain(x) for x in v]
        return items if not isinstance(v, (set, frozenset)) else sorted(items, key=str)
    return type(v).__name__  # arrays, functions, paths of data: their content is hashed, if it counts


def told(metadata: dict[str, Any]) -> str:
    """One line about source and options, or '' for files that say nothing (or something else) of it."""
    source, found = metadata.get("source"), metadata.get(KEY)
    if not isinstance(source, dict) or not isinstance(found, dict) or not isinstance(found.get("options"), dict):
        return ""
    options = " ".join(f"{k}={v}" for k, v in found["options"].items())
    sha = str(source.get("sha256", ""))[:16]
    return f"{source.get('file', 'a model in memory')} {sha}, by {source.get('converter', '?')} {options}".rstrip()[
        :300
    ]
