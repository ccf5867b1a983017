"""``deploykit bench``: interleaved timing in one process, outputs compared."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.errors import InputError
from deploykit.units import size

PEERS = ("onnxruntime", "litert", "openvino", "ncnn")


@click.command(short_help="Measure speed.")
@common.model_argument()
@common.threads_option
@common.precision_option
@click.option("--runs", type=click.IntRange(3), default=50, show_default=True, help="Timed runs of each runtime.")
@click.option("--against", default="", metavar="LIST", help=f"Other runtimes: {', '.join(PEERS)} (comma-separated).")
@click.option(
    "--source", type=click.Path(exists=True, path_type=Path), help="The model for the others: .onnx or .tflite."
)
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="Input file: .npy .npz .png .jpg .wav.")
@click.option("--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Sizes of made-up inputs.")
@click.option("--profile", is_flag=True, help="Time per node.")
@common.json_option
def command(
    model: Path,
    threads: int | None,
    precision: str,
    runs: int,
    against: str,
    source: Path | None,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    profile: bool,
    as_json: bool,
) -> int:
    """Time MODEL (.dk; other formats are converted first).  With --against, the runtimes take turns run by run in one process
    with the same threads and inputs, so a busy machine disturbs all alike; before each timed run a contender waits for
    the other's threads to go to sleep and warms up.  Ratios are medians of paired runs.  With --precision, ours runs a second
    time in that precision; its difference is shown and not judged.

    \b
    Examples:
      deploykit bench model.dk --threads 1
      deploykit bench model.onnx --against onnxruntime --threads 2
      deploykit bench model.tflite --against litert --threads 1
      deploykit bench model.onnx --against onnxruntime,litert,openvino,ncnn --threads 2
      deploykit bench model.dk --precision fast
      deploykit bench model.dk --profile
    """
    from deploykit import formats, peers, runners
    from deploykit.interpreter import Interpreter

    if model.suffix in formats.IMPORTERS:
        from deploykit.api import convert
        from deploykit.graph.dkfile import to_bytes

        source = source or model
        data: Path | bytes = to_bytes(convert(model, verify=False).graph)  # type: ignore
    else:
        data = model
    started = time.perf_counter()
    ours = Interpreter(data, threads=threads)
    load = time.perf_counter() - started
    n = threads or 0
    contenders: dict[str, Any] = {"deploykit": ours}
    if precision != "default":
        contenders[f"deploykit {precision}"] = other = Interpreter(data, threads=threads, precision=precision)
        if precision == "fast" and not other.fast and not as_json:
            console.print(
                "[yellow]--precision fast changes nothing on this CPU[/yellow]: it has no tile registers (AMX)"
            )
    names = [a.strip() for a in against.split(",") if a.strip()]
    for name in names:
        if name not in PEERS:
            raise InputError(f"--against: no runtime '{name}'; allowed: {', '.join(PEERS)}.")
    if "onnxruntime" in names:  # it also says which made-up sizes the model accepts
        contenders["onnxruntime"] = peers.open_peer("onnxruntime", source, threads, {}, {})

    runner = runners.DkRunner(data, threads)
    if inputs:
        feeds = common.read_inputs(inputs, ours.inputs, ours.metadata)
    else:
        found = runners.working_inputs(
            next((c for k, c in contenders.items() if k in names), runner), 0, common.parse_shapes(shapes)
        )
        if found is None:
            raise InputError("no sizes for the symbolic dims were found that the model accepts; give --input-shape.")
        feeds = found[0]
    outputs = ours.run(feeds)
    for name in names:
        if name not in contenders:
            contenders[name] = peers.open_peer(name, source, threads, feeds, outputs)
    result = measure(contenders, feeds, runs)
    result |= {
        "threads": n,
        "runs": runs,
        "inputs": {k: list(v.shape) for k, v in feeds.items()},
        "load_ms": load * 1e3,
    }
    ours.run(feeds)
    m = ours.memory
    result["memory"] = {"arena": m.arena, "packed": m.packed, "weights": m.weights}
    if profile:
        result["profile"] = [r._asdict() for r in ours.profile(feeds, max(3, runs // 2))]
    if as_json:
        common.emit_json(result)
    else:
        show(result)
    return 0 if all(r.get("agrees", True) for r in result["runtimes"].values()) else 1


def measure(contenders: dict[str, Any], feeds: dict[str, np.ndarray], runs: int) -> dict[str, Any]:
    """Times in milliseconds of each contender, taken in turn; ratios to the first, pair by pair."""
    from deploykit import peers

    outputs = {k: c.run(feeds) for k, c in contenders.items()}
    names = list(contenders)
    gc.disable()
    try:
        times = peers.race(contenders, feeds, runs)
    finally:
        gc.enable()
    first = names[0]
    rows: dict[str, Any] = {}
    for k in names:
        ms = np.array(times[k])
        rows[k] = {"min_ms": ms.min(), "median_ms": np.median(ms), "p90_ms": np.percentile(ms, 90)}
        if k != first:
            rows[k]["ratio"] = float(np.median(ms / np.array(times[first])))
            worst = peers.agreement(outputs[first], outputs[k])
            rows[k]["largest_difference"] = worst
            if not k.startswith(first):  # a precision that was asked for
                rows[k]["agrees"] = bool(worst <= 1e-3)
    return {"runtimes": rows}


def show(r: dict[str, Any]) -> None:
    """Print the result."""
    shapes = ", ".join(f"{k} {v}" for k, v in r["inputs"].items())
    console.print(
        f"{shapes}; {r['threads'] or 'all'} threads; {r['runs']} runs; loaded in {r['load_ms']:.1f} ms", markup=False
    )
    t = common.table("runtime", ">min ms", ">median ms", ">p90 ms", ">its time / ours", ">difference")
    for name, row in r["runtimes"].items():
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        d = f"{row['largest_difference']:.1e}" if "ratio" in row else ""
        t.add_row(name, f"{row['min_ms']:.3f}", f"{row['median_ms']:.3f}", f"{row['p90_ms']:.3f}", ratio, d)
    console.print(t)
    if not all(row.get("agrees", True) for row in r["runtimes"].values()):
        console.print("[red]the outputs differ by more than 1e-3 of the largest output[/red]: see `deploykit compare`")
    m = r["memory"]
    console.print(f"arena {size(m['arena'])}, packed weights {size(m['packed'])}, file weights {size(m['weights'])}")
    if "profile" in r:
        total = sum(p["microseconds"] for p in r["profile"]) or 1
        t = common.table("node", "op", "kernel", ">us", ">%", ">GFLOP/s")
        for p in sorted(r["profile"], key=lambda p: -p["microseconds"])[:40]:
            us = p["microseconds"]
            t.add_row(
                common.escape(p["name"]),
                p["op"],
                p["detail"],
                f"{us:.1f}",
                f"{100 * us / total:.1f}",
                f"{p['gflops']:.1f}" if p["gflops"] else "",
            )
        console.print(t)
        console.print(f"sum of nodes: {total / 1e3:.3f} ms")
