"""``deploykit demo``: the whole way on real data in well under a minute."""

from __future__ import annotations

import lzma
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import numpy as np

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.units import size

SIZE = 128  # the detector's input
# BlazeFace's anchors (Bazarevsky et al. 2019, section 3): 2 per cell of a 16 x 16 grid, 6 per cell of an 8 x 8 grid.
GRIDS = ((16, 2), (8, 6))
THRESHOLD, OVERLAP = 0.75, 0.3  # least score; boxes that overlap a better one by more are dropped


@click.command(short_help="See the whole way on real data.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="deploykit-demo",
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--site",
    type=click.Path(path_type=Path, file_okay=False),
    help="Then write a web demo of the models into this folder.",
)
@common.json_option
def command(output: Path, site: Path | None, as_json: bool) -> int:
    """Train a classifier of handwritten digits, export, check and quantize it; convert a real face detector, find a
    face, time it.

    Everything needed ships with Deploykit; nothing is downloaded.

    \b
    Examples:
      deploykit demo
      deploykit demo --site public
    """
    if site is not None:
        from deploykit.web import demo
        from deploykit.web.site import runtime

        runtime()  # say at once when there is no engine for browsers
    result = run(output, quiet=as_json)
    if site is not None:
        result["web"] = demo.build(output, site)
        if not as_json:
            console.print(
                f"\nweb demo in {site} ({size(result['web']['bytes'])}): serve it by any static host", markup=False
            )
    if as_json:
        common.emit_json(result)
    ok = result["face_found"] and result["verification"]["status"] == "passed" and result["digits"]["same_answer"]
    return 0 if ok else 1


def run(folder: Path, quiet: bool = False) -> dict[str, Any]:
    """Do it all; returns the figures."""
    import deploykit as dk
    from deploykit.cli import bench_cmd, convert_cmd, demo_digits
    from deploykit.runners import have_onnxruntime, open_runner

    def say(text: str) -> None:
        if not quiet:
            console.print(text)

    folder.mkdir(parents=True, exist_ok=True)
    say("[bold]1. Train[/bold] a classifier of handwritten digits (8 x 8 pixels), with random shifts")
    trained = demo_digits.run(folder, say)

    data = files("deploykit") / "demo_data"
    source = folder / "blazeface.onnx"
    source.write_bytes(face_model())
    photo = folder / "astronaut.jpg"
    photo.write_bytes((data / "astronaut.jpg").read_bytes())
    model = folder / "blazeface.dk"

    say(
        "\n[bold]2. Convert[/bold] BlazeFace (a MediaPipe face detector, ONNX, Apache-2.0) and check it against its source"
    )
    meta = {
        "preprocessing": {"range": [-1.0, 1.0]},
        "task": "face detection",
        "licence": "Apache-2.0",
        "detector": detector(source),
    }
    report = dk.convert(source, model, metadata=meta)
    if not quiet:
        convert_cmd.show(report)

    say("\n[bold]3. Run[/bold] it on a photograph")
    session = dk.Interpreter(model)
    x = common.read_image(photo, session.inputs[0], meta["preprocessing"])  # type: ignore[arg-type]
    faces = decode(session.run({session.inputs[0].name: x}))
    want = faces_of(source, x)
    agree = len(faces) == len(want) and all(np.allclose(a, b, atol=1e-3) for a, b in zip(faces, want, strict=True))
    for f in faces:
        say(
            f"   face with score {f[0]:.3f} at x {f[1]:.2f}..{f[3]:.2f}, y {f[2]:.2f}..{f[4]:.2f} "
            f"(the source finds the same: {'yes' if agree else 'NO'})"
        )
    picture = draw(photo, faces, folder / "faces.png")
    say(f"   drawn into {picture}")

    say("\n[bold]4. Benchmark[/bold] on one thread, runtimes taking turns in one process")
    contenders: dict[str, Any] = {"deploykit": dk.Interpreter(model, threads=1)}
    if have_onnxruntime():
        peer = open_runner(source, 1)
        contenders[peer.tool] = peer
    else:
        say("   (onnxruntime is not installed: pip install 'deploykit\\[bench]' to see it beside ours)")
    times = bench_cmd.measure(contenders, {session.inputs[0].name: x}, 40)["runtimes"]
    for k, row in times.items():
        ratio = f", {row['ratio']:.2f} x our time" if "ratio" in row else ""
        say(f"   {k}: median {row['median_ms']:.2f} ms{ratio}")
    start = time.perf_counter()
    dk.Interpreter(model, threads=1).run({session.inputs[0].name: x})
    first = (time.perf_counter() - start) * 1e3
    say(
        f"   load and first answer: {first:.1f} ms; arena {size(session.memory.arena)}, file {size(model.stat().st_size)}"
    )

    say(
        "\n[bold]Now try[/bold]\n"
        f"   deploykit inspect {folder / 'digits.dk'}\n"
        f"   deploykit bench {model} --profile\n"
        f"   deploykit compare {source} {model}\n"
        "   deploykit convert YOUR.onnx -o YOUR.dk"
    )
    return {
        "digits": trained,
        "model": str(model),
        "picture": str(picture),
        "face_found": bool(faces) and agree,
        "faces": [[float(v) for v in f] for f in faces],
        "verification": report.verification,
        "bench": times,
        "first_answer_ms": first,
    }


