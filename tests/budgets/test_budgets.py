"""Sizes are budgets: the installed package, the engine library, and the weak symbols of kernel objects."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import deploykit
import deploykit.converters
from deploykit import native

MB = 1_000_000


def test_wheel_bytes() -> None:
    """Everything that the wheel holds, before compression: under 5 MB.  Besides: the engine for browsers, where it was asked
    for (DEPLOYKIT_WEB=1)."""
    folder = Path(deploykit.__file__).parent
    library = native.library_path()
    assert library is not None
    files = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".so"]
    if not (folder / "converters").is_dir():  # of an editable install: they lie elsewhere in the checkout
        converters = Path(deploykit.converters.__file__).parent
        files += [p for p in converters.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    built = Path(library).parent  # and what the build makes lies there
    if built != folder:
        files += [*built.rglob("*.zip"), *built.rglob("*.tar.xz")]
    total = sum(p.stat().st_size for p in files) + Path(library).stat().st_size
    engine = sum(_packed_browser_engine(p) for p in files if p.name == "pages.tar.xz")
    assert engine < 0.3 * MB, f"{engine / MB:.2f} MB of browser engine"
    rest = total - engine
    assert rest < 5 * MB, f"{rest / MB:.2f} MB"


def _packed_browser_engine(pages: Path) -> int:
    """Compressed bytes of the browser engine in the wheel; 0 where it was not asked for."""
    with tarfile.open(pages) as tar:
        dist = [m for m in tar if m.isfile() and m.name.startswith("dist/")]
        packed = sum(m.size for m in dist if m.name.endswith(".xz"))
        scripts = b"".join(tar.extractfile(m).read() for m in dist if not m.name.endswith(".xz"))  # type: ignore[union-attr]
    return packed + len(lzma.compress(scripts)) if dist else 0


def test_library_bytes() -> None:
    library = native.library_path()
    assert library is not None
    assert Path(library).stat().st_size < 3 * MB


def test_library_needs_no_cxx_runtime() -> None:
    """The library links libc, libm and pthread only."""
    library = native.library_path()
    if shutil.which("readelf") is None:
        assert not os.environ.get("CI"), "CI needs readelf"
        pytest.skip("readelf is not installed")
    tool = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True)
    needed = [line.split("[")[1].rstrip("]") for line in tool.stdout.splitlines() if "NEEDED" in line]
    assert not [n for n in needed if n.startswith(("libstdc++", "libc++", "libgcc"))], needed


def test_running_a_model_imports_only_what_it_needs() -> None:
    """Cold start: no converter, no narrow dtypes, no command-line libraries behind ``dk.Interpreter``."""
    code = "import sys, deploykit as dk; dk.Interpreter; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    loaded = set(out.stdout.split())
    assert "deploykit.interpreter" in loaded
    heavy = {"ml_dtypes", "onnx", "onnxruntime", "flatbuffers", "click", "rich", "PIL", "deploykit.ops"}
    assert not heavy & loaded, heavy & loaded
