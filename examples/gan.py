"""Two networks against each other, by a custom train_step: one draws digits, the other tells them from scanned ones."""

import deploykit as dk
import deploykit.keras_backend

# isort: split
import keras
import numpy as np
from keras import layers as L
from keras import ops

from examples import common, data

NOISE = 32


def artist():
    """Noise to pictures of -1..1."""
    x = inputs = keras.Input((NOISE,), name="noise")
    x = L.Reshape((4, 4, 32))(L.Dense(4 * 4 * 32, activation="relu")(x))
    x = L.Conv2DTranspose(32, 4, strides=2, padding="same", use_bias=False)(x)
    x = L.LeakyReLU(0.2)(L.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, L.Conv2D(1, 3, padding="same", activation="tanh", name="digit")(x))


def critic():
    """Pictures to a logit: scanned or drawn."""
    x = inputs = keras.Input((8, 8, 1))
    for filters, strides in ((32, 1), (64, 2)):
        x = L.Dropout(0.3)(L.LeakyReLU(0.2)(L.Conv2D(filters, 3, strides=strides, padding="same")(x)))
    return keras.Model(inputs, L.Dense(1)(L.Flatten()(x)))


class Contest(keras.Model):
    """Both networks; a step improves the critic, then the artist."""

    def __init__(self):
        super().__init__()
        self.artist, self.critic = artist(), critic()
        self.built = True  # there is no call(): both networks know their inputs
        self.seed = keras.random.SeedGenerator(7)
        self.critic_loss, self.artist_loss = keras.metrics.Mean("critic"), keras.metrics.Mean("artist")
        self.loss_function = keras.losses.BinaryCrossentropy(from_logits=True)

    def compile(self, rate):
        """An optimizer for each."""
        super().compile()
        self.critic_optimizer = keras.optimizers.Adam(rate, beta_1=0.5)
        self.artist_optimizer = keras.optimizers.Adam(rate, beta_1=0.5)

    def train_step(self, real):
        """One batch of scanned digits."""
        n = real.shape[0]
        noise = keras.random.normal((n, NOISE), seed=self.seed)
        answers = ops.concatenate([ops.full((n, 1), 0.9), ops.zeros((n, 1))])  # 0.9: one-sided smoothing
        with dk.GradientTape() as tape:
            drawn = self.artist(noise, training=True)
            loss = self.loss_function(answers, self.critic(ops.concatenate([real, drawn]), training=True))
        weights = self.critic.trainable_weights
        self.critic_optimizer.apply(tape.gradient(loss, weights), weights)
        with dk.GradientTape() as tape:
            fooled = self.loss_function(ops.ones((n, 1)), self.critic(self.artist(noise, training=True), training=True))
        weights = self.artist.trainable_weights
        self.artist_optimizer.apply(tape.gradient(fooled, weights), weights)
        self.critic_loss.update_state(loss)
        self.artist_loss.update_state(fooled)
        return {"critic": self.critic_loss.result(), "artist": self.artist_loss.result()}


def judge(x, y):
    """A classifier of scanned digits, to look at drawn ones."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(32, 3, activation="relu"), L.Flatten(), L.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=32, epochs=15, verbose=0)
    return model


def main(quick, out):
    (x, y), _ = data.digits()
    x = x / 8 - 1
    contest = Contest()
    contest.compile(1e-3)
    contest.fit(x[: len(x) // 64 * 64], batch_size=64, epochs=2 if quick else 120, verbose=2 if quick else 0)
    noise = np.random.default_rng(0).standard_normal((500, NOISE)).astype(np.float32)
    drawn = contest.artist.predict(noise, verbose=0)
    seen = judge(x, y).predict(drawn, verbose=0)
    sure, kinds = float(seen.max(1).mean()), len(np.unique(seen[seen.max(1) > 0.8].argmax(1)))
    print(f"a classifier of scanned digits is {sure:.2f} sure of drawn ones and finds {kinds} of 10 kinds")
    for rows in ((drawn[:6, :, :, 0] + 1) * 4.5).astype(int).clip(0, 9).transpose(1, 0, 2):
        print("   ".join("".join(" .:-=+*#%@"[v] for v in row) for row in rows))
    made = common.deliver(contest.artist, out, "Draw digits from noise", noise[:16])
    return {"sure": round(sure, 3), "kinds": kinds, **made}


if __name__ == "__main__":
    common.run(main)
