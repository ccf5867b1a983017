"""Exporters: one folder or file per foreign format, each writing a :class:`deploykit.graph.Graph`."""
