"""Passports and ``runtime/schema/opset.inc`` say the same; the contract only grows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import deploykit.ops  # noqa: F401
from deploykit.ops import contract
from deploykit.ops.core import REGISTRY

FILE = Path(__file__).resolve().parents[2] / "runtime" / "schema" / "opset.inc"


def test_file_is_current() -> None:
    assert FILE.read_text() == contract.render(), "run: python -m deploykit.ops.contract --write"


def test_families_are_current() -> None:
    """Every op is found in its file, without importing the others."""
    contract._register_all()
    assert contract.families().read_text() == contract.render_families(), (
        "run: python -m deploykit.ops.contract --write"
    )


def test_every_op_is_complete() -> None:
    problems = []
    for op in REGISTRY.values():
        if op.infer is None:
            problems.append(f"{op.name}: no infer")
        if op.reference is None and op.name not in ("read_variable", "assign_variable", "if", "loop"):
            problems.append(f"{op.name}: no reference")
        if op.vjp is None and not op.not_differentiable:
            problems.append(f"{op.name}: neither vjp nor a reason in not_differentiable")
        if not op.doc:
            problems.append(f"{op.name}: no docstring")
    assert not problems, "\n".join(problems)


def test_contract_only_grows() -> None:
    """Against the file of the last release tag: no opcode renumbered, no attr moved, no enum word moved."""
    root = FILE.parents[2]
    tags = subprocess.run(["git", "tag", "--list", "v*"], cwd=root, capture_output=True, text=True)
    if tags.returncode or not tags.stdout.split():
        pytest.skip("no release yet: nothing to be compatible with")
    tag = tags.stdout.split()[-1]
    old = subprocess.run(
        ["git", "show", f"{tag}:runtime/schema/opset.inc"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    now = set(FILE.read_text().splitlines())
    gone = [line for line in old.splitlines() if line.startswith(("DK_ATTR", "DK_ENUM")) and line not in now]
    assert not gone, f"changed since {tag}: {gone}"
