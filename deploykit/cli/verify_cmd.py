"""``deploykit verify``."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli import common
from deploykit.cli.common import console


@click.command(short_help="Check a .dk file: checksums, and its test vectors on every kernel set.")
@common.model_argument()
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ed25519 (PEM): first of all, the signature beside MODEL must fit (deploykit seal).",
)
@common.json_option
def command(model: Path, public_key: Path | None, as_json: bool) -> int:
    """Check every byte of MODEL (.dk), then run the test vectors stored in it on every kernel set that this machine
    runs, on one and two threads, and in Node where the engine for browsers is installed.

    Integers must be equal to the bit, floats within 1e-4 of the largest number of each output. Files without vectors
    (convert --test-vectors 0) are run on made-up inputs and compared with the scalar kernels. Exit code 1 when anything
    differs; the first tensor that does is named.

    \b
    Examples:
      deploykit verify model.dk
      deploykit verify model.dk --json
    """
    from deploykit import replay

    if public_key is not None:
        from deploykit import seal

        seal.check(model, public_key.read_bytes())
    r = replay.verify(model)
    if as_json:
        common.emit_json(r)
        return 0 if r["status"] == "passed" else 1
    stored = f"{r['vectors']} stored test vectors" if r["vectors"] else "no test vectors stored; made-up inputs"
    console.print(f"[bold]{common.escape(str(model))}[/bold]: checksums fit; {stored}")
    if public_key is not None:
        console.print("  the signature fits")
    if r["source"]:
        console.print(f"  made from {common.escape(r['source'])}")
    if not r["replayed"]:
        console.print(
            "[yellow]not run[/yellow]: the model draws random numbers, or no sizes were found that it accepts"
        )
    for run in r["runs"]:
        mark = "[green]ok[/green]" if run["ok"] else "[red]differs[/red]"
        console.print(f"  {run['engine']}: {mark} {common.escape(run['problem'])}")
        if run["tensor"]:
            console.print(f"    first tensor that differs from the scalar kernels: {common.escape(run['tensor'])}")
    for line in r["not_run"]:
        console.print(f"  [yellow]not run[/yellow]: {line}")
    console.print(f"[bold]{r['status']}[/bold]")
    return 0 if r["status"] == "passed" else 1
