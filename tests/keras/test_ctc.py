"""CTC against Keras: values, gradients, lengths, what cannot be spelled; a network that learns to read."""

import numpy as np
import pytest

import deploykit as dk
from deploykit import keras
from deploykit.autodiff import numeric as N
from tests.keras.parity import close, rng, theirs
from tests.support.peers import need

LABELS = np.array([[1, 2, 2, 3], [4, 4, 0, 0], [5, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
LOGITS = rng(0).normal(0, 2, (5, 12, 6)).astype(np.float32)
LENGTHS, STEPS = (LABELS != 0).sum(1), np.array([12, 9, 3, 12, 5])


def test_values() -> None:
    close(keras.losses.ctc(LABELS, LOGITS).numpy(), theirs.losses.ctc(LABELS, LOGITS).numpy(), "ctc", 1e-5)
    want = theirs.ops.ctc_loss(LABELS, LOGITS, LENGTHS, STEPS).numpy()
    close(keras.ops.ctc_loss(LABELS, LOGITS, LENGTHS, STEPS).numpy(), want, "ctc_loss", 1e-5)
    close(float(keras.losses.CTC()(LABELS, LOGITS)), float(theirs.losses.CTC()(LABELS, LOGITS)), "CTC", 1e-5)
    last = keras.ops.ctc_loss(LABELS % 5 - (LABELS == 0), LOGITS, LENGTHS * 0 + 2, STEPS, mask_index=5)
    want = theirs.ops.ctc_loss(LABELS % 5 - (LABELS == 0), LOGITS, LENGTHS * 0 + 2, STEPS, mask_index=5)
    assert np.isfinite(last.numpy()[:2]).all()
    close(last.numpy()[:2], want.numpy()[:2], "blank elsewhere", 1e-5)


@pytest.mark.parametrize("traced", [False, True])
def test_gradient(traced: bool) -> None:
    torch = need("torch")
    x = torch.tensor(LOGITS, requires_grad=True)
    theirs.ops.ctc_loss(LABELS, x, LENGTHS, STEPS).sum().backward()

    def gradient(x):
        with dk.GradientTape() as tape:
            tape.watch(x)
            loss = N.sum(keras.ops.ctc_loss(LABELS, x, LENGTHS, STEPS))
        return tape.gradient(loss, x)

    run = dk.function(gradient) if traced else gradient
    np.testing.assert_allclose(run(dk.Tensor(LOGITS)).numpy(), x.grad.numpy(), atol=1e-5)


def test_what_does_not_fit() -> None:
    """Four equal labels need seven steps."""
    loss = keras.ops.ctc_loss(LABELS[3:4], LOGITS[3:4], [4], [6]).numpy()
    assert np.isinf(loss).all()
    with pytest.raises(dk.DeploykitError, match=r"expected \[batch, time, classes\]"):
        keras.losses.ctc(LABELS, LOGITS[0])


def test_it_learns() -> None:
    """Noisy one-hot frames of two labels each: compiled training with the loss by name."""
    keras.utils.set_random_seed(0)
    r = rng(1)
    y = r.integers(1, 4, (32, 2))
    x = np.repeat(np.eye(4)[y], 4, 1).astype(np.float32) + r.normal(0, 0.1, (32, 8, 4)).astype(np.float32)
    model = keras.Sequential([keras.Input((8, 4)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.02), "ctc")
    history = model.fit(x, y, epochs=15, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.3 * history[0], history
