"""The op vocabulary: every operator described once (see :mod:`deploykit.ops.core`), callable as a function.

>>> from deploykit import ops
>>> ops.get("leaky_relu").attrs["alpha"].default
0.01
"""

from __future__ import annotations

from typing import Any

from deploykit.ops import (  # noqa: F401
    activation,
    attention,
    control,
    conv,
    convert,
    dynamic,
    elementwise,
    image,
    index,
    layout,
    matmul,
    norm,
    pool,
    quantize,
    quantized,
    random,
    recurrent,
    reduce,
    select,
    shape,
    signal,
    unary,
)
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import BY_OPCODE, REGISTRY, F, Op, Spec, get
from deploykit.ops.infer import infer_graph, infer_node, infer_op

__all__ = ["BY_OPCODE", "REGISTRY", "F", "GraphBuilder", "Op", "Spec", "get", "infer_graph", "infer_node", "infer_op"]


def __getattr__(name: str) -> Any:
    # families are modules (ops.conv is the file); F.<op> below gives ops as functions
    if name in REGISTRY:
        return REGISTRY[name]
    raise AttributeError(f"module 'deploykit.ops' has no attribute {name!r}")
