"""Models that take or give text: the engine carries code points, the interpreter turns them into text and back."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import deploykit as dk
from deploykit import strings
from deploykit.errors import DeploykitError, FormatError, InputError, UnsupportedError
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder
from tests.support.peers import need, need_onnxruntime

need_onnxruntime()
from deploykit.runners import OnnxRuntimeRunner  # noqa: E402

S, I64 = TensorProto.STRING, TensorProto.INT64
ODD = ["", "a", "Äpfel", "STRASSE", "мир", "日本語", "e\u0301", "😀 smile", "tab\tnew\nline", "x" * 40]


def model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: Any = ()) -> onnx.ModelProto:
    """inputs and outputs: name -> (type, shape)."""
    infos = [[helper.make_tensor_value_info(k, *v) for k, v in side.items()] for side in (inputs, outputs)]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 4)]
    graph = helper.make_graph(nodes, "g", *infos, list(weights))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def agree(proto: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    """Ours, held against onnxruntime's."""
    want = OnnxRuntimeRunner(proto.SerializeToString(), 1).run({k: np.asarray(v, object) for k, v in feeds.items()})
    got = dk.Interpreter(dk_bytes(proto)).run(feeds)
    assert list(got) == list(want)
    for k, w in want.items():
        assert got[k].shape == w.shape and (got[k].dtype == w.dtype) and np.array_equal(got[k], w), k
    return got


def dk_bytes(proto: Any) -> bytes:
    from deploykit.graph.dkfile import to_bytes

    return to_bytes(dk.convert(proto, verify=False).graph)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 5)])
def test_text_comes_back_as_it_went(shape: tuple[int, ...]) -> None:
    words = np.array(list(itertools.islice(itertools.cycle(ODD), int(np.prod(shape)))), object).reshape(shape)
    codes = strings.encode(words)
    assert codes.dtype == np.int32 and codes.shape[:-1] == shape
    assert np.array_equal(strings.decode(codes), words)
    assert np.array_equal(strings.encode(words.astype("U")), codes)


def test_concatenation_equality_and_constants() -> None:
    nodes = [
        helper.make_node("StringConcat", ["a", "b"], ["ab"]),
        helper.make_node("Equal", ["ab", "c"], ["same"]),
        helper.make_node("StringConcat", ["ab", "tail"], ["end"]),
    ]
    tail = helper.make_tensor("tail", S, [1], ["→ß".encode()])
    c = helper.make_tensor("c", S, [2, 1], [b"aa", "Äpfelb".encode()])
    proto = model(
        nodes, {"a": (S, ["n", 1]), "b": (S, ["k"])},
        {"ab": (S, None), "same": (TensorProto.BOOL, None), "end": (S, None)}, [tail, c],
    )  # fmt: skip
    got = agree(proto, {"a": [["a"], ["Äpfel"]], "b": ["a", "b", ""]})
    assert got["same"].tolist() == [[True, False, False], [False, True, False]]
    agree(proto, {"a": np.array([[w] for w in ODD[:2]]), "b": np.array(ODD)})


@pytest.mark.parametrize("exact", [0, 1])
@pytest.mark.parametrize("case", ["NONE", "LOWER", "UPPER"])
def test_normalizer(case: str, exact: int) -> None:
    node = helper.make_node(
        "StringNormalizer",
        ["x"],
        ["y"],
        case_change_action=case,
        is_case_sensitive=exact,
        stopwords=["a", "мир", "Tab"],
    )
    proto = model([node], {"x": (S, ["n"])}, {"y": (S, ["m"])})
    words = ["A", "a", "МИР", "мир", "TAB", "Tab", "Ärger", "ÿ", "日本", "ab"]
    stop = {"a", "мир", "Tab"}
    left = [w for w in words if not (w in stop if exact else w.lower() in {s.lower() for s in stop})]
    change = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}[case]
    ours = dk.Interpreter(dk_bytes(proto))
    assert ours.run({"x": words})["y"].tolist() == [change(w) for w in left]
    assert ours.run({"x": ["a", "a"]})["y"].tolist() == [""]


def test_encoders_of_words() -> None:
    nodes = [
        helper.make_node("LabelEncoder", ["x"], ["i"], domain="ai.onnx.ml", keys_strings=["cat", "dög", ""],
                         values_int64s=[7, 8, 9], default_int64=-3),
        helper.make_node("LabelEncoder", ["i"], ["w"], domain="ai.onnx.ml", keys_int64s=[7, 8],
                         values_strings=["a cat", "dögs"], default_string="?!"),
        helper.make_node("OneHotEncoder", ["x"], ["h"], domain="ai.onnx.ml", cats_strings=["dög", "cat"]),
    ]  # fmt: skip
    proto = model(nodes, {"x": (S, ["n", 2])}, {"i": (I64, None), "w": (S, None), "h": (TensorProto.FLOAT, None)})
    agree(proto, {"x": [["cat", "dög"], ["", "bird"], ["cats", "ca"]]})


