"""Text in models: the engine carries it as code points, an int32 tensor with one more dim, rows filled up with zeros.

``metadata["strings"]`` names the inputs and outputs that are text: ``{"inputs": ["x"], "outputs": []}``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.errors import InputError


def encode(text: Any) -> np.ndarray:
    """Text as code points.

    >>> encode([["hi", "a"]]).tolist()
    [[[104, 105], [97, 0]]]
    """
    a = np.asarray(text)
    if a.dtype.kind in "SO":
        flat = [x.decode("utf-8") if isinstance(x, bytes) else str(x) for x in a.ravel()]
        a = np.array(flat or [""], "U")[: len(flat)].reshape(a.shape)
    a = np.asarray(a, a.dtype.newbyteorder("<"), order="C")
    return a[..., None].view(np.int32).reshape(*a.shape, a.itemsize // 4)


def decode(codes: np.ndarray) -> np.ndarray:
    """Code points as an array of ``str`` objects.

    >>> decode(np.array([[104, 105], [97, 0]])).tolist()
    ['hi', 'a']
    """
    shape, length = codes.shape[:-1], codes.shape[-1]
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 0x110000:
        wrong = next(int(c) for c in codes.ravel() if not 0 <= c < 0x110000)
        raise InputError(f"text: {wrong} is no character; code points are 0 to {0x110000 - 1}. Give text as str.")
    rows = codes.reshape(-1, length) if length else np.zeros((int(np.prod(shape)), 0), np.int32)
    out = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        out[i] = "".join(chr(c) for c in row if c)
    return out.reshape(shape)
