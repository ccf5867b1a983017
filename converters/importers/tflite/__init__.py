"""TFLite importer.

* ``flat``: FlatBuffer tables by rows of facts (``ir/tflite_schema.py``), every byte checked.
* ``reader``: file -> decoded model with memory-mapped weights; bad files refused with the reason.  ``sparse``: DENSIFY.
* ``importer``: subgraphs, signatures, names; finds every problem before it fails.  ``call``: what a handler sees.
* ``metadata``: labels, preprocessing, signatures.
* ``handlers_*``: the operators by family; those that are ours under another name come from the passports.
"""

from deploykit.converters.importers.tflite.importer import import_tflite

__all__ = ["import_tflite"]
