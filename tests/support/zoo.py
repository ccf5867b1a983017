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


def efficientnet_lite0(size: int = 224) -> onnx.ModelProto:
    """1000 classes, 385 MMAC at 224: 5x5 depthwise layers too (Tan, Le 2019, without squeeze-and-excitation)."""
    net = Net()
    x = net.relu6(net.conv("x", 3, 32, 3, 2))
    c = 32
    for t, cout, n, s, k in [
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]:
        for i in range(n):
            stride, h, y = (s if i == 0 else 1), c * t, x
            if t != 1:
                y = net.relu6(net.conv(y, c, h))
            y = net.relu6(net.conv(y, h, h, k, stride, groups=h))
            y = net.conv(y, h, cout)
            x = net.node("Add", x, y) if stride == 1 and c == cout else y
            c = cout
    x = net.relu6(net.conv(x, c, 1280))
    return _head(net, x, 1280, 1, size)


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


def ds_cnn() -> onnx.ModelProto:
    """Keyword spotting on 49 x 10 coefficients: the small DS-CNN of Zhang et al. 2017, "Hello Edge"; 12 classes."""
    net, c = Net(), 64
    w = net.weight(net.rng.normal(0, 0.2, (c, 1, 10, 4)), "w")
    x = net.node("Relu", net.node("Conv", "x", w, kernel_shape=[10, 4], strides=[2, 2], pads=[4, 1, 5, 1]))
    for _ in range(4):
        x = net.node("Relu", net.conv(x, c, c, 3, groups=c))
        x = net.node("Relu", net.conv(x, c, c))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    x = net.node("Gemm", x, net.weight(net.rng.normal(0, 0.1, (12, c)), "fc"), transB=1)
    return net.model("x", [1, 1, 49, 10], x, [1, 12])


