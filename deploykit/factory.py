"""``net.py:make``: a model that a function of the user's own file makes."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from deploykit.errors import DeploykitError, InputError

_WANTED = "it must return an exported program, (module, example_inputs), the same with dynamic_shapes, or a Keras model"


def is_factory(src: Any) -> bool:
    """Whether a source is written as FILE.py:FUNCTION.

    >>> is_factory("net.py:make"), is_factory("net.onnx")
    (True, False)
    """
    return isinstance(src, (str, os.PathLike)) and ".py:" in os.fspath(src)


def make(src: str | os.PathLike[str]) -> Any:
    """Run the function and export what it returns with ``torch.export``; returns the program (or the Keras model).

    The file is run as Python: give only files that you trust.  Raises InputError when there is no such file or function,
    or when it returns something else.
    """
    return _program(load_function(src, call=True), os.fspath(src))


def load_function(src: str | os.PathLike[str], *, call: bool = False) -> Any:
    """FUNCTION of FILE.py:FUNCTION; with ``call``, what it returns.  Raises InputError when there
    is none, and with what the file or the function raises, and in which line."""
    file, _, name = os.fspath(src).rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # the file's own imports
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
        if not callable(function):
            known = ", ".join(k for k, v in vars(module).items() if callable(v) and not k.startswith("_"))
            raise InputError(f"{path}: there is no function '{name}'. It has: {known or 'none'}.")
        return function() if call else function
    except DeploykitError:
        raise
    except Exception as e:
        here = [f.lineno for f in traceback.extract_tb(e.__traceback__) if Path(f.filename) == path.resolve()]
        where = f" (line {here[-1]})" if here else ""
        said = f"{path}: {type(e).__name__}: {e}{where}."
        raise InputError(said + (f" {name}() has to run without arguments." if isinstance(e, TypeError) else "")) from e
    finally:
        sys.path.pop(0)


def _program(made: Any, name: str) -> Any:
    from deploykit.converters.importers.pytorch.reader import torch_module

    if hasattr(made, "to_graph"):  # a Keras model on our core
        return made
    torch = torch_module()
    if isinstance(made, torch.export.ExportedProgram):
        return made
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[0], torch.nn.Module):
        raise InputError(f"{name} returned {type(made).__name__}; {_WANTED}.")
    module, inputs, *rest = made
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return torch.export.export(module.eval(), inputs, dynamic_shapes=rest[0] if rest else None)
