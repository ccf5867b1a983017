"""Examples in docstrings run; the README names only commands and files that exist."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from tests.test_layering import ALL

ROOT = Path(__file__).resolve().parents[1]


# programs of their own, and modules of a process whose Keras runs on our core
OWN_PROCESS = ("__main__", "keras_backend")


@pytest.mark.parametrize("name", sorted(n for n in ALL if not any(part in n.split(".") for part in OWN_PROCESS)))
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("*.md")) + ["docs/architecture.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_readme_names_real_commands() -> None:
    from deploykit.cli import COMMANDS

    for word in re.findall(r"^deploykit (\w+)", (ROOT / "README.md").read_text(), re.M):
        assert word in COMMANDS, word
