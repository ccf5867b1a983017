"""Large arrays in files: a model that is converted need not be in memory twice, nor once."""

from __future__ import annotations

import mmap
import tempfile

import numpy as np

LARGE = 1 << 20  # bytes


def release(array: np.ndarray) -> None:
    """Let go of the memory behind an array that lies in a mapped file; it is read again where it is used again.

    >>> release(np.zeros(3))  # not in a file: nothing happens
    """
    if array.nbytes < LARGE or not hasattr(mmap, "MADV_DONTNEED"):
        return
    owner: object = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)


def in_file(array: np.ndarray) -> np.ndarray:
    """A large array as a read-only one in a file without a name, which goes when the array does; small ones as they are.

    >>> in_file(np.arange(3)).tolist()
    [0, 1, 2]
    """
    if array.nbytes < LARGE:
        return array
    try:
        with tempfile.TemporaryFile() as f:
            f.write(memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
            f.flush()
            return np.asarray(np.memmap(f, np.uint8, "r")).view(array.dtype).reshape(array.shape)
    except OSError:  # no room for it
        return array
