"""Instructions that the engine executes on emulated Arm CPUs, per multiply-add of a layer.

    python -m tests.arm.count                            prints the table
    python -m tests.arm.count --write                    stores it as the budget of tests/arm/test_counts.py
    python -m tests.arm.count --against PYTHON ROOT      beside LiteRT, in an AArch64 Python with its system in ROOT

ROOT also holds what the other engine asks of the machine: proc/cpuinfo as an Arm system writes it, and
sys/devices/system/cpu/possible and present.

Counts are exact and repeat; they say nothing of caches and latencies.  Needs ``qemu-user`` (the static one has no
plugins).  A layer is a model of one op on one thread; its count is what the second of two runs took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import deploykit.ops  # noqa: F401  registers the passports
from deploykit.graph import Graph
from deploykit.graph.dkfile import to_bytes
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.samples import Draw
from tests.support.arm import CPUS, ROOT, Arm

EMULATOR = "qemu-aarch64"
# LiteRT's program does not run on the first of CPUS; without SVE and SME the last has i8mm and no more
PEER_CPUS = {"cortex-a76": "cortex-a76", "max,sve=off,sme=off": "max"}
STORED = Path(__file__).with_name("counts.json")
KEPT = ROOT / "build" / "cross"
# layers of MobileNetV2 and ResNet, named M_N_K (rows, outputs, terms) or SIZE_CHANNELS
PRODUCTS = ((784, 32, 192), (196, 576, 96), (196, 96, 576), (49, 512, 512), (1, 1000, 1280))
IMAGES = ((28, 192), (14, 576))


def plugin() -> Path:
    """The counter, compiled for this machine."""
    source, out = Path(__file__).with_name("insn_count.c"), KEPT / "insn_count.so"
    if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
        KEPT.mkdir(parents=True, exist_ok=True)
        compiler = next(
            ([c] for c in ("cc", "gcc", "clang") if shutil.which(c)), [sys.executable, "-m", "ziglang", "cc"]
        )
        subprocess.run(
            [*compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", str(source), "-o", str(out)], check=True
        )
    return out


class Counter:
    """An engine whose instructions are counted."""

    def __init__(self, cpu: str) -> None:
        self._file = tempfile.NamedTemporaryFile("r")
        os.environ["DK_COUNTS"] = self._file.name
        self.arm = Arm(cpu, emulator=(EMULATOR, "-plugin", str(plugin())))
        del os.environ["DK_COUNTS"]

    def of(self, graph: Graph, inputs: list[np.ndarray]) -> int:
        """Instructions of one run of a model, after the first."""
        self.arm.open(to_bytes(graph), threads=1)
        seen = []
        for times in (1, 1, 2):  # request, parse, run, answer: the same but for one more run
            self.arm.run(*inputs, times=times)
            seen.append(int(self._file.read().split()[-1]))
        return (seen[2] - seen[1]) - (seen[1] - seen[0])


def one(op: str, x: np.ndarray, *weights: np.ndarray | None, **attrs: object) -> tuple[Graph, list[np.ndarray]]:
    """A model of one op with constant weights."""
    b = GraphBuilder()
    constants = [None if w is None else b.constant(w) for w in weights]
    return b.output(b.op(op, b.input("x", x.dtype.name, x.shape), *constants, **attrs), "y"), [x]


def layers() -> Iterator[tuple[str, int, tuple[Graph, list[np.ndarray]]]]:
    """(name, multiply-adds, model and inputs)."""
    r = Draw("count")

    def bytes_of(name: str, x: tuple[int, ...], w: tuple[int, ...], **attrs: object) -> tuple[Graph, list[np.ndarray]]:
        scale = r((w[0],), "float32", 0.5, 1.5) / np.float32(70 * np.sqrt(np.prod(w[1:])))
        how = dict(x_zero_point=-5, y_zero_point=3, **attrs)
        return one(name, r(x, "int8"), r(w, "int8"), scale, r((w[0],), "int32"), None, **how)

    for m, n, k in PRODUCTS:
        x, w = (1, m, 1, k), (n, 1, 1, k)
        yield f"conv_{m}_{n}_{k}", m * n * k, one("conv", r(x, "float32"), r(w, "float32"), r((n,), "float32"))
        yield f"qconv_{m}_{n}_{k}", m * n * k, bytes_of("qconv", x, w)
    same = dict(pads=(1, 1, 1, 1))
    for size, c in IMAGES:
        x, w = (1, size, size, c), (c, 3, 3, 1)
        macs = size * size * c * 9
        f = one("conv", r(x, "float32"), r(w, "float32"), r((c,), "float32"), groups=c, **same)
        yield f"depthwise_{size}_{c}", macs, f
        yield f"qdepthwise_{size}_{c}", macs, bytes_of("qconv", x, w, groups=c, **same)
    x, w = (1, 28, 28, 64), (64, 3, 3, 64)
    macs = 28 * 28 * 64 * 64 * 9
    yield "conv3x3_28_64", macs, one("conv", r(x, "float32"), r(w, "float32"), r((64,), "float32"), **same)
    yield "qconv3x3_28_64", macs, bytes_of("qconv", x, w, **same)


def counts() -> dict[str, dict[str, int]]:
    """CPU -> layer -> instructions; float layers, whose kernels all CPUs share, on the first alone."""
    out: dict[str, dict[str, int]] = {}
    for cpu in CPUS:
        counter = Counter(cpu)
        out[cpu] = {n: counter.of(*m) for n, _, m in layers() if n.startswith("q") or cpu == next(iter(CPUS))}
        counter.arm.close()
    return out


# run in the other Python: the models' folder; between marks on the standard output nothing but invocations
PEER = """
import os, sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
for name in sys.argv[1:]:
    i = Interpreter(name, num_threads=1)
    i.allocate_tensors()
    d = i.get_input_details()[0]
    i.set_tensor(d["index"], np.load(name + ".npy"))
    i.invoke()
    for times in (0, 1, 2):
        for _ in range(times):
            i.invoke()
        os.write(1, b".")
