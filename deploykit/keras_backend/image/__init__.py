"""``keras.backend.image``: colours, resizing, warps, filters."""

# ruff: noqa: F403
from deploykit.keras_backend.image.colours import *
from deploykit.keras_backend.image.filters import *
from deploykit.keras_backend.image.resizing import *
from deploykit.keras_backend.image.warps import *
from deploykit.keras_backend.missing import missing

__getattr__ = missing("image")
