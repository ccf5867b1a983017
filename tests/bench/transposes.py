"""Transposes left after the layout pass, on every model of the public set and on CNNs of ours, with what they cost.

    python -m tests.bench.transposes [--docs]

Cost: bytes moved in one run, and their share of the time of a run on one thread.  ``--docs`` writes docs/transposes.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deploykit as dk
from deploykit.runners import open_runner, working_inputs
from tests.support import assets, zoo

DOCS = Path(__file__).parents[2] / "docs" / "transposes.md"


def models(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, path)."""
    for name in (*assets.ONNX_MODELS, *assets.TFLITE_MODELS, *assets.KERAS_MODELS):
        yield name.removeprefix("models/"), assets.fetch(name)
    for name, make in zoo.ZOO.items():
        import onnx

        onnx.save(make(), folder / f"{name}.onnx")
        yield f"{name} (tests/support/zoo.py)", folder / f"{name}.onnx"


def own(path: Path) -> int:
    """Transposes that the file itself holds."""
    if path.suffix == ".onnx":
        import onnx

        def count(g: Any) -> int:
            inner = [a.g for n in g.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
            return sum(n.op_type == "Transpose" for n in g.node) + sum(map(count, inner))

        return count(onnx.load(str(path), load_external_data=False).graph)
    if path.suffix == ".tflite":
        from deploykit.converters.importers.tflite.reader import read_model

        source = read_model(path)
        return sum(
            source.op_name(o.opcode_index)[0] == "TRANSPOSE" for g in source.model.subgraphs for o in g.operators
        )
    return 0


def measured(path: Path, folder: Path) -> dict[str, Any]:
    """One row."""
    report = dk.convert(path, folder / "m.dk", verify=False)
    row: dict[str, Any] = {
        "left": report.transposes_left,
        "own": own(path),
        "bytes": report.transpose_bytes,
        "share": 0.0,
    }
    if not row["left"]:
        return row
    row["nhwc"] = dk.convert(path, verify=False, io_layout="nhwc").transposes_left
    session = dk.Interpreter(folder / "m.dk", threads=1)
    found = working_inputs(open_runner(folder / "m.dk", 1))
    if found is not None:
        rows = session.profile(found[0], runs=10)
        total = sum(r.microseconds * r.calls for r in rows)
        row["share"] = sum(r.microseconds * r.calls for r in rows if r.op == "transpose") / max(total, 1e-9)
    return row


def main(argv: list[str] | None = None) -> int:
    """Command line; 0."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--docs", action="store_true")
    a = p.parse_args(argv)
    lines = ["| model | left | moved | of a run | left with NHWC | in the file |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as t:
        for name, path in models(Path(t)):
            r = measured(path, Path(t))
            cost = f"{r['bytes'] / 1e3:.0f} kB | {100 * r['share']:.1f} %" if r["left"] else " | "
            lines.append(f"| {name} | {r['left']} | {cost} | {r.get('nhwc', 0)} | {r['own']} |")
            print(lines[-1], flush=True)
    if a.docs:
        head = [
            "# Transposes left",
            "",
            "Written by `python -m tests.bench.transposes --docs`: after the layout pass, bytes moved and share of a run on one",
            "thread. Inside of convolutional nets none is left. What an ONNX file keeps is the one of its own input from NCHW,",
            "which `--io-layout nhwc` takes away, and those between the heads of attention, which are the op's meaning.",
            "The last column counts the transposes that the file itself holds.",
            "",
        ]
        DOCS.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
