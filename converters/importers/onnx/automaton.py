"""Regular expressions as automata: a table that text is walked through, one letter per step.

The syntax is RE2's as far as Python's own parser reads it the same way.  Letters fall into classes that no set of the
pattern tells apart; class 0 is the zero behind the end of a string, which changes nothing.
"""

from __future__ import annotations

import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np

from deploykit.errors import FormatError, UnsupportedError

Letters = tuple[tuple[int, int], ...]  # ranges, ends included
LAST = 0x10FFFF
STATES = 2000  # no larger automaton is built: {n} multiplies
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_CATEGORIES = {"DIGIT": ((48, 57),), "WORD": _WORD, "SPACE": ((9, 10), (12, 13), (32, 32))}
_OTHERS = re.compile(r"\[:|\\[pPQCzZuUN]|\(\?P?[=>#(]|\(\?[aLux]")  # what RE2 reads otherwise, or not at all


def _others(letters: Letters) -> Letters:
    """Every letter but these."""
    out, at = [], 1
    for lo, hi in sorted(letters):
        if lo > at:
            out.append((at, lo - 1))
        at = max(at, hi + 1)
    return (*out, (at, LAST))


def _either(letters: Letters) -> Letters:
    """With both cases of ASCII letters."""
    out = list(letters)
    for lo, hi in letters:
        for base, by in ((65, 32), (97, -32)):
            a, b = max(lo, base), min(hi, base + 25)
            if a <= b:
                out.append((a + by, b + by))
    if any(hi > 127 for _, hi in letters):
        raise UnsupportedError("(?i) over letters beyond ASCII; write both cases into the pattern")
    return tuple(out)


class _Steps:
    """States and their edges (what, target): a set of letters, a condition by name, or nothing."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[Any, int]]] = []

    def state(self) -> int:
        if len(self.edges) >= STATES:
            raise UnsupportedError(f"a pattern of more than {STATES} states")
        self.edges.append([])
        return len(self.edges) - 1

    def edge(self, start: int, what: Any, end: int | None = None) -> int:
        end = self.state() if end is None else end
        self.edges[start].append((what, end))
        return end

    def add(self, items: Any, at: int, flags: int) -> int:
        """Read these items from state ``at`` on; the state behind them."""
        for kind, v in items:
            at = self._item(str(kind), v, at, flags)
        return at

    def _item(self, kind: str, v: Any, at: int, flags: int) -> int:
        if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self.edge(at, _letters(kind, v, flags))
        if kind == "AT":
            if flags & re.M:
                raise UnsupportedError("(?m)")
            return self.edge(at, str(v).removesuffix("_STRING"))
        if kind == "SUBPATTERN":
            _, more, less, items = v
            return self.add(items, at, (flags | more) & ~less)
        if kind == "BRANCH":
            end = self.state()
            for items in v[1]:
                self.edge(self.add(items, at, flags), None, end)
            return end
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, items = v
            for _ in range(least):
                at = self.add(items, at, flags)
            if most == _parser.MAXREPEAT:
                again = self.edge(at, None)
                self.edge(self.add(items, again, flags), None, again)
                return again
            end = self.edge(at, None)
            for _ in range(most - least):
                at = self.add(items, at, flags)
                self.edge(at, None, end)
            return end
        raise UnsupportedError(f"{kind.lower()} in a pattern")


def _letters(kind: str, v: Any, flags: int) -> Letters:
    if kind == "ANY":
        return _others(() if flags & re.S else ((10, 10),))
    minus = kind == "NOT_LITERAL"
    out: list[tuple[int, int]] = []
    for k, x in [("LITERAL", v)] if kind != "IN" else v:
        name = str(k)
        if name == "NEGATE":
            minus = True
        elif name == "CATEGORY":
            what = str(x).removeprefix("CATEGORY_")
            found = _CATEGORIES[what.removeprefix("NOT_")]
            out += _others(found) if what.startswith("NOT_") else found
        else:
            out.append((x, x) if name == "LITERAL" else x)
    letters = _either(tuple(out)) if flags & re.I else tuple(out)
    return _others(letters) if minus else letters


def _holds(condition: str, before: bool | None, after: bool | None) -> bool:
    """Between two letters that are of words or not; None is no letter."""
    if condition == "AT_BEGINNING":
        return before is None
    if condition == "AT_END":
        return after is None
    return (bool(before) != bool(after)) == (condition == "AT_BOUNDARY")


def compile(pattern: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first letters of the classes 1, 2 ..., next state [state, class], whether a state accepts); state 0 is the first.

    Raises UnsupportedError for what is no regular expression of RE2's, FormatError where it is none at all.
    """
    odd = _OTHERS.search(pattern)
    if odd:
        raise UnsupportedError(f"{odd[0]!r} in the pattern {pattern!r}")
    try:
        tree = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as e:
        raise FormatError(f"{pattern!r} is no regular expression: {e}") from None
    steps = _Steps()
    start = steps.state()
    end = steps.add(tree, start, tree.state.flags)
    sets = [w for edges in steps.edges for w, _ in edges if isinstance(w, tuple)] + [_WORD]
    cuts = sorted({1, *(x for s in sets for lo, hi in s for x in (lo, hi + 1) if x <= LAST)})

    def within(letters: Letters) -> list[bool]:
        return [any(lo <= x <= hi for lo, hi in letters) for x in cuts]

    inside = {s: within(s) for s in sets}

    def reach(states: frozenset[int], before: bool | None, after: bool | None) -> set[int]:
        seen, todo = set(states), list(states)
        while todo:
            for what, to in steps.edges[todo.pop()]:
                if to not in seen and (what is None or (isinstance(what, str) and _holds(what, before, after))):
                    seen.add(to)
                    todo.append(to)
        return seen

    first = (frozenset([start]), None)
    number: dict[Any, int] = {first: 0}
    rows, accepts, todo = [], [], [first]
    for states, before in todo:
        row = [number[states, before]]
        for k, word in enumerate(inside[_WORD]):
            from_ = reach(states, before, word)
            to = frozenset(t for s in from_ for w, t in steps.edges[s] if isinstance(w, tuple) and inside[w][k])
            key = (to, word if to else False)
            if key not in number:
                if len(number) >= STATES:
                    raise UnsupportedError(f"the pattern {pattern!r} needs more than {STATES} states")
                number[key] = len(number)
                todo.append(key)
            row.append(number[key])
        rows.append(row)
        accepts.append(end in reach(states, before, None))
    return np.array(cuts, np.int32), np.array(rows, np.int32), np.array(accepts)


def finder(word: str) -> tuple[np.ndarray, np.ndarray]:
    """(classes, table) as :func:`compile`'s, of an automaton that is in its last state behind each place of ``word``, read
    from the left, none over another."""
    letters = sorted(set(word))
    cuts = sorted({1, *(ord(ch) + k for ch in letters for k in (0, 1))})
    rows = []
    for s in range(len(word) + 1):
        so_far = word[: s % len(word)]
        row = [0]
        for x in cuts:
            text = so_far + chr(x)
            row.append(next(k for k in range(len(text), -1, -1) if word[:k] == text[len(text) - k :]))
        rows.append(row)
    return np.array(cuts, np.int32), np.array(rows, np.int32)
