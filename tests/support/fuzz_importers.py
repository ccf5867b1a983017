"""Mutates real model files and gives them to the Python readers.  Whatever the bytes: a Graph (or weights) or a coded error,
within a second of CPU time and a bounded amount of memory.

python -m tests.support.fuzz_importers KIND CASES [SEED]     KIND: onnx tflite keras tfjs gguf safetensors dk, or all

Case k of a seed is always the same: ``--only K`` repeats it.  ``--read``: the reader alone, not what a conversion does next.
"""

from __future__ import annotations

import argparse
import base64
import collections
import gzip
import io
import json
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import DeploykitError

ROOT = Path(__file__).resolve().parents[1]
SLOW = 1.0  # seconds of CPU time for one case
CHILD = 2000  # cases in one process
NUMBERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)


class Slow(BaseException):
    """A case took longer than SLOW."""


# ---------------------------------------------------------------- mutations
def number(r: random.Random) -> int:
    n = r.choice(NUMBERS) if r.random() < 0.7 else r.getrandbits(r.choice((4, 8, 16, 32, 64)))
    return -n if r.random() < 0.3 else n


def mutate_bytes(data: bytes, r: random.Random, other: bytes = b"") -> bytes:
    """Bits, numbers of 1 to 8 bytes, pieces over other pieces, cuts."""
    b = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 3, 8))):
        if not b:
            break
        at = r.randrange(len(b)) if r.random() < 0.5 else r.randrange(min(len(b), 4096))
        match r.randrange(8):
            case 0:
                b[at] ^= 1 << r.randrange(8)
            case 1:
                b[at] = r.getrandbits(8)
            case 2 | 3:
                width = r.choice((1, 2, 4, 8))
                at &= ~(width - 1)
                if at + width <= len(b):
                    b[at : at + width] = (number(r) % (1 << 8 * width)).to_bytes(width, "little")
            case 4:
                n, start = r.randrange(1, 64), r.randrange(len(b))
                b[at : at + n] = b[start : start + n]
            case 5:
                piece = other or bytes(b)
                start = r.randrange(max(1, len(piece)))
                b[at : at + 16] = piece[start : start + 16]
            case 6:
                del b[at : at + r.randrange(1, 32)]
            case 7:
                if r.random() < 0.2:
                    del b[at:]
                else:
                    b[at:at] = bytes(r.getrandbits(8) for _ in range(r.randrange(1, 16)))
    return bytes(b)


