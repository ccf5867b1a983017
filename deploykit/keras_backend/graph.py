"""A stock Keras model as a Graph, by tracing its call with an unknown batch size."""

from __future__ import annotations

import warnings
from typing import Any

from keras.src import tree
from keras.src.export.export_utils import get_input_signature

from deploykit.autodiff.compiled import Function, Spec
from deploykit.errors import InputError
from deploykit.graph.ir import Graph


def to_graph(model: Any, input_signature: Any = None) -> Graph:
    """The Graph of ``model(x, training=False)``; the first dim of each input is ``batch``.

    input_signature: a nest of ``keras.InputSpec`` for models whose inputs are not known.  Where a layer needs to know the
    batch size, it is fixed to 1 with a warning that says which layer's error asked for it.  Raises InputError for models
    that were never built.
    """
    if input_signature is None:
        if not model.built:
            raise InputError(f"model '{model.name}' is not built: call it on a batch, or give input_signature.")
        input_signature = get_input_signature(model)
    names = iter(_names(model, len(tree.flatten(input_signature))))

    def spec(given: Any, batch: Any) -> Spec:
        dims = [batch if d is None and not i else d for i, d in enumerate(given.shape)]
        return Spec(tuple(dims), str(given.dtype), next(names))

    taken = [(given, spec(given, "batch")) for given in tree.flatten(input_signature)]
    nest = tree.pack_sequence_as(input_signature, [s for _, s in taken])
    try:
        graph = _trace(model, nest)
    except Exception as e:
        fixed = [Spec(tuple(1 if d == "batch" else d for d in s.shape), s.dtype, s.name) for _, s in taken]
        graph = _trace(model, tree.pack_sequence_as(input_signature, fixed))  # raises when the batch is not the reason
        reason = str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__
        warnings.warn(f"model '{model.name}': its batch size is fixed to 1, as tracing says: {reason}", stacklevel=3)
    graph.metadata["model"] = model.name
    return graph


def _trace(model: Any, nest: Any) -> Graph:
    def infer(x: Any) -> Any:
        if isinstance(x, (list, tuple)) and len(x) == 1:
            (x,) = x
        return model(x, training=False) if model._call_has_training_arg else model(x)

    graph = Function(infer).concrete(nest, constants=True).graph
    outputs = getattr(model, "outputs", None) or []
    names = [t._keras_history.operation.name for t in outputs]
    if len(names) == len(graph.outputs) and len(set(names)) == len(names):
        graph.output_names = names
    return graph


def _names(model: Any, n: int) -> list[str]:
    given = [t.name for t in tree.flatten(getattr(model, "inputs", None) or [])]
    return given if len(given) == n and len(set(given)) == n else [f"input_{i}" for i in range(n)]
