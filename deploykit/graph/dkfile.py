"""Graph to ``.dk`` bytes and back.  The layout and its promises: ``runtime/schema/dk.fbs`` and ``COMPATIBILITY.md``.

The bytes are a function of the graph alone: no time, no host, no hash order; fresh symbols are renumbered.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import flatbuffers
import numpy as np

from deploykit import dtypes
from deploykit.errors import FormatError, GraphError
from deploykit.graph import dk_tables as fb
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Graph, Node, QuantParams, Value, Variable
from deploykit.graph.mapped import release
from deploykit.graph.sniff import what_is

FORMAT_VERSION = 1
ALIGN = 64
CRC_CHUNK = 1 << 20
SMALL = 64  # constants up to this size are only 8-byte aligned
NO_VALUE = -1


# ---------------------------------------------------------------------------------------------------------- writing
def _raw(array: np.ndarray) -> np.ndarray:
    """The bytes of an array in row-major order: a view where it lies so, else a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _packs(dtype: dtypes.DType, count: int) -> bool:
    """Whether so many elements lie two a byte."""
    return dtype.bits == 4 and dtype.kind in "iu" and count > 1


def _stored(data: np.ndarray, dtype: dtypes.DType) -> np.ndarray:
    """Constants as they lie in the file: two 4-bit integers a byte, the first in the low half, an odd one with zeros."""
    if not _packs(dtype, data.size):
        return data
    raw = _raw(data) & 15
    out = raw[::2].copy()
    out[: raw.size // 2] |= raw[1::2] << 4
    return out


def stored_bytes(data: np.ndarray, dtype: dtypes.DType) -> int:
    """Bytes that a constant takes in a ``.dk`` file."""
    return (data.size + 1) // 2 if _packs(dtype, data.size) else data.nbytes


def _unpacked(raw: np.ndarray, dtype: dtypes.DType, count: int) -> np.ndarray:
    """One byte an element, as :mod:`deploykit.dtypes` holds them: the other way round than :func:`_stored`."""
    out = np.empty(2 * raw.size, np.uint8)
    out[::2], out[1::2] = raw & 15, raw >> 4
    if dtype.kind == "i":
        out = (out ^ np.uint8(8)) - np.uint8(8)
    return out[:count]


def _digest(array: np.ndarray) -> bytes:
    import hashlib

    return hashlib.sha256(_raw(array)).digest()  # type: ignore[arg-type]


@dataclass
class _Weights:
    """Places data in the weights section; equal data is stored once."""

    pieces: list[tuple[int, np.ndarray]] = field(default_factory=list)  # arrays as they lie: views cost nothing
    # places by size and first bytes; where two agree in these, by a digest as well
    seen: dict[tuple[int, bytes], dict[bytes, int]] = field(default_factory=dict)
    size: int = 0

    def add(self, array: np.ndarray) -> tuple[int, int]:
        nbytes = array.nbytes
        if nbytes == 0:
            return 0, 0
        # large data shares a place only with data of the same alignment class, which its size decides
        places = self.seen.setdefault((nbytes, array.flat[:SMALL].tobytes()[:SMALL]), {})
        if b"" in places:  # the first one's
            at = places.pop(b"")
            places[_digest(next(a for start, a in reversed(self.pieces) if start == at))] = at
        key = _digest(array) if places else b""
        if key not in places:
            step = 8 if nbytes <= SMALL else ALIGN
            self.size = -(-self.size // step) * step
            places[key] = self.size
            self.pieces.append((self.size, array))
            self.size += nbytes
        return places[key], nbytes

    def stream(self) -> Iterator[bytes | memoryview]:
        """The section's bytes in order, with zero padding."""
        at = 0
        for offset, array in self.pieces:
            raw = _raw(array)
            if offset > at:
                yield bytes(offset - at)
            yield memoryview(raw)  # type: ignore
            at = offset + raw.nbytes
            release(array)
        if self.size > at:
            yield bytes(self.size - at)

    def crcs(self) -> list[int]:
        """zlib crc32 of each CRC_CHUNK bytes."""
        out: list[int] = []
        crc, room = 0, CRC_CHUNK
        for part in self.stream():
            view = memoryview(part)
            while len(view):
                n = min(room, len(view))
                crc = zlib.crc32(view[:n], crc)
                view, room = view[n:], room - n
                if room == 0:
                    out.append(crc)
                    crc, room = 0, CRC_CHUNK
        if room != CRC_CHUNK:
            out.append(crc)
        return out


class _Writer:
    def __init__(self, graph: Graph, names: bool) -> None:
        self.b = flatbuffers.Builder(4096)
        self.graph = graph
        self.names = names
        self.weights = _Weights()
        self.symbols: dict[str, int] = {}
        self.fresh: dict[str, str] = {}
        self.graphs = list(graph.walk())
        self.index = {id(g): i for i, g in enumerate(self.graphs)}
        if len(self.index) != len(self.graphs):
            raise GraphError(f"graph '{graph.name}': a body is used by two nodes; copy it first.")

    # ---- small pieces
    def vector(self, items: list[Any], width: int, put: Any) -> int:
        self.b.StartVector(width, len(items), width)
        for x in reversed(items):
            put(x)
        return self.b.EndVector()

    def offsets(self, items: list[int]) -> int:
        return self.vector(items, 4, self.b.PrependUOffsetTRelative)

    def ints(self, items: Any) -> int:
        numbers = [int(x) for x in items]
        far = next((x for x in numbers if not -(1 << 63) <= x < 1 << 63), None)
        if far is not None:
            raise GraphError(f"graph '{self.graphs[0].name}': {far:.3e} does not fit a 64-bit integer.")
        return self.vector(numbers, 8, self.b.PrependInt64)

    def int32s(self, items: Any) -> int:
        return self.vector([int(x) for x in items], 4, self.b.PrependInt32)

    def string(self, s: str) -> int:
        if not isinstance(s, str):
            raise GraphError(f"graph '{self.graphs[0].name}': {s!r} stands where a name should.")
        return self.b.CreateSharedString(s)

    def strings(self, items: list[str]) -> int:
        return self.offsets([self.string(s) for s in items])

    def dim(self, d: int | Dim) -> int:
        if not isinstance(d, Dim):
            return int(d)
        name = str(d)
        for old in sorted((n for n in d.names if n.startswith("?")), key=len, reverse=True):
            name = name.replace(old, self.fresh.setdefault(old, f"?{len(self.fresh)}"))
        return -1 - self.symbols.setdefault(name, len(self.symbols))

    # ---- tables
    def attr(self, i: int, spec: Any, value: Any) -> int:
        from deploykit.ops.contract import stored

        b, kind = self.b, spec.kind
        ints = floats = text = 0
        if kind == "ints":
            ints = self.ints(value)
        elif kind == "floats":
            floats = self.vector([float(v) for v in value], 8, b.PrependFloat64)
        elif kind == "str":
            text = b.CreateString(value) if isinstance(value, str) else self.string(value)
        fb.AttrStart(b)
        fb.AttrAddId(b, i)
        if kind == "float":
            fb.AttrAddF(b, float(value))
        elif kind == "graph":
            fb.AttrAddI(b, self.index[id(value)])
        elif ints:
            fb.AttrAddInts(b, ints)
        elif floats:
            fb.AttrAddFloats(b, floats)
        elif text:
            fb.AttrAddS(b, text)
        else:
            fb.AttrAddI(b, int(stored(spec, value)))  # type: ignore
        return fb.AttrEnd(b)

    def node(self, node: Node, number: dict[Value, int]) -> int:
        from dataclasses import replace

        from deploykit.ops.contract import dtype_named
        from deploykit.ops.core import get

        b, op = self.b, get(node.op)
        full = op.complete(node.attrs)
        attrs = []
        for i, a in enumerate(op.attrs.values()):
            value = full[a.name]
            if a.required or value != a.default:
                spec = replace(a, kind="dtype") if dtype_named(op, a) else a
                attrs.append(self.attr(i, spec, value))
        name = self.string(node.name) if self.names and node.name else 0
        attrs_at = self.offsets(attrs) if attrs else 0
        inputs = self.int32s([NO_VALUE if v is None else number[v] for v in node.inputs])
        outputs = self.int32s([NO_VALUE if v is None else number[v] for v in node.outputs])
        fb.NodeStart(b)
        fb.NodeAddOp(b, op.opcode)
        fb.NodeAddInputs(b, inputs)
        fb.NodeAddOutputs(b, outputs)
        if attrs_at:
            fb.NodeAddAttrs(b, attrs_at)
        if name:
            fb.NodeAddName(b, name)
        return fb.NodeEnd(b)

    def input(self, v: Value, number: int) -> int:
        if v.dtype is None:
            raise GraphError(f"input '{v.name}' has no dtype.")
        b = self.b
        name = self.string(v.name)
        dims = self.ints([self.dim(d) for d in v.shape or ()])
        fb.InputStart(b)
        fb.InputAddValue(b, number)
        fb.InputAddName(b, name)
        fb.InputAddDtype(b, v.dtype.code)
        fb.InputAddDims(b, dims)
        if v.shape is None:
            fb.InputAddNoRank(b, True)
        return fb.InputEnd(b)

    def constant(self, v: Value, number: int) -> int:
        assert v.data is not None and v.dtype is not None
        b = self.b
        offset, size = self.weights.add(_stored(v.data, v.dtype))
        dims = self.ints(v.data.shape)
        fb.ConstantStart(b)
        fb.ConstantAddValue(b, number)
        fb.ConstantAddDtype(b, v.dtype.code)
        fb.ConstantAddDims(b, dims)
        fb.ConstantAddOffset(b, offset)
        fb.ConstantAddSize(b, size)
        return fb.ConstantEnd(b)

    def quant(self, v: Value, number: int) -> int:
        b, q = self.b, v.quant
        assert q is not None
        scale = self.vector([float(x) for x in np.ravel(q.scale)], 4, b.PrependFloat32)
        zero = self.int32s(np.ravel(q.zero_point))
        fb.QuantStart(b)
        fb.QuantAddValue(b, number)
        fb.QuantAddScale(b, scale)
        fb.QuantAddZeroPoint(b, zero)
        if q.axis is not None:
            fb.QuantAddAxis(b, q.axis)
        return fb.QuantEnd(b)

    def graph_def(self, g: Graph) -> int:
        b = self.b
        number: dict[Value, int] = {}
        constants = g.constants()
        for v in [*g.inputs, *constants]:
            number[v] = len(number)
        for n in g.nodes:
            for v in n.outputs:  # type: ignore
                if v is not None:
                    number[v] = len(number)
        for v in g.used():
            if v not in number:
                raise GraphError(f"graph '{g.name}': value '{v.name}' is used but never defined.")
        inputs = self.offsets([self.input(v, number[v]) for v in g.inputs])
        consts = self.offsets([self.constant(v, number[v]) for v in constants])
        nodes = self.offsets([self.node(n, number) for n in g.nodes])
        outputs = self.int32s([number[v] for v in g.outputs])
        public = self.strings(g.public_outputs)
        quants = self.offsets([self.quant(v, i) for v, i in number.items() if v.quant is not None])
        names = self.strings([v.name for v in number]) if self.names else 0
        name = self.string(g.name)
        fb.GraphDefStart(b)
        fb.GraphDefAddName(b, name)
        fb.GraphDefAddNValues(b, len(number))
        fb.GraphDefAddInputs(b, inputs)
        fb.GraphDefAddOutputs(b, outputs)
        fb.GraphDefAddOutputNames(b, public)
        fb.GraphDefAddConstants(b, consts)
        fb.GraphDefAddNodes(b, nodes)
        if names:
            fb.GraphDefAddValueNames(b, names)
        fb.GraphDefAddQuants(b, quants)
        return fb.GraphDefEnd(b)

    def variable(self, v: Variable) -> int:
        b = self.b
        zeros = not np.any(np.ascontiguousarray(v.initial).view(np.uint8)) if v.initial.size else True
        offset, size = (0, 0) if zeros else self.weights.add(v.initial)
        name = self.string(v.name)
        dims = self.ints(v.initial.shape)
        fb.VariableStart(b)
        fb.VariableAddName(b, name)
        fb.VariableAddDtype(b, dtypes.dtype(v.initial.dtype).code)
        fb.VariableAddDims(b, dims)
        fb.VariableAddOffset(b, offset)
        fb.VariableAddSize(b, size)
        return fb.VariableEnd(b)

    def header(self) -> bytes:
        b, g = self.b, self.graph
        graphs = self.offsets([self.graph_def(x) for x in self.graphs])
        variables = self.offsets([self.variable(v) for v in g.variables])
        signatures = []
        for name, s in g.signatures.items():
            at = self.string(name)
            fb.SignatureStart(b)
            fb.SignatureAddName(b, at)
            fb.SignatureAddGraph(b, self.index[id(s)])
            signatures.append(fb.SignatureEnd(b))
        signatures_at = self.offsets(signatures)
        metadata = []
        for key in sorted(g.metadata):
            k = self.string(key)
            text = b.CreateString(json.dumps(g.metadata[key], sort_keys=True, ensure_ascii=False))
            fb.MetaStart(b)
            fb.MetaAddKey(b, k)
            fb.MetaAddValue(b, text)
            metadata.append(fb.MetaEnd(b))
        metadata_at = self.offsets(metadata)
        symbols = self.strings(list(self.symbols))
        crcs = self.vector(self.weights.crcs(), 4, b.PrependUint32)
        producer = b.CreateString("deploykit")
        b.ForceDefaults(True)
        fb.ModelStart(b)
        fb.ModelAddFormatVersion(b, FORMAT_VERSION)
        fb.ModelAddHeaderSize(b, 0)
        fb.ModelAddHeaderCrc(b, 0)
        fb.ModelAddWeightsOffset(b, 0)
        fb.ModelAddWeightsSize(b, self.weights.size)
        fb.ModelAddCrcChunk(b, CRC_CHUNK)
        fb.ModelAddWeightsCrcs(b, crcs)
        fb.ModelAddSymbols(b, symbols)
        fb.ModelAddGraphs(b, graphs)
        fb.ModelAddSignatures(b, signatures_at)
        fb.ModelAddVariables(b, variables)
        fb.ModelAddMetadata(b, metadata_at)
        fb.ModelAddProducer(b, producer)
        b.Finish(fb.ModelEnd(b), file_identifier=b"DKIT")
        return bytes(seal(bytearray(b.Output())))


def _slot(data: bytearray | bytes, number: int) -> int:
    """Position of a scalar field of the root table."""
    (root,) = struct.unpack_from("<I", data, 0)
    (back,) = struct.unpack_from("<i", data, root)
    (offset,) = struct.unpack_from("<H", data, root - back + 4 + 2 * number)
    return root + offset


def seal(data: bytearray) -> bytearray:
    """Fill in header_size, weights_offset and header_crc of a finished FlatBuffer (tools that edit a header call it)."""
    struct.pack_into("<Q", data, _slot(data, 1), len(data))
    struct.pack_into("<I", data, _slot(data, 2), 0)
    struct.pack_into("<Q", data, _slot(data, 3), -(-len(data) // ALIGN) * ALIGN)
    struct.pack_into("<I", data, _slot(data, 2), zlib.crc32(data))
    return data


def _parts(graph: Graph, names: bool) -> Iterator[bytes | memoryview]:
    w = _Writer(graph, names)
    header = w.header()
    yield header
    yield bytes(-len(header) % ALIGN)
    yield from w.weights.stream()


def to_bytes(graph: Graph, *, names: bool = True) -> bytes:
    """The ``.dk`` file of a graph as bytes.  ``names=False`` leaves out names of nodes and inner values."""
    return b"".join(bytes(p) for p in _parts(graph, names))


def save(graph: Graph, path: str | os.PathLike[str], *, names: bool = True) -> int:
    """Write a ``.dk`` file; returns its size in bytes.  Nothing is left behind when it fails."""
    with atomic_write(path) as f:
        return write(graph, f, names=names)


def write(graph: Graph, f: BinaryIO, *, names: bool = True) -> int:
    """Write a ``.dk`` file piece by piece, never holding all of it; returns its size in bytes."""
    return sum(f.write(p) for p in _parts(graph, names))


class atomic_write:
    """``with atomic_write(path) as f``: a temporary file beside the target, renamed over it only on success."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def __enter__(self) -> BinaryIO:
        folder = os.path.dirname(os.path.abspath(self.path))
        try:
            fd, self.tmp = tempfile.mkstemp(dir=folder, prefix="." + os.path.basename(self.path) + ".")
        except OSError as e:  # of the file that was asked for, not of its temporary name
            raise OSError(e.errno, e.strerror, self.path) from None
        os.close(fd)
        self.f = open(self.tmp, "wb")  # by path, so that its name can be asked for
        return self.f

    def __exit__(self, kind: object, *_: object) -> None:
        self.f.close()
        if kind is None:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self.tmp, 0o666 & ~umask)
            os.replace(self.tmp, self.path)
        else:
            os.unlink(self.tmp)


# ---------------------------------------------------------------------------------------------------------- reading
def load(path: str | os.PathLike[str]) -> Graph:
    """Read a ``.dk`` file; constants stay memory-mapped.  Raises FormatError with the reason."""
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        if size == 0:
            raise FormatError(f"{os.fspath(path)}: an empty file, not a .dk file.")
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return from_bytes(data)
    except FormatError as e:
        raise FormatError(f"{os.fspath(path)}: {e.message}", code=e.code) from None


def from_bytes(data: bytes | mmap.mmap) -> Graph:
    """Inverse of :func:`to_bytes`; arrays are read-only views into ``data``."""
    try:
        check_container(data)
        return _Reader(data).graph()
    except FormatError:
        raise
    except Exception as e:  # a damaged FlatBuffer makes the accessors fail in many ways
        raise FormatError(f"damaged .dk header ({type(e).__name__}: {e}).") from None


def check_container(data: bytes | mmap.mmap) -> None:
    """Identifier, version, sizes and checksums: what can be said without looking inside."""
    if len(data) < 8 or data[4:8] != b"DKIT":
        kind = what_is(data[:512])
        raise FormatError(f"this is {kind}, not a .dk file." if kind else "not a .dk file (the mark DKIT is missing).")
    try:
        head = bytearray(data[: min(len(data), 1 << 16)])
        version, size, crc, offset, weights = (
            struct.unpack_from(fmt, data, _slot(head, i))[0] for i, fmt in enumerate(("<I", "<Q", "<I", "<Q", "<Q"))
        )
    except struct.error:
        raise FormatError("damaged .dk header (root table out of range).") from None
    if version > FORMAT_VERSION:
        raise FormatError(
            f"the file has format version {version}, this Deploykit reads up to {FORMAT_VERSION}. Update deploykit.",
            code="DK-VERSION",
        )
    if offset + weights > len(data) or size > offset:
        raise FormatError(f"truncated at byte {len(data)}: the header promises {offset + weights} bytes.")
    if offset + weights < len(data):
        raise FormatError(f"{len(data) - offset - weights} bytes too many: the header promises {offset + weights}.")
    if any(data[size:offset]):
        raise FormatError("the padding between header and weights is not zero: the file is damaged.")
    header = bytearray(data[:size])
    struct.pack_into("<I", header, _slot(header, 2), 0)
    if zlib.crc32(header) != crc:
        raise FormatError("the header's checksum does not match: the file is damaged.")
    m = fb.Model.GetRootAs(data, 0)
    chunk = m.CrcChunk()
    if weights and (chunk <= 0 or m.WeightsCrcsLength() != -(-weights // chunk)):
        raise FormatError("the list of weight checksums does not fit the weights.")
    view = memoryview(data)
    for i in range(m.WeightsCrcsLength()):
        at = offset + i * chunk
        if zlib.crc32(view[at : min(at + chunk, offset + weights)]) != m.WeightsCrcs(i):
            raise FormatError(
                f"the weights' checksum does not match in bytes {at} to {at + chunk}: the file is damaged."
            )


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8")


class _Reader:
    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.m = fb.Model.GetRootAs(data, 0)
        self.symbols = [Dim.parse(_text(self.m.Symbols(i))) for i in range(self.m.SymbolsLength())]
        self.done: dict[int, Graph] = {}

    def array(self, dtype: int, dims: tuple[int, ...], offset: int, size: int) -> np.ndarray:
        t = dtypes.BY_CODE[dtype]
        count = 1
        for d in dims:
            if d < 0:
                raise FormatError(f"a constant has the negative dim {d}.")
            count *= d
        packed = _packs(t, count) and size == (count + 1) // 2
        if count * t.itemsize != size and not packed or offset + size > self.m.WeightsSize():
            raise FormatError(f"a constant of shape {dims} does not fit its {size} bytes at {offset}.")
        flat = np.frombuffer(self.data, dtype=np.uint8, count=size, offset=self.m.WeightsOffset() + offset)
        if packed:
            flat = _unpacked(flat, t, count)
        return flat.view(t.np).reshape(dims)

    def graph(self) -> Graph:
        m = self.m
        if m.GraphsLength() == 0:
            raise FormatError("the file holds no graph.")
        main = self.graph_def(0)
        for i in range(m.SignaturesLength()):
            s = m.Signatures(i)
            main.signatures[_text(s.Name())] = self.graph_def(s.Graph())
        for i in range(m.VariablesLength()):
            v = m.Variables(i)
            dims = tuple(v.Dims(k) for k in range(v.DimsLength()))
            data = self.array(v.Dtype(), dims, v.Offset(), v.Size()) if v.Size() else None
            zeros = np.zeros(dims, dtypes.BY_CODE[v.Dtype()].np) if data is None else data
            main.variables.append(Variable(_text(v.Name()), zeros))
        for i in range(m.MetadataLength()):
            e = m.Metadata(i)
            main.metadata[_text(e.Key())] = json.loads(_text(e.Value()))
        return main

    def graph_def(self, index: int) -> Graph:
        if index in self.done or not 0 <= index < self.m.GraphsLength():
            raise FormatError(f"graph {index} is used twice or does not exist.")
        d = self.m.Graphs(index)
        g = self.done[index] = Graph(_text(d.Name()))
        named = d.ValueNamesLength() == d.NValues()
        values: dict[int, Value] = {}

        def define(i: int, **kw: Any) -> Value:
            if i in values or not 0 <= i < d.NValues():
                raise FormatError(f"value {i} is defined twice or out of range.")
            values[i] = Value(_text(d.ValueNames(i)) if named else f"v{i}", **kw)
            return values[i]

        for k in range(d.InputsLength()):
            x = d.Inputs(k)
            dims = tuple(x.Dims(j) for j in range(x.DimsLength()))
            shape = None if x.NoRank() else tuple(v if v >= 0 else self.symbols[-1 - v] for v in dims)
            v = define(x.Value(), dtype=dtypes.BY_CODE[x.Dtype()], shape=shape)
            v.name = _text(x.Name())
            g.inputs.append(v)
        for k in range(d.ConstantsLength()):
            c = d.Constants(k)
            dims = tuple(c.Dims(j) for j in range(c.DimsLength()))
            define(c.Value(), data=self.array(c.Dtype(), dims, c.Offset(), c.Size()))
        for k in range(d.NodesLength()):
            g.nodes.append(self.node(d.Nodes(k), index, values, define))
        g.outputs = [values[d.Outputs(k)] for k in range(d.OutputsLength())]
        g.output_names = [_text(d.OutputNames(k)) for k in range(d.OutputNamesLength())]
        for k in range(d.QuantsLength()):
            q = d.Quants(k)
            scale = np.array([q.Scale(j) for j in range(q.ScaleLength())], np.float32)
            zero = np.array([q.ZeroPoint(j) for j in range(q.ZeroPointLength())], np.int32)
            values[q.Value()].quant = QuantParams(scale, zero, None if q.Axis() < 0 else q.Axis())
        return g

    def node(self, n: Any, owner: int, values: dict[int, Value], define: Any) -> Node:
        from deploykit.ops.core import BY_OPCODE

        op = BY_OPCODE.get(n.Op())
        if op is None:
            raise FormatError(
                f"op number {n.Op()} is not known here: the file is newer. Update deploykit.", code="DK-VERSION"
            )
        attrs = {}
        specs = list(op.attrs.values())
        for k in range(n.AttrsLength()):
            a = n.Attrs(k)
            if a.Id() >= len(specs):
                raise FormatError(f"op {op.name} has no attr number {a.Id()}.")
            attrs[specs[a.Id()].name] = self.attr(op, specs[a.Id()], a, owner)
        ins = [n.Inputs(k) for k in range(n.InputsLength())]
        outs = [n.Outputs(k) for k in range(n.OutputsLength())]
        inputs = [None if i == NO_VALUE else values[i] for i in ins]
        outputs = [None if i == NO_VALUE else define(i) for i in outs]
        return Node(op.name, inputs, outputs, attrs, _text(n.Name()))

    def attr(self, op: Any, spec: Any, a: Any, owner: int) -> Any:
        from dataclasses import replace

        from deploykit.ops.contract import dtype_named, loaded

        match spec.kind:
            case "float":
                return a.F()
            case "ints":
                return tuple(a.Ints(k) for k in range(a.IntsLength()))
            case "floats":
                return tuple(a.Floats(k) for k in range(a.FloatsLength()))
            case "graph":
                if a.I() <= owner:
                    raise FormatError(
                        f"op {op.name}: its body is graph {a.I()}, which does not come after graph {owner}."
                    )
                return self.graph_def(a.I())
            case "str" if not dtype_named(op, spec):
                return _text(a.S())
        return loaded(replace(spec, kind="dtype") if dtype_named(op, spec) else spec, a.I())