def yolo(size: int = 320) -> onnx.ModelProto:
    """A detector of YOLOv8n's kind and size: SiLU, split blocks with residuals, pooled pyramid, three scales of raw boxes
    and classes as one tensor of 144 numbers per place."""
    net = Net()

    def cbs(x: str, cin: int, cout: int, k: int = 1, stride: int = 1) -> str:
        y = net.conv(x, cin, cout, k, stride)
        return net.node("Mul", y, net.node("Sigmoid", y))

    def split_block(x: str, cin: int, cout: int, n: int, add: bool) -> str:
        half = cout // 2
        parts = [cbs(x, cin, half), cbs(x, cin, half)]
        for _ in range(n):
            y = cbs(cbs(parts[-1], half, half, 3), half, half, 3)
            parts.append(net.node("Add", parts[-1], y) if add else y)
        return cbs(net.node("Concat", *parts, axis=1), half * (2 + n), cout)

    def double(x: str) -> str:
        return net.node("Resize", x, "", net.weight(np.array([1, 1, 2, 2]), "scales"), mode="nearest",
                        coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip

    x = split_block(cbs(cbs("x", 3, 16, 3, 2), 16, 32, 3, 2), 32, 32, 1, True)
    p3 = split_block(cbs(x, 32, 64, 3, 2), 64, 64, 2, True)
    p4 = split_block(cbs(p3, 64, 128, 3, 2), 128, 128, 2, True)
    x = split_block(cbs(p4, 128, 256, 3, 2), 256, 256, 1, True)
    pools = [cbs(x, 256, 128)]
    for _ in range(3):
        pools.append(net.node("MaxPool", pools[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    p5 = cbs(net.node("Concat", *pools, axis=1), 512, 256)
    m4 = split_block(net.node("Concat", double(p5), p4, axis=1), 384, 128, 1, False)
    n3 = split_block(net.node("Concat", double(m4), p3, axis=1), 192, 64, 1, False)
    n4 = split_block(net.node("Concat", cbs(n3, 64, 64, 3, 2), m4, axis=1), 192, 128, 1, False)
    n5 = split_block(net.node("Concat", cbs(n4, 128, 128, 3, 2), p5, axis=1), 384, 256, 1, False)
    flat, shape = [], net.name("shape")
    net.weights.append(numpy_helper.from_array(np.array([1, 144, -1], np.int64), shape))
    for p, c in ((n3, 64), (n4, 128), (n5, 256)):
        box = net.conv(cbs(cbs(p, c, 64, 3), 64, 64, 3), 64, 64, bn=False)
        kind = net.conv(cbs(cbs(p, c, 80, 3), 80, 80, 3), 80, 80, bn=False)
        flat.append(net.node("Reshape", net.node("Concat", box, kind, axis=1), shape))
    places = sum((size // s) ** 2 for s in (8, 16, 32))
    return net.model("x", [1, 3, size, size], net.node("Concat", *flat, axis=2), [1, 144, places])


def transformer(tokens: int = 128, d: int = 384, heads: int = 12, layers: int = 6) -> onnx.ModelProto:
    """An encoder of MiniLM-L6's sizes on embedded tokens x [1, tokens, d]: attention, GELU by Erf, layer norms."""
    net, each = Net(), d // heads
    form, back = net.name("shape"), net.name("shape")
    net.weights.append(numpy_helper.from_array(np.array([1, tokens, heads, each], np.int64), form))
    net.weights.append(numpy_helper.from_array(np.array([1, tokens, d], np.int64), back))

    def linear(x: str, cin: int, cout: int) -> str:
        w = net.weight(net.rng.normal(0, 1 / np.sqrt(cin), (cin, cout)), "w")
        return net.node("Add", net.node("MatMul", x, w), net.weight(net.rng.normal(0, 0.02, cout), "b"))

    def norm(x: str) -> str:
        scale, bias = net.weight(np.ones(d), "scale"), net.weight(np.zeros(d), "bias")
        return net.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)

    def split(x: str, perm: list[int]) -> str:
        return net.node("Transpose", net.node("Reshape", linear(x, d, d), form), perm=perm)

    x = norm("x")
    for _ in range(layers):
        q, k, v = split(x, [0, 2, 1, 3]), split(x, [0, 2, 3, 1]), split(x, [0, 2, 1, 3])
        scores = net.node("Softmax", net.node("Div", net.node("MatMul", q, k), net.scalar(np.sqrt(each))), axis=-1)
        y = net.node("Reshape", net.node("Transpose", net.node("MatMul", scores, v), perm=[0, 2, 1, 3]), back)
        x = norm(net.node("Add", linear(y, d, d), x))
        y = linear(x, d, 4 * d)
        half = net.node("Add", net.node("Erf", net.node("Div", y, net.scalar(np.sqrt(2)))), net.scalar(1))
        y = net.node("Mul", net.node("Mul", y, half), net.scalar(0.5))
        x = norm(net.node("Add", linear(y, 4 * d, d), x))
    return net.model("x", [1, tokens, d], x, [1, tokens, d])


def lstm(steps: int = 64, width: int = 128, hidden: int = 256) -> onnx.ModelProto:
    """Two LSTM layers over x [steps, 1, width], then 1000 classes of the last step."""
    net, x, cin = Net(), "x", width
    one = net.name("axes")
    net.weights.append(numpy_helper.from_array(np.array([1], np.int64), one))
    for _ in range(2):
        w, r, b = (net.weight(net.rng.normal(0, 0.08, s), "w") for s in
                   ((1, 4 * hidden, cin), (1, 4 * hidden, hidden), (1, 8 * hidden)))  # fmt: skip
        x = net.node("Squeeze", net.node("LSTM", x, w, r, b, hidden_size=hidden), one)
        cin = hidden
    last = net.name("last")
    net.weights.append(numpy_helper.from_array(np.array(steps - 1, np.int64), last))
    x = net.node("Gather", x, last, axis=0)
    x = net.node("Gemm", x, net.weight(net.rng.normal(0, 0.05, (1000, hidden)), "fc"), transB=1)
    return net.model("x", [steps, 1, width], x, [1, 1000])


ZOO: dict[str, Callable[..., onnx.ModelProto]] = {
    "mobilenetv2": mobilenetv2,
    "efficientnet_lite0": efficientnet_lite0,
    "resnet50": resnet50,
    "yolo": yolo,
    "transformer": transformer,
    "lstm": lstm,
    "ds_cnn": ds_cnn,
}


def main() -> None:
    """Write the named models (default: all) into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or ZOO:
        onnx.save(ZOO[name](), folder / f"{name}.onnx")
        print(folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
