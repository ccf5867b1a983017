"""Writes the bill of materials that the wheel carries in ``.dist-info/sboms/deploykit.cdx.json`` (PEP 770), from pyproject.toml
and the table of demo data; called by CMake:  ``python runtime/cmake/sbom.py OUT``.

CycloneDX 1.6.  The engine and the Python packages hold no code of others; what they need is listed as required.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def bill() -> dict[str, Any]:
    """The document: no clock, no random serial number, so that equal sources give equal wheels."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    me = {"type": "library", "bom-ref": "deploykit", "name": project["name"], "version": project["version"],
          "licenses": [{"license": {"id": project["license"]}}],
          "purl": f"pkg:pypi/{project['name']}@{project['version']}"}  # fmt: skip
    needed = [re.match(r"([\w.-]+)(.*)", d) for d in project["dependencies"]]
    parts: list[dict[str, Any]] = [
        {"type": "library", "bom-ref": m[1], "name": m[1], "purl": f"pkg:pypi/{m[1]}", "scope": "required",
         "description": f"needed at run time, not part of this wheel: {m[1]}{m[2]}"}
        for m in needed if m
    ]  # fmt: skip
    rows = (ROOT / "deploykit" / "demo_data" / "README.md").read_text().splitlines()
    for row in (r for r in rows if re.match(r"\| \w+\.\w", r)):
        file, what, origin, licence = (c.strip() for c in row.strip("|").split("|"))
        parts.append({"type": "data", "bom-ref": file, "name": file, "description": f"{what}. From {origin}",
                      "licenses": [{"license": {"name": licence}}]})  # fmt: skip
    depends = [{"ref": "deploykit", "dependsOn": [p["bom-ref"] for p in parts]}]
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": me},
            "components": parts, "dependencies": depends}  # fmt: skip


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(bill(), indent=1) + "\n")
