"""How far files of strangers may unfold: archives, sparse weights, functions.  All limits are relative to the file, so that
honest models of any size pass."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from deploykit.errors import DeploykitError, EngineError, FormatError, LimitError

if TYPE_CHECKING:
    import zipfile

RATIO = 64  # bytes in memory per byte of file
FREE = 64 << 20  # bytes that any file may take
MEMBERS = 100_000
NODES, NODES_RATIO = 20_000, 20  # visited while importing, per node of the file


def check_bytes(what: str, count: int, file_bytes: int) -> None:
    """Raise LimitError when ``count`` bytes are out of proportion to a file.

    >>> check_bytes("weights", 1 << 40, 100)
    Traceback (most recent call last):
    ...
    deploykit.errors.LimitError: DK-LIMIT: weights: 1099511627776 bytes out of a file of 100 are refused; at most \
67115264 are allowed for it.
    """
    most = FREE + RATIO * file_bytes
    if count > most:
        raise LimitError(
            f"{what}: {count} bytes out of a file of {file_bytes} are refused; at most {most} are allowed for it."
        )


def check_shape(what: str, shape: Sequence[int], itemsize: int) -> int:
    """The number of elements; FormatError when no array can have such a shape (NumPy's rule: dims of 0 left out)."""
    if any(d < 0 for d in shape):
        raise FormatError(f"{what} has the negative dims {list(shape)}.")
    if math.prod(d for d in shape if d) * max(1, itemsize) >= 1 << 62 or len(shape) > 32:
        raise FormatError(f"{what} has the impossible shape {list(shape)}.")
    return math.prod(shape)


def open_zip(source: object, name: str, file_bytes: int) -> zipfile.ZipFile:
    """An archive whose members together are not out of proportion to it.  Raises FormatError and LimitError."""
    import zipfile  # not on the way of `import deploykit`

    try:
        z = zipfile.ZipFile(source)  # type: ignore[call-overload]
        members = z.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as e:
        raise FormatError(f"{name}: not a zip archive, damaged or cut off ({e}). Get the file again.") from None
    if len(members) > MEMBERS:
        raise LimitError(f"{name}: an archive of {len(members)} files is refused; at most {MEMBERS} are allowed.")
    check_bytes(name, sum(m.file_size for m in members), file_bytes)
    return z


def member(z: zipfile.ZipFile, key: str, name: str) -> bytes:
    """A member's bytes; FormatError when it is damaged or encrypted.  zipfile reads no more than the size declared."""
    import zipfile

    try:
        return z.read(key)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, OSError) as e:
        raise FormatError(f"{name}: '{key}' inside is damaged ({e}). Get the file again.") from None
    except Exception as e:  # zlib.error, lzma.LZMAError: modules that may be missing
        raise FormatError(f"{name}: '{key}' inside is damaged ({type(e).__name__}: {e}). Get the file again.") from None


def mapped(z: zipfile.ZipFile, key: str, name: str) -> memoryview | bytes:
    """A member's bytes, where it is stored as it is: the file itself, mapped, so that they take no memory of their own.
    FormatError as for :func:`member`."""
    import mmap
    import zlib

    info = z.getinfo(key)
    if info.compress_type or info.flag_bits & 1 or not info.file_size or not z.filename:
        return member(z, key, name)
    with open(z.filename, "rb") as f:
        f.seek(info.header_offset)
        head, checksum, left = f.read(30), 0, info.file_size
        start = info.header_offset + 30 + sum(int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        f.seek(start)
        while left and (part := f.read(min(left, 1 << 20))):  # read, not mapped: the pages need not stay
            checksum, left = zlib.crc32(part, checksum), left - len(part)
        if head[:4] != b"PK\3\4" or left or checksum != info.CRC:
            raise FormatError(f"{name}: '{key}' inside is damaged (bad checksum). Get the file again.")
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))[start : start + info.file_size]


# What Python raises on data that nobody foresaw.
UNFORESEEN = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError,
    OSError, UnicodeError, struct.error, StopIteration,
)  # fmt: skip


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Inside, no error is without a code: what a reader did not foresee becomes a FormatError (with its cause)."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the model"
    try:
        yield
    except DeploykitError:
        raise
    except MemoryError as e:
        raise EngineError(f"{name}: no memory ({e}).", code="DK-MEMORY") from e
    except UNFORESEEN as e:
        if isinstance(e, FileNotFoundError):
            raise
        raise FormatError(
            f"{name} cannot be read: {type(e).__name__}: {str(e)[:200]}. It is damaged, or holds something unforeseen: "
            "if it works elsewhere, please report it."
        ) from e


_allowed: ContextVar[tuple[str, int, list[int]] | None] = ContextVar("allowed", default=None)


@contextmanager
def loading(name: str, file_bytes: int) -> Iterator[None]:
    """Inside, :func:`take` refuses weights that are out of proportion to the file they are loaded from."""
    token = _allowed.set((name, file_bytes, [0]))
    try:
        yield
    finally:
        _allowed.reset(token)


def take(what: str, shape: Sequence[int], itemsize: int) -> bool:
    """A weight is about to be made: whether it will be loaded from a file, so that its first value does not matter."""
    now = _allowed.get()
    if now is not None:
        name, file_bytes, taken = now
        taken[0] += check_shape(f"{name}: {what}", shape, itemsize) * itemsize
        check_bytes(f"{name}: {what}", taken[0], file_bytes)
    return now is not None


class Visits:
    """Counts the nodes that an importer visits: functions and branches that call the next one twice double each time."""

    def __init__(self, name: str, nodes: int) -> None:
        self.name, self.most = name, NODES + NODES_RATIO * nodes
        self.count = 0

    def one(self) -> None:
        """One more; LimitError beyond the limit."""
        self.count += 1
        if self.count > self.most:
            raise LimitError(
                f"{self.name}: its functions, loops or branches unfold to more than {self.most} nodes. Refused."
            )
