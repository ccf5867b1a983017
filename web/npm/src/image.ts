/*! built from web/npm/src */
// Pictures and drawings to tensors and back, by the model's own preprocessing; resizing as in Python, so that answers agree.
import type { Model } from "./model.js";
import { DeploykitError, tensor } from "./values.js";
import type { DType, Tensor } from "./values.js";

/** How pixels become numbers: 0..255 to `range`, then `(x - mean) / std`, each a number or one per channel. */
export interface Scaling {
  range?: [number, number];
  mean?: number | number[];
  std?: number | number[];
}
/** A picture among the inputs: where height, width and channels stand (`first`: before them), dtype, a shape for one picture. */
export interface ImageInput {
  name: string;
  dtype: DType;
  height: number;
  width: number;
  channels: number;
  first: boolean;
  example: number[];
  preprocessing?: Scaling;
  /** Drawings: "light" on dark, or "dark" on light. */
  ink?: string;
}
type About = Pick<Model, "inputs" | "metadata">;
export type Pixels = Uint8ClampedArray;
export type Picture = Blob | ImageData | CanvasImageSource;

/** The model's input that is a picture: the named one, or the first. Throws DK-INPUT when there is none. */
export function imageInput({ inputs, metadata }: About, name?: string): ImageInput {
  const prep = (metadata["preprocessing"] ?? {}) as Scaling & { ink?: string };
  for (const spec of inputs) {
    if ((name !== undefined && spec.name !== name) || !["float32", "uint8", "int8"].includes(spec.dtype) || !spec.shape) continue;
    const example = spec.shape.map((d) => (typeof d === "number" ? d : 1)), [a, b, c] = example.slice(-3) as [number, number, number];
    if (example.length < 3 || example.length > 4 || (example.length === 4 && example[0] !== 1)) continue;
    const colours = (n: number) => n === 1 || n === 3 || n === 4, first = colours(a) && !colours(c);
    const [height, width, channels] = first ? [b, c, a] : [a, b, c];
    if (!colours(channels) || Math.min(height, width) < 8) continue;
    const { range, mean, std, ink = "light" } = prep;
    const preprocessing = Object.fromEntries(Object.entries({ range, mean, std }).filter(([, v]) => v !== undefined)) as Scaling;
    return { name: spec.name, dtype: spec.dtype as DType, height, width, channels, first, example, preprocessing, ink };
  }
  throw new DeploykitError("DK-INPUT", `${name === undefined ? "no input" : `input '${name}'`} is a picture of known size: height, width and 1, 3 or 4 channels, in float32, uint8 or int8.`);
}

/** A picture as the model's input: a file, canvas, image, video frame or ImageData. Throws DK-INPUT for what is no picture. */
export async function fromImage(model: About, picture: Picture, name?: string): Promise<Tensor> {
  const input = imageInput(model, name), { data, width, height } = await pixelsOf(picture);
  return toTensor(resize(data, width, height, input.width, input.height), input);
}

/** Ink on a transparent square canvas as the model's input, placed as handwriting is in training data (see `shrink`). */
export function fromDrawing(model: About, canvas: HTMLCanvasElement | OffscreenCanvas, { name, fit = true }: { name?: string; fit?: boolean } = {}): Tensor {
  const input = imageInput(model, name), side = canvas.width;
  const pen = canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D | null;
  if (!pen || side !== canvas.height) throw new DeploykitError("DK-INPUT", `the drawing: got a canvas of ${canvas.width} x ${canvas.height}, expected a square one with a 2d context.`);
  return toTensor(drawn(pen.getImageData(0, 0, side, side).data, side, input, fit), input);
}

async function pixelsOf(picture: Picture): Promise<ImageData> {
  if (picture instanceof ImageData) return picture;
  let source: CanvasImageSource;
  try {
    source = picture instanceof Blob ? await createImageBitmap(picture) : picture;
  } catch {
    throw new DeploykitError("DK-INPUT", `${(picture as File).name ?? "this"} is not a picture that this browser reads; use PNG, JPEG or WebP.`);
  }
  const of = source as { videoWidth?: number; videoHeight?: number; naturalWidth?: number; naturalHeight?: number; displayWidth?: number; displayHeight?: number; width?: number; height?: number };
  const width = of.videoWidth ?? of.naturalWidth ?? of.displayWidth ?? of.width ?? 0, height = of.videoHeight ?? of.naturalHeight ?? of.displayHeight ?? of.height ?? 0;
  if (!width || !height) throw new DeploykitError("DK-INPUT", "the picture has no size yet; wait until it is loaded.");
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  pen.drawImage(source, 0, 0, width, height);
  if (picture instanceof Blob) (source as ImageBitmap).close();
  return pen.getImageData(0, 0, width, height);
}

