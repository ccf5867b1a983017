"""``keras.export.ExportArchive``: SavedModel is TensorFlow's format; we write ``.dk``."""

from __future__ import annotations

from typing import Any

from deploykit.errors import UnsupportedError


class BackendSavedModelExportArchive:
    """Refuses by name what only TensorFlow can write."""

    def _refuse(self, what: str) -> Any:
        raise UnsupportedError(
            f"ExportArchive.{what}: SavedModel needs TensorFlow. Save the model (`model.save('m.keras')`) and convert it: "
            "`deploykit convert m.keras`."
        )

    def track(self, resource: Any) -> None:
        """Refused."""
        self._refuse("track")

    def add_endpoint(self, name: str, fn: Any, input_signature: Any = None, **kwargs: Any) -> None:
        """Refused."""
        self._refuse("add_endpoint")
