"""Strings (tables, n-grams), readings of bytes, hashes and generators of bits, against LiteRT to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.exporters.tflite.writer import Table, options, pack
from deploykit.converters.importers.tflite import import_tflite
from deploykit.converters.ir.tflite_schema import BUILTINS, TYPES
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import LiteRtRunner
from tests.support.peers import need
from tests.support.tflite_ops import Case, model

need("ai_edge_litert")

_TYPES = {t.lower(): i for i, t in enumerate(TYPES)}
Tensor = tuple[str, str, list[int], Any]  # name, type, shape, data or None
Op = tuple[str, list[int], list[int], str, dict[str, Any]]  # code, inputs, outputs, kind of options, options


def packed(text: np.ndarray) -> np.ndarray:
    """Constant strings as TFLite stores them."""
    raw = [str(x).encode() for x in text.ravel()]
    at = np.cumsum([4 * (len(raw) + 2), *(len(b) for b in raw)]).astype("<i4")
    return np.frombuffer(np.int32(len(raw)).tobytes() + at.tobytes() + b"".join(raw), np.uint8)


def file(*graphs: tuple[list[Op], list[Tensor], list[int], list[int]]) -> bytes:
    """A model of subgraphs: operators, tensors, numbers of inputs and outputs."""
    buffers, codes, rows = [Table("Buffer")], [], []
    for k, (ops, tensors, ins, outs) in enumerate(graphs):
        made = []
        for name, kind, shape, data in tensors:
            at = 0
            if data is not None:
                raw = (
                    data
                    if isinstance(data, bytes)
                    else packed(data)
                    if kind == "string"
                    else np.asarray(data).tobytes()
                )
                buffers.append(Table("Buffer", data=np.frombuffer(raw, np.uint8) if isinstance(raw, bytes) else raw))
                at = len(buffers) - 1
            made.append(Table("Tensor", name=name, type=_TYPES[kind], shape=shape, buffer=at))
        operators = []
        for code, i, o, kind, fields in ops:
            codes += [] if code in codes else [code]
            more = options(kind, **fields) if kind else {}
            operators.append(Table("Operator", opcode_index=codes.index(code), inputs=i, outputs=o, **more))
        rows.append(Table("SubGraph", tensors=made, inputs=ins, outputs=outs, operators=operators, name=f"graph{k}"))
    known = [BUILTINS.index(c) for c in codes]
    entries = [Table("OperatorCode", deprecated_builtin_code=min(c, 127), builtin_code=c, version=1) for c in known]
    return pack(Table("Model", version=3, operator_codes=entries, subgraphs=rows, buffers=buffers, description="text"))


def agree(data: bytes, feeds: dict[str, np.ndarray]) -> None:
    want = LiteRtRunner(data, 1, optimize=False).run(feeds)
    got = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph)).run(feeds)
    assert list(got) == list(want)
    for k, w in want.items():
        assert (got[k].dtype, got[k].shape) == (w.dtype, w.shape)
        assert np.array_equal(got[k], w), k


# ---- tables
def table_model(
    keys: np.ndarray, values: np.ndarray, shape: list[int], default: Any, once: bool = True, raw: bytes = b""
) -> bytes:
    """A table filled in a subgraph that CALL_ONCE calls, and read; ``raw``: the keys' bytes instead of theirs."""
    key, value = ("string" if a.dtype == object else "int64" for a in (keys, values))
    how = dict(table_id=7, key_dtype=_TYPES[key], value_dtype=_TYPES[value])
    other = np.array([default], object) if value == "string" else np.array([default], np.int64)
    main: list[Tensor] = [
        ("h", "resource", [1], None),
        ("q", key, shape, None),
        ("d", value, [1], other),
        ("y", value, shape, None),
        ("n", "int64", [1], None),
    ]
    filled: list[Tensor] = [
        ("h", "resource", [1], None),
        ("k", key, [len(keys)], raw or keys),
        ("v", value, [len(values)], values),
    ]
    ops: list[Op] = [("CALL_ONCE", [], [], "CallOnceOptions", dict(init_subgraph_index=1))] if once else []
    ops += [
        ("HASHTABLE", [], [0], "HashtableOptions", how),
        ("HASHTABLE_FIND", [0, 1, 2], [3], "", {}),
        ("HASHTABLE_SIZE", [0], [4], "", {}),
    ]
    fill: list[Op] = [("HASHTABLE", [], [0], "HashtableOptions", how), ("HASHTABLE_IMPORT", [0, 1, 2], [], "", {})]
    return file((ops, main, [1], [3, 4]), (fill, filled, [], []))


