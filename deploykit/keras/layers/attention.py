"""Attention layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff import random
from deploykit.errors import InputError
from deploykit.keras import constraints, initializers, regularizers
from deploykit.keras.layers.base import Layer
from deploykit.keras.layers.core import EinsumDense
from deploykit.ops.core import F

_NEVER = -3.4e38 / 2


class Attention(Layer):
    """Dot-product attention of [query, value(, key)] (Luong et al., 2015)."""

    def __init__(self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0, seed: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise InputError(f"Attention: got score_mode={score_mode!r}, expected dot or concat.")
        self.use_scale, self.score_mode, self.dropout = use_scale, score_mode, dropout
        self._generator = random.Generator(seed) if seed is not None else random.default_generator()

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None
        self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight") if self.score_mode == "concat" else None  # fmt: skip

    def _scores(self, q: Any, k: Any) -> Any:
        if self.score_mode == "dot":
            s = N.matmul(q, N.swapaxes(k, -1, -2))
            return s if self.scale is None else s * self.scale
        a = N.expand_dims(q, -2) + N.expand_dims(k, -3)
        a = a if self.scale is None else a * self.scale
        return self.concat_score_weight * N.sum(N.tanh(a), -1)

    def call(self, inputs: Any, mask: Any = None, training: bool = False, return_attention_scores: bool = False, use_causal_mask: bool = False) -> Any:  # fmt: skip
        q, v = inputs[0], inputs[1]
        k = inputs[2] if len(inputs) > 2 else v
        s = self._scores(q, k)
        if use_causal_mask:
            t, n = int(s.shape[-2]), int(s.shape[-1])
            s = N.where(np.tril(np.ones((t, n), bool)), s, _NEVER)
        if mask is not None and len(mask) > 1 and mask[1] is not None:
            s = N.where(N.expand_dims(mask[1], -2), s, _NEVER)
        w = N.softmax(s)
        if training and self.dropout:
            w = random.dropout(w, self.dropout, seed=self._generator)
        y = N.matmul(w, v)
        if mask is not None and mask[0] is not None:
            y = y * N.cast(N.expand_dims(mask[0], -1), y.dtype)
        return (y, w) if return_attention_scores else y

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask[0] if previous_mask else None


class AdditiveAttention(Attention):
    """Scores by tanh of sums (Bahdanau et al., 2015)."""

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, seed: Any = None, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, seed=seed, **kwargs)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale") if self.use_scale else None

    def _scores(self, q: Any, k: Any) -> Any:
        t = N.tanh(N.expand_dims(q, -2) + N.expand_dims(k, -3))
        return N.sum(t if self.scale is None else t * self.scale, -1)


class _Heads(Layer):
    """Layers of (query, value, key): their shapes together decide the weights."""

    _given_shapes: list[Any]
    _how: dict[str, Any]
    use_bias: bool

    def _dense(self, name: str, equation: str, shape: Any, bias: str) -> EinsumDense:
        how = {k: (v.clone() if hasattr(v, "clone") else v) for k, v in self._how.items()}
        return EinsumDense(equation, shape, bias_axes=bias if self.use_bias else None, name=name, **how)

    def _maybe_build(self, first: Any) -> None:
        if not self.built:
            q, v, k = self._given_shapes
            from deploykit.keras.layers.base import _untraced

            with _untraced():
                self.build(q, v, k)
            self._build_shape = None
            self.built = True

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ["query", "value", "key"]
        given = dict(zip(names, args, strict=False)) | {n: kwargs[n] for n in names if n in kwargs}
        shape = lambda x: None if x is None else tuple(d if isinstance(d, int) else None for d in x.shape)  # noqa: E731
        self._given_shapes = [shape(given.get(n)) for n in names]
        return super()._run(args, kwargs)

    def get_build_config(self) -> Any:
        return {"shapes_dict": dict(zip(("query_shape", "value_shape", "key_shape"), self._given_shapes, strict=True))} if self.built else None  # fmt: skip

    def build_from_config(self, config: dict[str, Any]) -> None:
        s = config.get("shapes_dict", config)
        if not self.built and "query_shape" in s:
            self.build(s["query_shape"], s.get("value_shape"), s.get("key_shape"))
            self._given_shapes, self.built = [s["query_shape"], s.get("value_shape"), s.get("key_shape")], True

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask


class MultiHeadAttention(_Heads):
    """Vaswani et al. (2017): projections to heads, scaled dot products, projection back."""

    def __init__(self, num_heads: int, key_dim: int, value_dim: int | None = None, dropout: float = 0.0, use_bias: bool = True, output_shape: Any = None, attention_axes: Any = None, flash_attention: Any = None, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, seed: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if attention_axes not in (None, 1) and list(attention_axes) != [1]:
            raise InputError("MultiHeadAttention: attention_axes is not supported; reshape to [batch, time, features].")
        self.supports_masking = True
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim or key_dim
        self.dropout, self.use_bias = dropout, use_bias
        self._output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        self._generator = random.Generator(seed) if seed is not None else random.default_generator()
        self._how = dict(kernel_initializer=initializers.get(kernel_initializer), bias_initializer=initializers.get(bias_initializer), kernel_regularizer=regularizers.get(kernel_regularizer), bias_regularizer=regularizers.get(bias_regularizer), kernel_constraint=constraints.get(kernel_constraint), bias_constraint=constraints.get(bias_constraint))  # fmt: skip

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        value_shape = value_shape or query_shape
        key_shape = key_shape or value_shape
        h = self.num_heads
        self.query_dense = self._dense("query", "abc,cde->abde", (None, h, self.key_dim), "de")
        self.key_dense = self._dense("key", "abc,cde->abde", (None, h, self.key_dim), "de")
        self.value_dense = self._dense("value", "abc,cde->abde", (None, h, self.value_dim), "de")
        out = self._output_shape or (query_shape[-1],)
        if len(out) != 1:
            raise InputError(f"MultiHeadAttention: output_shape={out}, expected one size.")
        self.output_dense = self._dense("attention_output", "abcd,cde->abe", (None, out[0]), "e")
        for d, s in ((self.query_dense, query_shape), (self.key_dense, key_shape), (self.value_dense, value_shape)):
            d.build(s)
            d.built = True
        self.output_dense.build((*query_shape[:2], h, self.value_dim))
        self.output_dense.built = True

    def call(self, query: Any, value: Any, key: Any = None, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None, return_attention_scores: bool = False, training: bool = False, use_causal_mask: bool = False, mask: Any = None) -> Any:  # fmt: skip
        key = value if key is None else key
        value_mask = getattr(value, "_keras_mask", None) if value_mask is None else value_mask
        query_mask = getattr(query, "_keras_mask", None) if query_mask is None else query_mask
        allowed = self._allowed(query, key, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        q, k, v = (
            N.swapaxes(d(x), 1, 2)
            for d, x in ((self.query_dense, query), (self.key_dense, key), (self.value_dense, value))
        )
        dropping = training and self.dropout > 0
        w = None
        if dropping or return_attention_scores:
            s = N.matmul(q * (1.0 / math.sqrt(self.key_dim)), N.swapaxes(k, -1, -2))
            w = N.softmax(s if allowed is None else N.where(allowed, s, _NEVER))
            y = N.matmul(random.dropout(w, self.dropout, seed=self._generator) if dropping else w, v)
        else:
            y = F.attention(q, k, v, allowed)
        y = self.output_dense(N.swapaxes(y, 1, 2))
        return (y, w) if return_attention_scores else y

    @staticmethod
    def _allowed(query: Any, key: Any, query_mask: Any, value_mask: Any, key_mask: Any, attention_mask: Any, causal: bool) -> Any:  # fmt: skip
        out = None

        def both(a: Any, b: Any) -> Any:
            return b if a is None else N.logical_and(a, b)

        if query_mask is not None:
            out = both(out, N.expand_dims(N.cast(query_mask, "bool"), -1))
        for m in (value_mask, key_mask):
            if m is not None:
                out = both(out, N.expand_dims(N.cast(m, "bool"), -2))
        if causal:
            t, n = N.shape(query)[1], N.shape(key)[1]
            rows, cols = N.expand_dims(N.arange(t, dtype="int64"), -1), N.expand_dims(N.arange(n, dtype="int64"), 0)
            out = both(out, N.expand_dims(N.greater_equal(rows, cols), 0))
        if attention_mask is not None:
            out = both(out, N.cast(attention_mask, "bool"))
        if out is None:
            return None
        while out.ndim < 4:
            out = N.expand_dims(out, -3)
        return out


class GroupQueryAttention(_Heads):
    """Heads of queries in groups that share keys and values (Ainslie et al., 2023)."""

    file_name, file_prefix = "grouped_query_attention", "_"  # how Keras' files call it and its parts

    def __init__(self, head_dim: int, num_query_heads: int, num_key_value_heads: int, dropout: float = 0.0, use_bias: bool = True, flash_attention: Any = None, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, seed: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if num_query_heads % num_key_value_heads:
            raise InputError(f"GroupQueryAttention: num_query_heads={num_query_heads}, expected a multiple of {num_key_value_heads}.")  # fmt: skip
        self.supports_masking = True
        self.head_dim, self.heads, self.kv_heads = head_dim, num_query_heads, num_key_value_heads
        self.dropout, self.use_bias = dropout, use_bias
        self._generator = random.Generator(seed) if seed is not None else random.default_generator()
        self._how = dict(kernel_initializer=initializers.get(kernel_initializer), bias_initializer=initializers.get(bias_initializer), kernel_regularizer=regularizers.get(kernel_regularizer), bias_regularizer=regularizers.get(bias_regularizer), kernel_constraint=constraints.get(kernel_constraint), bias_constraint=constraints.get(bias_constraint))  # fmt: skip

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        value_shape = value_shape or query_shape
        make = self._dense
        d = self.head_dim
        self.query_dense = make("query", "bqm,muh->bquh", (None, self.heads, d), "uh")
        self.key_dense = make("key", "bkm,mvh->bkvh", (None, self.kv_heads, d), "vh")
        self.value_dense = make("value", "bkm,mvh->bkvh", (None, self.kv_heads, d), "vh")
        self.output_dense = make("attention_output", "bquh,uhm->bqm", (None, query_shape[-1]), "m")
        for layer, s in ((self.query_dense, query_shape), (self.key_dense, key_shape or value_shape), (self.value_dense, value_shape), (self.output_dense, (*query_shape[:2], self.heads, d))):  # fmt: skip
            layer.build(s)
            layer.built = True

    def call(self, query: Any, value: Any, key: Any = None, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None, return_attention_scores: bool = False, training: bool = False, use_causal_mask: bool = False, mask: Any = None) -> Any:  # fmt: skip
        key = value if key is None else key
        allowed = MultiHeadAttention._allowed(
            query, key, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
        )
        q, k, v = (
            N.swapaxes(d(x), 1, 2)
            for d, x in ((self.query_dense, query), (self.key_dense, key), (self.value_dense, value))
        )
        k, v = (N.repeat(t, self.heads // self.kv_heads, 1) for t in (k, v))
        s = N.matmul(q * (1.0 / math.sqrt(self.head_dim)), N.swapaxes(k, -1, -2))
        w = N.softmax(s if allowed is None else N.where(allowed, s, _NEVER))
        dropped = random.dropout(w, self.dropout, seed=self._generator) if training and self.dropout else w
        y = self.output_dense(N.swapaxes(N.matmul(dropped, v), 1, 2))
        return (y, w) if return_attention_scores else y
