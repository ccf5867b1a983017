"""Ops and sessions as built-in functions of the interpreter: a call costs about a microsecond instead of ctypes' 15 to 20.

The engine's side is ``runtime/src/capi/python.cc``.  It uses functions of the stable ABI and NumPy's C API, which are
handed over here as addresses, so that the library is built without headers of either and serves every Python from 3.11
on.  What it relies on (the head of an object, the fields of an array) is looked at first; where something differs
(free-threaded builds, PyPy) :func:`prepare` gives None, :func:`shorten` does
nothing, and callers go through ctypes.
"""

from __future__ import annotations

import ctypes as c
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from deploykit import dtypes, native

TENSORS, NUMBERS, FLOATS_ONLY = 1, 2, 4  # flags, as in python.cc

_FUNCTIONS = (
    "PyCapsule_New", "PyCapsule_GetPointer", "PyCFunction_NewEx", "PyObject_GetAttr", "PyObject_SetAttr",
    "PyType_GenericAlloc", "PyTuple_New", "PyTuple_SetItem", "PyFloat_AsDouble", "PyLong_AsLongLongAndOverflow",
    "PyLong_FromLongLong", "Py_IncRef", "Py_DecRef", "PyErr_Clear", "PyEval_SaveThread", "PyEval_RestoreThread",
)  # fmt: skip
_GET_VERSION, _EMPTY = 0, 184  # places in NumPy's table of functions, which no release changes
_KEEP: list[Any] = []  # objects whose addresses the engine holds
_bound: Any = None  # the library, once the interpreter is handed over


class _Array(c.Structure):
    """The fields of an array, as in NumPy 1 and 2."""

    _fields_ = [
        ("references", c.c_ssize_t),
        ("type", c.c_void_p),
        ("data", c.c_void_p),
        ("rank", c.c_int),
        ("dims", c.POINTER(c.c_ssize_t)),
        ("strides", c.POINTER(c.c_ssize_t)),
        ("base", c.c_void_p),
        ("descr", c.c_void_p),
        ("flags", c.c_int),
    ]


class _Descr(c.Structure):
    """The first fields of an array's description."""

    _fields_ = [
        ("references", c.c_ssize_t),
        ("type", c.c_void_p),
        ("scalar", c.c_void_p),
        ("letters", c.c_char * 3),
        ("flags", c.c_char),
        ("number", c.c_int),
    ]


def _numpy_table() -> Any:
    core = sys.modules.get("numpy._core.multiarray") or sys.modules["numpy.core.multiarray"]
    get = c.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
    return c.cast(get(core._ARRAY_API, None), c.POINTER(c.c_void_p))


def _as_expected(table: Any) -> bool:
    """Whether objects and arrays of this interpreter look as python.cc reads them."""
    if object.__basicsize__ != 2 * c.sizeof(c.c_void_p) or "t" in getattr(sys, "abiflags", ""):
        return False
    if c.CFUNCTYPE(c.c_uint)(table[_GET_VERSION])() >> 24 not in (1, 2):
        return False
    a = np.arange(6, dtype=np.int16).reshape(2, 3)
    seen = _Array.from_address(id(a))
    fields = (seen.type, seen.data, seen.rank, seen.dims[:2], seen.strides[:2], seen.descr, seen.flags & 0x101)
    expected = (id(np.ndarray), a.ctypes.data, 2, [2, 3], [6, 2], id(a.dtype), 0x101)
    if fields != expected:
        return False
    for dtype in (a.dtype, a.dtype.newbyteorder("S"), np.dtype(np.uint8), np.dtype("U3")):
        d = _Descr.from_address(id(dtype))
        if (d.letters.decode(), d.number) != (dtype.kind + dtype.char + dtype.byteorder, dtype.num):
            return False
    empty = c.PYFUNCTYPE(c.py_object, c.c_int, c.POINTER(c.c_ssize_t), c.py_object, c.c_int)(table[_EMPTY])
    c.pythonapi.Py_IncRef(c.py_object(a.dtype))  # empty takes over a reference
    b = empty(2, (c.c_ssize_t * 2)(4, 5), a.dtype, 0)
    return type(b) is np.ndarray and b.shape == (4, 5) and b.dtype is a.dtype and b.flags.c_contiguous


def bind(tensor: type, payload: str) -> bool:
    """Hand the interpreter over, and the class of tensors with the attribute that holds the array; True where that
    works.  Called once by the tensors, and before that perhaps by a session, which knows no class of tensors."""
    global _bound
    if sys.implementation.name != "cpython" or not native.available():
        return False
    lib = c.PyDLL(native.library()._name)  # calls keep the interpreter locked
    if not hasattr(lib, "dk_python_bind"):
        return False
    try:
        table = _numpy_table()
        functions = [c.cast(getattr(c.pythonapi, name), c.c_void_p).value for name in _FUNCTIONS]
    except (AttributeError, KeyError):
        return False
    if not _as_expected(table):
        return False
    plain = {d.code: np.dtype(d.name) for d in dtypes.ALL if d.name in np.sctypeDict}
    objects = [None, NotImplemented, np.ndarray, tensor, sys.intern(payload), float, int, *plain.values()]
    _KEEP.extend(objects)
    addresses = [id(o) for o in objects[:7]]
    addresses += [id(plain[code]) if code in plain else 0 for code in range(max(dtypes.BY_CODE) + 1)]
    rows = [*functions, table[_EMPTY], *addresses]
    lib.dk_python_bind.restype = c.c_int32
    if not lib.dk_python_bind((c.c_void_p * len(rows))(*rows), len(rows)):
        return False
    lib.dk_python_op.restype = c.py_object
    lib.dk_python_op.argtypes = [c.c_uint16, c.POINTER(native.CAttr), c.c_int32, c.c_int32, c.c_uint32]
    lib.dk_python_session.restype = c.py_object
    lib.dk_python_session.argtypes = [c.c_void_p]
    _bound = lib
    return True


def prepare(op: Any, attrs: dict[str, Any], n_outputs: int, flags: int) -> Callable[..., Any] | None:
    """A built-in function that applies an op with these attrs to its inputs, after :func:`bind`; None where the attrs
    do not fit.  It returns NotImplemented for inputs that it does not take and for every error."""
    if _bound is None:
        return None
    rows, n, keep = native._attrs(op, attrs)
    _KEEP.extend((rows, *keep))
    return _bound.dk_python_op(op.opcode, rows, n, n_outputs, flags)


@cache
def _session_library() -> Any:
    """The library with the interpreter handed over, whoever did it; None where that does not work."""
    if _bound is None:
        bind(_NoTensor, "")
    return _bound


class _NoTensor:
    """Stands for the class of tensors while there is none."""


def shorten(session: native.NativeSession) -> None:
    """Let a session be called without ctypes, where that works: by a built-in function that gives it all inputs, runs it
    and returns the outputs as a tuple of new arrays (None when NumPy lacks a dtype); NotImplemented when the inputs do not
    fit, a status when the run failed."""
    lib = _session_library()
    if lib is not None:
        session._direct = lib.dk_python_session(session._handle)
