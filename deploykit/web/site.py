"""Write the static page of a model: one folder that works from any host, without a build step and without a network.

The folder is made beside its place and moved there when complete.  A folder that is already there is replaced only when
``deploykit web`` made it, and files in it that are not ours (CNAME, robots.txt ...) move along.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from deploykit import folders
from deploykit.errors import EngineError, InputError
from deploykit.web import forms, headers, vectors

MARK = "site.json"  # lists the files that we wrote
_TOOL = "deploykit web"
INSTALL = "DEPLOYKIT_WEB=1 pip install --force-reinstall --no-deps ."  # in a checkout


def sources() -> Path:
    """The folder of the page's own files: from ``pages.tar.xz`` of an installed wheel, or ``web/site`` of a checkout."""
    return _asset("site", "index.html")


def demo_sources() -> Path:
    """The folder of the web demo's own pages."""
    return _asset("demo", "profile.html")


def runtime() -> Path:
    """The folder of the built engine for browsers."""
    return _asset("dist", "deploykit.js")


def _asset(name: str, member: str) -> Path:
    here = Path(__file__).resolve().parent
    packed, checkout = here / "pages.tar.xz", here.parents[1] / "web"
    for folder in (_unpacked(packed) if packed.is_file() else None, checkout):
        if folder is not None and (folder / name / member).is_file():
            return folder / name
    raise EngineError(
        f"this installation holds no '{name}/{member}' for browsers (looked in {packed} and {checkout}). "
        f"Install again with it, `{INSTALL}` in a checkout (a minute or two), or take a wheel that was built so.",
        code="DK-ENGINE",
    )


