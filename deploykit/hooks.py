"""What lower layers need of higher ones, asked of the package itself: nothing below imports upward."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def optimize() -> Callable[[Any], Any] | None:
    """Graph -> optimised Graph, by the passes of deploykit.converters, for graphs that are traced and run at once."""
    return getattr(sys.modules["deploykit"], "_optimize", None)


def package() -> Any:
    """The package itself, for methods that hand over to its top: ``model.export``."""
    return sys.modules["deploykit"]
