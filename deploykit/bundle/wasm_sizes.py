"""What each op of an engine compiled for WebAssembly costs: as ``sizes``, from a relocatable object of Clang's."""

from __future__ import annotations

from pathlib import Path

from deploykit.bundle.sizes import Reach, Sizes

ROW = 20  # sizeof(OpDef) with 32-bit pointers
_FUNCTION, _DATA = 0, 1
_WITH_ADDEND = {3, 4, 5, 8, 9, 11, 14, 15, 16, 17, 18, 21, 22, 23, 25}  # R_WASM_*: addresses in memory and sections


class _Reader:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """LEB128; also skips a signed one."""
        value = shift = 0
        while True:
            b = self.byte()
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    def text(self) -> bytes:
        n = self.number()
        self.at += n
        return self.data[self.at - n : self.at]


def _limits(r: _Reader) -> None:
    if r.byte() & 1:
        r.number()
    r.number()


class _Object(Reach):
    """Nodes are ("f", function) and ("d", segment)."""

    def __init__(self, data: bytes) -> None:
        super().__init__(ROW)
        if data[:8] != b"\0asm\1\0\0\0":
            raise ValueError("not a WebAssembly object")
        imported = 0
        bodies: list[tuple[int, int]] = []  # (from, to) inside the section, like the offsets of relocations
        segments: list[tuple[int, int]] = []
        content: dict[int, bytes] = {}
        symbols: list[tuple[str, int] | None] = []
        found: dict[tuple[str, int], None] = {}
        kinds: list[int] = []  # of sections, by index
        relocations: list[tuple[int, int, int]] = []  # (section, offset, symbol)
        r = _Reader(data, 8)
        while r.at < len(data):
            kind, size = r.byte(), r.number()
            start, end = r.at, r.at + size
            kinds.append(kind)
            if kind == 2:
                for _ in range(r.number()):
                    r.text(), r.text()
                    what = r.byte()
                    imported += what == 0
                    if what == 0:
                        r.number()
                    elif what == 1:
                        r.at += 1
                        _limits(r)
                    elif what == 2:
                        _limits(r)
                    else:
                        r.at += 2
            elif kind == 10:
                for _ in range(r.number()):
                    n = r.number()
                    bodies.append((r.at - start, r.at - start + n))
                    r.at += n
            elif kind == 11:
                for k in range(r.number()):
                    if r.number() != 1:
                        while r.byte() != 0x0B:  # i32.const n, end
                            pass
                    n = r.number()
                    segments.append((r.at - start, r.at - start + n))
                    content[k] = data[r.at : r.at + n]
                    r.at += n
            elif kind == 0:
                name = r.text()
                if name == b"linking":
                    r.number()
                    while r.at < end:
                        part, n = r.byte(), r.number()
                        stop = r.at + n
                        if part == 8:
                            symbols = [self._symbol(r, imported, found) for _ in range(r.number())]
                        r.at = stop
                elif name.startswith(b"reloc."):
                    section = r.number()
                    for _ in range(r.number()):
                        what, offset, symbol = r.byte(), r.number(), r.number()
                        if what in _WITH_ADDEND:
                            r.number()
                        if what not in (6,):  # types are no symbols
                            relocations.append((section, offset, symbol))
            r.at = end
        for letter, places in (("f", bodies), ("d", segments)):
            for k, (a, b) in enumerate(places):
                self.size[(letter, k)] = b - a
                self.needs[(letter, k)] = []
        for section, offset, symbol in relocations:
            letter, places = {10: ("f", bodies), 11: ("d", segments)}.get(kinds[section], ("", []))
            target = symbols[symbol]
            inside = [k for k, (a, b) in enumerate(places) if a <= offset < b]
            if inside and target is not None:
                self.needs[(letter, inside[0])].append((offset - places[inside[0]][0], target))
        self.tables = [(node, content[node[1]]) for node in found]
        if not self.tables:
            raise ValueError("no table of ops in it")

    def _symbol(self, r: _Reader, imported: int, found: dict[tuple[str, int], None]) -> tuple[str, int] | None:
        """What a row of the symbol table stands for; tables of ops go into ``found``, the C API into the roots."""
        kind, flags = r.byte(), r.number()
        undefined = bool(flags & 0x10)
        if kind == _DATA:
            name = r.text()
            if undefined:
                return None
            segment = r.number()
            r.number(), r.number()
            if b"kept_ops_" in name:
                found[("d", segment)] = None
            return ("d", segment)
        index = r.number()
        if kind == 3:
            return None
        name = r.text() if not undefined or flags & 0x40 else b""
        if kind != _FUNCTION or undefined:
            return None
        if name.startswith(b"dk_"):
            self.roots.add(("f", index - imported))
        return ("f", index - imported)


def measure(file: Path) -> Sizes:
    """Sizes of an engine compiled by :func:`deploykit.web.cut.build`, from its object file."""
    return _Object(file.read_bytes()).by_op()
