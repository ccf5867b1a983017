"""What a TFLite file says of itself: descriptions, signatures, labels and preprocessing.

Labels and word lists are files in a zip archive behind the FlatBuffer; how images are normalised stands in a FlatBuffer
of its own (identifier M001) in a buffer that the model's metadata names.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

from deploykit.converters.importers.tflite.flat import FlatReader, Row
from deploykit.converters.importers.tflite.reader import Source
from deploykit.errors import FormatError

_LIMIT = 1 << 20  # bytes of one label file


def describe(source: Source) -> dict[str, Any]:
    """The Graph's metadata."""
    m = source.model
    out: dict[str, Any] = {"source_format": "tflite", "source_version": int(m.version)}
    if m.description:
        out["source_producer"] = m.description
    signatures = {}
    for s in m.signature_defs or []:
        tensors = m.subgraphs[s.subgraph_index].tensors if s.subgraph_index < len(m.subgraphs) else []
        signatures[s.signature_key or "serving_default"] = {
            side: {
                e.name or "": tensors[e.tensor_index].name
                for e in getattr(s, side) or []
                if e.tensor_index < len(tensors)
            }
            for side in ("inputs", "outputs")
        }
    if signatures:
        out["signatures"] = signatures
    for entry in m.metadata or []:
        if entry.name == "min_runtime_version":
            text = source.buffer(entry.buffer).tobytes().rstrip(b"\0").decode("utf-8", "replace")
            out["source_min_runtime"] = text
        elif entry.name == "TFLITE_METADATA":
            try:
                out |= _model_metadata(source, source.buffer(entry.buffer))
            except FormatError:
                out["notes"] = "the file's own description (TFLITE_METADATA) could not be read"
    return out


def _model_metadata(source: Source, raw: Any) -> dict[str, Any]:
    root = FlatReader(raw.tobytes(), "the metadata").root("ModelMetadata")
    out: dict[str, Any] = {}
    for ours, theirs in (
        ("name", "name"),
        ("description", "description"),
        ("author", "author"),
        ("licence", "license"),
    ):
        if getattr(root, theirs):
            out[ours] = getattr(root, theirs)
    graphs = root.subgraph_metadata or []
    if not graphs:
        return out
    for t in graphs[0].input_tensor_metadata or []:
        found = _preprocessing(t)
        if found and "preprocessing" not in out:
            out["preprocessing"] = found
    for t in graphs[0].output_tensor_metadata or []:
        for f in t.associated_files or []:
            if f.type in (2, 3) and "labels" not in out:  # labels of an axis, of values
                data = _file(source, f.name or "")
                if data is not None:
                    out["labels"] = data.decode("utf-8", "replace").splitlines()
    return out


def _preprocessing(t: Row) -> dict[str, Any]:
    """Normalisation of pixels 0..255 by (x - mean) / std, in the form of our preprocessing metadata."""
    for unit in t.process_units or []:
        o = unit.options
        if o is not None and o.kind == "NormalizationOptions" and o.mean is not None and o.std is not None:
            return {"range": [0.0, 255.0], "mean": o.mean.tolist(), "std": o.std.tolist()}
    return {}


def _file(source: Source, name: str) -> bytes | None:
    """A small file packed behind the model; None when there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(bytes(source.data))) as z:
            info = z.getinfo(name)
            return z.read(info) if info.file_size <= _LIMIT else None
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError, NotImplementedError, ValueError, OSError):
        return None
