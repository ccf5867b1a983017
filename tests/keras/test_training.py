"""Optimizers, fit and its surroundings: against Keras where it can say, by their effect else."""

import json

import numpy as np
import pytest

import deploykit as dk
from deploykit.autodiff import numeric as N
from tests.keras.parity import array, both, close, copy_weights, floats, ints, ours, theirs

OPTIMIZERS = [
    ("SGD", {}), ("SGD", dict(momentum=0.9)), ("SGD", dict(momentum=0.9, nesterov=True, weight_decay=0.01)), ("Adam", {}),
    ("Adam", dict(amsgrad=True, clipnorm=0.5)), ("AdamW", {}), ("RMSprop", {}), ("RMSprop", dict(momentum=0.5, centered=True)),
    ("Adagrad", {}), ("Adadelta", {}), ("Adamax", {}), ("Nadam", {}), ("Lion", {}), ("Lamb", {}), ("Adafactor", {}),
    ("Ftrl", dict(l1_regularization_strength=0.01, l2_regularization_strength=0.02)), ("Adam", dict(global_clipnorm=0.3)),
    ("Adam", dict(clipvalue=0.1)), ("Adam", dict(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)),
    ("SGD", dict(gradient_accumulation_steps=3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_optimizer_ten_steps(name: str, how: dict, compiled: bool) -> None:
    start = [floats(4, 3, seed=1), floats(5, seed=2)]
    a, b = both(lambda k: getattr(k.optimizers, name)(learning_rate=0.05, **how))
    mine, other = [dk.Variable(s) for s in start], [theirs.Variable(s) for s in start]
    apply = lambda g: a.apply(g, mine)  # noqa: E731
    apply = dk.function(apply) if compiled else apply
    for step in range(10):
        grads = [floats(4, 3, seed=10 + step), floats(5, seed=30 + step)]
        apply([dk.convert_to_tensor(g) for g in grads])
        b.apply([theirs.ops.convert_to_tensor(g) for g in grads], other)
    for v, w in zip(mine, other, strict=True):
        close(v.numpy(), w.value, name)
    state = [v for v in b.variables if "learning_rate" not in v.path and "iteration" not in v.path]
    assert len(a.variables) == len(state) + 2, f"{[v.path for v in a.variables]} {[v.path for v in b.variables]}"
    again = type(a).from_config(a.get_config())
    assert again.get_config() == a.get_config()


def data(n: int = 96) -> tuple[np.ndarray, np.ndarray]:
    x = floats(n, 6)
    return x, (x[:, :3].argmax(1)).astype(np.int64)


def net(k):
    return k.Sequential(
        [k.Input((6,)), k.layers.Dense(16, activation="tanh"), k.layers.BatchNormalization(), k.layers.Dense(3)]
    )


def compiled(k, m):
    m.compile(k.optimizers.Adam(0.01), k.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return m


def test_fit_agrees_with_keras() -> None:
    x, y = data()
    a, b = both(net)
    copy_weights(a, b)
    ha = compiled(ours, a).fit(
        x, y, batch_size=32, epochs=4, shuffle=False, verbose=0, validation_data=(x[:32], y[:32])
    )
    hb = compiled(theirs, b).fit(
        x, y, batch_size=32, epochs=4, shuffle=False, verbose=0, validation_data=(x[:32], y[:32])
    )
    assert set(ha.history) == set(hb.history)
    for k in hb.history:
        close(ha.history[k], hb.history[k], k, 1e-4)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        close(v, w, "weights", 1e-4)
    close(a.predict(x, verbose=0), b.predict(x, verbose=0), "predict", 1e-4)
    close(a.evaluate(x, y, verbose=0), b.evaluate(x, y, verbose=0), "evaluate", 1e-4)


def test_same_seed_same_numbers_on_any_threads() -> None:
    x, y = data()
    got = []
    for threads in (1, 2, 1):
        ours.utils.set_random_seed(3)
        m = ours.Sequential(
            [ours.Input((6,)), ours.layers.Dense(64, activation="relu"), ours.layers.Dropout(0.3), ours.layers.Dense(3)]
        )
        m.compile("adam", ours.losses.SparseCategoricalCrossentropy(from_logits=True), threads=threads)
        m.fit(x, y, batch_size=32, epochs=2, verbose=0)
        got.append(np.concatenate([w.reshape(-1) for w in m.get_weights()]))
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])


def test_functional_with_branches_names_and_weights() -> None:
    def make(k):
        a, b = k.Input((4,), name="left"), k.Input((3,), name="right")
        h = k.layers.Concatenate()([k.layers.Dense(5, activation="relu")(a), b])
        h = h * 2.0 + 1.0
        out = k.Model([a, b], {"one": k.layers.Dense(1, name="one")(h), "two": k.layers.Dense(2, name="two")(h)})
        out.compile("sgd", {"one": "mse", "two": "mae"}, loss_weights={"one": 0.3, "two": 1.0})
        return out

    a, b = both(make)
    copy_weights(a, b)
    x, y = [floats(8, 4), floats(8, 3)], {"one": floats(8, 1), "two": floats(8, 2)}
    w = floats(8, low=0.2)
    for _ in range(3):
        la = a.train_on_batch(x, y, sample_weight=w)
        lb = b.train_on_batch(x, y, sample_weight=w)
        close(la, lb[0] if isinstance(lb, list) else lb, "loss", 1e-4)
    pa, pb = a.predict({"left": x[0], "right": x[1]}, verbose=0), b.predict(x, verbose=0)
    for k in pb:
        close(pa[k], pb[k], k, 1e-4)


def test_custom_train_step_and_subclassed_model() -> None:
    class Net(ours.Model):
        def __init__(self):
            super().__init__()
            self.inner = ours.layers.Dense(1)
            self.tracker = ours.metrics.Mean(name="mine")

        def call(self, x, training=False):
            return self.inner(x)

        def train_step(self, batch):
            x, y = batch
            with dk.GradientTape() as tape:
                loss = N.mean(N.square(self(x, training=True) - y))
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            self.tracker.update_state(loss)
            return {"mine": self.tracker.result()}

    x = floats(64, 3)
    m = Net()
    m.compile(ours.optimizers.SGD(0.1))
    h = m.fit(x, x @ np.float32([[1], [2], [3]]), epochs=20, batch_size=16, verbose=0)
    assert h.history["mine"][-1] < 1e-2 * h.history["mine"][0]


def test_regularizers_constraints_class_weight_validation_split() -> None:
    x, y = data()

    def make(k):
        m = k.Sequential([k.Input((6,)), k.layers.Dense(8, kernel_regularizer="l2", kernel_constraint="max_norm", activity_regularizer="l1"), k.layers.Dense(3)])  # fmt: skip
        m.compile("sgd", k.losses.SparseCategoricalCrossentropy(from_logits=True), weighted_metrics=["accuracy"])
        return m

    a, b = both(make)
    copy_weights(a, b)
    how = dict(
        batch_size=16, epochs=2, shuffle=False, verbose=0, class_weight={0: 1.0, 1: 2.0, 2: 0.5}, validation_split=0.25
    )
    ha, hb = a.fit(x, y, **how), b.fit(x, y, **how)
    for k in hb.history:
        close(ha.history[k], hb.history[k], k, 1e-4)


def test_callbacks(tmp_path) -> None:
    x, y = data()
    m = compiled(ours, net(ours))
    c = ours.callbacks
    seen = []
    h = m.fit(
        x, y, epochs=12, verbose=0, validation_split=0.2,
        callbacks=[
            c.EarlyStopping("val_loss", patience=2, restore_best_weights=True), c.CSVLogger(tmp_path / "log.csv"),
            c.ModelCheckpoint(tmp_path / "best.dkt", save_best_only=True), c.ReduceLROnPlateau("loss", patience=1),
            c.LearningRateScheduler(lambda e, r: 10.0 if e > 3 else r), c.TerminateOnNaN(),
            c.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(e)),
        ],
    )  # fmt: skip
    assert len(h.epoch) < 12 and seen == h.epoch and (tmp_path / "best.dkt").is_file()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(h.epoch)
    assert m.evaluate(x[76:], y[76:], verbose=0)[0] == pytest.approx(min(h.history["val_loss"]), rel=1e-4)
    assert "<svg" in h.plot(tmp_path / "h.svg") and "<svg" in m.plot()


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path) -> None:
    x, y = data()

    class Kill(ours.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(callbacks, folder):
        ours.utils.set_random_seed(5)
        m = compiled(ours, net(ours))
        try:
            m.fit(
                x,
                y,
                epochs=5,
                batch_size=32,
                verbose=0,
                callbacks=[*callbacks, ours.callbacks.BackupAndRestore(folder)],
            )
        except KeyboardInterrupt:
            return None
        return m.get_weights()

    want = run([], tmp_path / "a")
    assert run([Kill()], tmp_path / "b") is None
    got = run([], tmp_path / "b")
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".keras", ".dkt"])
def test_saved_models_come_back_whole(tmp_path, suffix: str) -> None:
    x, y = data()
    m = compiled(ours, net(ours))
    m.fit(x, y, epochs=2, verbose=0)
    path = tmp_path / f"m{suffix}"
    m.save(path)
    again = ours.models.load_model(path)
    close(again.predict(x, verbose=0), m.predict(x, verbose=0))
    m.fit(x, y, epochs=1, verbose=0, shuffle=False), again.fit(x, y, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(again.get_weights(), m.get_weights(), strict=True):
        close(a, b, "training goes on alike")
    m.save(path), m.save(tmp_path / f"n{suffix}")
    if suffix == ".dkt":
        assert path.read_bytes() == (tmp_path / f"n{suffix}").read_bytes()
    with pytest.raises(dk.DeploykitError, match="not a .keras"):
        (tmp_path / "bad.keras").write_bytes(b"<html>")
        ours.models.load_model(tmp_path / "bad.keras")


ZOO = {
    "sequential": net,
    "functional": lambda k: (lambda i: k.Model(i, k.layers.Add()([k.layers.Dense(6)(i), i])))(k.Input((6,))),
    "image": lambda k: k.Sequential([k.Input((8, 8, 3)), k.layers.Conv2D(4, 3, activation="relu"), k.layers.DepthwiseConv2D(3), k.layers.GlobalAveragePooling2D(), k.layers.Dense(2, activation="softmax")]),
    "text": lambda k: k.Sequential([k.Input((5,), dtype="int32"), k.layers.Embedding(7, 4), k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True)), k.layers.GRU(3), k.layers.LayerNormalization()]),
    "heads": lambda k: (lambda i: k.Model(i, k.layers.MultiHeadAttention(2, 3)(i, i)))(k.Input((5, 4))),
    "shared": lambda k: (lambda d, a, b: k.Model([a, b], k.layers.Concatenate()([d(a), d(b)])))(k.layers.Dense(3), k.Input((4,)), k.Input((4,))),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_files_of_keras_both_ways(tmp_path, name: str) -> None:
    a, b = both(ZOO[name])
    copy_weights(a, b)
    x = [
        ints(3, *t.shape[1:], high=7) if "int" in str(t.dtype) else floats(3, *t.shape[1:], seed=i)
        for i, t in enumerate(a.inputs)
    ]
    x = x[0] if len(x) == 1 else x
    want = array(b(x))
    close(a(x), want, name)
    b.save(tmp_path / "theirs.keras")
    close(ours.models.load_model(tmp_path / "theirs.keras")(x), want, "we read theirs")
    a.save(tmp_path / "ours.keras")
    close(theirs.models.load_model(tmp_path / "ours.keras")(x), want, "they read ours")
    b.save_weights(tmp_path / "theirs.weights.h5")
    c = ZOO[name](ours)
    c.load_weights(tmp_path / "theirs.weights.h5")
    close(c(x), want, "we read their weights")
    a.save_weights(tmp_path / "ours.weights.h5")
    d = ZOO[name](theirs)
    d.load_weights(tmp_path / "ours.weights.h5")
    close(d(x), want, "they read our weights")


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("suffix", [".dk", ".onnx"])
def test_export_gives_the_same_answer(tmp_path, name: str, suffix: str) -> None:
    m = ZOO[name](ours)
    report = m.export(tmp_path / f"m{suffix}")
    assert report.verification["status"] == "passed"
    if suffix == ".onnx":
        return
    run = dk.Interpreter(tmp_path / "m.dk")
    for batch in (1, 4):
        x = [
            ints(batch, *t.shape[1:], high=7).astype(t.dtype) if "int" in str(t.dtype) else floats(batch, *t.shape[1:])
            for t in m.inputs
        ]
        got = list(run.run({s.name: v for s, v in zip(run.inputs, x, strict=True)}).values())[0]
        close(got, m(x if len(x) > 1 else x[0]), f"batch {batch}")


