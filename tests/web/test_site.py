"""``deploykit web``: what is in the folder, what its policy allows, what happens to folders that are already there."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import EngineError, InputError
from deploykit.graph.dims import Dim
from deploykit.ops import GraphBuilder
from deploykit.web import forms, headers, serve, site, vectors
from tests.support import small
from tests.web.pages import ENGINE, served


def classifier(folder: Path, size: int = 8, **metadata: object) -> Path:
    """A tiny classifier of pictures."""
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    x = b.input("image", "float32", (Dim.symbol("batch"), size, size, 1))
    w = b.constant(rng.standard_normal((size * size, 3)).astype(np.float32))
    flat = b.op("reshape", x, b.constant(np.array([-1, size * size], np.int64)))
    graph = b.output(b.op("softmax", b.op("matmul", flat, w)), "class")
    graph.metadata |= metadata
    path = folder / "tiny.dk"
    dk.convert(graph, path, metadata=metadata, verify=False)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("m"), labels=["a", "b", "c"], preprocessing={"range": [0.0, 16.0]})


@pytest.fixture(scope="module")
def built(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("s") / "site"
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) % 17
    site.build(model, out, examples=[("first", {"image": x})], engine=ENGINE)
    return out


def page_of(folder: Path) -> dict:
    found = re.search(r'id="page">(.*?)</script>', (folder / "index.html").read_text(), re.S)
    assert found
    return json.loads(found[1])


def test_what_is_in_the_folder(built: Path, model: Path) -> None:
    assert (built / "model.dk").read_bytes() == model.read_bytes()
    mark = json.loads((built / "site.json").read_text())
    assert set(mark["files"]) == {p.relative_to(built).as_posix() for p in built.rglob("*") if p.is_file()}
    for name in ("index.html", "sw.js", "page/app.js", "runtime/deploykit.js", "_headers", ".htaccess", "vercel.json"):
        assert (built / name).is_file(), name
    page = page_of(built)
    assert page["inputs"][0]["editor"] == "draw" and page["views"][0] == {
        "outputs": ["class"],
        "view": "classes",
        "labels": ["a", "b", "c"],
    }
    for name, size in page["sizes"].items():
        assert (built / name).stat().st_size == size
    assert sum(v for k, v in page["sizes"].items() if k.startswith("page/")) < 100_000
    assert not list(built.parent.glob(".*")), "nothing temporary is left beside it"


def test_no_template_is_left_open(built: Path) -> None:
    for name in ("index.html", "sw.js"):
        assert not re.search(r"\$[a-z{]", (built / name).read_text())


def test_vectors_hold_the_native_answers(built: Path, model: Path) -> None:
    """Read back by hand and run again: the same bits."""
    page, blob = page_of(built), (built / "model.bin").read_bytes()
    session = dk.Interpreter(model)

    def read(t: dict) -> np.ndarray:
        raw = blob[t["offset"] : t["offset"] + t["bytes"]]
        assert t["offset"] % 8 == 0
        return np.frombuffer(raw, t["dtype"]).reshape(t["shape"])

    assert [v["title"] for v in page["vectors"]] == ["first", "made-up numbers"]
    for v in page["vectors"]:
        got = session.run({k: read(t) for k, t in v["inputs"].items()})
        for name, t in v["outputs"].items():
            np.testing.assert_array_equal(got[name], read(t))


def test_nothing_comes_from_elsewhere(built: Path) -> None:
    """No address of another origin in anything that a browser follows; no inline script or style."""
    for p in built.rglob("*"):
        if p.suffix in (".js", ".css", ".html", ".webmanifest", ".svg"):
            text = p.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text), p
    html = (built / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)
    assert "<style" not in html and " style=" not in html and not re.search(r"\son[a-z]+=", html)
    scripts = "".join(p.read_text() for p in built.rglob("*.js"))
    assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", scripts)


def test_policy_is_strict() -> None:
    policy = dict(d.split(" ", 1) for d in headers.CSP.split("; "))
    assert policy["default-src"] == "'none'"
    for value in policy.values():
        assert not re.search(r"\*|https?:|unsafe-inline|'unsafe-eval'", value)
    assert headers.HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers.HEADERS["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_page_and_header_policies_agree(built: Path) -> None:
    meta = re.search(r'Content-Security-Policy" content="([^"]*)"', (built / "index.html").read_text())
    assert meta and meta[1] == headers.META_CSP


def test_host_files_parse_and_say_every_header() -> None:
    files = headers.host_files()
    for name in ("_headers", ".htaccess", "nginx.conf", "vercel.json", "firebase.json", "staticwebapp.config.json"):
        text = files[name]
        decoded = json.dumps(json.loads(text), ensure_ascii=False) if name.endswith(".json") else text
        for key, value in headers.HEADERS.items():
            assert key in decoded and value in decoded, (name, key)


def test_names_cannot_break_out(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>$title ${x}\u2028"
    path = classifier(tmp_path, labels=[evil, "b", "c"], title=evil)
    site.build(path, tmp_path / "out", engine=ENGINE)
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in text
    assert page_of(tmp_path / "out")["title"] == evil.strip()
    assert page_of(tmp_path / "out")["views"][0]["labels"][0] == evil


def test_same_model_same_page(model: Path, tmp_path: Path) -> None:
    for name in "ab":
        site.build(model, tmp_path / name, engine=ENGINE)
    for p in (tmp_path / "a").rglob("*"):
        if p.is_file():
            assert p.read_bytes() == (tmp_path / "b" / p.relative_to(tmp_path / "a")).read_bytes(), p


def test_foreign_folders_are_refused(model: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "docs"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("years of work")
    (thesis / "site.json").write_text('{"tool": "something else"}')
    with pytest.raises(InputError, match="holds other things"):
        site.build(model, thesis, engine=ENGINE)
    assert (thesis / "thesis.txt").read_text() == "years of work" and len(list(thesis.iterdir())) == 2
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        site.build(model, file, engine=ENGINE)
    link = tmp_path / "link"
    link.symlink_to(thesis)
    with pytest.raises(InputError):
        site.build(model, link, engine=ENGINE)


def test_an_earlier_page_is_replaced_and_guests_stay(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    site.build(model, out, title="first", engine=ENGINE)
    (out / "CNAME").write_text("example.org")
    (out / "extra").mkdir()
    (out / "extra" / "a.txt").write_text("mine")
    (out / "page" / "old.js").write_text("left by a user")
    site.build(model, out, title="second", engine=ENGINE)
    assert page_of(out)["title"] == "second"
    assert (out / "CNAME").read_text() == "example.org" and (out / "extra" / "a.txt").read_text() == "mine"
    assert (out / "page" / "old.js").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_failure_leaves_the_earlier_page(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks, at the first write or at the last rename: the old page is whole and nothing lies beside it."""
    out = tmp_path / "site"
    site.build(model, out, engine=ENGINE)
    before = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    rename, calls = Path.rename, []

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    for name, broken in (("_render", full_disk), ("rename", second_fails)):
        with monkeypatch.context() as m:
            m.setattr(site if name == "_render" else Path, name, broken)
            with pytest.raises(OSError):
                site.build(model, out, title="other", engine=ENGINE)
        assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_missing_engine_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "__file__", str(tmp_path / "deploykit" / "web" / "site.py"))
    with pytest.raises(EngineError, match=r"dist/deploykit\.js") as e:
        site.runtime()
    assert e.value.code == "DK-ENGINE"


