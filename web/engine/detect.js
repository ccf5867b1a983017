/*! built from web/npm/src */
import { DeploykitError } from "./values.js";
export function boxes({ metadata }, outputs) {
 const how = metadata["detector"], labels = (metadata["labels"] ?? []);
 if (!how)
  throw new DeploykitError("DK-INPUT", "this model is no detector: its metadata has no 'detector'.");
 return decode(outputs, how).map((box) => ({ ...box, name: labels[box.label] ?? String(box.label) }));
}
export function decode(outputs, how) {
 const all = how.kind === "anchors" ? anchors(outputs, how) : how.kind === "yolo" ? yolo(outputs, how) : ready(outputs, how);
 const found = all.filter((b) => b.score >= (how.threshold ?? 0.5)).sort((a, b) => b.score - a.score), kept = [];
 for (const box of found) {
  if (kept.every((k) => k.label !== box.label || overlap(k, box) < (how.overlap ?? 0.45)))
   kept.push(box);
  if (kept.length >= (how.most ?? 100))
   break;
 }
 return kept;
}
export function overlap(a, b) {
 const w = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0), h = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
 const both = Math.max(0, w) * Math.max(0, h);
 return both / ((a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - both || 1);
}
const sigmoid = (x) => 1 / (1 + Math.exp(-Math.max(-80, Math.min(80, x))));
export function anchorCentres(grids) {
 const out = [];
 for (const [n, per] of grids) {
  for (let y = 0; y < n; ++y)
   for (let x = 0; x < n; ++x)
    for (let k = 0; k < per; ++k)
     out.push([(x + 0.5) / n, (y + 0.5) / n]);
 }
 return out;
}
function anchors(outputs, how) {
 const scores = join(outputs, how.scores), places = join(outputs, how.boxes);
 const centres = anchorCentres(how.grids), width = places.length / centres.length, classes = scores.length / centres.length;
 if (!Number.isInteger(width) || width < 4 || !Number.isInteger(classes))
  throw new DeploykitError("DK-SHAPE", `the detector gives ${places.length} numbers for ${centres.length} anchors.`);
 return centres.map(([cx, cy], i) => {
  const at = (k) => places[i * width + k] / how.size;
  const [label, raw] = best(scores, i * classes, 1, classes);
  const x = cx + at(0), y = cy + at(1), w = at(2) / 2, h = at(3) / 2, points = [];
  for (let k = 4; k + 1 < width; k += 2)
   points.push([cx + at(k), cy + at(k + 1)]);
  return { score: how.activation === "none" ? raw : sigmoid(raw), label, x0: x - w, y0: y - h, x1: x + w, y1: y + h, points };
 });
}
function yolo(outputs, how) {
 const { data, shape } = named(outputs, how.output), values = Array.from(data, Number);
 const [rows, n] = shape.slice(-2), [w, h] = typeof how.size === "number" ? [how.size, how.size] : how.size;
 return Array.from({ length: n }, (_, i) => {
  const [label, raw] = best(values, 4 * n + i, n, rows - 4);
  const at = (k) => values[k * n + i] / (k % 2 ? h : w), x = at(0), y = at(1), bw = at(2), bh = at(3);
  return { score: how.activation === "sigmoid" ? sigmoid(raw) : raw, label, x0: x - bw / 2, y0: y - bh / 2, x1: x + bw / 2, y1: y + bh / 2, points: [] };
 });
}
function ready(outputs, how) {
 const corners = join(outputs, how.boxes), classes = how.classes === undefined ? null : join(outputs, how.classes);
 return join(outputs, how.scores).map((score, i) => {
  const [a, b, c, d] = corners.slice(i * 4, i * 4 + 4);
  const [x0, y0, x1, y1] = how.order === "xyxy" ? [a, b, c, d] : [b, a, d, c];
  return { score, label: classes ? classes[i] : 0, x0, y0, x1, y1, points: [] };
 });
}
function named(outputs, name) {
 const found = outputs[name];
 if (!found)
  throw new DeploykitError("DK-INPUT", `the detector reads output '${name}', which is not among ${Object.keys(outputs).join(", ")}.`);
 return found;
}
const join = (outputs, names) => [names].flat().flatMap((name) => Array.from(named(outputs, name).data, Number));
function best(data, from, step, n) {
 let label = 0;
 for (let k = 1; k < n; ++k)
  if (data[from + k * step] > data[from + label * step])
   label = k;
 return [label, data[from + label * step]];
}
