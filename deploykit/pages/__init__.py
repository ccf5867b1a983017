"""Self-contained HTML pages about a conversion: one file, no script, no network; light, dark, phone and paper.

>>> text = report_page(report.to_json())         # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import PurePath
from typing import Any

from deploykit.errors import UnsupportedError
from deploykit.pages import charts
from deploykit.units import size


def shortener(names: Sequence[str], most: int = 44) -> Callable[[str], str]:
    """Shows names without the folders that all of them share, long ones by their end, which tells layers apart.

    >>> shortener(["net/a/conv", "net/b/conv"])("net/a/conv")
    'a/conv'
    """
    paths = [n.split("/")[:-1] for n in names if "/" in n]
    prefix = "".join(p + "/" for p in os.path.commonprefix(paths)) if len(paths) > 1 else ""

    def short(name: str) -> str:
        name = name.removeprefix(prefix)
        return name if len(name) <= most else "…" + name[-(most - 1) :]

    return short


def _decibels(x: float | None) -> str:
    return "exact" if x is None or x == float("inf") else f"{x:.1f} dB"


def _time(us: float | None) -> str:
    return "" if us is None else f"{us / 1e3:.2f} ms" if us >= 1000 else f"{us:.1f} µs"


def report_page(data: dict[str, Any]) -> str:
    """The page of ``convert(report=...)`` from ``Report.to_json()``.

    Raises UnsupportedError when Jinja2, which fills the template, is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise UnsupportedError("report pages need the package jinja2: pip install jinja2.") from None
    env = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    d = data["diagnosis"] or {}
    latency = (d.get("latency") or {"rows": {}})["rows"]
    rows = [*d.get("layers", ()), *d.get("sizes", ()), *(r for rs in latency.values() for r in rs)]
    short = shortener([r["name"] for r in rows])
    env.filters |= {"size": size, "short": short, "db": _decibels, "us": _time}
    env.globals |= {
        "treemap": charts.treemap,
        "depth": charts.depth,
        "curve": charts.curve,
        "memory_plan": charts.memory_plan,
        "short": short,
    }
    text = resources.files("deploykit.pages").joinpath("report.html").read_text(encoding="utf-8")
    files = {k: PurePath(data[k] or "").name for k in ("source", "output")}
    return env.from_string(text).render(r=data, files=files, **_views(data))


def _views(data: dict[str, Any]) -> dict[str, Any]:
    """What the page shows that is not in the data as such."""
    none = {"outputs": [], "notes": [], "samples": 0, "observer": "", "repairs": [], "scheme": "", "search": None}
    q = none | (data["quantization"] or {})
    d = {"layers": [], "latency": None, "sizes": []} | (data["diagnosis"] or {})
    rows: Sequence[dict[str, Any]] = d["layers"]
    guilty = sorted((r for r in rows if r["remedy"]), key=lambda r: r["own_db"] if r["own_db"] is not None else 99.0)
    return {"q": q, "d": d, "guilty": guilty, "times": _times(d["latency"]), "verdict": _verdict(data)}


def _verdict(data: dict[str, Any]) -> tuple[str, str]:
    """(good, weak or none; one sentence)."""
    q, v = data["quantization"], data["verification"]
    if q is not None:
        outs = q.get("outputs")
        if not outs:
            return "none", "not compared with its source"
        worst = min(outs, key=lambda r: r["sqnr_db"])
        same = [r["agreement"] for r in outs if r["agreement"] is not None]
        text = f"worst output {_decibels(worst['sqnr_db'])} above its noise"
        if same:
            text += f", {100 * min(same):.1f} % same decisions"
        return ("good" if worst["sqnr_db"] >= 20 and min(same, default=1.0) >= 0.99 else "weak"), text
    if v is None or v["status"] == "skipped":
        return "none", "not compared with its source" + (f": {v['reason']}" if v else "")
    return "good", f"agrees with its source, run by {v['tool']}"


def _times(latency: dict[str, Any] | None) -> dict[str, Any] | None:
    """Rows of the latency table: both builds' nodes side by side by name, and those that one build alone has."""
    if latency is None:
        return None
    rows = latency["rows"]
    if "quantized" not in rows:
        top = max((r["us"] for r in rows["float"]), default=1.0)
        found = [{**r, "float_us": r["us"], "quantized_us": None, "slower": False} for r in rows["float"]]
        return {"rows": sorted(found, key=lambda r: -r["us"]), "top": top, "slower": []}
    before = {r["name"]: r for r in rows["float"]}
    out = []
    for r in rows["quantized"]:
        f = before.pop(r["name"], None)
        slower = f is not None and r["us"] > 1.1 * f["us"] and r["us"] - f["us"] > 2
        out.append({**r, "float_us": f["us"] if f else None, "quantized_us": r["us"], "slower": slower})
    out += [{**f, "float_us": f["us"], "quantized_us": None, "slower": False} for f in before.values()]
    out.sort(key=lambda r: -max(r["float_us"] or 0, r["quantized_us"] or 0))
    top = max((max(r["float_us"] or 0, r["quantized_us"] or 0) for r in out), default=1.0)
    return {"rows": out, "top": top, "slower": [r for r in out if r["slower"]]}
