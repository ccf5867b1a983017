"""One contender of ``tests.bench.train`` in a process of its own: the same network, batches and first weights for all.

    python train_worker.py CONTENDER WORKLOAD THREADS WEIGHTS.npz

Says ``ready {json}`` when the network is built, then answers each line ``N`` on its input with ``{json}``: the seconds of
N steps, each measured by itself, and the last loss; an empty line ends it.  The contender that finds no WEIGHTS writes them.
It imports nothing of this repository but the package itself, so that it runs in whatever environment has the contender.
"""

import importlib
import json
import os
import resource
import sys
import time

import numpy as np

# batch, shape of one input, dtype
WORKLOADS = {
    "mlp": (128, (784,), "float32"), "cnn": (128, (28, 28, 1), "float32"), "lstm": (64, (100, 64), "float32"),
    "transformer": (16, (128,), "int32"), "mbv2": (32, (96, 96, 3), "float32"),
}  # fmt: skip
# MobileNetV2 with alpha 0.35: expansion, filters, blocks, stride of the first
BLOCKS = (
    (1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1),
)  # fmt: skip
RATE, WIDTH, HEADS = 1e-3, 128, 4


def batches(workload, n=8):
    """Fixed random batches."""
    batch, shape, dtype = WORKLOADS[workload]
    r = np.random.default_rng(0)
    many = (batch, *shape)
    one = lambda: r.integers(0, 1000, many, np.int32) if dtype == "int32" else r.standard_normal(many, np.float32)  # noqa: E731
    return [(one(), r.integers(0, 10, batch).astype(np.int32)) for _ in range(n)]


