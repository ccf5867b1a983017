"""A layers model: its topology is Keras 2's, so it is rewritten in Keras 3's form and built by ``deploykit.keras``."""

from __future__ import annotations

from deploykit.converters.importers.tfjs.reader import Source
from deploykit.graph import Graph


def import_layers(source: Source) -> Graph:
    """The Graph of a layers model."""
    from deploykit.keras import legacy

    model = legacy.build(source.topology, source.weights, source.name)
    legacy.assign(model, source.weights, source.name)
    return model.to_graph()
