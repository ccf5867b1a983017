"""The engine as one file, ``deploykit.cc`` with ``deploykit.h``: from the wheel, or made anew in a checkout."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from deploykit.errors import EngineError, UnsupportedError

FILES = ("deploykit.cc", "deploykit.h")
CONTROL = frozenset({"if", "loop", "read_variable", "assign_variable"})  # the engine's own, in every cut


@functools.cache
def sources() -> dict[str, str]:
    """Texts of ``deploykit.cc`` and ``deploykit.h`` by name.

    In a checkout they are made from its sources; an installed wheel holds them in ``engine.zip``.  Raises EngineError
    where neither is there.
    """
    here = Path(__file__).resolve().parent
    program = here.parents[1] / "runtime" / "amalgamate"
    if program.is_dir():
        with tempfile.TemporaryDirectory() as tmp:
            subprocess.run([sys.executable, str(program), "-o", tmp], check=True)
            return {n: (Path(tmp) / n).read_text(encoding="utf-8") for n in FILES}
    packed = here / "engine.zip"
    if not packed.is_file():
        raise EngineError(
            f"this installation holds no engine sources (looked for {packed}). Install the package again: pip install "
            "--force-reinstall --no-deps deploykit, or `pip install .` in a checkout."
        )
    with zipfile.ZipFile(packed) as z:
        return {n: z.read(n).decode() for n in FILES}


def cut(ops: Iterable[str], names: bool = True) -> str:
    """The text of ``deploykit.cc`` that compiles only these ops (and control flow).  Without ``names`` it does not even
    know what the other ops are called, which saves 20 kB.

    >>> "#define DK_OP_relu" in cut(["relu"])
    True
    """
    text = sources()["deploykit.cc"]
    wanted = sorted(set(ops) - CONTROL)
    unknown = [o for o in wanted if f"#if defined(DK_OP_{o})\n" not in text]
    if unknown:
        raise UnsupportedError(
            f"the engine has no kernel for: {', '.join(unknown)}. Such ops run in Python only; convert the model anew.",
            problems=unknown,
        )
    first, rest = text.split("\n", 1)
    if first != "#if !defined(DK_KERNELS)":
        raise EngineError("the engine sources are of another version than this package; install the package again.")
    defines = ["#define DK_CUT", *(f"#define DK_OP_{o}" for o in wanted)]
    if not names:
        known = {*wanted, *CONTROL, "pad"}  # pad has a choice: lists of none are no C++
        lines = [m[0] for m in re.finditer(r"^DK_(?:OP\(\d+, |ATTR\(|ENUM\()(\w+),.*\)", rest, re.M) if m[1] in known]
        defines.append("#define DK_OPSET_KEPT \\\n" + " \\\n".join(lines))
    return "\n".join([first, *defines, rest])
