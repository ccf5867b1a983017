"""One round of ``tests.trust.isa_fuzz``: every kernel set gives the scalar set's answers on other data than the samples'."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.trust import isa_fuzz


def test_kernel_sets_agree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["isa_fuzz", "1", "11"])
    assert isa_fuzz.main() == 0, capsys.readouterr().out


def test_differences_are_seen() -> None:
    one, integers = [np.float32([1, -0.0])], [np.int8([1, 2])]
    assert not isa_fuzz.differs(one, [np.float32([1, -0.0])], True)
    assert "exact" in isa_fuzz.differs(one, [np.float32([1, 0.0])], True)
    assert not isa_fuzz.differs(one, [np.float32([1.00001, 0])], False)
    assert "off by" in isa_fuzz.differs(one, [np.float32([1.001, 0])], False)
    assert "integers" in isa_fuzz.differs(integers, [np.int8([1, 3])], False)
    assert isa_fuzz.differs(one, "DK-INDEX", False) and isa_fuzz.differs("DK-SHAPE", "DK-INDEX", False)
