"""Names and comments in C++ text, found by its layout: the tree is formatted, so things of a namespace start a line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<number>\.?\d(?:[eEpP][+-]|'(?=\w)|[\w.])*)|(?P<other>\s+|.)""",
    re.S,
)


def strip_comments(text: str) -> str:
    """Without comments and the blank lines they leave; strings stay."""

    def keep(m: re.Match[str]) -> str:
        if m.lastgroup != "comment":
            return m[0]
        return "" if m[0].startswith("//") else " "

    text = re.sub(r"[ \t]+(?=\n)", "", TOKEN.sub(keep, text))
    text = re.sub(r"\\\n(?=\n)", "\n", text)  # the last line of a macro that held a comment only
    return re.sub(r"\n{2,}", "\n", text).lstrip("\n")


NO_TYPE = r"^(?!return|using|namespace|typedef|enum|struct|class|union|#|\}|extern)"
NAMES = [
    re.compile(r"^(?:template <[^\n]*>\s*)?(?:struct|class|union)\s+(?:alignas\(\w+\)\s+)?(\w+)[^;()]*\{", re.M),
    re.compile(r"^enum(?: class)? (\w+)", re.M),
    re.compile(r"^(?:using|namespace) (\w+) =", re.M),
    # functions: a type, then a name before the first parenthesis; variables: before = ; { [
    re.compile(NO_TYPE + r"(?:\w[\w:<>,*&\s]*?[\s*&])(\w+)\(", re.M),
    re.compile(NO_TYPE + r"(?:\w[\w:<>,*&\s()]*?[\s*&])(\w+)(?:\[[^=;]*\])?\s*(?:=|;|\{)", re.M),
]
NOT_NAMES = {"operator", "if", "for", "while", "switch", "return", "sizeof", "default", "const", "override"}


def enumerators(code: str) -> set[str]:
    """Names that plain enums put into the scope around them."""
    found: set[str] = set()
    for inside in re.findall(r"^enum (?!class)\w*[^{};]*\{([^}]*)\}", code, re.M):
        found |= set(re.findall(r"(\w+)(?:\s*=[^,]*)?(?:,|$)", inside.strip()))
    return found


def own_names(text: str) -> set[str]:
    """Names that a file declares for itself: in anonymous namespaces, or static."""
    found: set[str] = set()
    for block in re.findall(r"^namespace \{$(.*?)^\}  // namespace$", text, re.M | re.S):
        code = strip_comments(block)
        for pattern in NAMES:
            found |= set(pattern.findall(code))
        found |= enumerators(code)
        for line in re.findall(r"^constexpr .*;$", code, re.M):
            found |= set(re.findall(r", (\w+) =", line))
    found |= set(re.findall(r"^static [\w:<>*&\s]+?[\s*&](\w+)\(", text, re.M))
    return found - NOT_NAMES


def header_names(headers: Iterable[Path]) -> set[str]:
    """Names that headers give to things of everybody."""
    found: set[str] = set()
    for p in headers:
        if not p.stem.endswith("_impl"):
            text = strip_comments(p.read_text())
            found |= set(re.findall(r"^(?:namespace|struct|class|enum class|using) (\w+)", text, re.M))
            found |= set(re.findall(r"^constexpr [\w:<>]+ (\w+) =", text, re.M)) | enumerators(text)
            found |= set(NAMES[3].findall(text))
    return found - {"dk", "namespace"}


def members(text: str) -> set[str]:
    """Names of data members that a file's own structs have."""
    found: set[str] = set()
    for body in re.findall(r"^(?:template <[^\n]*>\s*)?(?:struct|class) [^;{]*\{\n(.*?)^\};", text, re.M | re.S):
        for line in re.findall(r"^  \w.*;", body, re.M):
            found |= set(re.findall(r"(\w+)(?:\[\w+\])*(?=[,;]| = )", line))
            found |= set(re.findall(r"\(\*(\w+)\)", line))
    return found


def rename(text: str, names: dict[str, str]) -> str:
    """Replace whole identifiers, except those qualified by another scope, and members of structs of other files."""
    own = members(text)
    out: list[str] = []
    before = ""
    for m in TOKEN.finditer(text):
        word = m[0]
        if m.lastgroup == "name" and word in names and before != "::" and (word in own or before not in (".", "->")):
            out.append(names[word])
        else:
            out.append(word)
        if word.isspace():
            continue
        pair = before + word
        before = pair if pair in ("->", "::") else word
    return "".join(out)
