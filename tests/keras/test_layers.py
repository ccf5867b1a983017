"""Every layer against Keras: the same arguments, weights and inputs; output, gradient of the inputs, config."""

import numpy as np
import pytest

import deploykit as dk
from deploykit.autodiff import numeric as N
from tests.keras.parity import array, both, close, copy_weights, floats, ints, ours, theirs

S1, S2, S3 = (2, 9, 4), (2, 8, 7, 4), (2, 5, 6, 5, 4)
LAYERS = [
    ("Dense", dict(units=5, activation="gelu"), (3, 4)), ("Dense", dict(units=5, use_bias=False), S1),
    ("EinsumDense", dict(equation="abc,cd->abd", output_shape=(None, 6), bias_axes="d"), S1),
    ("EinsumDense", dict(equation="...x,xy->...y", output_shape=6, bias_axes="y", activation="relu"), S2),
    ("Activation", dict(activation="silu"), S1), ("ReLU", dict(max_value=1.0, negative_slope=0.2, threshold=0.1), S1),
    ("LeakyReLU", {}, S1), ("PReLU", dict(shared_axes=[1]), S1), ("ELU", dict(alpha=0.7), S1), ("Softmax", {}, S1),
    ("Identity", {}, S1), ("Masking", {}, S1), ("Flatten", {}, S2), ("Reshape", dict(target_shape=(6, -1)), S1),
    ("Permute", dict(dims=(2, 1)), S1), ("RepeatVector", dict(n=3), (2, 4)),
    ("ZeroPadding1D", dict(padding=(1, 2)), S1), ("ZeroPadding2D", dict(padding=((1, 0), (2, 3))), S2), ("ZeroPadding3D", {}, S3),
    ("Cropping1D", dict(cropping=(1, 2)), S1), ("Cropping2D", dict(cropping=((1, 0), (2, 1))), S2), ("Cropping3D", {}, S3),
    ("UpSampling1D", {}, S1), ("UpSampling2D", dict(size=(2, 3)), S2), ("UpSampling3D", {}, S3),
    ("UpSampling2D", dict(size=2, interpolation="bilinear"), S2),
    ("Conv1D", dict(filters=6, kernel_size=3, padding="causal", dilation_rate=2), S1),
    ("Conv1D", dict(filters=6, kernel_size=3, strides=2, padding="same", activation="relu"), S1),
    ("Conv2D", dict(filters=6, kernel_size=3), S2), ("Conv2D", dict(filters=6, kernel_size=(3, 2), strides=2, padding="same"), S2),
    ("Conv2D", dict(filters=6, kernel_size=3, groups=2, dilation_rate=2, padding="same"), S2),
    ("Conv3D", dict(filters=3, kernel_size=2, strides=(1, 2, 1), padding="same"), S3),
    ("Conv1DTranspose", dict(filters=5, kernel_size=3, strides=2, padding="same"), S1),
    ("Conv2DTranspose", dict(filters=5, kernel_size=3, strides=2, padding="same"), S2),
    ("Conv2DTranspose", dict(filters=5, kernel_size=(2, 3), strides=(2, 1), padding="valid"), S2),
    ("Conv3DTranspose", dict(filters=2, kernel_size=2, strides=2), S3),
    ("DepthwiseConv1D", dict(kernel_size=3, padding="same"), S1),
    ("DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=2, strides=2, padding="same"), S2),
    ("SeparableConv1D", dict(filters=5, kernel_size=3), S1),
    ("SeparableConv2D", dict(filters=5, kernel_size=3, padding="same", activation="relu"), S2),
    *((f"{k}Pooling{n}D", dict(pool_size=2, padding=p), s) for k in ("Max", "Average") for n, s in ((1, S1), (2, S2), (3, S3)) for p in ("valid", "same")),
    ("MaxPooling2D", dict(pool_size=3, strides=2), S2), ("AveragePooling2D", dict(pool_size=(3, 2), strides=1), S2),
    *((f"Global{k}Pooling{n}D", {}, s) for k in ("Max", "Average") for n, s in ((1, S1), (2, S2), (3, S3))),
    ("GlobalAveragePooling2D", dict(keepdims=True), S2),
    *((f"Adaptive{k}Pooling{n}D", dict(output_size=3), s) for k in ("Max", "Average") for n, s in ((1, S1), (2, S2), (3, S3))),
    ("BatchNormalization", {}, S2), ("BatchNormalization", dict(axis=1, scale=False), S1), ("LayerNormalization", {}, S1),
    ("LayerNormalization", dict(axis=[1, 2], center=False), S1), ("RMSNormalization", {}, S1), ("UnitNormalization", {}, S1),
    ("GroupNormalization", dict(groups=2), S2), ("GroupNormalization", dict(groups=-1), S1),
    ("LSTM", dict(units=5), S1), ("LSTM", dict(units=5, return_sequences=True, go_backwards=True), S1),
    ("LSTM", dict(units=3, use_bias=False, activation="relu", recurrent_activation="hard_sigmoid"), S1),
    ("GRU", dict(units=5, return_sequences=True), S1), ("GRU", dict(units=5, reset_after=False), S1),
    ("SimpleRNN", dict(units=5, return_sequences=True), S1),
    ("ConvLSTM1D", dict(filters=3, kernel_size=3, padding="same"), (2, 4, 6, 2)),
    ("ConvLSTM2D", dict(filters=2, kernel_size=2, return_sequences=True), (2, 3, 5, 4, 2)),
    ("Rescaling", dict(scale=0.5, offset=[1.0, 2.0, 3.0, 4.0]), S1),
    ("Normalization", dict(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 2.0, 0.5]), S1), ("CenterCrop", dict(height=5, width=4), S2),
    ("Resizing", dict(height=5, width=9), S2), ("Resizing", dict(height=11, width=3, interpolation="nearest"), S2),
    ("Discretization", dict(bin_boundaries=[-0.5, 0.1, 1.0]), S1),
    ("Discretization", dict(bin_boundaries=[0.0, 0.1], output_mode="one_hot"), (4, 1)),
    ("Discretization", dict(bin_boundaries=[0.0, 0.1], output_mode="multi_hot"), (4, 3)),
    ("MelSpectrogram", dict(fft_length=64, sequence_stride=16, num_mel_bins=8, sampling_rate=8000), (2, 200)),
    ("MelSpectrogram", dict(fft_length=64, sequence_length=50, sequence_stride=20, window="hamming", num_mel_bins=6, power_to_db=False, mag_exp=1.0, max_freq=4000), (2, 3, 150)),
    *(("STFTSpectrogram", dict(mode=m, frame_length=32, frame_step=12, fft_length=64), (2, 100, 2)) for m in ("log", "magnitude", "psd", "real", "imag", "stft")),
    ("STFTSpectrogram", dict(mode="magnitude", frame_length=20, window="hamming", periodic=True, scaling="spectrum", padding="same", expand_dims=True), (2, 70, 1)),
    ("STFTSpectrogram", dict(mode="psd", frame_length=16, window=None, scaling=None), (1, 70, 1)),
    ("SpatialDropout1D", dict(rate=0.5), S1), ("Dropout", dict(rate=0.5), S1), ("GaussianNoise", dict(stddev=1.0), S1),
    ("GaussianDropout", dict(rate=0.5), S1), ("AlphaDropout", dict(rate=0.5), S1),
]  # fmt: skip


