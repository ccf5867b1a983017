"""The heavy command: TensorFlow's converter writes models of few operators, LiteRT and our engine answer.

    python tests/support/tensorflow_ops.py write FOLDER        # where tensorflow is installed; needs nothing of ours
    python -m tests.support.tensorflow_ops judge FOLDER [--docs] [--only TEXT]

``write`` makes every case of tensorflow_cases.py with random shapes and options of several seeds, in float and, where the
converter can quantize it, in int8 with integer inputs and outputs.  ``judge`` imports each file, runs it in LiteRT's
plain kernels and in our engine on seeded inputs and counts by builtin operator; ``--docs`` writes docs/tflite-ops.md.
Bounds: floats within 1e-4 of the largest output, or four times what LiteRT's own kernels (plain and with its delegate)
differ; integers of int8 files within one step, or what LiteRT's own differ, 99.9 % equal or a single element; ROUNDED
lists the cases of which more than that are one step away, with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = 3
DOCS = Path(__file__).parents[2] / "docs" / "tflite-ops.md"
# cases whose int8 results lie within one step as all do, but fewer than 99.9 % of them are equal
ROUNDED = {
    "matmul_transposed": "one element in 200: products of two inputs run in LiteRT's plain kernels, which round twice "
    "(gemmlowp); its delegate, where it takes a product (convolutions, dense layers), rounds once, and so do we",
}


# ---- where tensorflow is
def write(folder: Path, only: str) -> None:
    """All files, and refusals.txt with what TensorFlow could not convert."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(Path(__file__).parent))
    import tensorflow as tf
    from tensorflow_cases import cases  # type: ignore[import-not-found]

    folder.mkdir(parents=True, exist_ok=True)
    refused = []
    for seed in range(SEEDS):
        for name, function, inputs, forms in cases(tf, np.random.default_rng(seed)):
            if only not in name:
                continue
            for form in forms:
                try:
                    data = converted(tf, function, inputs, form, seed)
                except Exception as e:  # its converter raises whatever it likes
                    refused.append(
                        f"{name} {form}: {str(e).strip().splitlines()[0][:160] if str(e).strip() else type(e)}"
                    )
                    continue
                (folder / f"{name}.{form}.{seed}.tflite").write_bytes(data)
    (folder / "refusals.txt").write_text(f"tensorflow {tf.__version__}\n" + "\n".join(refused) + "\n", encoding="utf-8")
    print(f"{len(list(folder.glob('*.tflite')))} files, {len(refused)} refused")


def converted(tf: Any, function: Any, inputs: list[Any], form: str, seed: int) -> bytes:
    """One function by the converter; inputs: arrays that stand for shape, dtype and range."""
    module = tf.Module()
    specs = [tf.TensorSpec(x.shape, x.dtype, name=f"x{i}") for i, x in enumerate(inputs)]
    module.f = tf.function(function, input_signature=specs)
    c = tf.lite.TFLiteConverter.from_concrete_functions([module.f.get_concrete_function()], module)
    if form == "int8":
        r = np.random.default_rng(seed)
        c.optimizations = [tf.lite.Optimize.DEFAULT]
        c.representative_dataset = lambda: (
            [r.permutation(x.ravel()).reshape(x.shape) if x.dtype == np.float32 else x for x in inputs]
            for _ in range(8)
        )
        c.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        c.inference_input_type = c.inference_output_type = tf.int8
    return c.convert()


# ---- where we are
def builtins_of(data: bytes) -> list[str]:
    """Names of the operators in a file."""
    from deploykit.converters.importers.tflite.reader import read_model

    source = read_model(data)
    return sorted({source.op_name(o.opcode_index)[0] for g in source.model.subgraphs for o in g.operators})


def feeds_of(specs: Any, seed: int, name: str) -> dict[str, np.ndarray]:
    """Seeded inputs: floats as the cases draw them, the whole range of int8, small indices elsewhere."""
    r = np.random.default_rng([seed, len(name)])
    out = {}
    for s in specs:
        if s.dtype == "float32":
            x = r.uniform(0.1, 2, s.shape) if "positive" in name else r.standard_normal(s.shape)
            x = np.clip(x, -0.99, 0.99) if "unit" in name else x
        elif s.dtype == "int8":
            x = r.integers(-128, 128, s.shape)
        else:
            x = r.integers(0, 2 if s.dtype == "bool" else 3, s.shape)
        out[s.name] = np.asarray(x, s.dtype)
    return out