@functools.cache
def _unpacked(packed: Path) -> Path:
    """The files of pages.tar.xz in a folder that lives as long as the process."""
    folder = tempfile.mkdtemp(prefix="deploykit-pages-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    engines = Path(folder, "dist", "engines.tar.xz")
    if engines.is_file():
        with tarfile.open(engines) as tar:
            for member in tar:
                (engines.parent / Path(member.name).name).write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    return Path(folder)


@dataclass
class Page:
    """One page of a folder: its file name, template, what its script must know, and the files it brings along."""

    name: str
    template: Path
    data: dict[str, Any]
    files: dict[str, Path | bytes] = field(default_factory=dict)


def build(
    model: Path,
    out: Path,
    *,
    title: str | None = None,
    labels: Sequence[str] | None = None,
    examples: Sequence[tuple[str, vectors.Feeds]] = (),
    input_shapes: dict[str, list[int | str]] | None = None,
    engine: Path | None = None,
) -> dict[str, Any]:
    """Write the page of a ``.dk`` file into the folder ``out``; returns what it is made of (sizes, forms, vectors).

    examples: (title, inputs by name) shown on the page as samples; their answers and those of one made-up input are
    stored for the page's own check.  engine: folder of the built browser engine (default: the installed one).

    Raises InputError when ``out`` is something else than an earlier page, FormatError for a bad model, EngineError when
    this installation holds no browser engine.  On any error ``out`` stays as it was.
    """
    _check_target(out)
    page = model_page("index.html", model, "model", title, labels, examples, input_shapes)
    write(out, [page], engine=engine)
    return page.data


def write(out: Path, pages: Sequence[Page], more: Sequence[Path] = (), engine: Path | None = None) -> None:
    """Write pages that share one engine, style and service worker; ``more``: folders of further files.

    Adds to each page's ``data`` the ``sizes`` of its files and the ``version`` of the whole.  Raises as :func:`build`.
    """
    _check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        work.chmod(0o755)
        _assemble(work, pages, [sources(), *more], engine or runtime())
        _replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _assemble(work: Path, pages: Sequence[Page], folders: Sequence[Path], engine: Path) -> None:
    templates = {"sw.js", *(p.template.name for p in pages)}
    for folder in folders:
        for f in sorted(folder.rglob("*")):
            if f.is_file() and f.name not in templates:
                _copy(f, work / f.relative_to(folder))
    for f in sorted(engine.rglob("*")):
        if f.is_file() and f.suffix in (".js", ".wasm"):
            _copy(f, work / "runtime" / f.relative_to(engine))
    for name, text in headers.host_files().items():
        (work / name).write_text(text, encoding="utf-8")
    for page in pages:
        for name, content in page.files.items():
            if isinstance(content, bytes):
                (work / name).write_bytes(content)
            else:
                shutil.copyfile(content, work / name)
        page.data["sizes"] = {p: (work / p).stat().st_size for p in [*page.files, *_scripts(work)]}
    version = _digest(work, json.dumps([p.data for p in pages], sort_keys=True))
    for page in pages:
        page.data["version"] = version
    _render(folders[0], work, pages, version)
    names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
    mark = {"tool": _TOOL, "version": version, "files": [*names, MARK]}
    (work / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")


def model_page(
    name: str,
    model: Path,
    stem: str,
    title: str | None = None,
    labels: Sequence[str] | None = None,
    examples: Sequence[tuple[str, vectors.Feeds]] = (),
    input_shapes: dict[str, list[int | str]] | None = None,
) -> Page:
    """The page ``name`` of a model: ``STEM.dk`` and the test vectors in ``STEM.bin``."""
    from deploykit.interpreter import Interpreter

    session = Interpreter(model)
    metadata = session.metadata
    if labels is not None:
        metadata["labels"] = list(labels)
    random = vectors.made_up(model, shapes=input_shapes)
    cases = [*examples, ("made-up numbers", random)]
    first = vectors.answers(session, cases[0][1])
    shapes = {k: v.shape for k, v in cases[0][1].items()}
    files: dict[str, Path | bytes] = {f"{stem}.dk": model}
    index: list[dict[str, Any]] = []
    if vectors.deterministic(session, cases[0][1]):
        files[f"{stem}.bin"], index = vectors.pack([(t, x, vectors.answers(session, x)) for t, x in cases])
    inputs = forms.editors(session.inputs, shapes, metadata)
    data = {
        "title": title or forms.title(model.name, metadata),
        "model": f"{stem}.dk",
        "blob": f"{stem}.bin" if index else None,
        "inputs": inputs,
        "outputs": [{"name": k, "dtype": v.dtype.name} for k, v in first.items()],
        "views": forms.views(first, inputs, metadata),
        "vectors": index,
        "samples": len(examples) if index else 0,
        "card": card(model, metadata, session),
    }
    return Page(name, sources() / "index.html", data, files)


def card(model: Path, metadata: dict[str, Any], session: Any) -> list[list[str]]:
    """Rows of the model card: what the file says of itself."""
    rows = [["file", model.name], ["sha256", hashlib.sha256(model.read_bytes()).hexdigest()]]
    rows += [[f"input {s.name}", _spec(s)] for s in session.inputs]
    rows += [[f"output {s.name}", _spec(s)] for s in session.outputs]
    for key, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append([key, text if len(text) <= 400 else text[:399] + "…"])
    return rows


def _spec(s: Any) -> str:
    dims = "of any shape" if s.shape is None else " × ".join(map(str, s.shape)) or "scalar"
    return f"{s.dtype} {dims}".strip()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _scripts(work: Path) -> list[str]:
    return sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.suffix in (".js", ".css", ".wasm"))


def _digest(work: Path, page: str) -> str:
    h = hashlib.sha256(page.encode())
    for p in sorted(work.rglob("*")):
        if p.is_file():
            h.update(p.relative_to(work).as_posix().encode() + b"\0" + hashlib.sha256(p.read_bytes()).digest())
    return h.hexdigest()[:16]


def _render(own: Path, work: Path, pages: Sequence[Page], version: str) -> None:
    """Fill the templates; every value is escaped for the place where it lands."""
    names = ["./", *(p.name for p in pages if p.name != "index.html")]
    shell = [*names, *[n for n in _scripts(work) if not n.endswith(".wasm")], "icon.svg", "manifest.webmanifest"]
    lazy = [*(n for p in pages for n in p.files), *[n for n in _scripts(work) if n.endswith(".wasm")]]
    common = {
        "csp": escape(headers.META_CSP, quote=True).replace("&#x27;", "'"),
        "version": version,
        "home": '<p><a href="./">All demos</a></p>' if len(pages) > 1 else "",
    }
    for page in pages:
        title = page.data["title"]
        # in a data block of HTML, no text of the model's may end the block or start a comment
        data = json.dumps(page.data, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
        values = {"title": escape(title), "description": escape(f"{title}: runs in this browser"), "data": data}
        preload = "\n".join(
            f'<link rel="modulepreload" href="{escape(n)}">' for n in [*_modules(own), *_runtime_modules(work)]
        )
        _fill(page.template, work / page.name, common | values | {"preload": preload})
    worker = {"version": version, "shell": _literal(shell), "lazy": _literal(lazy)}
    _fill(own / "sw.js", work / "sw.js", worker)


def _fill(template: Path, target: Path, values: dict[str, str]) -> None:
    target.write_text(Template(template.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")


def _literal(names: list[str]) -> str:
    return json.dumps(names).replace("<", "\\u003c")


def _modules(own: Path) -> list[str]:
    """Modules that a page may load at once: not the plain script, not pages' own."""
    return sorted(
        n for p in own.rglob("*.js") if (n := p.relative_to(own).as_posix()) not in ("sw.js", "page/opened.js")
    )


def _runtime_modules(work: Path) -> list[str]:
    """Modules of the engine's binding that a page loads, so that they come at once; its worker loads the others."""
    others = ("worker.js", "engine.js", "dkfile.js")
    return sorted(f"runtime/{p.name}" for p in (work / "runtime").glob("*.js") if p.name not in others)


def _files(out: Path) -> set[str] | None:
    """Names that an earlier run wrote into ``out``; None when it is not a page of ours."""
    try:
        mark = json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(mark, dict) or mark.get("tool") != _TOOL or not isinstance(mark.get("files"), list):
        return None
    return set(map(str, mark["files"]))


def _check_target(out: Path) -> None:
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise InputError(f"{out} is there and is not a folder; give another -o.")
    if any(out.iterdir()) and _files(out) is None:
        raise InputError(f"{out} holds other things, not an earlier page of '{_TOOL}'; give an empty or a new folder.")


def _replace(work: Path, out: Path) -> None:
    """Put the finished folder in its place; what others put into the old one comes along."""
    ours = _files(out) or set()
    for p in sorted(out.rglob("*")) if out.exists() else []:
        name = p.relative_to(out).as_posix()
        if (p.is_file() or p.is_symlink()) and name not in ours and not os.path.lexists(work / name):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(p, work / name, follow_symlinks=False)
    folders.replace(work, out)
