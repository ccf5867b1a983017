"""The compiled engine through its C API (``runtime/include/deploykit/dk.h``); the only importer of the library.

* :func:`run_op` applies one op by its passport name: eager use, constant folding, tests.
* :class:`NativeModel` and :class:`NativeSession` are thin: arrays in, arrays out, errors as exceptions.  People use
  :class:`deploykit.Interpreter`, which is built on them.

The library is ``_core.so`` (``.dylib``, ``.dll``) beside this file, in an installed ``deploykit`` on ``sys.path``
(editable installs keep it there), or where the environment variable ``DK_LIBRARY`` says.
"""

from __future__ import annotations

import ctypes as c
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from deploykit import dtypes
from deploykit.errors import (
    DeploykitError,
    EngineError,
    FormatError,
    InputError,
    LimitError,
    ShapeError,
    UnsupportedError,
)

API_VERSION = 1
MAX_RANK = 8


class CTensor(c.Structure):
    """``dk_tensor``."""

    _fields_ = [
        ("dtype", c.c_int32),
        ("rank", c.c_int32),
        ("dims", c.c_int64 * MAX_RANK),
        ("data", c.c_void_p),
        ("bytes", c.c_size_t),
    ]


class CSpec(c.Structure):
    """``dk_spec``."""

    _fields_ = [("name", c.c_char_p), ("dtype", c.c_int32), ("rank", c.c_int32), ("dims", c.c_int64 * MAX_RANK)]


class CModelOptions(c.Structure):
    """``dk_model_options``."""

    _fields_ = [("flags", c.c_uint32), ("max_file_bytes", c.c_uint64)]


class CSessionOptions(c.Structure):
    """``dk_session_options``."""

    _fields_ = [
        ("threads", c.c_int32),
        ("signature", c.c_char_p),
        ("max_memory", c.c_uint64),
        ("flags", c.c_uint32),
        ("max_steps", c.c_uint64),
    ]


class CMemory(c.Structure):
    """``dk_memory``."""

    _fields_ = [(n, c.c_uint64) for n in ("arena", "weights", "packed", "dynamic", "plans", "nodes_dynamic")]


class CProfileRow(c.Structure):
    """``dk_profile_row``."""

    _fields_ = [
        ("name", c.c_char_p),
        ("op", c.c_char_p),
        ("detail", c.c_char_p),
        ("calls", c.c_uint64),
        ("nanoseconds", c.c_uint64),
        ("flops", c.c_uint64),
    ]


class CPlanRow(c.Structure):
    """``dk_plan_row``."""

    _fields_ = [
        ("name", c.c_char_p),
        ("offset", c.c_uint64),
        ("bytes", c.c_uint64),
        ("first", c.c_int32),
        ("last", c.c_int32),
    ]


class CAttr(c.Structure):
    """``dk_attr``."""

    _fields_ = [
        ("id", c.c_int32),
        ("i", c.c_int64),
        ("f", c.c_double),
        ("ints", c.POINTER(c.c_int64)),
        ("floats", c.POINTER(c.c_double)),
        ("s", c.c_char_p),
        ("n", c.c_int64),
    ]


