"""What each op of a compiled engine costs: bytes of an ELF object that are there for it alone.

Every function and table is a section of its own, and relocations tell which section needs which.  An op's own bytes are what
could go if its row in the op tables went; bytes that several ops share belong to none of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

ROW = 40  # sizeof(OpDef): opcode, three functions, a number


@dataclass
class Sizes:
    """Bytes of code and tables: of the engine without ops, of each op alone, and shared by ops."""

    engine: int
    ops: dict[int, int]  # by opcode
    shared: int

    @property
    def total(self) -> int:
        return self.engine + sum(self.ops.values()) + self.shared


class _Object:
    """A relocatable 64-bit little-endian ELF file: sizes of sections and who needs whom."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF object")
        (at,) = struct.unpack_from("<Q", data, 40)
        _, count, names_at = struct.unpack_from("<HHH", data, 58)
        heads = [struct.unpack_from("<IIQQQQIIQQ", data, at + 64 * i) for i in range(count or 0)]
        self.size = {i: h[5] for i, h in enumerate(heads) if h[2] & 2}  # SHF_ALLOC
        self.needs: dict[int, list[tuple[int, int]]] = {i: [] for i in self.size}  # section -> (offset, section)
        self.tables: list[tuple[int, bytes]] = []
        self.roots: set[int] = set()
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

    def reach(self, rows: set[tuple[int, int]]) -> int:
        """Bytes needed when the tables have these (section, row) only."""
        tables = {s for s, _ in self.tables}
        seen: set[int] = set()
        todo = [r for r in self.roots if r in self.size]
        while todo:
            s = todo.pop()
            if s in seen:
                continue
            seen.add(s)
            for offset, target in self.needs[s]:
                if target in self.size and not (s in tables and (s, offset // ROW) not in rows):
                    todo.append(target)
        return sum(self.size[s] for s in seen if s not in tables) + ROW * len(rows)


def measure(file: Path) -> Sizes:
    """Sizes of an engine compiled by ``compiler.Compiler.library``, from its object file."""
    o = _Object(file.read_bytes())
    rows: dict[int, tuple[int, int]] = {}
    for section, content in o.tables:
        for k in range(len(content) // ROW):
            (opcode,) = struct.unpack_from("<H", content, ROW * k)
            if opcode:
                rows[opcode] = (section, k)
    every = set(rows.values())
    total, none = o.reach(every), o.reach(set())
    own = {op: total - o.reach(every - {row}) for op, row in sorted(rows.items())}
    return Sizes(none, own, total - none - sum(own.values()))
