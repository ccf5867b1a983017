"""The example program of a bundle: raw numbers in, the outputs' first numbers and a digest out."""

from __future__ import annotations

from deploykit import bindings
from deploykit.bindings import Interface
from deploykit.bundle import header
from deploykit.graph.dims import Dim

_HEAD = """\
/* Runs the model '{n}':  {n}_example {n}.dk [INPUT ...]
 *
 * INPUT: one file per input with its numbers as they lie in memory; an input without a file is zeros.  Printed are each
 * output's shape, its first numbers and the FNV-1a digest of its bytes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "{n}.h"

static void* numbers(size_t bytes, const char* path) {{
  void* data = calloc(bytes + 64, 1); /* the engine may read 64 bytes behind the end */
  FILE* f = path ? fopen(path, "rb") : NULL;
  if (!data || (path && (!f || fread(data, 1, bytes, f) != bytes))) {{
    fprintf(stderr, "%s: not there, or less than %lu bytes\\n", path ? path : "memory", (unsigned long)bytes);
    exit(1);
  }}
  if (f) fclose(f);
  return data;
}}

static unsigned long long digest(const void* data, size_t bytes) {{
  const unsigned char* p = (const unsigned char*)data;
  unsigned long long h = 14695981039346656037ull;
  while (bytes--) h = (h ^ *p++) * 1099511628211ull;
  return h;
}}
"""


def generate(m: Interface) -> str:
    """The text of ``example.c``."""
    ins, outs = header.names(m)
    n = m.name
    taken = set(ins)
    dim = {s: bindings.identifier(f"dim_{s}", taken) for s in bindings.symbols(m.inputs)}
    lines = [_HEAD.format(n=n), "int main(int argc, char** argv) {"]
    lines += [f"  {n} m;", f"  {n}_inputs in;", f"  {n}_outputs out;", "  size_t count, k;"]
    lines += [
        f"  if (argc < 2 || argc > {2 + len(ins)}) {{",
        f'    fprintf(stderr, "usage: %s {n}.dk [INPUT ...]\\n", argv[0]);',
    ]
    lines += ["    return 2;", "  }", f"  if ({n}_open(&m, argv[1], 0)) {{"]
    lines += ['    fprintf(stderr, "%s\\n", dk_last_error());', "    return 1;", "  }", "  memset(&in, 0, sizeof in);"]
    lines += [f"  in.{d} = 1; /* size of the dim '{s}': put yours */" for s, d in dim.items()]
    for i, (name, s) in enumerate(zip(ins, m.inputs, strict=True)):
        if s.shape is None:
            lines.append(f"  in.{name}_rank = 0; /* any rank: put yours, and the dims */")
        sizes = [bindings.expression(d, lambda x: f"in.{dim[x]}") for d in s.shape or ()]
        lines.append("  count = " + " * ".join(["(size_t)1", *(f"(size_t)({d})" for d in sizes)]) + ";")
        ctype = bindings.C_TYPES[s.dtype]
        lines.append(
            f"  in.{name} = (const {ctype}*)numbers(count * sizeof *in.{name}, argc > {i + 2} ? argv[{i + 2}] : NULL);"
        )
    lines += [f"  if ({n}_check(m.session) || {n}_run(m.session, &in, &out)) {{"]
    lines += ['    fprintf(stderr, "%s\\n", dk_session_error(m.session));', "    return 1;", "  }"]
    for name, s in zip(outs, m.outputs, strict=True):
        as_number = "(double)" if s.dtype in ("float32", "float64") else "(long long)"
        form = "%.9g" if s.dtype in ("float32", "float64") else "%lld"
        text = s.name.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
        lines += [
            "  count = 1;",
            f'  printf("{text} [");',
            f"  for (k = 0; k < (size_t)out.{name}_rank; ++k) {{",
            f"    count *= (size_t)out.{name}_dims[k];",
            f'    printf(k ? ", %lld" : "%lld", (long long)out.{name}_dims[k]);',
            "  }",
            f'  printf("] %016llx:", digest(out.{name}, count * sizeof *out.{name}));',
            f'  for (k = 0; k < count && k < 8; ++k) printf(" {form}", {as_number}out.{name}[k]);',
            '  puts("");',
        ]
    lines += [f"  free((void*)in.{i});" for i in ins]
    return "\n".join([*lines, f"  {n}_close(&m);", "  return 0;", "}", ""])


def has_open_dims(m: Interface) -> bool:
    """Whether the example has sizes to fill in."""
    return any(s.shape is None or any(isinstance(d, Dim) for d in s.shape) for s in m.inputs)
