"""Models and weights on disk.

* ``.keras`` and ``.weights.h5``: Keras 3's own formats, read and written through h5py (``pip install 'deploykit[keras]'``).
* ``.dkt``: a zip of ``config.json`` and ``weights.safetensors``, which needs nothing installed.
* ``.safetensors``: weights alone, in the layout of https://github.com/huggingface/safetensors (JSON header, then data).

Everything is written to a temporary file first, then renamed.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import state
from deploykit.autodiff.variable import Variable
from deploykit.errors import DeploykitError, FormatError, InputError
from deploykit.graph.growth import check_bytes, loading, mapped, member, open_zip, reading
from deploykit.keras.layers.base import Layer
from deploykit.keras.serialize import deserialize, serialize, snake_case
from deploykit.weights.safetensors import SafeTensors

_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


@contextmanager
def _replacing(path: Any) -> Iterator[Path]:
    target = Path(path)
    if not target.resolve().parent.is_dir():
        raise InputError(f"{target}: the folder {target.resolve().parent} does not exist.")
    handle, temporary = tempfile.mkstemp(dir=target.resolve().parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        yield Path(temporary)
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


# ---------------------------------------------------------------- safetensors
def safetensors_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """Arrays by name as safetensors."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at, parts = 0, []
    for name, a in tensors.items():
        data = np.ascontiguousarray(a).tobytes()
        header[name] = {
            "dtype": _NAMES[dtypes.dtype(a.dtype).name],
            "shape": list(a.shape),
            "data_offsets": [at, at + len(data)],
        }
        at += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def parse_safetensors(
    data: bytes | memoryview, name: str = "safetensors"
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, metadata) of safetensors bytes; FormatError for anything out of bounds."""
    w = SafeTensors(name, data)
    return dict(w), w.metadata


def write_safetensors(path: Any, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays by name."""
    with _replacing(path) as p:
        p.write_bytes(safetensors_bytes(tensors, metadata))


def read_safetensors(path: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, metadata) of a file."""
    return parse_safetensors(Path(path).read_bytes(), str(path))


def all_state(model: Any) -> list[tuple[str, Variable]]:
    """Every variable of a model and its optimizer, under a name of its own, in order."""
    out: list[tuple[str, Variable]] = []
    for i, v in enumerate(model.weights):
        out.append((f"weights/{i}", v))
    if model.optimizer is not None and model.optimizer.built:
        out += [(f"optimizer/{i}", v) for i, v in enumerate(model.optimizer.variables)]
    return out


# ---------------------------------------------------------------- Keras' layout of weights
class _Group:
    """A dict that looks like an HDF5 group of numbered variables."""

    def __init__(self, tensors: dict[str, np.ndarray], prefix: str) -> None:
        self.tensors, self.prefix = tensors, prefix

    def __setitem__(self, key: str, value: np.ndarray) -> None:
        self.tensors[f"{self.prefix}/{key}"] = value

    def __getitem__(self, key: str) -> np.ndarray:
        return self.tensors[f"{self.prefix}/{key}"]

    def keys(self) -> list[str]:
        n = len(self.prefix) + 1
        return [k[n:] for k in self.tensors if k.startswith(self.prefix + "/") and "/" not in k[n:]]


def _children(x: Any) -> Iterator[tuple[str, Any]]:
    """(name, layer or list of layers) of what an object holds, as Keras walks it: attributes by name."""
    from deploykit.keras.models.functional import Functional, Sequential

    if isinstance(x, (Functional, Sequential)):
        yield "layers", list(x.layers) if isinstance(x, Sequential) else list(x.layers)
        return
    for name in sorted(vars(x)):
        v = vars(x)[name]
        if name.startswith("__") or name in ("_layers", "_weights", "_nodes", "_stack", "_functional", "_own"):
            continue
        if isinstance(v, Layer):
            yield getattr(x, "file_prefix", "") + name.lstrip("_"), v
        elif isinstance(v, (list, tuple)) and v and all(isinstance(i, Layer) for i in v):
            yield name.lstrip("_"), list(v)


def _walk(x: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """(path in the file, layer) for every layer, in Keras' scheme: layers/dense, layers/dense_1 ..."""
    if id(x) in seen:
        return
    seen.add(id(x))
    yield path, x
    for name, v in _children(x):
        if isinstance(v, Layer):
            yield from _walk(v, f"{path}/{name}" if path else name, seen)
            continue
        used: dict[str, int] = {}
        for item in v:
            base = getattr(item, "file_name", None) or snake_case(type(item).__name__)
            k = used.get(base, 0)
            used[base] = k + 1
            yield from _walk(item, f"{path}/{name}/{base}{f'_{k}' if k else ''}".lstrip("/"), seen)


def _gather(model: Any) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for path, layer in _walk(model, "", set()):
        layer.save_own_variables(_Group(tensors, f"{path}/vars".lstrip("/")))
    if model.optimizer is not None and model.optimizer.built:
        model.optimizer.save_own_variables(_Group(tensors, "optimizer/vars"))
    return tensors


