"""Functions that NumPy computes for us: on numbers only, outside traced functions, without gradient; each says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src import tree

from deploykit.autodiff import state
from deploykit.autodiff.tape import TapeError
from deploykit.autodiff.tensor import Tensor, TraceError
from deploykit.keras_backend.core import Variable, convert_to_tensor, traced


def host(name: str, f: Callable[..., Any], *inputs: Any, dtype: Any = None) -> Any:
    """``f`` on the inputs as arrays; arrays among its results become tensors.

    TraceError when an input has no numbers yet; a gradient through it raises TapeError when it is asked for.
    """
    inputs = tree.map_structure(lambda x: x.value if isinstance(x, Variable) else x, inputs)
    if traced(inputs):
        raise TraceError(
            f"keras.ops.{name}: the deploykit backend computes it with NumPy, which needs numbers; here an input is traced. "
            "Compute it before the traced step, or compile(run_eagerly=True)."
        )
    arrays = tree.map_structure(lambda x: np.asarray(x) if isinstance(x, Tensor) else x, inputs)
    with np.errstate(all="ignore"):
        out = f(*arrays)
    out = tree.map_structure(
        lambda y: convert_to_tensor(y, dtype) if isinstance(y, (np.ndarray, np.generic)) else y, out
    )
    tensors = tuple(y for y in tree.flatten(out) if isinstance(y, Tensor))

    def backward(_: list[Any]) -> Sequence[Any]:
        raise TapeError(f"keras.ops.{name} has no gradient in the deploykit backend; keep it out of the loss.")

    given = [x for x in tree.flatten(inputs) if isinstance(x, Tensor)]
    for tape in state.current.tapes:
        tape.record(given, tensors, backward)
    return out
