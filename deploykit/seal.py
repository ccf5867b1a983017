"""Signed and encrypted model files, by the ``cryptography`` package (``pip install 'deploykit[seal]'``).

A signature (Ed25519, RFC 8032) lies beside the model as ``m.dk.sig`` and covers every byte of it.  An encrypted file
(ChaCha20-Poly1305, RFC 8439) holds a whole ``.dk`` file: ``DKSEALED``, the length of the key's name (1 byte), the name, a
nonce of 12 bytes, ciphertext and tag; what stands in front is authenticated too.  It is decrypted into memory, so the weights are
no longer shared between processes.

>>> from deploykit import seal                                                      # doctest: +SKIP
>>> seal.sign("m.dk", Path("private.pem").read_bytes())                             # doctest: +SKIP
>>> seal.check("m.dk", Path("public.pem").read_bytes())                             # doctest: +SKIP
>>> seal.encrypt("m.dk", "m.dke", key, name="2026")                                 # doctest: +SKIP
>>> dk.Interpreter(seal.decrypt("m.dke", lambda name: keys[name]))                  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploykit.errors import FormatError, InputError, UnsupportedError

MAGIC = b"DKSEALED"
LARGEST = (1 << 31) - 17  # bytes that the package takes at once
PathLike = str | os.PathLike[str]


def _library() -> Any:
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError:
        raise UnsupportedError(
            "signing and encrypting need the package 'cryptography': pip install 'deploykit[seal]'."
        ) from None
    return exceptions, serialization, ed25519, aead


def signature_path(model: PathLike) -> Path:
    """Where a model's signature lies: ``m.dk.sig``."""
    return Path(f"{os.fspath(model)}.sig")


def sign(model: PathLike, private_key: bytes) -> Path:
    """Write the model's signature beside it; ``private_key``: Ed25519 in PEM (``openssl genpkey -algorithm ed25519``)."""
    _, serialization, ed25519, _ = _library()
    key = _key(lambda: serialization.load_pem_private_key(private_key, None), ed25519.Ed25519PrivateKey, "private")
    from deploykit.graph.dkfile import atomic_write

    with atomic_write(signature_path(model)) as f:
        f.write(key.sign(Path(model).read_bytes()))
    return signature_path(model)


def check(model: PathLike, public_key: bytes) -> None:
    """Raise FormatError unless the model's signature is there and fits; ``public_key``: PEM (``openssl pkey -pubout``)."""
    exceptions, serialization, ed25519, _ = _library()
    key = _key(lambda: serialization.load_pem_public_key(public_key), ed25519.Ed25519PublicKey, "public")
    path = signature_path(model)
    if not path.is_file():
        raise FormatError(f"{os.fspath(model)}: there is no signature; expected {path.name} beside it.")
    try:
        key.verify(path.read_bytes(), Path(model).read_bytes())
    except exceptions.InvalidSignature:
        raise FormatError(
            f"{os.fspath(model)}: the signature does not fit: the file is not the one signed, or by another key. Do not use it."
        ) from None


def _key(load: Callable[[], Any], kind: type, what: str) -> Any:
    try:
        key = load()
    except (ValueError, TypeError) as e:  # no PEM, or protected by a password
        raise InputError(f"{what} key: {e}; expected an Ed25519 key in PEM without a password.") from None
    if not isinstance(key, kind):
        raise InputError(f"{what} key: got {type(key).__name__}, expected an Ed25519 key.")
    return key


def encrypt(model: PathLike, out: PathLike, key: bytes, name: str = "") -> Path:
    """Write a ``.dk`` file encrypted; ``key``: 32 random bytes; ``name``: tells a reader which key that was."""
    from deploykit.graph.dkfile import atomic_write

    aead, label = _library()[3], name.encode()
    if len(key) != 32 or len(label) > 255:
        raise InputError(
            f"key of {len(key)} bytes with a name of {len(label)}; expected 32, and at most 255 for the name."
        )
    data = Path(model).read_bytes()
    if data[4:8] != b"DKIT" or len(data) > LARGEST:
        raise InputError(f"{os.fspath(model)}: expected a .dk file of at most {LARGEST} bytes.")
    front = MAGIC + bytes([len(label)]) + label
    nonce = os.urandom(12)
    with atomic_write(out) as f:
        f.write(front + nonce + aead.ChaCha20Poly1305(key).encrypt(nonce, data, front))
    return Path(out)


def decrypt(model: PathLike | bytes, key: Callable[[str], bytes]) -> bytes:
    """The bytes of the ``.dk`` file inside, for ``Interpreter``; ``key`` is called with the key's name.

    Raises FormatError when the file is damaged, changed, or encrypted by another key.
    """
    exceptions, _, _, aead = _library()
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    at = len(MAGIC) + 1
    if data[: at - 1] != MAGIC or len(data) < at or len(data) < at + data[at - 1] + 12 + 16:
        raise FormatError("not an encrypted model, or truncated: expected what deploykit.seal.encrypt wrote.")
    end = at + data[at - 1]
    secret = key(data[at:end].decode(errors="replace"))
    if not isinstance(secret, bytes) or len(secret) != 32:
        raise InputError("key: expected 32 bytes from the function given.")
    try:
        return aead.ChaCha20Poly1305(secret).decrypt(data[end : end + 12], data[end + 12 :], data[:end])
    except exceptions.InvalidTag:
        raise FormatError("the encrypted model is damaged, was changed, or has another key.") from None
