"""``deploykit seal``."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli import common
from deploykit.cli.common import console

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Sign a .dk file, or encrypt it.")
@common.model_argument()
@click.option("--sign", "private", type=_file, help="Ed25519 private key (PEM): writes MODEL.sig.")
@click.option("--encrypt", "secret", type=_file, help="File with a key of 32 bytes; needs -o.")
@click.option("--key-name", default="", help="Stored in front of an encrypted model: which key it was.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The encrypted file.")
def command(model: Path, private: Path | None, secret: Path | None, key_name: str, output: Path | None) -> int:
    """Sign MODEL (.dk), or encrypt it as a whole. `deploykit verify --public-key` checks a signature;
    `deploykit.seal.decrypt` opens an encrypted file.

    \b
    Examples:
      openssl genpkey -algorithm ed25519 -out private.pem
      openssl pkey -in private.pem -pubout -out public.pem
      deploykit seal model.dk --sign private.pem
      deploykit verify model.dk --public-key public.pem
      head -c 32 /dev/urandom > key && deploykit seal model.dk --encrypt key -o model.dke
    """
    from deploykit import seal

    if (private is None) == (secret is None) or (secret is None) != (output is None):
        raise click.UsageError("say --sign KEY.pem, or --encrypt KEY with -o FILE.")
    if private is not None:
        written = seal.sign(model, private.read_bytes())
    else:
        assert secret is not None and output is not None
        written = seal.encrypt(model, output, secret.read_bytes(), key_name)
    console.print(f"written: {written}", markup=False)
    return 0
