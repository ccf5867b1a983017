"""``deploykit web``."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.errors import InputError
from deploykit.units import size

if TYPE_CHECKING:
    from deploykit.web.cut import Cut


@click.command(short_help="Write a static web page that runs a model.")
@common.model_argument(factory=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option("--title", help="Heading of the page; default: from the model's metadata or file name.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Names of the classes: a text file, one per line.",
)
@click.option(
    "--example",
    "examples",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A sample offered on the page: .npy .npz .png .jpg .wav; may be given several times.",
)
@click.option("--input-shape", "shapes", multiple=True, metavar="NAME:1,3,224,224", help="Sizes of symbolic dims.")
@click.option(
    "--runtime",
    type=click.Choice(["full", "cut"]),
    default="full",
    show_default=True,
    help="cut: an engine with this model's ops alone, compiled here (needs ziglang; half a minute).",
)
@click.option("--serve", is_flag=True, help="Then open it on this machine, with the right headers, until Ctrl+C.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port of --serve.")
@common.json_option
def command(
    model: Path,
    output: Path,
    title: str | None,
    labels: Path | None,
    examples: tuple[str, ...],
    shapes: tuple[str, ...],
    runtime: str,
    serve: bool,
    port: int,
    as_json: bool,
) -> int:
    """Write a static page that runs MODEL in the visitor's browser; the folder works from any host, also offline.

    The page takes its form from the model: drawing, image, audio, text or raw tensors in; classes, boxes, maps or
    numbers out. It shows speed, sizes, the model card, and compares itself with answers computed here.
    MODEL may be anything that 'deploykit convert' reads; what is not .dk yet is converted and checked first.

    \b
    Examples:
      deploykit web model.dk -o site
      deploykit web model.onnx -o site --labels labels.txt --example cat.jpg --serve
      deploykit web model.dk -o site --runtime cut
    """
    from deploykit.web import site

    words = labels.read_text(encoding="utf-8").splitlines() if labels else None
    with tempfile.TemporaryDirectory() as tmp:
        dk_file = _as_dk(model, Path(tmp))
        cut = _cut(dk_file, Path(tmp) / "runtime") if runtime == "cut" else None
        cases = _cases(dk_file, examples, shapes)
        info = site.build(
            dk_file,
            output,
            title=title,
            labels=[w.strip() for w in words if w.strip()] if words is not None else None,
            examples=cases,
            input_shapes=common.parse_shapes(shapes),
            engine=Path(tmp) / "runtime" if cut else None,
        )
    total = sum(info["sizes"].values())
    if as_json:
        common.emit_json({"site": str(output), "bytes": total, "cut": cut and asdict(cut), **info})
    else:
        kinds = ", ".join(f"{i['name']} ({i['editor']})" for i in info["inputs"]) or "none"
        shown = ", ".join(f"{'+'.join(v['outputs'])} ({v['view']})" for v in info["views"])
        console.print(f"{output}: {size(total)} in all, model {size(info['sizes']['model.dk'])}", markup=False)
        console.print(f"  inputs: {kinds}\n  outputs: {shown}", markup=False)
        if cut:
            costs = ", ".join(f"{op} {size(n)}" for op, n in sorted(cut.cost.items(), key=lambda item: -item[1]))
            console.print(
                f"  engine cut to {len(cut.ops)} ops, {size(cut.modules['engine.wasm'])}: {costs}", markup=False
            )
        if not info["vectors"]:
            console.print("  the model gives other answers each time, so the page has no 'same answer' check")
    if serve:
        _serve(output, port)
    elif not as_json:
        console.print(f"  to see it: deploykit web {model} -o {output} --serve", markup=False)
    return 0


def _as_dk(model: Path, folder: Path) -> Path:
    """The model itself, or what ``convert`` makes of it."""
    if model.suffix == ".dk":
        return model
    from deploykit.api import convert
    from deploykit.factory import is_factory

    stem = str(model).rpartition(":")[2] if is_factory(str(model)) else model.stem
    target = folder / f"{stem}.dk"
    convert(model, target)
    return target


def _cut(model: Path, folder: Path) -> Cut:
    from deploykit.web import cut, site

    return cut.build(model, site.runtime(), folder)


def _cases(model: Path, files: tuple[str, ...], shapes: tuple[str, ...]) -> list[tuple[str, dict[str, Any]]]:
    """Inputs made of the example files; inputs that a file does not give are made up."""
    if not files:
        return []
    from deploykit.interpreter import Interpreter
    from deploykit.web import vectors

    session = Interpreter(model)
    base = vectors.made_up(model, shapes=common.parse_shapes(shapes))
    out = []
    for text in files:
        given = common.read_inputs((text,), session.inputs, session.metadata)
        unknown = [n for n in given if n not in base]
        if unknown:
            raise InputError(f"--example {text}: the model has no input '{unknown[0]}'; it has: {', '.join(base)}.")
        out.append((Path(text.partition("=")[2] or text).stem, base | given))
    return out


def _serve(folder: Path, port: int) -> None:
    from deploykit.web import serve

    with serve.server(folder, port) as httpd:
        console.print(f"  http://127.0.0.1:{httpd.server_address[1]}/ (Ctrl+C ends it)", markup=False)
        try:
            httpd.serve_forever()
        except KeyboardInterrupt:
            console.print("")
