"""Typed bindings: what is generated compiles and runs, and a wrong call does not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit import bindings
from deploykit.graph import Dim
from deploykit.ops import GraphBuilder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Two inputs with awkward names, one open dim, labels."""
    b = GraphBuilder()
    n = Dim.symbol("n")
    x = b.input("pixels:0", "float32", (n, 2 * n, 3))
    at = b.input("class", "int64", (2,))
    b.output(b.op("gather", b.op("reduce_sum", x, np.array([0, 1]), keepdims=False), at), "scores/1")
    graph = b.output(b.op("shape_of", x), "shape")
    graph.metadata["labels"] = ["cat", 'a "dog"']
    path = tmp_path_factory.mktemp("bindings") / "my-net.dk"
    dk.convert(graph, path)
    return path


def test_python(model: Path) -> None:
    source = model.with_suffix(".py")
    source.write_text(bindings.generate(bindings.interface(model), "py"))
    spec = importlib.util.spec_from_file_location("net", source)
    assert spec is not None and spec.loader is not None
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    got = net.Model(model).run(np.ones((2, 4, 3), np.float32), np.array([0, 2]))
    assert got.scores_1.tolist() == [8, 8] and got.shape.tolist() == [2, 4, 3]
    assert net.LABELS == ["cat", 'a "dog"']
    with pytest.raises(TypeError):
        net.Model(model).run(np.ones((2, 4, 3), np.float32), wrong=3)
    other = GraphBuilder()
    path = model.with_name("other.dk")
    dk.convert(other.output(other.op("relu", other.input("x", "float32", (2,))), "y"), path)
    with pytest.raises(TypeError, match="not the model"):
        net.Model(path)


CALL = """
#include <stdio.h>
#include "net.h"
int main(int argc, char** argv) {
  dk_model* model = NULL;
  dk_session* s = NULL;
  if (argc < 2 || dk_model_open(argv[1], NULL, &model) || dk_session_new(model, NULL, &s)) return 2;
  if (my_net_check(s)) return 3;
  float pixels[2 * 4 * 3];
  for (int i = 0; i < 24; ++i) pixels[i] = 1;
  TYPE at[2] = {0, 2};
  my_net_inputs in = {.pixels_0 = pixels, .v_class = at, .dim_n = 2};
  my_net_outputs out;
  if (my_net_run(s, &in, &out)) { puts(dk_session_error(s)); return 4; }
  printf("%g %g %d %s\\n", out.scores_1[0], out.scores_1[1], (int)out.shape[1], my_net_labels[1]);
  dk_session_free(s);
  dk_model_free(model);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_c(model: Path) -> None:
    from deploykit import native

    folder = model.parent
    (folder / "net.h").write_text(bindings.generate(bindings.interface(model), "c"))
    library = Path(native.library()._name)
    for kind, good in (("int64_t", True), ("float", False)):
        (folder / "main.c").write_text(CALL.replace("TYPE", kind))
        flags = ["-std=c11", "-Wall", "-Werror", f"-I{ROOT / 'runtime' / 'include'}", f"-I{folder}"]
        command = ["cc", *flags, "main.c", str(library), f"-Wl,-rpath,{library.parent}", "-o", "main"]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert (built.returncode == 0) == good, built.stderr
        if good:
            ran = subprocess.run(["./main", str(model)], cwd=folder, capture_output=True, text=True)
            assert (ran.returncode, ran.stdout) == (0, '8 8 4 a "dog"\n'), ran.stdout + ran.stderr
        else:
            assert "v_class" in built.stderr or "incompatible" in built.stderr


def test_typescript(model: Path) -> None:
    text = bindings.generate(bindings.interface(model), "ts")
    assert 'readonly "pixels:0": TypedTensor<Float32Array, readonly [number, number, 3]>;' in text
    assert 'readonly "class": TypedTensor<BigInt64Array, readonly [2]>;' in text
    assert 'readonly "scores/1": TypedTensor<Float32Array, readonly [2]>;' in text
    assert 'labels: readonly string[] = ["cat", "a \\"dog\\""]' in text
    assert text.count("{") == text.count("}")


USE = """
import { My_net as Net, labels } from "./net";
const net = new Net({ run: (inputs) => inputs });
const pixels = { data: new Float32Array(24), shape: [2, 4, 3] } as const;
const at = { data: new BigInt64Array(2), shape: [2] } as const;
const good: Promise<Float32Array> = net.run({ "pixels:0": pixels, class: at }).then((y) => y["scores/1"].data);
const label: string | undefined = labels[0];
LINE
void [good, label];
"""
WRONG = {
    "a dtype": 'void net.run({ "pixels:0": pixels, class: { data: new Int32Array(2), shape: [2] } });',
    "a shape": 'void net.run({ "pixels:0": { ...pixels, shape: [2, 4] }, class: at });',
    "a size": 'void net.run({ "pixels:0": pixels, class: { data: at.data, shape: [3] } });',
    "a missing input": 'void net.run({ "pixels:0": pixels });',
    "a name": 'void net.run({ "pixels:0": pixels, class: at, other: at });',
    "an output": 'void net.run({ "pixels:0": pixels, class: at }).then((y) => y.score);',
}


def test_typescript_compiles_and_wrong_calls_do_not(model: Path) -> None:
    compiler = ROOT / "web" / "npm" / "node_modules" / "typescript" / "bin" / "tsc"
    if shutil.which("node") is None or not compiler.is_file():
        assert not os.environ.get("CI"), "CI needs Node and `npm ci --prefix web/npm`"
        pytest.skip("Node or TypeScript is missing (npm ci --prefix web/npm)")
    (model.parent / "net.ts").write_text(bindings.generate(bindings.interface(model), "ts"))

    def check(line: str) -> str:
        (model.parent / "use.ts").write_text(USE.replace("LINE", line))
        command = ["node", str(compiler), "--noEmit", "--strict", "--target", "ES2022", "--types", "", "use.ts"]
        return subprocess.run(command, capture_output=True, text=True, cwd=model.parent).stdout

    assert check("") == ""
    for what, line in WRONG.items():
        assert "error TS" in check(line), what
