"""The quantizer: observers of calibration runs, schemes, insertion of quantize and dequantize nodes."""

from __future__ import annotations

from deploykit.converters.quantize.interface import IO_DTYPES, integer_interface
from deploykit.converters.quantize.observers import OBSERVERS, Observer
from deploykit.converters.quantize.repair import REPAIRS, Moments, equalize, norms, smooth, weighed
from deploykit.converters.quantize.schemes import (
    SCHEMES,
    STATIC,
    Choices,
    calibrate_values,
    channel_axis,
    observed_values,
    quantize_static,
    quantize_weights,
    weighted_products,
)

__all__ = [
    "IO_DTYPES",
    "OBSERVERS",
    "REPAIRS",
    "SCHEMES",
    "STATIC",
    "Choices",
    "Moments",
    "Observer",
    "calibrate_values",
    "channel_axis",
    "equalize",
    "integer_interface",
    "norms",
    "observed_values",
    "quantize_static",
    "quantize_weights",
    "smooth",
    "weighed",
    "weighted_products",
]
