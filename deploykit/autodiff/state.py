"""What is going on: the tapes that record, the trace that is being made.  Per thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploykit.autodiff.tape import GradientTape
    from deploykit.autodiff.trace import Trace


class _State(threading.local):
    def __init__(self) -> None:
        self.tapes: list[GradientTape] = []
        self.traces: list[Trace] = []


current = _State()
busy = 0  # tapes that record now, in any thread: 0 spares a look at `current`
_lock = threading.Lock()


def count(step: int) -> None:
    """A tape begins (1) or ends (-1) to record."""
    global busy
    with _lock:
        busy += step


def trace() -> Trace | None:
    """The innermost trace, None when ops run at once."""
    return current.traces[-1] if current.traces else None
