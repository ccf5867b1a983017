"""Convolutions and pooling, channels last, kernels in Keras' order [spatial..., in, out]."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.errors import InputError
from deploykit.keras import activations, constraints, initializers, regularizers
from deploykit.keras.layers.base import InputSpec, Layer
from deploykit.keras.layers.core import _channels_last
from deploykit.ops.core import F


def _tuple(x: Any, n: int, what: str) -> tuple[int, ...]:
    t = (x,) * n if not isinstance(x, (list, tuple)) else tuple(x)
    if len(t) != n or any(not isinstance(v, int) or v < 1 for v in t):
        raise InputError(f"{what}: got {x!r}, expected a number of 1 or more, or {n} of them.")
    return t


class _Conv(Layer):
    """What all convolutions share; ``rank`` spatial dims."""

    rank = 2

    def _setup(self, kernel_size: Any, strides: Any, padding: str, dilation_rate: Any, activation: Any, use_bias: bool, bias: tuple[Any, Any, Any], data_format: Any) -> None:  # fmt: skip
        _channels_last(self, data_format)
        n = self.rank
        self.kernel_size = _tuple(kernel_size, n, "kernel_size")
        self.strides, self.dilation_rate = _tuple(strides, n, "strides"), _tuple(dilation_rate, n, "dilation_rate")
        self.padding = padding.lower()
        allowed = ("valid", "same", "causal") if n == 1 else ("valid", "same")
        if self.padding not in allowed:
            raise InputError(f"{type(self).__name__}: got padding={padding!r}, expected one of {', '.join(allowed)}.")
        self.activation, self.use_bias = activations.get(activation), use_bias
        self._bias = (initializers.get(bias[0]), regularizers.get(bias[1]), constraints.get(bias[2]))
        self.input_spec = InputSpec(ndim=n + 2)

    def _add_bias(self, size: int) -> None:
        b = self._bias
        self.bias = (
            self.add_weight((size,), b[0], name="bias", regularizer=b[1], constraint=b[2]) if self.use_bias else None
        )

    def _geometry(self, x: Any) -> tuple[Any, dict[str, Any]]:
        how: dict[str, Any] = dict(strides=self.strides, dilations=self.dilation_rate)
        if self.padding == "causal":
            x = N.pad(x, [(0, 0), (self.dilation_rate[0] * (self.kernel_size[0] - 1), 0), (0, 0)])
        elif self.padding == "same":
            how["pad_mode"] = "same_upper"
        return x, how

    def _finish(self, y: Any) -> Any:
        return self.activation(y)


def _order(n: int) -> tuple[int, ...]:
    """[spatial..., in, out] to [out, spatial..., in]."""
    return (n + 1, *range(n), n)


def _conv(n: int) -> type[Layer]:
    def init(self: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1, groups: int = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self._setup(kernel_size, strides, padding, dilation_rate, activation, use_bias, (bias_initializer, bias_regularizer, bias_constraint), data_format)  # fmt: skip
        if filters <= 0 or filters % groups:
            raise InputError(f"Conv{n}D: got filters={filters}, expected a positive multiple of groups={groups}.")
        self.filters, self.groups = filters, groups
        self._kernel = (
            initializers.get(kernel_initializer),
            regularizers.get(kernel_regularizer),
            constraints.get(kernel_constraint),
        )

    def build(self: Any, input_shape: Any) -> None:
        c = input_shape[-1]
        if isinstance(c, int) and c % self.groups:
            raise InputError(f"layer '{self.name}': {c} channels are not a multiple of groups={self.groups}.")
        k = self._kernel
        self.kernel = self.add_weight(
            (*self.kernel_size, c and c // self.groups, self.filters),
            k[0],
            name="kernel",
            regularizer=k[1],
            constraint=k[2],
        )
        self._add_bias(self.filters)
        self.input_spec = InputSpec(ndim=n + 2, axes={-1: c})

    def call(self: Any, inputs: Any) -> Any:
        x, how = self._geometry(inputs)
        y = F.conv(x, N.transpose(self.kernel, _order(n)), self.bias, groups=self.groups, **how)
        return self._finish(y)

    return type(f"Conv{n}D", (_Conv,), {"__init__": init, "build": build, "call": call, "rank": n, "__doc__": f"Convolution over {n} dim(s).", "__module__": __name__})  # fmt: skip


def _conv_transpose(n: int) -> type[Layer]:
    def init(self: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", output_padding: Any = None, data_format: Any = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self._setup(kernel_size, strides, padding, dilation_rate, activation, use_bias, (bias_initializer, bias_regularizer, bias_constraint), data_format)  # fmt: skip
        self.filters = filters
        self.output_padding = None if output_padding is None else (output_padding,) * n if isinstance(output_padding, int) else tuple(output_padding)  # fmt: skip
        self._kernel = (
            initializers.get(kernel_initializer),
            regularizers.get(kernel_regularizer),
            constraints.get(kernel_constraint),
        )

    def build(self: Any, input_shape: Any) -> None:
        k = self._kernel
        self.kernel = self.add_weight(
            (*self.kernel_size, self.filters, input_shape[-1]), k[0], name="kernel", regularizer=k[1], constraint=k[2]
        )
        self._add_bias(self.filters)

    def call(self: Any, inputs: Any) -> Any:
        before, after, extra = [], [], []
        for k, s, d, p in zip(
            self.kernel_size, self.strides, self.dilation_rate, self.output_padding or (None,) * n, strict=True
        ):
            k = (k - 1) * d + 1
            # the padding of the convolution that this one turns round
            if self.padding == "same":
                total = max(k - s, 0) if p is None else 2 * (k // 2) - (1 - k % 2) * 0
                left = total // 2 if p is None else k // 2
                right = total - left
                e = max(s - k, 0) if p is None else p
            else:
                left = right = 0
                e = max(s - k, 0) if p is None else p
            before.append(left)
            after.append(right)
            extra.append(e)
        w = N.transpose(self.kernel, (n + 1, *range(n), n))  # [in, spatial..., out]
        y = F.conv_transpose(inputs, w, self.bias, strides=self.strides, dilations=self.dilation_rate, pads=(*before, *after), output_padding=tuple(extra))  # fmt: skip
        return self._finish(y)

    return type(f"Conv{n}DTranspose", (_Conv,), {"__init__": init, "build": build, "call": call, "rank": n, "__doc__": f"Transposed convolution over {n} dim(s).", "__module__": __name__})  # fmt: skip


def _depthwise_weight(kernel: Any, n: int) -> Any:
    """[spatial..., C, m] to [C * m, spatial..., 1]."""
    k = N.transpose(kernel, (n, n + 1, *range(n)))
    c, m, *size = k.shape
    return N.reshape(k, (c * m, *size, 1))


def _depthwise(n: int) -> type[Layer]:
    def init(self: Any, kernel_size: Any, strides: Any = 1, padding: str = "valid", depth_multiplier: int = 1, data_format: Any = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", depthwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, depthwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self._setup(kernel_size, strides, padding, dilation_rate, activation, use_bias, (bias_initializer, bias_regularizer, bias_constraint), data_format)  # fmt: skip
        self.depth_multiplier = depth_multiplier
        self._kernel = (
            initializers.get(depthwise_initializer),
            regularizers.get(depthwise_regularizer),
            constraints.get(depthwise_constraint),
        )

    def build(self: Any, input_shape: Any) -> None:
        k, c = self._kernel, input_shape[-1]
        self.kernel = self.add_weight(
            (*self.kernel_size, c, self.depth_multiplier), k[0], name="kernel", regularizer=k[1], constraint=k[2]
        )
        self._add_bias(c * self.depth_multiplier)
        self.input_spec = InputSpec(ndim=n + 2, axes={-1: c})

    def call(self: Any, inputs: Any) -> Any:
        x, how = self._geometry(inputs)
        return self._finish(F.conv(x, _depthwise_weight(self.kernel, n), self.bias, groups=int(x.shape[-1]), **how))

    return type(f"DepthwiseConv{n}D", (_Conv,), {"__init__": init, "build": build, "call": call, "rank": n, "__doc__": "Each channel by itself.", "__module__": __name__})  # fmt: skip


def _separable(n: int) -> type[Layer]:
    def init(self: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1, depth_multiplier: int = 1, activation: Any = None, use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform", pointwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, depthwise_constraint: Any = None, pointwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self._setup(kernel_size, strides, padding, dilation_rate, activation, use_bias, (bias_initializer, bias_regularizer, bias_constraint), data_format)  # fmt: skip
        self.filters, self.depth_multiplier = filters, depth_multiplier
        self._depth = (
            initializers.get(depthwise_initializer),
            regularizers.get(depthwise_regularizer),
            constraints.get(depthwise_constraint),
        )
        self._point = (
            initializers.get(pointwise_initializer),
            regularizers.get(pointwise_regularizer),
            constraints.get(pointwise_constraint),
        )

    def build(self: Any, input_shape: Any) -> None:
        d, p, c = self._depth, self._point, input_shape[-1]
        self.depthwise_kernel = self.add_weight((*self.kernel_size, c, self.depth_multiplier), d[0], name="depthwise_kernel", regularizer=d[1], constraint=d[2])  # fmt: skip
        self.pointwise_kernel = self.add_weight((*[1] * n, c * self.depth_multiplier, self.filters), p[0], name="pointwise_kernel", regularizer=p[1], constraint=p[2])  # fmt: skip
        self._add_bias(self.filters)

    def call(self: Any, inputs: Any) -> Any:
        x, how = self._geometry(inputs)
        y = F.conv(x, _depthwise_weight(self.depthwise_kernel, n), None, groups=int(x.shape[-1]), **how)
        return self._finish(F.conv(y, N.transpose(self.pointwise_kernel, _order(n)), self.bias))

    return type(f"SeparableConv{n}D", (_Conv,), {"__init__": init, "build": build, "call": call, "rank": n, "__doc__": "Each channel by itself, then all together.", "__module__": __name__})  # fmt: skip


Conv1D, Conv2D, Conv3D = map(_conv, (1, 2, 3))
Conv1DTranspose, Conv2DTranspose, Conv3DTranspose = map(_conv_transpose, (1, 2, 3))
DepthwiseConv1D, DepthwiseConv2D = map(_depthwise, (1, 2))
SeparableConv1D, SeparableConv2D = map(_separable, (1, 2))
Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D


# ---------------------------------------------------------------- pooling
def _pooling(kind: str, n: int) -> type[Layer]:
    op = {"Max": "max_pool", "Average": "avg_pool"}[kind]

    def init(self: Any, pool_size: Any = 2, strides: Any = None, padding: str = "valid", data_format: Any = None, name: Any = None, **kwargs: Any) -> None:  # fmt: skip
        Layer.__init__(self, name=name, **kwargs)
        _channels_last(self, data_format)
        self.pool_size = _tuple(pool_size, n, "pool_size")
        self.strides = self.pool_size if strides is None else _tuple(strides, n, "strides")
        if padding not in ("valid", "same"):
            raise InputError(f"{kind}Pooling{n}D: got padding={padding!r}, expected valid or same.")
        self.padding = padding
        self.input_spec = InputSpec(ndim=n + 2)

    def call(self: Any, inputs: Any) -> Any:
        mode = "same_upper" if self.padding == "same" else "explicit"
        out = getattr(F, op)(inputs, kernel=self.pool_size, strides=self.strides, pad_mode=mode)
        return out[0] if isinstance(out, tuple) else out

    return type(f"{kind}Pooling{n}D", (Layer,), {"__init__": init, "call": call, "__doc__": f"{kind} of windows.", "__module__": __name__})  # fmt: skip


def _global(kind: str, n: int) -> type[Layer]:
    def init(self: Any, data_format: Any = None, keepdims: bool = False, **kwargs: Any) -> None:
        Layer.__init__(self, **kwargs)
        _channels_last(self, data_format)
        self.keepdims = keepdims
        self.supports_masking = n == 1 and kind == "Average"
        self.input_spec = InputSpec(ndim=n + 2)

    axes = tuple(range(1, n + 1))

    def call(self: Any, inputs: Any, mask: Any = None) -> Any:
        if mask is not None and n == 1 and kind == "Average":
            m = N.expand_dims(N.cast(mask, inputs.dtype), 2)
            return N.sum(inputs * m, 1, self.keepdims) / N.sum(m, 1, self.keepdims)
        return (N.mean if kind == "Average" else N.max)(inputs, axes, self.keepdims)

    def compute_mask(self: Any, inputs: Any, previous_mask: Any) -> None:
        return None

    body = {"__init__": init, "call": call, "compute_mask": compute_mask, "__module__": __name__}
    return type(f"Global{kind}Pooling{n}D", (Layer,), body | {"__doc__": f"{kind} over space."})


def _adaptive(kind: str, n: int) -> type[Layer]:
    def init(self: Any, output_size: Any, data_format: Any = None, **kwargs: Any) -> None:
        Layer.__init__(self, **kwargs)
        _channels_last(self, data_format)
        self.output_size = _tuple(output_size, n, "output_size")
        self.input_spec = InputSpec(ndim=n + 2)

    def call(self: Any, inputs: Any) -> Any:
        x = inputs
        for axis, out in enumerate(self.output_size, 1):
            size = x.shape[axis]
            if not isinstance(size, int):
                raise InputError(f"layer '{self.name}': dim {axis} must be known.")
            parts = []
            for i in range(out):
                a, b = i * size // out, -(-(i + 1) * size // out)
                window = x[(slice(None),) * axis + (slice(a, b),)]
                parts.append((N.mean if kind == "Average" else N.max)(window, axis, keepdims=True))
            x = N.concatenate(parts, axis)
        return x

    return type(f"Adaptive{kind}Pooling{n}D", (Layer,), {"__init__": init, "call": call, "__doc__": f"{kind} of as many windows as asked for.", "__module__": __name__})  # fmt: skip


MaxPooling1D, MaxPooling2D, MaxPooling3D = (_pooling("Max", n) for n in (1, 2, 3))
AveragePooling1D, AveragePooling2D, AveragePooling3D = (_pooling("Average", n) for n in (1, 2, 3))
GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D = (_global("Max", n) for n in (1, 2, 3))
GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalAveragePooling3D = (_global("Average", n) for n in (1, 2, 3))
AdaptiveMaxPooling1D, AdaptiveMaxPooling2D, AdaptiveMaxPooling3D = (_adaptive("Max", n) for n in (1, 2, 3))
AdaptiveAveragePooling1D, AdaptiveAveragePooling2D, AdaptiveAveragePooling3D = (
    _adaptive("Average", n) for n in (1, 2, 3)
)
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = (
    Conv1DTranspose,
    Conv2DTranspose,
    Conv3DTranspose,
)
del np
