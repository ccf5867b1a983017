"""The printed vocabulary is complete and readable."""

from __future__ import annotations

from deploykit.ops import REGISTRY
from deploykit.ops.tables import families, render, rows


def test_every_op_stands_in_the_table_once():
    names = [cells[1] for _, cells in rows()]
    assert sorted(names) == sorted(REGISTRY)
    text = render(markdown=True)
    assert all(text.count(f"| `{name}` |") == 1 for name in REGISTRY)
    assert all(f"### {f}\n" in text for f in families())


def test_lines_tell_signature_attrs_and_meaning():
    text = render(family="shape")
    assert "167 concat(xs* -> y; axis: int)   [exact]\n       Join along an existing axis." in text
    assert "mode=constant|reflect|edge|wrap" in text
    assert "constant\\|reflect\\|edge\\|wrap" in render(family="shape", markdown=True)
