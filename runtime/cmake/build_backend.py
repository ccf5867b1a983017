"""PEP 517 backend: scikit-build-core, plus ziglang as a build requirement when the machine has no C++ compiler.

``DEPLOYKIT_WEB=1`` also compiles the engine for browsers (with ziglang, a minute or two), so that the wheel carries it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from scikit_build_core import build as _base
from scikit_build_core.build import *  # noqa: F403

ZIG = "ziglang==0.17.1"


def _asked(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def _zig() -> list[str]:
    if _asked("DEPLOYKIT_ZIG"):
        return [ZIG]
    if os.name == "nt" or os.environ.get("CXX") or any(map(shutil.which, ("c++", "g++", "clang++"))):
        return []
    # scikit-build-core exports CXX from Python's own build record even where no such compiler exists, so CMake
    # cannot find out by itself: the decision is made here and handed down through this variable.
    os.environ["DEPLOYKIT_ZIG"] = "1"
    return [ZIG]


def _requires() -> list[str]:
    return [ZIG] if _zig() or _asked("DEPLOYKIT_WEB") else []


def _prepare() -> None:
    _zig()
    if _asked("DEPLOYKIT_WEB"):
        build = Path(__file__).resolve().parents[2] / "web" / "engine" / "build.py"
        subprocess.run([sys.executable, build], check=True)


def get_requires_for_build_wheel(config_settings=None):
    return _base.get_requires_for_build_wheel(config_settings) + _requires()


def get_requires_for_build_editable(config_settings=None):
    return _base.get_requires_for_build_editable(config_settings) + _requires()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _prepare()
    return _base.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _prepare()
    return _base.build_editable(wheel_directory, config_settings, metadata_directory)
