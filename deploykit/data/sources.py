"""Where data comes from: files in common formats, and data sets that ship with Deploykit or lie on the machine."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.data.dataset import Dataset
from deploykit.errors import FormatError, InputError

Pair = tuple[np.ndarray, np.ndarray]


def digits(test_fraction: float = 0.2) -> tuple[Pair, Pair]:
    """1,797 handwritten digits: ((images uint8 [n, 8, 8] in 0..16, labels), the same for testing).

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository (CC BY 4.0).

    >>> (x, y), (tx, ty) = digits()
    >>> x.shape, tx.shape
    ((1438, 8, 8), (359, 8, 8))
    """
    with np.load(str(files("deploykit") / "demo_data" / "digits.npz"), allow_pickle=False) as z:
        images, labels = z["images"], z["labels"]
    order = np.random.default_rng(0).permutation(len(images))
    cut = len(images) - round(len(images) * test_fraction)
    a, b = order[:cut], order[cut:]
    return (images[a], labels[a]), (images[b], labels[b])


FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts it


def fashion_mnist(folder: Any = FASHION) -> tuple[Pair, Pair]:
    """((60,000 images uint8 [n, 28, 28], labels), 10,000 for testing) of a folder with the four idx files."""
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    parts = []
    for n in names:
        found = next((p for p in (Path(folder) / f"{n}.gz", Path(folder) / n) if p.is_file()), None)
        if found is None:
            raise InputError(
                f"{folder}: no file {n}(.gz). Install Debian's package dataset-fashion-mnist, or give the folder."
            )
        parts.append(idx(found))
    return (parts[0], parts[1]), (parts[2], parts[3])


def idx(path: Any) -> np.ndarray:
    """An array of an idx file (MNIST's format), gzipped or not."""
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as e:
            raise FormatError(f"{path}: damaged gzip file ({e}).") from None
    kinds = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in kinds:
        raise FormatError(f"{path}: not an idx file.")
    n, dtype = data[3], np.dtype(kinds[data[2]])
    if len(data) < 4 + 4 * n:
        raise FormatError(f"{path}: truncated at byte {len(data)}.")
    shape = struct.unpack_from(f">{n}I", data, 4)
    want = 4 + 4 * n + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) != want:
        raise FormatError(f"{path}: {len(data)} bytes, but its shape {shape} needs {want}.")
    return np.frombuffer(data, dtype, -1, 4 + 4 * n).reshape(shape).astype(dtype.newbyteorder("="))


IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def image_folder(path: Any, size: tuple[int, int], channels: int, labels: bool) -> Dataset:
    """See :meth:`Dataset.from_image_folder`."""
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder.")
    if channels not in (1, 3, 4):
        raise InputError(f"channels: got {channels}, expected 1, 3 or 4.")
    classes = sorted(p.name for p in root.iterdir() if p.is_dir()) if labels else []
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGES and (not labels or p.parent != root))
    if not found:
        raise InputError(
            f"{root}: no images ({', '.join(IMAGES)}){' in sub-folders, one per class' if labels else ''}."
        )

    def read() -> Iterator[Any]:
        from PIL import Image

        for p in found:
            try:
                image = Image.open(p).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
            except OSError as e:
                raise FormatError(f"{p}: not an image that can be read ({e}).") from None
            a = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)).reshape(*size, channels)
            yield (a, np.int64(classes.index(p.relative_to(root).parts[0]))) if labels else a

    out = Dataset(read, len(found))
    out.class_names = classes  # type: ignore[attr-defined]
    return out


# ---------------------------------------------------------------- TFRecord
_TABLE: list[int] = []


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as RFC 3720 defines it.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    if not _TABLE:
        for i in range(256):
            c = i
            for _ in range(8):
                c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
            _TABLE.append(c)
    crc = 0xFFFFFFFF
    for b in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ b) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """The rotated checksum of the TFRecord format."""
    c = crc32c(data)
    return ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Framed as TFRecord: length, its checksum, data, their checksum."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def tfrecord(path: Any) -> Iterator[bytes]:
    """The records of a file."""
    with open(path, "rb") as f:
        while head := f.read(12):
            (n,) = struct.unpack_from("<Q", head.ljust(12, b"\0"))
            if len(head) < 12 or struct.unpack_from("<I", head, 8)[0] != masked_crc(head[:8]):
                raise FormatError(f"{path}: not a TFRecord file, or damaged at byte {f.tell() - len(head)}.")
            data, tail = f.read(n), f.read(4)
            if len(data) < n or len(tail) < 4:
                raise FormatError(f"{path}: truncated inside a record of {n} bytes.")
            if struct.unpack("<I", tail)[0] != masked_crc(data):
                raise FormatError(f"{path}: a record of {n} bytes is damaged (checksum).")
            yield data
