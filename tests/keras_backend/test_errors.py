"""What the backend cannot do says so, by name and with what to do next."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.peers import have_keras

have_keras()
CASES = {
    "backend.image.nothing_of_the_kind(1)": ("UnsupportedError", "image.nothing_of_the_kind"),
    "ops.convert_to_tensor(np.ones(2), dtype='complex64')": ("UnsupportedError", "complex64"),
    "dk.grad(lambda x: ops.sum(ops.linalg.eigh(x)[0]))(np.eye(2, dtype='float32'))": ("TapeError", "eigh"),
    "dk.function(lambda x: ops.linalg.qr(x))(np.eye(2, dtype='float32'))": ("TraceError", "keras.ops.qr"),
    "ops.subtract(np.ones(2, bool), np.ones(2, bool))": ("TypeError", "logical_xor"),
}
_TRY = """
import json, sys
import deploykit as dk, deploykit.keras_backend, numpy as np
from deploykit.keras_backend import hook
from keras import ops
from keras.src import backend

said = []
for code in json.loads(sys.argv[1]):
    try:
        eval(code)
        said.append("nothing raised")
    except Exception as e:
        said.append(f"{type(e).__name__} {e}")
try:  # a list of backends that looks different is refused, not patched
    hook._Loader("keras.src.layers.layer", hook.__file__).get_code("keras.src.layers.layer")
except Exception as e:
    said.append(str(e))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TRY, json.dumps(list(CASES))], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("code", CASES)
def test_says_what_to_do(code: str, said: list[str]) -> None:
    kind, words = CASES[code]
    got = said[list(CASES).index(code)]
    assert got.startswith(kind) and words in got, got


def test_another_keras(said: list[str]) -> None:
    assert "DK-UNSUPPORTED" in said[-1] and "is not of Keras 3.15" in said[-1]


def test_keras_imported_before() -> None:
    """Told by the module that Keras keeps its choice in."""
    code = (
        "import sys, types; m = types.ModuleType('b'); m.backend = lambda: 'torch'\n"
        "sys.modules['keras.src.backend'] = m; import deploykit.keras_backend"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd="/")
    assert "DK-INPUT" in done.stderr and "before `import keras`" in done.stderr
