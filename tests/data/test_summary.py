"""Event files, read back by TensorBoard itself."""

import numpy as np

import deploykit as dk
from tests.support.peers import need


def test_tensorboard_reads_what_we_write(tmp_path) -> None:
    need("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    m = dk.keras.Sequential([dk.keras.Input((4,)), dk.keras.layers.Dense(2, activation="relu")])
    with dk.summary.create_file_writer(tmp_path) as w:
        for step in range(3):
            w.scalar("loss", 1.5 / (step + 1), step)
        w.histogram("weights", np.random.default_rng(0).standard_normal(1000), 1)
        w.image("picture", np.zeros((4, 6, 3), np.uint8), 2)
        w.text("note", "**hello**", 0)
        w.graph(m.to_graph())
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0, "scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert [round(e.value, 3) for e in events.Scalars("loss")] == [1.5, 0.75, 0.5]
    h = events.Histograms("weights")[0].histogram_value
    assert h.num == 1000 and abs(sum(h.bucket) - 1000) < 1e-6 and h.min < -2
    assert events.Images("picture/image")[0].width == 6
    assert events.Tensors("note")[0].tensor_proto.string_val[0] == b"**hello**"
    assert tags["graph"] and "matmul" in str(events.Graph())


def test_callback(tmp_path) -> None:
    need("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    m = dk.keras.Sequential([dk.keras.Input((4,)), dk.keras.layers.Dense(1)])
    m.compile("sgd", "mse")
    x = np.ones((8, 4), np.float32)
    h = m.fit(
        x,
        x[:, :1],
        epochs=3,
        verbose=0,
        validation_split=0.5,
        callbacks=[dk.keras.callbacks.TensorBoard(tmp_path, histogram_freq=1)],
    )
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    np.testing.assert_allclose([e.value for e in events.Scalars("epoch_loss")], h.history["loss"], rtol=1e-6)
    assert len(events.Tags()["histograms"]) == 2