def test_the_training_step_ships_in_the_file(tmp_path) -> None:
    x, y = data(32)
    m = compiled(ours, net(ours))
    m.export(tmp_path / "m.dk", signatures=("infer", "train"))
    run = dk.Interpreter(tmp_path / "m.dk", signature="train")
    assert "train" in run.signatures
    name = m.inputs[0].name
    losses = []
    for _ in range(5):
        logs = run.run({name: x, "y": y.astype(np.int32)})
        losses.append(m.train_on_batch(x, y, return_dict=True)["loss"])
        close(logs["loss"], np.float32(np.mean(losses)), "the file's metrics run on")
    for v in m.trainable_variables:
        close(run.variable(v.path), v.numpy(), v.path)


def test_the_training_step_of_a_loss_given_by_name(tmp_path) -> None:
    """A sparse loss takes whole numbers as labels however compile() got to know it."""
    x, y = data(32)
    for loss in ("sparse_categorical_crossentropy", ours.losses.sparse_categorical_crossentropy):
        m = ours.Sequential([ours.Input(x.shape[1:]), ours.layers.Flatten(), ours.layers.Dense(10, "softmax")])
        m.compile("sgd", loss)
        m.export(tmp_path / "m.dk", signatures=("infer", "train"))
        run = dk.Interpreter(tmp_path / "m.dk", signature="train")
        logs = run.run({m.inputs[0].name: x, "y": y.astype(np.int32)})
        close(logs["loss"], np.float32(m.train_on_batch(x, y, return_dict=True)["loss"]), str(loss))