def split(words: Any, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    shape = [f"d{i}" for i in range(np.ndim(words))]
    node = helper.make_node("StringSplit", ["x"], ["y", "n"], **attrs)
    got = dk.Interpreter(dk_bytes(model([node], {"x": (S, shape)}, {"y": (S, None), "n": (I64, None)}))).run(
        {"x": words}
    )
    return got["y"], got["n"]


SENTENCES = [
    "",
    " ",
    "one",
    " a b  c ",
    "a, b,c,,d",
    ",",
    ",,,",
    "aXXXbXXc",
    "ababaXab",
    "日 本\u3000語\u00a0x",
    "tab\tnew\nline  ",
]


@pytest.mark.parametrize("most", [None, 0, 1, 2, 5])
@pytest.mark.parametrize("by", ["", ",", ", ", "XX", "aba", "日"])
def test_split(by: str, most: int | None) -> None:
    """As Python's own, repeated letters in a delimiter included (the first from the left counts)."""
    attrs = ({"delimiter": by} if by else {}) | ({} if most is None else {"maxsplit": most})
    y, n = split(SENTENCES, **attrs)
    want = [w.split(by or None, -1 if most is None else most) for w in SENTENCES]
    longest = max(map(len, want))
    assert n.tolist() == [len(w) for w in want] and y.shape == (len(want), longest)
    assert y.tolist() == [w + [""] * (longest - len(w)) for w in want]


def test_split_of_any_shape() -> None:
    y, n = split(np.array([[["a b", "c"], ["", "d e f"]]], object))
    assert n.tolist() == [[[2, 1], [0, 3]]] and y.shape == (1, 2, 2, 3) and y[0, 1, 1].tolist() == ["d", "e", "f"]
    y, n = split(np.zeros((0, 2), object))
    assert y.shape == (0, 2, 0) and n.shape == (0, 2)
    y, n = split(np.array("x-y", object), delimiter="-")
    assert y.tolist() == ["x", "y"] and n.tolist() == 2


PATTERNS = [
    r"", r"a", r"a*", r"(ab|a)(bc|c)?", r"[^a-c]+", r"\d{2,4}", r"\w+@\w+\.(com|org)", r"(?:x|y){0,3}z?", r".*b.*", r"(?s).*",
    r"^a.*c$", r"\ba\w*\b.*", r"a\Bb+", r"(?i)STRASSE|Ab+", r"[\s\S]?", r"\S+ \S+", r"[а-я]+", r"a+?b*?", r"(a|b)*abb",
    r"\x41?.{1,3}",    r"(\W|^)[\w.]{0,25}@(yahoo|gmail)\.com(\W|$)", r"((a{1,2}){2}){2}", r"[]a-]+", r"$^", r"(|a|ab)c",
]  # fmt: skip
STRINGS = [
    "", "a", "ab", "abc", "aabb", "babb", "abb", "12", "12345", "me@host.com", "me@host.net", "xyxz", "zz", "a\nb", "straSSE",
    "ab ba", "мир", "日本語", "A12", "@gmail.com", "account@gmail.com!", "aaaaaaa", "aaaaaaaa", "]-a", "c", "-", "a-c",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_regular_expressions(pattern: str) -> None:
    import re

    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    proto = model([node], {"x": (S, ["n"])}, {"y": (TensorProto.BOOL, None)})
    got = dk.Interpreter(dk_bytes(proto)).run({"x": STRINGS})["y"]
    assert got.tolist() == [re.fullmatch(pattern, s, re.ASCII) is not None for s in STRINGS]
    theirs = OnnxRuntimeRunner(proto.SerializeToString(), 1).run({"x": np.array(STRINGS, object)})["y"]
    assert np.array_equal(got, theirs)  # RE2 itself


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        (r"(a)\1", UnsupportedError, "groupref"),
        (r"a(?=b)", UnsupportedError, r"'\(\?='"),
        (r"[[:alpha:]]+", UnsupportedError, r"'\[:'"),
        (r"\pL", UnsupportedError, r"pL|p"),
        (r"(?i)ж", UnsupportedError, "beyond ASCII"),
        (r"((a{50}){50}){50}", UnsupportedError, "2000 states"),
        (r"(a|b)*a(a|b){14}", UnsupportedError, "2000 states"),
        (r"a(b", FormatError, "no regular expression"),
    ],
)
def test_patterns_that_are_refused(pattern: str, error: type, says: str) -> None:
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    with pytest.raises(error, match=says):
        dk.convert(model([node], {"x": (S, ["n"])}, {"y": (TensorProto.BOOL, None)}), verify=False)


