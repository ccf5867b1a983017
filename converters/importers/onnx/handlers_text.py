"""Ops on strings: tensors of code points with one more dim, rows filled up with zeros (see :mod:`deploykit.strings`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx import automaton
from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.converters.importers.onnx.handlers_control import run_loop
from deploykit.converters.ir.text import Text, any_of, concat, equal, find, length, padded, to_left, words
from deploykit.dtypes import int32, uint8
from deploykit.graph import Value
from deploykit.strings import encode

CASED = 0x2000  # letters below this have their case changed: Latin, Greek, Cyrillic, Armenian, Georgian and older ones


def _cased(c: Call, x: Value, case: str) -> Value:
    change = str.lower if case == "LOWER" else str.upper
    table = np.arange(CASED, dtype=np.int32)
    for i in range(CASED):
        to = change(chr(i))
        if len(to) == 1 and ord(to) < 0x110000:
            table[i] = ord(to)
    small = c.op("less", x, c.scalar(CASED, int32))
    at = c.op("where", small, x, c.scalar(0, int32))
    return c.op("where", small, c.op("gather", c.const(table), at, axis=0), x)


@handles("Equal")
def equal_(c: Call) -> Value:
    return equal(c, c.text(0), c.text(1)) if c.is_text(0) else c.op("equal", c.x(0), c.x(1))


@handles("StringNormalizer", since=10)
def string_normalizer(c: Call) -> Text:
    """Without stop words, in one case; [n] or [1, n]; an empty string where nothing is left."""
    x = c.text(0)
    whole = len(c.shape(x)) == 3
    if whole:
        x = c.op("squeeze", x, c.i64(0))
    stop, case = c.attr("stopwords", []), c.attr("case_change_action", "NONE")
    if stop:
        exact = bool(c.attr("is_case_sensitive", 0))
        mine = x if exact else _cased(c, x, "LOWER")
        theirs = words(c, stop if exact else [w.lower() for w in stop])
        drop = any_of(c, equal(c, c.op("unsqueeze", mine, c.i64(1)), theirs))
        none = c.op("reduce_min", drop, c.i64(0), keepdims=True)
        pads = c.i64(0, 0, 1, 0)
        x = c.op("pad", x, pads, c.scalar(0, int32))
        x = c.op("compress", x, c.op("concat", c.op("logical_not", drop), none, axis=0), axis=0)
    if case != "NONE":
        x = _cased(c, x, case)
    return Text(c.op("unsqueeze", x, c.i64(0)) if whole else x)


@handles("StringConcat", since=20)
def string_concat(c: Call) -> Text:
    return Text(concat(c, c.text(0), c.text(1)))


def lookup(c: Call, keys: Any, values: Any, default: Any) -> Any:
    """LabelEncoder."""
    at, found = find(c, c.text(0) if keys.dtype.kind in "OU" else c.x(), keys)
    text = values.dtype.kind in "OU"
    if text:
        table = encode([*values, default])
        values, default = table[:-1], table[-1]
        found = c.op("unsqueeze", found, c.i64(-1))
    y = c.op("where", found, c.op("gather", c.const(values), at, axis=0), c.const(default))
    return Text(y) if text else y


def one_hot(c: Call, categories: list[str]) -> Value:
    """Whether each string is each of the categories."""
    return equal(c, c.op("unsqueeze", c.text(0), c.i64(-2)), words(c, categories))


# ---- automata
def _walk(c: Call, codes: Value, cuts: np.ndarray, table: np.ndarray) -> tuple[Value, Value]:
    """States of an automaton over strings [n, letters]: the last ones [n], and those behind each letter [letters, n]."""
    classes = c.cast(c.op("greater_equal", c.op("unsqueeze", codes, c.i64(-1)), c.const(cuts)), int32)
    classes = c.op("reduce_sum", classes, c.i64(-1), keepdims=False)
    width = c.scalar(table.shape[1], int32)

    def step(body: Any, scope: Any, carried: list[Value]) -> list[Value]:
        at, going = body.graph.inputs[:2]
        now = body.emit("gather", [body.capture(classes), at], {"axis": 1}, "class")
        now = body.emit("add", [body.emit("mul", [carried[0], body.capture(width)], {}, "row"), now], {}, "place")
        to = body.emit("gather", [body.capture(next_), now], {"axis": 0}, "state")
        return [going, to, body.emit("identity", [to], {}, "states")]

    next_ = c.const(table.reshape(-1))
    start = c.op("fill", c.dims(codes, 0, 1), c.scalar(0, int32))
    trip = c.op("reshape", length(c, codes), c.i64())
    names = [f"{c.name}/{n}" for n in ("letter", "going", "state")]
    last, states = run_loop(c, "walk", trip, None, [start], names, step, 2)
    return last, states


def _rows(c: Call) -> tuple[Value, Value]:
    """Input 0, strings, as [n, letters] with a zero behind the longest; the shape it has."""
    x = c.text(0)
    shape = c.dims(x, 0, c.rank(x) - 1)
    x = padded(c, x, c.i64(1))
    count = c.op("reduce_prod", shape, c.i64(0), keepdims=True)
    return c.op("reshape", x, c.op("concat", count, length(c, x), axis=0), allow_zero=True), shape


@handles("RegexFullMatch", since=20)
def regex_full_match(c: Call) -> Value:
    cuts, table, accepts = automaton.compile(c.attr("pattern", ""))
    x, shape = _rows(c)
    last, _ = _walk(c, x, cuts, table)
    return c.op("reshape", c.op("gather", c.const(accepts), last, axis=0), shape, allow_zero=True)


_SPACES = np.array([ch for ch in range(0x3001) if chr(ch).isspace()], np.int32)


@handles("StringSplit", since=20)
def string_split(c: Call) -> list[Any]:
    """Pieces [..., most of them] filled up with empty strings, and how many there are, as Python's ``str.split`` has it."""
    x, shape = _rows(c)
    zero, one, last = c.scalar(0, int32), c.scalar(1, int32), c.i64(-1)
    by, most = c.attr("delimiter", ""), c.attr("maxsplit")
    limit = None if most is None or most < 0 else c.scalar(most, int32)
    letter = c.op("not_equal", x, zero)
    if by:  # piece k lies between the k-th end of a delimiter and the next one's start
        if len(by) == 1:
            hit = c.op("equal", x, c.scalar(ord(by), int32))
        else:
            states = c.op("transpose", _walk(c, x, *automaton.finder(by))[1], perm=(1, 0))
            hit = c.op("equal", states, c.scalar(len(by), int32))
        piece = c.op("cumsum", c.cast(hit, int32), c.const(np.int64(-1)))
        if limit is not None:
            hit = c.op("logical_and", hit, c.op("less_equal", piece, limit))
            piece = c.op("minimum", piece, limit)
        covered = ends = c.cast(hit, int32)
        for k in range(1, len(by)):
            moved = c.op("slice", ends, c.i64(k), c.i64(1 << 31), c.i64(1))
            covered = c.op("maximum", covered, c.op("pad", moved, c.i64(0, 0, 0, k), zero))
        keep = c.op("logical_and", letter, c.op("equal", covered, zero))
        count = c.op("add", c.op("reduce_max", piece, last, keepdims=False), one)
    else:
        blank = any_of(c, c.op("equal", c.op("unsqueeze", x, last), c.const(_SPACES)))
        keep = c.op("logical_and", letter, c.op("logical_not", blank))
        here = c.cast(keep, int32)
        before = c.op("pad", c.op("slice", here, c.i64(0), c.i64(-1), c.i64(1)), c.i64(0, 1, 0, 0), zero)
        started = c.op("cumsum", c.op("maximum", c.op("sub", here, before), zero), c.const(np.int64(-1)))
        count = c.op("reduce_max", started, last, keepdims=False)
        piece = c.op("sub", started, one)
        if limit is not None:  # what follows the last cut keeps its blanks
            keep = c.op("logical_or", keep, c.op("logical_and", letter, c.op("greater", started, limit)))
            piece = c.op("minimum", piece, limit)
            count = c.op("minimum", count, c.op("add", limit, one))
    pieces = c.op("reduce_max", c.op("concat", count, c.const(np.zeros(1, np.int32)), axis=0), c.i64(0), keepdims=False)
    numbers = c.op("unsqueeze", c.op("range", zero, pieces, one), last)
    mine = c.op("equal", c.op("unsqueeze", piece, c.i64(1)), numbers)
    mine = c.op("logical_and", mine, c.op("unsqueeze", keep, c.i64(1)))
    y = c.op("where", mine, c.op("unsqueeze", x, c.i64(1)), zero)
    first = c.op("arg_max", c.cast(mine, uint8), axis=-1, keepdims=True)
    y = to_left(c, y, first)
    whole = c.op("concat", shape, c.dims(y, 1, 3), axis=0)
    return [
        Text(c.op("reshape", y, whole, allow_zero=True)),
        c.op("reshape", c.cast(count, "int64"), shape, allow_zero=True),
    ]