def run_both(a, b, x, training: bool, names: str) -> None:
    """Outputs and gradients of the inputs."""
    import torch

    t = dk.convert_to_tensor(x)
    p = torch.tensor(x, requires_grad=True)
    call = dict(training=training) if names in ("BatchNormalization",) else {}
    with dk.GradientTape() as tape:
        tape.watch(t)
        y = a(t, **call)
        loss = N.sum(N.square(y) * 0.5)
    other = b(p, **call)
    close(y, other, names)
    g = tape.gradient(loss, t)
    if other.requires_grad:
        (other**2 * 0.5).sum().backward()
        close(g, p.grad, f"{names}: gradient", 1e-4)


def test_files_hold_what_the_table_says() -> None:
    """``layers/__init__`` names each layer's file by hand, since it imports the files late."""
    layers, found = dk.keras.layers, {}
    for file in layers._NAMES:
        for name, x in vars(getattr(layers, file)).items():
            layer = isinstance(x, type) and issubclass(x, layers.Layer) and x.__module__.endswith(f"layers.{file}")
            merge = name in ("add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate", "dot")
            if (layer and not name.startswith("_")) or (merge and file == "core"):
                found[name] = file
    assert found == layers._FILE_OF


@pytest.mark.parametrize(("name", "how", "shape"), LAYERS, ids=lambda v: str(v))
def test_layer(name: str, how: dict, shape: tuple) -> None:
    a, b = both(lambda k: getattr(k.layers, name)(**how))
    x = floats(*shape)
    a(x), b(x)
    copy_weights(a, b)
    run_both(a, b, x, False, name)
    # the same through a functional model: symbolic shapes, one graph on the engine
    inp = ours.Input(shape[1:])
    model = ours.Model(inp, a(inp))
    close(model.predict_on_batch(x), b(x), f"{name} in a model", 1e-4)
    assert model.output_shape[1:] == tuple(b(x).shape[1:])
    again = type(a).from_config(a.get_config())
    again(x)
    again.set_weights(a.get_weights())
    close(again(x), a(x), f"{name} from its config")
    # Keras takes our config
    config = {k: v for k, v in a.get_config().items() if k not in ("synchronized",)}
    peer = type(b).from_config(config)
    peer(x)


