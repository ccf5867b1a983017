"""Digests of the integer ops on adversarial shapes, for the kernel set that DK_ISA names and several numbers of threads.

    DK_ISA=x86_avx2 python tests/support/quantized_bits.py       prints {"isa": ..., "digests": {case: digest}}

Shapes are larger than those of the passports' samples: whole and broken tiles, panels and strips, long sums at the
extremes of the range, work for more threads than there are.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import native
from deploykit.ops.samples import Draw

THREADS = (1, 2, 3, 5)


def cases() -> dict[str, tuple[str, list[Any], dict[str, Any]]]:
    """(op, inputs, attrs) by name."""
    out: dict[str, tuple[str, list[Any], dict[str, Any]]] = {}
    r = Draw("bits")

    def conv(
        x: tuple[int, ...], w: tuple[int, ...], dtype: str = "uint8", residual: bool = False, **attrs: Any
    ) -> None:
        terms = int(np.prod(w[1:]))
        inputs = [
            r(x, dtype),
            r(w, "int8"),
            r((w[0],), "float32", 0.5, 1.5) / np.float32(70 * np.sqrt(terms)),
            None,
            None,
        ]
        inputs[3] = r((w[0],), "int32") * np.int32(90)
        how = dict(x_zero_point=77 if dtype == "uint8" else -5, y_zero_point=3, **attrs)
        if residual:
            inputs[4] = r((x[0], *x[1:-1], w[0]), dtype)
            how |= dict(mid_scale=0.7, mid_low=-60, mid_high=70, residual_scale=0.9, residual_zero_point=9)
        out[f"qconv {len(out)} {dtype}{x}{w}{attrs}{residual}"] = ("qconv", inputs, how)

    for dtype in ("uint8", "int8"):
        for m, k, n in ((196, 96, 576), (57, 257, 129), (13, 1030, 50), (400, 16, 96), (31, 144, 24), (1, 640, 1001)):
            conv((1, m, 1, k), (n, 1, 1, k), dtype)
            conv((1, m, 1, k), (n, 1, 1, k), dtype, residual=True)
        conv((1, 30, 31, 3), (33, 3, 3, 3), dtype, strides=(2, 2), pads=(0, 0, 1, 1))
        conv((2, 15, 14, 64), (40, 3, 3, 64), dtype, pads=(1, 1, 1, 1))
        # copied as lines by sets with tiles: short lines as one, strides, dilation, uneven lines, a residual, far panels
        conv((2, 7, 6, 128), (40, 3, 3, 128), dtype, pads=(1, 1, 1, 1))
        conv((2, 27, 41, 64), (70, 3, 3, 64), dtype, strides=(2, 2), pads=(0, 1, 1, 0))
        conv((1, 19, 35, 64), (33, 3, 2, 64), dtype, dilations=(2, 3), pads=(2, 0, 2, 3), residual=True)
        conv((1, 9, 70, 128), (24, 5, 1, 128), dtype, strides=(1, 2), pads=(2, 0, 2, 0))
        conv((2, 40, 43, 3), (40, 7, 7, 3), dtype, strides=(2, 2), pads=(3, 3, 3, 3))  # taps are rows of the kernel
        conv((1, 33, 34, 2), (17, 5, 3, 2), dtype, dilations=(2, 1), pads=(2, 1, 2, 1), residual=False)
        conv((1, 21, 30, 80), (33, 3, 3, 80), dtype, pads=(1, 1, 1, 1))
        conv((1, 9, 20, 512), (300, 3, 3, 512), dtype, pads=(1, 1, 1, 1))
        conv((1, 56, 56, 512), (48, 1, 1, 512), dtype, strides=(2, 2))  # rows of a tile at two distances
        conv((1, 40, 38, 96), (48, 3, 3, 96), dtype, pads=(1, 1, 1, 1))
        conv((1, 700, 1, 300), (80, 1, 1, 300), dtype, residual=True)
        conv((1, 3, 1, 33000), (20, 1, 1, 33000), dtype)  # rows that are widened in parts
        conv((1, 5, 4, 4101), (18, 3, 3, 4101), dtype, pads=(0, 1, 0, 1))
        conv((1, 12, 12, 48), (60, 3, 3, 24), dtype, groups=2, pads=(1, 1, 1, 1))
        for c in (24, 96, 131):
            conv((1, 56, 57, c), (c, 3, 3, 1), dtype, groups=c, pads=(1, 1, 1, 1))
            conv((1, 57, 56, c), (c, 3, 3, 1), dtype, groups=c, strides=(2, 2), pads=(0, 1, 1, 0))
        conv((2, 29, 30, 72), (72, 5, 5, 1), dtype, groups=72, pads=(2, 2, 2, 2))
    full = [
        np.full((40, 4000), 255, np.uint8),
        np.full((4000, 40), -128, np.int8),
        np.array([1e-7], np.float32),
        None,
        None,
    ]
    out["qmatmul extremes"] = ("qmatmul", full, {})
    a, b = r((3, 60, 75), "int8"), r((3, 75, 61), "uint8")
    out["qmatmul both computed"] = (
        "qmatmul",
        [a, b, np.array([3e-4], np.float32), None, None],
        dict(x_zero_point=-9, b_zero_point=140, y_zero_point=10),
    )
    x, y = r((70, 1003), "uint8"), r((1003,), "int8")
    pair = dict(a_zero_point=100, b_zero_point=-3, y_zero_point=120)
    out["qadd"] = ("qadd", [x, y], dict(pair, a_scale=0.81, b_scale=0.33))
    out["qmul"] = ("qmul", [x, y], dict(pair, multiplier=0.011))
    out["qlut"] = ("qlut", [x, r((256,), "int8")], {})
    image = r((1, 33, 35, 70), "int8")
    pool = dict(x_zero_point=5, y_zero_point=-2, multiplier=0.9)
    out["qavg_pool"] = ("qavg_pool", [image], dict(pool, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    out["qmean"] = ("qmean", [image], dict(pool, axes=(1, 2)))
    table = np.rint(2.0**23 * np.exp(-0.05 * np.arange(256))).astype(np.uint32)
    out["qsoftmax"] = ("qsoftmax", [x, table], dict(multiplier=256.0))
    return out


def main() -> None:
    """Print the digests; exits with an error when threads change bits."""
    digests = {}
    for name, (op, inputs, attrs) in cases().items():
        seen = set()
        for threads in THREADS:
            (y,) = native.run_op(op, inputs, attrs, 1, threads)
            seen.add(hashlib.sha256(f"{y.dtype}{y.shape}".encode() + y.tobytes()).hexdigest()[:16])
        assert len(seen) == 1, f"{name}: threads change the result"
        digests[name] = seen.pop()
    lib = native.library()
    json.dump({"isa": lib.dk_isa().decode(), "digests": digests}, sys.stdout)


if __name__ == "__main__":
    main()