_P, _I32, _STR, _T = c.c_void_p, c.c_int32, c.c_char_p, c.POINTER(CTensor)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "dk_api_version": (_I32, []),
    "dk_version": (_STR, []),
    "dk_status_name": (_STR, [_I32]),
    "dk_last_error": (_STR, []),
    "dk_isa": (_STR, []),
    "dk_fast": (c.c_int32, []),
    "dk_cpu_features": (_STR, []),
    "dk_cpu_count": (_I32, []),
    "dk_model_open": (_I32, [_STR, c.POINTER(CModelOptions), c.POINTER(_P)]),
    "dk_model_from_bytes": (_I32, [_P, c.c_size_t, c.POINTER(CModelOptions), c.POINTER(_P)]),
    "dk_model_free": (None, [_P]),
    "dk_verify": (_I32, [_P, c.c_size_t]),
    "dk_model_signature_count": (_I32, [_P]),
    "dk_model_signature": (_STR, [_P, _I32]),
    "dk_model_metadata_count": (_I32, [_P]),
    "dk_model_metadata_key": (_STR, [_P, _I32]),
    "dk_model_metadata_value": (_STR, [_P, _I32]),
    "dk_dim_name": (_STR, [_P, c.c_int64]),
    "dk_session_new": (_I32, [_P, c.POINTER(CSessionOptions), c.POINTER(_P)]),
    "dk_session_free": (None, [_P]),
    "dk_session_error": (_STR, [_P]),
    "dk_session_input_count": (_I32, [_P]),
    "dk_session_output_count": (_I32, [_P]),
    "dk_session_input_spec": (_I32, [_P, _I32, c.POINTER(CSpec)]),
    "dk_session_output_spec": (_I32, [_P, _I32, c.POINTER(CSpec)]),
    "dk_session_set_input": (_I32, [_P, _I32, _T]),
    "dk_session_prepare": (_I32, [_P]),
    "dk_session_run": (_I32, [_P]),
    "dk_session_set_time_limit": (None, [_P, c.c_uint64]),
    "dk_session_cancel": (None, [_P]),
    "dk_session_output": (_T, [_P, _I32]),
    "dk_session_value": (_T, [_P, _STR]),
    "dk_session_reset": (None, [_P]),
    "dk_session_variable": (_T, [_P, _STR]),
    "dk_session_bind_variable": (_I32, [_P, _STR, _T]),
    "dk_session_memory": (None, [_P, c.POINTER(CMemory)]),
    "dk_session_plan_count": (_I32, [_P]),
    "dk_session_plan_row": (_I32, [_P, _I32, c.POINTER(CPlanRow)]),
    "dk_session_profile_count": (_I32, [_P]),
    "dk_session_profile_row": (_I32, [_P, _I32, c.POINTER(CProfileRow)]),
    "dk_session_profile_clear": (None, [_P]),
    "dk_op_run": (
        _I32,
        [c.c_uint16, c.POINTER(CAttr), _I32, c.POINTER(_T), _I32, _I32, _I32, c.POINTER(_P)],
    ),
    "dk_op_result_output": (_T, [_P, _I32]),
    "dk_op_result_free": (None, [_P]),
    "dk_op_name": (_STR, [c.c_uint16]),
    # for tests, not in dk.h
    "dk_test_alloc_count": (c.c_uint64, []),
    "dk_test_bytes_held": (c.c_uint64, []),
    "dk_test_fail_at": (None, [c.c_uint64]),
}

_ERRORS: dict[str, type[DeploykitError]] = {
    "DK-FORMAT": FormatError,
    "DK-VERSION": FormatError,
    "DK-SHAPE": ShapeError,
    "DK-INPUT": InputError,
    "DK-UNSUPPORTED": UnsupportedError,
    "DK-LIMIT": LimitError,
}


def _candidates() -> list[str]:
    name = {"win32": "_core.dll", "darwin": "_core.dylib"}.get(sys.platform, "_core.so")
    here = os.path.dirname(os.path.realpath(__file__))
    folders = [here, *(os.path.join(p or ".", "deploykit") for p in sys.path)]
    return [os.path.join(f, n) for f in folders for n in dict.fromkeys((name, "_core.so"))]


def library_path() -> str | None:
    """Where the engine's library is, or None when there is none."""
    return os.environ.get("DK_LIBRARY") or next((p for p in _candidates() if os.path.isfile(p)), None)


@cache
def library() -> c.CDLL:
    """The loaded library with declared functions; raises EngineError (DK-ENGINE) when it is missing or does not fit."""
    path = library_path()
    if path is None:
        raise EngineError(
            "the compiled engine (_core) is not installed. Run `pip install .` (or `pip install -e .`) "
            "in the checkout, or set DK_LIBRARY to a built library."
        )
    try:
        lib = c.CDLL(os.path.realpath(path) if os.path.exists(path) else path)
    except OSError as e:
        raise EngineError(f"the compiled engine at {path} cannot be loaded: {e}. Reinstall the package.") from None
    for name, (result, arguments) in _SIGNATURES.items():
        f = getattr(lib, name, None)
        if f is not None:
            f.restype, f.argtypes = result, arguments
    if not hasattr(lib, "dk_api_version") or lib.dk_api_version() != API_VERSION:
        raise EngineError(f"the compiled engine at {path} has another API version than this package. Reinstall it.")
    return lib


