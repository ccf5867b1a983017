"""A pytest plugin: tests that call single ops get the engine for AArch64, emulated, instead of the native one.

    DK_ARM_CPU=cortex-a76 pytest -p tests.support.on_arm tests/kernels/test_conv.py

Only :func:`deploykit.native.run_op` is redirected; models and sessions of a test stay native.
"""

from __future__ import annotations

import atexit
import os

from deploykit import native
from tests.support.arm import Arm

arm = Arm(os.environ.get("DK_ARM_CPU", "max"), os.environ.get("DK_ARM_ISA", ""))
native.run_op = arm.run_op
atexit.register(arm.close)


def pytest_report_header() -> str:
    """Which engine answers."""
    return f"single ops run on {arm.cpu}: {arm.about()[0]}"
