"""Weights out of foreign files, by name: safetensors and GGUF.  Files are memory-mapped; every byte of their headers is
checked before it is followed; no code in them is ever run.

    from deploykit.weights import open_weights
    w = open_weights("model.safetensors")
    w["encoder.layer.0.weight"]          # an array, read when asked for
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph.growth import reading
from deploykit.graph.sniff import what_is

if TYPE_CHECKING:
    from deploykit.weights.gguf import Blocks

__all__ = ["Weights", "open_weights"]


class Weights(Mapping[str, np.ndarray]):
    """Arrays by name, in the file's order; ``metadata`` is what the file says of itself.

    Quantized tensors come as float32; :meth:`blocks` gives their integers and scales.
    """

    metadata: dict[str, object]
    path: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors, without reading them."""
        raise NotImplementedError

    def blocks(self, name: str) -> Blocks | None:
        """Integers and scales of a tensor quantized block by block, None for others."""
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes())

    def __len__(self) -> int:
        return len(self.shapes())

    def __contains__(self, name: object) -> bool:
        return name in self.shapes()


def open_weights(path: str | os.PathLike[str]) -> Weights:
    """Open a ``.safetensors`` or ``.gguf`` file (known by its content).

    Raises FormatError for damaged and foreign files, UnsupportedError for pickles.

    >>> open_weights("model.gguf")["token_embd.weight"].shape      # doctest: +SKIP
    (32000, 4096)
    """
    from deploykit.weights.gguf import Gguf
    from deploykit.weights.safetensors import SafeTensors

    with open(path, "rb") as f:
        head = f.read(512)
    if head[:4] == b"GGUF":
        with reading(path):
            return Gguf(path)
    kind = what_is(head)
    if kind is not None and ("pickle" in kind or "zip" in kind):
        raise UnsupportedError(
            f"{Path(path).name} is {kind}. PyTorch checkpoints are pickles, which could run any code; save them with "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    if len(head) >= 9 and head[8:9] == b"{":
        with reading(path):
            return SafeTensors(path)
    raise FormatError(
        f"{Path(path).name} is neither a safetensors nor a GGUF file" + (f": it is {kind}." if kind else ".")
    )
