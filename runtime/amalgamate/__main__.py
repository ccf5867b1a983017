"""Write the engine as one C++ file and one C header: ``python runtime/amalgamate -o FOLDER``.

The result compiles alone with any GCC, Clang or zig, ``c++ -std=c++20 -O2 -c deploykit.cc``, for the same CPUs as the
library: kernels of every instruction set are in it, chosen at run time.  How the parts become one translation unit:

* Headers are written once, where they are first included.  ``opset.inc``, included many times, becomes a macro.
* Two files may use one name for things of their own (anonymous namespace, ``static``); such a name gets the file's name
  behind it.  Forgetting one is an error of the compiler, never a silent change.
* Kernel sources (``*_impl.h`` and the ``simd`` headers they need) stand in a block that the file includes from itself once
  per instruction set, each time in a namespace of its own, with the compiler's target switched by a pragma.  The macros
  that tell the set (``__AVX2__``) are replaced by ones that the block's includer sets, since not every compiler changes
  them with the target.
* Ops stand behind ``#if``: a program that defines ``DK_CUT`` and ``DK_OP_<name>`` for the ops of its model compiles those,
  and the kernels they call, alone.  ``DK_OPSET_KEPT``, rows of ``opset.inc``, cuts the names and attrs of ops down to these.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from names import header_names, own_names, rename, strip_comments
from sets import FEATURES, OWN, SETS, a_set, flag
from texts import HEAD, WANTED

RUNTIME = Path(__file__).resolve().parents[1]
LAYERS = ("base", "format", "kernels", "ops", "engine", "capi")
END = "  // anonymous"  # marks where file-local things of a kernel source end
OPSET = ("DK_OP", "DK_ATTR", "DK_ENUM")


@dataclass
class Unit:
    """A source file: what it includes and, after that, says."""

    path: Path
    headers: list[str] = field(default_factory=list)  # of the project
    system: list[str] = field(default_factory=list)
    body: str = ""

    @property
    def part(self) -> str:
        """Name of the macro that keeps it."""
        return "DK_PART_" + "_".join(self.path.relative_to(RUNTIME / "src").with_suffix("").parts)


def read(path: Path) -> Unit:
    """A file in its parts, without comments."""
    unit = Unit(path)
    out: list[str] = []
    # internal linkage for everything but the C API: what nothing calls is dropped, and no name can clash
    text, n = re.subn(r"^namespace (dk[:\w]*) \{$", r"namespace {\nnamespace \1 {", path.read_text(), flags=re.M)
    text, m = re.subn(r"^\}  // namespace dk[:\w]*$", "}\n}", text, flags=re.M)
    assert n == m, f"{path}: the brace that ends 'namespace dk' wants the comment '// namespace dk'"
    text = re.sub(r"^\}  // namespace$", "} DK_END_ANONYMOUS", text, flags=re.M)
    for line in strip_comments(text).split("\n"):
        m = re.match(r'#include (?:"(.*)"|<(.*)>)$', line)
        if not m:
            if line != "#pragma once":
                out.append(line)
        elif m[2]:
            unit.system.append(m[2])
            out.append(line)
        elif m[1].endswith("opset.inc"):
            out += [
                *(f"#ifndef {d}\n#define {d}(...)\n#endif" for d in OPSET),
                "DK_OPSET",
                *(f"#undef {d}" for d in OPSET),
            ]
        elif m[1] == "deploykit/dk.h":
            out.append('#include "deploykit.h"')
        else:
            unit.headers.append(m[1])
    unit.body = "\n".join(out).replace(
        "} DK_END_ANONYMOUS", "}" + END if set_of(path) or path.stem.endswith("_impl") else "}"
    )
    return unit


def set_of(path: Path) -> str:
    """The kernel set that a file is compiled for; empty for plain files."""
    return next((s[1] for s in SETS if path.stem.endswith("_" + s[1])), "")


class Amalgamation:
    """The source tree as one text."""

    def __init__(self) -> None:
        files = [p for layer in LAYERS for p in sorted((RUNTIME / "src" / layer).rglob("*.cc"))]
        self.units = [read(p) for p in files if not set_of(p)]
        self.cache: dict[str, Unit] = {}
        self.written: set[str] = set()
        owned = {u.path: own_names(u.path.read_text()) for u in self.units}
        count = dict.fromkeys(header_names((RUNTIME / "src").rglob("*.h")), 1)
        for names in owned.values():
            for n in names:
                count[n] = count.get(n, 0) + 1
        self.clashing = {p: {n: f"{n}__{p.stem}" for n in names if count[n] > 1} for p, names in owned.items()}
        self.families = {p.parent.name: p for p in sorted((RUNTIME / "src" / "kernels").rglob("*_impl.h"))}
        self.dot_families = {p.parent.name for p in files if set_of(p) == "x86_avxvnni"}
        plain = re.compile(r'\s*(#define DK_SIMD_SCALAR\s+)?#include "kernels/\w+/\w+_impl.h"\s*')
        self.own = [p for p in files if set_of(p) and not plain.fullmatch(p.read_text())]  # not a family's source again
        assert {set_of(p) for p in self.own} <= {s[1] for s in SETS if OWN in s[3]}, self.own
        self.known_ops = re.findall(r"^DK_OP\(\d+, (\w+),", (RUNTIME / "schema" / "opset.inc").read_text(), re.M)
        self.ops = {u.path: self._ops_of(u) for u in self.units}

    def header(self, name: str) -> Unit:
        if name not in self.cache:
            self.cache[name] = read(RUNTIME / "src" / name)
        return self.cache[name]

    def reach(self, unit: Unit) -> set[str]:
        """All headers that a file sees."""
        found: set[str] = set()
        todo = list(unit.headers)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.header(name).headers
        return found

    def _ops_of(self, unit: Unit) -> list[str]:
        """Ops of the list that a file of ops/ defines."""
        m = re.search(r"^const OpDef \w+\[\] = \{(.*?)\};$", unit.body, re.M | re.S)
        if not m:
            return []
        # a row is {Opcode::abs_, ...} or DK_ROW(abs, ...), whose definition has Opcode::name##_ or Opcode::reduce_##name##_
        macros = dict(
            re.findall(
                r"^#define (DK_\w+)\(\w+[^)]*\)(?:[^\n]*\\\n)*?[^\n]*Opcode::(\w*?)(?:##)?name##_", unit.body, re.M
            )
        )
        rows = re.findall(r"(DK_\w+)\((\w+)", m[1])
        found = re.findall(r"Opcode::(\w+)_\b", m[1]) + [
            macros[macro] + name for macro, name in rows if macro in macros
        ]
        assert found and set(found) <= set(self.known_ops), (unit.path, found)
        return sorted(set(found))

    # ---- what is compiled
    def parts(self) -> list[str]:
        """Macros DK_PART_*: files needed for the ops wanted."""
        out: list[str] = []
        optional = [u for u in self.units if u.path.parts[-2] == "ops" or "kernels" in u.path.parts]
        by_header = {u.path.relative_to(RUNTIME / "src").with_suffix(".h").as_posix(): u for u in optional}
        families = {f"kernels/{f}/{f}.h": f"DK_PART_set_{f}" for f in self.families}
        users: dict[str, list[str]] = {}  # part -> parts that need it; "" for always
        for u in self.units:
            name = u.part if u in optional and u.path.stem != "registry" else ""
            for h in self.reach(u):
                for target in ([by_header[h].part] if h in by_header else []) + (
                    [families[h]] if h in families else []
                ):
                    if target != name:
                        users.setdefault(target, []).append(name)
        done: set[str] = set()

        def put(part: str, ops: list[str]) -> None:
            if part in done:
                return
            done.add(part)
            by = sorted(set(users.get(part, [])))
            for b in by:
                if b:
                    put(b, self.ops[next(u.path for u in self.units if u.part == b)])
            if "" in by:
                out.append(f"#define {part}")
                return
            conditions = ["!defined(DK_CUT)", *(f"defined(DK_OP_{o})" for o in ops), *(f"defined({b})" for b in by)]
            out.append("#if " + " || \\\n    ".join(conditions) + f"\n#define {part}\n#endif")

        for u in optional:
            put(u.part, self.ops[u.path])
        for f in self.families:
            put(f"DK_PART_set_{f}", [])
        return out

    # ---- text
    def headers(self, names: list[str]) -> str:
        """Headers not written yet, in order of need."""
        out: list[str] = []
        for name in names:
            if name not in self.written:
                self.written.add(name)
                h = self.header(name)
                out += [self.headers(h.headers), h.body]
                if name == "ops/op.h":
                    out.append(self.wanted())
        return "\n".join(s for s in out if s)

    def wanted(self) -> str:
        ops = sorted({o for group in self.ops.values() for o in group})
        cases = [f"#if defined(DK_OP_{o})\n    case Opcode::{o}_:\n#endif" for o in ops]
        has = [f"constexpr bool has_{o} = wanted(Opcode::{o}_);" for o in ops]
        return WANTED.replace("CASES", "\n".join(cases)).replace("HAS", "\n".join(has))

    def unit(self, u: Unit) -> str:
        body = rename(u.body, self.clashing[u.path]) if self.clashing[u.path] else u.body
        if self.ops[u.path]:
            body, n = re.subn(r"^const OpDef (\w+)\[\] = \{", r"constexpr OpDef \1[] = {", body, count=1, flags=re.M)
            list_name = re.search(r"^constexpr OpDef (\w+)\[\]", body, re.M)[1]  # type: ignore[index]
            body, m = re.subn(
                r"^const OpList (ops_\w+) = \{.*\};$",
                rf"constexpr auto kept_\1 = kept<count_wanted({list_name})>({list_name});\n"
                r"const OpList \1 = {kept_\1.rows, kept_\1.count};",
                body, flags=re.M,
            )  # fmt: skip
            assert n == m == 1, u.path
        if u.path.stem == "registry":
            body = self._registry(body)
        if u.path.stem == "opset":
            body = body.replace("DK_OPSET", "DK_OPSET_KEPT")
        macros = sorted(set(re.findall(r"^#define (\w+)", body, re.M)))
        guard = u.path.parts[-2] == "ops" and u.path.stem != "registry" or "kernels" in u.path.parts
        lines = [self.headers(u.headers), f"// ---- {u.path.relative_to(RUNTIME).as_posix()}"]
        lines += [f"#if defined({u.part})"] if guard else []
        lines += [body, *(f"#undef {m}" for m in macros)]
        lines += ["#endif"] if guard else []
        return "\n".join(s for s in lines if s)

    def _registry(self, body: str) -> str:
        """The list of files, each behind its part."""
        m = re.search(r"^#define DK_OP_FILES\(X\)((?:[^\n]*\\\n)*[^\n]*)$", body, re.M)
        assert m
        names = re.findall(r"X\((\w+)\)", m[1])
        each = [
            f"#if defined(DK_PART_ops_{n})\n#define DK_FILE_{n}(X) X({n})\n#else\n#define DK_FILE_{n}(X)\n#endif"
            for n in names
        ]
        whole = "#define DK_OP_FILES(X) " + " ".join(f"DK_FILE_{n}(X)" for n in names)
        return body.replace(m[0], "\n".join([*each, whole]))

    def kernels(self) -> str:
        """The block that is compiled once per kernel set."""
        out: list[str] = []
        seen: set[str] = set()
        replace = {f: flag(f) for f in FEATURES}

        def put(name: str) -> None:
            """A header of simd/, and others that only kernels see."""
            if name in seen or (name in self.written and not name.startswith("simd/")):
                return
            seen.add(name)
            for h in self.header(name).headers:
                put(h)
            text = "\n".join(s for s in self.header(name).body.split("\n") if not s.startswith("#include"))
            out.append(rename(text, replace).replace("namespace dk::simd {", "namespace dk::DK_SET::simd {"))

        def inside(u: Unit, space: str) -> str:
            """A kernel source with its own things in a namespace of this set; what it exports stays where it is declared."""
            head, end, tail = rename(u.body, replace).partition("}" + END)
            old, new = "namespace dk {\nnamespace {\n", f"namespace dk {{\nnamespace DK_SET {{\nnamespace {space} {{\n"
            assert end and END not in tail and head.count(old) == 1, u.path
            own = own_names(u.path.read_text()) | set(re.findall(r"^DK_\w+\((\w+),", head, re.M))  # or made by a macro
            tail = rename(tail, {n: f"DK_SET::{space}::{n}" for n in own})
            tail = re.sub(r"^(\w[^;{}#=]*\) \{)$", r"\1\nusing namespace DK_SET::simd;", tail, flags=re.M)
            return head.replace(old, new) + "}\n}" + tail

        for family, path in sorted(self.families.items(), key=lambda item: item[0] not in self.dot_families):
            u = read(path)
            for h in u.headers:
                put(h)
            # tables with a row for every op keep those of the ops wanted
            u.body = re.sub(r"\b(unary<name##_fn>|binary<name##_fn2>),", r"DK_KEPT(name, \1),", u.body)
            dot = "" if family in self.dot_families else " && !defined(DK_SET_DOT)"
            out.append(f"#if defined(DK_PART_set_{family}){dot} && !defined({OWN})\n{inside(u, family + '_')}\n#endif")
        for path in self.own:
            u, above = read(path), len(out)
            for h in u.headers:
                put(h)
            needed = [
                f"#if defined({OWN})  // {path.name}",
                *out[above:],
                f"#if defined(DK_PART_set_{path.parent.name})",
            ]
            out[above:] = ["\n".join([*needed, inside(u, path.stem + "_"), "#endif\n#endif"])]
        text = "\n".join(out)
        macros = sorted(set(re.findall(r"^\s*#define (\w+)", text, re.M)))
        return "\n".join([text, *(f"#undef {m}" for m in macros)])

    def text(self) -> str:
        """deploykit.cc."""
        version = re.search(r'^version = "(.*)"', (RUNTIME.parent / "pyproject.toml").read_text(), re.M)
        rows = re.findall(r"^DK_\w+\(.*\)$", (RUNTIME / "schema" / "opset.inc").read_text(), re.M)
        units = [self.unit(u) for u in self.units]
        kernels = self.kernels()
        main = [
            HEAD.replace("VERSION", version[1] if version else "?"),
            "#define DK_OPSET \\\n" + " \\\n".join(rows),
            "#if !defined(DK_OPSET_KEPT)\n#define DK_OPSET_KEPT DK_OPSET\n#endif",
            *self.parts(),
            *units,
            *(a_set(*s) for s in SETS),
        ]
        text = "\n".join(["#if !defined(DK_KERNELS)", *main, "#else", kernels, "#endif", ""])
        # It ships in the wheel, and white space is a hundredth of it: a quarter of the indentation will do.
        return re.sub(r"^ +", lambda m: " " * (len(m[0]) // 4), re.sub(r" +\\$", r" \\", text, flags=re.M), flags=re.M)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    out: Path = parser.parse_args().output
    files = {
        "deploykit.cc": Amalgamation().text(),
        "deploykit.h": (RUNTIME / "include" / "deploykit" / "dk.h").read_text(),
    }
    if out.suffix == ".zip":
        with zipfile.ZipFile(out, "w") as z:
            for name, text in files.items():  # the smaller of the two for each
                how = zipfile.ZIP_BZIP2 if name.endswith(".cc") else zipfile.ZIP_LZMA
                z.writestr(zipfile.ZipInfo(name, (1980, 1, 2, 0, 0, 0)), text, how, 9)
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text)


if __name__ == "__main__":
    main()