# ---------------------------------------------------------------- Keras' API: Deploykit, Keras on TensorFlow and on JAX
def keras_network(keras, workload):
    """The network through Keras' names."""
    L = keras.layers
    _, shape, dtype = WORKLOADS[workload]
    x = inputs = keras.Input(shape, dtype=dtype)
    if workload == "mlp":
        for n in (512, 256):
            x = L.Dense(n, activation="relu")(x)
    elif workload == "cnn":
        for n in (32, 64):
            x = L.Conv2D(n, 3, activation="relu")(x)
        x = L.Dense(128, activation="relu")(L.Flatten()(L.MaxPooling2D(2)(x)))
    elif workload == "lstm":
        x = L.LSTM(128)(x)
    elif workload == "transformer":
        x = _Places(keras)(L.Embedding(1000, WIDTH)(x))
        for _ in range(4):
            h = L.LayerNormalization(epsilon=1e-3)(x)
            x = L.Add()([x, L.MultiHeadAttention(HEADS, WIDTH // HEADS)(h, h)])
            h = L.LayerNormalization(epsilon=1e-3)(x)
            h = L.Dense(4 * WIDTH, activation=lambda a: keras.ops.gelu(a, approximate=True))(h)
            x = L.Add()([x, L.Dense(WIDTH)(h)])
        x = L.GlobalAveragePooling1D()(L.LayerNormalization(epsilon=1e-3)(x))
    else:

        def normal(x, act=True):
            x = L.BatchNormalization(epsilon=1e-3, momentum=0.999)(x)
            return L.ReLU(6.0)(x) if act else x

        x, wide = normal(L.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)), 16
        for expand, out, n, stride in BLOCKS:
            for k in range(n):
                s, y = (1 if k else stride), x
                if expand != 1:
                    y = normal(L.Conv2D(wide * expand, 1, use_bias=False)(y))
                y = normal(L.DepthwiseConv2D(3, strides=s, padding="same", use_bias=False)(y))
                y = normal(L.Conv2D(out, 1, use_bias=False)(y), act=False)
                x = L.Add()([x, y]) if s == 1 and wide == out else y
                wide = out
        x = L.GlobalAveragePooling2D()(normal(L.Conv2D(1280, 1, use_bias=False)(x)))
    return keras.Model(inputs, L.Dense(10)(x))


def _Places(keras):
    class Places(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(128, WIDTH), initializer="uniform", name="w")

        def call(self, x):
            return x + self.w

    return Places()


class KerasLike:
    """train_on_batch of a Keras-like package."""

    def __init__(self, module, workload, weights):
        self.keras = keras = importlib.import_module(module)
        keras.utils.set_random_seed(0)
        self.net = keras_network(keras, workload)
        if os.path.exists(weights):
            given = np.load(weights)
            self.net.set_weights([given[k] for k in given.files])
        else:
            np.savez(weights, *self.net.get_weights())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.net.compile(keras.optimizers.Adam(RATE), loss)

    def step(self, x, y):
        """One step; its loss."""
        return float(np.asarray(self.net.train_on_batch(x, y)))


class PlainJax(KerasLike):
    """The step jitted as a whole with Adam by hand, state donated: JAX without Keras' loop."""

    def __init__(self, workload, weights):
        super().__init__("keras", workload, weights)
        import jax
        import jax.numpy as jnp

        net, tree = self.net, jax.tree_util.tree_map
        train, fixed = ([v.value for v in vs] for vs in (net.trainable_variables, net.non_trainable_variables))
        zeros = tree(jnp.zeros_like, train)
        self.state = (train, fixed, zeros, tree(jnp.copy, zeros), jnp.zeros((), "float32"))

        def step(state, x, y):
            p, s, m, v, t = state

            def loss(p):
                logits, new = net.stateless_call(p, s, x, training=True)
                return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), new

            (value, s), g = jax.value_and_grad(loss, has_aux=True)(p)
            t = t + 1
            m = tree(lambda a, b: 0.9 * a + 0.1 * b, m, g)
            v = tree(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
            rate = RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            p = tree(lambda w, a, b: w - rate * a / (jnp.sqrt(b) + 1e-7), p, m, v)
            return (p, s, m, v, t), value

        self.jitted = jax.jit(step, donate_argnums=0)

    def step(self, x, y):
        self.state, loss = self.jitted(self.state, x, y)
        return float(loss)


# ---------------------------------------------------------------- PyTorch, eager
class Torch:
    """Idiomatic eager PyTorch; ``channels_last`` where asked."""

    def __init__(self, workload, weights, threads, channels_last):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.workload, self.last = torch, workload, channels_last
        self.net = self._network()
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        given = np.load(weights)
        self._load([given[k] for k in given.files])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE, eps=1e-7)

    def _network(self):
        torch = self.torch
        nn, F, workload = torch.nn, torch.nn.functional, self.workload
        if workload == "mlp":
            return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
        if workload == "cnn":
            return nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
            )  # fmt: skip
        if workload == "lstm":

            class Recurrent(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.lstm, self.top = nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 10)

                def forward(self, x):
                    return self.top(self.lstm(x)[0][:, -1])

            return Recurrent()
        if workload == "transformer":

            class Block(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.a = nn.LayerNorm(WIDTH, eps=1e-3)
                    self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
                    self.b = nn.LayerNorm(WIDTH, eps=1e-3)
                    self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

                def forward(self, x):
                    n, t, d = x.shape
                    h = self.a(x)
                    q, k, v = (f(h).view(n, t, HEADS, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
                    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
                    x = x + self.o(y)
                    return x + self.down(F.gelu(self.up(self.b(x)), approximate="tanh"))

            class Encoder(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.words, self.places = nn.Embedding(1000, WIDTH), nn.Embedding(128, WIDTH)
                    self.blocks = nn.Sequential(*(Block() for _ in range(4)))
                    self.norm, self.top = nn.LayerNorm(WIDTH, eps=1e-3), nn.Linear(WIDTH, 10)

                def forward(self, x):
                    return self.top(self.norm(self.blocks(self.words(x) + self.places.weight)).mean(1))

            return Encoder()

        def part(i, o, k, s, groups=1, act=True):
            # TensorFlow pads what an even size has too few of at the end only
            pad = [] if k == 1 else [nn.ZeroPad2d((0, 1, 0, 1) if s == 2 else 1)]
            conv = nn.Conv2d(i, o, k, s, groups=groups, bias=False)
            return nn.Sequential(*pad, conv, nn.BatchNorm2d(o, 1e-3, 1e-3), *([nn.ReLU6()] if act else []))

        class Inverted(nn.Module):
            def __init__(self, i, o, s, expand):
                super().__init__()
                h = i * expand
                first = [part(i, h, 1, 1)] if expand != 1 else []
                self.net = nn.Sequential(*first, part(h, h, 3, s, h), part(h, o, 1, 1, act=False))
                self.add = s == 1 and i == o

            def forward(self, x):
                return x + self.net(x) if self.add else self.net(x)

        class Mean(nn.Module):
            def forward(self, x):
                return x.mean((2, 3))

        parts, wide = [part(3, 16, 3, 2)], 16
        for expand, out, n, stride in BLOCKS:
            for k in range(n):
                parts.append(Inverted(wide, out, 1 if k else stride, expand))
                wide = out
        return nn.Sequential(*parts, part(wide, 1280, 1, 1), Mean(), nn.Linear(1280, 10))

    def _load(self, given):
        torch = self.torch
        given = [torch.from_numpy(a.copy()) for a in given]
        take = lambda: given.pop(0)  # noqa: E731
        with torch.no_grad():
            for m in self.net.modules():
                kind = type(m).__name__
                if kind == "Linear":
                    w = take()
                    if len(w) == 9216:  # features of an image: Keras has channels last
                        w = w.reshape(12, 12, 64, 128).permute(2, 0, 1, 3).reshape(9216, 128)
                    if w.ndim == 3:  # heads apart: [in, heads, size], or the way back
                        w = w.reshape(WIDTH, WIDTH)
                    m.weight.copy_(w.T)
                    m.bias.copy_(take().reshape(-1))
                elif kind == "Conv2d":
                    m.weight.copy_(take().permute((2, 3, 0, 1) if m.groups > 1 else (3, 2, 0, 1)))
                    if m.bias is not None:
                        m.bias.copy_(take())
                elif kind == "BatchNorm2d":
                    for t in (m.weight, m.bias, m.running_mean, m.running_var):
                        t.copy_(take())
                elif kind == "LayerNorm":
                    m.weight.copy_(take()), m.bias.copy_(take())
                elif kind == "Embedding":
                    m.weight.copy_(take())
                elif kind == "LSTM":
                    m.weight_ih_l0.copy_(take().T), m.weight_hh_l0.copy_(take().T)
                    m.bias_ih_l0.copy_(take()), m.bias_hh_l0.zero_()
                    m.bias_hh_l0.requires_grad_(False)
        assert not given, len(given)

    def step(self, x, y):
        torch = self.torch
        x = torch.from_numpy(x)
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2)
            x = x if self.last else x.contiguous()
        x = x if x.is_floating_point() else x.long()
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self.net(x), torch.from_numpy(y).long())
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def make(contender, workload, threads, weights):
    """The contender, ready to step."""
    if contender == "deploykit":
        return KerasLike("deploykit.keras", workload, weights)
    if contender.startswith("torch"):
        return Torch(workload, weights, threads, contender == "torch-channels-last")
    if contender == "jax":
        os.environ["KERAS_BACKEND"] = "jax"
        return PlainJax(workload, weights)
    os.environ["KERAS_BACKEND"] = backend = contender.removeprefix("keras-")
    if backend == "deploykit":
        importlib.import_module("deploykit.keras_backend")
    return KerasLike("keras", workload, weights)


def main():
    """Serve steps."""
    contender, workload, threads, weights = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "DK_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    say, sys.stdout = sys.stdout, sys.stderr
    start = time.perf_counter()
    subject = make(contender, workload, threads, weights)
    data, at = batches(workload), 0
    print("ready", json.dumps({"build": time.perf_counter() - start}), file=say, flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        times, losses, cpu = [], [], time.process_time()
        for _ in range(int(line)):
            x, y = data[at % len(data)]
            t = time.perf_counter()
            losses.append(subject.step(x, y))
            times.append(time.perf_counter() - t)
            at += 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cpu = (time.process_time() - cpu) / max(1, len(times))
        print(json.dumps({"times": times, "losses": losses, "peak_mb": peak, "cpu": cpu}), file=say, flush=True)


if __name__ == "__main__":
    main()
