"""Connectionist temporal classification (Graves et al., 2006): the loss, and decoding."""

from __future__ import annotations

import numpy as np
from keras.src.backend.common.dtypes import result_type

from deploykit.autodiff import numeric as N
from deploykit.keras import losses
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.host import host
from deploykit.ops.core import F


def ctc_loss(target, output, target_length, output_length, mask_index=0):
    """-log p(target | output) per row; output [B, T, K] of logits, target [B, N]."""
    output = convert_to_tensor(output)
    output = convert_to_tensor(output, result_type(output.dtype, "float32"))
    return losses.ctc_loss(convert_to_tensor(target), output, target_length, output_length, mask_index)


def ctc_decode(
    inputs, sequence_lengths, strategy="greedy", beam_width=100, top_paths=1, merge_repeated=True, mask_index=0
):
    if strategy not in ("greedy", "beam_search"):
        raise ValueError(f"Invalid strategy {strategy}. Supported values are 'greedy' and 'beam_search'.")
    x = convert_to_tensor(inputs)
    x = convert_to_tensor(x, result_type(x.dtype, "float32"))
    mask = x.shape[-1] - 1 if mask_index is None else mask_index
    if strategy == "greedy":
        return _greedy(x, convert_to_tensor(sequence_lengths, "int32"), merge_repeated, mask)
    paths, scores = host(
        "ctc_decode",
        lambda x, n: _beams(x, n, beam_width, top_paths, mask),
        F.log_softmax(x),
        convert_to_tensor(sequence_lengths, "int32"),
    )
    return paths, convert_to_tensor(scores, x.dtype)


def _greedy(x, lengths, merge_repeated, mask):
    batch, time, _ = x.shape
    best, scores = N.argmax(x, -1), N.max(x, -1)
    over = F.greater_equal(np.arange(time, dtype=np.int32)[None], F.unsqueeze(lengths, np.array([1])))
    best = F.where(over, np.int32(mask), best)
    scores = F.where(over, np.zeros((), x.dtype), scores)
    if merge_repeated:
        again = F.equal(best[:, 1:], best[:, :-1])
        again = N.cast(N.pad(N.cast(again, "int32"), [(0, 0), (1, 0)]), "bool")
        best = F.where(again, np.int32(mask), best)
    none = F.equal(best, np.int32(mask))
    best = F.where(none, np.int32(-1), best)
    order = F.where(none, np.int32(time), N.broadcast_to(np.arange(time, dtype=np.int32), (batch, time)))
    best = N.take_along_axis(best, N.argsort(order, -1), -1)
    return N.expand_dims(best, 0), N.expand_dims(F.neg(N.sum(scores, 1)), 1)


def _beams(x, lengths, width, top, mask):
    """Prefix beam search (Graves, 2012): per prefix the log probabilities of ending in a blank and in its label."""
    batch, time, classes = x.shape
    paths, scores = np.full((top, batch, time), -1, np.int32), np.full((batch, top), -np.inf)
    for b in range(batch):
        beams: dict = {(): (0.0, -np.inf)}
        for t in range(int(lengths[b])):
            new: dict = {}
            for prefix, (blank, label) in beams.items():
                both = np.logaddexp(blank, label)
                for c in range(classes):
                    p = x[b, t, c]
                    if c == mask:
                        to, value, kind = prefix, both + p, 0
                    elif prefix and prefix[-1] == c:
                        old = new.get(prefix, (-np.inf, -np.inf))
                        new[prefix] = (old[0], np.logaddexp(old[1], label + p))
                        to, value, kind = (*prefix, c), blank + p, 1
                    else:
                        to, value, kind = (*prefix, c), both + p, 1
                    old = new.get(to, (-np.inf, -np.inf))
                    new[to] = (
                        (np.logaddexp(old[0], value), old[1]) if kind == 0 else (old[0], np.logaddexp(old[1], value))
                    )
            order = sorted(new, key=lambda k: -np.logaddexp(*new[k]))[:width]
            beams = {k: new[k] for k in order}
        best = sorted(beams, key=lambda k: -np.logaddexp(*beams[k]))[:top]
        for i, k in enumerate(best):
            paths[i, b, : len(k)] = k
            scores[b, i] = np.logaddexp(*beams[k])
    return paths, scores
