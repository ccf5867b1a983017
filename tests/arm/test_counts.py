"""Instructions per layer on Arm stay within the stored budget: see count.py."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.arm import count
from tests.support.arm import server


def test_counts() -> None:
    """A tenth is allowed for what a change elsewhere does to a loop; a real gain is stored by ``count --write``."""
    server()
    if shutil.which(count.EMULATOR) is None:
        assert not os.environ.get("CI"), "CI needs qemu-user"
        pytest.skip("no emulator with plugins: apt-get install qemu-user")
    stored, got = json.loads(count.STORED.read_text()), count.counts()
    assert {c: sorted(r) for c, r in got.items()} == {c: sorted(r) for c, r in stored.items()}
    more = [
        f"{layer} on {cpu}: {n:,}, stored {stored[cpu][layer]:,}"
        for cpu, row in got.items()
        for layer, n in row.items()
        if n > 1.1 * stored[cpu][layer]
    ]
    assert not more, "more instructions than stored:\n" + "\n".join(more)
