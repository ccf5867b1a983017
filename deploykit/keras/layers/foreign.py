"""What files of Keras name besides its layers: operations of ``keras.ops`` in a functional model, and the two layers that
``keras.applications`` defines for itself (ConvNeXt's scale: Touvron et al. 2021; Inception-ResNet's: Szegedy et al. 2016).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.errors import InputError
from deploykit.keras.layers.base import Layer
from deploykit.keras.serialize import serialize, snake_case, unique_name

_RENAMED = {"Absolute": "abs", "Amax": "max", "Amin": "min", "Swapaxes": "swapaxes", "Arctan2": "arctan2",
            "Divmod": "divmod", "TrueDivide": "divide", "HardSwish": "hard_silu", "Swish": "silu"}  # fmt: skip


def _get_item(x: Any, key: Any) -> Any:
    return x[tuple(key) if isinstance(key, (list, tuple)) else key]


def _function(name: str) -> Callable[..., Any] | None:
    from deploykit.keras import ops

    if name == "GetItem":
        return _get_item
    return getattr(ops, _RENAMED.get(name, snake_case(name)), None)


class KerasOp(Layer):
    """A call of an operation of ``keras.ops`` by its class name, such as ``Add`` for ``x + 3.0``."""

    def __init__(self, operation: str, module: str, options: dict[str, Any], name: str | None = None) -> None:
        super().__init__(name=name or unique_name(snake_case(operation)))
        self.operation, self.module, self.options = operation, module, options
        function = _function(operation)
        if function is None:
            raise InputError(
                f"operation '{self.name}': a saved model uses keras.ops '{operation}', which is not here. Put it into a "
                "layer of your own that is registered on both sides, or write it with other operations."
            )
        self.function = function
        self.built = True

    def _convert(self, x: Any) -> Any:
        return x

    def call(self, *args: Any, **kwargs: Any) -> Any:
        known = inspect.signature(self.function).parameters
        # an option that the function lacks may only be one that asks for nothing, or the policy that every one has
        options = {k: v for k, v in self.options.items() if k in known or v not in (None, False) and k != "dtype"}
        if unknown := sorted(set(options) - set(known)):
            raise InputError(
                f"operation '{self.name}' ({self.operation}): got option {', '.join(unknown)}, expected one of "
                f"{', '.join(known)}. Write it with other operations."
            )
        return self.function(*args, **options, **kwargs)

    def keras_form(self) -> dict[str, Any]:
        """The operation as Keras writes it."""
        config = {"name": self.name, **{k: serialize(v) for k, v in self.options.items()}}
        return {"module": self.module, "class_name": self.operation, "config": config, "registered_name": self.operation}  # fmt: skip


class LayerScale(Layer):
    """``x * gamma`` with one factor per channel."""

    def __init__(self, init_values: float, projection_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape: Any) -> None:
        from deploykit.keras.initializers import Constant

        self.gamma = self.add_weight((self.projection_dim,), Constant(self.init_values), name="gamma")
        self.built = True

    def call(self, x: Any) -> Any:
        return N.multiply(x, self.gamma)


class CustomScaleLayer(Layer):
    """``inputs[0] + inputs[1] * scale``."""

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Any) -> Any:
        return N.add(inputs[0], N.multiply(inputs[1], self.scale))
