"""A small network learns from a large one's answers as well as from the labels (Hinton et al. 2015)."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
from keras import layers as L
from keras import ops

from examples import common, data


def network(filters, dense):
    """Pictures of 0..255 to ten logits."""
    x = inputs = keras.Input((28, 28, 1), name="picture")
    x = L.Rescaling(1 / 255)(x)
    for n in filters:
        x = L.MaxPooling2D(2)(L.Conv2D(n, 3, padding="same", activation="relu")(x))
    x = L.Dense(dense, activation="relu")(L.Flatten()(x))
    return keras.Model(inputs, L.Dense(10, name="logits")(L.Dropout(0.2)(x)))


class Distiller(keras.Model):
    """The student in training: part of its loss is the distance from the teacher's softened answers."""

    def __init__(self, student, teacher, share=0.7, temperature=4.0):
        super().__init__()
        teacher.trainable = False
        self.student, self.teacher = student, teacher
        self.share, self.temperature = share, temperature

    def call(self, x, training=False):
        return self.student(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        hard = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        soft = keras.losses.kl_divergence(
            ops.softmax(self.teacher(x, training=False) / self.temperature), ops.softmax(y_pred / self.temperature)
        )
        return (1 - self.share) * hard + self.share * self.temperature**2 * ops.mean(soft)


def fit(model, train, test, epochs):
    """Train on labels; test accuracy."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    model.fit(*train, batch_size=64, epochs=epochs, verbose=2)
    return round(model.evaluate(*test, batch_size=250, verbose=0)[1], 4)


def main(quick, out):
    train, test = data.fashion(1500 if quick else 20000, 300 if quick else 10000)
    epochs = 1 if quick else 5
    teacher = network((32, 64), 128)
    taught = fit(teacher, train, test, epochs)
    keras.utils.set_random_seed(1)
    alone = fit(network((4, 8), 16), train, test, epochs)
    keras.utils.set_random_seed(1)
    student = network((4, 8), 16)
    distilled = fit(Distiller(student, teacher), train, test, epochs)
    sizes = teacher.count_params(), student.count_params()
    print(f"test accuracy: teacher {taught} ({sizes[0]:,} weights), student {distilled} ({sizes[1]:,}), alone {alone}")
    result = {"teacher": taught, "student": distilled, "student_alone": alone}
    return {**result, **common.deliver(student, out, "What piece of clothing is it?", test[0][:16], data.CLOTHES)}


if __name__ == "__main__":
    common.run(main)