def _scatter(
    model: Any, tensors: dict[str, np.ndarray], what: str, skip_mismatch: bool = False, optimizer: bool = True
) -> None:
    problems: list[str] = []
    used: set[str] = set()
    for path, layer in _walk(model, "", set()):
        prefix = f"{path}/vars".lstrip("/")
        group = _Group(tensors, prefix)
        used.add(prefix)
        if not layer._weights and not group.keys():
            continue
        try:
            layer.load_own_variables(group)
        except Exception as e:
            problems.append(f"{path or 'model'}: {e}")
    unknown = sorted({k.rsplit("/", 1)[0] for k in tensors} - used - {"optimizer/vars"})
    unknown = [
        u
        for u in unknown
        if not u.startswith(("optimizer", "_", "metrics", "seed_generator")) and "seed_generator" not in u
    ]
    problems += [f"{u}: in the file, but not in the model" for u in unknown]
    if problems and not skip_mismatch:
        raise InputError(f"{what} does not fit the model: " + "; ".join(problems))
    if optimizer and model.optimizer is not None and model.trainable_variables:
        group = _Group(tensors, "optimizer/vars")
        if group.keys():
            model.optimizer.build(model.trainable_variables)
            model.optimizer.load_own_variables(group)


def _h5() -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(
            "this format needs h5py: pip install 'deploykit[keras]'; or use .dkt and .safetensors."
        ) from None
    return h5py


def _h5_bytes(tensors: dict[str, np.ndarray]) -> bytes:
    h5py, buffer = _h5(), io.BytesIO()
    with h5py.File(buffer, "w") as f:
        for k, v in tensors.items():
            group, name = k.rsplit("/", 1)
            f.require_group(group).create_dataset(name, data=v)
    return buffer.getvalue()


