"""What converting large files takes: seconds and peak memory, each in a process of its own.

    python -m tests.bench.convert_size [--large]      100 MB of weights inside; --large: 2.3 GB as external data too
    python -m tests.bench.convert_size --sources      100 MB in each of the other formats; needs Keras and torch.  For .pt2
                                                      also what PyTorch alone takes to be imported and to load it

A chain of products, and ResNet-50 with its batch norms still apart, so that every weight is computed anew.  Peak is the
resident memory of the process, Python itself and mapped pages of the file included; private is what no file stands behind,
at the end.  Seconds of the CPU are the process's own: what a busy machine does not make longer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support import child


def write(path: Path, layers: int, width: int, external: bool) -> None:
    """A chain of ``layers`` square products and ReLUs with seeded weights."""
    nodes, weights, x = [], [], "x"
    with open(path.with_suffix(".data"), "wb") as data:
        for i in range(layers):
            w = np.random.default_rng(i).standard_normal((width, width), dtype=np.float32) / np.float32(width**0.5)
            if external:
                t = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=w.shape)
                t.data_location = TensorProto.EXTERNAL
                for key, value in (("location", Path(data.name).name), ("offset", data.tell()), ("length", w.nbytes)):
                    t.external_data.add(key=key, value=str(value))
                data.write(w.tobytes())
            else:
                t = numpy_helper.from_array(w, f"w{i}")
            weights.append(t)
            nodes += [
                helper.make_node("MatMul", [x, t.name], [f"y{i}"]),
                helper.make_node("Relu", [f"y{i}"], [f"z{i}"]),
            ]
            x = f"z{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", width]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def convert(source: str, result: str, verify: bool) -> None:
    """Convert, with or without running source and result, for which onnxruntime loads the model too; print the figures."""
    import deploykit as dk

    start, cpu = time.perf_counter(), time.process_time()
    dk.convert(source, result, verify=verify)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    status = dict(x.split(":", 1) for x in Path("/proc/self/status").read_text().splitlines())
    peak, private = (int(status[k].split()[0]) / 1024 for k in ("VmHWM", "RssAnon"))
    size = os.path.getsize(result) / 2**20
    how = f"to {Path(result).suffix}, {'verified' if verify else 'not verified'}"
    took = f"{seconds:.2f} s ({cpu:.2f} of the CPU)"
    print(f"{size:.0f} MB {how}: {took}, peak {peak:.0f} MB, private {private:.0f} MB at the end", flush=True)


def torch_alone(source: str) -> None:
    """What is spent before we see a program: PyTorch imported, the file loaded and taken apart by it."""
    start, cpu = time.perf_counter(), time.process_time()
    import torch

    torch.export.load(source).run_decompositions(torch.export.default_decompositions())
    status = dict(x.split(":", 1) for x in Path("/proc/self/status").read_text().splitlines())
    took = f"{time.perf_counter() - start:.2f} s ({time.process_time() - cpu:.2f} of the CPU)"
    print(f"PyTorch alone: {took}, peak {int(status['VmHWM'].split()[0]) / 1024:.0f} MB", flush=True)


def run(source: Path, result: Path, *how: str) -> str:
    """:func:`convert` in a process of its own; the line that it prints."""
    command = child.command("tests.bench.convert_size", *how, source, result)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def others(folder: Path) -> list[Path]:
    """The chain in every other format, written by Keras, torch and from ``m.onnx`` by our own exporter."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    import deploykit as dk

    paths = [folder / f"m.{k}" for k in ("tflite", "keras", "h5", "pt2")]
    write(folder / "m.onnx", 25, 1024, False)
    dk.convert(str(folder / "m.onnx"), str(paths[0]), verify=False)
    layers = [keras.layers.Dense(1024, "relu", use_bias=False) for _ in range(25)]
    model = keras.Sequential([keras.Input((1024,)), *layers])
    for path in paths[1:3]:
        model.save(path)
    steps = [step for _ in range(25) for step in (torch.nn.Linear(1024, 1024, bias=False), torch.nn.ReLU())]
    torch.export.save(torch.export.export(torch.nn.Sequential(*steps).eval(), (torch.zeros(1, 1024),)), paths[3])
    return paths


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("--large", action="store_true")
    p.add_argument("--sources", action="store_true")
    p.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--verify", action="store_true", help="only with run-time checks (default: both)")
    p.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.torch:
        torch_alone(a.paths[0])
    elif a.paths:
        convert(a.paths[0], a.paths[1], a.verify)
    elif a.sources:
        with tempfile.TemporaryDirectory() as folder:
            for source in others(Path(folder)):
                print(source.suffix, run(source, Path(folder) / "m.dk"), sep=": ", flush=True)
            print(source.suffix, run(source, Path(folder) / "m.dk", "--torch"), sep=": ", flush=True)
    else:
        from tests.support import zoo

        with tempfile.TemporaryDirectory() as folder:
            model, target = Path(folder) / "m.onnx", Path(folder) / "m.dk"
            write(model, 25, 1024, False)
            runs = [("chain", target, how) for how in ([], ["--verify"])[a.verify :]]
            runs += [("resnet50", target, []), ("resnet50", target.with_suffix(".tflite"), [])] * (not a.verify)
            for name, to, how in runs:
                if name == "resnet50" and to == target:
                    onnx.save(zoo.ZOO[name](), model)
                print(name, run(model, to, *how), sep=": ", flush=True)
            if a.large:
                write(model, 36, 4096, True)
                print("external data", run(model, target, *["--verify"] * a.verify), sep=": ", flush=True)