WORDS = np.array(["hello", "wörld", "a", "", "hello", "longer word"], object)


def test_strings_to_integers() -> None:
    data = table_model(WORDS, np.arange(6) * 10, [5], -1)
    agree(data, {"q": np.array(["a", "b", "hello", "", "longer wordX"], object)})
    agree(data, {"q": np.array(["x" * 90, "wörld", "a ", " a", "A"], object)})


def test_integers_to_strings() -> None:
    values = np.array(["five", "minus", "", "other"], object)
    data = table_model(np.array([5, -7, 9, 5]), values, [2, 3], "none at all, which is longer")
    agree(data, {"q": np.array([[5, 6, -7], [9, 2**40, 0]])})


@pytest.mark.parametrize("count", [1, 64, 65, 3000])
def test_many_keys(count: int) -> None:
    r = np.random.default_rng(count)
    words = np.array([f"w{i * 7919 % 100003}" for i in range(count)], object)
    numbers = r.integers(-(2**60), 2**60, count)
    some = r.integers(0, count, 40)
    agree(table_model(words, numbers, [44], -1), {"q": np.array([*words[some], "w", "", "w0w", "w" * 30], object)})
    agree(table_model(numbers, words, [44], "no"), {"q": np.array([*numbers[some], 0, 1, -1, 2**62])})


def test_verification_runs_text_with_real_inputs() -> None:
    data = table_model(WORDS, np.arange(6) * 10, [2], -1)
    report = dk.convert(data, inputs=[{"q": np.array(["a", "wörld"], object)}])
    assert report.verification is not None and report.verification["status"] == "passed", report.verification
    assert report.graph.metadata["strings"] == {"inputs": ["q"], "outputs": []}


def test_a_table_that_nothing_fills_is_named() -> None:
    with pytest.raises(UnsupportedError, match="the table is read, and nothing filled it before"):
        import_tflite(table_model(WORDS, np.arange(6), [2], -1, once=False))


@pytest.mark.parametrize("cut", [1, 2, 8, 12, 40, -1])
def test_damaged_strings_are_refused(cut: int) -> None:
    with pytest.raises(FormatError, match="the strings of constant 'k'"):
        import_tflite(table_model(WORDS, np.arange(6), [2], -1, raw=packed(WORDS).tobytes()[:cut]))


@pytest.mark.parametrize("at, number", [(0, 5), (0, 7), (0, -1), (4, 0), (8, -1), (8, 2**31 - 1), (28, 2**30)])
def test_numbers_that_lie_are_refused(at: int, number: int) -> None:
    raw = bytearray(packed(WORDS).tobytes())
    raw[at : at + 4] = np.int32(number).tobytes()
    with pytest.raises(FormatError, match="the strings of constant 'k'"):
        import_tflite(table_model(WORDS, np.arange(6), [2], -1, raw=bytes(raw)))


# ---- ops that take numbers too
GRID = np.array([["a", "wörld", ""], ["b", "longer word", "x y"]], object)


@pytest.mark.parametrize(
    "op, kind, fields, more, shape",
    [
        ("RESHAPE", "ReshapeOptions", dict(new_shape=[3, 2]), [np.int32([3, 2])], [3, 2]),
        ("EXPAND_DIMS", "ExpandDimsOptions", {}, [np.int32(1)], [2, 1, 3]),
        ("GATHER", "GatherOptions", dict(axis=0), [np.int32([1, 0, 1])], [3, 3]),
        ("SLICE", "SliceOptions", {}, [np.int32([0, 1]), np.int32([2, 2])], [2, 2]),
        ("STRIDED_SLICE", "StridedSliceOptions", {}, [np.int32(v) for v in ([1, 0], [2, 3], [1, 2])], [1, 2]),
        ("TILE", "TileOptions", {}, [np.int32([2, 1])], [4, 3]),
    ],
)
def test_strings_are_moved(op: str, kind: str, fields: Any, more: list[Any], shape: list[int]) -> None:
    given = GRID.ravel() if op == "GATHER" else GRID  # LiteRT: of one dim
    tensors: list[Tensor] = [("x", "string", list(given.shape), None)]
    tensors += [(f"c{i}", "int32", list(a.shape), a) for i, a in enumerate(more)]
    tensors += [("y", "string", shape, None)]
    ins, out = [*range(len(more) + 1)], len(more) + 1
    agree(file(([(op, ins, [out], kind, fields)], tensors, [0], [out])), {"x": given})


