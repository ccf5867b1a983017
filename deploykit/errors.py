"""Errors of Deploykit: one code per kind of problem, and texts that say what came, what is allowed, what to do next.

A message reads ``<op> '<name>': <what>; got <value>, expected <allowed>. <next step>``.  The codes are shared with the
C API (``dk.h``) and documented in ``docs/errors.md``.
"""

from __future__ import annotations


class DeploykitError(Exception):
    """Base of all errors raised on purpose.  ``code`` is stable and starts with ``DK-``."""

    code = "DK-ERROR"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        if code is not None:
            self.code = code
        self.message = message
        super().__init__(f"{self.code}: {message}")


class GraphError(DeploykitError):
    """A graph breaks a rule of the IR (undefined value, cycle, duplicate name, wrong attribute)."""

    code = "DK-GRAPH"


class ShapeError(DeploykitError):
    """Shapes or dtypes of an op's inputs do not fit together."""

    code = "DK-SHAPE"


class FormatError(DeploykitError):
    """A file is not what its name says, is damaged, or is too new."""

    code = "DK-FORMAT"


class UnsupportedError(DeploykitError):
    """The model uses something Deploykit does not support; ``problems`` lists every place, not only the first."""

    code = "DK-UNSUPPORTED"

    def __init__(self, message: str, *, problems: list[str] | None = None, code: str | None = None) -> None:
        self.problems = problems or []
        super().__init__(message, code=code)


class InputError(DeploykitError):
    """An argument given to ``run`` or a command has a wrong name, shape or dtype."""

    code = "DK-INPUT"


class VerifyError(DeploykitError):
    """A converted model does not give the same answer as its source."""

    code = "DK-VERIFY"


class EngineError(DeploykitError):
    """The native engine failed; ``code`` says how."""

    code = "DK-ENGINE"


class LimitError(EngineError):
    """A run took more steps or time than the caller allows, or a file would unfold to far more than itself."""

    code = "DK-LIMIT"


def describe(op: str, name: str, what: str, *, got: object = None, expected: object = None, hint: str = "") -> str:
    """Build a message in the project's common form."""
    text = f"{op} '{name}': {what}"
    if got is not None:
        text += f"; got {got}"
    if expected is not None:
        text += f", expected {expected}"
    return text + "." + (f" {hint}" if hint else "")
