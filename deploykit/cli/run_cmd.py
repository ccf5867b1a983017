"""``deploykit run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.errors import InputError


@click.command(short_help="Run a model on files.")
@common.model_argument()
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="Input file: .npy .npz .png .jpg .wav.")
@click.option("--output", "output", type=click.Path(path_type=Path), help="Save all outputs to this .npz file.")
@click.option("--top", type=click.IntRange(1), help="Print the N largest values of each output, with labels if known.")
@click.option("--seed", type=int, default=0, help="For inputs not given: made-up numbers from this seed.")
@click.option("--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Sizes of made-up inputs.")
@common.threads_option
@common.precision_option
@common.json_option
def command(
    model: Path,
    inputs: tuple[str, ...],
    output: Path | None,
    top: int | None,
    seed: int,
    shapes: tuple[str, ...],
    threads: int | None,
    precision: str,
    as_json: bool,
) -> int:
    """Run MODEL (.dk on our engine, .onnx on onnxruntime, .tflite on LiteRT) once and print its outputs.

    \b
    Examples:
      deploykit run model.dk --input image=cat.jpg --top 5
      deploykit run model.dk --input x=input.npy --output y.npz
    """
    from deploykit import runners

    runner = runners.open_runner(model, threads, precision=precision)
    metadata: dict[str, Any] = runner.session.metadata if isinstance(runner, runners.DkRunner) else {}
    feeds = common.read_inputs(inputs, runner.inputs, metadata)
    missing = [s for s in runner.inputs if s.name not in feeds]
    if missing and feeds:
        raise InputError(f"inputs without a file: {', '.join(map(str, missing))}. Give --input NAME=FILE for each.")
    if feeds or not runner.inputs:
        outputs = runner.run(feeds)
    else:
        found = runners.working_inputs(runner, seed, common.parse_shapes(shapes))
        if found is None:
            raise InputError("no sizes for the symbolic dims were found that the model accepts; give --input-shape.")
        feeds, outputs = found
        if not as_json:
            console.print(
                f"[yellow]made-up inputs[/yellow] (seed {seed}): "
                + common.escape(", ".join(f"{k} {list(v.shape)}" for k, v in feeds.items()))
            )
    if output is not None:
        from deploykit.graph.dkfile import atomic_write

        with atomic_write(output) as f:
            np.savez(f, **outputs)  # type: ignore[arg-type]
    labels = metadata.get("labels")
    if as_json:
        common.emit_json({k: summary(v, labels, top) for k, v in outputs.items()})
        return 0
    for name, v in outputs.items():
        s = summary(v, labels, top)
        head = f"[bold]{common.escape(name)}[/bold] {s['dtype']}{s['shape']}"
        if "min" in s:
            head += f"  min {s['min']:.6g}  max {s['max']:.6g}  mean {s['mean']:.6g}"
        console.print(head)
        if "top" in s:
            t = common.table(">value", "index", "label")
            for r in s["top"]:
                t.add_row(f"{r['value']:.6g}", str(r["index"]), common.escape(str(r.get("label", ""))))
            console.print(t)
        elif v.size <= 16:
            console.print("  " + np.array2string(v, precision=6, separator=", ", prefix="  "), markup=False)
    if output is not None:
        console.print(f"saved to {output}", markup=False)
    return 0


def summary(v: np.ndarray, labels: Any, top: int | None) -> dict[str, Any]:
    """Shape, dtype, range and, when asked for, the largest values of an output."""
    out: dict[str, Any] = {"dtype": str(v.dtype), "shape": list(v.shape)}
    if v.size and v.dtype.kind in "iufb":
        f = v.astype(np.float64)
        out |= {"min": f.min(), "max": f.max(), "mean": f.mean()}
        if top:
            flat = f.reshape(-1)
            order = np.argsort(-flat, kind="stable")[:top]
            out["top"] = []
            for i in order:
                at = [int(k) for k in np.unravel_index(i, v.shape)]
                row: dict[str, Any] = {
                    "value": flat[i],
                    "index": at if len(at) > 1 and flat.size != v.shape[-1] else int(i),
                }
                if isinstance(labels, list) and v.ndim and len(labels) == v.shape[-1]:
                    row["label"] = labels[at[-1]]
                out["top"].append(row)
    if v.size <= 16:
        out["values"] = v.tolist()
    return out
