"""References of recurrent, attention, quantize and signal ops against ONNX's node tests, and onnxruntime where those
leave options out."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from deploykit.ops import F
from tests.support.onnx_nodes import Case, cases_of, check


def recurrent(op, takes):
    def run(x, attrs, opset):
        x = (*x, *[None] * (8 - len(x)))
        # the schema's default of RNN has two names also for one direction
        n = {"lstm": 3, "gru": 2, "rnn": 1}[op.name] * (2 if attrs["direction"] == "bidirectional" else 1)
        keep = dict(
            direction=attrs["direction"],
            activations=",".join(a.decode() for a in (attrs["activations"] or ())[:n]),
            activation_alpha=attrs.get("activation_alpha") or (),
            activation_beta=attrs.get("activation_beta") or (),
            clip=attrs.get("clip") or 0.0,
            batch_first=attrs["layout"],
        )
        for k in ("input_forget", "linear_before_reset"):
            if attrs.get(k):
                keep[k] = attrs[k]
        return op(*x[:takes], **keep)

    return run


def attention(x, a, opset):
    q, k, v, mask, past_k, past_v, lengths = (*x, *[None] * 7)[:7]
    flat = q.ndim == 3
    if flat:
        q, k, v = (
            t.reshape(*t.shape[:2], h, -1).swapaxes(1, 2)
            for t, h in ((q, a["q_num_heads"]), (k, a["kv_num_heads"]), (v, a["kv_num_heads"]))
        )
    if past_k is not None:
        k, v = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
    length, s = q.shape[2], k.shape[2]
    if mask is not None and mask.shape[-1] < s:  # missing columns are forbidden
        fill = False if mask.dtype == bool else -np.inf
        mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, s - mask.shape[-1])], constant_values=fill)
    parts = []
    # ONNX counts a query's position from the end of the past, not of the keys
    past = 0 if past_k is None else past_k.shape[2]
    here = np.arange(length)[:, None] + (past if lengths is None else (lengths - length).reshape(-1, 1, 1, 1))
    if a["is_causal"]:
        parts.append(np.arange(s) <= here)
    if a.get("left_window_size", -1) >= 0:
        parts.append(np.arange(s) >= here - a["left_window_size"])
    if a.get("right_window_size", -1) >= 0:
        parts.append(np.arange(s) <= here + a["right_window_size"])
    if lengths is not None:
        parts.append(np.arange(s) < lengths.reshape(-1, 1, 1, 1))
    for p in parts:
        if mask is None:
            mask = p
        elif mask.dtype == bool:
            mask = mask & p
        else:
            mask = np.where(p, mask, np.asarray(-np.inf, mask.dtype))
    y = F.attention(q, k, v, mask, scale=a["scale"] or 0.0, softcap=a["softcap"])
    if flat:
        y = y.swapaxes(1, 2).reshape(y.shape[0], length, -1)
    return y, k, v


def rotary(x, a, opset):
    data, cos, sin, ids = (*x, None)[:4]
    if ids is not None:
        cos, sin = cos[ids], sin[ids]  # [B, L, n]
    flat = data.ndim == 3
    if flat:
        data = data.reshape(*data.shape[:2], a["num_heads"], -1)
        cos, sin = cos[:, :, None], sin[:, :, None]
    else:
        cos, sin = cos[:, None], sin[:, None]
    y = F.rotary_embedding(data, cos, sin, interleaved=a["interleaved"])
    return y.reshape(x[0].shape)


def quantize(x, a, opset):
    point = x[2] if len(x) > 2 else None
    name = "uint8"
    if a.get("output_dtype"):
        name = np.dtype(helper.tensor_dtype_to_np_dtype(a["output_dtype"])).name
    return F.quantize(
        x[0],
        x[1],
        point,
        dtype=name,
        axis=a.get("axis", 1),
        block_size=a.get("block_size") or 0,
        saturate=a.get("saturate", 1),
    )


def dequantize(x, a, opset):
    return F.dequantize(*x, axis=a.get("axis", 1), block_size=a.get("block_size") or 0)


def dft(x, a, opset):
    data, length, axis = (*x, None, None)[:3]
    if "axis" in a:
        axis = np.array(a["axis"])
    return F.dft(data, length, axis, inverse=a["inverse"], onesided=a["onesided"])


ADAPTERS = {
    "LSTM": recurrent(F.lstm, 8),
    "GRU": recurrent(F.gru, 6),
    "RNN": recurrent(F.rnn, 6),
    "Attention": attention,
    "RotaryEmbedding": rotary,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": lambda x, a, o: F.dynamic_quantize(*x),
    "DFT": dft,
    "STFT": lambda x, a, o: F.stft(*x, onesided=a["onesided"]),
    "MelWeightMatrix": lambda x, a, o: F.mel_weights(*x),
}


def plain(c: Case) -> bool:
    """Scores as a result, and softmax in another precision, are for the importer to compose from simpler ops."""
    return not (c.op == "Attention" and len(c.outputs) > 3)


@pytest.mark.parametrize("case", [c for c in cases_of(*ADAPTERS) if plain(c)], ids=lambda c: c.name)
def test_reference_gives_what_onnx_expects(case: Case) -> None:
    check(case, ADAPTERS[case.op])


def _run_ort(op: str, inputs: dict[str, np.ndarray | None], outputs: list[str], attrs: dict) -> list[np.ndarray]:
    present = {k: v for k, v in inputs.items() if v is not None}
    node = helper.make_node(op, [k if v is not None else "" for k, v in inputs.items()], outputs, **attrs)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in present.items()
        ],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, [None] * (4 if o == "y" else 3)) for o in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, present)


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULT = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
OTHER = {"LSTM": ["HardSigmoid", "Relu", "Elu"], "GRU": ["HardSigmoid", "ScaledTanh"], "RNN": ["LeakyRelu"]}


@pytest.mark.parametrize("variant", ["plain", "no_bias", "clip", "functions", "coupled"])
@pytest.mark.parametrize("lengths", [None, [5, 2, 3]], ids=["whole", "lengths"])
@pytest.mark.parametrize(
    ("op", "direction"), list(itertools.product(GATES, ["forward", "reverse", "bidirectional"])), ids=lambda v: v
)
def test_recurrent_layers_agree_with_onnxruntime(op: str, direction: str, lengths, variant: str) -> None:
    r = np.random.default_rng(7)
    steps, batch, inputs, hidden, g = 5, 3, 4, 6, GATES[op]
    d = 2 if direction == "bidirectional" else 1

    def draw(*shape):
        return r.normal(size=shape, scale=0.8).astype(np.float32)

    x = dict(
        x=draw(steps, batch, inputs),
        w=draw(d, g * hidden, inputs),
        r=draw(d, g * hidden, hidden),
        b=None if variant == "no_bias" else draw(d, 2 * g * hidden),
        lengths=None if lengths is None else np.array(lengths, np.int32),
        h0=draw(d, batch, hidden),
    )
    attrs: dict = {"hidden_size": hidden, "direction": direction}
    ours: dict = {"direction": direction}
    outputs = ["y", "y_h"]
    if op == "LSTM":
        x |= dict(c0=draw(d, batch, hidden), peephole=draw(d, 3 * hidden))
        outputs.append("y_c")
    if variant == "clip":
        attrs["clip"] = ours["clip"] = 0.5
    if variant == "functions":
        attrs |= dict(activations=OTHER[op] * d, activation_alpha=[0.3] * 3 * d, activation_beta=[0.4] * 2 * d)
        ours |= dict(activations=",".join(OTHER[op] * d), activation_alpha=[0.3] * 3 * d, activation_beta=[0.4] * 2 * d)
    if variant == "coupled":
        if op == "RNN":
            pytest.skip("no such option")
        attrs["input_forget" if op == "LSTM" else "linear_before_reset"] = 1
        ours["input_forget" if op == "LSTM" else "linear_before_reset"] = True
    want = _run_ort(op, x, outputs, attrs)
    got = getattr(F, op.lower())(*x.values(), **ours)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)
