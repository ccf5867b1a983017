"""Run something in a forked child with little memory and time, and tell how it ended: for files that try to take both."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploykit.errors import DeploykitError


@dataclass(frozen=True)
class Outcome:
    """``code``: of the error, "" when there was none, or ``!`` and what came instead of a coded error."""

    code: str
    text: str
    seconds: float
    grown: int  # bytes of the peak of resident memory above that before


def confined(action: Callable[[], Any], memory: int = 1 << 30, seconds: int = 20) -> Outcome:
    """The outcome of ``action`` in a child that may take ``memory`` more bytes of addresses and ``seconds`` of time."""
    reading, writing = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(_run(action, memory, seconds)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as f:
        data = f.read()
    status = os.waitpid(pid, 0)[1]
    took = time.monotonic() - started
    if not data:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
        return Outcome("!", f"the process ended with {how} after {took:.1f} s", took, 0)
    code, text, grown = json.loads(data)
    return Outcome(code, text, took, grown)


def _run(action: Callable[[], Any], memory: int, seconds: int) -> tuple[str, str, int]:
    signal.alarm(seconds)  # kills
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + memory, resource.RLIM_INFINITY))
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak of resident memory starts anew
    before = _status("VmRSS")
    try:
        action()
        code, text = "", ""
    except DeploykitError as e:
        code, text = e.code, str(e)
    except BaseException as e:
        code, text = f"!{type(e).__name__}", str(e)[:300]
    return code, text[:2000], _status("VmHWM") - before


def _status(key: str) -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key + ":"))
