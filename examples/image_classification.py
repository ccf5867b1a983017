"""A small network of separable convolutions with skip connections, trained from scratch on pictures of clothes."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
from keras import layers as L

from examples import common, data


def block(x, filters):
    """Two separable convolutions beside a projection, at half the size."""
    beside = L.Conv2D(filters, 1, strides=2, padding="same")(x)
    for _ in range(2):
        x = L.SeparableConv2D(filters, 3, padding="same", use_bias=False)(L.ReLU()(x))
        x = L.BatchNormalization(momentum=0.9)(x)
    return L.Add()([L.MaxPooling2D(3, strides=2, padding="same")(x), beside])


def network():
    """Pictures of 0..255 in, logits of ten classes out; scaling and augmentation are layers of it."""
    x = inputs = keras.Input((28, 28, 1), name="picture")
    x = L.RandomFlip("horizontal")(L.Rescaling(1 / 255)(x))
    x = L.BatchNormalization(momentum=0.9)(L.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x))
    for filters in (32, 64):
        x = block(x, filters)
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(L.ReLU()(x)))
    return keras.Model(inputs, L.Dense(10, activation="softmax", name="class")(x))


def main(quick, out):
    (x, y), (tx, ty) = data.fashion(1500 if quick else 30000, 300 if quick else 10000)
    model = network()
    model.compile(keras.optimizers.AdamW(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    epochs = 1 if quick else 4
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 3e-3 * 0.4**epoch)
    history = model.fit(x, y, batch_size=64, epochs=epochs, callbacks=[rate], verbose=2)
    _, accuracy = model.evaluate(tx, ty, batch_size=250, verbose=0)
    print(f"test accuracy {accuracy:.3f}")
    made = common.deliver(model, out, "What piece of clothing is it?", tx[:16], data.CLOTHES)
    return {"accuracy": round(accuracy, 4), "loss": [round(v, 3) for v in history.history["loss"]], **made}


if __name__ == "__main__":
    common.run(main)
