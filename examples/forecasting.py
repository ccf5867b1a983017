"""An LSTM that says the carbon dioxide over Mauna Loa of the next 13 weeks from the last two years."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L

from examples import common, data

PAST, FUTURE = 104, 13


def windows(series):
    """All pairs of PAST weeks and the FUTURE ones behind them."""
    both = np.lib.stride_tricks.sliding_window_view(series, PAST + FUTURE)
    return np.ascontiguousarray(both[:, :PAST, None]), np.ascontiguousarray(both[:, PAST:])


def network():
    """Parts per million in and out: what the network learns is the distance from the last week."""
    x = inputs = keras.Input((PAST, 1), name="ppm")
    last = x[:, -1, :]
    x = (x - L.Reshape((1, 1))(last)) / 5.0
    x = L.LSTM(32)(x)
    return keras.Model(inputs, L.Add(name="forecast")([last, L.Dense(FUTURE)(x) * 5.0]))


def main(quick, out):
    series = data.co2()
    cut = len(series) * 4 // 5  # test on the last fifth of the years
    x, y = windows(series[: 700 if quick else cut])
    tx, ty = windows(series[cut:])
    model = network()
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, 30 * len(x) // 32)), "huber")
    model.fit(x, y, batch_size=32, epochs=1 if quick else 30, verbose=2)
    error = float(np.abs(model.predict(tx, verbose=0) - ty).mean())
    flat = float(np.abs(tx[:, -1] - ty).mean())
    year = tx[:, PAST - 52 : PAST - 52 + FUTURE, 0] + (tx[:, -1] - tx[:, PAST - 53])  # as last year, from today's level
    season = float(np.abs(year - ty).mean())
    print(f"mean error {error:.2f} ppm; as last week {flat:.2f}; as last year {season:.2f}")
    made = common.deliver(model, out, "Carbon dioxide of the next 13 weeks", tx[:16])
    return {"mae": round(error, 3), "as_last_week": round(flat, 3), "as_last_year": round(season, 3), **made}


if __name__ == "__main__":
    common.run(main)
