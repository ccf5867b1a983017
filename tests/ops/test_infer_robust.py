"""Shape rules on nonsense: whatever dtypes, ranks, sizes and values come, a rule gives specs or a DeploykitError."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import DeploykitError
from deploykit.graph import Dim, Graph, Variable
from deploykit.ops import REGISTRY
from deploykit.ops.core import Spec
from deploykit.ops.infer import declare_variables, infer_op
from deploykit.ops.samples import samples_of
from tests.support.passports import complete, specs

TRIES = 60


def nonsense(rng, spec: Spec | None) -> Spec | None:
    """One input, changed in one way."""
    if spec is None:
        return Spec(dtypes.float32, (2, 3))
    way = rng.integers(0, 7)
    if way == 0:
        return None
    if way == 1:
        return Spec(dtypes.ALL[rng.integers(0, len(dtypes.ALL))], spec.shape, None)
    if way == 2:
        return Spec(spec.dtype, None, spec.value)
    if way == 3 and spec.value is not None and spec.value.size and spec.dtype in (dtypes.int64, dtypes.int32):
        odd = rng.choice([-(2**31), -7, -1, 0, 1, 2, 5, 2**31 - 1], spec.value.shape)
        return Spec(spec.dtype, spec.shape, np.asarray(odd).astype(spec.dtype.np))
    if way == 4 and spec.shape:
        value = np.empty(tuple(n for n in spec.shape if isinstance(n, int)), dtype=object)
        value.reshape(-1)[:] = [Dim.symbol("n") - int(rng.integers(0, 3)) for _ in range(value.size)]
        return Spec(dtypes.int64, value.shape, value)
    dims = [0, 1, 2, 3, 7, Dim.symbol("n"), Dim.symbol("m") * 2 + 1]
    return Spec(spec.dtype, tuple(dims[i] for i in rng.integers(0, len(dims), rng.integers(0, 6))))


def odd_attr(rng, attr, value):
    """Another value of an attr's kind."""
    match attr.kind:
        case "int":
            return int(rng.choice([-9, -2, -1, 0, 1, 2, 5, 100]))
        case "ints":
            return tuple(int(v) for v in rng.integers(-3, 6, rng.integers(0, 6)))
        case "floats":
            return tuple(float(v) for v in rng.normal(size=rng.integers(0, 6)))
        case "float":
            return float(rng.choice([-1.0, 0.0, 0.5, np.inf, np.nan]))
        case "bool":
            return not value
        case "enum":
            return str(rng.choice(attr.choices))
        case "str" if attr.name == "dtype":
            return str(rng.choice([d.name for d in dtypes.ALL]))
    return value


@pytest.mark.parametrize("op", REGISTRY.values(), ids=REGISTRY)
def test_rules_answer_or_refuse(op):
    rng = np.random.default_rng(op.opcode)
    cases = samples_of(op)
    refused = answered = 0
    for _ in range(TRIES):
        sample = cases[rng.integers(0, len(cases))]
        ins, attrs = specs(sample, values=bool(rng.integers(0, 2))), complete(op, sample)
        if ins:
            for i in rng.integers(0, len(ins), rng.integers(0, 3)):
                ins[i] = nonsense(rng, ins[i])
        for name, attr in op.attrs.items():
            if attr.kind != "graph" and rng.integers(0, 4) == 0:
                attrs[name] = odd_attr(rng, attr, attrs[name])
        told = f"{op.name}({ins}; { {k: v for k, v in attrs.items() if not isinstance(v, Graph)} })"
        try:
            op.check_inputs(len(ins), lambda i: ins[i] is None)  # noqa: B023
            with declare_variables([Variable(k, v) for k, v in sample.variables.items()]):
                outs = infer_op(op, ins, attrs)
        except DeploykitError as e:
            assert e.message.startswith((op.name, "no ")), f"{told}: {e}"
            assert e.__cause__ is None, f"{told}: not foreseen: {e.__cause__!r}"
            refused += 1
            continue
        except Exception as e:
            raise AssertionError(f"{told}: {e!r}") from e
        answered += 1
        for s in outs:
            assert s.shape is None or all(isinstance(d, (int, Dim)) for d in s.shape), told
            assert s.shape is None or all(d >= 0 for d in s.shape if isinstance(d, int)), f"{told}: {s.shape}"
    assert answered, "nothing was legal"
