"""``deploykit inspect``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from deploykit.cli import common
from deploykit.cli.common import console, escape, spec_text
from deploykit.units import size


@click.command(short_help="Show what is in a model.")
@common.model_argument()
@click.option("--nodes", is_flag=True, help="Print the whole graph as text.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Draw the graph on one self-contained page."
)
@click.option("--profile", is_flag=True, help="With --html and a .dk file: colour nodes by their time.")
@common.json_option
def command(model: Path, nodes: bool, html: Path | None, profile: bool, as_json: bool) -> int:
    """Show inputs, outputs, ops, sizes, metadata and the memory plan of MODEL (.dk; other formats are read as they stand).

    \b
    Examples:
      deploykit inspect model.dk
      deploykit inspect model.dk --nodes | less
      deploykit inspect model.onnx --json
      deploykit inspect model.dk --html graph.html --profile
    """
    from deploykit.api import import_graph
    from deploykit.ops.infer import infer_graph

    graph = import_graph(model)
    infer_graph(graph)
    info = describe(model, graph)
    if html is not None:
        from deploykit.cli.graph_page import page
        from deploykit.graph.dkfile import atomic_write

        with atomic_write(html) as f:
            f.write(page(model, graph, info, _times(model) if profile else None).encode())
        console.print(f"written: {html}", markup=False)
        return 0
    if profile:
        raise click.UsageError("--profile needs --html FILE.")
    if as_json:
        common.emit_json(info)
        return 0
    if nodes:
        click.echo(graph.summary())
        return 0
    console.print(
        f"[bold]{escape(str(model))}[/bold] {size(info['bytes'])}, {info['nodes']} nodes, weights {size(info['weights'])}"
    )
    for side in ("inputs", "outputs"):
        for s in info[side]:
            console.print(f"  {side[:-1]:6} [bold]{escape(s['name'])}[/bold] {escape(s['type'])}")
    for name, v in info["variables"].items():
        console.print(f"  variable {name} {v}", markup=False)
    t = common.table("op", ">count", ">weights")
    for op, row in info["ops"].items():
        t.add_row(op, str(row["count"]), size(row["weights"]))
    console.print(t)
    fused = ", ".join(f"{k} {v}" for k, v in info["fused"].items())
    console.print(f"fused into conv and matmul: {fused or 'nothing'}; transposes: {info['transposes']}")
    if "runtime" in info:
        console.print(f"runs in engine {info['runtime']} and later")
    m = info.get("memory")
    if m and "error" in m:
        console.print(f"memory plan: {m['error']}", markup=False)
    elif m:
        console.print(
            f"memory plan for {m['shapes']}: arena {size(m['arena'])}, packed weights {size(m['packed'])}, "
            f"nodes with data-dependent shapes {m['nodes_dynamic']}",
            markup=False,
        )
    for key, value in info["metadata"].items():
        text = str(value)
        console.print(f"{key}: {text if len(text) < 100 else text[:100] + ' ...'}", markup=False)
    return 0


def _times(path: Path) -> dict[str, float]:
    """Milliseconds by node, on made-up inputs."""
    from deploykit.runners import DkRunner, working_inputs

    if path.suffix != ".dk":
        raise click.UsageError("--profile needs a .dk file: convert the model first.")
    runner = DkRunner(path)
    found = working_inputs(runner)
    if found is None:
        raise click.UsageError("--profile: no sizes were found that the model accepts.")
    return {r.name: r.microseconds / 1e3 for r in runner.session.profile(found[0])}


def _in_integers(n: Any) -> list[str]:
    """What an integer product does besides: it rounds to bytes (else gives floats), clamps, adds.

    An activation such as ReLU left nothing but bounds; where its bound is the end of the dtype's own range, as with a
    zero point of 0 in uint8, the zero point tells (as it does where calibration saw one sign only).
    """
    from deploykit import dtypes
    from deploykit.ops.core import get

    attrs = get(n.op).complete(n.attrs)
    dtype = dtypes.dtype(attrs["dtype"]) if attrs["dtype"] else n.inputs[0].dtype
    does = ["residual"] if len(n.inputs) > 4 and n.inputs[4] is not None else []
    if dtype is None or dtype.kind not in "iu":
        return does
    first, last = (0, 255) if dtype.kind == "u" else (-128, 127)
    if attrs["low"] > first or attrs["high"] < last or attrs["y_zero_point"] in (first, last):
        does.append("clamp")
    return [*does, "requantize"]


def describe(path: Path, graph: Any) -> dict[str, Any]:
    """Everything the command prints, as data."""
    from deploykit.graph.dkfile import stored_bytes

    ops: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    fused: Counter[str] = Counter()
    seen: set[int] = set()
    for g in graph.walk():
        for n in g.nodes:
            ops[n.op] += 1
            for v in n.inputs:
                if v is not None and v.data is not None and v.dtype is not None and id(v.data) not in seen:
                    seen.add(id(v.data))
                    weights[n.op] += stored_bytes(v.data, v.dtype)
            if n.op in ("conv", "matmul", "conv_transpose"):
                if n.attrs.get("act", "none") != "none":
                    fused[n.attrs["act"]] += 1
                if n.op != "conv_transpose" and len(n.inputs) > 3 and n.inputs[3] is not None:
                    fused["residual"] += 1
            elif n.op in ("qconv", "qmatmul"):
                fused.update(_in_integers(n))

    def specs(values: list[Any], names: list[str]) -> list[dict[str, str]]:
        return [{"name": k, "type": spec_text(v)} for k, v in zip(names, values, strict=True)]

    info = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "inputs": specs(graph.inputs, [v.name for v in graph.inputs]),
        "outputs": specs(graph.outputs, graph.public_outputs),
        "variables": {v.name: f"{v.initial.dtype}{list(v.initial.shape)}" for v in graph.variables},
        "signatures": ["main", *graph.signatures],
        "nodes": sum(ops.values()),
        "weights": sum(weights.values()),
        "ops": {k: {"count": c, "weights": weights[k]} for k, c in ops.most_common()},
        "fused": dict(fused),
        "transposes": ops["transpose"],
        "metadata": graph.metadata,
    }
    if path.suffix == ".dk":
        from deploykit.ops.contract import needed_runtime

        info["runtime"] = needed_runtime(graph)
        info["memory"] = _memory(path)
    return info


def _memory(path: Path) -> dict[str, Any]:
    """Plan for the first sizes of the symbolic dims that the model accepts."""
    from deploykit.runners import DkRunner, working_inputs

    runner = DkRunner(path)
    found = working_inputs(runner)
    if found is None:
        return {"error": "no sizes were found that the model accepts"}
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in found[0].items())
    return {"shapes": shapes, **runner.session.memory._asdict()}