@pytest.mark.parametrize("name", ["BatchNormalization"])
def test_training_mode(name: str) -> None:
    a, b = both(lambda k: getattr(k.layers, name)(momentum=0.9))
    x = floats(*S2)
    a(x), b(x)
    copy_weights(a, b)
    run_both(a, b, x, True, name)
    for v, w in zip(a.weights, b.weights, strict=True):
        close(v, w.value, v.name, 1e-5)


MERGES = ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"]


@pytest.mark.parametrize("name", MERGES)
def test_merge(name: str) -> None:
    xs = [floats(3, 4, seed=s) for s in ((1, 2) if name == "Subtract" else (1, 2, 3))]
    a, b = both(lambda k: getattr(k.layers, name)())
    close(a(xs), b(xs), name)


def test_dot() -> None:
    for axes, shapes in ((1, ((3, 4), (3, 4))), ((2, 1), ((3, 5, 4), (3, 4, 6)))):
        xs = [floats(*s, seed=i) for i, s in enumerate(shapes)]
        for normalize in (False, True):
            a, b = both(lambda k, ax=axes, n=normalize: k.layers.Dot(axes=ax, normalize=n))
            close(a(xs), b(xs), f"Dot {axes}")


def test_embedding_and_masks() -> None:
    x = ints(3, 6, high=5)
    a, b = both(lambda k: k.Sequential([k.layers.Embedding(5, 4, mask_zero=True), k.layers.LSTM(3, return_sequences=True), k.layers.GRU(4), k.layers.Dense(2)]))  # fmt: skip
    a(x), b(x)
    copy_weights(a, b)
    close(a(x), b(x), "masked")
    close(a.predict_on_batch(x), b(x), "masked, compiled")


def test_bidirectional_time_distributed_stacked() -> None:
    x = floats(*S1)
    makes = (
        lambda k: k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True)),
        lambda k: k.layers.Bidirectional(k.layers.GRU(3), merge_mode="sum"),
        lambda k: k.layers.TimeDistributed(k.layers.Dense(3, activation="tanh")),
        lambda k: k.layers.RNN([k.layers.LSTMCell(3), k.layers.GRUCell(4)], return_sequences=True),
    )
    for make in makes:
        a, b = both(make)
        a(x), b(x)
        copy_weights(a, b)
        close(a(x), b(x), str(b))


def test_lstm_state_and_dropout() -> None:
    x = floats(*S1)
    a, b = both(lambda k: k.layers.LSTM(3, return_state=True))
    a(x), b(x)
    copy_weights(a, b)
    for y, z in zip(a(x), b(x), strict=True):
        close(y, z)
    d = ours.layers.LSTM(3, dropout=0.5, recurrent_dropout=0.5)
    assert not np.allclose(array(d(x, training=True)), array(d(x)))


ATTENTION = [
    ("MultiHeadAttention", dict(num_heads=2, key_dim=3), {}), ("MultiHeadAttention", dict(num_heads=2, key_dim=3, value_dim=4, output_shape=5), {}),
    ("MultiHeadAttention", dict(num_heads=2, key_dim=3, use_bias=False), dict(use_causal_mask=True)),
    ("GroupQueryAttention", dict(head_dim=3, num_query_heads=4, num_key_value_heads=2), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "call"), ATTENTION, ids=str)
def test_heads(name: str, how: dict, call: dict) -> None:
    q, v = floats(2, 5, 8), floats(2, 5 if call else 6, 8, seed=1)
    a, b = both(lambda k: getattr(k.layers, name)(**how))
    a(q, v), b(q, v)
    copy_weights(a, b)
    close(a(q, v, **call), b(q, v, **call), name)
    scores = a(q, v, return_attention_scores=True, **call)[1]
    close(scores, b(q, v, return_attention_scores=True, **call)[1], "scores")


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_attention(name: str) -> None:
    xs = [floats(2, 5, 8), floats(2, 6, 8, seed=1)]
    a, b = both(lambda k: getattr(k.layers, name)(use_scale=True))
    a(xs), b(xs)
    copy_weights(a, b)
    close(a(xs), b(xs), name)


