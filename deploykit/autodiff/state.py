"""What is going on: the tapes that record, the trace that is being made.  Per thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploykit.autodiff.tape import GradientTape
    from deploykit.autodiff.trace import Trace


class _State(threading.local):
    def __init__(self) -> None:
        self.tapes: list[GradientTape] = []
        self.traces: list[Trace] = []
        self.borrowing = False


current = _State()
busy = 0  # tapes that record now, in any thread: 0 spares a look at `current`
_lock = threading.Lock()


def count(step: int) -> None:
    """A tape begins (1) or ends (-1) to record."""
    global busy
    with _lock:
        busy += step


@contextmanager
def borrowing() -> Iterator[None]:
    """Inside, a variable that is assigned an array nobody can write to (of a mapped file) keeps it instead of a copy: for
    models that are only looked at."""
    before, current.borrowing = current.borrowing, True
    try:
        yield
    finally:
        current.borrowing = before


def trace() -> Trace | None:
    """The innermost trace, None when ops run at once."""
    return current.traces[-1] if current.traces else None
