"""The ``deploykit`` command: one file per sub-command, loaded only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

COMMANDS = {
    "convert": "Convert a model to .dk, .onnx or .tflite, optimise it, and check it against its source.",
    "inspect": "Show ops, shapes, sizes, memory plan, metadata of a model.",
    "run": "Run a model on files or on made-up inputs.",
    "bench": "Measure a model's speed, alone or against other runtimes in the same process.",
    "compare": "Run two models on the same inputs and find the first tensor that differs.",
    "verify": "Check a .dk file: checksums, and its test vectors on every kernel set of this machine.",
    "seal": "Sign a .dk file, or encrypt it.",
    "bindings": "Write typed bindings for a model in C, TypeScript or Python.",
    "bundle": "Write a model with its engine cut to it for an app: C header, library, build files, example.",
    "web": "Write a static web page that runs a model in the visitor's browser.",
    "demo": "See the whole way on a real model: convert, verify, benchmark.",
    "doctor": "Tell what this machine and this installation can do.",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"deploykit.cli.{name}_cmd").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]):  # type: ignore[no-untyped-def]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if near:
                raise click.UsageError(f"{e.message} Did you mean '{near[0]}'?", ctx) from None
            raise


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="deploykit", prog_name="deploykit")
def cli() -> None:
    """Convert, verify and run neural networks on edge CPUs and in browsers.

    Exit codes: 0 good, 1 the thing checked for failed, 2 wrong use.
    """


def main() -> None:
    """Entry point of the console script: errors of ours become a message and an exit code, never a traceback."""
    from deploykit.errors import DeploykitError, InputError

    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except DeploykitError as e:
        click.secho(f"error {e.code}: ", fg="red", bold=True, err=True, nl=False)
        click.echo(e.message, err=True)
        sys.exit(2 if isinstance(e, InputError) else 1)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as e:  # no such folder, no permission, a full disk
        click.secho("error DK-INPUT: ", fg="red", bold=True, err=True, nl=False)
        click.echo(f"{e.filename}: {e.strerror}." if e.filename is not None else str(e), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
