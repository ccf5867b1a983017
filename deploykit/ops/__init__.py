"""The op vocabulary: every operator described once (see :mod:`deploykit.ops.core`), callable as a function.

Families are files of this folder and are imported when one of their ops is first asked for.

>>> from deploykit import ops
>>> ops.get("leaky_relu").attrs["alpha"].default
0.01
"""

from __future__ import annotations

import importlib
from typing import Any

from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import BY_OPCODE, REGISTRY, F, Op, Spec, get
from deploykit.ops.families import FAMILIES
from deploykit.ops.infer import infer_graph, infer_node, infer_op

__all__ = ["BY_OPCODE", "REGISTRY", "F", "GraphBuilder", "Op", "Spec", "get", "infer_graph", "infer_node", "infer_op"]


def __getattr__(name: str) -> Any:
    # families are modules (ops.conv is the file); F.<op> below gives ops as functions
    if name in FAMILIES:
        return importlib.import_module(f"deploykit.ops.{name}")
    if name in REGISTRY:
        return REGISTRY[name]
    raise AttributeError(f"module 'deploykit.ops' has no attribute {name!r}")
