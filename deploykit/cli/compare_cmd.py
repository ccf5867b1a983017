"""``deploykit compare``."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.errors import InputError


@click.command(short_help="Find the first tensor in which two models differ.")
@common.model_argument("a")
@common.model_argument("b")
@click.option("--inputs", "inputs", multiple=True, metavar="NAME=FILE", help="Input file: .npy .npz .png .jpg .wav.")
@click.option("--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Sizes of made-up inputs.")
@click.option("--seed", type=int, default=0, help="For made-up inputs.")
@click.option("--tolerance", type=float, default=1e-3, show_default=True, help="Of the largest value of each tensor.")
@click.option("--all", "show_all", is_flag=True, help="Print every tensor, not only the worst.")
@common.json_option
def command(
    a: Path,
    b: Path,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    seed: int,
    tolerance: float,
    show_all: bool,
    as_json: bool,
) -> int:
    """Run A and B (.onnx, .tflite or .dk) on the same inputs and compare every tensor that both name.

    Exit code 1 when the outputs differ by more than the tolerance.

    \b
    Examples:
      deploykit compare model.onnx model.dk
      deploykit compare model.onnx model.dk --inputs x=input.npy --all
    """
    from deploykit import runners, trace

    runner = runners.open_runner(a, 1, optimize=False)
    if inputs:
        feeds = common.read_inputs(inputs, runner.inputs, {})
    else:
        found = runners.working_inputs(runner, seed, common.parse_shapes(shapes))
        if found is None:
            raise InputError("no sizes for the symbolic dims were found that the model accepts; give --input-shape.")
        feeds = found[0]
    r = trace.report(a, b, feeds, tolerance)
    r["inputs"] = {k: list(v.shape) for k, v in feeds.items()}
    if as_json:
        common.emit_json(r)
        return 0 if r["status"] == "same" else 1
    console.print(f"{a.name} ({r['tools'][0]}) and {b.name} ({r['tools'][1]}) on {r['inputs']}", markup=False)
    console.print(f"{len(r['tensors'])} inner tensors and {len(r['outputs'])} outputs have the same name in both")
    rows = r["tensors"] if show_all else sorted(r["tensors"], key=lambda t: -t["error"] / (t["scale"] or 1))[:8]
    t = common.table("tensor", "shape", ">largest difference", ">of the largest value", "")
    for row in [*rows, *r["outputs"]]:
        relative = row["error"] / row["scale"] if row["scale"] else row["error"]
        mark = "[green]ok[/green]" if row["ok"] else "[red]differs[/red]"
        t.add_row(common.escape(row["name"]), str(list(row["shape"])), f"{row['error']:.3g}", f"{relative:.2e}", mark)
    console.print(t)
    for name in r["outputs_in_one_only"]:
        console.print(f"[red]output '{common.escape(name)}' exists in one model only[/red]")
    first = r["first_difference"]
    if first is not None:
        console.print(f"first tensor that differs: [bold]{common.escape(first['name'])}[/bold]")
    console.print(f"outputs: [bold]{r['status']}[/bold] (tolerance {tolerance:g})")
    return 0 if r["status"] == "same" else 1
