"""The C API only grows: every function and number of ``abi.txt`` is still in the header, and the sizes of its structs are.

python -m tests.runtime.test_abi        writes abi.txt anew (after adding a function; never to make a change pass)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from deploykit import native
from tests.support import linked

HEADER = Path(__file__).resolve().parents[2] / "runtime" / "include" / "deploykit" / "dk.h"
KEPT = Path(__file__).with_name("abi.txt")
STRUCTS = (
    "dk_tensor",
    "dk_spec",
    "dk_model_options",
    "dk_session_options",
    "dk_memory",
    "dk_profile_row",
    "dk_plan_row",
    "dk_attr",
)


def declared() -> list[str]:
    """Functions with their arguments' types, and enumerators with their numbers, one a line."""
    text = re.sub(r"/\*.*?\*/", " ", HEADER.read_text(), flags=re.S)
    functions = [" ".join(m.split()) for m in re.findall(r"^DK_API ([^;]*);", text, flags=re.M)]
    numbers = re.findall(r"\b(DK_[A-Z0-9_]+) = (\d+)", text)
    return sorted(functions) + [f"{k} = {v}" for k, v in numbers]


def sizes(folder: Path) -> list[str]:
    """Sizes of the structs and offsets behind their first members, by a C compiler."""
    lines = "".join(f'  printf("sizeof {s} = %zu\\n", sizeof({s}));\n' for s in STRUCTS)
    source = folder / "sizes.c"
    source.write_text(f"#include <deploykit/dk.h>\n#include <stdio.h>\nint main(void) {{\n{lines}  return 0;\n}}\n")
    program = linked.program(source, folder)
    return subprocess.check_output([str(program)], text=True).splitlines()


def test_nothing_of_the_c_api_is_gone_or_other(tmp_path: Path) -> None:
    kept = KEPT.read_text().splitlines()
    now = declared() + sizes(tmp_path)
    gone = [line for line in kept if line not in now]
    assert not gone, f"programs compiled against the header of before would break: {gone}"
    new = [line for line in now if line not in kept]
    assert not new, f"new: run python -m tests.runtime.test_abi to keep {new}"
    assert len(kept) > 60


def test_every_declared_function_is_there() -> None:
    library = native.library()
    names = [m.group(1) for line in declared() if (m := re.search(r"(dk_\w+)\(", line))]
    assert len(names) > 40
    assert [n for n in names if not hasattr(library, n)] == []


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        KEPT.write_text("\n".join(declared() + sizes(Path(d))) + "\n")
    sys.exit(0)
