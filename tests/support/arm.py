"""The engine compiled for AArch64, driven under emulation: the other end of tests/arm/serve.c.

    with Arm("cortex-a76") as arm:
        arm.about()                                  # ("arm_neondot", "neon dotprod")
        arm.run_op("add", [a, b])                    # as deploykit.native.run_op
        arm.open(dk_bytes, threads=2)
        arm.run(x)                                   # all outputs

The emulated CPU decides which kernels are chosen, by the same feature bits as on the real machine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit import dtypes, native
from deploykit.errors import EngineError
from deploykit.ops.core import get

ROOT = Path(__file__).resolve().parents[2]
TARGET = "aarch64-linux-musl"
# CPU to emulate -> the kernel set that must be chosen on it
CPUS = {"cortex-a53": "arm_neon", "cortex-a76": "arm_neondot", "max": "arm_i8mm"}
EMULATOR = "qemu-aarch64-static"


def missing() -> str:
    """What this machine lacks to build and emulate, as a sentence; '' when nothing."""
    lacks = [f"pip install {m}" for m in ("ziglang", "cmake", "ninja") if not _have(m)]
    lacks += [] if shutil.which(EMULATOR) else ["apt-get install qemu-user-static"]
    return f"the engine for Arm cannot be tried here: {', '.join(lacks)}" if lacks else ""


def _have(name: str) -> bool:
    return importlib.util.find_spec(name) is not None or (name != "ziglang" and shutil.which(name) is not None)


def server() -> Path:
    """The server program, built on first use; skips the test where that cannot be done, but fails in CI."""
    if why := missing():
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    return build().program(TARGET, ROOT / "tests" / "arm" / "serve.c")


@cache
def build() -> Any:
    """runtime/cross/build.py as a module."""
    spec = importlib.util.spec_from_file_location("cross_build", ROOT / "runtime" / "cross" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Arm:
    """A server process on an emulated CPU; ``isa`` forces a kernel set (DK_ISA), ``emulator`` is another command."""

    def __init__(self, cpu: str, isa: str = "", emulator: Sequence[str] = (EMULATOR,)) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("DK_") or k == "DK_COUNTS"} | (
            {"DK_ISA": isa} if isa else {}
        )
        command = [*emulator, "-cpu", cpu, str(server())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.cpu = cpu

    def __enter__(self) -> Arm:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def about(self) -> tuple[str, str]:
        """(kernel set in use, features of the CPU)."""
        self._ask(_ints(3))
        return self._text(), self._text()

    def run_op(
        self,
        name: str,
        inputs: Sequence[Any],
        attrs: dict[str, Any] | None = None,
        n_outputs: int | None = None,
        threads: int = 1,
    ) -> list[np.ndarray]:
        """One op; arguments and errors of :func:`deploykit.native.run_op`."""
        op = get(name)
        rows, n, keep = native._attrs(op, attrs or {})
        if n_outputs is None:
            n_outputs = sum(not r.variadic for r in op.results) or 1
        parts = [_ints(2, op.opcode, threads, n_outputs, n)]
        for r in rows:
            text = r.s or b""
            ints = list(r.ints[: r.n]) if r.ints else []
            floats = list(r.floats[: r.n]) if r.floats else []
            parts += [_ints(r.id, r.i), struct.pack("<d", r.f), _ints(len(ints), *ints, len(floats))]
            parts += [struct.pack(f"<{len(floats)}d", *floats), _ints(len(text)), text]
        del keep
        self._ask(*parts, *_tensors(inputs))
        return self._tensors()

    def open(self, data: bytes, threads: int = 1) -> None:
        """Load a ``.dk`` file, which takes the place of the one before."""
        self._ask(_ints(1, threads, len(data)), data)

    def run(self, *inputs: Any, times: int = 1) -> list[np.ndarray]:
        """Run the opened model on its inputs, in the order of the signature; variables keep what runs wrote."""
        self._ask(_ints(4, times), *_tensors(inputs))
        return self._tensors()

    # ---- the pipe
    def _ask(self, *parts: bytes) -> None:
        assert self._process.stdin is not None
        for p in parts:
            self._process.stdin.write(p)
        self._process.stdin.flush()
        self._status()

    def _read(self, n: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(n)
        if len(data) != n:
            raise EngineError(f"the engine on {self.cpu} ended with status {self._process.wait()}")
        return data

    def _int(self) -> int:
        return struct.unpack("<q", self._read(8))[0]

    def _text(self) -> str:
        return self._read(self._int()).decode()

    def _status(self) -> None:
        if self._int():
            code, message = self._text(), self._text()
            raise native._ERRORS.get(code, EngineError)(message, code=code)

    def _tensors(self) -> list[np.ndarray]:
        out = []
        for _ in range(self._int()):
            dtype, rank = self._int(), self._int()
            shape = tuple(self._int() for _ in range(rank))
            data = self._read(self._int())
            out.append(np.frombuffer(data, dtypes.BY_CODE[dtype].np).reshape(shape).copy())
        return out


def _ints(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _tensors(inputs: Sequence[Any]) -> list[bytes]:
    parts = [_ints(len(inputs))]
    for x in inputs:
        if x is None:
            parts.append(_ints(0))
        else:
            a = native.contiguous(x)
            parts += [_ints(dtypes.dtype(a.dtype).code, a.ndim, *a.shape, a.nbytes), a.tobytes()]
    return parts
