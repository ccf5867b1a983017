"""Every composite op of the vocabulary comes apart, on each of its samples, into ops that compute the same."""

import pytest

from deploykit.converters.ir import verify
from deploykit.converters.passes import decompose
from deploykit.graph.verify import verify_graph
from deploykit.ops import REGISTRY, GraphBuilder
from tests.support.passports import complete
from tests.support.rewrites import build, input_f32, rewrite

COMPOSITE = [op for op in REGISTRY.values() if op.decompose is not None]


@pytest.mark.parametrize("op", COMPOSITE, ids=lambda op: op.name)
def test_every_sample(op) -> None:
    checked = 0
    for s in op.samples() if callable(op.samples) else op.samples:
        b = GraphBuilder()
        names, values = {}, []
        for i, x in enumerate(s.inputs):
            # integers are operands such as axes, which a decomposition may need to know
            if x is None or x.dtype.kind in "iu":
                values.append(x)
                continue
            values.append(b.input(f"x{i}", str(x.dtype), x.shape))
            names[f"x{i}"] = x
        n = complete(op, s)
        count = n.pop("n_outputs", len(op.results))
        got = b.op(op.name, *values, outputs=count, **n)
        for i, v in enumerate(got):
            b.output(v, f"y{i}")
        before = verify.run_reference(b.graph, names)
        assert decompose.run(b.graph).get(op.name)
        verify_graph(b.graph, when="decompose")
        assert op.name not in [m.op for m in b.graph.nodes]
        after = verify.run_reference(b.graph, names)
        for k, y in before.items():
            assert (
                wrong := verify.difference(k, y, after[k], "loose" if op.tolerance == "loose" else "float")
            ) is None, wrong
        checked += 1
    assert checked


def test_keeps_what_is_at_hand() -> None:
    graph = build(lambda b: b.op("softsign", b.op("hard_swish", input_f32(b, "x", 2, 3))))
    left = rewrite(graph, lambda g: decompose.run(g, has=lambda n: n.op == "hard_swish"))
    assert "hard_swish" in left and "softsign" not in left
