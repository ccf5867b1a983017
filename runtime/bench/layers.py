"""onnxruntime on the layers of layers.cc, beside our own times.

    python runtime/bench/layers.py BENCH_LAYERS [filter] [threads]

onnxruntime's time is that of the Conv node alone, from its profiler: the reorders to its blocked layout at the graph's
edges are not counted, which favours it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper


def model(h: int, c: int, o: int, k: int, s: int, groups: int) -> bytes:
    """A single Conv with ReLU, as onnxruntime fuses it in networks."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(o, c // groups, k, k)).astype(np.float32)
    bias = rng.normal(size=o).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["t"], strides=[s, s], pads=[k // 2] * 4, group=groups),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    init = [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, c, h, h])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], init)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return m.SerializeToString()


def time_ort(name: str, threads: int) -> float:
    """Microseconds of the Conv node, minimum over runs."""
    h, c, o, k, s, groups = map(int, name.split("_")[1:])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "p")
        session = ort.InferenceSession(model(h, c, o, k, s, groups), options, providers=["CPUExecutionProvider"])
        x = np.random.default_rng(0).normal(size=(1, c, h, h)).astype(np.float32)
        for _ in range(30):
            session.run(None, {"x": x})
        events = json.load(open(session.end_profiling()))
    times = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("kernel_time")]
    return min(e["dur"] for e in times if "Reorder" not in e["name"])


def main() -> None:
    program, *rest = sys.argv[1:]
    pattern = rest[0] if rest else ""
    threads = int(rest[1]) if len(rest) > 1 else 1
    totals: dict[str, list[float]] = {}
    out = subprocess.run(
        [program, pattern, "--threads", str(threads)], check=True, capture_output=True, text=True
    ).stdout
    for line in out.splitlines():
        words = line.split()
        if len(words) < 7 or not words[1].startswith("conv_"):
            continue
        times, ours = int(words[2]), float(words[3])
        theirs = time_ort(words[1], threads)
        total = totals.setdefault(words[0], [0.0, 0.0])
        total[0] += times * ours
        total[1] += times * theirs
        print(f"{line}   ort {theirs:7.0f} us   ort/ours {theirs / ours:.2f}", flush=True)
    for name, (ours, theirs) in totals.items():
        print(f"{name}: ours {ours / 1e3:.2f} ms, onnxruntime {theirs / 1e3:.2f} ms, {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
