"""The typed C header of a model: the functions of ``deploykit bindings``, the sizes as constants, and a handle to open and
close it with."""

from __future__ import annotations

from math import prod

from deploykit import bindings
from deploykit.bindings import Interface
from deploykit.interpreter import TensorSpec


def elements(s: TensorSpec) -> int | None:
    """Number of elements, where the shape is closed."""
    if s.shape is None or not all(isinstance(d, int) for d in s.shape):
        return None
    return prod(d for d in s.shape if isinstance(d, int))


def names(m: Interface) -> tuple[list[str], list[str]]:
    """C identifiers of inputs and outputs."""
    return bindings.identifiers(m.inputs), bindings.identifiers(m.outputs)


def constants(m: Interface) -> list[str]:
    """Lines ``#define NET_IMAGE_SIZE 585`` for inputs and outputs, and one per dim."""
    lines = []
    for ids, specs in zip(names(m), (m.inputs, m.outputs), strict=True):
        for name, s in zip(ids, specs, strict=True):
            stem = f"{m.name}_{name}".upper()
            if (n := elements(s)) is not None:
                lines.append(f"#define {stem}_SIZE {n} /* elements */")
            for axis, d in enumerate(s.shape or ()):
                if isinstance(d, int):
                    lines.append(f"#define {stem}_DIM_{axis} {d}")
    return list(dict.fromkeys(lines))


def generate(m: Interface) -> str:
    """The text of ``<name>.h``.

    >>> spec = TensorSpec("x", (1, 3), "float32")
    >>> text = generate(Interface("net", [spec], [spec], {}))
    >>> "#define NET_X_SIZE 3" in text and "net_open(net* m" in text
    True
    """
    n = m.name
    text = bindings.generate(m, "c").replace('#include "deploykit/dk.h"', '#include "deploykit.h"')
    text = text.replace("`deploykit bindings`", "`deploykit bundle`")
    head, end, _ = text.rpartition("#endif")
    return f"""{head}{chr(10).join(constants(m))}

/* The model with a session of its own.  One thread at a time; for more, one of these per thread. */
typedef struct {n} {{
  dk_model* model;
  dk_session* session;
}} {n};

static inline void {n}_close({n}* m) {{
  dk_session_free(m->session);
  dk_model_free(m->model);
  m->session = NULL;
  m->model = NULL;
}}

static inline dk_status {n}_start({n}* m, dk_status status, int32_t threads) {{
  dk_session_options options;
  memset(&options, 0, sizeof options);
  options.threads = threads;
  if (!status) status = dk_session_new(m->model, &options, &m->session);
  if (status) {n}_close(m); /* the text of the error stays: dk_last_error() */
  return status;
}}

/* Open the file; threads: 0 for all CPUs.  DK_OK, or a code whose text dk_last_error() gives. */
static inline dk_status {n}_open({n}* m, const char* path, int32_t threads) {{
  memset(m, 0, sizeof *m);
  return {n}_start(m, dk_model_open(path, NULL, &m->model), threads);
}}

/* The same for bytes in memory (an asset of the app), which must stay as they are until {n}_close. */
static inline dk_status {n}_open_bytes({n}* m, const void* data, size_t size, int32_t threads) {{
  memset(m, 0, sizeof *m);
  return {n}_start(m, dk_model_from_bytes(data, size, NULL, &m->model), threads);
}}

{end}
"""
