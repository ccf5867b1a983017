"""Nets of the shapes that people export, written anew with random weights: (module, example inputs, dynamic shapes)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

Net = tuple[nn.Module, tuple[Any, ...], Any]


def seeded(module: nn.Module) -> nn.Module:
    """Running statistics that matter, weights that keep numbers in range."""
    g = torch.Generator().manual_seed(7)
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.copy_(torch.randn(m.num_features, generator=g) * 0.1)
            m.running_var.copy_(torch.rand(m.num_features, generator=g) + 0.5)
    return module.eval()


class Bottleneck(nn.Module):
    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * 4
        self.body = nn.Sequential(
            nn.Conv2d(cin, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        plain = stride == 1 and cin == out
        self.short = (
            nn.Identity() if plain else nn.Sequential(nn.Conv2d(cin, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


class ResNet(nn.Module):
    """He et al. 2015, few and narrow layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.body = nn.Sequential(
            Bottleneck(16, 8, 1), Bottleneck(32, 8, 1), Bottleneck(32, 16, 2), Bottleneck(64, 16, 1)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.body(self.stem(x)), 1), 1))


class Inverted(nn.Module):
    def __init__(self, cin: int, mid: int, cout: int, k: int, stride: int, squeeze: bool, act: type[nn.Module]) -> None:
        super().__init__()
        self.same = stride == 1 and cin == cout
        self.expand = nn.Sequential(nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid), act())
        self.depth = nn.Sequential(
            nn.Conv2d(mid, mid, k, stride, k // 2, groups=mid, bias=False), nn.BatchNorm2d(mid), act()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(mid, mid // 4, 1), nn.ReLU(), nn.Conv2d(mid // 4, mid, 1), nn.Hardsigmoid()
        ) if squeeze else None  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        if self.squeeze is not None:
            y = y * self.squeeze(y)
        y = self.project(y)
        return x + y if self.same else y


class MobileNetV3(nn.Module):
    """Howard et al. 2019: hard swish, squeeze and excite."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
            Inverted(16, 16, 16, 3, 2, True, nn.ReLU), Inverted(16, 64, 24, 3, 2, False, nn.ReLU),
            Inverted(24, 72, 24, 3, 1, False, nn.ReLU), Inverted(24, 96, 40, 5, 2, True, nn.Hardswish),
            Inverted(40, 120, 40, 5, 1, True, nn.Hardswish),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(40, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ViT(nn.Module):
    """Dosovitskiy et al. 2020, by torch's own encoder layer."""

    def __init__(self, size: int = 32, patch: int = 8, width: int = 48) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.place = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, 4, 96, 0.1, F.gelu, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(width, 4, 96, 0.1, F.gelu, batch_first=True)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Detector(nn.Module):
    """A feature pyramid with an anchor-free head: boxes decoded on a grid, best scores picked."""

    def __init__(self) -> None:
        super().__init__()

        def block(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.SiLU())

        self.c1, self.c2, self.c3 = block(3, 16), block(16, 24), block(24, 32)
        self.lateral = nn.Conv2d(24, 32, 1)
        self.heads = nn.ModuleList([nn.Conv2d(32, 4 + 5, 3, padding=1) for _ in range(2)])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        c2 = self.c2(self.c1(image))
        p3 = self.c3(c2)
        p2 = self.lateral(c2) + F.interpolate(p3, scale_factor=2.0, mode="nearest")
        boxes, scores = [], []
        for level, head, stride in ((p2, self.heads[0], 4), (p3, self.heads[1], 8)):
            y = head(level)
            h, w = y.shape[-2:]
            gy, gx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            centers = (torch.stack([gx, gy], -1).float() + 0.5) * stride
            y = y.permute(0, 2, 3, 1)
            sides = F.softplus(y[..., :4]) * stride
            boxes.append(torch.cat([centers - sides[..., :2], centers + sides[..., 2:]], -1).flatten(1, 2))
            scores.append(y[..., 4:].sigmoid().flatten(1, 2))
        best, label = torch.cat(scores, 1).max(-1)
        top, at = best.topk(10, dim=1)
        picked = torch.gather(torch.cat(boxes, 1), 1, at[..., None].expand(-1, -1, 4))
        return {"boxes": picked, "scores": top, "labels": label.gather(1, at)}


class BiLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.rnn = nn.LSTM(16, 20, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.gru = nn.GRU(40, 12, batch_first=True)
        self.tag = nn.Linear(12, 7)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, _) = self.rnn(self.embed(tokens))
        z, _ = self.gru(y)
        return F.log_softmax(self.tag(z), -1), h[-1]


class Decoder(nn.Module):
    """A causal transformer step by step: rotary places, grouped RMS norms, keys and values kept in buffers."""

    def __init__(self, width: int = 32, heads: int = 4, layers: int = 2, room: int = 16) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.embed = nn.Embedding(40, width)
        self.qkv = nn.ModuleList([nn.Linear(width, 3 * width, bias=False) for _ in range(layers)])
        self.out = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(layers)])
        self.up = nn.ModuleList([nn.Linear(width, 2 * 48) for _ in range(layers)])
        self.down = nn.ModuleList([nn.Linear(48, width) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.RMSNorm(width) for _ in range(2 * layers + 1)])
        for i in range(layers):
            self.register_buffer(f"keys_{i}", torch.zeros(1, heads, room, self.size))
            self.register_buffer(f"values_{i}", torch.zeros(1, heads, room, self.size))
        angles = torch.outer(torch.arange(room).float(), 1e4 ** (-torch.arange(0, self.size, 2) / self.size))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.register_buffer("steps", torch.arange(room), persistent=False)

    def turn(self, x: Tensor, at: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        cos, sin = self.cos[at], self.sin[at]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def forward(self, token: Tensor, place: Tensor) -> Tensor:
        x = self.embed(token)
        n = x.shape[1]
        for i in range(len(self.qkv)):
            y = self.norms[2 * i](x)
            q, k, v = self.qkv[i](y).view(1, n, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
            q, k = self.turn(q, place), self.turn(k, place)
            keys, values = getattr(self, f"keys_{i}"), getattr(self, f"values_{i}")
            keys.index_copy_(2, place, k)
            values.index_copy_(2, place, v)
            mask = self.steps[None, :] <= place[:, None]
            y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            x = x + self.out[i](y.transpose(1, 2).reshape(1, n, -1))
            gate, up = self.up[i](self.norms[2 * i + 1](x)).chunk(2, -1)
            x = x + self.down[i](F.silu(gate) * up)
        return F.linear(self.norms[-1](x), self.embed.weight)


class Causal(nn.Module):
    """The same kind of net over a whole sequence, cache given and returned as tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 32)
        self.attention = nn.Linear(32, 96)
        self.out = nn.Linear(32, 40)

    def forward(self, tokens: Tensor, past: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = self.attention(self.embed(tokens)).view(*tokens.shape, 3, 4, 8).permute(2, 0, 3, 1, 4)
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        before = past[0].shape[2]
        mask = torch.ones(tokens.shape[1], k.shape[2], dtype=torch.bool).tril(diagonal=0)
        mask = torch.arange(k.shape[2])[None] <= torch.arange(tokens.shape[1])[:, None] + before
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2)), (k, v)


def nets() -> dict[str, Net]:
    """Every net, with fixed and with open dims."""
    torch.manual_seed(0)
    batch, steps = Dim("batch", min=1, max=64), Dim("steps", min=2, max=512)
    image = torch.randn(2, 3, 64, 64)
    height, width = Dim("height", min=4, max=64), Dim("width", min=4, max=64)
    past = (torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8))
    old = Dim("old", min=2, max=512)
    tokens = torch.randint(0, 40, (2, 9))
    return {
        "resnet": (ResNet(), (image,), None),
        "resnet-any": (ResNet(), (image,), {"x": {0: batch, 2: 8 * height, 3: 8 * width}}),
        "mobilenetv3": (MobileNetV3(), (image,), {"x": {0: batch}}),
        "vit": (ViT(), (torch.randn(2, 3, 32, 32),), {"x": {0: batch}}),
        "detector": (Detector(), (image,), {"image": {0: batch}}),
        "detector-any": (Detector(), (image,), {"image": {0: batch, 2: 8 * height, 3: 8 * width}}),
        "bilstm": (BiLSTM(), (torch.randint(0, 50, (2, 11)),), {"tokens": {0: batch}}),
        "decoder": (Decoder(), (torch.tensor([[3]]), torch.tensor([0])), None),
        "causal": (Causal(), (tokens, past), {"tokens": {0: batch, 1: steps}, "past": ({0: batch, 2: old},) * 2}),
    }
