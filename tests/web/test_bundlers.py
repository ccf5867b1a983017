"""A minimal app with the npm package, built by each bundler and by none, opened in Chromium; the types as an app sees them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from tests.web import pages
from tests.web.test_package import NPM, image
from tests.web.test_site import classifier

HERE = pages.HERE / "bundlers"
BUNDLERS = ("none", "vite", "webpack", "rollup", "esbuild", "parcel", "inline", "inline-none")
OWN_FILES = ("inline", "inline-none")  # the single-file build fetches nothing but the model


def packed(folder: Path) -> None:
    """The package as npm would install it from a registry, into ``folder``."""
    missing = [str(f) for f in (NPM, HERE) if not (f / "node_modules").is_dir()]
    if missing:
        assert not os.environ.get("CI"), f"CI needs `npm ci` in {missing}"
        pytest.skip(f"npm packages are missing: npm ci --prefix {missing[0]}")
    engine = pages.engine()
    out = folder / "dist"
    command = ["node", str(NPM / "scripts" / "build.mjs"), "--out", str(out), "--engine", str(engine)]
    subprocess.run(command, check=True, timeout=180)
    for name in ("package.json", "README.md"):
        shutil.copy(NPM / name, folder / name)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundlers") / "app"
    shutil.copytree(HERE / "app", folder)
    package = folder / "node_modules" / "deploykit"
    package.mkdir(parents=True)
    packed(package)
    return folder


@pytest.fixture(scope="module")
def seen(app: Path) -> dict[str, Any]:
    """What the pages of all builds show."""
    out = app.parent / "out"
    model = classifier(app.parent)
    for name in BUNDLERS:
        command = ["node", str(HERE / "build.mjs"), name, str(app), str(out / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
        shutil.copy(model, out / name / "model.dk")
    with pages.served(out, {}) as url:
        command = ["node", str(HERE / "run.mjs"), url, *BUNDLERS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"want": dk.Interpreter(model).run({"image": image()})["class"][0]}


@pytest.mark.parametrize("bundler", BUNDLERS)
def test_app(seen: dict[str, Any], bundler: str) -> None:
    """The native answers in a worker and on the page's thread; nothing on the console."""
    got = seen[bundler]
    assert not got["errors"] and "error" not in got, got
    assert len(got["workers"]) == 1
    for worker in ("true", "false"):
        np.testing.assert_allclose(got[worker], seen["want"], rtol=1e-5, atol=1e-12)
    fetched = [u for u in got["requests"] if u.endswith((".wasm", "worker.js"))]
    assert bool(fetched) != (bundler in OWN_FILES), got["requests"]


def test_types(app: Path) -> None:
    """An app in strict TypeScript, by both ways to resolve modules; wrong use does not compile."""
    shutil.copy(HERE / "use.ts", app / "use.ts")
    tsc = [
        "node",
        str(NPM / "node_modules" / "typescript" / "bin" / "tsc"),
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "false",
    ]
    for module, resolution in (("ES2022", "bundler"), ("NodeNext", "NodeNext")):
        command = [
            *tsc,
            "--target",
            "ES2022",
            "--lib",
            "ES2023,DOM,ESNext.Disposable",
            "--types",
            "",
            "--module",
            module,
        ]
        command += ["--moduleResolution", resolution, "use.ts"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=app, timeout=120)
        assert done.returncode == 0, done.stdout


def test_the_single_file_in_node(app: Path) -> None:
    script = """
import { Model } from "deploykit/inline";
for (const worker of [true, false]) {
  const model = await Model.load(process.argv[2], { worker });
  console.log(JSON.stringify(Array.from((await model.run({ image: new Float32Array(64) })).class.data)));
  model.dispose();
}
"""
    (app / "single.mjs").write_text(script)
    model = classifier(app.parent)
    done = subprocess.run(["node", "single.mjs", str(model)], capture_output=True, text=True, cwd=app, timeout=60)
    assert done.returncode == 0, done.stderr
    want = dk.Interpreter(model).run({"image": np.zeros((1, 8, 8, 1), np.float32)})["class"][0]
    for line in done.stdout.splitlines():
        np.testing.assert_allclose(json.loads(line), want, rtol=1e-6)