def available() -> bool:
    """True when the engine can be loaded."""
    try:
        library()
    except EngineError:
        return False
    return True


def _text(s: bytes | None) -> str:
    return (s or b"").decode("utf-8", "replace")


def _check(status: int, message: bytes | None) -> None:
    if status:
        code = _text(library().dk_status_name(status))
        raise _ERRORS.get(code, EngineError)(_text(message), code=code)


def tensor_of(a: np.ndarray) -> CTensor:
    """A ``dk_tensor`` on the memory of a C-contiguous array, which must outlive it."""
    if a.ndim > MAX_RANK:
        raise InputError(f"an array of rank {a.ndim}, expected at most {MAX_RANK}.")
    try:
        code = dtypes.dtype(a.dtype).code
    except TypeError as e:
        raise InputError(str(e)) from None
    return CTensor(code, a.ndim, (c.c_int64 * MAX_RANK)(*a.shape), a.ctypes.data, a.nbytes)


def contiguous(a: Any) -> np.ndarray:
    """The array itself when it is C-contiguous, aligned and native-endian, else a copy that is (rank kept)."""
    a = np.asarray(a)
    if a.dtype.byteorder == ">" or (a.dtype.byteorder == "=" and sys.byteorder == "big"):
        a = a.astype(a.dtype.newbyteorder("<"))
    return a if a.flags.c_contiguous and a.flags.aligned else np.array(a, order="C")


def array_of(t: CTensor, *, copy: bool = True) -> np.ndarray:
    """The tensor as an array: a copy, or a view that is valid as long as the engine's memory."""
    np_dtype = dtypes.BY_CODE[t.dtype].np
    shape = tuple(t.dims[: t.rank])
    if t.bytes == 0:
        return np.zeros(shape, np_dtype)
    flat = np.frombuffer((c.c_char * t.bytes).from_address(t.data), dtype=np_dtype)
    return (flat.copy() if copy else flat).reshape(shape)


# ---- single ops
def _attrs(op: Any, attrs: dict[str, Any]) -> tuple[Any, int, list[Any]]:
    from deploykit.ops.contract import dtype_named, stored

    complete = op.complete(attrs)
    out, keep = [], []
    for i, a in enumerate(op.attrs.values()):
        if a.name not in attrs:
            continue
        v = complete[a.name]
        row = CAttr(id=i)
        if dtype_named(op, a):
            row.i = dtypes.dtype(v).code if v else 0
        elif a.kind == "float":
            row.f = v
        elif a.kind in ("ints", "floats"):
            buffer = ((c.c_int64 if a.kind == "ints" else c.c_double) * len(v))(*v)
            keep.append(buffer)
            setattr(row, a.kind, c.cast(buffer, c.POINTER(c.c_int64 if a.kind == "ints" else c.c_double)))  # type: ignore[arg-type]
            row.n = len(v)
        elif a.kind == "str":
            row.s = v.encode()
            row.n = len(v.encode())
        elif a.kind == "graph":
            raise UnsupportedError(f"{op.name}: ops with bodies run inside a model only.")
        else:
            row.i = stored(a, v)
        out.append(row)
    return (CAttr * len(out))(*out), len(out), keep


