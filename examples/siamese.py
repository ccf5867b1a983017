"""A siamese network learns from pairs whether two scanned digits are the same, and is asked about digits it never saw."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L
from keras import ops

from examples import common, data


def embedding():
    """A digit of 0..16 to a point on a sphere."""
    x = inputs = keras.Input((8, 8, 1), name="digit")
    x = L.Rescaling(1 / 16)(x)
    for filters in (32, 64):
        x = L.Conv2D(filters, 3, activation="relu")(x)
    x = L.Dense(32)(L.Dropout(0.2)(L.Flatten()(x)))
    return keras.Model(inputs, L.UnitNormalization(name="point")(x))


def contrastive(same, distance, margin=1.0):
    """Hadsell et al. 2006: equal ones near, others further apart than the margin."""
    same = ops.cast(same, distance.dtype)
    return ops.mean(same * ops.square(distance) + (1 - same) * ops.square(ops.maximum(margin - distance, 0.0)))


def pairs(x, y, n, seed):
    """n pairs, half of them of one class."""
    draw = np.random.default_rng(seed)
    places = [np.flatnonzero(y == c) for c in np.unique(y)]
    left, right, same = [], [], []
    for k in range(n):
        a, b = draw.choice(len(places), 2, replace=False)
        b = a if k % 2 else b
        left.append(draw.choice(places[a]))
        right.append(draw.choice(places[b]))
        same.append(k % 2)
    return [x[left], x[right]], np.array(same, np.float32)[:, None]


def main(quick, out):
    (x, y), (tx, ty) = data.digits()
    known, new = y < 7, np.concatenate([y, ty]) >= 7  # 7, 8 and 9 are never trained
    body = embedding()
    a, b = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    distance = ops.sqrt(ops.sum(ops.square(body(a) - body(b)), axis=-1, keepdims=True) + 1e-9)
    model = keras.Model([a, b], distance)
    model.compile(keras.optimizers.Adam(1e-3), contrastive)
    given, same = pairs(x[known], y[known], 2000 if quick else 20000, 0)
    model.fit(given, same, batch_size=64, epochs=2 if quick else 6, verbose=2)

    def score(x, y, seed):
        given, same = pairs(x, y, 1000, seed)
        far = model.predict(given, verbose=0)[:, 0]
        order = (far[same[:, 0] > 0][:, None] < far[same[:, 0] == 0][None]).mean()  # the area under the ROC curve
        return float(((far < 0.5) == (same[:, 0] > 0)).mean()), float(order)

    seen, fresh = score(tx[ty < 7], ty[ty < 7], 1), score(np.concatenate([x, tx])[new], np.concatenate([y, ty])[new], 2)
    print(f"same or not: {seen[0]:.3f} of pairs of known digits, area under ROC {seen[1]:.3f}")
    print(f"of digits never seen {fresh[0]:.3f}, area {fresh[1]:.3f}")
    made = common.deliver(body, out, "A digit as a point", tx[:16])
    result = {"known": round(seen[0], 3), "never_seen": round(fresh[0], 3), "never_seen_area": round(fresh[1], 3)}
    return {**result, **made}


if __name__ == "__main__":
    common.run(main)
