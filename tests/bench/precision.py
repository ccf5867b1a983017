"""Every runtime in every precision it has, interleaved in one process: who is fastest if three digits are enough?

    python -m tests.bench.precision [--models mobilenetv2,resnet50,yolo,transformer] [--threads 1,2] [--rounds 30]

Ours: float32, bfloat16 in tile registers (``precision="fast"``, where the CPU has them), 8 bits of a file that onnxruntime
quantized.  The transformer in 8 bits is onnxruntime's dynamic form.  OpenVINO is asked for float32, left alone (bfloat16
where the CPU has it), and given the 8-bit file.  Medians (minima) in ms; ratios: the fastest peer's median over our fastest.
Differences are against our float32, of its largest number.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import deploykit as dk
from deploykit import native
from tests.bench import int8
from tests.support import zoo

Run = Callable[[np.ndarray], Any]


def files(name: str, folder: Path) -> tuple[Path, Path]:
    """The fp32 file and the 8-bit one."""
    from onnxruntime import quantization as q

    shape = zoo_shape(name)
    if len(shape) == 4:
        int8.SHAPE = shape
        return int8.quantized(name, folder)
    plain, small = folder / f"{name}.onnx", folder / f"{name}_dynamic.onnx"
    onnx.save(zoo.ZOO[name](), plain)
    q.quantize_dynamic(plain, small, weight_type=q.QuantType.QInt8, per_channel=True)
    return plain, small


def zoo_shape(name: str) -> tuple[int, ...]:
    """Of the model's input."""
    return tuple(d.dim_value for d in zoo.ZOO[name]().graph.input[0].type.tensor_type.shape.dim)


def contenders(plain: Path, small: Path, threads: int) -> dict[str, Run]:
    """By name, ours first."""

    def ours(path: Path, precision: str = "default") -> Run:
        m = dk.Interpreter(path.with_suffix(".dk"), threads=threads, precision=precision)
        key = m.outputs[0].name
        return lambda x: m.run({"x": x})[key]

    out = {"ours f32": ours(plain), "ours int8": ours(small)}
    if native.describe()["fast"]:
        out["ours bf16"] = ours(plain, "fast")
    out |= {f"onnxruntime {k}": int8.ort(p, threads) for k, p in (("f32", plain), ("int8", small))}
    out |= {"openvino f32": int8.openvino(plain, threads, "f32"), "openvino default": int8.openvino(plain, threads)}
    return out | {"openvino int8": int8.openvino(small, threads)}


def main() -> None:
    """Print the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default="mobilenetv2,resnet50,yolo,transformer")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--rounds", type=int, default=30)
    a = p.parse_args()
    print(f"kernels {native.describe()['isa']}")
    for name in a.models.split(","):
        with tempfile.TemporaryDirectory() as t:
            plain, small = files(name, Path(t))
            for source in (plain, small):
                dk.convert(source, source.with_suffix(".dk"), verify=False)
            x = np.random.default_rng(1).standard_normal(zoo_shape(name)).astype(np.float32)
            for n in map(int, a.threads.split(",")):
                runs = contenders(plain, small, n)
                want = np.asarray(runs["ours f32"](x))
                far = {k: float(np.abs(np.asarray(f(x)) - want).max() / np.abs(want).max()) for k, f in runs.items()}
                times = int8.race(runs, x, a.rounds)
                mid = {k: statistics.median(v) for k, v in times.items()}
                best = [min(v for k, v in mid.items() if k.startswith("ours") == us) for us in (True, False)]
                print(f"\n{name}, {n} threads: fastest peer / our fastest {best[1] / best[0]:.2f}")
                for k, v in times.items():
                    print(f"  {k:18} {mid[k]:8.2f} ({min(v):7.2f})   difference {far[k]:.1e}", flush=True)


if __name__ == "__main__":
    main()
