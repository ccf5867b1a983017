"""The Java class of a model and the C functions behind it."""

from __future__ import annotations

import json
import re
from math import prod

from deploykit import bindings
from deploykit.bindings import Interface
from deploykit.bundle import header
from deploykit.errors import InputError, UnsupportedError
from deploykit.graph.dims import Dim
from deploykit.interpreter import TensorSpec

_JAVA = {
    "float32": "float", "float64": "double", "float16": "short", "bfloat16": "short", "bool": "byte",
    **{f"{u}int{b}": j for u in ("", "u") for b, j in ((8, "byte"), (16, "short"), (32, "int"), (64, "long"))},
}  # fmt: skip
_RESERVED = frozenset(
    "abstract assert boolean byte catch extends final finally implements instanceof interface native new null package "
    "private protected public strictfp super synchronized this throw throws transient handle model outputs threads".split()
)


def class_name(m: Interface) -> str:
    """``small_net`` is the class SmallNet."""
    return "".join(w[0].upper() + w[1:] for w in m.name.split("_") if w)


def check(m: Interface, package: str) -> None:
    """Refuse what a Java or Swift class cannot hold."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(\.[a-z][a-z0-9]*)+", package):
        raise InputError(f"--package {package}: expected lower-case words with dots between, as in com.example.nets.")
    ranks = [s.name for s in m.inputs if s.shape is None]
    if ranks:
        raise UnsupportedError(
            f"input '{ranks[0]}' may have any rank, which the class has no type for; use --target c."
        )


def arguments(m: Interface) -> tuple[list[str], dict[str, str]]:
    """Names of the inputs' arguments, and of those for open dims by dim."""
    taken: set[str] = set(_RESERVED)
    names = [bindings.identifier(s.name, taken) for s in m.inputs]
    return names, {d: bindings.identifier(f"dim_{d}", taken) for d in bindings.symbols(m.inputs)}


def _fixed(s: TensorSpec) -> int:
    return prod(d for d in s.shape or () if isinstance(d, int))


def _size(s: TensorSpec, dims: dict[str, str], cast: str = "") -> str:
    """Elements of an input as an expression."""
    sizes = [bindings.expression(d, lambda x: dims[x]) for d in s.shape or () if isinstance(d, Dim)]
    return " * ".join([f"{cast}{_fixed(s)}", *(f"{cast}({d})" for d in sizes)])


def java(m: Interface, package: str) -> str:
    """The text of ``<Class>.java``."""
    name, (ins, dims) = class_name(m), arguments(m)
    outs = header.names(m)[1]
    sign = ", ".join(
        [f"{_JAVA[s.dtype]}[] {i}" for i, s in zip(ins, m.inputs, strict=True)] + [f"long {d}" for d in dims.values()]
    )
    call = ", ".join(["handle", *ins, *dims.values()])
    docs = [f"     * @param {i} {bindings.comment(s)}" for i, s in zip(ins, m.inputs, strict=True)]
    docs += [f"     * @param {d} size of the dim '{s}'" for s, d in dims.items()]
    fields = [
        line
        for o, s in zip(outs, m.outputs, strict=True)
        for line in (
            f"        /** {bindings.comment(s)} */",
            f"        public final {_JAVA[s.dtype]}[] {o};",
            f"        public final long[] {o}Shape;",
        )
    ]
    fill = [
        line
        for k, (o, s) in enumerate(zip(outs, m.outputs, strict=True))
        for line in (
            f"            {o} = ({_JAVA[s.dtype]}[]) parts[{2 * k}];",
            f"            {o}Shape = (long[]) parts[{2 * k + 1}];",
        )
    ]
    labels = ", ".join(json.dumps(x, ensure_ascii=False) for x in m.labels)
    sizes = [
        f"    public static final int {i.upper()}_SIZE = {n};"
        for i, s in zip(ins, m.inputs, strict=True)
        if (n := header.elements(s)) is not None
    ]
    return "\n".join(
        [
            f"// Written by `deploykit bundle` for the model '{m.name}'.",
            f"package {package};",
            "",
            "import java.nio.ByteBuffer;",
            "",
            "/**",
            f" * The model '{m.name}'. One thread at a time; for more, one object per thread. Close it when done.",
            " *",
            " * <p>Errors are IllegalStateException with the engine's text, which starts with a code (DK-...).",
            " */",
            f"public final class {name} implements AutoCloseable {{",
            "    static {",
            f'        System.loadLibrary("{m.name}");',
            "    }",
            "",
            f"    public static final String[] LABELS = {{{labels}}};",
            *sizes,
            "",
            "    private long handle;",
            "    private final ByteBuffer model; // keeps the bytes alive",
            "",
            "    /** From a file. @param threads 0 for all CPUs */",
            f"    public {name}(String path, int threads) {{",
            "        model = null;",
            "        handle = openFile(path, threads);",
            "    }",
            "",
            "    /** From bytes in memory: a direct buffer, such as a mapped asset. @param threads 0 for all CPUs */",
            f"    public {name}(ByteBuffer direct, int threads) {{",
            "        if (!direct.isDirect())",
            '            throw new IllegalArgumentException("DK-INPUT: the buffer is not direct (allocateDirect)");',
            "        model = direct;",
            "        handle = openBytes(direct, direct.limit(), threads);",
            "    }",
            "",
            "    /** What a run gives. */",
            "    public static final class Outputs {",
            *fields,
            "",
            "        Outputs(Object[] parts) {",
            *fill,
            "        }",
            "    }",
            "",
            "    /**",
            "     * Run once.",
            "     *",
            *docs,
            "     */",
            f"    public synchronized Outputs run({sign}) {{",
            '        if (handle == 0) throw new IllegalStateException("DK-INPUT: the model is closed");',
            f"        return new Outputs(run0({call}));",
            "    }",
            "",
            "    @Override",
            "    public synchronized void close() {",
            "        close0(handle);",
            "        handle = 0;",
            "    }",
            "",
            "    private static native long openFile(String path, int threads);",
            "",
            "    private static native long openBytes(ByteBuffer direct, long size, int threads);",
            "",
            "    private static native void close0(long handle);",
            "",
            f"    private static native Object[] run0(long handle, {sign});",
            "}",
            "",
        ]
    )


