"""The list that all files of this folder fill."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

HUGE = 1 << 40
Case = Callable[[Path], Path]
CASES: dict[str, Case] = {}


def case(f: Case) -> Case:
    CASES[f.__name__] = f
    return f


def rezipped(whole: Path, path: Path, change: Callable[[dict[str, bytes]], None], deflate: bool) -> Path:
    """The parts of the archive ``whole``, changed, as a new one."""
    with zipfile.ZipFile(whole) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        for k, v in parts.items():
            z.writestr(k, v, compresslevel=1 if deflate else None)
    return path


def beside_a_secret(folder: Path, size: int, location: str, link: str) -> Path:
    """A folder for a model beside a file that it must not read; with ``link`` the way of ``location`` begins as that link."""
    (folder / "secret").write_bytes(b"\1" * size)
    inner = folder / "model"
    inner.mkdir()
    if link:
        os.symlink(link, inner / location.split("/")[0])
    return inner
