"""Signatures, encryption and lineage: what fits passes, every change of a byte is seen, keys of others are refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import deploykit as dk
from deploykit import replay, seal
from deploykit.cli import demo_cmd, seal_cmd, verify_cmd
from deploykit.errors import FormatError, InputError, UnsupportedError
from tests.support import assets, small


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seal")
    data = [np.random.default_rng(k).standard_normal((1, 3, 16, 16)).astype(np.float32) for k in range(2)]
    dk.convert(small.cnn(folder / "m.onnx", batch=1), folder / "m.dk", quantize="int8", calibration=data, repair="none",
               verify=False)  # fmt: skip
    return folder / "m.dk"


def need_cryptography() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("cryptography")


def keys() -> tuple[bytes, bytes]:
    """A new pair (private, public) in PEM."""
    need_cryptography()
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    return private, key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


def test_signature(model: Path, tmp_path: Path) -> None:
    private, public = keys()
    path = Path(shutil.copy(model, tmp_path / "m.dk"))
    with pytest.raises(FormatError, match="no signature"):
        seal.check(path, public)
    assert seal.sign(path, private) == tmp_path / "m.dk.sig"
    seal.check(path, public)
    with pytest.raises(FormatError, match="does not fit"):
        seal.check(path, keys()[1])
    data = path.read_bytes()
    for at in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(FormatError, match="does not fit"):
            seal.check(path, public)
    for wrong in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", private):
        with pytest.raises(InputError, match="public key"):
            seal.check(path, wrong)


def test_encryption(model: Path, tmp_path: Path) -> None:
    need_cryptography()
    key, asked = bytes(range(32)), []

    def give(name: str) -> bytes:
        asked.append(name)
        return key

    out = seal.encrypt(model, tmp_path / "m.dke", key, "käse")
    data, x = out.read_bytes(), np.ones((1, 3, 16, 16), np.float32)
    assert model.read_bytes()[:64] not in data and b"conv" not in data
    got = dk.Interpreter(seal.decrypt(out, give)).run(x)["y"]
    np.testing.assert_array_equal(got, dk.Interpreter(model).run(x)["y"])
    assert asked == ["käse"]
    for at in (0, 8, 10, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            seal.decrypt(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], give)
    for n in (0, 8, 9, 40, len(data) - 1):
        with pytest.raises(FormatError):
            seal.decrypt(data[:n], give)
    with pytest.raises(FormatError, match="another key"):
        seal.decrypt(out, lambda name: bytes(32))
    with pytest.raises(InputError, match="32 bytes"):
        seal.decrypt(out, lambda name: b"short")
    assert seal.encrypt(model, tmp_path / "n.dke", key).read_bytes()[-64:] != data[-64:], "a nonce is used once"
    with pytest.raises(FormatError, match="not a .dk file"):
        dk.Interpreter(out)


def test_commands(model: Path, tmp_path: Path) -> None:
    private, public = keys()
    path = Path(shutil.copy(model, tmp_path / "m.dk"))
    for name, content in (("private.pem", private), ("public.pem", public), ("key", bytes(32))):
        (tmp_path / name).write_bytes(content)
    run = CliRunner().invoke
    done = run(seal_cmd.command, [str(path), "--sign", str(tmp_path / "private.pem")], standalone_mode=False)
    assert done.return_value == 0 and (tmp_path / "m.dk.sig").stat().st_size == 64
    out = tmp_path / "m.dke"
    done = run(seal_cmd.command, [str(path), "--encrypt", str(tmp_path / "key"), "-o", str(out)], standalone_mode=False)
    assert done.return_value == 0 and seal.decrypt(out, lambda name: bytes(32)) == path.read_bytes()
    assert run(seal_cmd.command, [str(path)]).exit_code == 2
    path.write_bytes(path.read_bytes() + b"\0")
    done = run(verify_cmd.command, [str(path), "--public-key", str(tmp_path / "public.pem")], standalone_mode=False)
    assert isinstance(done.exception, FormatError) and "signature" in str(done.exception)


def test_without_the_package(model: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\nfrom deploykit import seal\n"
        f"try:\n  seal.check({str(model)!r}, b'')\nexcept seal.UnsupportedError as e:\n  print(e)"
    )
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'deploykit[seal]'" in told and issubclass(UnsupportedError, dk.DeploykitError)


def test_lineage(model: Path, tmp_path: Path) -> None:
    told = dk.Interpreter(model).metadata
    assert told["source"]["file"] == "m.onnx" and len(told["source"]["sha256"]) == 64
    lineage, line = told["lineage"], replay.verify(model, threads=(1,))["source"]
    assert line.startswith("m.onnx ") and "quantize=int8" in line
    assert lineage["options"] == {"quantize": "int8", "repair": "none"}
    assert lineage["calibration"]["samples"] == 2 and len(lineage["calibration"]["sha256"]) == 64
    assert lineage["runtime"] == "0.1.0" and lineage["passes"]
    for _ in range(2):
        dk.convert(model.with_name("m.onnx"), tmp_path / "a.dk", verify=False)
        (tmp_path / "a.dk").rename(tmp_path / f"{len(list(tmp_path.iterdir()))}.dk")
    first, second = (p.read_bytes() for p in tmp_path.iterdir())
    assert first == second, "no clock, no machine in a record"
    assert dk.Interpreter(first).metadata["lineage"]["options"] == {}


def test_the_demos_model_is_the_published_file() -> None:
    """Its weights are stored as float16, which they all are."""
    name = "models/blazeface-onnx/face_detection_front_128x128_barracuda.onnx"
    assert hashlib.sha256(demo_cmd.face_model()).hexdigest() == assets.FILES[name][2]
