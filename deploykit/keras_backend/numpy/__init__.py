"""``keras.backend.numpy``: NumPy's functions with Keras' dtype promotion, made of our ops."""

# ruff: noqa: F403
from deploykit.keras_backend.missing import missing
from deploykit.keras_backend.numpy.elementwise import *
from deploykit.keras_backend.numpy.making import *
from deploykit.keras_backend.numpy.picking import *
from deploykit.keras_backend.numpy.products import *
from deploykit.keras_backend.numpy.reductions import *
from deploykit.keras_backend.numpy.shapes import *
from deploykit.keras_backend.numpy.statistics import *

__getattr__ = missing("numpy")
