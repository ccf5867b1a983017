"""Who may import whom.  The table below is the rule; imports inside functions count too, except those in LAZY."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first: a module may import modules of its own layer's prefix and of layers before it.
LAYERS: list[tuple[str, ...]] = [
    (
        "deploykit.errors",
        "deploykit.dtypes",
        "deploykit.folders",
        "deploykit.hooks",
        "deploykit.strings",
        "deploykit.units",
    ),
    (
        "deploykit.graph.dims",
        "deploykit.graph.ir",
        "deploykit.graph.dk_tables",
        "deploykit.graph.growth",
        "deploykit.graph.sniff",
        "deploykit.graph",
    ),
    # reading and printing graphs needs the passports (attr kinds), so these files of graph/ stand above ops
    ("deploykit.ops",),
    ("deploykit.graph.dkfile", "deploykit.graph.text", "deploykit.graph.verify"),
    ("deploykit.weights", "deploykit.seal"),
    ("deploykit.native",),
    ("deploykit.native_calls",),
    ("deploykit.autodiff",),
    ("deploykit.data",),
    ("deploykit.summary",),
    ("deploykit.keras",),
    ("deploykit.keras_backend",),
    ("deploykit.converters.ir",),
    (
        "deploykit.converters.importers",
        "deploykit.converters.passes",
        "deploykit.converters.quantize",
        "deploykit.converters.exporters",
    ),
    ("deploykit.converters.report", "deploykit.converters.pipeline", "deploykit.converters"),
    ("deploykit.interpreter",),
    ("deploykit.bindings",),
    ("deploykit.formats", "deploykit.factory"),
    ("deploykit.runners", "deploykit.onnx_source"),
    ("deploykit.verification", "deploykit.images", "deploykit.sounds"),
    ("deploykit.calibration",),
    ("deploykit.quantization", "deploykit.diagnosis", "deploykit.pages"),
    ("deploykit.search",),
    ("deploykit.trace",),
    ("deploykit.vectors", "deploykit.lineage"),
    ("deploykit.api",),
    ("deploykit.qat",),
    ("deploykit.peers",),
    ("deploykit.web", "deploykit.bundle"),
    ("deploykit.web",),
    ("deploykit.replay",),
    ("deploykit.web_answers",),
    ("deploykit.cli", "deploykit.__main__", "deploykit"),
]
# Peers of one layer that must not see each other.
SEPARATE = [
    ("deploykit.converters.importers", "deploykit.converters.passes"),
    ("deploykit.converters.importers", "deploykit.converters.exporters"),
    ("deploykit.converters.passes", "deploykit.converters.exporters"),
]
# Imports inside functions that reach upward on purpose: a method for people that hands over to its module.
LAZY = {
    ("deploykit.graph.ir", "deploykit.graph.text"),
    ("deploykit.graph.ir", "deploykit.graph.dkfile"),
    ("deploykit.ops.reference", "deploykit.native"),
}
# Foreign packages and the only places that may import them.
FOREIGN = {
    "onnx": (
        "deploykit.converters.importers.onnx",
        "deploykit.converters.exporters.onnx",
        "deploykit.runners",
        "deploykit.onnx_source",
    ),
    "onnxruntime": ("deploykit.runners",),
    "openvino": ("deploykit.peers",),
    "ncnn": ("deploykit.peers",),
    "ai_edge_litert": ("deploykit.runners",),
    "torch": ("deploykit.converters.importers.pytorch", "deploykit.runners"),
    "tensorflow": (),
    "keras": ("deploykit.keras_backend",),
    "click": ("deploykit.cli",),
    "rich": ("deploykit.cli",),
    "PIL": ("deploykit.cli", "deploykit.images", "deploykit.data.sources", "deploykit.summary"),
    "jinja2": ("deploykit.pages",),
    "h5py": ("deploykit.keras.saving",),
    "cryptography": ("deploykit.seal",),
}


def modules() -> dict[str, Path]:
    """Installed name of every Python file of the two packages."""
    out = {}
    for folder, prefix in (("deploykit", "deploykit"), ("converters", "deploykit.converters")):
        for p in sorted((ROOT / folder).rglob("*.py")):
            rel = p.relative_to(ROOT / folder).with_suffix("")
            parts = [prefix, *rel.parts]
            if parts[-1] == "__init__":
                parts.pop()
            out[".".join(parts)] = p
    return out


def inside(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def layer(name: str) -> int:
    best = max(((len(p), i) for i, ps in enumerate(LAYERS) for p in ps if inside(name, p)), default=None)
    assert best is not None, f"{name} stands in no layer: add it to the table"
    return best[1]


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for a in node.names:
                full = f"{node.module}.{a.name}"
                found.add(full if full in known else node.module or "")
    return found


ALL = modules()


@pytest.mark.parametrize("name", sorted(ALL))
def test_imports(name: str) -> None:
    own = layer(name)
    for target in imports(ALL[name], ALL):
        top = target.split(".")[0]
        if top in FOREIGN:
            assert any(inside(name, p) for p in FOREIGN[top]), f"{name} imports {target}"
        if top != "deploykit" or target == "deploykit":
            continue
        if (name, target) in LAZY:
            continue
        assert layer(target) <= own, f"{name} (layer {own}) imports {target} (layer {layer(target)})"
        for a, b in SEPARATE:
            assert not (inside(name, a) and inside(target, b)), f"{name} imports {target}"
            assert not (inside(name, b) and inside(target, a)), f"{name} imports {target}"


def test_converters_do_not_see_the_engine() -> None:
    """Importers, passes and exporters work without the compiled engine."""
    for name, path in ALL.items():
        if inside(name, "deploykit.converters"):
            assert not {"deploykit.native", "deploykit.interpreter"} & imports(path, ALL), name


RUNTIME = ["base", "format", "simd", "kernels", "ops", "engine", "capi"]


def test_runtime_includes() -> None:
    """C++: each folder includes only folders before it; kernels see only their own family, simd and base."""
    import re

    src = ROOT / "runtime" / "src"
    for p in sorted(src.rglob("*")):
        if p.suffix not in (".cc", ".h", ".inc"):
            continue
        folder = p.relative_to(src).parts[0]
        for target in re.findall(r'#include "(\w+)/', p.read_text()):
            if target in ("schema", "deploykit"):
                continue
            assert target in RUNTIME, f"{p}: {target}"
            assert RUNTIME.index(target) <= RUNTIME.index(folder), f"{p.relative_to(ROOT)} includes {target}/"
            if folder == "kernels":
                assert target in ("base", "simd", "kernels"), f"{p.relative_to(ROOT)} includes {target}/"


def test_import_is_lazy() -> None:
    """``import deploykit`` loads neither NumPy nor any of our modules: its cost is a Python file."""
    import subprocess
    import sys

    code = "import sys; import deploykit; print([m for m in sys.modules if m == 'numpy' or m.startswith('deploykit.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.strip() == "[]"
