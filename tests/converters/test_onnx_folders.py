"""The models with data that the onnx package carries: every one passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploykit.runners import OnnxRuntimeRunner
from tests.support.onnx_node_tests import difference, engine_runner, onnxruntime_runner
from tests.support.peers import need_onnxruntime

need_onnxruntime()

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = ("pytorch-operator", "pytorch-converted", "simple")


def tensors(folder: Path, side: str) -> list[np.ndarray]:
    files = sorted(folder.glob(f"{side}_*.pb"), key=lambda p: int(p.stem.split("_")[-1]))
    return [numpy_helper.to_array(onnx.load_tensor(str(f))) for f in files]


def outcome(folder: Path, runner) -> str:
    """'' when every data set gives what it should, else what is wrong."""
    model = onnx.load(str(folder / "model.onnx"))
    baked = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in baked]
    try:
        run = runner(model)
        for data in sorted(folder.glob("test_data_set*")):
            got = run(dict(zip(names, tensors(data, "input"), strict=True)))
            if wrong := difference(got, tensors(data, "output"), 1e-3, 1e-6):
                return wrong
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return ""


@pytest.mark.parametrize("name", FOLDERS)
def test_folder(name: str) -> None:
    folders = sorted(p for p in (DATA / name).iterdir() if p.is_dir())
    assert len(folders) >= 23
    ours = {f.name: outcome(f, engine_runner) for f in folders}
    assert not {k: v for k, v in ours.items() if v}
    theirs = [f.name for f in folders if not outcome(f, onnxruntime_runner)]
    assert len(theirs) < len(folders), "onnxruntime passes all of them too now: say so in docs/formats.md"


LIGHT = sorted(p for p in (DATA / "light").glob("*.onnx"))


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models(path: Path) -> None:
    """Full-size nets whose weights are all one number: what onnxruntime says, on smooth inputs."""
    from deploykit import convert
    from deploykit.graph.dkfile import to_bytes
    from deploykit.interpreter import Interpreter

    theirs = OnnxRuntimeRunner(path, 2)
    spec = theirs.inputs[0]
    x = np.linspace(0, 1, int(np.prod(spec.shape)), dtype=np.float32).reshape(spec.shape)  # type: ignore[arg-type]
    want = theirs.run({spec.name: x})
    got = Interpreter(to_bytes(convert(path, verify=False).graph)).run({spec.name: x})
    for k, w in want.items():
        assert np.abs(got[k] - w).max() <= 1e-4 * np.abs(w).max()
