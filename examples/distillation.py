"""A small network learns from a large one's answers (Hinton et al. 2015): for most of its pictures it never sees a label."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
from keras import layers as L
from keras import ops

from examples import common, data

LABELS = 200  # so many pictures have a label for the student


def teacher_network():
    """Scans of 0..16 to ten logits."""
    x = inputs = keras.Input((8, 8, 1), name="digit")
    x = L.Rescaling(1 / 16)(x)
    for n in (32, 64):
        x = L.Conv2D(n, 3, padding="same", activation="relu")(x)
    x = L.Dropout(0.3)(L.Flatten()(L.MaxPooling2D(2)(x)))
    return keras.Model(inputs, L.Dense(10)(L.Dense(64, activation="relu")(x)))


def student_network():
    """The same in a fiftieth of the weights."""
    x = inputs = keras.Input((8, 8, 1), name="digit")
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu")(L.Rescaling(1 / 16)(x))
    return keras.Model(inputs, L.Dense(10, name="logits")(L.Dense(8, activation="relu")(L.Flatten()(x))))


class Distiller(keras.Model):
    """The student in training: its loss is the distance from the teacher's softened answers, and from labels by a share."""

    def __init__(self, student, teacher, share=1.0, temperature=3.0):
        super().__init__()
        teacher.trainable = False
        self.student, self.teacher = student, teacher
        self.share, self.temperature = share, temperature

    def call(self, x, training=False):
        return self.student(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        soft = keras.losses.kl_divergence(
            ops.softmax(self.teacher(x, training=False) / self.temperature), ops.softmax(y_pred / self.temperature)
        )
        loss = self.share * self.temperature**2 * ops.mean(soft)
        if self.share < 1:
            hard = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
            loss = loss + (1 - self.share) * hard
        return loss


def fit(model, train, test, steps, rate):
    """Train for about so many steps of 32; test accuracy."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*train, batch_size=32, epochs=max(1, round(32 * steps / len(train[0]))), verbose=0)
    return round(model.evaluate(*test, verbose=0)[1], 4)


def main(quick, out):
    train, test = data.digits()
    few = train[0][:LABELS], train[1][:LABELS]
    steps = 45 if quick else 1350
    teacher = teacher_network()
    taught = fit(teacher, train, test, 45 if quick else 600, 1e-3)
    keras.utils.set_random_seed(1)
    alone = fit(student_network(), few, test, steps, 3e-3)
    keras.utils.set_random_seed(1)
    student = student_network()
    distilled = fit(Distiller(student, teacher), train, test, steps, 3e-3)
    print(f"test accuracy: teacher {taught} ({teacher.count_params():,} weights)")
    print(f"student ({student.count_params():,}) {distilled} by the teacher's answers, {alone} by {LABELS} labels")
    result = {"teacher": taught, "student": distilled, "student_alone": alone}
    return {**result, **common.deliver(student, out, "Which digit is it?", test[0][:16])}


if __name__ == "__main__":
    common.run(main)
