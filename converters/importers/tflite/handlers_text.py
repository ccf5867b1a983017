"""Strings: lookup tables of them, and n-grams of words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import MISSING, Call, Item, Table, handles
from deploykit.converters.ir.text import Text, any_of, concat, equal, find, length, padded, to_left
from deploykit.dtypes import int32, uint8
from deploykit.errors import FormatError
from deploykit.graph import Value
from deploykit.strings import encode

_SPACES = np.frombuffer(b" \t\n\v\f\r", np.uint8).astype(np.int32)  # those of C
_MOST = 10_000  # forms of n-grams that begin with one word


# ---- ops that take numbers too
MOVING = frozenset("RESHAPE EXPAND_DIMS SQUEEZE GATHER GATHER_ND SLICE STRIDED_SLICE TILE".split())


def moved(c: Call, handler: Callable[[Call], Any]) -> Any:
    """An op that only moves elements, on strings: it moves their numbers, and rows are fetched by these."""
    codes = c.text(0)
    rank = c.rank(codes)
    shape = c.dims(codes, 0, rank - 1)
    rows = c.op("reshape", codes, c.op("concat", c.i64(-1), length(c, codes), axis=0), allow_zero=False)
    count = c.op("reduce_prod", shape, c.i64(0), keepdims=False)
    numbers = c.op("range", c.const(np.int64(0)), count, c.const(np.int64(1)))
    c.replaced[0] = c.op("reshape", numbers, shape, allow_zero=True)
    return Text(c.op("gather", rows, handler(c), axis=0))


def compared(c: Call) -> Value:
    """EQUAL and NOT_EQUAL of strings."""
    y = equal(c, c.text(0), c.text(1))
    return y if c.op_type == "EQUAL" else c.op("logical_not", y)


# ---- tables: constants while importing, by their number
@handles("HASHTABLE")
def hashtable(c: Call) -> Table:
    return c.importer.tables.setdefault(int(c.options("HashtableOptions").table_id), Table())


def _table(c: Call) -> Table:
    t = c.item(0)
    if not isinstance(t, Table):
        raise FormatError("input 0 is no table")
    return t


@handles("HASHTABLE_IMPORT")
def hashtable_import(c: Call) -> list[Item]:
    """The first import counts, and of equal keys the first."""
    t = _table(c)
    if t.keys is None:
        keys, values = c.strings(1, "the keys"), c.strings(2, "the values")
        if keys.shape != values.shape:
            raise FormatError(f"{keys.size} keys and {values.size} values")
        _, first = np.unique(keys.astype("U") if keys.dtype == object else keys, return_index=True)
        first.sort()
        t.keys, t.values = keys.reshape(-1)[first], values.reshape(-1)[first]
    return []


def _filled(c: Call) -> Table | None:
    """The table; None when what fills it failed, perhaps, and was told."""
    t = _table(c)
    if t.keys is not None:
        return t
    if c.importer.problems.found:
        return None
    raise c.unsupported("the table is read, and nothing filled it before with constants (HASHTABLE_IMPORT)")


@handles("HASHTABLE_SIZE")
def hashtable_size(c: Call) -> Item:
    t = _filled(c)
    return MISSING if t is None else c.i64(len(t.keys))  # type: ignore[arg-type]


@handles("HASHTABLE_FIND")
def hashtable_find(c: Call) -> Item:
    t = _filled(c)
    if t is None:
        return MISSING
    assert t.keys is not None and t.values is not None
    text = t.values.dtype == object
    default = c.text(2) if text else c.raw(2)
    at, found = find(c, c.text(1) if t.keys.dtype == object else c.raw(1), t.keys)
    if not text:
        return c.op("where", found, c.op("gather", c.const(t.values), at, axis=0), c.op("reshape", default, c.i64()))
    table = c.const(encode(t.values))
    default = c.op("reshape", default, c.i64(-1))
    wide, long = length(c, table), length(c, default)
    y = padded(c, c.op("gather", table, at, axis=0), long)
    return Text(c.op("where", c.op("unsqueeze", found, c.i64(-1)), y, padded(c, default, wide)))


# ---- n-grams
def _forms(size: int, skip: int, shorter: bool) -> list[tuple[int, ...]]:
    """Distances of the words of an n-gram from its first one, in LiteRT's order: longer ones before what they begin with."""
    out: list[tuple[int, ...]] = []

    def grow(form: tuple[int, ...]) -> None:
        if len(out) > _MOST:
            return
        if len(form) < size:
            for step in range(1, skip + 2):
                grow((*form, form[-1] + step))
        if shorter or len(form) == size:
            out.append(form)

    grow((0,))
    return out