def test_preprocessing_ships_inside(tmp_path) -> None:
    norm = ours.layers.Normalization()
    norm.adapt(floats(50, 4) * 3 + 1)
    m = ours.Sequential(
        [ours.Input((4,)), norm, ours.layers.Rescaling(0.5), ours.layers.Dropout(0.5), ours.layers.Dense(2)]
    )
    m.export(tmp_path / "m.dk")
    x = floats(3, 4)
    close(next(iter(dk.Interpreter(tmp_path / "m.dk").run(x).values())), m(x))
    peer = theirs.layers.Normalization()
    peer.adapt(floats(50, 4) * 3 + 1)
    close(norm(x), peer(x), "adapt")


def test_errors_say_what_to_do() -> None:
    m = net(ours)
    with pytest.raises(dk.DeploykitError, match="compile"):
        m.fit(*data())
    compiled(ours, m)
    with pytest.raises(dk.DeploykitError, match=r"got shape \(None|input.*got shape"):
        m.fit(floats(10, 5), ints(10, high=3), verbose=0)
    with pytest.raises(dk.DeploykitError, match="as many samples"):
        m.fit(floats(10, 6), ints(9), verbose=0)
    with pytest.raises(dk.DeploykitError, match="0 samples"):
        m.fit(floats(0, 6), ints(0), verbose=0)
    with pytest.raises(dk.DeploykitError, match="one-hot.*sparse|integer labels use sparse"):
        m.compile("sgd", "categorical_crossentropy")
        m.fit(*data(), verbose=0)
    with pytest.raises(dk.DeploykitError, match="loss_weights.*'accuracy', expected numbers"):
        dk.keras.Sequential([dk.keras.layers.Dense(1)]).compile("adam", "mse", ["accuracy"])
    with pytest.raises(dk.DeploykitError, match="unknown optimizer 'addam'"):
        m.compile("addam", "mse")
    text = json.loads(m.to_json())
    text["config"]["layers"][1]["class_name"] = "Nonesuch"
    with pytest.raises(dk.DeploykitError, match="unknown class 'Nonesuch'.*custom_objects"):
        ours.models.model_from_json(json.dumps(text))
