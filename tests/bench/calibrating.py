"""Time and peak memory of calibrating on 500 images, ours against onnxruntime's, each in a process of its own; bytes of files.

    python -m tests.bench.calibrating [--images 500]

MobileNetV2 of tests/support/zoo.py at 224 pixels, images made as they are read.  onnxruntime: MinMax, Q/DQ, per channel.
Sizes: int8 of MobileNetV2 and ResNet-50, int4 of the transformer, over their float32 files.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from tests.support import zoo


def images(n: int) -> Iterator[dict[str, np.ndarray]]:
    """Smooth noise in -2..2, one after another."""
    r = np.random.default_rng(0)
    for _ in range(n):
        coarse = r.standard_normal((1, 3, 28, 28)).astype(np.float32)
        yield {"x": np.repeat(np.repeat(coarse, 8, 2), 8, 3)}


def work(tool: str, model: Path, n: int) -> None:
    """One tool, in this process."""
    if tool == "onnxruntime":
        from onnxruntime import quantization as q

        class Reader(q.CalibrationDataReader):
            rows = images(n)

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self.rows, None)

        how = dict(activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8, per_channel=True)
        q.quantize_static(model, model.with_suffix(".q.onnx"), Reader(), quant_format=q.QuantFormat.QDQ, **how)
        return
    import deploykit as dk

    repair = "none" if "no repairs" in tool else None
    dk.convert(model, model.with_suffix(".q.dk"), quantize="int8", calibration=images(n), verify=False, repair=repair)


def main() -> None:
    """Print both tables."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--images", type=int, default=500)
    p.add_argument("--work", nargs=2, default=None, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.work:
        started = time.perf_counter()
        work(a.work[0], Path(a.work[1]), a.images)
        used = resource.getrusage(resource.RUSAGE_SELF)
        wall, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
        print(f"| {a.work[0]} | {wall:.1f} | {cpu:.1f} | {used.ru_maxrss / 1024:.0f} |", flush=True)
        return
    with tempfile.TemporaryDirectory() as t:
        model = Path(t) / "mobilenetv2.onnx"
        onnx.save(zoo.ZOO["mobilenetv2"](), model)
        print("| tool | s | s of processor | peak MB |\n|---|---|---|---|", flush=True)
        for tool in ("deploykit", "deploykit, no repairs", "onnxruntime"):
            here = [sys.executable, "-m", "tests.bench.calibrating", "--images", str(a.images)]
            subprocess.run([*here, "--work", tool, str(model)], check=True, stderr=subprocess.DEVNULL)
        sizes(Path(t))


def sizes(folder: Path) -> None:
    """Bytes of quantized files over those of float32 ones, both as .dk."""
    import deploykit as dk

    print("| model | scheme | bytes | of float32 |\n|---|---|---|---|", flush=True)
    for name, scheme in (("mobilenetv2", "int8"), ("resnet50", "int8"), ("transformer", "int4")):
        source = folder / f"{name}.onnx"
        onnx.save(zoo.ZOO[name](), source)
        dk.convert(source, folder / "f.dk", verify=False, test_vectors=0)
        data = list(images(2)) if scheme == "int8" else None
        dk.convert(source, folder / "q.dk", quantize=scheme, calibration=data, verify=False, repair="none")
        q, f = ((folder / n).stat().st_size for n in ("q.dk", "f.dk"))
        print(f"| {name} | {scheme} | {q} | {q / f:.3f} |", flush=True)


if __name__ == "__main__":
    main()
