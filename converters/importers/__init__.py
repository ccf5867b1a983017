"""Importers: one folder per foreign format, each turning a file into a :class:`deploykit.graph.Graph`."""
