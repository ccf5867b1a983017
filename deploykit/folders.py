"""Folders that a command writes as a whole: made beside their place, then moved there in one step."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def replace(work: Path, out: Path) -> None:
    """Put the finished folder ``work`` in the place of ``out``; an old one goes when the new one is there.

    Both must be on one file system.  When the move fails, the old folder is back in its place.
    """
    if not out.exists():
        work.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    try:
        out.rename(old / "folder")
        try:
            work.rename(out)
        except OSError:
            (old / "folder").rename(out)
            raise
    finally:
        if out.exists():  # else the old folder is the only copy
            shutil.rmtree(old, ignore_errors=True)