def run_op(
    name: str,
    inputs: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    n_outputs: int | None = None,
    threads: int = 1,
) -> list[np.ndarray]:
    """Apply one op in the compiled engine.

    Args:
        name: passport name, such as ``"conv"``.
        inputs: arrays (anything ``np.asarray`` takes), None for absent optional ones.
        attrs: attrs by passport name, in their Python form (enum words, dtype names).
        n_outputs: how many outputs to compute; default all (1 for ops with any number).
        threads: lanes to use.

    Returns the outputs as new arrays.  Raises the error class of the engine's code, e.g. ShapeError.

    >>> run_op("add", [np.float32([1, 2]), np.float32([3, 4])])[0].tolist()
    [4.0, 6.0]
    """
    import deploykit.ops  # noqa: F401  registers the passports
    from deploykit.ops.core import get

    lib = library()
    op = get(name)
    rows, n_attrs, keep = _attrs(op, attrs or {})
    if n_outputs is None:
        n_outputs = sum(not r.variadic for r in op.results) or 1
    arrays = [None if x is None else contiguous(x) for x in inputs]
    tensors = [None if a is None else tensor_of(a) for a in arrays]
    pointers = (_T * max(len(arrays), 1))(*(_T() if t is None else c.pointer(t) for t in tensors))
    result = _P()
    status = lib.dk_op_run(op.opcode, rows, n_attrs, pointers, len(arrays), n_outputs, threads, c.byref(result))
    del keep
    _check(status, lib.dk_last_error() if status else None)
    try:
        return [array_of(lib.dk_op_result_output(result, i).contents) for i in range(n_outputs)]
    finally:
        lib.dk_op_result_free(result)


def has_kernel(name: str) -> bool:
    """True when the engine has a kernel for the op."""
    import deploykit.ops  # noqa: F401
    from deploykit.ops.core import get

    return library().dk_op_name(get(name).opcode) is not None


# ---- models
class NativeSpec(NamedTuple):
    """An input or output: ``dtype`` is None and ``shape`` None where the file does not say.  A dim is a number, a
    symbol's name, or None (known only after run)."""

    name: str
    dtype: dtypes.DType | None
    shape: tuple[int | str | None, ...] | None


class ProfileRow(NamedTuple):
    """Time of one node, summed over ``calls``."""

    name: str
    op: str
    detail: str
    calls: int
    nanoseconds: int
    flops: int


def verify(data: bytes | memoryview) -> None:
    """Check every byte of a ``.dk`` file; raises FormatError (DK-FORMAT or DK-VERSION) saying what is wrong."""
    lib = library()
    buffer = np.frombuffer(data, np.uint8)
    status = lib.dk_verify(buffer.ctypes.data if buffer.size else None, buffer.size)
    _check(status, lib.dk_last_error() if status else None)


class NativeModel:
    """A verified, loaded ``.dk`` file: from a path (memory-mapped) or from bytes (kept alive and used in place).

    >>> NativeModel(b"")
    Traceback (most recent call last):
    ...
    deploykit.errors.FormatError: DK-FORMAT: the file is empty
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray,
        *,
        skip_weight_checksum: bool = False,
        max_file_bytes: int = 0,
    ) -> None:
        self._handle = _P()
        self._lib = lib = library()
        options = CModelOptions(int(skip_weight_checksum), max_file_bytes)
        if isinstance(source, (str, os.PathLike)):
            self._keep: Any = None
            status = lib.dk_model_open(os.fsencode(source), c.byref(options), c.byref(self._handle))
        else:
            self._keep = data = np.frombuffer(source, np.uint8)
            pointer = data.ctypes.data if data.size else None
            status = lib.dk_model_from_bytes(pointer, data.size, c.byref(options), c.byref(self._handle))
        _check(status, lib.dk_last_error() if status else None)

    def close(self) -> None:
        """Free the model; sessions must be closed before."""
        if self._handle:
            self._lib.dk_model_free(self._handle)
            self._handle = _P()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    @property
    def signatures(self) -> list[str]:
        """Names of the entry points; the first is ``main``."""
        n = self._lib.dk_model_signature_count(self._handle)
        return [_text(self._lib.dk_model_signature(self._handle, i)) for i in range(n)]

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata: key to JSON text."""
        lib, h = self._lib, self._handle
        n = lib.dk_model_metadata_count(h)
        return {_text(lib.dk_model_metadata_key(h, i)): _text(lib.dk_model_metadata_value(h, i)) for i in range(n)}

    def dim(self, d: int) -> int | str | None:
        """A dim of a ``dk_spec``: sizes stay, symbols get their name, unknown is None."""
        return d if d >= 0 else (_text(self._lib.dk_dim_name(self._handle, d)) or None)


