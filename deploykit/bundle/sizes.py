"""What each op of a compiled engine costs: bytes of an ELF object that are there for it alone.

Every function and table is a section of its own, and relocations tell which section needs which.  An op's own bytes are what
could go if its row in the op tables went; bytes that several ops share belong to none of them.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

ROW = 48  # sizeof(OpDef): opcode, three functions, a number, a function


@dataclass
class Sizes:
    """Bytes of code and tables: of the engine without ops, of each op alone, and shared by ops."""

    engine: int
    ops: dict[int, int]  # by opcode
    shared: int

    @property
    def total(self) -> int:
        return self.engine + sum(self.ops.values()) + self.shared


class Reach:
    """Parts of an object file, functions and data, and who needs whom."""

    def __init__(self, row: int) -> None:
        self.row = row  # sizeof(OpDef)
        self.size: dict[Hashable, int] = {}
        self.needs: dict[Hashable, list[tuple[int, Hashable]]] = {}  # part -> (offset, part)
        self.tables: list[tuple[Hashable, bytes]] = []  # of ops
        self.roots: set[Hashable] = set()

    def bytes_with(self, rows: set[tuple[Hashable, int]]) -> int:
        """Bytes needed when the tables have these (part, row) only."""
        tables = {s for s, _ in self.tables}
        seen: set[Hashable] = set()
        todo = [r for r in self.roots if r in self.size]
        while todo:
            s = todo.pop()
            if s in seen:
                continue
            seen.add(s)
            for offset, target in self.needs[s]:
                if target in self.size and not (s in tables and (s, offset // self.row) not in rows):
                    todo.append(target)
        return sum(self.size[s] for s in seen if s not in tables) + self.row * len(rows)

    def by_op(self) -> Sizes:
        """What is there for each op alone."""
        rows: dict[int, tuple[Hashable, int]] = {}
        for part, content in self.tables:
            for k in range(len(content) // self.row):
                (opcode,) = struct.unpack_from("<H", content, self.row * k)
                if opcode:
                    rows[opcode] = (part, k)
        every = set(rows.values())
        total, none = self.bytes_with(every), self.bytes_with(set())
        own = {op: total - self.bytes_with(every - {row}) for op, row in sorted(rows.items())}
        return Sizes(none, own, total - none - sum(own.values()))


class _Object(Reach):
    """A relocatable 64-bit little-endian ELF file: its sections."""

    def __init__(self, data: bytes) -> None:
        super().__init__(ROW)
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF object")
        (at,) = struct.unpack_from("<Q", data, 40)
        _, count, names_at = struct.unpack_from("<HHH", data, 58)
        heads = [struct.unpack_from("<IIQQQQIIQQ", data, at + 64 * i) for i in range(count or 0)]
        self.size = {i: h[5] for i, h in enumerate(heads) if h[2] & 2}  # SHF_ALLOC
        self.needs = {i: [] for i in self.size}
        names = data[heads[names_at][4] : heads[names_at][4] + heads[names_at][5]]
        symbols: list[int] = []
        for h in heads:
            if h[1] != 2:  # SHT_SYMTAB
                continue
            strings = heads[h[6]]
            for k in range(h[5] // 24):
                name_at, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, h[4] + 24 * k)
                symbols.append(section)
                start = strings[4] + name_at
                name = data[start : data.index(b"\0", start)]
                if info >> 4 and name.startswith(b"dk_"):
                    self.roots.add(section)
                if b"kept_ops_" in name and section in self.size and value == 0:
                    self.tables.append((section, data[heads[section][4] : heads[section][4] + heads[section][5]]))
        for i, h in enumerate(heads):
            start = names[h[0] : names.index(b"\0", h[0])]
            if start.startswith((b".init_array", b".tdata", b".tbss")):
                self.roots.add(i)
            if h[1] == 4 and h[7] in self.needs:  # SHT_RELA
                for k in range(h[5] // 24):
                    offset, info, _ = struct.unpack_from("<QQq", data, h[4] + 24 * k)
                    self.needs[h[7]].append((offset, symbols[info >> 32]))
        if not self.tables:
            raise ValueError("no table of ops in it")


def measure(file: Path) -> Sizes:
    """Sizes of an engine compiled by ``compiler.Compiler.library``, from its object file."""
    return _Object(file.read_bytes()).by_op()
