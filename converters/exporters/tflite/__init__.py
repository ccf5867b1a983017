"""TFLite exporter.

* ``writer``: tables by the facts of the format (``ir/tflite_schema.py``), packed into bytes.
* ``exporter``: graphs as subgraphs, names, constants; every problem before it fails.
* ``handlers_*``: our ops as operators, alone or put together from several.
"""

from deploykit.converters.exporters.tflite.exporter import export_tflite, tflite_parts

__all__ = ["export_tflite", "tflite_parts"]