def face_model() -> bytes:
    """The demo's face detector, an ONNX file: byte for byte the published one."""
    from deploykit.onnx_source import widened

    return widened(lzma.decompress((files("deploykit") / "demo_data" / "blazeface.onnx.xz").read_bytes()))


def detector(source: Path) -> dict[str, Any]:
    """How the model's outputs become boxes, for ``deploykit web`` (docs/web.md): what :func:`decode` does."""
    from deploykit.runners import open_runner

    by_size = {tuple((o.shape or ())[1:]): o.name for o in open_runner(source, 1).outputs}
    cells = [n * n * per_cell for n, per_cell in GRIDS]
    return {
        "kind": "anchors",
        "name": "face",
        "grids": [list(g) for g in GRIDS],
        "size": SIZE,
        "scores": [by_size[(n, 1)] for n in cells],
        "boxes": [by_size[(n, 16)] for n in cells],
        "threshold": THRESHOLD,
        "overlap": OVERLAP,
    }


def faces_of(source: Path, x: np.ndarray) -> list[np.ndarray]:
    """The same detector run by the source's own tool."""
    from deploykit.runners import open_runner

    runner = open_runner(source, 1)
    return decode(runner.run({runner.inputs[0].name: x}))


def anchors() -> np.ndarray:
    """Centers of all 896 anchors, [896, 2] as (x, y) in 0..1."""
    out = []
    for n, per_cell in GRIDS:
        y, x = np.mgrid[0:n, 0:n]
        cells = np.stack([(x + 0.5) / n, (y + 0.5) / n], -1).reshape(-1, 1, 2)
        out.append(np.broadcast_to(cells, (n * n, per_cell, 2)).reshape(-1, 2))
    return np.concatenate(out)


def decode(outputs: dict[str, np.ndarray], threshold: float = THRESHOLD, overlap: float = OVERLAP) -> list[np.ndarray]:
    """Detector outputs to [(score, x0, y0, x1, y1)] in 0..1, best first, without duplicates."""
    by_size = {v.shape[1:]: v for v in outputs.values()}
    scores = np.concatenate([by_size[(512, 1)], by_size[(384, 1)]], 1)[0, :, 0]
    boxes = np.concatenate([by_size[(512, 16)], by_size[(384, 16)]], 1)[0]
    score = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -80, 80)))
    center = anchors() + boxes[:, 0:2] / SIZE
    half = boxes[:, 2:4] / SIZE / 2
    rows = np.concatenate([score[:, None], center - half, center + half], 1)
    kept: list[np.ndarray] = []
    for r in rows[np.argsort(-score, kind="stable")]:
        if r[0] < threshold:
            break
        if all(_iou(r, k) < overlap for k in kept):
            kept.append(r)
    return kept


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[1:3], b[1:3]), np.minimum(a[3:5], b[3:5])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / (float(np.prod(a[3:5] - a[1:3])) + float(np.prod(b[3:5] - b[1:3])) - both)


def draw(photo: Path, faces: list[np.ndarray], target: Path) -> Path:
    """The photograph with a frame around each face."""
    from PIL import Image, ImageDraw

    image = Image.open(photo).convert("RGB").resize((512, 512))
    pen = ImageDraw.Draw(image)
    for score, x0, y0, x1, y1 in faces:
        pen.rectangle([x0 * 512, y0 * 512, x1 * 512, y1 * 512], outline=(0, 220, 90), width=4)
        pen.text((x0 * 512 + 6, y0 * 512 + 6), f"face {score:.2f}", fill=(0, 220, 90))
    image.save(target)
    return target
