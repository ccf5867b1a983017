"""The web demo: pages of the models that ``deploykit demo`` makes, and one that opens any ``.dk`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploykit.web import site

TRAINED = ("digit/kernel", "digit/bias")  # what the training step of digits-tune.dk changes
SAMPLES = 10  # one test image of each digit


def build(folder: Path, out: Path, engine: Path | None = None) -> dict[str, Any]:
    """Write the demo's pages into ``out`` from the results of ``deploykit demo`` in ``folder``; returns their sizes.

    Raises as :func:`deploykit.web.site.build`.
    """
    from deploykit.images import read_image
    from deploykit.interpreter import Interpreter

    demo = site.demo_sources()
    digits = _digits()
    faces = Interpreter(folder / "blazeface.dk")
    spec = faces.inputs[0]
    photo = read_image(folder / "astronaut.jpg", spec, faces.metadata["preprocessing"])
    tune = folder / "digits-tune.dk"
    teach = site.model_page("teach.html", tune, "digits-tune", "Teach the digit network", examples=digits)
    teach.template = demo / "teach.html"
    teach.data["trained"] = list(TRAINED)
    pages = [
        site.Page("index.html", demo / "index.html", {"title": "Deploykit in the browser"}),
        site.model_page("digits.html", folder / "digits.dk", "digits", "Handwritten digits", examples=digits),
        site.model_page(
            "digits-int8.html", folder / "digits-int8.dk", "digits-int8", "Handwritten digits, 8 bits", examples=digits
        ),
        site.model_page(
            "faces.html", folder / "blazeface.dk", "faces", "Faces", examples=[("astronaut", {spec.name: photo})]
        ),
        teach,
        site.Page("profile.html", demo / "profile.html", {"title": "Your own model", "sample": "digits.dk"}),
    ]
    site.write(out, pages, [demo], engine)
    files = [p for p in out.rglob("*") if p.is_file()]
    return {"site": str(out), "bytes": sum(p.stat().st_size for p in files), "pages": [p.name for p in pages]}


def _digits() -> list[tuple[str, dict[str, np.ndarray]]]:
    """The first unseen image of each digit."""
    from deploykit.data import digits

    _, (x, y) = digits()
    first = [int(np.flatnonzero(y == d)[0]) for d in range(SAMPLES)]
    return [(str(d), {"image": x[i : i + 1, ..., None].astype(np.float32)}) for d, i in enumerate(first)]