class NativeSession:
    """One runnable instance of a model's signature, with its own arena and variables; for one thread at a time."""

    def __init__(
        self,
        model: NativeModel,
        *,
        signature: str | None = None,
        threads: int = 0,
        max_memory: int = 0,
        profile: bool = False,
        keep_values: bool = False,
        exact: bool = False,
        fast: bool = False,
        max_steps: int = 0,
    ) -> None:
        self._handle = _P()
        self._lib = lib = model._lib
        self.model = model
        name = None if signature is None else signature.encode()
        flags = int(profile) | 2 * int(keep_values) | 4 * int(exact) + 8 * int(fast)
        options = CSessionOptions(threads, name, max_memory, flags, max_steps)
        status = lib.dk_session_new(model._handle, c.byref(options), c.byref(self._handle))
        _check(status, lib.dk_last_error() if status else None)
        self._inputs: dict[int, np.ndarray] = {}
        self._bound: dict[str, np.ndarray] = {}
        self._kept: Sequence[Any] = ()  # inputs of the last direct call
        self._direct: Callable[..., Any] | None = None  # set by native_calls.shorten

    def close(self) -> None:
        """Free the session."""
        self._direct = None
        if self._handle:
            self._lib.dk_session_free(self._handle)
            self._handle = _P()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def check(self, status: int) -> None:
        """Raise what a status other than 0 stands for."""
        self._ok(status)

    def _ok(self, status: int) -> None:
        if status:
            _check(status, self._lib.dk_session_error(self._handle))

    def _specs(self, count: Any, get: Any) -> list[NativeSpec]:
        out = []
        for i in range(count(self._handle)):
            s = CSpec()
            self._ok(get(self._handle, i, c.byref(s)))
            shape = None if s.rank < 0 else tuple(self.model.dim(d) for d in s.dims[: s.rank])
            out.append(NativeSpec(_text(s.name), dtypes.BY_CODE.get(s.dtype), shape))
        return out

    @property
    def inputs(self) -> list[NativeSpec]:
        """What the signature takes."""
        return self._specs(self._lib.dk_session_input_count, self._lib.dk_session_input_spec)

    @property
    def outputs(self) -> list[NativeSpec]:
        """What it gives."""
        return self._specs(self._lib.dk_session_output_count, self._lib.dk_session_output_spec)

    def set_input(self, i: int, array: Any) -> None:
        """Give input ``i``; the array is kept and must not be changed before run returns."""
        a = contiguous(array)
        t = tensor_of(a)
        self._ok(self._lib.dk_session_set_input(self._handle, i, c.byref(t)))
        self._inputs[i] = a

    def set_input_shape(self, i: int, shape: Sequence[int], dtype: Any) -> None:
        """Only the shape of input ``i``, for :meth:`prepare`."""
        dims = (c.c_int64 * MAX_RANK)(*shape)
        t = CTensor(dtypes.dtype(dtype).code, len(shape), dims, None, 0)
        self._ok(self._lib.dk_session_set_input(self._handle, i, c.byref(t)))

    def prepare(self) -> None:
        """Plan for the shapes set so far, without running."""
        self._ok(self._lib.dk_session_prepare(self._handle))

    def run(self) -> None:
        """Run on the inputs set."""
        self._ok(self._lib.dk_session_run(self._handle))

    def set_time_limit(self, milliseconds: int) -> None:
        """Runs that take longer end with DK-LIMIT; 0: no limit."""
        self._lib.dk_session_set_time_limit(self._handle, milliseconds)

    def cancel(self) -> None:
        """End the run in progress on another thread with DK-CANCELLED."""
        self._lib.dk_session_cancel(self._handle)

    def output(self, i: int, *, copy: bool = True) -> np.ndarray:
        """Output ``i`` of the last run; without ``copy`` a view that the next run overwrites."""
        t = self._lib.dk_session_output(self._handle, i)
        if not t:
            raise EngineError(f"there is no output {i}, or nothing was run yet.")
        return array_of(t.contents, copy=copy)

    def __call__(self, *arrays: Any) -> list[np.ndarray]:
        """Set all inputs in order, run, return all outputs."""
        outs = self.direct(arrays)
        if isinstance(outs, tuple):
            return list(outs)
        if outs is not None:
            self._ok(outs)
        for i, a in enumerate(arrays):
            self.set_input(i, a)
        self.run()
        return [self.output(i) for i in range(self._lib.dk_session_output_count(self._handle))]

    def direct(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...] | int | None:
        """What a call gives, without ctypes, once the session has a shorter way: the outputs; the status of a run that failed;
        None: to be called the long way, where inputs do not fit or are no plain arrays."""
        if self._direct is None:
            return None
        outs = self._direct(*arrays)
        if outs is NotImplemented:
            return None
        self._kept = arrays  # the session still knows their memory
        return tuple(self.output(i) for i in range(len(self.outputs))) if outs is None else outs

    def value(self, name: str, *, copy: bool = True) -> np.ndarray | None:
        """An intermediate tensor by its name in the file, in sessions with ``keep_values``; None if there is none.
        Without ``copy`` a view that the next run overwrites."""
        t = self._lib.dk_session_value(self._handle, name.encode())
        return array_of(t.contents, copy=copy) if t else None

    def variable(self, name: str) -> np.ndarray | None:
        """Current value of a variable; None if there is none of that name."""
        t = self._lib.dk_session_variable(self._handle, name.encode())
        return array_of(t.contents) if t else None

    def bind_variable(self, name: str, array: np.ndarray) -> None:
        """Let the session read and write a variable in this array: aligned to 64 bytes, 64 readable bytes behind it.
        It is kept alive with the session."""
        t = tensor_of(array)
        self._ok(self._lib.dk_session_bind_variable(self._handle, name.encode(), c.byref(t)))
        self._bound[name] = array

    def reset(self) -> None:
        """Set every variable back to its initial value."""
        self._lib.dk_session_reset(self._handle)

    def memory(self) -> dict[str, int]:
        """Bytes of arena, weights, packed weights, dynamic tensors; number of plans and of dynamic nodes."""
        m = CMemory()
        self._lib.dk_session_memory(self._handle, c.byref(m))
        return {name: getattr(m, name) for name, _ in CMemory._fields_}  # type: ignore[misc]

    def plan(self) -> list[dict[str, Any]]:
        """The buffers of the current plan's arena: name, offset, bytes, first and last step at which each exists."""
        out = []
        for i in range(self._lib.dk_session_plan_count(self._handle)):
            r = CPlanRow()
            self._ok(self._lib.dk_session_plan_row(self._handle, i, c.byref(r)))
            if r.bytes:
                out.append(dict(name=_text(r.name), offset=r.offset, bytes=r.bytes, first=r.first, last=r.last))
        return out

    def profile(self) -> list[ProfileRow]:
        """Time per node since the start or :meth:`profile_clear`, in sessions with ``profile``."""
        out = []
        for i in range(self._lib.dk_session_profile_count(self._handle)):
            r = CProfileRow()
            self._ok(self._lib.dk_session_profile_row(self._handle, i, c.byref(r)))
            out.append(ProfileRow(_text(r.name), _text(r.op), _text(r.detail), r.calls, r.nanoseconds, r.flops))
        return out

    def profile_clear(self) -> None:
        """Forget the times."""
        self._lib.dk_session_profile_clear(self._handle)


def describe() -> dict[str, Any]:
    """What the loaded engine says of itself: version, api, isa (kernel set in use), features (of the CPU), cpus, fast (whether
    ``precision="fast"`` changes anything here)."""
    lib = library()
    return {
        "version": _text(lib.dk_version()),
        "api": lib.dk_api_version(),
        "isa": _text(lib.dk_isa()),
        "features": _text(lib.dk_cpu_features()),
        "cpus": lib.dk_cpu_count(),
        "fast": bool(lib.dk_fast()),
    }
