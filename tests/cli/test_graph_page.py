"""``inspect --html``: one self-contained page whose script runs, draws every node and finds by search."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit.api import import_graph
from deploykit.cli.graph_page import page
from deploykit.cli.inspect_cmd import describe
from deploykit.ops import GraphBuilder
from tests.support import assets

# As much of a browser's document as the page's script touches.
DOM = r"""
const made = [];
class Element {
  constructor(tag) { this.tag = tag; this.attrs = {}; this.children = []; this.style = {}; this.handlers = {}; this.text = "";
    this.classes = new Set(); this.value = ""; made.push(this);
    this.classList = { toggle: (c, on) => { on ? this.classes.add(c) : this.classes.delete(c); } }; }
  setAttribute(k, v) {
    if (String(v).includes("NaN") || v === undefined) throw new Error(this.tag + " " + k + "=" + v);
    this.attrs[k] = v;
  }
  append(...c) { this.children.push(...c); }
  replaceChildren(...c) { this.children = c; }
  addEventListener(k, f) { this.handlers[k] = f; }
  getBBox() { return { x: 0, y: 0, width: 1000, height: 1000 }; }
  getBoundingClientRect() { return { left: 0, top: 0, width: 800, height: 600 }; }
  insertRow() { const r = new Element("tr"); this.children.push(r); return r; }
  insertCell() { const c = new Element("td"); this.children.push(c); return c; }
  set textContent(t) { this.text = String(t); } get textContent() { return this.text; }
}
const byId = {};
const fs = require("fs");
const html = fs.readFileSync(process.argv[2], "utf8");
const script = html.match(/<script>\n([\s\S]*?)<\/script>/)[1];
globalThis.document = {
  getElementById: (id) => (byId[id] ??= new Element(id)), createElement: (t) => new Element(t),
  createElementNS: (_, t) => new Element(t), querySelector: () => new Element("svg"),
};
globalThis.addEventListener = () => {};
byId.data = new Element("data");
byId.data.text = html.match(/id="data">([\s\S]*?)<\/script>/)[1];
new Function(script)();
const nodes = () => made.filter((e) => e.tag === "g" && (e.attrs.class || "").startsWith("node"));
const drawn = nodes().length, paths = made.filter((e) => e.tag === "path").length;
byId.find.value = process.argv[3];
byId.find.handlers.input();
const found = byId.count.text;
byId.find.handlers.keydown({ key: "Enter" });
byId.view.handlers.wheel({ preventDefault() {}, deltaY: -100, clientX: 5, clientY: 5 });
console.log(JSON.stringify({ drawn, paths, found, detail: byId.detail.children.length }));
"""


def write(path: Path, model: Path) -> tuple[str, dict]:
    graph = import_graph(model)
    text = page(model, graph, describe(model, graph))
    path.write_text(text, encoding="utf-8")
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]


@pytest.mark.parametrize(
    "model",
    [
        "models/openwakeword-a/okay_nabu.tflite",
        "models/silero-vad/silero_vad_16k_op15.onnx",
        "models/dnsmos/model_v8.onnx",
    ],
)
def test_page(model: str, tmp_path: Path) -> None:
    text, data = write(tmp_path / "g.html", assets.file(model))
    assert (
        not re.search(r'(src|href)="', text)
        and "http" not in text.replace("http://www.w3.org/2000/svg", "").split("<script type")[0]
    )
    main = data["graphs"][0]
    for n in main["nodes"]:
        assert all(np.isfinite(n[k]) for k in "xywh")
    rows: dict[float, list] = {}
    for n in main["nodes"]:
        rows.setdefault(n["y"], []).append(n)
    for row in rows.values():  # boxes of a layer do not overlap
        row.sort(key=lambda n: n["x"])
        assert all(a["x"] + a["w"] <= b["x"] for a, b in zip(row, row[1:], strict=False))
    assert all(main["nodes"][a]["y"] < main["nodes"][b]["y"] for a, b in main["edges"])
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (tmp_path / "dom.js").write_text(DOM)
    command = ["node", str(tmp_path / "dom.js"), str(tmp_path / "g.html"), "input"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    got = json.loads(ran.stdout)
    assert got["drawn"] == len(main["nodes"]) and got["paths"] == len(main["edges"])
    assert not got["found"].startswith("0") and got["detail"] == 2


def test_names_cannot_break_out(tmp_path: Path) -> None:
    b = GraphBuilder()
    graph = b.output(b.op("relu", b.input("</script><script>alert(1)</script>", "float32", (2,))), "<b>y</b>")
    path = tmp_path / "<i>m.dk"
    dk.convert(graph, path)
    text, _ = write(tmp_path / "g.html", path)
    assert "<script>alert" not in text and "<i>m" not in text and "<b>y" not in text


def test_command(tmp_path: Path) -> None:
    from tests.cli.test_cli import deploykit

    source = assets.file("models/openwakeword-a/okay_nabu.tflite")
    deploykit("convert", source, "-o", tmp_path / "m.dk")
    deploykit("inspect", tmp_path / "m.dk", "--html", tmp_path / "g.html", "--profile")
    assert '"time"' in (tmp_path / "g.html").read_text()
    assert (
        "convert the model first"
        in deploykit("inspect", source, "--html", tmp_path / "h.html", "--profile", code=2).stderr
    )
