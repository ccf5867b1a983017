"""The bill of materials names what the package needs and carries, and nothing that changes from build to build."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_bill_of_materials() -> None:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "runtime" / "cmake" / "sbom.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bill = module.bill()
    assert bill == module.bill() and bill["bomFormat"] == "CycloneDX"
    names = {p["name"] for p in bill["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.match(r"[\w.-]+", d)[0] for d in project["dependencies"]} <= names  # type: ignore[index]
    data = {
        p.name for p in (ROOT / "deploykit" / "demo_data").iterdir() if p.suffix not in (".md", ".py") and p.is_file()
    }
    assert data <= names, "describe new demo data in its README.md"
    assert bill["metadata"]["component"]["version"] == project["version"]
