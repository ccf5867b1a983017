"""Connectionist temporal classification (Graves et al., 2006): the loss, and decoding."""

from __future__ import annotations

import numpy as np
from keras.src.backend.common.dtypes import result_type

from deploykit.autodiff import control
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.host import host
from deploykit.keras_backend.numpy.elementwise import logaddexp
from deploykit.ops.core import F

_NEVER = -1e5  # a log probability that is as good as none, and whose differences stay finite


def ctc_loss(target, output, target_length, output_length, mask_index=0):
    """-log p(target | output) per row; output [B, T, K] of logits, target [B, N]; T steps through one scan."""
    target, output = convert_to_tensor(target, "int32"), convert_to_tensor(output)
    output = convert_to_tensor(output, result_type(output.dtype, "float32"))
    lengths, steps = convert_to_tensor(target_length, "int32"), convert_to_tensor(output_length, "int32")
    (batch, time, classes), n = output.shape, target.shape[1]
    logp = F.log_softmax(output)
    # states 0..2N: blank, label 1, blank, ..., label N, blank
    blank = N.full((batch, n), mask_index, "int32")
    labels = N.reshape(N.stack([blank, target], 2), (batch, 2 * n))
    states = N.concatenate([labels, N.full((batch, 1), mask_index, "int32")], 1)
    emit = N.einsum("btk,bsk->tbs", logp, N.one_hot(states, classes, dtype=output.dtype))
    # a label may follow the label before it directly, unless they are the same
    ahead = F.not_equal(states[:, 2:], states[:, :-2])
    odd = (np.arange(2 * n + 1)[2:] % 2 == 1)[None]
    skip = N.pad(N.cast(F.logical_and(ahead, odd), output.dtype), [(0, 0), (2, 0)])
    barred = F.mul(F.sub(1.0, skip), _NEVER)
    start = np.full((1, 2 * n + 1), _NEVER)
    start[0, :2] = 0.0
    first = F.add(emit[0], start.astype(output.dtype))
    # rows without labels have no state 1
    alive = N.reshape(F.less(np.arange(1, time, dtype=np.int32), F.unsqueeze(steps, np.array([1]))), (batch, time - 1))
    alive = N.expand_dims(N.transpose(alive), -1)

    def before(alpha, k):
        return N.pad(alpha, [(0, 0), (k, 0)], constant_values=_NEVER)[:, : 2 * n + 1]

    def step(alpha, x):
        own, there = x
        new = logaddexp(logaddexp(alpha, before(alpha, 1)), F.add(before(alpha, 2), barred))
        return F.where(there, F.add(new, own), alpha), None

    alpha, _ = control.scan(step, first, (emit[1:], alive))
    last = F.add(F.mul(lengths, 2), 0)
    at_blank = N.one_hot(last, 2 * n + 1, dtype=output.dtype)
    at_label = N.one_hot(F.sub(last, 1), 2 * n + 1, dtype=output.dtype)
    ends = F.mul(F.sub(1.0, F.add(at_blank, at_label)), _NEVER)
    return F.neg(N.logsumexp(F.add(alpha, ends), 1))


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