/**
 * Resize RGBA pixels with a triangle filter that widens when shrinking, 8 bits between the two passes: bit for bit what
 * Pillow's BILINEAR gives, which `deploykit run` uses.
 */
export function resize(pixels: Pixels, w: number, h: number, toW: number, toH: number): Pixels {
  return vertical(horizontal(pixels, w, h, toW), toW, h, toH);
}

const ONE = 2 ** 22; // Pillow's fixed point; products stay whole numbers, which doubles hold exactly

function weights(from: number, to: number): { first: number; row: Float64Array }[] {
  const scale = from / to, reach = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5)), last = Math.min(from, Math.trunc(center + reach + 0.5));
    const row = Float64Array.from({ length: last - first }, (_, k) => Math.max(0, 1 - Math.abs((k + first - center + 0.5) / reach)));
    const sum = row.reduce((a, b) => a + b, 0);
    return { first, row: row.map((v) => Math.floor(0.5 + (v / sum) * ONE)) };
  });
}

function horizontal(pixels: Pixels, w: number, h: number, toW: number): Pixels {
  if (w === toW) return pixels;
  const out = new Uint8ClampedArray(toW * h * 4), table = weights(w, toW);
  for (let y = 0; y < h; ++y) {
    for (let x = 0; x < toW; ++x) {
      const { first, row } = table[x]!;
      let r = ONE / 2, g = ONE / 2, b = ONE / 2, a = ONE / 2;
      for (let k = 0, at = (y * w + first) * 4; k < row.length; ++k, at += 4) {
        const f = row[k]!;
        r += f * pixels[at]!;
        g += f * pixels[at + 1]!;
        b += f * pixels[at + 2]!;
        a += f * pixels[at + 3]!;
      }
      const to = (y * toW + x) * 4;
      out[to] = Math.floor(r / ONE);
      out[to + 1] = Math.floor(g / ONE);
      out[to + 2] = Math.floor(b / ONE);
      out[to + 3] = Math.floor(a / ONE);
    }
  }
  return out;
}

function vertical(pixels: Pixels, w: number, h: number, toH: number): Pixels {
  if (h === toH) return pixels;
  const out = new Uint8ClampedArray(w * toH * 4), table = weights(h, toH), line = new Float64Array(w * 4);
  for (let y = 0; y < toH; ++y) {
    const { first, row } = table[y]!;
    line.fill(ONE / 2);
    row.forEach((f, k) => {
      const from = (first + k) * w * 4;
      for (let i = 0; i < line.length; ++i) line[i]! += f * pixels[from + i]!;
    });
    for (let i = 0; i < line.length; ++i) out[y * w * 4 + i] = Math.floor(line[i]! / ONE);
  }
  return out;
}

/** RGBA pixels of the model's size to its tensor. */
export function toTensor(pixels: Pixels, spec: ImageInput): Tensor {
  const { height: h, width: w, channels: c, first, dtype } = spec, count = w * h;
  const out = tensor(dtype, spec.example), data = out.data as Float32Array;
  const { low, high, mean, std } = scaling(spec);
  for (let i = 0; i < count; ++i) {
    for (let k = 0; k < c; ++k) {
      const at = i * 4;
      // luma as in Pillow: ITU-R 601-2 with 16-bit weights
      const v = c === 1 ? (pixels[at]! * 19595 + pixels[at + 1]! * 38470 + pixels[at + 2]! * 7471 + 0x8000) >> 16 : pixels[at + k]!;
      const to = first ? k * count + i : i * c + k;
      if (dtype === "uint8") data[to] = v;
      else if (dtype === "int8") data[to] = v - 128;
      else data[to] = ((v / 255) * (high - low) + low - mean[k % mean.length]!) / std[k % std.length]!;
    }
  }
  return out;
}

