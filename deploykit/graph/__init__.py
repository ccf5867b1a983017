"""Graph IR: :class:`Graph`, :class:`Node`, :class:`Value`, symbolic :class:`Dim`, text form, verifier, ``.dk`` files."""

from deploykit.graph.dims import Dim, DimLike, Shape, dim_max, dim_min, is_non_negative
from deploykit.graph.ir import Graph, Node, QuantParams, Value, Variable, replace_uses

__all__ = [
    "Dim",
    "DimLike",
    "Graph",
    "Node",
    "QuantParams",
    "Shape",
    "Value",
    "Variable",
    "dim_max",
    "dim_min",
    "is_non_negative",
    "replace_uses",
]
