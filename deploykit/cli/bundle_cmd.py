"""``deploykit bundle``."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli import common
from deploykit.cli.common import console
from deploykit.units import size

_NEXT = {
    "c": "try it: cmake -S {out} -B build && cmake --build build && build/{name}_example {out}/{name}.dk",
    "linux-arm64": "example.c shows the use; the library links with any compiler for the target",
    "android": 'to use it: include(":{name}") in settings.gradle.kts, with this folder there; build.gradle.kts tells more',
    "ios": 'to use it: .package(path: "{out}") in Package.swift, or add the folder in Xcode',
}


@click.command(short_help="Write a model with its engine for an app's build.")
@common.model_argument()
@click.option("--target", required=True, help="c (this machine), linux-arm64, android, ios.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option(
    "--sources", is_flag=True, help="No library: the app's own build compiles the engine. Needs no compiler here."
)
@click.option("--main-only", is_flag=True, help="Leave out the model's further signatures (training steps).")
@click.option("--libc", type=click.Choice(["gnu", "musl"]), default="gnu", show_default=True, help="For linux-arm64.")
@click.option(
    "--package", default="com.example.nets", show_default=True, help="Package of the Java class, for android."
)
@common.json_option
def command(
    model: Path, target: str, output: Path, sources: bool, main_only: bool, libc: str, package: str, as_json: bool
) -> int:
    """Write MODEL (.dk) with everything an app needs to run it: a C header with typed functions and the sizes as constants, the
    engine cut to the model's ops (one source file, and a static library where there is a compiler), a CMake file and an
    example program.

    \b
    Examples:
      deploykit bundle model.dk --target c -o out
      deploykit bundle model.dk --target linux-arm64 -o out        (the compiler: pip install ziglang)
      deploykit bundle model.dk --target android --package org.me.nets -o app/model     (a Gradle module with a Java class)
      deploykit bundle model.dk --target ios -o Model                                   (a Swift package)
      cmake -S out -B build && cmake --build build && build/model_example out/model.dk
    """
    from deploykit.bundle import folder

    b = folder.build(model, output, target, sources_only=sources, main_only=main_only, libc=libc, package=package)
    if as_json:
        common.emit_json(vars(b))
        return 0
    bytes_of_model = next(n for f, n in b.files.items() if f.endswith(f"{b.name}.dk"))
    console.print(f"{output}: {b.name}.h, {b.name}.dk ({size(bytes_of_model)}), {len(b.ops)} ops", markup=False)
    if b.library:
        console.print(f"  {b.library}: {size(b.files[b.library])}, compiled by {b.compiler}", markup=False)
    if b.cost:
        t = common.table("op", "bytes for it alone")
        t.columns[1].justify = "right"
        shown = {k: v for k, v in b.cost.items() if k not in ("engine", "shared")}
        for op, n in sorted(shown.items(), key=lambda item: -item[1]):
            t.add_row(op, f"{n:,}")
        t.add_row("shared by several ops", f"{b.cost['shared']:,}")
        t.add_row("engine without ops", f"{b.cost['engine']:,}")
        t.add_row("code and tables in all", f"{sum(b.cost.values()):,}")
        console.print(t)
    console.print(f"  {_NEXT[target].format(out=output, name=b.name)}", markup=False)
    return 0
