"""Hostile ``.keras`` files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.hostile.cases import case, rezipped


def _keras(folder: Path, change: Callable[[dict[str, bytes]], None], units: int = 3, deflate: bool = False) -> Path:
    import deploykit.keras as keras

    inner = folder / "whole.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, name="d")])
    model.save(inner)
    return rezipped(inner, folder / "m.keras", change, deflate)


@case
def keras_units(folder: Path) -> Path:
    """A layer of 2^33 units."""

    def change(parts: dict[str, bytes]) -> None:
        assert b'"units": 3' in parts["config.json"]
        parts["config.json"] = parts["config.json"].replace(b'"units": 3', b'"units": 8589934592')

    return _keras(folder, change)


@case
def keras_zip_bomb_config(folder: Path) -> Path:
    return _keras(folder, lambda p: p.__setitem__("config.json", b" " * (2 << 30)), deflate=True)


@case
def keras_zip_bomb_weights(folder: Path) -> Path:
    return _keras(folder, lambda p: p.__setitem__("model.weights.h5", b"\0" * (2 << 30)), deflate=True)


@case
def keras_deep_json(folder: Path) -> Path:
    return _keras(folder, lambda p: p.__setitem__("config.json", b"[" * 200_000 + b"]" * 200_000))


@case
def keras_deep_config(folder: Path) -> Path:
    n = 400
    text = '{"class_name": "Sequential", "config": {"name": "s", "layers": [' * n + "]}}" * n
    return _keras(folder, lambda p: p.__setitem__("config.json", text.encode()))


@case
def keras_lambda(folder: Path) -> Path:
    """Marshalled code, as Keras 2 wrote it."""

    def change(parts: dict[str, bytes]) -> None:
        config = json.loads(parts["config.json"])
        layer = config["config"]["layers"][-1]
        layer["class_name"], layer["config"] = "Lambda", {"name": "l", "function": ["4wEAAAAAAAAA", None, None]}
        parts["config.json"] = json.dumps(config).encode()

    return _keras(folder, change)


@case
def keras_module(folder: Path) -> Path:
    """A class of another module."""

    def change(parts: dict[str, bytes]) -> None:
        config = json.loads(parts["config.json"])
        config["config"]["layers"][-1] |= {
            "module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(folder / "owned")]}
        }  # fmt: skip
        parts["config.json"] = json.dumps(config).encode()

    return _keras(folder, change)


def _h5(folder: Path, edit: Callable[[Any, Path], None]) -> Path:
    import h5py

    def change(parts: dict[str, bytes]) -> None:
        file = folder / "w.h5"
        file.write_bytes(parts["model.weights.h5"])
        with h5py.File(file, "r+") as f:
            edit(f, folder)
        parts["model.weights.h5"] = file.read_bytes()

    return _keras(folder, change)


def _kernel(f: Any) -> str:
    found: list[str] = []
    f.visititems(lambda k, v: found.append(k) if getattr(v, "shape", None) == (4, 3) else None)
    return found[0]


@case
def keras_h5_external(folder: Path) -> Path:
    """A weight whose bytes HDF5 shall read from another file."""

    def edit(f: Any, folder: Path) -> None:
        name = _kernel(f)
        del f[name]
        (folder / "secret").write_bytes(b"\1" * 64)
        f.create_dataset(name, (4, 3), "f4", external=[(str(folder / "secret"), 0, 48)])

    return _h5(folder, edit)


def _elsewhere(f: Any, folder: Path) -> tuple[str, Path]:
    """Removes the weight from the file and writes one into another file: its name, the other file."""
    import h5py

    name, other = _kernel(f), folder / "secret.h5"
    del f[name]
    with h5py.File(other, "w") as o:
        o["w"] = np.ones((4, 3), np.float32)
    return name, other


@case
def keras_h5_virtual(folder: Path) -> Path:
    def edit(f: Any, folder: Path) -> None:
        import h5py

        name, other = _elsewhere(f, folder)
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource(str(other), "w", (4, 3))
        f.create_virtual_dataset(name, layout)

    return _h5(folder, edit)


@case
def keras_h5_link(folder: Path) -> Path:
    def edit(f: Any, folder: Path) -> None:
        import h5py

        name, other = _elsewhere(f, folder)
        f[name] = h5py.ExternalLink(str(other), "w")

    return _h5(folder, edit)


@case
def keras_h5_unwritten(folder: Path) -> Path:
    """2^40 bytes that were never written: no bytes in the file."""

    def edit(f: Any, folder: Path) -> None:
        f.create_dataset("more", (1 << 38,), "f4", chunks=(1 << 20,))

    return _h5(folder, edit)


@case
def keras_h5_bomb(folder: Path) -> Path:
    def edit(f: Any, folder: Path) -> None:
        d = f.create_dataset("more", (1 << 29,), "f4", chunks=(1 << 22,), compression="gzip", compression_opts=1)
        for i in range(128):
            d[i << 22 : (i + 1) << 22] = 0

    return _h5(folder, edit)