/** A tensor of the model's size back to RGBA pixels, for a look at what the model sees. */
export function toPixels({ data }: Tensor, spec: ImageInput): Pixels {
  const { height: h, width: w, channels: c, first, dtype } = spec, count = w * h;
  const out = new Uint8ClampedArray(count * 4);
  const { low, high, mean, std } = scaling(spec);
  for (let i = 0; i < count; ++i) {
    for (let k = 0; k < 4; ++k) {
      if (k === 3 && c < 4) {
        out[i * 4 + 3] = 255;
        continue;
      }
      const channel = c === 1 ? 0 : k, v = Number(data[first ? channel * count + i : i * c + channel]);
      if (dtype === "uint8") out[i * 4 + k] = v;
      else if (dtype === "int8") out[i * 4 + k] = v + 128;
      else out[i * 4 + k] = Math.round(((v * std[channel % std.length]! + mean[channel % mean.length]! - low) / (high - low)) * 255);
    }
  }
  return out;
}

function scaling({ preprocessing }: ImageInput): { low: number; high: number; mean: number[]; std: number[] } {
  const { range = [0, 1], mean = 0, std = 1 } = preprocessing ?? {};
  return { low: range[0], high: range[1], mean: [mean].flat(), std: [std].flat() };
}

/** Draw RGBA pixels on a canvas of their size. */
export function paint(canvas: HTMLCanvasElement | OffscreenCanvas, pixels: Pixels, w: number, h: number): void {
  canvas.width = w;
  canvas.height = h;
  const pen = canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
  pen.putImageData(new ImageData(pixels as Uint8ClampedArray<ArrayBuffer>, w, h), 0, 0);
}

/** RGBA pixels of the model's size from those of a square drawing, whose ink is where it is not transparent. */
export function drawn(rgba: Pixels, side: number, spec: ImageInput, fit = true): Pixels {
  const cover = Float32Array.from({ length: side * side }, (_, i) => rgba[4 * i + 3]! / 255);
  const small = shrink(cover, side, spec.width, fit), out = new Uint8ClampedArray(small.length * 4);
  small.forEach((ink, i) => {
    const v = Math.round(255 * (spec.ink === "dark" ? 1 - ink : ink));
    out.set([v, v, v, 255], i * 4);
  });
  return out;
}

/**
 * Coverage (0..1, side x side numbers) of a drawing to size x size. With `fit` it is cropped to the ink and placed as the
 * training data was: 28 x 28 by centre of mass in a 20 x 20 box (LeCun's MNIST), 8 x 8 over the full height, at most 6
 * wide (UCI optical digits).
 */
export function shrink(cover: Float32Array, side: number, size: number, fit = true): Float32Array {
  const box = fit ? bounds(cover, side) : null;
  let x0 = 0, y0 = 0, step = side / size;
  if (box) {
    const tall = size === 8 ? 8 : (size * 20) / 28, broad = size === 8 ? 6 : tall;
    step = Math.max((box.y1 - box.y0) / tall, (box.x1 - box.x0) / broad, 1e-6);
    const cx = size === 8 ? (box.x0 + box.x1) / 2 : box.mx, cy = size === 8 ? (box.y0 + box.y1) / 2 : box.my;
    x0 = cx - (size / 2) * step;
    y0 = cy - (size / 2) * step;
  }
  const out = new Float32Array(size * size), fine = 8;
  for (let y = 0; y < size; ++y) {
    for (let x = 0; x < size; ++x) {
      let sum = 0;
      for (let j = 0; j < fine; ++j) {
        const sy = Math.floor(y0 + (y + (j + 0.5) / fine) * step);
        if (sy < 0 || sy >= side) continue;
        for (let i = 0; i < fine; ++i) {
          const sx = Math.floor(x0 + (x + (i + 0.5) / fine) * step);
          if (sx >= 0 && sx < side) sum += cover[sy * side + sx]!;
        }
      }
      out[y * size + x] = sum / (fine * fine);
    }
  }
  return out;
}

function bounds(cover: Float32Array, side: number): { x0: number; y0: number; x1: number; y1: number; mx: number; my: number } | null {
  let x0 = side, y0 = side, x1 = 0, y1 = 0, mass = 0, mx = 0, my = 0;
  for (let y = 0; y < side; ++y) {
    for (let x = 0; x < side; ++x) {
      const v = cover[y * side + x]!;
      if (v < 0.05) continue;
      x0 = Math.min(x0, x);
      x1 = Math.max(x1, x + 1);
      y0 = Math.min(y0, y);
      y1 = Math.max(y1, y + 1);
      mass += v;
      mx += v * (x + 0.5);
      my += v * (y + 0.5);
    }
  }
  return mass ? { x0, y0, x1, y1, mx: mx / mass, my: my / mass } : null;
}
