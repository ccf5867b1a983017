"""Nets through torch.export: converted, run on the engine, held against torch at several sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import InputError, UnsupportedError
from deploykit.graph.dkfile import to_bytes
from tests.support.peers import need

torch = need("torch")
from tests.support import torch_nets  # noqa: E402

NAMES = ["resnet", "resnet-any", "mobilenetv3", "vit", "detector", "detector-any", "bilstm", "decoder", "causal"]


@pytest.fixture(scope="module")
def nets() -> dict[str, Any]:
    made = torch_nets.nets()
    assert list(made) == NAMES
    return made


def export(net: Any) -> Any:
    module, inputs, dims = net
    return torch.export.export(torch_nets.seeded(module), inputs, dynamic_shapes=dims)


def flat(x: Any) -> list[Any]:
    return torch.utils._pytree.tree_flatten(x)[0]


def agree(got: dict[str, np.ndarray], want: list[Any]) -> None:
    assert len(got) == len(want)
    for (name, g), w in zip(got.items(), want, strict=True):
        w = w.detach().numpy()
        assert g.dtype == w.dtype and g.shape == w.shape, name
        error = np.abs(g.astype(np.float64) - w).max()
        assert error <= (1e-4 * np.abs(w).max() if w.dtype.kind == "f" else 0), f"{name}: {error}"


SIZES: dict[str, list[list[tuple[int, ...]]]] = {
    "resnet": [[(2, 3, 64, 64)]],
    "resnet-any": [[(1, 3, 64, 64)], [(3, 3, 96, 40)], [(1, 3, 128, 64)]],
    "mobilenetv3": [[(1, 3, 64, 64)], [(5, 3, 64, 64)]],
    "vit": [[(1, 3, 32, 32)], [(4, 3, 32, 32)]],
    "detector": [[(1, 3, 64, 64)], [(3, 3, 64, 64)]],
    "detector-any": [[(1, 3, 64, 64)], [(2, 3, 48, 96)]],
    "bilstm": [[(1, 11)], [(4, 11)]],
    "causal": [[(2, 9), (2, 4, 5, 8), (2, 4, 5, 8)], [(1, 3), (1, 4, 12, 8), (1, 4, 12, 8)]],
}


@pytest.mark.parametrize("name", SIZES)
def test_agrees_with_torch(name: str, nets: dict[str, Any]) -> None:
    program = export(nets[name])
    report = dk.convert(program)
    assert report.verification is not None and report.verification["status"] == "passed", report.verification
    session = dk.Interpreter(to_bytes(report.graph))
    module = program.module()
    examples = flat(nets[name][1])
    for shapes in SIZES[name]:
        feeds = [
            torch.randn(s) if e.is_floating_point() else torch.randint(0, 40, s)
            for s, e in zip(shapes, examples, strict=True)
        ]
        nested = torch.utils._pytree.tree_unflatten(feeds, torch.utils._pytree.tree_flatten(nets[name][1])[1])
        agree(session.run(*(f.numpy() for f in feeds)), flat(module(*nested)))


def test_names_are_those_of_the_source(nets: dict[str, Any]) -> None:
    graph = dk.convert(export(nets["detector"]), verify=False).graph
    assert [v.name for v in graph.inputs] == ["image"]
    assert graph.public_outputs == ["boxes", "scores", "labels"]
    graph = dk.convert(export(nets["causal"]), verify=False).graph
    assert [v.name for v in graph.inputs] == ["tokens", "past_0", "past_1"]
    assert graph.public_outputs == ["output_0", "output_1_0", "output_1_1"]


def test_no_transposes_are_left_inside_cnns(nets: dict[str, Any]) -> None:
    """Only the one at the door: the input is channels first."""
    for name in ("resnet", "mobilenetv3"):
        assert dk.convert(export(nets[name]), verify=False).transposes_left <= 1, name


def test_cache_in_buffers(nets: dict[str, Any]) -> None:
    """Token by token, keys and values kept in variables: as torch does it, and again after a reset."""
    program = export(nets["decoder"])
    session = dk.Interpreter(to_bytes(dk.convert(program, verify=False).graph))
    tokens = [3, 14, 15, 9, 26]
    for _ in range(2):
        module = program.module()
        for i, t in enumerate(tokens):
            feeds = torch.tensor([[t]]), torch.tensor([i])
            agree(session.run(*(f.numpy() for f in feeds)), [module(*feeds)])
        session.reset()


def test_pt2_files(tmp_path, nets: dict[str, Any]) -> None:
    path = tmp_path / "m.pt2"
    torch.export.save(export(nets["mobilenetv3"]), path)
    report = dk.convert(path, tmp_path / "m.dk")
    assert report.verification["status"] == "passed" and "torch" in report.verification["tool"]


def test_torchscript_and_pickles_are_refused(tmp_path) -> None:
    net = torch.nn.Linear(2, 3)
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 2)), tmp_path / "script.pt")
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, says in (("script.pt", "TorchScript"), ("weights.pth", "checkpoint"), ("old.pt", "pickle")):
        with pytest.raises(UnsupportedError, match=f"(?s){says}.*torch.export.export"):
            dk.convert(tmp_path / name)
    with pytest.raises(InputError, match=r"a module alone"):
        dk.convert(net)


def test_factories(tmp_path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "import torch\n"
        "def make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()), torch.zeros(2, 4)\n"
        "def wrong():\n    return 3\n"
    )
    report = dk.convert(f"{source}:make", tmp_path / "m.dk")
    assert report.verification["status"] == "passed"
    with pytest.raises(InputError, match="no function 'other'. It has: make, wrong"):
        dk.convert(f"{source}:other")
    with pytest.raises(InputError, match="returned int"):
        dk.convert(f"{source}:wrong")


def test_problems_are_listed_at_once() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.inv(x), torch.fft.fft(x).real

    with pytest.raises(UnsupportedError) as e:
        dk.convert(torch.export.export(Odd(), (torch.eye(3),)))
    assert len(e.value.problems) >= 2


def test_branches() -> None:
    class Choice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 3)

        def forward(self, x):
            y = x * 2
            return torch.cond(x.sum() > 0, lambda a, b: self.linear(a) + b, lambda a, b: (a - b).cos(), (x, y))

    program = torch.export.export(Choice().eval(), (torch.ones(2, 3),))
    session = dk.Interpreter(to_bytes(dk.convert(program).graph))
    for x in (torch.ones(2, 3), -torch.ones(2, 3)):
        agree(session.run(x.numpy()), [program.module()(x)])