@pytest.mark.parametrize("op", ["EQUAL", "NOT_EQUAL"])
def test_strings_are_compared(op: str) -> None:
    tensors: list[Tensor] = [(n, "string", [2, 3], None) for n in "ab"]
    data = file(([(op, [0, 1], [2], "", {})], [*tensors, ("y", "bool", [2, 3], None)], [0, 1], [2]))
    agree(data, {"a": GRID, "b": np.array([["a", "World", ""], ["", "longer", "x y"]], object)})


# ---- n-grams
SENTENCES = [
    "the quick brown fox jumps",
    "one",
    " lead space",
    " lead",
    "a  b   c ",
    " ",
    "tab\tand\nline end",
    "x y",
    "ä ö ü",
]


@pytest.mark.parametrize(
    "size, skip, shorter", [(1, 0, False), (2, 0, False), (2, 1, True), (3, 2, True), (3, 2, False), (4, 1, True)]
)
def test_skip_grams(size: int, skip: int, shorter: bool) -> None:
    how = dict(ngram_size=size, max_skip_size=skip, include_all_ngrams=shorter)
    tensors: list[Tensor] = [("x", "string", [1], None), ("y", "string", [1], None)]
    data = file(([("SKIP_GRAM", [0], [1], "SkipGramOptions", how)], tensors, [0], [1]))
    for text in SENTENCES:
        agree(data, {"x": np.array([text], object)})


# ---- bits
@pytest.mark.parametrize("source", ["uint8", "int16", "int32", "float32", "int64", "float64"])
def test_bitcast_between_widths(source: str) -> None:
    r = np.random.default_rng(3)
    for target in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64"):
        a, b = np.dtype(source).itemsize, np.dtype(target).itemsize
        x = r.integers(0, 100, (3, max(b // a, 1))).astype(source)
        case = Case("BITCAST", [x[:, 0] if a == b else x], outputs=(target,))
        agree(model(case), case.feeds())


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_lsh_projection(kind: int, dtype: str) -> None:
    """Rows of every class of lengths of the hash."""
    r = np.random.default_rng(kind)
    for n in (0, 1, 3, 4, 5, 11, 13, 28, 29, 60, 61, 70, 124, 130):
        x, seeds = (r.standard_normal((5, n)) * 50).astype(dtype), r.standard_normal((4, 6)).astype(np.float32)
        inputs: list[Any] = [seeds, x, *([r.random(5).astype(np.float32)] if n % 2 else [])]
        case = Case("LSH_PROJECTION", inputs, (0,), "LSHProjectionOptions", {"type": kind}, outputs=("int32",))
        agree(model(case), case.feeds())


B = 2**64 - 1
STATES = [(0, s) for s in ([1, 2], [B, 2**32 - 2], [12345678912345, B - 1], [3, 4, 5], [B, B, 7])]
STATES += [(k, s) for k in (1, 2) for s in ([7, 8], [B, 2**32 - 2])]


@pytest.mark.parametrize("kind, state", STATES)
def test_bit_generators(kind: int, state: list[int]) -> None:
    """Philox and Threefry, counters that run over included."""
    op: Op = ("STABLEHLO_RNG_BIT_GENERATOR", [0], [1, 2], "StablehloRngBitGeneratorOptions", dict(algorithm=kind))
    for dtype in ("int32", "uint32", "int64", "uint64"):
        for shape in ([3, 5], [1], [4, 4, 2]):
            size = [len(state)]
            tensors: list[Tensor] = [
                ("s", "uint64", size, None),
                ("k", "uint64", size, None),
                ("y", dtype, shape, None),
            ]
            agree(file(([op], tensors, [0], [1, 2])), {"s": np.array(state, np.uint64)})


def test_what_does_not_fit_is_said() -> None:
    one = np.ones((2, 3), np.float32)
    with pytest.raises(UnsupportedError, match="float32 read as bool"):
        import_tflite(model(Case("BITCAST", [one], outputs=("bool",))))
    with pytest.raises(FormatError, match="does not hold one float64"):
        import_tflite(model(Case("BITCAST", [one], outputs=("float64",))))
    how = dict(ngram_size=12, max_skip_size=9, include_all_ngrams=True)
    tensors: list[Tensor] = [("x", "string", [1], None), ("y", "string", [1], None)]
    with pytest.raises(UnsupportedError, match="more than 10000 forms"):
        import_tflite(file(([("SKIP_GRAM", [0], [1], "SkipGramOptions", how)], tensors, [0], [1])))
