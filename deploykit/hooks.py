"""What lower layers need of higher ones, put here by the package itself: nothing below imports upward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Graph -> optimised Graph: the passes of deploykit.converters, for graphs that are traced and run at once.
optimize: Callable[[Any], Any] | None = None
