"""Layers that turn tokens into numbers: StringLookup, IntegerLookup, TextVectorization.

Strings never reach the engine, so these layers work on arrays (or lists) before the model: in ``dataset.map`` or by hand.
They take no symbolic inputs and are no part of an exported file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from deploykit.autodiff.tensor import Tensor
from deploykit.errors import InputError
from deploykit.keras.layers.base import Layer, is_symbolic

_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


class _Tokens(Layer):
    """Called with arrays of tokens, not with tensors."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_symbolic(args, kwargs) or any(isinstance(a, Tensor) and a.traced for a in args):
            raise InputError(
                f"layer '{self.name}' ({type(self).__name__}): strings and vocabularies have no place in a graph. Apply the "
                "layer to the data before the model: dataset.map(layer), or layer(array)."
            )
        return self.call(*args, **kwargs)

    def _fail(self, text: str) -> InputError:
        return InputError(f"{type(self).__name__}: {text}")


class _Lookup(_Tokens):
    """What the lookups share.  Places: the mask token (if any), tokens out of the vocabulary (if any), the vocabulary."""

    def __init__(self, max_tokens: Any, num_oov_indices: int, mask_token: Any, oov_token: Any, vocabulary: Any, idf_weights: Any, invert: bool, output_mode: str, pad_to_max_tokens: bool, sparse: bool, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if output_mode not in _MODES:
            raise self._fail(f"output_mode={output_mode!r}, expected one of {', '.join(_MODES)}.")
        if num_oov_indices not in (0, 1):
            raise self._fail(
                f"num_oov_indices={num_oov_indices}; expected 0 or 1: hashing unknown tokens is not supported."
            )
        if sparse:
            raise self._fail("sparse=True is not supported; expected False.")
        if invert and output_mode != "int":
            raise self._fail("invert=True works with output_mode='int'.")
        if (idf_weights is not None) != (output_mode == "tf_idf" and vocabulary is not None):
            raise self._fail("idf_weights go with output_mode='tf_idf' and a vocabulary.")
        self.max_tokens, self.oov, self.mask_token, self.oov_token = max_tokens, num_oov_indices, mask_token, oov_token
        self.invert, self.output_mode, self.pad_to_max_tokens = invert, output_mode, pad_to_max_tokens
        self._tokens: list[Any] = []
        self._idf: np.ndarray | None = None
        if vocabulary is not None:
            if isinstance(vocabulary, str):
                with open(vocabulary, encoding="utf-8") as f:
                    vocabulary = [self._token(line.rstrip("\n")) for line in f]
            self.set_vocabulary(vocabulary, idf_weights)

    @staticmethod
    def _token(x: Any) -> Any:
        return x

    @property
    def _special(self) -> list[Any]:
        return [self.mask_token] * (self.mask_token is not None) + [self.oov_token] * self.oov

    def set_vocabulary(self, vocabulary: Iterable[Any], idf_weights: Any = None) -> None:
        """Give the tokens, most frequent first; the mask and the unknown token may stand in front."""
        tokens = [self._token(t) for t in vocabulary]
        special = self._special
        if special and tokens[: len(special)] == special:
            tokens = tokens[len(special) :]
        twice = [t for t, n in Counter(tokens).items() if n > 1]
        if twice:
            raise self._fail(f"the vocabulary has {twice[0]!r} twice; expected each token once.")
        if set(tokens) & set(special):
            raise self._fail(
                f"the vocabulary has {sorted(set(tokens) & set(special))[0]!r} in its midst, a special token."
            )
        if self.max_tokens is not None and len(tokens) + len(special) > self.max_tokens:
            raise self._fail(
                f"the vocabulary has {len(tokens)} tokens; expected at most {self.max_tokens - len(special)}."
            )
        if idf_weights is not None and len(idf_weights) != len(tokens):
            raise self._fail(f"got {len(idf_weights)} idf_weights, expected one for each of {len(tokens)} tokens.")
        self._tokens = tokens
        self._place = {t: i + len(special) for i, t in enumerate(tokens)}
        if self.mask_token is not None:
            self._place[self.mask_token] = 0
        if idf_weights is not None:
            w = np.asarray(idf_weights, np.float32)
            front = ([0.0] if self.mask_token is not None else []) + [float(w.mean())] * self.oov
            self._idf = np.concatenate([np.array(front, np.float32), w]).astype(np.float32)
        self.built = True

    def adapt(self, data: Any, batch_size: Any = None, steps: Any = None) -> None:
        """Learn the vocabulary: by falling frequency, equal ones in falling order of tokens."""
        self.adapt_samples(self._samples(data))

    def adapt_samples(self, samples: Iterable[list[Any]]) -> None:
        """As ``adapt``, from lists of tokens."""
        counts: Counter[Any] = Counter()
        documents: Counter[Any] = Counter()
        total = 0
        for sample in samples:
            total += 1
            counts.update(sample)
            documents.update(set(sample))
        if not total:
            raise self._fail("adapt: the data is empty.")
        for t in self._special:
            counts.pop(t, None)
        ordered = sorted(counts, key=lambda t: (counts[t], t), reverse=True)
        if self.max_tokens is not None:
            ordered = ordered[: self.max_tokens - len(self._special)]
        idf = None
        if self.output_mode == "tf_idf":
            idf = [np.log(1 + total / (1 + documents[t])) for t in ordered]
        self.set_vocabulary(ordered, idf)

    def _samples(self, data: Any) -> Iterable[list[Any]]:
        for x in _batches(data):
            a = self._array(x)
            yield from (
                [self._token(t) for t in row.reshape(-1).tolist()] for row in (a if a.ndim > 1 else a[..., None])
            )

    def _array(self, x: Any) -> np.ndarray:
        raise NotImplementedError

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The tokens in order of their places."""
        front = ([self.mask_token] if self.mask_token is not None and self.output_mode == "int" else []) + (
            [self.oov_token] * self.oov
        )
        return (front if include_special_tokens else []) + list(self._tokens)

    def vocabulary_size(self) -> int:
        """Places in all."""
        return len(self._special) + len(self._tokens)

    def call(self, inputs: Any) -> Tensor:
        if not self._tokens:
            raise self._fail("there is no vocabulary yet; give vocabulary= or call adapt(data) first.")
        if self.invert:
            return self._back(inputs)  # type: ignore[return-value]
        a = self._array(inputs)
        unknown = len(self._special) - 1 if self.oov else None
        flat = []
        for t in a.reshape(-1).tolist():
            at = self._place.get(self._token(t), unknown)
            if at is None:
                raise self._fail(f"token {t!r} is not in the vocabulary, and num_oov_indices is 0.")
            flat.append(at)
        places = np.array(flat, np.int64).reshape(a.shape)
        return Tensor(places if self.output_mode == "int" else self._encode(places))

    def _back(self, places: Any) -> Any:
        p = np.asarray(places)
        words = self._special + self._tokens
        unknown = self.oov_token
        return np.array([words[i] if 0 <= i < len(words) else unknown for i in p.reshape(-1).tolist()]).reshape(p.shape)

    def _encode(self, places: np.ndarray) -> np.ndarray:
        size = self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()
        if self.output_mode == "one_hot":
            p = places[..., 0] if places.ndim and places.shape[-1] == 1 else places
            return (p[..., None] == np.arange(size)).astype(np.float32)
        rows = places.reshape(-1, places.shape[-1]) if places.ndim > 1 else places.reshape(1, -1)
        out = np.zeros((len(rows), size), np.float32)
        np.add.at(out, (np.arange(len(rows))[:, None], rows), 1)
        if self.mask_token is not None:
            out[:, 0] = 0
        if self.output_mode == "multi_hot":
            out = np.minimum(out, 1)
        elif self.output_mode == "tf_idf":
            assert self._idf is not None
            out[:, : len(self._idf)] *= self._idf
        return out.reshape(*places.shape[:-1], size)

    def get_config(self) -> dict[str, Any]:
        """With the vocabulary as it is now."""
        config = super().get_config()
        if self._tokens:
            config["vocabulary"] = list(self._tokens)
            if self._idf is not None:
                config["idf_weights"] = self._idf[len(self._special) :].tolist()
        return config


class StringLookup(_Lookup):
    """Strings to their places in a vocabulary, or back with ``invert``.

    >>> StringLookup(vocabulary=["a", "b"])(["b", "z", "a"]).tolist()
    [2, 0, 1]
    """

    def __init__(self, max_tokens: Any = None, num_oov_indices: int = 1, mask_token: Any = None, oov_token: str = "[UNK]", vocabulary: Any = None, idf_weights: Any = None, invert: bool = False, output_mode: str = "int", pad_to_max_tokens: bool = False, sparse: bool = False, encoding: str = "utf-8", **kwargs: Any) -> None:  # fmt: skip
        self.encoding = encoding
        super().__init__(max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode, pad_to_max_tokens, sparse, **kwargs)  # fmt: skip

    def _array(self, x: Any) -> np.ndarray:
        return _strings(self, x)

    @staticmethod
    def _token(x: Any) -> Any:
        return x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x)


class IntegerLookup(_Lookup):
    """Integers to their places in a vocabulary, or back with ``invert``."""

    def __init__(self, max_tokens: Any = None, num_oov_indices: int = 1, mask_token: Any = None, oov_token: int = -1, vocabulary: Any = None, vocabulary_dtype: str = "int64", idf_weights: Any = None, invert: bool = False, output_mode: str = "int", pad_to_max_tokens: bool = False, sparse: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode, pad_to_max_tokens, sparse, **kwargs)  # fmt: skip

    def _array(self, x: Any) -> np.ndarray:
        a = np.asarray(x)
        if a.dtype.kind not in "iu":
            raise self._fail(f"got dtype {a.dtype}, expected integers.")
        return a

    @staticmethod
    def _token(x: Any) -> Any:
        return int(x)


_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']")


class TextVectorization(_Tokens):
    """Texts to rows of places in a vocabulary: standardized, split, looked up, padded with 0.

    >>> layer = TextVectorization(output_sequence_length=4, vocabulary=["foo", "baz", "bar"])
    >>> layer(["Foo qux, bar!", "qux baz"]).tolist()
    [[2, 1, 4, 0], [1, 3, 0, 0]]
    """

    def __init__(self, max_tokens: Any = None, standardize: Any = "lower_and_strip_punctuation", split: Any = "whitespace", ngrams: Any = None, output_mode: str = "int", output_sequence_length: int | None = None, pad_to_max_tokens: bool = False, vocabulary: Any = None, idf_weights: Any = None, sparse: bool = False, ragged: bool = False, encoding: str = "utf-8", **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        known = (None, "lower_and_strip_punctuation", "lower", "strip_punctuation")
        if standardize not in known and not callable(standardize):
            raise self._fail(f"standardize={standardize!r}, expected one of {known} or a function.")
        if split not in (None, "whitespace", "character") and not callable(split):
            raise self._fail(f"split={split!r}, expected None, 'whitespace', 'character' or a function.")
        if ragged:
            raise self._fail("ragged=True is not supported; expected False.")
        if output_mode == "one_hot":
            raise self._fail("output_mode='one_hot', expected one of int, multi_hot, count, tf_idf.")
        if output_sequence_length is not None and output_mode != "int":
            raise self._fail("output_sequence_length goes with output_mode='int'.")
        self.standardize, self.split, self.output_mode = standardize, split, output_mode
        self.output_sequence_length = output_sequence_length
        self.ngrams = (
            tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else None if ngrams is None else tuple(ngrams)
        )
        mask = "" if output_mode == "int" else None
        self.lookup = StringLookup(max_tokens, mask_token=mask, vocabulary=vocabulary, idf_weights=idf_weights, output_mode=output_mode, pad_to_max_tokens=pad_to_max_tokens, sparse=sparse)  # fmt: skip

    def words(self, text: str) -> list[str]:
        """The tokens of a text."""
        if callable(self.standardize):
            text = str(self.standardize(text))
        elif self.standardize is not None:
            text = text.lower() if "lower" in self.standardize else text
            text = _PUNCTUATION.sub("", text) if "strip" in self.standardize else text
        how: Callable[[str], Sequence[str]]
        how = self.split if callable(self.split) else {None: lambda t: [t], "whitespace": str.split, "character": list}[self.split]  # fmt: skip
        tokens = [str(t) for t in how(text)]
        if self.ngrams is None:
            return tokens
        return [" ".join(tokens[i : i + n]) for n in self.ngrams for i in range(len(tokens) - n + 1)]

    def adapt(self, data: Any, batch_size: Any = None, steps: Any = None) -> None:
        """Learn the vocabulary from texts."""
        rows = [self.words(t) for x in _batches(data) for t in self._texts(x)]
        if not rows:
            raise self._fail("adapt: the data is empty.")
        self.lookup.adapt_samples(rows)

    def _texts(self, x: Any) -> list[str]:
        a = _strings(self, x)
        if a.ndim > 2 or (a.ndim == 2 and a.shape[-1] != 1):
            raise self._fail(f"got shape {a.shape}, expected one text per sample: (batch,) or (batch, 1).")
        return [StringLookup._token(t) for t in a.reshape(-1).tolist()]

    def call(self, inputs: Any) -> Tensor:
        rows = [self.words(t) for t in self._texts(inputs)]
        single = np.ndim(inputs) == 0
        if self.output_mode != "int":
            out = np.stack([self.lookup(np.array(r or [], dtype=object)).numpy() for r in rows])
            return Tensor(out[0] if single else out)
        n = self.output_sequence_length
        n = max((len(r) for r in rows), default=0) if n is None else n
        padded = np.array([(r + [""] * n)[:n] for r in rows], dtype=object).reshape(len(rows), n)
        out = self.lookup(padded).numpy()
        return Tensor(out[0] if single else out)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The tokens in order of their places."""
        return self.lookup.get_vocabulary(include_special_tokens)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Give the tokens, most frequent first."""
        self.lookup.set_vocabulary(vocabulary, idf_weights)

    def vocabulary_size(self) -> int:
        """Places in all."""
        return self.lookup.vocabulary_size()

    def get_config(self) -> dict[str, Any]:
        """With the vocabulary as it is now."""
        inner = self.lookup.get_config()
        return {**super().get_config(), "vocabulary": inner["vocabulary"], "idf_weights": inner["idf_weights"]}


def _strings(layer: _Tokens, x: Any) -> np.ndarray:
    a = np.asarray(x, dtype=object) if isinstance(x, (list, tuple)) else np.asarray(x)
    if a.dtype.kind not in "OUS" or not all(isinstance(t, (str, bytes)) for t in a.reshape(-1).tolist()):
        raise layer._fail(f"got {a.dtype} {list(a.shape)}, expected strings of one shape.")
    return a


def _batches(data: Any) -> Iterable[Any]:
    """An array (or list) is one batch; a Dataset gives many."""
    if isinstance(data, (str, bytes)):
        return [[data]]
    return [data] if isinstance(data, (np.ndarray, list, tuple)) else data
