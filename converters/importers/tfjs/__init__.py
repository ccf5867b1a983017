"""TensorFlow.js models (``model.json`` with weight shards beside it) -> Graph; neither TensorFlow nor Node is needed.

``reader`` checks and reads the files, ``layers`` hands layers models to the Keras importer, ``importer`` and
``handlers_*`` read graph models.
"""

from __future__ import annotations

from deploykit.converters.importers.tfjs.importer import import_tfjs

__all__ = ["import_tfjs"]