def test_category_encoding() -> None:
    for mode in ("one_hot", "multi_hot", "count"):
        x = ints(4, 1 if mode == "one_hot" else 3, high=5)
        a, b = both(lambda k, m=mode: k.layers.CategoryEncoding(5, output_mode=m))
        close(a(x), b(x), mode)


@pytest.mark.parametrize("name", ["RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness", "RandomCrop"])  # fmt: skip
def test_random_image_layers(name: str) -> None:
    """Nothing happens in inference; in training images change, each on its own, and the seed fixes it."""
    how = dict(RandomFlip=(), RandomTranslation=(0.3, 0.3), RandomCrop=(6, 5)).get(name, (0.4,))
    x = np.stack([floats(8, 8, 3, low=0.0)] * 4) * 255
    layer = getattr(ours.layers, name)(*how, seed=1)
    still = layer(x, training=False)
    if name != "RandomCrop":
        close(still, x)
    moved = array(layer(x, training=True))
    assert moved.shape == array(still).shape and np.isfinite(moved).all()
    assert not np.allclose(moved, array(still))
    if name != "RandomCrop":
        assert not np.allclose(moved[0], moved[1])
    close(getattr(ours.layers, name)(*how, seed=1)(x, training=True), moved)


def test_spectral_normalization() -> None:
    layer = ours.layers.SpectralNormalization(ours.layers.Dense(4), power_iterations=20)
    layer(floats(2, 6), training=True)
    assert abs(np.linalg.svd(layer.layer.kernel.numpy())[1][0] - 1) < 1e-3


def test_errors_name_the_layer() -> None:
    with pytest.raises(dk.DeploykitError, match="layer 'conv_a'.*got shape.*expected rank 4"):
        ours.layers.Conv2D(2, 3, name="conv_a")(floats(2, 3))
    dense = ours.layers.Dense(3, name="d")
    dense(floats(2, 4))
    with pytest.raises(dk.DeploykitError, match="layer 'd'.*size 4 along axis -1"):
        dense(floats(2, 5))
    with pytest.raises(dk.DeploykitError, match="channels_first.*channels_last only"):
        ours.layers.Conv2D(2, 3, data_format="channels_first")
    with pytest.raises(dk.DeploykitError, match="unknown activation 'rellu'. Near: relu"):
        ours.layers.Dense(3, activation="rellu")


assert theirs


def test_models_are_freed() -> None:
    """Nothing of ours holds a model, or its variables, that the user has dropped; nor the trace of its training step."""
    import gc
    import weakref

    def alive() -> list:
        k = dk.keras
        model = k.Sequential([k.Input((4,)), k.layers.Dense(3), k.layers.BatchNormalization(), k.layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(np.ones((8, 4), np.float32), np.ones((8, 1), np.float32), verbose=0)
        return [weakref.ref(v) for v in model.weights]

    kept = alive()
    gc.collect()
    assert [v() for v in kept] == [None] * len(kept)


@pytest.mark.parametrize("how", [{}, dict(return_sequences=True, go_backwards=True), dict(use_bias=False)])
def test_gradient_of_lstm_in_a_trace(how: dict) -> None:
    """Compiled training has a gradient of its own for whole sequences: that of the steps, which eager training takes."""
    layer = dk.keras.layers.LSTM(5, **how)
    x, h, c = floats(4, 7, 3), floats(4, 5, seed=1), floats(4, 5, seed=2)
    layer(x)
    sign = floats(*layer(x).shape, seed=3)

    def gradients(x: object, h: object, c: object) -> list:
        with dk.GradientTape() as tape:
            for t in (x, h, c):
                tape.watch(t)
            loss = N.sum(N.square(layer(x, initial_state=[h, c], training=True)) * sign)
        return tape.gradient(loss, [x, h, c, *layer.trainable_variables])

    graph = dk.function(gradients).graph(x, h, c)
    assert sum(n.op == "loop" for n in graph.nodes) == 2
    traced = dk.function(gradients)(*map(dk.Tensor, (x, h, c)))
    for got, want in zip(traced, gradients(*map(dk.Tensor, (x, h, c))), strict=True):
        close(got, want)
