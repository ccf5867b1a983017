"""What a training step does element by element, each in one pass over memory: the update of Adam, the gradient of GELU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.ops.activation import _ROOT_2_PI
from deploykit.ops.core import F, Required, Spec, op
from deploykit.ops.grads import scalar
from deploykit.ops.numerics import back, wide
from deploykit.ops.rules import error, require_same_dtype, unify_shapes
from deploykit.ops.samples import Draw, Sample
from deploykit.ops.through import vjp_through
from deploykit.ops.unary import erf_of


def _alike(first: Spec, *others: Spec, what: str) -> Spec:
    dtype = require_same_dtype(first, *others)
    if dtype.name not in ("float32", "float64"):
        raise error("dtype", dtype, "float32 or float64")
    shape = first.shape
    for s in others:
        shape = unify_shapes(shape, s.shape, what)
    return Spec(dtype, shape)


@op(
    383,
    "p, m, v, g, rate -> new_p, new_m, new_v",
    attrs=dict(beta_1=Required("float"), beta_2=Required("float"), epsilon=Required("float")),
    profile="training",
)
class adam_update:
    """One update of Adam (Kingma and Ba 2014): new_m = m + (g - m) * (1 - beta_1), new_v = v + (g * g - v) * (1 - beta_2),
    new_p = p - new_m * rate / (sqrt(new_v) + epsilon).  rate is a scalar, with the correction of the bias in it."""

    def infer(p, m, v, g, rate, *, beta_1, beta_2, epsilon):
        require_same_dtype(p, rate, what="p and rate")
        if rate.shape is not None and rate.shape != ():
            raise error("shape of rate", rate.shape, "a scalar")
        y = _alike(p, m, v, g, what="p, m, v and g")
        return y, y, y

    def reference(p, m, v, g, rate, *, beta_1, beta_2, epsilon):
        wp, wm, wv, wg, r = (wide(t).astype(np.float64) for t in (p, m, v, g, rate))
        wm = wm + (wg - wm) * (1 - beta_1)
        wv = wv + (wg * wg - wv) * (1 - beta_2)
        wp = wp - wm * r / (np.sqrt(wv) + epsilon)
        return tuple(back(t, p.dtype) for t in (wp, wm, wv))

    def decompose(p, m, v, g, rate, *, beta_1, beta_2, epsilon):
        new_m = F.add(m, F.mul(F.sub(g, m), scalar(1 - beta_1, p)))
        new_v = F.add(v, F.mul(F.sub(F.mul(g, g), v), scalar(1 - beta_2, p)))
        below = F.add(F.sqrt(new_v), scalar(epsilon, p))
        return F.sub(p, F.div(F.mul(new_m, rate), below)), new_m, new_v

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(adam_update.decompose, g, inputs, attrs)

    def samples():
        r = Draw("adam_update")
        how = dict(beta_1=0.9, beta_2=0.99, epsilon=1e-3)

        def case(shape: tuple[int, ...], dtype: str = "float32", **more: Any) -> Sample:
            four = [r(shape, dtype), r(shape, dtype), r(shape, dtype, 0.5, 2.0), r(shape, dtype)]
            return Sample([*four, np.asarray(0.01, dtype)], {**how, **more}, differentiable=0 not in shape)

        return [case((3, 5)), case(()), case((67,), beta_1=0.5), case((0, 2)), case((2, 33, 5)), case((9,), "float64")]


@op(384, "g, x -> gx", attrs=dict(approximate=False), profile="training")
class gelu_gradient:
    """g times the slope of gelu at x."""

    def infer(g, x, *, approximate):
        return _alike(g, x, what="g and x")

    def reference(g, x, *, approximate):
        wx = wide(x).astype(np.float64)
        if approximate:
            t = np.tanh(_ROOT_2_PI * (wx + 0.044715 * wx**3))
            slope = 0.5 * (1 + t + wx * (1 - t * t) * _ROOT_2_PI * (1 + 3 * 0.044715 * wx * wx))
        else:
            slope = 0.5 * (1 + erf_of(wx / math.sqrt(2))) + wx * np.exp(-0.5 * wx * wx) / math.sqrt(2 * math.pi)
        return back(wide(g) * slope, x.dtype)

    def decompose(g, x, *, approximate):
        square = F.mul(x, x)
        if approximate:
            t = F.tanh(F.mul(F.mul(x, F.add(F.mul(square, 0.044715), 1.0)), _ROOT_2_PI))
            inner = F.mul(F.add(F.mul(square, 3 * 0.044715), 1.0), _ROOT_2_PI)
            bend = F.mul(F.mul(x, F.sub(1.0, F.mul(t, t))), inner)
            return F.mul(g, F.mul(F.add(F.add(t, 1.0), bend), 0.5))
        phi = F.mul(F.exp(F.mul(square, -0.5)), 1 / math.sqrt(2 * math.pi))
        return F.mul(g, F.add(F.mul(F.add(F.erf(F.mul(x, math.sqrt(0.5))), 1.0), 0.5), F.mul(x, phi)))

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(gelu_gradient.decompose, (g,), inputs, attrs)

    def samples():
        r = Draw("gelu_gradient")
        out = [
            Sample([r(s), r(s, "float32", -4.0, 4.0)], dict(approximate=a))
            for s in ((3, 5), (), (67,))
            for a in (False, True)
        ]
        for d, approximate in (("float32", False), ("float64", True)):
            out.append(
                Sample([r((2, 70), d), r((2, 70), d, -4.0, 4.0)], dict(approximate=approximate), differentiable=False)
            )
        return [*out, Sample([r((0, 3)), r((0, 3))], differentiable=False)]
