"""The whole vocabulary on a page: ``python -m deploykit.ops.tables`` prints it, ``--markdown`` for docs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from deploykit.ops.core import BY_OPCODE, Attr, Op


def show_attr(a: Attr) -> str:
    """One attr as people write it: ``axis=-1``, ``mode=dcr|crd``, ``block: int`` when it has no default."""
    if a.required:
        return f"{a.name}: {a.kind}"
    if a.kind == "enum":
        return f"{a.name}={'|'.join(a.choices)}"
    return f"{a.name}={a.default!r}"


def rows(family: str | None = None) -> Iterator[tuple[Op, tuple[str, str, str, str, str]]]:
    """The ops in order of opcode with (opcode, name, signature, attrs, flags); flags include ``exact`` (integers and
    bits agree everywhere) and ``no gradient``."""
    for op in sorted(BY_OPCODE.values(), key=lambda op: op.opcode):
        if family in (None, op.family):
            flags = sorted(op.flags) + ["exact"] * (op.tolerance == "exact") + ["no gradient"] * (op.vjp is None)
            attrs = ", ".join(show_attr(a) for a in op.attrs.values())
            yield op, (str(op.opcode), op.name, op.signature, attrs, " ".join(flags))


def families() -> list[str]:
    """The families in order of their first opcode."""
    return list(dict.fromkeys(op.family for op, _ in rows()))


def render(*, markdown: bool = False, family: str | None = None) -> str:
    """The vocabulary as text: one line per op and its meaning below it, or Markdown tables, one per family.

    >>> print(render(family="norm").splitlines()[2].split(" - ")[0])
     150 batch_norm(x, scale, bias, mean, variance -> y; epsilon=1e-05, axis=-1)
    """
    out: list[str] = []
    for f in [family] if family else families():
        out += [f"### {f}", ""] if markdown else [f, ""]
        if markdown:
            out += ["| opcode | op | inputs -> outputs | attrs | flags |", "| --- | --- | --- | --- | --- |"]
        for op, (code, name, signature, attrs, flags) in rows(f):
            if markdown:
                cells = (code, f"`{name}`", f"`{signature}`", f"`{attrs}`" if attrs else "", flags)
                out.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
            else:
                head = f"{name}({signature}{'; ' + attrs if attrs else ''})"
                out.append(f"{code:>4} {head}{'   [' + flags + ']' if flags else ''}")
                out += ["       " + line for line in op.doc.splitlines()]
        out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    import deploykit.ops  # noqa: F401

    print(render(markdown="--markdown" in sys.argv[1:]))
