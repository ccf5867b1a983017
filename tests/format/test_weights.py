"""safetensors and GGUF files: read as their own packages read them; damaged ones refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import DeploykitError, FormatError, UnsupportedError
from deploykit.ops import GraphBuilder, get
from deploykit.weights import open_weights
from deploykit.weights.gguf import Gguf
from tests.support.peers import need

R = np.random.default_rng(5)
ARRAYS = {
    "a.weight": R.standard_normal((3, 4)).astype(np.float32),
    "half": R.standard_normal((5,)).astype(np.float16),
    "ints": R.integers(-9, 9, (2, 3)).astype(np.int64),
    "flags": np.array([True, False, True]),
    "scalar": np.float32(3.5),
    "none": np.zeros((0, 4), np.float32),
}


def test_safetensors(tmp_path: Path) -> None:
    need("safetensors")
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    save_file({k: np.asarray(v) for k, v in ARRAYS.items()}, path, metadata={"format": "np"})
    w = open_weights(path)
    assert set(w) == set(ARRAYS) and w.metadata == {"format": "np"} and len(w) == len(ARRAYS)
    for k, v in ARRAYS.items():
        assert w[k].dtype == v.dtype and np.array_equal(w[k], v), k
        assert w.shapes()[k] == v.shape


def test_safetensors_narrow_floats(tmp_path: Path) -> None:
    """Written by hand: bfloat16 and float8."""
    x = np.array([1.5, -2, 0.25, 8], ml_dtypes.bfloat16)
    y = x.astype(ml_dtypes.float8_e4m3fn)
    header = {
        "x": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "y": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [8, 12]},
        "z": {"dtype": "F4", "shape": [8], "data_offsets": [12, 16]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + x.tobytes() + y.tobytes() + b"\0" * 4)
    w = open_weights(path)
    assert np.array_equal(w["x"], x.reshape(2, 2)) and np.array_equal(w["y"], y)
    with pytest.raises(UnsupportedError, match="'z' has dtype F4"):
        w["z"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(shape=[5]), "do not fit"),
        (dict(shape=[-1]), "wrong shape"),
        (dict(data_offsets=[0, 400]), "ends behind"),
        (dict(data_offsets=[8, 0]), "wrong shape or place"),
        (dict(data_offsets=[0, True]), "wrong shape or place"),
        (dict(shape=[2**61, 2**61]), "wrong shape"),
    ],
)
def test_damaged_safetensors(change: dict, says: str, tmp_path: Path) -> None:
    text = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **change}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(FormatError, match=says):
        open_weights(path)


def test_overlaps_and_pickles(tmp_path: Path) -> None:
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    text = json.dumps({"x": one, "y": one}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(FormatError, match="overlap"):
        open_weights(path)
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(UnsupportedError, match="save_file"):
        open_weights(tmp_path / "w.pth")
    (tmp_path / "w.bin").write_bytes(b"<!doctype html>" + bytes(40))
    with pytest.raises(FormatError, match="HTML"):
        open_weights(tmp_path / "w.bin")


# ---- GGUF
def write_gguf(path: Path) -> dict[str, np.ndarray]:
    gguf = need("gguf")
    kinds = {k: getattr(gguf.GGMLQuantizationType, k) for k in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "F32")}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.description", "made by a test")
    writer.add_array("tokens", ["a", "b", "ü"])
    writer.add_array("scores", [1.5, 2.5])
    writer.add_uint32("answer", 42)
    want = {}
    x = R.standard_normal((6, 256)).astype(np.float32)
    for name, kind in kinds.items():
        data = x.astype(np.float16) if name == "F16" else x if name == "F32" else gguf.quants.quantize(x, kind)
        writer.add_tensor(name, data, raw_dtype=kind if name[0] == "Q" else None)
        want[name] = gguf.quants.dequantize(data, kind) if name[0] == "Q" else data
    for name in ("Q4_K", "Q5_K", "Q6_K"):  # any bytes are blocks, if the scales are numbers
        kind = getattr(gguf.GGMLQuantizationType, name)
        _, size = gguf.GGML_QUANT_SIZES[kind]
        raw = R.integers(0, 256, (6, 2 * size)).astype(np.uint8)
        for b in range(2):
            for at in (208,) if name == "Q6_K" else (0, 2):
                raw[:, b * size + at : b * size + at + 2] = (
                    R.standard_normal((6, 1)).astype(np.float16).view(np.uint8).reshape(6, 2)
                )
        writer.add_tensor(name, raw, raw_dtype=kind)
        want[name] = gguf.quants.dequantize(raw, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return want


def test_gguf(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    want = write_gguf(path)
    w = open_weights(path)
    assert w.metadata["tokens"] == ["a", "b", "ü"] and w.metadata["answer"] == 42 and w.metadata["scores"] == [1.5, 2.5]
    assert list(w) == list(want)
    for k, v in want.items():
        assert w[k].shape == v.shape and w[k].dtype == v.dtype, k
        assert np.abs(w[k] - v).max() <= 1e-6 * np.abs(v).max(), k


def test_blocks_are_what_dequantize_takes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    want = write_gguf(path)
    w = open_weights(path)
    for name in ("Q8_0", "Q4_0"):
        b = w.blocks(name)
        assert b is not None and b.integers.min() >= -(2 ** (b.bits - 1)) and b.integers.max() < 2 ** (b.bits - 1)
        reference = get("dequantize").reference
        assert reference is not None
        got = reference(b.integers, b.scale, None, axis=-1, block_size=b.size, dtype="")
        assert np.array_equal(got, want[name])
    assert w.blocks("F32") is None and isinstance(w, Gguf) and w.kind("Q4_K") == "Q4_K"


def test_mutated_gguf(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path)
    clean = path.read_bytes()
    bad = 0
    for i in range(200):
        data = bytearray(clean[: len(clean) - (i % 7) * 1000])
        for _ in range(2):
            at = int(R.integers(4, 900))
            data[at] = int(R.integers(0, 256))
        path.write_bytes(bytes(data))
        try:
            w = open_weights(path)
            for k in w:
                with np.errstate(all="ignore"):
                    assert w[k].shape == w.shapes()[k]
        except DeploykitError:
            bad += 1
    assert bad > 20


# ---- as weights of layers
def block(k, width: int, hidden: int):
    """The feed-forward part of a language model, by its tensors' names."""
    layers = k.layers
    x = layers.Input((None, width), name="x")
    y = layers.RMSNormalization(name="ffn_norm")(x)
    gate = layers.Activation("silu")(layers.Dense(hidden, use_bias=False, name="ffn_gate")(y))
    up = layers.Dense(hidden, use_bias=False, name="ffn_up")(y)
    return k.Model(
        x, layers.Add()([x, layers.Dense(width, use_bias=False, name="ffn_down")(layers.Multiply()([gate, up]))])
    )


