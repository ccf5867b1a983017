// Pictures to tensors and back, by the model's own preprocessing; resizing as in Python, so that answers agree.
import { make } from "./tensor.js";

/**
 * Resize RGBA pixels with a triangle filter that widens when shrinking, 8 bits between the two passes: bit for bit what
 * Pillow's BILINEAR gives, which `deploykit run` uses.
 */
export function resize(pixels, w, h, toW, toH) {
  return vertical(horizontal(pixels, w, h, toW), toW, h, toH);
}

const ONE = 2 ** 22; // Pillow's fixed point; products stay whole numbers, which doubles hold exactly

function weights(from, to) {
  const scale = from / to, reach = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5)), last = Math.min(from, Math.trunc(center + reach + 0.5));
    const row = new Float64Array(last - first);
    let sum = 0;
    for (let k = 0; k < row.length; ++k) {
      row[k] = Math.max(0, 1 - Math.abs((k + first - center + 0.5) / reach));
      sum += row[k];
    }
    for (let k = 0; k < row.length; ++k) row[k] = Math.floor(0.5 + (row[k] / sum) * ONE);
    return { first, row };
  });
}

function horizontal(pixels, w, h, toW) {
  if (w === toW) return pixels;
  const out = new Uint8ClampedArray(toW * h * 4), table = weights(w, toW);
  for (let y = 0; y < h; ++y) {
    for (let x = 0; x < toW; ++x) {
      const { first, row } = table[x];
      let r = ONE / 2, g = ONE / 2, b = ONE / 2, a = ONE / 2;
      for (let k = 0, at = (y * w + first) * 4; k < row.length; ++k, at += 4) {
        const f = row[k];
        r += f * pixels[at]; g += f * pixels[at + 1]; b += f * pixels[at + 2]; a += f * pixels[at + 3];
      }
      const to = (y * toW + x) * 4;
      out[to] = Math.floor(r / ONE); out[to + 1] = Math.floor(g / ONE); out[to + 2] = Math.floor(b / ONE); out[to + 3] = Math.floor(a / ONE);
    }
  }
  return out;
}

function vertical(pixels, w, h, toH) {
  if (h === toH) return pixels;
  const out = new Uint8ClampedArray(w * toH * 4), table = weights(h, toH), line = new Float64Array(w * 4);
  for (let y = 0; y < toH; ++y) {
    const { first, row } = table[y];
    line.fill(ONE / 2);
    for (let k = 0; k < row.length; ++k) {
      const f = row[k], from = (first + k) * w * 4;
      for (let i = 0; i < line.length; ++i) line[i] += f * pixels[from + i];
    }
    for (let i = 0; i < line.length; ++i) out[y * w * 4 + i] = Math.floor(line[i] / ONE);
  }
  return out;
}

/** RGBA pixels of the model's size to its tensor. */
export function toTensor(pixels, spec) {
  const { height: h, width: w, channels: c, first, dtype } = spec;
  const count = w * h;
  const tensor = make(dtype, spec.example);
  const { low, high, mean, std } = scaling(spec);
  for (let i = 0; i < count; ++i) {
    for (let k = 0; k < c; ++k) {
      const at = i * 4;
      const grey = c === 1;
      // luma as in Pillow: ITU-R 601-2 with 16-bit weights
      const v = grey ? (pixels[at] * 19595 + pixels[at + 1] * 38470 + pixels[at + 2] * 7471 + 0x8000) >> 16 : pixels[at + k];
      const to = first ? k * count + i : i * c + k;
      if (dtype === "uint8") tensor.data[to] = v;
      else if (dtype === "int8") tensor.data[to] = v - 128;
      else tensor.data[to] = ((v / 255) * (high - low) + low - mean[k % mean.length]) / std[k % std.length];
    }
  }
  return tensor;
}

/** A tensor of the model's size back to RGBA pixels, for a look at what the model sees. */
export function toPixels(tensor, spec) {
  const { height: h, width: w, channels: c, first, dtype } = spec;
  const count = w * h;
  const out = new Uint8ClampedArray(count * 4);
  const { low, high, mean, std } = scaling(spec);
  for (let i = 0; i < count; ++i) {
    for (let k = 0; k < 4; ++k) {
      if (k === 3 && c < 4) { out[i * 4 + 3] = 255; continue; }
      const channel = c === 1 ? 0 : k;
      const v = Number(tensor.data[first ? channel * count + i : i * c + channel]);
      if (dtype === "uint8") out[i * 4 + k] = v;
      else if (dtype === "int8") out[i * 4 + k] = v + 128;
      else out[i * 4 + k] = Math.round(((v * std[channel % std.length] + mean[channel % mean.length] - low) / (high - low)) * 255);
    }
  }
  return out;
}

function scaling(spec) {
  const { range = [0, 1], mean = 0, std = 1 } = spec.preprocessing ?? {};
  return { low: range[0], high: range[1], mean: [mean].flat(), std: [std].flat() };
}

/** Draw RGBA pixels on a canvas of their size. */
export function paint(canvas, pixels, w, h) {
  canvas.width = w;
  canvas.height = h;
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(pixels, w, h), 0, 0);
}
