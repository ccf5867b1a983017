"""The guards by themselves: expressions of symbolic sizes, growth, pickles in other threads."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

import pytest

from deploykit.converters.importers.pytorch.guard import Refused, check_expression, guarded
from deploykit.errors import FormatError, LimitError
from deploykit.graph import growth
from tests.support.peers import need

torch = need("torch")


@pytest.mark.parametrize(
    "text",
    ["s0", "2*s0 + 1", "Max(1, s0//2)", "floor(s0/2)", "s0**2", "Mod(s0, 8)", "(s0 - 1)*(s1 + 3)", "Eq(s0, 3)", "-s0",
     "Add(Symbol('s7', integer=True), Pow(Symbol('s0', positive=True), Integer(-1)))", "u12",
     "FloorDiv(s0 + 1, 2)", "s77 - 2.5"],
)  # fmt: skip
def test_plain_arithmetic_passes(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "s0.__class__", "exec('1')", "(lambda: 1)()", "[x for x in s0]", "f'{s0}'", "9**9**9", "2**s0", "s0[0]",
     "open('x')", "exit()", "Pow(9, 999999999)", "Max(s0, key=f)", "Symbol('a b')", "Symbol('s', default='x')", "Max('a', 1)",
     "Integer('9')", "Pow(9, Pow(9, 9))", "Pow(Pow(9, 64), 64)",
     "LShift(1, 999999999)", "(9**64)**64", "1" * 400, "'a'*1000000000", "s0 if s1 else s2", "(s0:=1)",
     "1e400**2**2", "(" * 500 + "1" + ")" * 500, "+" * 100000 + "1", "_", "globals()", "\0"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        check_expression(text)


def test_other_threads_keep_torch_as_it_is() -> None:
    buffer = io.BytesIO()
    torch.save(Refused("any class"), buffer)
    plain = torch.load
    got: list[object] = []

    def other() -> None:
        buffer.seek(0)
        got.append(torch.load(buffer, weights_only=False))

    with guarded(torch):
        with pytest.raises(Refused):
            buffer.seek(0)
            torch.load(buffer, weights_only=False)
        t = threading.Thread(target=other)
        t.start()
        t.join()
    assert isinstance(got[0], Refused) and torch.load is plain


def test_a_good_program_loads(tmp_path: Path) -> None:
    import deploykit as dk

    program = torch.export.export(
        torch.nn.Linear(3, 2), (torch.ones(2, 3),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "m.pt2")
    dk.convert(tmp_path / "m.pt2", tmp_path / "m.dk")


def test_shapes_that_no_array_has() -> None:
    assert growth.check_shape("it", (3, 0, 4), 4) == 0
    for shape in ((1 << 62,), (1 << 31, 1 << 31, 0), (-1,), (1,) * 33):
        with pytest.raises(FormatError):
            growth.check_shape("it", shape, 4)


def test_growth_is_relative_to_the_file(tmp_path: Path) -> None:
    growth.check_bytes("it", 3 << 30, 1 << 30)
    with pytest.raises(LimitError, match="out of a file of 1000"):
        growth.check_bytes("it", 1 << 30, 1000)
    with growth.loading("it", 1000):
        growth.take("w", (1 << 20,), 4)
        with pytest.raises(LimitError):
            growth.take("w", (1 << 28,), 4)
    growth.take("w", (1 << 40,), 4)  # nothing is being loaded
    with pytest.raises(LimitError):
        v = growth.Visits("it", 1)
        for _ in range(v.most + 1):
            v.one()


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("x", b"abc" * 1000)
    data = bytearray(path.read_bytes())
    data[40:45] = b"\xff" * 5
    with (
        growth.open_zip(io.BytesIO(data), "it", len(data)) as z,
        pytest.raises(FormatError, match="'x' inside is damaged"),
    ):
        growth.member(z, "x", "it")
    with pytest.raises(FormatError):
        growth.open_zip(io.BytesIO(data[:-10]), "it", 10)
