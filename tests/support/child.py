"""Modules of the checkout in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

_BOOT = (  # the checkout comes last: deploykit/ there would hide the installed package, of which it is a part
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); sys.argv = sys.argv[1:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def command(module: str, *args: object) -> list[str]:
    """``python -m module args`` with the installed Deploykit.

    >>> command("tests.bench.table", "--one")[-2:]
    ['tests.bench.table', '--one']
    """
    root = Path(__file__).resolve().parents[2]
    return [sys.executable, "-P", "-c", _BOOT, str(root), module, *map(str, args)]
