/*! built from web/npm/src */
// Detector outputs to boxes, by the model's `detector` metadata (docs/web.md of the project).
import type { Model } from "./model.js";
import { DeploykitError } from "./values.js";
import type { Tensor } from "./values.js";

interface Common {
  threshold?: number;
  overlap?: number;
  most?: number;
  activation?: "sigmoid" | "none";
}
export type Detector = Common &
  (
    | { kind: "anchors"; grids: [side: number, per: number][]; size: number; scores: string | string[]; boxes: string | string[] }
    | { kind: "yolo"; output: string; size: number | [number, number] }
    | { kind: "boxes"; boxes: string; scores: string; classes?: string; order?: "xyxy" | "yxyx" }
  );

/** A found thing: corners and points in 0..1, number of its class. */
export interface Box {
  score: number;
  label: number;
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  points: [number, number][];
}
type Outputs = Readonly<Record<string, Pick<Tensor, "data" | "shape">>>;

/** The boxes of a run, best first, with names of their classes where the model has some. Throws DK-INPUT for another kind of model. */
export function boxes({ metadata }: Pick<Model, "metadata">, outputs: Outputs): (Box & { name: string })[] {
  const how = metadata["detector"] as Detector | undefined, labels = (metadata["labels"] ?? []) as string[];
  if (!how) throw new DeploykitError("DK-INPUT", "this model is no detector: its metadata has no 'detector'.");
  return decode(outputs, how).map((box) => ({ ...box, name: labels[box.label] ?? String(box.label) }));
}

/** Decode, and drop boxes that overlap a better one. */
export function decode(outputs: Outputs, how: Detector): Box[] {
  const all = how.kind === "anchors" ? anchors(outputs, how) : how.kind === "yolo" ? yolo(outputs, how) : ready(outputs, how);
  const found = all.filter((b) => b.score >= (how.threshold ?? 0.5)).sort((a, b) => b.score - a.score), kept: Box[] = [];
  for (const box of found) {
    if (kept.every((k) => k.label !== box.label || overlap(k, box) < (how.overlap ?? 0.45))) kept.push(box);
    if (kept.length >= (how.most ?? 100)) break;
  }
  return kept;
}

type Corners = Pick<Box, "x0" | "y0" | "x1" | "y1">;
/** Intersection over union. */
export function overlap(a: Corners, b: Corners): number {
  const w = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0), h = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
  const both = Math.max(0, w) * Math.max(0, h);
  return both / ((a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - both || 1);
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-Math.max(-80, Math.min(80, x))));

/** Centres of a grid's anchors, `per` to a cell, as SSD and BlazeFace (Bazarevsky et al. 2019, section 3) place them. */
export function anchorCentres(grids: readonly (readonly [number, number])[]): [number, number][] {
  const out: [number, number][] = [];
  for (const [n, per] of grids) {
    for (let y = 0; y < n; ++y) for (let x = 0; x < n; ++x) for (let k = 0; k < per; ++k) out.push([(x + 0.5) / n, (y + 0.5) / n]);
  }
  return out;
}

type Of<K> = Extract<Detector, { kind: K }>;

function anchors(outputs: Outputs, how: Of<"anchors">): Box[] {
  const scores = join(outputs, how.scores), places = join(outputs, how.boxes);
  const centres = anchorCentres(how.grids), width = places.length / centres.length, classes = scores.length / centres.length;
  if (!Number.isInteger(width) || width < 4 || !Number.isInteger(classes)) throw new DeploykitError("DK-SHAPE", `the detector gives ${places.length} numbers for ${centres.length} anchors.`);
  return centres.map(([cx, cy], i) => {
    const at = (k: number) => places[i * width + k]! / how.size;
    const [label, raw] = best(scores, i * classes, 1, classes);
    const x = cx + at(0), y = cy + at(1), w = at(2) / 2, h = at(3) / 2, points: [number, number][] = [];
    for (let k = 4; k + 1 < width; k += 2) points.push([cx + at(k), cy + at(k + 1)]);
    return { score: how.activation === "none" ? raw : sigmoid(raw), label, x0: x - w, y0: y - h, x1: x + w, y1: y + h, points };
  });
}

/** [1, 4 + classes, n] with centre, width, height in pixels of the input (`size`), then a score for each class. */
function yolo(outputs: Outputs, how: Of<"yolo">): Box[] {
  const { data, shape } = named(outputs, how.output), values = Array.from(data, Number);
  const [rows, n] = shape.slice(-2) as [number, number], [w, h] = typeof how.size === "number" ? [how.size, how.size] : how.size;
  return Array.from({ length: n }, (_, i) => {
    const [label, raw] = best(values, 4 * n + i, n, rows - 4);
    const at = (k: number) => values[k * n + i]! / (k % 2 ? h : w), x = at(0), y = at(1), bw = at(2), bh = at(3);
    return { score: how.activation === "sigmoid" ? sigmoid(raw) : raw, label, x0: x - bw / 2, y0: y - bh / 2, x1: x + bw / 2, y1: y + bh / 2, points: [] };
  });
}

/** Boxes that the model has finished itself: corners in 0..1 as y0, x0, y1, x1 (or `order`: "xyxy"), scores, classes. */
function ready(outputs: Outputs, how: Of<"boxes">): Box[] {
  const corners = join(outputs, how.boxes), classes = how.classes === undefined ? null : join(outputs, how.classes);
  return join(outputs, how.scores).map((score, i) => {
    const [a, b, c, d] = corners.slice(i * 4, i * 4 + 4) as [number, number, number, number];
    const [x0, y0, x1, y1] = how.order === "xyxy" ? [a, b, c, d] : [b, a, d, c];
    return { score, label: classes ? classes[i]! : 0, x0, y0, x1, y1, points: [] };
  });
}

function named(outputs: Outputs, name: string): Outputs[string] {
  const found = outputs[name];
  if (!found) throw new DeploykitError("DK-INPUT", `the detector reads output '${name}', which is not among ${Object.keys(outputs).join(", ")}.`);
  return found;
}

const join = (outputs: Outputs, names: string | string[]) => [names].flat().flatMap((name) => Array.from(named(outputs, name).data, Number));

function best(data: readonly number[], from: number, step: number, n: number): [label: number, score: number] {
  let label = 0;
  for (let k = 1; k < n; ++k) if (data[from + k * step]! > data[from + label * step]!) label = k;
  return [label, data[from + label * step]!];
}