def judged(path: Path) -> tuple[bool, str, float]:
    """(agrees, what differs, worst error: of the largest output, or in steps)."""
    import deploykit as dk
    from deploykit.graph.dkfile import to_bytes
    from deploykit.runners import LiteRtRunner, difference

    name, _, seed, _ = path.name.split(".")
    data = path.read_bytes()
    theirs = LiteRtRunner(data, 1, optimize=False)
    feeds = feeds_of(theirs.inputs, int(seed), name)
    want = theirs.run(feeds)
    got = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph)).run(feeds)
    try:
        noisy = LiteRtRunner(data, 1).run(feeds)
    except RuntimeError:  # a delegate that does not take this
        noisy = want
    if list(got) != list(want):
        return False, f"outputs {list(got)} for {list(want)}", 0
    worst, problems = 0.0, []
    for k, w in want.items():
        g = got[k]
        if (g.dtype, g.shape) != (w.dtype, w.shape):
            problems.append(f"{g.dtype}{g.shape} for {w.dtype}{w.shape}")
            continue
        error, scale = difference(w, g)
        own = difference(w, noisy[k])[0]
        if w.dtype.kind == "f":
            worst = max(worst, error / max(scale, 1e-30))
            fine = error <= max(1e-4 * scale, 4 * own)
        else:
            off = int((w != g).sum())
            worst = max(worst, error)
            fine = error <= max(w.dtype == np.int8, own)
            fine = fine and (off <= max(1, 0.001 * w.size) or own > 0 or (name in ROUNDED and w.dtype == np.int8))
        if not fine:
            problems.append(f"{error:.3g} of {scale:.3g} (LiteRT's own: {own:.3g}), {(w == g).mean():.1%} equal")
    return not problems, "; ".join(problems), worst


def judge(folder: Path, only: str, docs: bool) -> int:
    """Run all files; 1 when something differs."""
    from deploykit.converters.ir.tflite_schema import BUILTINS

    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    worst: dict[tuple[str, str], float] = defaultdict(float)
    bad: list[str] = []
    skipped: list[str] = []
    for path in sorted(folder.glob("*.tflite")):
        if only not in path.name:
            continue
        form = path.name.split(".")[1]
        try:
            ok, why, error = judged(path)
        except Exception as e:
            ok, why, error = False, f"{type(e).__name__}: {' '.join(str(e).split())[:200]}", 0
            if isinstance(e, (RuntimeError, ValueError)) and type(e).__module__ == "builtins":
                skipped.append(f"{path.name}: LiteRT: {why}")
                continue
        for op in builtins_of(path.read_bytes()):
            counts[op, form]["ok" if ok else "differs"] += 1
            worst[op, form] = max(worst[op, form], error)
        if not ok:
            bad.append(f"{path.name}: {why}")
    for line in [*bad, *skipped]:
        print(line)
    ops = [b for b in BUILTINS if any((b, f) in counts for f in ("float", "int8"))]
    files = len(list(folder.glob("*.tflite")))
    print(f"{files} files, {len(ops)} builtin operators, {len(bad)} differ, {len(skipped)} that LiteRT refuses")
    if docs:
        DOCS.write_text(page(folder, ops, counts, worst, bad, skipped, files), encoding="utf-8")
    return int(bool(bad))


def page(folder: Path, ops: Any, counts: Any, worst: Any, bad: list[str], skipped: list[str], files: int) -> str:
    """docs/tflite-ops.md."""
    import datetime
    import importlib.metadata

    from deploykit.converters.ir.tflite_schema import BUILTINS

    head, *refused = (folder / "refusals.txt").read_text(encoding="utf-8").splitlines()

    def cell(op: str, form: str) -> str:
        c = counts.get((op, form))
        if not c:
            return ""
        unit = f"{worst[op, form]:.0e}" if form == "float" else f"{worst[op, form]:.0f}"
        return f"{c['ok']} of {c['ok'] + c['differs']}, {unit}"

    rest = [b for b in BUILTINS if b not in ops and not b.startswith("STABLEHLO_")]
    lines = [
        "# Operators that TensorFlow's converter writes",
        "",
        f"{files} models of few operators by {head}, float and int8, random shapes and options, against",
        f"LiteRT {importlib.metadata.version('ai-edge-litert')}'s plain kernels; the files themselves are made by "
        "`python tests/support/tensorflow_ops.py write FOLDER`. Written by",
        "`python -m tests.support.tensorflow_ops judge FOLDER --docs` "
        f"on {datetime.date.today():%d %b %Y}. {len(ops)} builtin operators; {len(bad)} files differ.",
        "A file counts for every operator in it. Beside the number that agree: the worst error, of the largest output in",
        "float files, in the outputs' own steps in int8 ones (wide where the file's other operators are).",
        "",
        "| builtin | float | int8 |",
        "|---|---|---|",
        *(f"| {op} | {cell(op, 'float')} | {cell(op, 'int8')} |" for op in ops),
        "",
        "Within one step (all int8 files are, or as far apart as LiteRT's own kernels), but less than 99.9 % equal:",
        "",
        *(f"- {k}: {v}" for k, v in ROUNDED.items()),
        "",
        *(["Differing:", "", *(f"- {b}" for b in bad), ""] if bad else []),
        *(["Files that LiteRT itself refuses to run:", "", *(f"- {s}" for s in skipped), ""] if skipped else []),
        f"Not converted by TensorFlow ({len(refused)}): "
        + "; ".join(sorted({r.partition(":")[0] for r in refused}))
        + ".",
        "",
        f"Builtins not among these files ({len(rest)}; most have a test of their own in "
        "`tests/converters/tflite/test_single_ops.py` or `test_strings_and_bits.py`): " + ", ".join(rest) + ".",
        "",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 1 when something differs."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("what", choices=("write", "judge"))
    p.add_argument("folder", type=Path)
    p.add_argument("--only", default="", help="part of the names")
    p.add_argument("--docs", action="store_true")
    a = p.parse_args(argv)
    if a.what == "write":
        write(a.folder, a.only)
        return 0
    return judge(a.folder, a.only, a.docs)


if __name__ == "__main__":
    sys.exit(main())
