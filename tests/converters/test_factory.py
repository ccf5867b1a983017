"""FILE.py:FUNCTION as a source: what is wrong with the user's own file is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit import factory
from deploykit.errors import InputError

FILE = """
def broken():
    raise ValueError("no data")
def needs(x):
    return x
"""


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (FILE, "broken", r"net.py: ValueError: no data \(line 3\)"),
        (FILE, "needs", r"missing 1 required positional argument: 'x'. needs\(\) has to run without arguments"),
        (FILE, "other", "there is no function 'other'. It has: broken, needs"),
        ("def f(:", "f", r"net.py: SyntaxError: invalid syntax \(net.py, line 1\)"),
        ("\nimport nothing_here", "f", r"No module named 'nothing_here' \(line 2\)"),
    ],
)
def test_errors_in_the_file_are_told_with_their_line(tmp_path: Path, text: str, name: str, said: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        factory.make(f"{path}:{name}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        factory.make(f"{tmp_path / 'net.py'}:f")
