"""Makes ``tests`` (``from tests.support import ...``) and ``examples`` importable without the checkout on ``sys.path``,
where the source tree would hide the installed package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
collect_ignore = ["keras_suite/standin"]  # a conftest for Keras' own tests, in their process

for name, folder in (("tests", HERE), ("examples", HERE.parent / "examples")):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
