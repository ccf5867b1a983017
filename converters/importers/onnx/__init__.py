"""ONNX importer.

* ``reader``: bytes -> ModelProto with memory-mapped weights; bad files refused with the reason.
* ``scope``: names, bodies and their captures, node emission with early folding of small constants.
* ``importer``: walks the model; finds every problem before it fails; inlines functions (``functions``).
* ``table``: ops that map 1:1, straight from the passports' ``onnx`` names.
* ``handlers_*``: the others, by family, one function per op and range of opset versions.
"""

from deploykit.converters.importers.onnx.importer import import_onnx

__all__ = ["import_onnx"]
