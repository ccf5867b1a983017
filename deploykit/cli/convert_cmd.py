"""``deploykit convert``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.units import size


@click.command(short_help="Convert a model to .dk, .onnx or .tflite.")
@common.model_argument(factory=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write: .dk, .onnx or .tflite."
)
@click.option("--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Fix or name an input's dims.")
@click.option("--fix-batch", type=click.IntRange(1), help="Fix the leading dim of every input.")
@click.option(
    "--outputs", metavar="NAME,NAME", help="Give these tensors (outputs or inner ones) instead of the outputs."
)
@click.option("--io-layout", type=click.Choice(["nchw", "nhwc"]), help="Layout of inputs and outputs of rank 4.")
@click.option("--verify/--no-verify", default=True, help="Run source and result on the same inputs (default: yes).")
@click.option(
    "--inputs", "inputs", multiple=True, metavar="NAME=FILE", help="Check on these: .npy .npz .png .jpg .wav."
)
@click.option("--verify-passes", is_flag=True, help="Also run both sides of every rewrite: slow, names a wrong pass.")
@click.option(
    "--quantize",
    type=click.Choice(["fp16", "dynamic", "int8", "int16x8", "int4", "auto"]),
    help="Smaller and faster: int8 and int16x8 need --calibration; dynamic, fp16 and int4 do not.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Real inputs: a .npz with arrays by input name, a .npy, or a folder of images or .wav files.",
)
@click.option(
    "--observer",
    type=click.Choice(["minmax", "moving_average", "percentile", "mse", "entropy"]),
    default="mse",
    show_default=True,
    help="How activation ranges are read off the calibration runs.",
)
@click.option(
    "--keep-float", "keep_float", multiple=True, metavar="NODE", help="Leave a node (or all of an op) in float."
)
@click.option(
    "--repair",
    multiple=True,
    type=click.Choice(["equalize", "smooth", "bias", "gptq", "round", "none"]),
    help="Win accuracy back: a published method, may be given several times. Default: chosen by measuring.",
)
@click.option(
    "--io-dtype",
    type=click.Choice(["float32", "uint8", "int8", "int16"]),
    default="float32",
    help="Inputs and outputs of an int8 (int16x8) model: floats, or the integers it computes with.",
)
@click.option(
    "--block-size", type=click.Choice(["32", "64", "128"]), default="32", help="Weights per scale of int4 (default 32)."
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Fail below this agreement with the source.",
)
@click.option(
    "--test-vectors", type=click.IntRange(0, 16), default=1, show_default=True, help="Stored for `deploykit verify`."
)
@click.option("--max-accuracy-drop", metavar="0.5%", help="With --quantize auto: lose at most this much accuracy.")
@click.option("--max-size", metavar="2MB", help="With --quantize auto: a file of at most so many bytes.")
@click.option("--max-latency", metavar="5ms", help="With --quantize auto: at most this time on one thread, here.")
@click.option("--metric", metavar="FILE.py:FUNCTION", help="Accuracy for the search: FUNCTION(run) returns a score.")
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write a page: accuracy, error and time of each layer, causes and remedies, sizes, memory plan.",
)
@click.option("--min-runtime", metavar="0.1.0", help="The oldest engine that will have to run the file (.dk only).")
@click.option("--strip-names", is_flag=True, help="Leave out inner names: smaller, but harder to debug.")
@common.json_option
def command(
    model: Path,
    output: Path,
    shapes: tuple[str, ...],
    fix_batch: int | None,
    outputs: str | None,
    io_layout: str | None,
    inputs: tuple[str, ...],
    verify: bool,
    verify_passes: bool,
    quantize: str | None,
    calibration: Path | None,
    observer: str,
    keep_float: tuple[str, ...],
    repair: tuple[str, ...],
    io_dtype: str,
    block_size: str,
    min_accuracy: float | None,
    test_vectors: int,
    max_accuracy_drop: str | None,
    max_size: str | None,
    max_latency: str | None,
    metric: str | None,
    page: Path | None,
    min_runtime: str | None,
    strip_names: bool,
    as_json: bool,
) -> int:
    """Convert MODEL (.onnx, .tflite, .keras, .h5, .pt2, model.json, .dk or FILE.py:FUNCTION), optimise it, and check
    the result against its source.

    The file is written only when the check passes; a failure leaves nothing behind.

    \b
    Examples:
      deploykit convert model.onnx -o model.dk
      deploykit convert model.onnx -o model.dk --input-shape x:1,3,h,w
      deploykit convert model.onnx -o model.dk --inputs x=photo.png
      deploykit convert model.tflite -o model.dk
      deploykit convert net.py:make -o model.dk         (make() returns module, example_inputs)
      deploykit convert model.onnx -o model.tflite
      deploykit convert model.onnx -o model.dk --fix-batch 1 --io-layout nhwc --outputs scores,boxes
      deploykit convert model.onnx -o model.dk --quantize int8 --calibration images/
      deploykit convert model.onnx -o model.dk --quantize int8 --calibration images/ --report report.html
      deploykit convert model.onnx -o model.dk --quantize auto --calibration images/ --max-accuracy-drop 0.5%
      deploykit convert model.dk -o back.onnx
    """
    from deploykit.api import convert
    from deploykit.calibration import count
    from deploykit.factory import load_function

    quiet = as_json or not common.is_terminal()
    samples = None if quiet or calibration is None else count(calibration)
    status: Any = contextlib.nullcontext() if quiet else common.err.status(f"converting {model.name} ...")
    with status, _bars(quiet or calibration is None, status) as bars:
        report = convert(
            model,
            output,
            quantize=quantize,
            calibration=calibration,
            observer=observer,
            keep_float=keep_float,
            repair=repair or None,
            io_dtype=io_dtype,
            block_size=int(block_size),
            min_agreement=None if min_accuracy is None else min_accuracy / 100,
            max_accuracy_drop=max_accuracy_drop,
            max_size=max_size,
            max_latency=max_latency,
            metric=None if metric is None else load_function(metric),
            progress=bars and (lambda seen: bars("calibration samples", seen, samples)),
            search_progress=bars,
            report=page,
            input_shapes=common.parse_shapes(shapes),
            verify=verify,
            inputs=_real_inputs(model, inputs),
            verify_passes=verify_passes,
            names=not strip_names,
            fix_batch=fix_batch,
            outputs=[n.strip() for n in outputs.split(",")] if outputs else None,
            io_layout=io_layout,
            test_vectors=test_vectors,
            min_runtime=min_runtime,
        )
    if as_json:
        common.emit_json(report.to_json())
    else:
        show(report)
        if page is not None:
            console.print(f"report: [bold]{common.escape(str(page))}[/bold]")
    return 0


@contextlib.contextmanager
def _bars(quiet: bool, status: Any) -> Iterator[Any]:
    """A progress bar for calibration and for each part of the search, in place of the plain status."""
    if quiet:
        yield None
        return
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=common.err, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                status.stop()
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=None if total is None else max(total, done))

        yield show


def _real_inputs(model: Path, inputs: tuple[str, ...]) -> list[dict[str, Any]] | None:
    if not inputs:
        return None
    from deploykit.runners import open_runner

    return [common.read_inputs(inputs, open_runner(model, 1, optimize=False).inputs, {})]


def show(report: Any) -> None:
    """Print what a conversion did."""
    before = Path(report.source).stat().st_size if Path(report.source).is_file() else 0
    source, target = (common.escape(str(p)) for p in (report.source, report.output))
    console.print(f"[bold]{source}[/bold] ({size(before)}) -> [bold]{target}[/bold] ({size(report.output_bytes)})")
    t = common.table("pass", ">changes", ">ms", "what")
    for p in report.passes:
        if p.changes:
            t.add_row(p.name, str(p.changes), f"{p.seconds * 1e3:.0f}", p.summary)
    console.print(t)
    console.print(f"nodes: {report.nodes_before} -> {report.nodes_after}; transposes left: {report.transposes_left}")
    if report.quantization is not None:
        quantization(report.quantization)
    else:
        verification(report.verification)
    if report.runtime is not None:
        console.print(f"runs in engine {report.runtime} and later")
    console.print(f"done in {report.seconds:.1f} s. Next: [bold]deploykit bench {target}[/bold]")


def quantization(q: dict[str, Any]) -> None:
    """Print what was quantized and how near the result is."""
    counts = ", ".join(f"{n} {k}" for k, n in q["counts"].items()) or "nothing"
    data = f", {q['samples']} calibration samples" if "observer" in q else ""
    console.print(f"quantized ({q['scheme']}): {counts}{data}")
    if "search" in q:
        s, p = q["search"], q["search"]["chosen"]
        console.print(
            f"searched {len(s['points'])} choices: {len(p['float'])} of {len(s['layers'])} layers stay float "
            f"({len(s['slower'])} because int8 is slower); accuracy drop {100 * p['drop']:.3g} %, {p['ms']:.3g} ms"
        )
    for note in q["notes"]:
        console.print(f"  [yellow]note[/yellow]: {common.escape(note)}")
    if not q.get("outputs"):
        return
    t = common.table("output", ">signal to noise", ">largest difference", ">largest output", ">same decision")
    for r in q["outputs"]:
        same = "" if r["agreement"] is None else f"{100 * r['agreement']:.1f} %"
        t.add_row(
            common.escape(r["name"]), f"{r['sqnr_db']:.1f} dB", f"{r['max_error']:.3g}", f"{r['max_output']:.3g}", same
        )
    console.print(t)


def verification(v: dict[str, Any] | None) -> None:
    """Print the outcome of the check against the source."""
    if v is None:
        console.print("[yellow]not verified[/yellow] (--no-verify)")
    elif v["status"] == "skipped":
        console.print(f"[yellow]not verified[/yellow]: {v['reason']}")
    else:
        worst = max(v["outputs"], key=lambda r: r["max_error"] / (r["allowed"] or 1), default=None)
        console.print(f"[green]verified[/green] against {v['tool']} on {len({r['seed'] for r in v['outputs']})} inputs")
        if worst:
            console.print(
                f"  largest difference {worst['max_error']:.2g} in '{common.escape(worst['name'])}' "
                f"(largest output {worst['max_output']:.3g}, allowed {worst['allowed']:.2g})"
            )
        weak = sorted({r["name"] for r in v["outputs"] if r["weak"]})
        if weak:
            console.print(
                f"  [yellow]weak[/yellow]: rounding alone changes {common.escape(', '.join(weak))} by as much on made-up "
                "inputs; check on real ones with --inputs NAME=FILE"
            )
