"""Stock Keras on our core against stock Keras on PyTorch: the same weights, data and numbers out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.peers import have_keras

have_keras()
PROGRAM = Path(__file__).with_name("models.py")
MODELS = ("mlp", "cnn", "recurrent", "transformer")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    out = []
    for backend in ("deploykit", "torch"):
        path = tmp_path_factory.mktemp("keras") / f"{backend}.npz"
        subprocess.run([sys.executable, "-P", str(PROGRAM), backend, str(path)], check=True, cwd=path.parent)
        out.append(dict(np.load(path)))
    return out


@pytest.mark.parametrize("model", MODELS)
def test_same_numbers(model: str, both: list[dict[str, np.ndarray]]) -> None:
    ours, theirs = both
    names = [n for n in theirs if n.startswith(f"{model}/")]
    assert len(names) == 6 and set(ours) > set(theirs)
    for n in names:
        np.testing.assert_allclose(ours[n], theirs[n], rtol=1e-4, atol=1e-5, err_msg=n)
    assert ours[f"{model}/loss"][-1] < ours[f"{model}/loss"][0]


@pytest.mark.parametrize("model", MODELS)
def test_exported(model: str, both: list[dict[str, np.ndarray]]) -> None:
    """``model.export("m.dk")``: the engine gives what predict gave."""
    ours = both[0]
    np.testing.assert_allclose(ours[f"{model}/exported"], ours[f"{model}/after"][:5], rtol=1e-4, atol=1e-5)
