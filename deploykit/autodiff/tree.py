"""Nests of lists, tuples, dicts and dataclass-like named tuples: take apart and put together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flatten(nest: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """(leaves in order, function that builds the same nest from other leaves).  Dicts go by sorted key.

    >>> leaves, build = flatten({"b": 1, "a": [2, 3]})
    >>> leaves, build([x * 10 for x in leaves])
    ([2, 3, 1], {'b': 10, 'a': [20, 30]})
    """
    leaves: list[Any] = []
    spec = _take(nest, leaves)

    def build(new: list[Any]) -> Any:
        it = iter(new)
        return _put(spec, it)

    return leaves, build


def structure(nest: Any) -> Any:
    """A hashable description of a nest, leaves left out."""
    if isinstance(nest, dict):
        return ("dict", tuple((k, structure(nest[k])) for k in sorted(nest)))
    if isinstance(nest, (list, tuple)):
        return (type(nest).__name__, tuple(structure(x) for x in nest))
    return "*"


def map_structure(f: Callable[..., Any], nest: Any, *others: Any) -> Any:
    """f on each leaf (and the leaves at the same place of other nests), in the nest of the first."""
    leaves, build = flatten(nest)
    rest = [flatten(o)[0] for o in others]
    return build([f(*xs) for xs in zip(leaves, *rest, strict=True)])


def _take(nest: Any, leaves: list[Any]) -> Any:
    if isinstance(nest, dict):
        taken = {k: _take(nest[k], leaves) for k in sorted(nest)}
        return ("dict", type(nest), list(nest), taken)
    if isinstance(nest, (list, tuple)):
        return ("seq", type(nest), [_take(x, leaves) for x in nest])
    leaves.append(nest)
    return None


def _put(spec: Any, leaves: Any) -> Any:
    if spec is None:
        return next(leaves)
    if spec[0] == "dict":
        _, kind, order, parts = spec
        got = {k: _put(s, leaves) for k, s in parts.items()}
        made = {k: got[k] for k in order}
        return made if kind is dict else kind(made)
    _, kind, parts = spec
    items = [_put(s, leaves) for s in parts]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)
