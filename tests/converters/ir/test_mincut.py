"""Minimum cuts against exhaustive search."""

import itertools

import numpy as np
import pytest

from deploykit.converters.ir.mincut import Cut


@pytest.mark.parametrize("seed", range(20))
def test_against_all_cuts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    cut = Cut()
    nodes = [cut.node() for _ in range(n)]
    edges = []
    for u, v in itertools.permutations([Cut.SOURCE, Cut.SINK, *nodes], 2):
        if rng.random() < 0.5 and v != Cut.SOURCE and u != Cut.SINK:
            edges.append((u, v, int(rng.integers(0, 10))))
            cut.edge(*edges[-1])

    def cost(side: dict[int, bool]) -> int:
        return sum(c for u, v, c in edges if side[u] and not side[v])

    best = min(
        cost({Cut.SOURCE: True, Cut.SINK: False, **dict(zip(nodes, bits, strict=True))})
        for bits in itertools.product((True, False), repeat=n)
    )
    assert cut.solve() == best
    found = {Cut.SOURCE: True, Cut.SINK: False, **{k: cut.on_source_side(k) for k in nodes}}
    assert cost(found) == best