_JNI = """\
/* What {cls}.java calls.  Written by `deploykit bundle`. */
#include <jni.h>
#include <stdio.h>
#include <stdlib.h>

#include "{n}.h"

static void fail(JNIEnv* env, const char* kind, const char* text) {{
  jclass cls = (*env)->FindClass(env, kind);
  if (cls) (*env)->ThrowNew(env, cls, text);
}}

static void state(JNIEnv* env, const char* text) {{ fail(env, "java/lang/IllegalStateException", text); }}

static void engine_error(JNIEnv* env, dk_status status, const char* text) {{
  char whole[1024];
  snprintf(whole, sizeof whole, "%s: %s", dk_status_name(status), text);
  state(env, whole);
}}

/* The handle, or 0 with an exception. */
static jlong opened(JNIEnv* env, {n}* m, dk_status status) {{
  if (!status && !{n}_check(m->session)) return (jlong)(intptr_t)m;
  if (status) {{
    engine_error(env, status, dk_last_error());
  }} else {{
    state(env, "DK-INPUT: the file is another model than this class was written for");
    {n}_close(m);
  }}
  free(m);
  return 0;
}}

JNIEXPORT jlong JNICALL {prefix}openFile(JNIEnv* env, jclass cls, jstring path, jint threads) {{
  {n}* m = ({n}*)calloc(1, sizeof *m);
  const char* text = path ? (*env)->GetStringUTFChars(env, path, NULL) : NULL;
  dk_status status;
  (void)cls;
  if (!m || !text) {{
    free(m);
    if (!(*env)->ExceptionCheck(env)) state(env, "DK-MEMORY: no path, or no memory");
    return 0;
  }}
  status = {n}_open(m, text, threads);
  (*env)->ReleaseStringUTFChars(env, path, text);
  return opened(env, m, status);
}}

JNIEXPORT jlong JNICALL {prefix}openBytes(JNIEnv* env, jclass cls, jobject direct, jlong size, jint threads) {{
  {n}* m = ({n}*)calloc(1, sizeof *m);
  void* data = (*env)->GetDirectBufferAddress(env, direct);
  (void)cls;
  if (!m || !data) {{
    free(m);
    state(env, "DK-MEMORY: no memory");
    return 0;
  }}
  return opened(env, m, {n}_open_bytes(m, data, (size_t)size, threads));
}}

JNIEXPORT void JNICALL {prefix}close0(JNIEnv* env, jclass cls, jlong handle) {{
  {n}* m = ({n}*)(intptr_t)handle;
  (void)env;
  (void)cls;
  if (!m) return;
  {n}_close(m);
  free(m);
}}
"""
_COPY = """\
/* A copy of an array's elements, with the bytes behind them that kernels may read; NULL with an exception. */
static void* copy_{t}(JNIEnv* env, j{t}Array values, jlong want, const char* name) {{
  j{t}* data;
  jsize have = values ? (*env)->GetArrayLength(env, values) : -1;
  if (want < 0 || have != want) {{
    char text[300];
    snprintf(text, sizeof text, "DK-INPUT: input '%.100s': got %ld elements, expected %ld", name, (long)have, (long)want);
    fail(env, "java/lang/IllegalArgumentException", text);
    return NULL;
  }}
  data = (j{t}*)malloc((size_t)want * sizeof *data + 64);
  if (!data) {{
    state(env, "DK-MEMORY: no memory for an input");
    return NULL;
  }}
  (*env)->Get{T}ArrayRegion(env, values, 0, have, data);
  return data;
}}
"""


