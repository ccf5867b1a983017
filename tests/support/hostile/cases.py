"""The list that all files of this folder fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

HUGE = 1 << 40
Case = Callable[[Path], Path]
CASES: dict[str, Case] = {}


def case(f: Case) -> Case:
    CASES[f.__name__] = f
    return f
