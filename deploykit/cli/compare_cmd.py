"""``deploykit compare``."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.errors import InputError


@click.command(short_help="Find the first tensor in which two models differ.")
@common.model_argument("a")
@common.model_argument("b", required=False)
@click.option("--inputs", "inputs", multiple=True, metavar="NAME=FILE", help="Input file: .npy .npz .png .jpg .wav.")
@click.option("--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Sizes of made-up inputs.")
@click.option("--seed", type=int, default=0, help="For made-up inputs.")
@click.option("--tolerance", type=float, help="Of the largest value of each tensor [default: 0.001; --web: 0.00001].")
@click.option("--web", is_flag=True, help="A (.dk) on the native engine, in Node and in a browser, instead of A and B.")
@click.option("--browser", metavar="PATH", help="For --web: the browser's program [default: the first found].")
@click.option("--threads", default="1,2", show_default=True, help="For --web: numbers of threads in the browser.")
@click.option("--all", "show_all", is_flag=True, help="Print every tensor, not only the worst.")
@common.json_option
def command(
    a: Path,
    b: Path | None,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    seed: int,
    tolerance: float | None,
    web: bool,
    browser: str | None,
    threads: str,
    show_all: bool,
    as_json: bool,
) -> int:
    """Run A and B (.onnx, .tflite or .dk) on the same inputs and compare every tensor that both name; or, with --web, A (.dk)
    on the native engine and on the one for browsers, in Node and in a browser.

    Exit code 1 when the outputs differ by more than the tolerance; with --web integers must have the same bits.

    \b
    Examples:
      deploykit compare model.onnx model.dk
      deploykit compare model.onnx model.dk --inputs x=input.npy --all
      deploykit compare model.dk --web --browser firefox
    """
    if web:
        return _web(a, b, inputs, shapes, 1e-5 if tolerance is None else tolerance, browser, threads, as_json)
    if b is None:
        raise InputError("compare: give two models, or --web to compare one with itself in a browser.")
    tolerance = 1e-3 if tolerance is None else tolerance
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


def _web(
    model: Path, b: Path | None, inputs: tuple[str, ...], shapes: tuple[str, ...], tolerance: float, browser: str | None,
    threads: str, as_json: bool,
) -> int:  # fmt: skip
    from deploykit import web_answers as answers
    from deploykit.interpreter import Interpreter

    if b is not None:
        raise InputError(f"compare --web takes one model; got '{b}' too.")
    if model.suffix != ".dk":
        raise InputError(
            f"compare --web takes a .dk file; got '{model.name}'. deploykit convert {model.name} makes one."
        )
    lanes = [int(n) for n in threads.split(",") if n.strip().isdigit() and int(n) > 0]
    if not lanes:
        raise InputError(f"--threads: got '{threads}', expected whole numbers from 1, such as 1,2.")
    session, feeds = Interpreter(model), None
    if inputs:
        feeds = [common.read_inputs(inputs, session.inputs, session.metadata)]
    elif shapes:
        from deploykit.runners import random_inputs

        feeds = [random_inputs(session.inputs, {}, 0, common.parse_shapes(shapes))]
    r = answers.compare(model, tolerance, browser, lanes, feeds)
    if as_json:
        common.emit_json(r)
        return 0 if r["status"] == "same" else 1
    console.print(f"{model.name} on {r['inputs']}, against the native engine", markup=False)
    t = common.table("engine", "", ">largest difference", "")
    for row in r["engines"]:
        far = "same bits" if row["bits"] else f"{row['worst']:.2e} in '{common.escape(row['output'])}'"
        mark = "[green]ok[/green]" if row["ok"] else "[red]differs[/red]"
        t.add_row(row["engine"], common.escape(row["detail"]), far, mark)
    console.print(t)
    for line in r["not_run"]:
        console.print(f"[yellow]not run[/yellow]: {line}")
    console.print(
        f"outputs: [bold]{r['status']}[/bold] (integers to the bit, floats within {tolerance:g} of the largest)"
    )
    return 0 if r["status"] == "same" else 1
