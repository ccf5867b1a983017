"""VGG with 19 layers."""

from __future__ import annotations

from deploykit.keras.applications.vgg16 import make, preprocess_input  # noqa: F401

VGG19 = make("VGG19", (2, 2, 4, 4, 4))