class _Window(io.RawIOBase):
    """Bytes as a file, without a copy of them."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, to: int, whence: int = 0) -> int:
        self.at = to + (0, self.at, len(self.data))[whence]
        return self.at

    def readinto(self, into: Any) -> int:
        part = self.data[self.at : self.at + len(into)]
        into[: len(part)] = part
        self.at += len(part)
        return len(part)


def _h5_tensors(source: Any) -> dict[str, np.ndarray]:
    """Arrays by name of an HDF5 file: a path, or its bytes.  Those that lie in it as they are, are views of the (mapped)
    file, which nobody can write to."""
    h5py = _h5()
    out: dict[str, np.ndarray] = {}
    if isinstance(source, (str, os.PathLike)):
        name, size = os.fspath(source), os.path.getsize(source)
        with open(source, "rb") as file:
            raw = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    else:
        name, raw = "weights", memoryview(source)
        size = len(raw)
    try:
        f = h5py.File(source if name != "weights" else _Window(raw), "r")
    except OSError as e:
        raise FormatError(f"{name}: not an HDF5 file ({e}).") from None
    plain = raw[:8] == b"\x89HDF\r\n\x1a\n"  # else places count from a signature further back
    taken = 0

    def read(key: str, d: Any) -> None:
        nonlocal taken
        if not isinstance(d, h5py.Dataset) or d.shape is None:
            return
        if d.is_virtual or d.external:  # HDF5 would read these from other files
            raise FormatError(f"{name}: weight '{key}' lies in another file. Refused; save the model whole.")
        if d.dtype.kind not in "biuf":
            return  # text, references: no weights
        size_here = d.size * d.dtype.itemsize
        taken += size_here
        check_bytes(f"{name}: weight '{key}'", taken, size)
        at = d.id.get_offset() if plain and d.chunks is None else None
        if at is None or not size_here or at + size_here > size or not d.dtype.isnative:
            out[key] = np.asarray(d)
            return
        out[key] = np.frombuffer(raw, d.dtype, d.size, at).reshape(d.shape)

    with f:
        try:
            f.visititems(read)  # does not follow links to other files
        except DeploykitError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError) as e:
            raise FormatError(f"{name}: damaged HDF5 file ({e}). Get the file again.") from None
    return out


# ---------------------------------------------------------------- models
def save_model(model: Any, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
    """Write architecture, weights, compile arguments and optimizer state: ``.keras`` or ``.dkt``."""
    path = os.fspath(filepath)
    if not path.endswith((".keras", ".dkt")):
        raise InputError(
            f"save: '{path}'; expected a name that ends in .keras or .dkt. To deploy a model use model.export('model.dk')."
        )
    if os.path.exists(path) and not overwrite:
        raise InputError(f"save: '{path}' exists; give overwrite=True.")
    from deploykit import hooks

    config = serialize(model)
    config["compile_config"] = model.get_compile_config()
    if model.get_build_config() is not None and "build_config" not in config:
        config["build_config"] = model.get_build_config()
    tensors = _gather(model)
    weights = (
        ("model.weights.h5", _h5_bytes(tensors))
        if path.endswith(".keras")
        else ("weights.safetensors", safetensors_bytes(tensors))
    )
    metadata = {
        "keras_version": "3.15.1",
        "deploykit_version": hooks.package().__version__,
        "date_saved": "1970-01-01@00:00:00",
    }
    with _replacing(path) as p, zipfile.ZipFile(p, "w", zipfile.ZIP_STORED) as z:
        for name, data in (("metadata.json", json.dumps(metadata)), ("config.json", json.dumps(config)), weights):
            z.writestr(zipfile.ZipInfo(name), data)  # no dates: the same model gives the same bytes


def load_model(
    filepath: Any, custom_objects: dict[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """A model of a ``.keras`` file (ours or Keras 3's), a ``.dkt`` file, or an ``.h5`` file of Keras 2 or 3.

    custom_objects: classes and functions by name.  Raises FormatError for damaged files, InputError for classes that
    nobody registered.  Nothing in a file is executed.
    """
    with reading(filepath):
        return _load_model(Path(filepath), custom_objects, compile)


def _load_model(path: Path, custom_objects: dict[str, Any] | None, compile: bool) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if _is_h5(path):
        from deploykit.keras.legacy import load_h5

        return load_h5(str(path), compile)
    if not zipfile.is_zipfile(path):
        raise FormatError(f"{path}: not a .keras or .dkt file (no zip archive), and no .h5 file.")
    size = path.stat().st_size
    with open_zip(path, str(path), size) as z, loading(str(path), size):
        names = z.namelist()
        if "config.json" not in names:
            raise FormatError(f"{path}: there is no config.json inside.")
        config = _json(member(z, "config.json", str(path)), f"{path}: config.json")
        compiled = config.pop("compile_config", None)
        model = deserialize(config, custom_objects)
        build = config.get("build_config")
        if build and not model.built:
            model.build_from_config(build)
        if compile and compiled:
            model.compile_from_config(compiled)
        if "model.weights.h5" in names:
            tensors = _h5_tensors(mapped(z, "model.weights.h5", str(path)))
        elif "weights.safetensors" in names:
            tensors, _ = parse_safetensors(mapped(z, "weights.safetensors", str(path)), str(path))
        else:
            raise FormatError(f"{path}: there are no weights inside.")
        _scatter(model, tensors, str(path))
    return model


def _is_h5(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(8) == b"\x89HDF\r\n\x1a\n"


def _json(text: str | bytes, what: str) -> Any:
    """A JSON object; FormatError for anything else."""
    try:
        x = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"{what} is no JSON, or nested without end.") from None
    if not isinstance(x, dict):
        raise FormatError(f"{what} is {type(x).__name__}, expected an object.")
    return x


def save_weights(model: Any, filepath: Any, overwrite: bool = True) -> None:
    """Write the weights: ``.weights.h5`` or ``.safetensors``."""
    path = os.fspath(filepath)
    if os.path.exists(path) and not overwrite:
        raise InputError(f"save_weights: '{path}' exists; give overwrite=True.")
    tensors = {k: v for k, v in _gather(model).items() if not k.startswith("optimizer/")}
    if path.endswith(".safetensors"):
        write_safetensors(path, tensors)
    elif path.endswith(".weights.h5"):
        data = _h5_bytes(tensors)
        with _replacing(path) as p:
            p.write_bytes(data)
    else:
        raise InputError(f"save_weights: '{path}'; expected a name that ends in .weights.h5 or .safetensors.")


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False) -> None:
    """Read weights of ``.weights.h5``, ``.safetensors``, ``.keras`` or ``.dkt``."""
    path = os.fspath(filepath)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file.")
    if not model.built:
        raise InputError("load_weights: the model has no weights yet; build it or call it first.")
    with reading(path):
        _load_weights(model, path, skip_mismatch)


def _load_weights(model: Any, path: str, skip_mismatch: bool) -> None:
    if path.endswith(".safetensors"):
        tensors = read_safetensors(path)[0]
    elif path.endswith((".keras", ".dkt")):
        with open_zip(path, path, os.path.getsize(path)) as z:
            h5 = "model.weights.h5" in z.namelist()
            data = mapped(z, "model.weights.h5" if h5 else "weights.safetensors", path)
        tensors = _h5_tensors(data) if h5 else parse_safetensors(data, path)[0]
    else:
        tensors = _h5_tensors(path)
    _scatter(model, tensors, path, skip_mismatch, optimizer=False)


def model_from_json(text: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """A model of the architecture that ``to_json`` gave."""
    return deserialize(_json(text, "the model"), custom_objects)


def import_keras(source: Any, input_shapes: dict[str, list[int | str]] | None = None) -> Any:
    """The Graph of a model in memory, or of a ``.keras``, ``.h5`` or ``.dkt`` file, for ``dk.convert``."""
    if input_shapes:
        raise InputError("input shapes of a Keras model are those of its Input layers; change them there.")
    if not isinstance(source, (str, os.PathLike)):
        return source.to_graph()
    with reading(source):
        with state.borrowing():
            return load_model(source, compile=False).to_graph()
