// How outputs are shown.  A view is {node, show(outputs) -> sentence for screen readers}.
import { decode } from "../runtime/detect.js";
import { el, table } from "./dom.js";
import { figure, probabilities, summary } from "./tensor.js";

const TOP = 5, VALUES = 16;

/** Views for all outputs, put under `parent`; `picture` gives the canvas that boxes are drawn over. */
export function makeViews(parent, specs, picture) {
  const kinds = { classes, boxes, map, tensor };
  return specs.map((spec) => {
    const view = kinds[spec.view](spec, picture);
    const heading = specs.length > 1 ? el("h3", { text: spec.outputs.join(", ") }) : null;
    parent.append(el("div", { class: "view" }, heading, view.node));
    return view;
  });
}

function classes(spec) {
  const list = el("ol", { class: "classes" }), note = el("p", { class: "quiet" });
  return {
    node: el("div", {}, list, note),
    show(outputs) {
      const out = outputs[spec.outputs[0]];
      const { values, made } = out.dtype.startsWith("float") ? probabilities(out.data) : { values: Array.from(out.data, Number), made: false };
      const order = values.map((v, i) => i).sort((a, b) => values[b] - values[a]).slice(0, TOP);
      const share = values.every((v) => v >= 0 && v <= 1.0001);
      const top = share ? 1 : Math.max(...values.map(Math.abs)) || 1;
      const word = (v) => (share ? `${(100 * v).toFixed(1)} %` : figure(v));
      list.replaceChildren(
        ...order.map((i) => {
          const name = spec.labels?.[i] ?? `class ${i}`;
          const bar = el("span", { class: "bar", "aria-hidden": "true" });
          bar.style.inlineSize = `${Math.max(0, Math.min(100, (100 * values[i]) / top))}%`;
          return el("li", {}, el("span", { class: "name", text: name }), el("span", { class: "share", text: word(values[i]) }), el("span", { class: "rail" }, bar));
        }),
      );
      note.textContent = made ? "The model gives raw scores; shown as shares by softmax." : "";
      return order.length ? `${spec.labels?.[order[0]] ?? `class ${order[0]}`}, ${word(values[order[0]])}` : "nothing";
    },
  };
}

function boxes(spec, picture) {
  const canvas = el("canvas", { class: "picture", role: "img", "aria-label": "Nothing found yet" });
  const list = el("ul", { class: "found" });
  return {
    node: el("div", {}, canvas, list),
    show(outputs) {
      const found = decode(outputs, spec.detector), source = picture();
      const name = (b) => spec.labels?.[b.label] ?? spec.detector.name ?? "object";
      if (source?.width) {
        const k = Math.min(640, Math.max(480, source.width)) / source.width; // small pictures grow, so that names are sharp
        canvas.width = Math.max(1, Math.round(source.width * k));
        canvas.height = Math.max(1, Math.round(source.height * k));
        const pen = canvas.getContext("2d");
        pen.drawImage(source, 0, 0, canvas.width, canvas.height);
        frame(pen, canvas, found, name);
      }
      const text = found.length ? `${found.length} found: ${found.slice(0, TOP).map((b) => `${name(b)} ${(100 * b.score).toFixed(0)} %`).join(", ")}` : "nothing found";
      canvas.setAttribute("aria-label", text);
      list.replaceChildren(
        ...(found.length ? found.map((b) => el("li", { text: `${name(b)} ${(100 * b.score).toFixed(1)} %: x ${b.x0.toFixed(2)} to ${b.x1.toFixed(2)}, y ${b.y0.toFixed(2)} to ${b.y1.toFixed(2)}` })) : [el("li", { text: "nothing found" })]),
      );
      return text;
    },
  };
}

function frame(pen, canvas, found, name) {
  const { width: w, height: h } = canvas, line = Math.max(2, w / 160), size = Math.max(12, w / 28);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  for (const b of found) {
    pen.lineWidth = line * 2;
    pen.strokeStyle = "#000";
    pen.strokeRect(b.x0 * w, b.y0 * h, (b.x1 - b.x0) * w, (b.y1 - b.y0) * h);
    pen.lineWidth = line;
    pen.strokeStyle = "#3dff8f";
    pen.strokeRect(b.x0 * w, b.y0 * h, (b.x1 - b.x0) * w, (b.y1 - b.y0) * h);
    for (const [x, y] of b.points) {
      pen.fillStyle = "#3dff8f";
      pen.beginPath();
      pen.arc(x * w, y * h, line * 1.5, 0, 7);
      pen.fill();
    }
    const text = `${name(b)} ${(100 * b.score).toFixed(0)} %`, wide = pen.measureText(text).width;
    const left = Math.max(0, Math.min(w - wide - 8, b.x0 * w)), top = Math.max(size * 1.3, b.y0 * h);
    pen.fillStyle = "#000c";
    pen.fillRect(left, top - size * 1.3, wide + 8, size * 1.3);
    pen.fillStyle = "#fff";
    pen.fillText(text, left + 4, top - size * 0.35);
  }
}

function map(spec) {
  const canvas = el("canvas", { class: "picture", role: "img", "aria-label": "No map yet" }), note = el("p", { class: "quiet" });
  return {
    node: el("div", {}, canvas, note),
    show(outputs) {
      const { data } = outputs[spec.outputs[0]], { width: w, height: h, channels: c } = spec, s = summary(data);
      const span = s.high - s.low || 1, image = new ImageData(w, h);
      for (let i = 0; i < w * h; ++i) {
        for (let k = 0; k < 3; ++k) image.data[i * 4 + k] = (255 * (Number(data[i * c + (c >= 3 ? k : 0)]) - s.low)) / span;
        image.data[i * 4 + 3] = 255;
      }
      canvas.width = w;
      canvas.height = h;
      canvas.getContext("2d").putImageData(image, 0, 0);
      const text = `${w} × ${h}, black is ${figure(s.low)}, white is ${figure(s.high)}`;
      canvas.setAttribute("aria-label", `Map of ${spec.outputs[0]}`);
      note.textContent = text;
      return text;
    },
  };
}

function tensor(spec) {
  const box = el("div", {});
  return {
    node: box,
    show(outputs) {
      const { data, shape, dtype } = outputs[spec.outputs[0]], s = summary(data);
      const few = Array.from(data.subarray(0, VALUES), figure).join(", ") + (data.length > VALUES ? ", …" : "");
      const rows = [["type", `${dtype} [${shape.join(", ")}]`], ["values", few || "none"]];
      if (data.length > 1) rows.push(["range", `${figure(s.low)} to ${figure(s.high)}, mean ${figure(s.mean)}`]);
      if (s.odd) rows.push(["not finite", String(s.odd)]);
      box.replaceChildren(table(`Output ${spec.outputs[0]}`, null, rows));
      return `${spec.outputs[0]}: ${few}`;
    },
  };
}