def jni(m: Interface, package: str) -> str:
    """The text of ``<name>_jni.c``."""
    cls, n, dims = class_name(m), m.name, arguments(m)[1]
    ids, outs = header.names(m)
    field = {s: bindings.identifier(f"dim_{s}", set(ids)) for s in dims}
    prefix = f"Java_{package.replace('.', '_')}_{cls}_"
    used = sorted({_JAVA[s.dtype] for s in m.inputs})
    params = ", ".join(
        [f"j{_JAVA[s.dtype]}Array a{k}" for k, s in enumerate(m.inputs)] + [f"jlong d{k}" for k in range(len(dims))]
    )
    by_dim = {s: f"d{k}" for k, s in enumerate(dims)}
    body = [
        f"JNIEXPORT jobjectArray JNICALL {prefix}run0(JNIEnv* env, jclass cls, jlong handle, {params}) {{",
        f"  {n}* m = ({n}*)(intptr_t)handle;",
        f"  {n}_inputs in;",
        f"  {n}_outputs out;",
        f"  void* held[{max(1, len(ids))}] = {{NULL}};",
        "  jobjectArray result = NULL;",
        "  jobject part;",
        "  dk_status status;",
        "  jlong count;",
        "  int k;",
        "  (void)cls;",
        "  memset(&in, 0, sizeof in);",
        *(f"  in.{field[s]} = {d};" for s, d in by_dim.items()),
    ]
    for k, (i, s) in enumerate(zip(ids, m.inputs, strict=True)):
        size = _size(s, by_dim, "(jlong)")
        c_name = json.dumps(s.name, ensure_ascii=False)
        body.append(f"  if (!(held[{k}] = copy_{_JAVA[s.dtype]}(env, a{k}, {size}, {c_name}))) goto done;")
        body.append(f"  in.{i} = (const {bindings.C_TYPES[s.dtype]}*)held[{k}];")
    body += [
        f"  if ((status = {n}_run(m->session, &in, &out))) {{",
        "    engine_error(env, status, dk_session_error(m->session));",
        "    goto done;",
        "  }",
        f'  result = (*env)->NewObjectArray(env, {2 * len(outs)}, (*env)->FindClass(env, "java/lang/Object"), NULL);',
    ]
    for k, (o, s) in enumerate(zip(outs, m.outputs, strict=True)):
        t = _JAVA[s.dtype]
        body += [
            "  count = 1;",
            f"  for (k = 0; k < out.{o}_rank; ++k) count *= (jlong)out.{o}_dims[k];",
            f"  part = result ? (*env)->New{t.capitalize()}Array(env, (jsize)count) : NULL;",
            "  if (!part) goto done;",
            f"  (*env)->Set{t.capitalize()}ArrayRegion(env, (j{t}Array)part, 0, (jsize)count, (const j{t}*)out.{o});",
            f"  (*env)->SetObjectArrayElement(env, result, {2 * k}, part);",
            f"  part = (*env)->NewLongArray(env, out.{o}_rank);",
            "  if (!part) goto done;",
            f"  (*env)->SetLongArrayRegion(env, (jlongArray)part, 0, out.{o}_rank, (const jlong*)out.{o}_dims);",
            f"  (*env)->SetObjectArrayElement(env, result, {2 * k + 1}, part);",
        ]
    body += ["done:", f"  for (k = 0; k < {len(ids)}; ++k) free(held[k]);", "  return result;", "}", ""]
    copies = [_COPY.format(t=t, T=t.capitalize()) for t in used]
    return "\n".join([_JNI.format(cls=cls, n=n, prefix=prefix), *copies, *body])
