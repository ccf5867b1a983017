"""BERT (Devlin et al. 2018): an encoder of texts given as numbers of tokens.  Keras' own is in a package of its own."""

from __future__ import annotations

import os
from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.errors import InputError
from deploykit.keras import initializers, layers
from deploykit.keras.applications.common import finish
from deploykit.keras.models import Input

# layers, width, heads
SIZES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "medium": (8, 512, 8), "base": (12, 768, 12)}


class TokenEmbedding(layers.Layer):
    """[batch, n] numbers of tokens and of segments to [batch, n, width]: token + position + segment; tokens 0 are masked."""

    def __init__(self, vocabulary_size: int, width: int, longest: int, segments: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size, self.width, self.longest, self.segments = vocabulary_size, width, longest, segments

    def build(self, input_shape: Any) -> None:
        def table(name: str, rows: int) -> Any:
            return self.add_weight((rows, self.width), initializers.TruncatedNormal(stddev=0.02), name=name)

        self.tokens, self.positions = table("tokens", self.vocabulary_size), table("positions", self.longest)
        self.kinds = table("segments", self.segments)

    def call(self, inputs: Any) -> Any:
        tokens, kinds = inputs
        n = tokens.shape[1]
        return N.take(self.tokens, tokens, 0) + N.take(self.kinds, kinds, 0) + self.positions[:n]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return N.not_equal(inputs[0], 0)

    def get_config(self) -> dict[str, Any]:
        own = {k: getattr(self, k) for k in ("vocabulary_size", "width", "longest", "segments")}
        return {**super().get_config(), **own}


def BertEncoder(
    size: str = "tiny", vocabulary_size: int = 30522, sequence_length: int = 128, max_sequence_length: int = 512, num_segments: int = 2,
    dropout: float = 0.1, weights: Any = None, include_top: bool = False, classes: int = 2, classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Any:  # fmt: skip
    """The encoder: inputs ``token_ids`` and ``segment_ids`` [batch, sequence_length] (int32; 0 is padding), outputs
    ``sequence`` [batch, sequence_length, width] and ``pooled`` [batch, width]; with ``include_top`` the classes.

    size: tiny, mini, small, medium or base (Turc et al. 2019).  weights: None or a file.

    >>> encoder = BertEncoder("tiny", vocabulary_size=100, sequence_length=16)
    >>> encoder.output_shape
    [(None, 128), (None, 16, 128)]
    """
    if size not in SIZES:
        raise InputError(f"BertEncoder: size={size!r}, expected {', '.join(SIZES)}.")
    if not 1 <= sequence_length <= max_sequence_length:
        raise InputError(
            f"BertEncoder: sequence_length={sequence_length}, expected 1 to max_sequence_length={max_sequence_length}."
        )
    if weights is not None and not os.path.isfile(weights):
        raise InputError(f"BertEncoder: weights={weights!r}; there is no such file. Expected None or a path.")
    depth, width, heads = SIZES[size]
    start = initializers.TruncatedNormal(stddev=0.02)
    tokens = Input((sequence_length,), dtype="int32", name="token_ids")
    kinds = Input((sequence_length,), dtype="int32", name="segment_ids")

    def dense(x: Any, n: int, title: str, activation: Any = None) -> Any:
        return layers.Dense(n, activation, kernel_initializer=start.clone(), name=title)(x)

    def norm(x: Any, title: str) -> Any:
        return layers.LayerNormalization(epsilon=1e-12, name=title)(x)

    x = TokenEmbedding(vocabulary_size, width, max_sequence_length, num_segments, name="embedding")([tokens, kinds])
    x = layers.Dropout(dropout, name="embedding_dropout")(norm(x, "embedding_norm"))
    for i in range(depth):
        at = f"layer_{i}_"
        look = layers.MultiHeadAttention(
            heads, width // heads, dropout=dropout, kernel_initializer=start.clone(), name=at + "attention"
        )
        y = layers.Dropout(dropout, name=at + "attention_dropout")(look(x, x))
        x = norm(layers.Add(name=at + "attention_add")([x, y]), at + "attention_norm")
        y = dense(dense(x, 4 * width, at + "intermediate", "gelu"), width, at + "output")
        y = layers.Dropout(dropout, name=at + "output_dropout")(y)
        x = norm(layers.Add(name=at + "output_add")([x, y]), at + "output_norm")
    pooled = dense(x[:, 0], width, "pooled_dense", "tanh")
    if include_top:
        y = layers.Dropout(dropout, name="top_dropout")(pooled)
        outputs: Any = dense(y, classes, "predictions", classifier_activation)
    else:
        outputs = {"sequence": x, "pooled": pooled}
    inputs = {"token_ids": tokens, "segment_ids": kinds}
    return finish(inputs, outputs, name or f"bert_{size}", weights)
