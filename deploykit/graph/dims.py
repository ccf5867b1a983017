"""Symbolic dims: small integer expressions over named, unknown, non-negative sizes.

An expression is a polynomial with integer coefficients over *atoms*; an atom is a name ("batch") or an opaque term that
stays unexpanded: floor division, mod, min, max.  Polynomials are kept in canonical form, so two dims that are equal as
polynomials compare equal; that is what passes need to prove a reshape or broadcast harmless.  Nothing here solves.

>>> n = Dim.symbol("n")
>>> (n + 1) * 2 - 2 == n * 2
True
>>> (n * 4) // 4
n
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

_Atom = str | tuple  # a name, or (op, left DimLike, right DimLike)
_Mono = tuple[tuple[_Atom, int], ...]  # sorted ((atom, power), ...)

_fresh = itertools.count()


def _key(atom: _Atom) -> str:
    return atom if isinstance(atom, str) else _show(atom)


def _show(atom: _Atom) -> str:
    if isinstance(atom, str):
        return atom
    op, a, b = atom
    if op in ("min", "max"):
        return f"{op}({a}, {b})"
    return f"({a} {op} {b})"


class Dim:
    """A canonical polynomial.  Build with :meth:`symbol`, :meth:`parse` and arithmetic; results that are plain numbers
    come back as ``int``, so ``int | Dim`` is the type of one entry of a shape."""

    __slots__ = ("_hash", "terms")
    terms: dict[_Mono, int]

    def __init__(self, terms: Mapping[_Mono, int]) -> None:
        self.terms = {m: c for m, c in sorted(terms.items(), key=lambda t: str(t[0])) if c}
        self._hash = hash(tuple(self.terms.items()))

    @staticmethod
    def symbol(name: str) -> Dim:
        """A named unknown size."""
        return Dim({((name, 1),): 1})

    @staticmethod
    def fresh(prefix: str = "u") -> Dim:
        """A new unknown that equals nothing but itself; printed as ``?u0``."""
        return Dim.symbol(f"?{prefix}{next(_fresh)}")

    @staticmethod
    def parse(text: str) -> int | Dim:
        """Read what ``str`` prints: names, integers, + - * // % min max and brackets.

        >>> Dim.parse("(n + 3) // 2")
        (((n + 1) // 2) + 1)
        """
        return _Parser(text).parse()

    @property
    def names(self) -> set[str]:
        """Names of all unknowns in the expression."""
        out: set[str] = set()
        for mono in self.terms:
            for atom, _ in mono:
                if isinstance(atom, str):
                    out.add(atom)
                else:
                    for x in atom[1:]:
                        if isinstance(x, Dim):
                            out |= x.names
        return out

    def subs(self, env: Mapping[str, int | Dim]) -> int | Dim:
        """Replace names by values.

        >>> Dim.parse("n * 2 + 1").subs({"n": 3})
        7
        """
        total: int | Dim = 0
        for mono, c in self.terms.items():
            part: int | Dim = c
            for atom, power in mono:
                if isinstance(atom, str):
                    v: int | Dim = env.get(atom, Dim.symbol(atom))
                else:
                    a, b = (x.subs(env) if isinstance(x, Dim) else x for x in atom[1:])
                    v = _binary(atom[0], a, b)
                for _ in range(power):
                    part = part * v
            total = total + part
        return total

    def _poly(self, other: int | Dim) -> dict[_Mono, int] | None:
        if isinstance(other, Dim):
            return other.terms
        if isinstance(other, int) or hasattr(other, "__index__"):
            v = int(other)
            return {(): v} if v else {}
        return None

    def __add__(self, other):
        o = self._poly(other)
        if o is None:
            return NotImplemented
        t = dict(self.terms)
        for m, c in o.items():
            t[m] = t.get(m, 0) + c
        return _norm(t)

    __radd__ = __add__

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return NotImplemented if self._poly(other) is None else self + other * -1

    def __rsub__(self, other):
        return self * -1 + other

    def __mul__(self, other):
        o = self._poly(other)
        if o is None:
            return NotImplemented
        t: dict[_Mono, int] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in o.items():
                powers: dict[_Atom, int] = {}
                for atom, p in (*m1, *m2):
                    powers[atom] = powers.get(atom, 0) + p
                m = tuple(sorted(powers.items(), key=lambda t: _key(t[0])))
                t[m] = t.get(m, 0) + c1 * c2
        return _norm(t)

    __rmul__ = __mul__

    def __floordiv__(self, other):
        return _binary("//", self, other)

    def __rfloordiv__(self, other):
        return _binary("//", other, self)

    def __mod__(self, other):
        return _binary("%", self, other)

    def __rmod__(self, other):
        return _binary("%", other, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        parts = []
        for mono, c in self.terms.items():
            factors = [_show(a) if p == 1 else " * ".join([_show(a)] * p) for a, p in mono]
            if abs(c) != 1 or not factors:
                factors.insert(0, str(abs(c)))
            parts.append(("- " if c < 0 else "+ ") + " * ".join(factors))
        # put a positive term first so that the text starts without a sign where it can
        parts.sort(key=lambda p: p.startswith("-"))
        text = " ".join(parts)
        text = text[2:] if text.startswith("+ ") else "-" + text[2:]
        return text if len(parts) == 1 else f"({text})"


DimLike = int | Dim
Shape = tuple[DimLike, ...]


def _norm(terms: dict[_Mono, int]) -> DimLike:
    terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if set(terms) == {()}:
        return terms[()]
    return Dim(terms)


def _binary(op: str, a: DimLike, b: DimLike) -> DimLike:
    if op == "//":
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        if b == 1:
            return a
        if a == b:
            return 1
        if isinstance(b, int) and isinstance(a, Dim) and b > 0:
            # pull out what divides exactly, and the number down to [0, b): (4n + m + 5) // 4 == n + 1 + (m + 1) // 4,
            # so that equal sizes reached by different roads have one form: (n - 1) // 2 + 1 == (n + 1) // 2
            whole = {m: c // b for m, c in a.terms.items() if m and c % b == 0}
            number, left = divmod(a.terms.get((), 0), b)
            if whole or number:
                rest = _norm({(): left, **{m: c for m, c in a.terms.items() if m and c % b}})
                return _norm({(): number, **whole}) + _binary("//", rest, b)
        if isinstance(a, Dim) and isinstance(b, Dim) and len(b.terms) == 1:
            q = _exact_div(a, b)
            if q is not None:
                return q
    elif op == "%":
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        if b == 1 or a == b:
            return 0
        if isinstance(b, int) and isinstance(a, Dim) and all(c % b == 0 for c in a.terms.values()):
            return 0
    elif op in ("min", "max"):
        if is_non_negative(a - b):
            return b if op == "min" else a
        if is_non_negative(b - a):
            return a if op == "min" else b
    return Dim({(((op, a, b), 1),): 1})


def is_non_negative(d: DimLike) -> bool:
    """True when the sign of every part says that the expression is never below 0 (False: not known).

    >>> is_non_negative(Dim.parse("n * 2 + 1")), is_non_negative(Dim.parse("n - 1"))
    (True, False)
    """
    if isinstance(d, int):
        return d >= 0
    return all(c > 0 for c in d.terms.values()) and all(_atom_non_negative(a) for m in d.terms for a, _ in m)


def _atom_non_negative(atom: _Atom) -> bool:
    if isinstance(atom, str):
        return True
    op, a, b = atom
    if op == "max":
        return is_non_negative(a) or is_non_negative(b)
    return is_non_negative(b) if op == "%" else is_non_negative(a) and is_non_negative(b)


def _exact_div(a: Dim, b: Dim) -> DimLike | None:
    ((bm, bc),) = b.terms.items()
    out: dict[_Mono, int] = {}
    for m, c in a.terms.items():
        powers = dict(m)
        for atom, p in bm:
            powers[atom] = powers.get(atom, 0) - p
        if c % bc or any(p < 0 for p in powers.values()):
            return None
        out[tuple(sorted(((k, p) for k, p in powers.items() if p), key=lambda t: _key(t[0])))] = c // bc
    return _norm(out)


def dim_min(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two dims, symbolic where it must be."""
    return _binary("min", a, b)


def dim_max(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two dims, symbolic where it must be."""
    return _binary("max", a, b)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = re.findall(r"\d+|//|[-+*%(),]|[^\s\d+\-*%(),/][^\s+\-*%(),/]*", text)
        self.i = 0
        self.text = text

    def parse(self) -> DimLike:
        v = self.sum()
        if self.i != len(self.tokens):
            raise ValueError(f"cannot read dim {self.text!r}")
        return v

    def peek(self) -> str:
        return self.tokens[self.i] if self.i < len(self.tokens) else ""

    def take(self, want: str = "") -> str:
        t = self.peek()
        if not t or (want and t != want):
            raise ValueError(f"cannot read dim {self.text!r}")
        self.i += 1
        return t

    def sum(self) -> DimLike:
        v = -self.product() if self.peek() == "-" and self.take() else self.product()
        while self.peek() in ("+", "-"):
            v = v + self.product() if self.take() == "+" else v - self.product()
        return v

    def product(self) -> DimLike:
        v = self.atom()
        while self.peek() in ("*", "//", "%"):
            op = self.take()
            w = self.atom()
            v = v * w if op == "*" else _binary(op, v, w)
        return v

    def atom(self) -> DimLike:
        t = self.take()
        if t == "(":
            v = self.sum()
            self.take(")")
            return v
        if t.isdigit():
            return int(t)
        if t in ("min", "max") and self.peek() == "(":
            self.take("(")
            a = self.sum()
            self.take(",")
            b = self.sum()
            self.take(")")
            return _binary(t, a, b)
        return Dim.symbol(t)
