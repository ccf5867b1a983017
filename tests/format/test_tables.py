"""What Python reads and writes of a ``.dk`` header is what the schema says."""

from __future__ import annotations

import re
from pathlib import Path

import flatbuffers
import pytest

from deploykit.graph import dk_tables

SCHEMA = Path(__file__).resolve().parents[2] / "runtime" / "schema" / "dk.fbs"


def test_tables_are_those_of_the_schema() -> None:
    text = re.sub(r"//.*", "", SCHEMA.read_text())
    found = {}
    for name, body in re.findall(r"table (\w+) \{(.*?)\}", text, re.S):
        rows = re.findall(r"(\w+)\s*:\s*(\[?\w+\]?)\s*(?:=\s*(-?\w+))?\s*;", body)
        found[name] = " ".join(f"{n}:{kind}" + (f"={default}" if default else "") for n, kind, default in rows)
    assert found == dk_tables.TABLES and list(found) == list(dk_tables.TABLES)


def test_fields_come_back() -> None:
    fb, b = dk_tables, flatbuffers.Builder(0)
    name = b.CreateString("x")
    b.StartVector(4, 2, 4)
    for v in (1.5, 0.25):
        b.PrependFloat32(v)
    scale = b.EndVector()
    fb.QuantStart(b)
    fb.QuantAddValue(b, 7)
    fb.QuantAddScale(b, scale)
    quant = fb.QuantEnd(b)
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(quant)
    quants = b.EndVector()
    fb.GraphDefStart(b)
    fb.GraphDefAddName(b, name)
    fb.GraphDefAddQuants(b, quants)
    b.Finish(fb.GraphDefEnd(b))
    g = fb.GraphDef.GetRootAs(bytes(b.Output()))
    assert g.Name() == b"x" and g.QuantsLength() == 1 and g.NValues() == 0 and g.NodesLength() == 0
    q = g.Quants(0)
    assert (q.Value(), q.Axis(), [q.Scale(i) for i in range(q.ScaleLength())], q.ZeroPointLength()) == (
        7,
        -1,
        [0.25, 1.5],
        0,
    )
    assert g.Nodes(0) is None and fb.Input.GetRootAs(bytes(b.Output())).NoRank() is False
    with pytest.raises(AttributeError, match="NodeAddNothing"):
        fb.NodeAddNothing  # noqa: B018
