"""Full-size architectures as ONNX files with seeded weights: for benchmarks and for passes (weights are random, so the
outputs mean nothing, but every layer has the real shape and a useful range).

    python -m tests.support.zoo FOLDER [mobilenetv2 resnet50 ...]

MobileNetV2: Sandler et al. 2018, table 2.  ResNet-50: He et al. 2015, stride in the 3x3 (v1.5, as torchvision has it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A small ONNX writer: each method appends a layer and returns the name of its output."""

    def __init__(self, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.n = 0

    def name(self, hint: str) -> str:
        self.n += 1
        return f"{hint}_{self.n}"

    def weight(self, array: np.ndarray, hint: str) -> str:
        name = self.name(hint)
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, *inputs: str, **attrs: object) -> str:
        out = self.name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out + "_node", **attrs))
        return out

    def conv(self, x: str, cin: int, cout: int, k: int = 1, stride: int = 1, groups: int = 1, bn: bool = True) -> str:
        fan = cin // groups * k * k
        w = self.weight(self.rng.normal(0, np.sqrt(2 / fan), (cout, cin // groups, k, k)), "w")
        p = k // 2
        x = self.node("Conv", x, w, kernel_shape=[k, k], strides=[stride, stride], pads=[p] * 4, group=groups)
        if bn:
            r = self.rng
            args = [
                r.uniform(0.5, 1.5, cout),
                r.normal(0, 0.1, cout),
                r.normal(0, 0.1, cout),
                r.uniform(0.5, 1.5, cout),
            ]
            x = self.node("BatchNormalization", x, *[self.weight(a, "bn") for a in args])
        return x

    def relu6(self, x: str) -> str:
        return self.node("Clip", x, self.scalar(0), self.scalar(6))

    def scalar(self, v: float) -> str:
        return self.weight(np.array(v), "s")

    def model(self, x: str, shape: list[int | str], out: str, out_shape: list[int | str]) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [out], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def mobilenetv2(batch: int | str = 1, size: int = 224) -> onnx.ModelProto:
    """1.0x, 1000 classes, 300.8 MMAC at 224."""
    net = Net()
    x = net.relu6(net.conv("x", 3, 32, 3, 2))
    c = 32
    for t, cout, n, s in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for i in range(n):
            stride, h, y = (s if i == 0 else 1), c * t, x
            if t != 1:
                y = net.relu6(net.conv(y, c, h))
            y = net.relu6(net.conv(y, h, h, 3, stride, groups=h))
            y = net.conv(y, h, cout)
            x = net.node("Add", x, y) if stride == 1 and c == cout else y
            c = cout
    x = net.relu6(net.conv(x, c, 1280))
    return _head(net, x, 1280, batch, size)


def resnet50(batch: int | str = 1, size: int = 224) -> onnx.ModelProto:
    """1000 classes, 4089 MMAC at 224."""
    net = Net()
    x = net.node("Relu", net.conv("x", 3, 64, 7, 2))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = 64
    for width, n, s in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for i in range(n):
            stride = s if i == 0 else 1
            y = net.node("Relu", net.conv(x, c, width))
            y = net.node("Relu", net.conv(y, width, width, 3, stride))
            y = net.conv(y, width, width * 4)
            if i == 0:
                x = net.conv(x, c, width * 4, 1, stride)
            x = net.node("Relu", net.node("Add", y, x))
            c = width * 4
    return _head(net, x, c, batch, size)


def _head(net: Net, x: str, c: int, batch: int | str, size: int) -> onnx.ModelProto:
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    w = net.weight(net.rng.normal(0, 0.01, (1000, c)), "fc")
    b = net.weight(net.rng.normal(0, 0.01, 1000), "fc")
    x = net.node("Gemm", x, w, b, transB=1)
    return net.model("x", [batch, 3, size, size], x, [batch, 1000])


ZOO: dict[str, Callable[..., onnx.ModelProto]] = {"mobilenetv2": mobilenetv2, "resnet50": resnet50}


def main() -> None:
    """Write the named models (default: all) into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or ZOO:
        onnx.save(ZOO[name](), folder / f"{name}.onnx")
        print(folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
