"""Loading a ``.pt2`` file of a stranger without running anything in it.

``torch.export.load`` trusts its file: it unpickles sample inputs, custom and opaque constants (and falls back to full
pickles where the safe loader refuses), gives texts of symbolic sizes to ``sympy.sympify``, which evaluates them as
Python, and loads compiled libraries.  While :func:`guarded` is on, in this thread, all of these raise :class:`Refused`.
Other threads keep torch as it is.
"""

from __future__ import annotations

import ast
import importlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from deploykit.errors import UnsupportedError

_FUNCTIONS = frozenset(
    "Max Min Mod PythonMod FloorDiv CleanDiv CeilDiv ModularIndexing Where TrueDiv IntTrueDiv FloatTrueDiv FloorToInt "
    "CeilToInt TruncToInt TruncToFloat RoundToInt RoundDecimal ToFloat FloatPow PowByNatural Abs Identity "
    "IsNonOverlappingAndDenseIndicator LShift RShift BitwiseFn_bitwise_and BitwiseFn_bitwise_or BitwiseFn_bitwise_xor "
    "floor ceiling Pow Add Mul Eq Ne Lt Le Gt Ge Not And Or Integer Rational Float Symbol".split()
)
_NODES = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.Load,
          ast.operator, ast.unaryop, ast.boolop, ast.cmpop)  # fmt: skip
_LONGEST, _LARGEST_POWER = 10_000, 64
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_here = threading.local()
_lock = threading.RLock()


class Refused(Exception):
    """The file asks for something that could run code."""


def check_expression(text: str) -> None:
    """Raise :class:`Refused` unless the text is plain arithmetic on names and numbers.

    >>> check_expression("Max(1, s0 + 2*s1)")
    >>> check_expression("__import__('os').system('ls')")
    Traceback (most recent call last):
    ...
    deploykit.converters.importers.pytorch.guard.Refused: a symbolic size that is no plain arithmetic
    """
    bad = Refused("a symbolic size that is no plain arithmetic")
    if len(text) > _LONGEST:
        raise bad
    try:
        tree = ast.parse(text.strip(), mode="eval")
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise bad from None
    named: set[int] = set()  # texts that are names of symbols: sympy's srepr writes Symbol('s0', integer=True)
    for n in nodes:
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in ("Symbol", "Float") and n.args:
            named.add(id(n.args[0]))
    if not all(_plain(n, named) for n in nodes):
        raise bad


def _plain(n: ast.AST, named: set[int]) -> bool:
    if isinstance(n, ast.Constant):
        if isinstance(n.value, str):
            return id(n) in named and _WORD.fullmatch(n.value) is not None
        return isinstance(n.value, (int, float)) and abs(n.value) < 2**64
    if isinstance(n, ast.Name):
        return not n.id.startswith("_")
    if isinstance(n, ast.keyword):
        return isinstance(n.value, ast.Constant) and isinstance(n.value.value, int) and abs(n.value.value) < 2**16
    if isinstance(n, ast.Call):
        if not isinstance(n.func, ast.Name) or n.func.id not in _FUNCTIONS:
            return False
        return not _grows(n.func.id) or (len(n.args) == 2 and _power(n.args[0], n.args[1]))
    if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Pow, ast.LShift)):
        return _power(n.left, n.right)
    return isinstance(n, _NODES)


def _grows(function: str) -> bool:
    return "Pow" in function or function == "LShift"


def _power(base: ast.expr, power: ast.expr) -> bool:
    """Whether it is computed fast: 9**9**9 would be, digit by digit, and so would powers of powers."""
    inner = any(
        isinstance(n, (ast.Pow, ast.LShift)) or (isinstance(n, ast.Name) and _grows(n.id)) for n in ast.walk(base)
    )
    return not inner and _small_power(power)


def _small_power(n: ast.expr) -> bool:
    if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
        return _small_power(n.operand)
    if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Integer" and len(n.args) == 1:
        return _small_power(n.args[0])
    return isinstance(n, ast.Constant) and isinstance(n.value, int) and abs(n.value) <= _LARGEST_POWER


@contextmanager
def guarded(torch: Any) -> Iterator[None]:
    """See above."""

    def refuse(what: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(_here, "on", False):
                raise Refused(what)
            return plain(*args, **kwargs)

        return call

    plain_load = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        if getattr(_here, "on", False):
            kwargs["weights_only"] = True
            try:
                return plain_load(*args, **kwargs)
            except Exception as e:
                raise Refused(f"a pickle that holds more than tensors ({str(e).splitlines()[0][:100]})") from None
        return plain_load(*args, **kwargs)

    class SafePickle:
        """Stands for the module ``pickle`` in torch's reader of archives."""

        def __getattr__(self, name: str) -> Any:
            import pickle

            plain = getattr(pickle, name)
            return refuse("a Python pickle", plain) if name in ("load", "loads", "Unpickler") else plain

    with _lock, ExitStack() as stack:
        stack.enter_context(patch.object(torch, "load", load))
        sympy = importlib.import_module("sympy")
        plain_sympify = sympy.sympify

        def sympify(a: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(_here, "on", False) and isinstance(a, str):
                check_expression(a)
            return plain_sympify(a, *args, **kwargs)

        stack.enter_context(patch.object(sympy, "sympify", sympify))
        if hasattr(torch._C, "_pickle_load_obj"):
            obj = torch._C._pickle_load_obj
            stack.enter_context(patch.object(torch._C, "_pickle_load_obj", refuse("a TorchScript object", obj)))
        try:
            package = importlib.import_module("torch.export.pt2_archive._package")
        except ImportError:  # torch before 2.8
            package = None
        for name, new in (
            ("pickle", SafePickle()),
            ("_load_aoti", refuse("compiled code (AOTInductor)", getattr(package, "_load_aoti", print))),
        ):
            if hasattr(package, name):
                stack.enter_context(patch.object(package, name, new))
        _here.on = True
        try:
            yield
        finally:
            _here.on = False


def refused(e: BaseException) -> Refused | None:
    """The refusal among the causes of what torch raised."""
    seen: set[int] = set()
    at: BaseException | None = e
    while at is not None and id(at) not in seen:
        if isinstance(at, Refused):
            return at
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return None


# members of an archive that only dangerous features have; torch's own reader looks names up without regard to case
_MARKS = (
    ("/aotinductor/", "compiled code (AOTInductor)"),
    ("/constants/custom_obj", "a TorchScript object"),
    ("/constants/opaque_obj", "a Python pickle"),
)


def check_members(file: str, names: list[str], way: str) -> None:
    """Raise UnsupportedError when an archive holds code: torch would load it, we do not."""
    for n in names:
        for mark, what in _MARKS:
            if mark in f"/{n.lower()}":
                raise UnsupportedError(
                    f"{file} holds {what} ('{n}'), which could run any code: it is not loaded. {way}"
                )