def test_a_wheel_carries_the_pages_packed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build packs web/ into pages.tar.xz beside site.py; a page made from it is the page made from the checkout."""
    import tarfile

    root = Path(__file__).resolve().parents[2] / "web"
    folder = tmp_path / "deploykit" / "web"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "pages.tar.xz", "w:xz") as tar:
        for name in ("site", "demo"):
            tar.add(root / name, name)
    site.build(model, tmp_path / "a", engine=ENGINE)
    monkeypatch.setattr(site, "__file__", str(folder / "site.py"))
    assert site.sources() != root / "site" and site.demo_sources().name == "demo"
    site.build(model, tmp_path / "b", engine=ENGINE)
    assert (tmp_path / "a" / "index.html").read_bytes() == (tmp_path / "b" / "index.html").read_bytes()


def test_a_model_that_draws_random_numbers_has_no_check(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (4,))
    noise = b.op("random_uniform", b.constant(np.array([4], np.int64)), seed=0)
    b.output(b.op("add", x, noise), "y")
    path = tmp_path / "noise.dk"
    dk.convert(b.graph, path, verify=False)
    site.build(path, tmp_path / "out", engine=ENGINE)
    assert page_of(tmp_path / "out")["vectors"] == []
    assert not (tmp_path / "out" / "model.bin").exists()


SPECS = [
    ((1, 28, 28, 1), {}, "draw"),
    ((1, 1, 28, 28), {}, "draw"),
    ((1, 28, 28), {}, "draw"),
    ((8, 8, 1), {}, "draw"),
    ((1, 224, 224, 3), {}, "image"),
    ((1, 3, 320, 320), {}, "image"),
    ((1, 16000), {"preprocessing": {"sample_rate": 16000}}, "audio"),
    ((1, 43844, 1), {"preprocessing": {"sample_rate": 22050}}, "audio"),
    ((1, 16000), {}, "tensor"),
    ((2, 28, 28, 1), {}, "tensor"),
    ((1, 16, 96), {}, "tensor"),
    ((4,), {}, "tensor"),
    ((), {}, "tensor"),
]


@pytest.mark.parametrize(("shape", "metadata", "editor"), SPECS)
def test_editor_from_signature(shape: tuple[int, ...], metadata: dict, editor: str) -> None:
    spec = dk.interpreter.TensorSpec("x", shape, "float32")
    found = forms.editors([spec], {}, metadata)[0]
    assert found["editor"] == editor
    if editor == "audio":
        assert shape[found["axis"]] == max(shape)


def test_text_needs_metadata() -> None:
    spec = dk.interpreter.TensorSpec("ids", (1, 16), "int32")
    assert forms.editors([spec], {}, {})[0]["editor"] == "tensor"
    text = {"preprocessing": {"text": {"split": "bytes"}}}
    assert forms.editors([spec], {}, text)[0]["editor"] == "text"


def test_view_from_answer() -> None:
    """Landmarks beside a score are numbers; one row alone, or one that sums to one, is classes."""
    rng = np.random.default_rng(0)
    inputs = [{"editor": "image"}]
    points = rng.normal(size=(1, 63)).astype(np.float32)
    shares = np.full((1, 5), 0.2, np.float32)

    def kinds(**answers: np.ndarray) -> list[str]:
        return [v["view"] for v in forms.views(answers, inputs, {})]

    assert kinds(points=points, there=np.zeros((1, 1), np.float32)) == ["tensor", "tensor"]
    assert kinds(scores=points) == ["classes"]
    assert kinds(shares=shares, points=points) == ["classes", "tensor"]
    assert kinds(mask=np.zeros((1, 64, 64, 1), np.float32)) == ["map"]
    assert forms.views({"shares": shares}, [{"editor": "tensor"}], {})[0]["view"] == "tensor"


def test_detector_metadata_is_checked() -> None:
    inputs = [{"editor": "image"}]
    out = {"boxes": np.zeros((1, 10, 4), np.float32), "scores": np.zeros((1, 10), np.float32)}
    good = {"kind": "boxes", "boxes": "boxes", "scores": "scores"}
    assert forms.views(out, inputs, {"detector": good})[0]["view"] == "boxes"
    with pytest.raises(InputError, match="'nothing'"):
        forms.views(out, inputs, {"detector": good | {"scores": "nothing"}})
    with pytest.raises(InputError, match="anchors, yolo, boxes"):
        forms.views(out, inputs, {"detector": good | {"kind": "magic"}})


def get(url: str, path: str, **sent: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlparse(url).netloc, timeout=10)
    connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in sent.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_serve_sends_headers_types_and_ranges(built: Path) -> None:
    with served(built) as url:
        for name, kind in (
            ("", "text/html"),
            ("page/app.js", "text/javascript"),
            ("model.dk", "application/octet-stream"),
        ):
            response, body = get(url, "/" + name)
            assert response.status == 200 and response.getheader("Content-Type", "").startswith(kind)
            for key, value in headers.HEADERS.items():
                assert response.getheader(key) == value
        whole = (built / "model.dk").read_bytes()
        assert body == whole
        response, body = get(url, "/model.dk", Range="bytes=100-199")
        assert response.status == 206 and body == whole[100:200]
        assert response.getheader("Content-Range") == f"bytes 100-199/{len(whole)}"
        assert get(url, "/model.dk", Range="bytes=100-")[1] == whole[100:]
        assert get(url, "/model.dk", Range=f"bytes={len(whole)}-")[0].status == 416


def test_serve_stays_inside(built: Path) -> None:
    (built.parent / "secret.txt").write_text("secret")
    with served(built) as url:
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/page/..%2f..%2fsecret.txt", "/page/", "/nothing"):
            response, body = get(url, path)
            assert response.status == 404 and b"secret" not in body.replace(b"secret.txt", b""), path


def test_a_taken_port_is_named(built: Path) -> None:
    with served(built) as url, pytest.raises(InputError, match="--port"):
        serve.server(built, urlparse(url).port or 0)


PROGRAM = (
    "from pathlib import Path; from deploykit.web import site; from deploykit.cli import main;"
    f"site.runtime = lambda: Path({str(ENGINE)!r}); main()"
)


def run(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=120, cwd="/"
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_command_converts_what_is_not_dk(tmp_path: Path) -> None:
    source = small.cnn(tmp_path / "cnn.onnx")
    info = json.loads(run("web", source, "-o", tmp_path / "site", "--json", "--title", "A <b>title</b>").stdout)
    assert info["title"] == "A <b>title</b>" and info["bytes"] == sum(info["sizes"].values())
    assert "&lt;b&gt;" in (tmp_path / "site" / "index.html").read_text()


def test_command_takes_examples_and_labels(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "white.png")
    (tmp_path / "l.txt").write_text("left\nmiddle\n\nright\n")
    out = run("web", model, "-o", tmp_path / "s", "--example", tmp_path / "white.png", "--labels", tmp_path / "l.txt")
    assert "image (draw)" in out.stdout and "class (classes)" in out.stdout
    page = page_of(tmp_path / "s")
    assert page["views"][0]["labels"] == ["left", "middle", "right"] and page["samples"] == 1
    blob = (tmp_path / "s" / "model.bin").read_bytes()
    assert np.frombuffer(blob, np.float32, 64).tolist() == [16.0] * 64


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", bytes(range(256))])
def test_bad_models_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.dk"
    path.write_bytes(content)
    done = run("web", path, "-o", tmp_path / "site", code=1)
    assert "error DK-" in done.stderr and not (tmp_path / "site").exists()


def test_wrong_use(model: Path, tmp_path: Path) -> None:
    assert "no such file" in run("web", model, "-o", tmp_path / "s", "--example", "x.png", code=2).stderr
    assert "no input 'nose'" in run("web", model, "-o", tmp_path / "s", "--example", f"nose={model}", code=2).stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_command_serves_until_interrupted(model: Path, tmp_path: Path) -> None:
    import signal

    # a test run in the background ignores SIGINT, and its children would
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    args = ["web", str(model), "-o", str(tmp_path / "s"), "--serve", "--port", "0"]
    ran = subprocess.Popen(
        [sys.executable, "-u", "-P", "-c", listen + PROGRAM, *args], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    watch = threading.Timer(60, ran.kill)
    watch.start()
    try:
        assert ran.stdout
        url = next(found[0] for line in ran.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        assert get(url, "/")[0].status == 200
        ran.send_signal(signal.SIGINT)
        assert ran.wait(20) == 0
    finally:
        watch.cancel()
        ran.kill()


def test_deterministic_notices(model: Path) -> None:
    assert vectors.deterministic(dk.Interpreter(model), vectors.made_up(model))
