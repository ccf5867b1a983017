// Detector outputs to boxes: [{score, label, x0, y0, x1, y1, points}] with places in 0..1, best first.
import { Problem } from "./problems.js";

const sigmoid = (x) => 1 / (1 + Math.exp(-Math.max(-80, Math.min(80, x))));

/** Decode by the model's `detector` metadata (docs/web.md) and drop boxes that overlap a better one. */
export function decode(outputs, how) {
  const kinds = { anchors, yolo, boxes: ready };
  const found = kinds[how.kind](outputs, how).filter((b) => b.score >= (how.threshold ?? 0.5));
  found.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const box of found) {
    if (kept.every((k) => k.label !== box.label || overlap(k, box) < (how.overlap ?? 0.45))) kept.push(box);
    if (kept.length >= (how.most ?? 100)) break;
  }
  return kept;
}

/** Intersection over union. */
export function overlap(a, b) {
  const w = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0), h = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
  const both = Math.max(0, w) * Math.max(0, h);
  return both / ((a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - both || 1);
}

/** Centres of a grid's anchors, `per` to a cell, as SSD and BlazeFace (Bazarevsky et al. 2019, section 3) place them. */
export function anchorCentres(grids) {
  const out = [];
  for (const [n, per] of grids) {
    for (let y = 0; y < n; ++y) for (let x = 0; x < n; ++x) for (let k = 0; k < per; ++k) out.push([(x + 0.5) / n, (y + 0.5) / n]);
  }
  return out;
}

function anchors(outputs, how) {
  const scores = join(outputs, how.scores), places = join(outputs, how.boxes);
  const centres = anchorCentres(how.grids), width = places.length / centres.length, classes = scores.length / centres.length;
  if (!Number.isInteger(width) || width < 4 || !Number.isInteger(classes)) throw new Problem("DK-SHAPE", `the detector gives ${places.length} numbers for ${centres.length} anchors.`);
  return centres.map(([cx, cy], i) => {
    const at = (k) => places[i * width + k] / how.size;
    const [label, raw] = best(scores, i * classes, 1, classes);
    const x = cx + at(0), y = cy + at(1), w = at(2) / 2, h = at(3) / 2, points = [];
    for (let k = 4; k + 1 < width; k += 2) points.push([cx + at(k), cy + at(k + 1)]);
    return { score: how.activation === "none" ? raw : sigmoid(raw), label, x0: x - w, y0: y - h, x1: x + w, y1: y + h, points };
  });
}

/** [1, 4 + classes, n] with centre, width, height in pixels of the input (`size`), then a score for each class. */
function yolo(outputs, how) {
  const { data, shape } = outputs[how.output];
  const [rows, n] = shape.slice(-2), [w, h] = [how.size].flat().length === 2 ? how.size : [how.size, how.size];
  return Array.from({ length: n }, (_, i) => {
    const [label, raw] = best(data, 4 * n + i, n, rows - 4);
    const [x, y, bw, bh] = [0, 1, 2, 3].map((k) => data[k * n + i] / (k % 2 ? h : w));
    return { score: how.activation === "sigmoid" ? sigmoid(raw) : raw, label, x0: x - bw / 2, y0: y - bh / 2, x1: x + bw / 2, y1: y + bh / 2, points: [] };
  });
}

/** Boxes that the model has finished itself: corners in 0..1 as y0, x0, y1, x1 (or `order`: "xyxy"), scores, classes. */
function ready(outputs, how) {
  const boxes = outputs[how.boxes].data, scores = outputs[how.scores].data, classes = how.classes ? outputs[how.classes].data : null;
  return Array.from(scores, (score, i) => {
    const b = Array.from(boxes.subarray(i * 4, i * 4 + 4), Number);
    const [x0, y0, x1, y1] = how.order === "xyxy" ? b : [b[1], b[0], b[3], b[2]];
    return { score: Number(score), label: classes ? Number(classes[i]) : 0, x0, y0, x1, y1, points: [] };
  });
}

function join(outputs, names) {
  return [names].flat().flatMap((name) => Array.from(outputs[name].data, Number));
}

function best(data, from, step, n) {
  let label = 0;
  for (let k = 1; k < n; ++k) if (data[from + k * step] > data[from + label * step]) label = k;
  return [label, Number(data[from + label * step])];
}
