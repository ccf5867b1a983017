"""Graph IR: :class:`Graph`, :class:`Node`, :class:`Value`, symbolic :class:`Dim`, text form, verifier, ``.dk`` files."""

from typing import TYPE_CHECKING, Any

from deploykit.graph.dims import Dim, DimLike, Shape, dim_max, dim_min, is_non_negative

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """The names of :mod:`deploykit.graph.ir`, loaded when first asked for: running a model takes dims alone."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deploykit.graph import ir

    return getattr(ir, name)
