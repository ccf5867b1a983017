"""Layers with Keras 3's names, arguments and defaults; all channels last."""

from __future__ import annotations

from deploykit.keras.layers import attention, base, conv, core, norm, preprocessing, rnn
from deploykit.keras.layers.base import InputSpec, Layer

_MODULES = (core, conv, norm, attention, rnn, preprocessing)
__all__ = ["InputSpec", "Layer"]
for _m in _MODULES:
    for _n, _v in vars(_m).items():
        public = isinstance(_v, type) and issubclass(_v, Layer) and _n[0].isupper() and not _n.startswith("_")
        if public or _n in ("add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate", "dot"):
            globals()[_n] = _v
            __all__.append(_n)
__all__ = sorted(set(__all__))


def __getattr__(name: str) -> object:
    # Input and InputLayer live with the functional models, which stand above the layers
    if name in ("Input", "InputLayer"):
        from deploykit.keras.models import functional

        return getattr(functional, name)
    raise AttributeError(f"module 'deploykit.keras.layers' has no attribute {name!r}")


del base
