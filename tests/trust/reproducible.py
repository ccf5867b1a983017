"""Builds the wheel twice, in two folders of different names, and compares: ``python -m tests.trust.reproducible``.

Needs scikit-build-core and ninja (extra ``dev``) and a C++ compiler.  Exit code 1 and the names of the files that differ, when
the two are not the same bytes.  Prints what the bill of materials in the wheel names.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def wheel(folder: Path) -> Path:
    """A wheel of the committed sources, unpacked and built there."""
    source = folder / "source"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "xf", "-"], cwd=source, input=archive, check=True)
    env = os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "CCACHE_BASEDIR": str(source)}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, env=env, check=True)
    return next(folder.glob("*.whl"))


def main() -> int:
    with tempfile.TemporaryDirectory() as d:
        made = [wheel(Path(d) / name) for name in ("a", "another-name")]
        digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in made]
        print(*digests, sep="\n")
        with zipfile.ZipFile(made[0]) as a, zipfile.ZipFile(made[1]) as b:
            names = [{i.filename: i.CRC for i in z.infolist()} for z in (a, b)]
            differ = sorted(n for n in names[0].keys() | names[1].keys() if names[0].get(n) != names[1].get(n))
            print("differ:", differ or "nothing")
            bill = json.loads(a.read(next(n for n in names[0] if n.endswith("sboms/deploykit.cdx.json"))))
            print("bill of materials:", ", ".join(p["name"] for p in bill["components"]))
    return int(digests[0] != digests[1])


if __name__ == "__main__":
    sys.exit(main())