def places(x: Any, out: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON tree."""
    for k in list(x) if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else ():
        out.append((x, k))
        places(x[k], out)
    return out


def mutate_json(x: Any, r: random.Random) -> None:
    """Change values, their kinds, their order; drop and double entries."""
    for _ in range(r.choice((1, 1, 2, 4))):
        found = places(x, [])
        if not found:
            return
        where, key = r.choice(found)
        old = where[key]
        match r.randrange(8):
            case 0 | 1 | 2 if isinstance(old, (int, float)) and not isinstance(old, bool):
                where[key] = r.choice((number(r), old + r.choice((-1, 1)), -old, float("nan"), 0.5))
            case 0 | 1 if isinstance(old, str):
                words = [w[k] for w, k in found if isinstance(w[k], str)]
                where[key] = r.choice((r.choice(words), "", "x" * 300, "../x", "\0"))
            case 2 | 3:
                where[key] = json.loads(json.dumps(r.choice([w[k] for w, k in found])))
            case 4:
                del where[key]
            case 5:
                where[key] = r.choice((None, True, [], {}, "", -1, 1e300, [[]], [0] * 9))
            case 6 if isinstance(where, list):
                where.insert(r.randrange(len(where) + 1), json.loads(json.dumps(old)))
            case 7 if isinstance(where, list):
                r.shuffle(where)
            case _:
                where[key] = number(r)


# ---------------------------------------------------------------- seeds: one function per kind gives cases
def cases_onnx(r: random.Random, folder: Path) -> Callable[[], Any]:
    from deploykit.converters.importers.onnx import import_onnx

    data = r.choice(_seeds("onnx"))
    if r.random() < 0.35:
        damaged = mutate_bytes(data, r, r.choice(_seeds("onnx")))
        return lambda: _whole(import_onnx(damaged))
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(data)
    _mutate_proto(model, r)
    out = model.SerializeToString()
    return lambda: _whole(import_onnx(out))


def _mutate_proto(message: Any, r: random.Random) -> None:
    """Change a few fields anywhere in a protobuf message."""
    messages = [message]
    at = 0
    while at < len(messages) and len(messages) < 3000:
        for f, v in messages[at].ListFields():
            if f.message_type is not None:
                messages += list(v) if _repeated(f) else [v]
        at += 1
    for _ in range(r.choice((1, 1, 2, 4))):
        m = r.choice(messages)
        fields = m.ListFields()
        if not fields:
            continue
        f, v = r.choice(fields)
        try:
            if _repeated(f):
                match r.randrange(4):
                    case 0 if len(v):
                        del v[r.randrange(len(v))]
                    case 1 if len(v) and f.message_type is not None:
                        v.add().CopyFrom(r.choice(list(v)))
                    case 2 if len(v) and f.message_type is None:
                        v.append(r.choice(list(v)))
                    case _ if len(v) and f.message_type is None:
                        v[r.randrange(len(v))] = _scalar(v[0], r, messages)
            elif f.message_type is not None:
                if r.random() < 0.3:
                    m.ClearField(f.name)
            else:
                setattr(m, f.name, _scalar(v, r, messages))
        except (ValueError, TypeError):  # out of the field's range
            pass


def _repeated(f: Any) -> bool:
    return bool(f.is_repeated if hasattr(f, "is_repeated") else f.label == f.LABEL_REPEATED)


def _scalar(v: Any, r: random.Random, messages: list[Any]) -> Any:
    if isinstance(v, str):
        m = r.choice(messages)
        words = [w for f, w in m.ListFields() if isinstance(w, str)]
        return r.choice([*words, "", "x", "\0", v + "_", "Loop", "If"])
    if isinstance(v, bytes):
        return mutate_bytes(v[:200], r) if r.random() < 0.5 else v[: r.randrange(len(v) + 1)]
    if isinstance(v, float):
        return r.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, v * 2))
    return r.choice((number(r), v + 1, v - 1, -v))


def cases_tflite(r: random.Random, folder: Path) -> Callable[[], Any]:
    from deploykit.converters.importers.tflite import import_tflite

    data = mutate_bytes(r.choice(_seeds("tflite")), r, r.choice(_seeds("tflite")))
    return lambda: _whole(import_tflite(data))


def cases_keras(r: random.Random, folder: Path) -> Callable[[], Any]:
    from deploykit.keras.saving import import_keras

    with zipfile.ZipFile(io.BytesIO(r.choice(_seeds("keras")))) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    which = r.random()
    if which < 0.8:
        config = json.loads(parts["config.json"])
        mutate_json(config, r)
        parts["config.json"] = json.dumps(config).encode()
    elif which < 0.9:
        name = next(n for n in parts if "weights" in n)
        parts[name] = mutate_bytes(parts[name], r)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for k, v in parts.items():
            z.writestr(k, v)
    data = buffer.getvalue() if which < 0.9 else mutate_bytes(buffer.getvalue(), r)
    path = folder / "m.keras"
    path.write_bytes(data)
    return lambda: _whole(import_keras(path))


def cases_tfjs(r: random.Random, folder: Path) -> Callable[[], Any]:
    from deploykit.converters.importers.tfjs import import_tfjs

    top, data = r.choice(_seeds("tfjs"))
    top = json.loads(top)
    if r.random() < 0.9:
        mutate_json(top, r)
    text = json.dumps(top).encode()
    if r.random() < 0.1:
        text = mutate_bytes(text, r)
    (folder / "w.bin").write_bytes(data if r.random() < 0.8 else mutate_bytes(data, r))
    path = folder / "model.json"
    path.write_bytes(text)
    return lambda: _whole(import_tfjs(path))


def _weights(kind: str) -> Callable[[random.Random, Path], Callable[[], Any]]:
    def make(r: random.Random, folder: Path) -> Callable[[], Any]:
        from deploykit.weights import open_weights

        path = folder / f"m.{kind}"
        path.write_bytes(mutate_bytes(r.choice(_seeds(kind)), r, r.choice(_seeds(kind))))

        def use() -> None:
            w = open_weights(path)
            for name in w:
                try:
                    _ = w[name].shape, w.blocks(name)
                except DeploykitError:
                    pass

        return use

    return make


def cases_dk(r: random.Random, folder: Path) -> Callable[[], Any]:
    """The Python reader of .dk files, with checksums mended so that it gets behind them."""
    from deploykit.graph.dk_tables import Model
    from deploykit.graph.dkfile import from_bytes

    data = bytearray(mutate_bytes(r.choice(_seeds("dk")), r, r.choice(_seeds("dk"))))
    try:
        model = Model.GetRootAs(data)
        at = model._tab.Pos + model._tab.Offset(8)
        data[at : at + 4] = bytes(4)
        data[at : at + 4] = struct.pack("<I", zlib.crc32(data[: model.HeaderSize()]))
    except Exception:  # too damaged to be mended
        pass
    return lambda: from_bytes(bytes(data))


def _whole(graph: Any) -> None:
    """What convert does next."""
    if _read_only:
        return
    from deploykit.converters.pipeline import optimize
    from deploykit.graph.dkfile import to_bytes

    to_bytes(optimize(graph)[0])


_made: dict[str, list[Any]] = {}
_read_only = False


def _seeds(kind: str) -> list[Any]:
    if kind not in _made:
        _made[kind] = list(SEEDS[kind]())
    return _made[kind]


def _seeds_onnx() -> list[bytes]:
    """Every op family as our exporter writes it, onnx's own node tests (small ones), and hand-made control flow."""
    import onnx.backend.test

    out = []
    base = Path(onnx.backend.test.__file__).parent / "data"
    for path in sorted(base.glob("*/*/model.onnx")):
        if path.stat().st_size < 20_000:
            out.append(path.read_bytes())
    return out


def _seeds_tflite() -> list[bytes]:
    from tests.converters.tflite.test_single_ops import cases
    from tests.support.tflite_ops import model

    return [model(c) for c in cases(0)]


def _seeds_keras() -> list[bytes]:
    import deploykit.keras as k

    layers, out = k.layers, []
    image = [
        layers.Conv2D(3, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
    ]
    stacks = [
        ((6, 6, 2), [*image, layers.Dense(4, activation="softmax")]),
        ((5, 3), [layers.LSTM(4, return_sequences=True), layers.GRU(3), layers.Dense(2)]),
        ((4,), [layers.Dense(5), layers.LayerNormalization(), layers.Dropout(0.1), layers.Reshape((5, 1)), layers.Conv1D(2, 2)]),
        ((8, 8, 4), [layers.DepthwiseConv2D(3), layers.SeparableConv2D(4, 3), layers.UpSampling2D(),
                     layers.GlobalAveragePooling2D()]),
        ((7,), [layers.Embedding(10, 4), layers.Bidirectional(layers.LSTM(3)), layers.Activation("tanh")]),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as d:
        for i, (shape, stack) in enumerate(stacks):
            model = k.Sequential([k.Input(shape), *stack])
            for suffix in (".keras", ".dkt"):
                path = Path(d) / f"{i}{suffix}"
                model.save(path)
                out.append(path.read_bytes())
    return out


def _seeds_tfjs() -> list[tuple[str, bytes]]:
    out = []
    folder = ROOT / "converters" / "tfjs"
    graphs = json.loads(gzip.decompress((folder / "graphs.json.gz").read_bytes()))
    layers = json.loads((folder / "layers.json").read_text())
    for c in graphs.values():
        refs = {f"out{i}": {"name": n} for i, n in enumerate(c["refs"])}
        signature = {"inputs": {"x": {"name": "x:0"}}, "outputs": refs}
        top = {"format": "graph-model", "modelTopology": c["modelTopology"], "signature": signature,
               "weightsManifest": [{"paths": ["w.bin"], "weights": c["weights"]}]}  # fmt: skip
        out.append((json.dumps(top), base64.b64decode(c["data"])))
    for c in layers.values():
        top = {"format": "layers-model", "modelTopology": c["modelTopology"],
               "weightsManifest": [{"paths": ["w.bin"], "weights": c["weights"]}]}  # fmt: skip
        out.append((json.dumps(top), base64.b64decode(c["data"])))
    return [o for o in out if len(o[0]) < 20_000]


def _seeds_gguf() -> list[bytes]:
    def text(s: str) -> bytes:
        return struct.pack("<Q", len(s)) + s.encode()

    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
             text("a.list") + struct.pack("<IIQ", 9, 4, 3) + struct.pack("<3I", 1, 2, 3),
             text("a.words") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("yz"),
             text("general.alignment") + struct.pack("<II", 4, 32)]  # fmt: skip
    tensors, data = [], b""
    for i, (kind, block, size) in enumerate(
        [(0, 1, 4), (1, 1, 2), (2, 32, 18), (8, 32, 34), (12, 256, 144), (14, 256, 210)]
    ):
        n = 2 * block
        tensors.append(text(f"t{i}") + struct.pack("<IQQIQ", 2, n, 2, kind, len(data)))
        data += bytes((7 * k) % 251 for k in range(n // block * 2 * size))
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return [head + bytes(-len(head) % 32) + data]


def _seeds_safetensors() -> list[bytes]:
    from deploykit.keras.saving import safetensors_bytes

    arrays = {"a": np.ones((2, 3), np.float32), "b/c": np.arange(5, dtype=np.int64), "h": np.zeros((4,), np.float16)}
    return [safetensors_bytes(arrays, {"x": "y"})]


def _seeds_dk() -> list[bytes]:
    from tests.support.fuzz_seeds import seeds

    return [data for _, data in seeds(1)]


SEEDS: dict[str, Callable[[], list[Any]]] = {
    "onnx": _seeds_onnx, "tflite": _seeds_tflite, "keras": _seeds_keras, "tfjs": _seeds_tfjs, "gguf": _seeds_gguf,
    "safetensors": _seeds_safetensors, "dk": _seeds_dk,
}  # fmt: skip
KINDS: dict[str, Callable[[random.Random, Path], Callable[[], Any]]] = {
    "onnx": cases_onnx, "tflite": cases_tflite, "keras": cases_keras, "tfjs": cases_tfjs, "gguf": _weights("gguf"),
    "safetensors": _weights("safetensors"), "dk": cases_dk,
}  # fmt: skip


# ---------------------------------------------------------------- running
def one(kind: str, seed: int, k: int, folder: Path) -> str:
    """How case k ends: ``ok``, an error's code, or ``!`` and what should not have come."""

    def late(*_: Any) -> None:
        raise Slow

    signal.signal(signal.SIGPROF, late)
    try:
        action = KINDS[kind](random.Random(f"{kind} {seed} {k}"), folder)
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        action()
        return "ok"
    except DeploykitError as e:
        cause = e.__cause__
        if cause is None or isinstance(cause, DeploykitError):
            return e.code
        return f"unforeseen: {_where(cause)}"  # a coded error all the same; told, so that it can be foreseen
    except Slow:
        return f"!slow: {''.join(traceback.format_stack(limit=2))}"
    except BaseException as e:
        return f"!{_where(e)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _where(e: BaseException) -> str:
    frames = traceback.extract_tb(e.__traceback__)
    ours = [f for f in frames if "/deploykit/" in f.filename or "/converters/" in f.filename]
    at = ours[-1] if ours else frames[-1]
    return f"{type(e).__name__}: {str(e)[:150]} at {at.filename.rsplit('/', 2)[-1]}:{at.lineno}: {at.line}"


def run(kind: str, cases: int, seed: int = 0, first: int = 0) -> tuple[collections.Counter[str], list[tuple[int, str]]]:
    """Counts by ending, and the cases that should not have ended so.  Runs in children of CHILD cases each: what kills one
    (a library of C below the reader) is found too."""
    import resource

    counts: collections.Counter[str] = collections.Counter()
    wrong: list[tuple[int, str]] = []
    _seeds(kind)
    with tempfile.TemporaryDirectory() as d:  # what is imported on first use is imported here, not in every child
        for k in range(20):
            one(kind, -1, k, Path(d))
    at = first
    while at < first + cases:
        end = min(at + CHILD, first + cases)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            # what the parent has mapped counts as well: a long run of tests holds gigabytes of libraries and arenas
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + (4 << 30),) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            sys.stderr = open(os.devnull, "w")
            with tempfile.TemporaryDirectory() as d, os.fdopen(writing, "w") as f:
                for k in range(at, end):
                    print(json.dumps([k, None]), file=f, flush=True)
                    print(json.dumps([k, one(kind, seed, k, Path(d))]), file=f, flush=True)
            os._exit(0)
        os.close(writing)
        last, done = at, at
        with os.fdopen(reading) as f:
            for line in f:
                last, how = json.loads(line)
                if how is None:
                    continue
                done = last + 1
                counts[how[:1] if how.startswith("!") else how.partition(":")[0]] += 1
                if how.startswith(("!", "unforeseen")):
                    wrong.append((last, how))
        status = os.waitpid(pid, 0)[1]
        if done < end:
            wrong.append((last, f"!the process died (status {status})"))
            counts["!"] += 1
            done = last + 1
        at = done
    return counts, wrong


def main() -> int:
    p = argparse.ArgumentParser()
    p.add_argument("kind")
    p.add_argument("cases", type=int)
    p.add_argument("seed", type=int, nargs="?", default=0)
    p.add_argument("--only", type=int)
    p.add_argument("--read", action="store_true")
    a = p.parse_args()
    global _read_only
    _read_only = a.read
    bad = 0
    for kind in KINDS if a.kind == "all" else [a.kind]:
        if a.only is not None:
            with tempfile.TemporaryDirectory() as d:
                KINDS[kind](random.Random(f"{kind} {a.seed} {a.only}"), Path(d))()
            continue
        started = time.time()
        counts, wrong = run(kind, a.cases, a.seed)
        print(f"{kind}: {a.cases} cases in {time.time() - started:.0f} s:", dict(counts.most_common()), flush=True)
        seen: set[str] = set()
        for k, how in wrong:
            where = how.rsplit(" at ", 1)[-1]
            if where not in seen:
                seen.add(where)
                print(f"  {kind} {a.seed} --only {k}: {how}", flush=True)
        bad += counts["!"]
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
