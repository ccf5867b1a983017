"""ONNX exporter.

* ``writer``: names, constants, and the layouts in which each value is at hand.
* ``exporter``: walks the graph; finds every problem before it fails.
* ``handlers``: one function per op that is not 1:1; the 1:1 table comes from the passports' ``onnx`` names.
"""

from deploykit.converters.exporters.onnx.exporter import OPSET, export_onnx, onnx_pieces

__all__ = ["OPSET", "export_onnx", "onnx_pieces"]
