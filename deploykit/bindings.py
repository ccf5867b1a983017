"""Typed bindings of one model: its names, shapes, dtypes and labels as C, TypeScript or Python, so that a wrong call does
not compile (``deploykit bindings``)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploykit.graph.dims import Dim
from deploykit.interpreter import TensorSpec

LANGUAGES = ("c", "ts", "py")
C_TYPES = {
    "float32": "float", "float64": "double", "float16": "uint16_t", "bfloat16": "uint16_t", "bool": "uint8_t",
    **{f"{u}int{b}": f"{u}int{b}_t" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip
_TS = {
    "float32": "Float32Array", "float64": "Float64Array", "float16": "Uint16Array", "bfloat16": "Uint16Array",
    "bool": "Uint8Array", "int64": "BigInt64Array", "uint64": "BigUint64Array",
    **{f"{u}int{b}": f"{'U' if u else ''}{'i' if u else 'I'}nt{b}Array" for u in ("", "u") for b in (8, 16, 32)},
}  # fmt: skip
_RESERVED = frozenset(
    "auto break case char class const continue default def del do double elif else enum except extern False finally "
    "float for from global goto if import in inline int is lambda long None nonlocal not or pass raise register restrict "
    "return self short signed sizeof static struct switch True try typedef union unsigned void volatile while with yield "
    "and as assert async await run".split()
)


@dataclass
class Interface:
    """What a model takes and gives."""

    name: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    metadata: dict[str, Any]

    @property
    def labels(self) -> list[str]:
        """Class labels, where the model has them."""
        found = self.metadata.get("labels")
        return [str(s) for s in found] if isinstance(found, list) else []


def interface(path: Any) -> Interface:
    """The interface of a ``.dk`` file."""
    from pathlib import Path

    from deploykit.graph.dkfile import load
    from deploykit.ops.infer import infer_graph

    graph = load(path)
    infer_graph(graph)  # files hold no shapes of outputs
    inputs = [TensorSpec(v.name, v.shape, v.dtype.name if v.dtype else "") for v in graph.inputs]
    outs = zip(graph.outputs, graph.public_outputs, strict=True)
    outputs = [TensorSpec(n, v.shape, v.dtype.name if v.dtype else "") for v, n in outs]
    return Interface(identifier(Path(path).stem, set()), inputs, outputs, graph.metadata)


def generate(model: Interface, language: str) -> str:
    """The source text of the bindings.

    >>> spec = TensorSpec("x", (1, Dim.symbol("n")), "float32")
    >>> "const float* x;" in generate(Interface("net", [spec], [spec], {}), "c")
    True
    """
    return {"c": _c, "ts": _ts, "py": _py}[language](model)


def identifier(name: str, taken: set[str]) -> str:
    """A name that all three languages take, unlike those taken."""
    base = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "value"
    base = f"v_{base}" if base[0].isdigit() or base in _RESERVED else base
    out, i = base, 1
    while out in taken:
        i += 1
        out = f"{base}_{i}"
    taken.add(out)
    return out


def identifiers(specs: Sequence[TensorSpec]) -> list[str]:
    """Identifiers of the specs of one side, all different."""
    taken: set[str] = set()
    return [identifier(s.name, taken) for s in specs]


def symbols(specs: Sequence[TensorSpec]) -> list[str]:
    """Names of the open dims, in order of appearance."""
    found: dict[str, None] = {}
    for s in specs:
        for d in s.shape or ():
            if isinstance(d, Dim):
                found |= dict.fromkeys(sorted(d.names))
    return list(found)


def _text(s: TensorSpec) -> str:
    return f"{s.dtype}[{', '.join(map(str, s.shape))}]" if s.shape is not None else f"{s.dtype}, any shape"


# ---------------------------------------------------------------- C
def _c(m: Interface) -> str:
    ins, outs = identifiers(m.inputs), identifiers(m.outputs)
    open_dims = symbols(m.inputs)
    taken = set(ins)
    dim = {s: identifier(f"dim_{s}", taken) for s in open_dims}
    n = m.name
    lines = [
        f"/* Typed bindings of the model '{m.name}', written by `deploykit bindings`. */",
        f"#ifndef DK_BINDINGS_{n.upper()}_H",
        f"#define DK_BINDINGS_{n.upper()}_H",
        "#include <string.h>",
        '#include "deploykit/dk.h"',
        "",
        f"typedef struct {n}_inputs {{",
        *(f"  const {C_TYPES[s.dtype]}* {i}; /* {comment(s)} */" for i, s in zip(ins, m.inputs, strict=True)),
        *(f"  int64_t {dim[s]}; /* size of the dim '{s}' */" for s in open_dims),
        *_ranks(ins, m.inputs),
        f"}} {n}_inputs;",
        "",
        f"typedef struct {n}_outputs {{ /* valid until the session's next run */",
    ]
    for i, s in zip(outs, m.outputs, strict=True):
        lines += [
            f"  const {C_TYPES[s.dtype]}* {i}; /* {comment(s)} */",
            f"  const int64_t* {i}_dims;",
            f"  int32_t {i}_rank;",
        ]
    lines += [f"}} {n}_outputs;", ""]
    if m.labels:
        lines += [f"static const char* const {n}_labels[{len(m.labels)}] = {{"]
        lines += [f"    {json.dumps(s, ensure_ascii=False)}," for s in m.labels] + ["};", ""]
    lines += _c_check(m, n) + _c_run(m, n, ins, outs, dim)
    return "\n".join([*lines, "#endif", ""])


def comment(s: TensorSpec) -> str:
    return f"'{s.name}' {_text(s)}".replace("*/", "* /")


def _ranks(ins: list[str], specs: Sequence[TensorSpec]) -> list[str]:
    """Inputs of unknown rank bring their dims."""
    out = []
    for i, s in zip(ins, specs, strict=True):
        if s.shape is None:
            out += [f"  int32_t {i}_rank;", f"  int64_t {i}_dims[DK_MAX_RANK];"]
    return out


def _c_check(m: Interface, n: str) -> list[str]:
    """A function that tells whether a session is of this model."""
    lines = [
        "/* Whether a session is one of this model: 0, or the number of the first input or output that differs. */",
        f"static inline int {n}_check(const dk_session* session) {{",
        "  dk_spec spec;",
        f"  if (dk_session_input_count(session) != {len(m.inputs)}) return 1;",
        f"  if (dk_session_output_count(session) != {len(m.outputs)}) return 1;",
    ]
    number = 1
    for side, specs in (("input", m.inputs), ("output", m.outputs)):
        for k, s in enumerate(specs):
            check = f"dk_session_{side}_spec(session, {k}, &spec) || strcmp(spec.name, {json.dumps(s.name, ensure_ascii=False)})"
            lines.append(f"  if ({check}) return {number};")
            lines.append(f"  if (spec.dtype && spec.dtype != DK_{s.dtype.upper()}) return {number};")
            number += 1
    return [*lines, "  return 0;", "}", ""]


def _c_run(m: Interface, n: str, ins: list[str], outs: list[str], dim: dict[str, str]) -> list[str]:
    lines = [
        "/* Run once; inputs must stay unchanged until this returns. */",
        f"static inline dk_status {n}_run(dk_session* session, const {n}_inputs* in, {n}_outputs* out) {{",
        "  dk_status status;",
        "  dk_tensor t;",
        "  const dk_tensor* y;",
    ]
    for k, (i, s) in enumerate(zip(ins, m.inputs, strict=True)):
        lines += ["  memset(&t, 0, sizeof t);", f"  t.dtype = DK_{s.dtype.upper()};", f"  t.data = (void*)in->{i};"]
        if s.shape is None:
            lines += [f"  t.rank = in->{i}_rank;", f"  memcpy(t.dims, in->{i}_dims, sizeof t.dims);"]
        else:
            lines += [f"  t.rank = {len(s.shape)};"]
            lines += [f"  t.dims[{a}] = {expression(d, lambda x: f'in->{dim[x]}')};" for a, d in enumerate(s.shape)]
        lines += [
            f"  t.bytes = sizeof *in->{i};",
            "  for (int32_t k = 0; k < t.rank; ++k) t.bytes *= (size_t)t.dims[k];",
            f"  if ((status = dk_session_set_input(session, {k}, &t))) return status;",
        ]
    lines.append("  if ((status = dk_session_run(session))) return status;")
    for k, i in enumerate(outs):
        ctype = C_TYPES[m.outputs[k].dtype]
        lines += [
            f"  y = dk_session_output(session, {k});",
            f"  out->{i} = (const {ctype}*)y->data;",
            f"  out->{i}_dims = y->dims;",
            f"  out->{i}_rank = y->rank;",
        ]
    return [*lines, "  return status;", "}", ""]


def expression(d: int | Dim, name: Callable[[str], str]) -> str:
    """A dim as a C expression (sizes are not negative, so C's division is ours)."""
    if isinstance(d, int):
        return str(d)
    text = str(d).replace("//", "/")
    if "min(" in text or "max(" in text:
        raise ValueError(f"a dim that is {d}")
    return re.sub(r"[A-Za-z_?][\w.?]*", lambda m: name(m[0]), text)


# ---------------------------------------------------------------- TypeScript
def _ts(m: Interface) -> str:
    def dims(s: TensorSpec) -> str:
        if s.shape is None:
            return "readonly number[]"
        return "readonly [" + ", ".join(str(d) if isinstance(d, int) else "number" for d in s.shape) + "]"

    def fields(specs: Sequence[TensorSpec]) -> list[str]:
        return [
            f"  /** {comment(s)} */\n  readonly {json.dumps(s.name)}: TypedTensor<{_TS[s.dtype]}, {dims(s)}>;"
            for s in specs
        ]

    labels = json.dumps(m.labels, ensure_ascii=False)
    return "\n".join(
        [
            f"// Typed bindings of the model '{m.name}', written by `deploykit bindings`.",
            "",
            "export interface TypedTensor<Data, Shape extends readonly number[]> {",
            "  readonly data: Data;",
            "  readonly shape: Shape;",
            "}",
            "",
            "export interface Inputs {",
            *fields(m.inputs),
            "}",
            "",
            "export interface Outputs {",
            *fields(m.outputs),
            "}",
            "",
            f"export const inputNames = {json.dumps([s.name for s in m.inputs])} as const;",
            f"export const outputNames = {json.dumps([s.name for s in m.outputs])} as const;",
            f"export const labels: readonly string[] = {labels};",
            "",
            "/** Anything that runs by names: the model object of the web package. */",
            "export interface Runner {",
            "  run(inputs: Record<string, unknown>): unknown;",
            "}",
            "",
            "/** The model with the types of its inputs and outputs. */",
            f"export class {m.name[0].upper() + m.name[1:]} {{",
            "  private readonly runner: Runner;",
            "",
            "  constructor(runner: Runner) {",
            "    this.runner = runner;",
            "  }",
            "",
            "  async run(inputs: Inputs): Promise<Outputs> {",
            "    return (await this.runner.run(inputs as unknown as Record<string, unknown>)) as Outputs;",
            "  }",
            "}",
            "",
        ]
    )


# ---------------------------------------------------------------- Python
def _py(m: Interface) -> str:
    ins, outs = identifiers(m.inputs), identifiers(m.outputs)

    def kind(s: TensorSpec) -> str:
        named = {"bool": "np.bool_", "bfloat16": "Any", "float16": "np.float16"}.get(s.dtype, f"np.{s.dtype}")
        return f"npt.NDArray[{named}]"

    arguments = ", ".join(f"{i}: {kind(s)}" for i, s in zip(ins, m.inputs, strict=True))
    feeds = ", ".join(f"{s.name!r}: {i}" for i, s in zip(ins, m.inputs, strict=True))
    results = ", ".join(f"got[{s.name!r}]" for s in m.outputs)
    lines = [
        f'"""Typed bindings of the model {m.name!r}, written by ``deploykit bindings``."""',
        "",
        "from __future__ import annotations",
        "",
        "import os",
        "from typing import Any, NamedTuple",
        "",
        "import numpy as np",
        "import numpy.typing as npt",
        "",
        "import deploykit",
        "",
        f"INPUTS = {[(s.name, s.dtype, None if s.shape is None else tuple(map(_plain, s.shape))) for s in m.inputs]!r}",
        f"OUTPUTS = {[(s.name, s.dtype, None if s.shape is None else tuple(map(_plain, s.shape))) for s in m.outputs]!r}",
        f"LABELS: list[str] = {m.labels!r}",
        "",
        "",
        "class Outputs(NamedTuple):",
        '    """What a run gives."""',
        "",
        *(f"    {i}: {kind(s)}  # {_text(s)}" for i, s in zip(outs, m.outputs, strict=True)),
        "",
        "",
        "class Model:",
        '    """The model with the types of its inputs and outputs."""',
        "",
        "    def __init__(self, path: str | os.PathLike[str] | bytes, threads: int | None = None) -> None:",
        "        self.session: Any = deploykit.Interpreter(path, threads=threads)",
        "        have = [[s.name for s in side] for side in (self.session.inputs, self.session.outputs)]",
        "        if have != [[s[0] for s in side] for side in (INPUTS, OUTPUTS)]:",
        f'            raise TypeError(f"{{path!r}} is not the model {m.name!r} of these bindings; write them anew.")',
        "",
        f"    def run(self, {arguments}) -> Outputs:",
        '        """Run once.',
        "",
        *(f"        {i}: {_text(s)}." for i, s in zip(ins, m.inputs, strict=True)),
        '        """',
        f"        got = self.session.run({{{feeds}}})",
        f"        return Outputs({results})",
        "",
    ]
    return "\n".join(lines)


def _plain(d: int | Dim) -> int | str:
    return d if isinstance(d, int) else str(d)