def test_classes_with_names() -> None:
    skl2onnx = need("skl2onnx")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    for kinds in (["setosa", "versicolor", "virginica"], ["a", "bé", "bé"]):
        for make in (LogisticRegression, DecisionTreeClassifier):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fitted = make().fit(x, np.array(kinds)[y])
            proto = skl2onnx.to_onnx(fitted, x[:1], options={id(fitted): {"zipmap": False}})
            report = dk.convert(proto)
            assert report.verification["status"] == "passed"
            want = OnnxRuntimeRunner(proto.SerializeToString(), 1).run({"X": x})
            got = dk.Interpreter(dk_bytes(proto)).run({"X": x})
            assert np.array_equal(got["label"], want["label"]) and got["label"][0] == kinds[0]


def test_what_text_is_refused(tmp_path: Path) -> None:
    concat = helper.make_node("StringConcat", ["a", "a"], ["y"])
    proto = model([concat], {"a": (S, ["n"])}, {"y": (S, ["n"])})
    report = dk.convert(proto, tmp_path / "m.dk")
    assert report.verification["status"] == "skipped" and "real inputs" in report.verification["reason"]
    report = dk.convert(proto, tmp_path / "m.dk", inputs=[{"a": np.array(["x", "yz"], object)}])
    assert report.verification["status"] == "passed"
    for kind in (".onnx", ".tflite"):
        with pytest.raises(UnsupportedError, match=f"'a', 'y': text is code points.*as {kind}"):
            dk.convert(proto, tmp_path / f"m{kind}")
    run = dk.Interpreter(tmp_path / "m.dk").run
    assert run({"a": np.array([[104, 105]], np.int32)})["y"].tolist() == ["hihi"]
    for bad in ([["a"]], [1.5], np.zeros(3, np.float32)):
        with pytest.raises(InputError):
            run({"a": bad})
    with pytest.raises(UnsupportedError, match="input 0 holds strings, which this op does not take"):
        dk.convert(model([helper.make_node("Neg", ["a"], ["y"])], {"a": (S, ["n"])}, {"y": (S, ["n"])}))
    lost = helper.make_tensor("w", S, [2], [b"a", b"b"])
    lost.dims[0] = 3
    with pytest.raises(FormatError, match="3 strings gives 2"):
        dk.convert(
            model([helper.make_node("StringConcat", ["a", "w"], ["y"])], {"a": (S, [3])}, {"y": (S, [3])}, [lost])
        )


def test_code_points_that_are_none(tmp_path: Path) -> None:
    """The interpreter gives an error of ours, not a crash, where a model makes up numbers."""
    proto = model([helper.make_node("StringConcat", ["a", "a"], ["y"])], {"a": (S, ["n"])}, {"y": (S, ["n"])})
    run = dk.Interpreter(dk_bytes(proto)).run
    for bad in (-1, 0x110000, 2**31 - 1):
        with pytest.raises(DeploykitError, match="no character"):
            run({"a": np.array([[bad]], np.int32)})


@pytest.mark.parametrize(
    "said", ["x", ["x"], {"inputs": "x"}, {"inputs": [1], "outputs": {"y": 2}}, {"outputs": ["y"]}]
)
def test_metadata_that_lies_about_text(said: Any) -> None:
    """A file may say anything: numbers stay numbers, and nothing but our errors comes out."""
    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    graph = b.output(b.op("neg", x), "y")
    graph.metadata["strings"] = said
    run = dk.Interpreter(to_bytes(graph)).run
    for _ in range(3):
        assert run({"x": np.float32([1, 2])})["y"].tolist() == [-1, -2]


@pytest.mark.parametrize("count", [64, 65, 5000])
def test_label_encoders_of_many_keys(count: int) -> None:
    """Above 64 keys a hash finds them."""
    r = np.random.default_rng(count)
    words = [f"w{i * 7919 % 100003}" for i in range(count)]
    numbers = r.integers(-(2**60), 2**60, count).tolist()
    some = r.integers(0, count, 30)
    asked = [[words[i] for i in some] + ["", "w", words[0] + "x", "x" * 50]]
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=words, values_int64s=numbers
    )
    agree(model([node], {"x": (S, [1, None])}, {"y": (I64, None)}), {"x": asked})
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_int64s=numbers, values_strings=words
    )
    proto = model([node], {"x": (I64, [None])}, {"y": (S, None)})
    x = np.array([*(numbers[i] for i in some), 0, 1, -1, 2**62])
    want = OnnxRuntimeRunner(proto.SerializeToString(), 1).run({"x": x})["y"]
    assert np.array_equal(dk.Interpreter(dk_bytes(proto)).run(x=x)["y"], want)
