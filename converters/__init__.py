"""Converters: foreign model files to Graph, passes over it, Graph to files.  Installed as ``deploykit.converters``."""