@handles("SKIP_GRAM")
def skip_gram(c: Call) -> Text:
    o = c.options("SkipGramOptions")
    size, skip = int(o.ngram_size), int(o.max_skip_size)
    if not 1 <= size <= 16 or skip < 0:
        raise FormatError(f"n-grams of {size} words that skip {skip}")
    forms = _forms(size, skip, bool(o.include_all_ngrams))
    if len(forms) > _MOST:
        raise c.unsupported(f"n-grams of {size} words that skip {skip} have more than {_MOST} forms")
    # the first string only; blanks part it, a blank at its very beginning does not
    zero, one, last = c.scalar(0, int32), c.scalar(1, int32), c.i64(-1)
    x = padded(c, c.op("slice", _rows(c, c.text(0)), c.i64(0), c.i64(1), c.i64(0)), c.i64(1))  # [1, letters]
    blank = any_of(c, c.op("equal", c.op("unsqueeze", x, last), c.const(_SPACES)))
    inside = c.op("greater", c.op("cumsum", c.op("add", c.op("mul", x, zero), one), c.const(np.int64(-1))), one)
    cut = c.op("logical_and", blank, inside)
    piece = c.op("cumsum", c.cast(cut, int32), c.const(np.int64(-1)))
    pieces = c.op("add", c.op("reduce_max", piece, c.i64(0, 1), keepdims=False), one)
    letter = c.op("logical_and", c.op("not_equal", x, zero), c.op("logical_not", cut))
    numbers = c.op("unsqueeze", c.op("range", zero, pieces, one), last)
    mine = c.op("logical_and", c.op("equal", piece, numbers), letter)  # [pieces, letters]
    first = c.op("arg_max", c.cast(mine, uint8), axis=-1, keepdims=True)
    # a first piece that begins with a blank is dropped where another follows
    led = c.op("logical_and", c.op("slice", blank, c.i64(0), c.i64(1), last), c.op("greater", pieces, one))
    dropped = c.op("logical_and", c.op("equal", numbers, zero), led)
    keep = c.op("logical_and", any_of(c, mine), c.op("logical_not", c.op("squeeze", dropped, last)))
    word = c.op("compress", to_left(c, c.op("where", mine, x, zero), first), keep, axis=0)  # [words, letters]
    # places of all n-grams' words [words, forms, size]; one behind the last for those that a shorter form lacks
    count = c.op("reduce_sum", c.cast(keep, "int64"), c.i64(0), keepdims=False)
    far = np.array([[*f, *[-1] * (size - len(f))] for f in forms], np.int64)
    start = c.op("range", c.const(np.int64(0)), count, c.const(np.int64(1)))
    at = c.op("add", c.op("reshape", start, c.i64(-1, 1, 1)), c.const(far))
    at = c.op("where", c.const(far < 0), count, at)
    ends = c.op("add", c.op("unsqueeze", start, last), c.const(far.max(-1)))
    at = c.op("reshape", at, c.i64(-1, size))
    enough = c.op("greater_equal", count, c.const(np.int64(size)))  # else LiteRT gives nothing, shorter ones neither
    there = c.op("logical_and", c.op("less", ends, count), enough)
    at = c.op("compress", at, c.op("reshape", there, c.i64(-1)), axis=0)
    word = c.op("pad", word, c.i64(0, 0, 1, 0), zero)  # no word
    spaced = concat(c, c.op("where", any_of(c, c.op("not_equal", word, zero), True), c.const(_SPACES[:1]), zero), word)

    def nth(k: int, table: Value) -> Value:
        return c.op(
            "gather", table, c.op("squeeze", c.op("slice", at, c.i64(k), c.i64(k + 1), c.i64(1)), c.i64(1)), axis=0
        )

    y = nth(0, word)
    for k in range(1, size):
        y = concat(c, y, nth(k, spaced))
    return Text(y)


def _rows(c: Call, x: Value) -> Value:
    return c.op("reshape", x, c.op("concat", c.i64(-1), length(c, x), axis=0))
