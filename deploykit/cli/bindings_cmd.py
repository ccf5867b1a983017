"""``deploykit bindings``."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli import common
from deploykit.cli.common import console


@click.command(short_help="Write typed bindings for a model.")
@common.model_argument()
@click.option("--lang", type=click.Choice(["c", "ts", "py"]), required=True, help="Language of the bindings.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default: standard output.")
def command(model: Path, lang: str, output: Path | None) -> int:
    """Write the names, shapes, dtypes and labels of MODEL (.dk) as C, TypeScript or Python, so that a wrong call does not
    compile.

    \b
    Examples:
      deploykit bindings model.dk --lang c -o model.h
      deploykit bindings model.dk --lang ts -o model.ts
      deploykit bindings model.dk --lang py -o model.py
    """
    from deploykit import bindings
    from deploykit.graph.dkfile import atomic_write

    text = bindings.generate(bindings.interface(model), lang)
    if output is None:
        click.echo(text, nl=False)
        return 0
    with atomic_write(output) as f:
        f.write(text.encode())
    console.print(f"written: {output}", markup=False)
    return 0
