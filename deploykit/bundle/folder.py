"""Put a bundle together: the model, its typed header, the engine cut to its ops, build files, an example.

The folder is made beside its place and moved there when complete; an earlier bundle in its place is replaced, anything else
is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from deploykit import bindings, folders
from deploykit.bundle import compiler, engine, example, header, java, sizes, swift
from deploykit.errors import InputError, UnsupportedError
from deploykit.graph import Graph
from deploykit.graph.dkfile import load, save
from deploykit.ops.core import REGISTRY

TARGETS = ("c", "linux-arm64", "android", "ios")
MARK = "bundle.json"
_TOOL = "deploykit bundle"


@dataclass
class Bundle:
    """What was written: names and bytes of files, ops, and where a library was compiled, what each op costs."""

    folder: Path
    name: str
    target: str
    ops: list[str]
    files: dict[str, int] = field(default_factory=dict)
    library: str | None = None
    compiler: str | None = None
    cost: dict[str, int] = field(default_factory=dict)  # bytes by op, and "engine" and "shared"


def ops_of(graph: Graph) -> list[str]:
    """Names of all ops in a graph and in the bodies of its control flow."""
    return sorted({n.op for g in graph.walk() for n in g.nodes})


def build(
    model: Path,
    out: Path,
    target: str,
    *,
    sources_only: bool = False,
    main_only: bool = False,
    libc: str = "gnu",
    package: str = "com.example.nets",
) -> Bundle:
    """Write the bundle of a ``.dk`` file into the folder ``out``.

    target: one of TARGETS.  sources_only: no library, the app's build compiles ``deploykit.cc``.  main_only: leave out the
    model's further signatures (training steps).  libc: "gnu" (2.28 or newer) or "musl", for linux-arm64.  package: of the
    Java class, for android.

    Raises InputError for a wrong target or folder, UnsupportedError for a model that a bundle cannot hold or a missing
    compiler, FormatError for a bad file.  On any error ``out`` stays as it was.
    """
    if target not in TARGETS:
        raise InputError(f"--target {target}: not a target; there are: {', '.join(TARGETS)}.")
    if model.suffix != ".dk":
        raise InputError(f"{model} is not a .dk file. Convert it first: deploykit convert {model} -o {model.stem}.dk")
    _check_place(out)
    graph = load(model)
    if graph.signatures and not main_only:
        raise UnsupportedError(
            f"{model}: has further signatures ({', '.join(graph.signatures)}), training steps perhaps; a bundle runs inference. "
            f"Leave them out: deploykit bundle {model} --target {target} --main-only -o {out}"
        )
    graph.signatures.clear()
    # the NDK compiles for Android, with headers that nobody else has
    tool = None if sources_only or target == "android" else compiler.find(target, libc)
    face = bindings.interface(model)
    if target in ("android", "ios"):
        java.check(face, package)
    bundle = Bundle(out, face.name, target, ops_of(graph), compiler=tool.name if tool else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        work.chmod(0o755)
        place = _layout(work, target, java.class_name(face))
        if main_only:
            save(graph, place["model"] / f"{face.name}.dk")
        else:
            shutil.copyfile(model, place["model"] / f"{face.name}.dk")
        source = place["source"] / "deploykit.cc"
        source.write_text(engine.cut(bundle.ops), encoding="utf-8")
        (place["header"] / "deploykit.h").write_text(engine.sources()["deploykit.h"], encoding="utf-8")
        (place["header"] / f"{face.name}.h").write_text(header.generate(face), encoding="utf-8")
        where = {"c": "host", "linux-arm64": f"linux-arm64-{libc}", "ios": "ios-arm64"}.get(target, "")
        if tool:
            bundle.library = f"lib/{where}/libdeploykit.a"
            _compile(tool, source, work / bundle.library, bundle, [f"-I{place['header']}"])
        _build_files(work, target, face, where, package, tool is not None)
        _finish(work, bundle)
        folders.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return bundle


def _layout(work: Path, target: str, name: str) -> dict[str, Path]:
    """Folders of the model, the source and the headers, as the target's build wants them."""
    cpp, swift_package = work / "src/main/cpp", work / "Sources"
    place = {
        "android": (work / "src/main/assets", cpp, cpp),
        "ios": (swift_package / name, swift_package / f"{name}Engine", swift_package / f"{name}Engine/include"),
    }.get(target, (work, work, work))
    for p in place:
        p.mkdir(parents=True, exist_ok=True)
    return dict(zip(("model", "source", "header"), place, strict=True))


def _build_files(work: Path, target: str, face: bindings.Interface, where: str, package: str, compiled: bool) -> None:
    name, cls = face.name, java.class_name(face)
    if target == "android":
        _fill("android/build.gradle.kts", work / "build.gradle.kts", name, package=package)
        _fill("android/AndroidManifest.xml", work / "src/main/AndroidManifest.xml", name)
        _fill("android/CMakeLists.txt", work / "src/main/cpp/CMakeLists.txt", name)
        (work / f"src/main/cpp/{name}_jni.c").write_text(java.jni(face, package), encoding="utf-8")
        folder = work / "src/main/java" / package.replace(".", "/")
        folder.mkdir(parents=True)
        (folder / f"{cls}.java").write_text(java.java(face, package), encoding="utf-8")
    elif target == "ios":
        _fill("ios/Package.swift", work / "Package.swift", name, Class=cls)
        (work / f"Sources/{cls}/{cls}.swift").write_text(swift.generate(face), encoding="utf-8")
    else:
        (work / "example.c").write_text(example.generate(face), encoding="utf-8")
        library = f"lib/{where}/libdeploykit.a"
        _fill("c/CMakeLists.txt", work / "CMakeLists.txt", name, library=library, prebuilt="ON" if compiled else "OFF")


def _compile(tool: compiler.Compiler, source: Path, library: Path, bundle: Bundle, more: list[str]) -> None:
    unit = tool.library(source, library, more)
    try:
        found = sizes.measure(unit)
    except ValueError:
        return  # another object format: no costs then
    finally:
        unit.unlink()
    names = {op.opcode: op.name for op in REGISTRY.values()}
    bundle.cost = {names[k]: n for k, n in found.ops.items()} | {"engine": found.engine, "shared": found.shared}


def _fill(template: str, target: Path, name: str, **more: str) -> None:
    text = (Path(__file__).resolve().parent / "templates" / template).read_text(encoding="utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(Template(text).substitute(name=name, NAME=name.upper(), **more), encoding="utf-8")


def _finish(work: Path, bundle: Bundle) -> None:
    """Write down what the bundle is made of."""
    bundle.files = {p.relative_to(work).as_posix(): p.stat().st_size for p in sorted(work.rglob("*")) if p.is_file()}
    mark: dict[str, Any] = {"tool": _TOOL, "name": bundle.name, "target": bundle.target, "ops": bundle.ops}
    mark |= {"compiler": bundle.compiler, "bytes_by_op": bundle.cost, "files": bundle.files}
    (work / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")


def _ours(folder: Path) -> bool:
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(mark, dict) and mark.get("tool") == _TOOL


def _check_place(out: Path) -> None:
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise InputError(f"{out} is there and is not a folder; give another -o.")
    if any(out.iterdir()) and not _ours(out):
        raise InputError(f"{out} holds other things, not an earlier bundle; give an empty or a new folder with -o.")