def tensors(width: int, hidden: int) -> dict[str, np.ndarray]:
    """As such files name and lay them out: [outputs, inputs]."""
    r = np.random.default_rng(11)
    shapes = {"ffn_norm": (width,), "ffn_gate": (hidden, width), "ffn_up": (hidden, width), "ffn_down": (width, hidden)}
    return {
        f"blk.0.{k}.weight": r.standard_normal(v).astype(np.float32) / 16 + (len(v) == 1) for k, v in shapes.items()
    }


def fill(model, w) -> None:
    for layer in model.layers:
        if layer.weights:
            data = w[f"blk.0.{layer.name}.weight"]
            layer.set_weights([data.T if data.ndim == 2 else data])


def expected(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    norm, gate, up, down = (w[f"blk.0.ffn_{k}.weight"].astype(np.float64) for k in ("norm", "gate", "up", "down"))
    y = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6) * norm
    g = y @ gate.T
    return x + (g / (1 + np.exp(-g)) * (y @ up.T)) @ down.T


@pytest.mark.parametrize("kind", ["safetensors", "Q8_0", "Q4_0", "Q4_K"])
def test_weights_of_a_keras_model(kind: str, tmp_path: Path) -> None:
    """A graph built in ``dk.keras``, its weights out of a file: converted, it answers as NumPy does with these numbers."""
    width, hidden = 256, 512
    want = tensors(width, hidden)
    if kind == "safetensors":
        need("safetensors")
        from safetensors.numpy import save_file

        path = tmp_path / "m.safetensors"
        save_file(want, path)
    else:
        gguf = need("gguf")
        path = tmp_path / "m.gguf"
        writer = gguf.GGUFWriter(str(path), "llama")
        t = getattr(gguf.GGMLQuantizationType, kind)
        for name, a in want.items():
            if a.ndim == 1:
                writer.add_tensor(name, a)
                continue
            if kind == "Q4_K":  # its package reads these only: random blocks with scales of the right size
                _, size = gguf.GGML_QUANT_SIZES[t]
                raw = R.integers(0, 256, (a.shape[0], a.shape[1] // 256 * size)).astype(np.uint8)
                for b in range(0, raw.shape[1], size):
                    raw[:, b : b + 4] = np.array([2e-3, 1e-3], np.float16).view(np.uint8)
            else:
                raw = gguf.quants.quantize(a, t)
            writer.add_tensor(name, raw, raw_dtype=t)
            want[name] = gguf.quants.dequantize(raw, t)
        for step in ("header", "kv_data", "tensors"):
            getattr(writer, f"write_{step}_to_file")()
        writer.close()
    model = block(dk.keras, width, hidden)
    fill(model, open_weights(path))
    dk.convert(model.to_graph(), tmp_path / "m.dk")
    x = np.random.default_rng(3).standard_normal((2, 5, width)).astype(np.float32)
    (got,) = dk.Interpreter(tmp_path / "m.dk").run(x).values()
    right = expected(x, want)
    assert np.abs(got - right).max() <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_blocks_stay_blocks(kind: str, tmp_path: Path) -> None:
    """A product with a file's own integers and scales: not widened in the .dk file, and the same numbers."""
    gguf = need("gguf")
    a = tensors(256, 512)["blk.0.ffn_up.weight"]
    t = getattr(gguf.GGMLQuantizationType, kind)
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    raw = gguf.quants.quantize(a, t)
    writer.add_tensor("w", raw, raw_dtype=t)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    blocks = open_weights(tmp_path / "m.gguf").blocks("w")
    assert blocks is not None
    b = GraphBuilder()
    x = b.input("x", "float32", (3, 256))
    integers = blocks.integers if blocks.bits == 8 else blocks.integers.astype(ml_dtypes.int4)
    w = b.op("dequantize", integers, blocks.scale.astype(np.float32), None, axis=-1, block_size=blocks.size)
    report = dk.convert(b.output(b.op("matmul", x, w, transpose_b=True), "y"), tmp_path / "m.dk", verify=False)
    assert report.output_bytes < 0.29 * a.nbytes  # a byte each, and the scales
    v = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    want = v.astype(np.float64) @ gguf.quants.dequantize(raw, t).T
    assert np.abs(dk.Interpreter(tmp_path / "m.dk").run(v)["y"] - want).max() <= 2e-3 * np.abs(want).max()
