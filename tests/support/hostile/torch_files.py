"""Hostile exported PyTorch programs and pickles."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.hostile.cases import CASES, Case, case, rezipped


class Owned:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def _pt2(
    folder: Path, change: Callable[[dict[str, bytes]], None], deflate: bool = False, open_dim: bool = False
) -> Path:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.d = torch.nn.Linear(4, 3)
            self.register_buffer("c", torch.ones(3), persistent=False)

        def forward(self, x: Any) -> Any:
            return self.d(x) + self.c

    shapes = {"x": {0: torch.export.Dim("n", min=2, max=64)}} if open_dim else None
    program = torch.export.export(Net(), (torch.ones(2, 4),), dynamic_shapes=shapes)
    inner = folder / "whole.pt2"
    torch.export.save(program, inner)
    return rezipped(inner, folder / "m.pt2", change, deflate)


def _named(parts: dict[str, bytes], ending: str) -> str:
    return next(n for n in parts if n.endswith(ending))


def _torch_pickle(x: Any) -> bytes:
    import io

    import torch

    b = io.BytesIO()
    torch.save(x, b)
    return b.getvalue()


@case
def pt2_inputs_pickle(folder: Path) -> Path:
    """Code in the pickle of the sample inputs."""
    evil = _torch_pickle(((Owned(folder / "owned"),), {}))
    return _pt2(folder, lambda p: p.__setitem__(_named(p, "sample_inputs/model.pt"), evil))


@case
def pt2_weight_pickle(folder: Path) -> Path:
    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "weights_config.json")
        config = json.loads(parts[name])
        first = next(iter(config["config"].values()))
        first["use_pickle"] = True
        parts[name] = json.dumps(config).encode()
        parts[_named(parts, "weights/" + first["path_name"])] = _torch_pickle(Owned(folder / "owned"))

    return _pt2(folder, change)


def _constant(prefix: str, data: Callable[[Path], bytes]) -> Case:
    def make(folder: Path) -> Path:
        def change(parts: dict[str, bytes]) -> None:
            name = _named(parts, "constants_config.json")
            config = json.loads(parts[name])
            first = next(iter(config["config"].values()))
            old = first["path_name"]
            first["path_name"] = prefix + "0"
            parts[name] = json.dumps(config).encode()
            member = _named(parts, "constants/" + old)
            parts[member[: -len(old)] + prefix + "0"] = data(folder)

        return _pt2(folder, change)

    return make


CASES["pt2_opaque_pickle"] = _constant("opaque_obj_", lambda f: pickle.dumps(Owned(f / "owned")))
CASES["pt2_custom_pickle"] = _constant("custom_obj_", lambda f: _torch_pickle(Owned(f / "owned")))


@case
def pt2_expression(folder: Path) -> Path:
    """Code in the text of a symbolic size, which sympy evaluates."""

    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "models/model.json")
        text = parts[name].decode()
        assert '"expr_str": "' in text
        at = text.index('"expr_str": "') + len('"expr_str": "')
        end = text.index('"', at)
        code = f"__import__('os').system('touch {folder / 'owned'}')"
        parts[name] = (text[:at] + code + text[end:]).encode()

    return _pt2(folder, change, open_dim=True)


@case
def pt2_expression_bomb(folder: Path) -> Path:
    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "models/model.json")
        text = parts[name].decode()
        at = text.index('"expr_str": "') + len('"expr_str": "')
        end = text.index('"', at)
        parts[name] = (text[:at] + "9**9**9**9" + text[end:]).encode()

    return _pt2(folder, change, open_dim=True)


@case
def pt2_library(folder: Path) -> Path:
    """A shared library for torch to load."""

    def change(parts: dict[str, bytes]) -> None:
        root = next(iter(parts)).split("/")[0]
        parts[f"{root}/data/aotinductor/model/model.so"] = b"\x7fELF" + b"\0" * 100
        parts[f"{root}/data/aotinductor/model/model_metadata.json"] = b"{}"

    return _pt2(folder, change)


@case
def pt2_target(folder: Path) -> Path:
    """A call of a function that is no op."""

    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "models/model.json")
        text = parts[name].decode()
        assert "torch.ops.aten.linear.default" in text
        parts[name] = text.replace("torch.ops.aten.linear.default", "torch.utils.collect_env.run").encode()

    return _pt2(folder, change)


@case
def pt2_zip_bomb(folder: Path) -> Path:
    def change(parts: dict[str, bytes]) -> None:
        parts[_named(parts, "weights/weight_0")] = b"\0" * (2 << 30)

    return _pt2(folder, change, deflate=True)


@case
def pt2_strides(folder: Path) -> Path:
    """A weight of 2^40 elements that all lie at the same place."""

    def change(parts: dict[str, bytes]) -> None:
        name = _named(parts, "weights_config.json")
        config = json.loads(parts[name])
        for w in config["config"].values():
            meta = w["tensor_meta"]
            meta["sizes"] = [{"as_int": 1 << 20} for _ in meta["sizes"]]
            meta["strides"] = [{"as_int": 0} for _ in meta["strides"]]
        parts[name] = json.dumps(config).encode()

    return _pt2(folder, change)


@case
def pt2_deep_json(folder: Path) -> Path:
    return _pt2(folder, lambda p: p.__setitem__(_named(p, "models/model.json"), b"[" * 200_000))


@case
def torch_pickle(folder: Path) -> Path:
    path = folder / "m.pt"
    path.write_bytes(pickle.dumps(Owned(folder / "owned")))
    return path


@case
def torch_checkpoint(folder: Path) -> Path:
    path = folder / "m.pth"
    path.write_bytes(_torch_pickle(Owned(folder / "owned")))
    return path
