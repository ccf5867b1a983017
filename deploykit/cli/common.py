"""What the sub-commands share: console, JSON output, shape options, reading of input files, tables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape as escape  # names from models are not markup
from rich.table import Table

from deploykit.errors import InputError
from deploykit.factory import is_factory
from deploykit.images import read_image

console = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def emit_json(data: Any) -> None:
    """Print one JSON document on standard output."""

    def plain(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x.tolist()
        if isinstance(x, np.generic):
            return x.item()
        if isinstance(x, Path):
            return str(x)
        return str(x)

    click.echo(json.dumps(data, indent=2, default=plain))


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
threads_option = click.option(
    "--threads", type=click.IntRange(1, 256), default=None, help="Threads; default: DK_THREADS or all allowed CPUs."
)

precision_option = click.option(
    "--precision",
    type=click.Choice(("default", "exact", "fast")),
    default="default",
    show_default=True,
    help="Of float products: exact, plain sums only; fast, operands rounded to bfloat16 where the CPU gains by it.",
)


class _Model(click.Path):
    """A path of a model file that must exist; with ``factory`` also FILE.py:FUNCTION."""

    def __init__(self, factory: bool) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)
        self.factory = factory

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if self.factory and is_factory(value):
            super().convert(os.fspath(value).rpartition(":")[0], param, ctx)
            return Path(value)
        return super().convert(value, param, ctx)


def model_argument(name: str = "model", factory: bool = False, required: bool = True) -> Callable[[Any], Any]:
    """A path to a model file that must exist; with ``factory`` also FILE.py:FUNCTION."""
    return click.argument(name, type=_Model(factory), required=required)


def parse_shapes(values: tuple[str, ...]) -> dict[str, list[int | str]]:
    """``NAME:1,3,224,224`` (a dim may be a word: it stays symbolic) to a dict.

    >>> parse_shapes(("x:1,3,h,w",))
    {'x': [1, 3, 'h', 'w']}
    """
    out: dict[str, list[int | str]] = {}
    for text in values:
        name, sep, dims = text.rpartition(":")
        if not sep or not name:
            raise click.BadParameter(f"{text!r}: expected NAME:1,3,224,224", param_hint="--input-shape")
        out[name] = [int(d) if d.strip().lstrip("-").isdigit() else d.strip() for d in dims.split(",") if d.strip()]
        if any(isinstance(d, int) and d < 0 for d in out[name]):
            raise click.BadParameter(f"{text!r}: dims are sizes >= 0 or names", param_hint="--input-shape")
    return out


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; columns that begin with '>' are right-aligned."""
    t = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for c in columns:
        t.add_column(c.lstrip(">"), justify="right" if c.startswith(">") else "left", overflow="fold")
    return t


def spec_text(spec: Any) -> str:
    """``float32[1,3,224,224]``."""
    dims = "?" if spec.shape is None else ",".join(str(d) for d in spec.shape)
    return f"{spec.dtype}[{dims}]"


def read_inputs(values: tuple[str, ...], specs: list[Any], metadata: dict[str, Any]) -> dict[str, np.ndarray]:
    """``NAME=FILE`` (or just FILE when the model has one input) to arrays fit for the specs.

    .npy as it is; .npz gives every array in it by name; .png, .jpg and the like are resized to the input and scaled as
    the model's ``preprocessing`` metadata says (default: to 0..1 for floats, as it is for uint8); .wav becomes mono
    floats in -1..1.
    """
    out: dict[str, np.ndarray] = {}
    by_name = {s.name: s for s in specs}
    for text in values:
        name, sep, file = text.partition("=")
        if not sep:
            name, file = "", text
        path = Path(file)
        if not path.is_file():
            raise click.BadParameter(f"{file!r}: no such file", param_hint="--input")
        if path.suffix == ".npz" and not name:
            with np.load(path, allow_pickle=False) as z:
                out.update({k: z[k] for k in z.files})
            continue
        if not name:
            if len(specs) != 1:
                raise click.BadParameter(
                    f"{text!r}: say which input: {', '.join(by_name)} (NAME=FILE)", param_hint="--input"
                )
            name = specs[0].name
        if name not in by_name:
            raise InputError(f"the model has no input '{name}'; its inputs: {', '.join(map(repr, by_name))}.")
        out[name] = _read(path, by_name[name], metadata.get("preprocessing", {}))
    return out


def _read(path: Path, spec: Any, preprocessing: dict[str, Any]) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as z:
            return z[z.files[0]]
    if suffix == ".wav":
        from deploykit.sounds import read_sound

        return read_sound(path, spec)
    if suffix in (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"):
        return read_image(path, spec, preprocessing)
    raise InputError(f"{path}: files of kind '{suffix}' are not known here; use .npy, .npz, .png, .jpg or .wav.")


def is_terminal() -> bool:
    """Whether progress bars make sense."""
    return sys.stderr.isatty()