"""


def peer(python: str, root: str, cpu: str) -> dict[str, int]:
    """Instructions of LiteRT, whose kernels are XNNPACK's, on the same layers."""
    from deploykit.converters.exporters.tflite import export_tflite

    out: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as t:
        for name, _, (graph, (x,)) in layers():
            if not name.startswith("q") and cpu != next(iter(PEER_CPUS)):
                continue
            path = f"{t}/{name}.tflite"
            Path(path).write_bytes(export_tflite(graph))
            np.save(f"{path}.npy", x)
            env = dict(os.environ, DK_COUNTS=f"{t}/counts")
            command = [EMULATOR, "-plugin", str(plugin()), "-cpu", cpu, "-L", root, python, "-c", PEER, path]
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            if done.returncode:
                print(f"{name} on {cpu}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            seen = [int(v) for v in Path(f"{t}/counts").read_text().split()][-3:]
            out[name] = (seen[2] - seen[1]) - (seen[1] - seen[0])
    return out


def main() -> None:
    """Print, or store."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--against", nargs=2, metavar=("PYTHON", "ROOT"))
    options = parser.parse_args()
    got = counts()
    if options.write:
        STORED.write_text(json.dumps(got, indent=1) + "\n")
    other = {ours: peer(*options.against, cpu) for cpu, ours in PEER_CPUS.items()} if options.against else {}
    macs = {n: m for n, m, _ in layers()}
    for cpu, row in got.items():
        for name, n in row.items():
            # float kernels are the same on all CPUs, on our side; on theirs the first that runs stands for them
            theirs = other.get(cpu if name.startswith("q") else "cortex-a76", {}).get(name)
            more = "" if theirs is None else f"  LiteRT {theirs / macs[name]:.4f}  {theirs / n:.2f} times ours"
            print(f"{cpu:10}  {name:20} {n:>12,}  {n / macs[name]:.4f} per multiply-add{more}")


if __name__ == "__main__":
    main()
