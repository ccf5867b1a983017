"""``deploykit doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

import click

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.errors import EngineError

OPTIONAL = {
    "onnxruntime": ("pip install 'deploykit[bench]'", "verification by a second runtime, bench --against onnxruntime"),
    "ai_edge_litert": ("pip install ai-edge-litert", "a yardstick for .tflite models"),
    "torch": ("pip install torch", "reading and exporting PyTorch models"),
}


@click.command(short_help="Check this installation.")
@common.json_option
def command(as_json: bool) -> int:
    """Tell CPU features, kernel set, threads, the browser engine, optional packages, and what to install for what.

    Exit code 1 when the native engine is missing.

    \b
    Example:
      deploykit doctor
    """
    info = collect()
    if as_json:
        common.emit_json(info)
        return 0 if info["engine"]["ok"] else 1
    e = info["engine"]
    console.print(f"deploykit [bold]{info['version']}[/bold], Python {info['python']}, {info['platform']}")
    if e["ok"]:
        tiles = ", bfloat16 tiles for --precision fast" if e["fast"] else ""
        console.print(
            f"engine [green]ok[/green] {e['version']}, kernels [bold]{e['isa']}[/bold], {e['cpus']} CPUs{tiles}"
        )
        console.print(f"CPU features: {e['features']}")
    else:
        console.print(f"engine [red]missing[/red]: {e['error']}")
    browser = info["browser_engine"]
    if browser["ok"]:
        console.print(f"engine for browsers [green]ok[/green], {browser['bytes'] / 1e6:.2f} MB")
    else:
        console.print(f"engine for browsers [yellow]not installed[/yellow]; to get it: {browser['install']}")
    for k, v in info["environment"].items():
        console.print(f"{k}={v} (from the environment)")
    t = common.table("package", "version", "used for", "to get it")
    t.columns[-1].no_wrap = True  # to be copied
    for name, p in info["packages"].items():
        t.add_row(
            name,
            p["version"] or "[yellow]not installed[/yellow]",
            p["use"],
            "" if p["version"] else common.escape(p["install"]),
        )
    console.print(t)
    return 0 if e["ok"] else 1


def collect() -> dict[str, Any]:
    """What the command prints, as data."""
    from deploykit import __version__

    engine: dict[str, Any]
    try:
        from deploykit import native

        engine = {"ok": True, **native.describe()}
    except Exception as e:  # whatever is wrong with the library: the doctor says it, and does not die of it
        engine = {"ok": False, "error": str(e)}
    browser: dict[str, Any]
    from deploykit.web import site

    try:
        browser = {"ok": True, "bytes": sum(p.stat().st_size for p in site.runtime().iterdir())}
    except EngineError as e:
        browser = {"ok": False, "error": str(e), "install": site.INSTALL}
    packages: dict[str, dict[str, str | None]] = {}
    for name in ("numpy", "onnx", "flatbuffers", "pillow", "jinja2"):
        packages[name] = {"version": importlib.metadata.version(name), "use": "always needed", "install": ""}
    for name, (how, use) in OPTIONAL.items():
        found = importlib.util.find_spec(name) is not None
        version = importlib.metadata.version(name.replace("_", "-")) if found else None
        packages[name] = {"version": version, "use": use, "install": how}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "engine": engine,
        "browser_engine": browser,
        "environment": {k: v for k, v in os.environ.items() if k.startswith("DK_")},
        "packages": packages,
    }
