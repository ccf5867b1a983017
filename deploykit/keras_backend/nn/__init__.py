"""``keras.backend.nn``: activations, convolutions, pooling, losses, attention."""

# ruff: noqa: F403
from deploykit.keras_backend.missing import missing
from deploykit.keras_backend.nn.activations import *
from deploykit.keras_backend.nn.convolutions import *
from deploykit.keras_backend.nn.ctc import *
from deploykit.keras_backend.nn.losses import *
from deploykit.keras_backend.nn.pooling import *

__getattr__ = missing("nn")
