/*! built from web/npm/src */
// Sound to tensors, at the model's own rate, and a spectrogram to look at.
import type { Model } from "./model.js";
import { DeploykitError, tensor } from "./values.js";
import type { DType, Tensor } from "./values.js";

/** A sound among the inputs: samples a second, the dim that counts them, how many there must be (null: as many as come). */
export interface AudioInput {
  name: string;
  dtype: DType;
  rate: number;
  axis: number;
  length: number | null;
  rank: number;
}
type About = Pick<Model, "inputs" | "metadata">;

/** The model's input that is a sound: the named one, or the first. Throws DK-INPUT when there is none. */
export function audioInput({ inputs, metadata }: About, name?: string): AudioInput {
  const rate = Number((metadata["preprocessing"] as { sample_rate?: number } | undefined)?.sample_rate ?? 0);
  for (const spec of inputs) {
    if (!rate || (name !== undefined && spec.name !== name) || !["float32", "int16"].includes(spec.dtype) || !spec.shape) continue;
    const many = spec.shape.map((d, k) => [d, k] as const).filter(([d]) => d !== 1);
    const long = many.filter(([d]) => typeof d === "number"), open = many.filter(([d]) => typeof d === "string");
    const [found] = long.length === 1 ? long : long.length ? [] : open.slice(-1); // a symbol before the samples is the batch
    if (!found || (typeof found[0] === "number" && found[0] <= 64)) continue;
    return { name: spec.name, dtype: spec.dtype as DType, rate, axis: found[1], length: typeof found[0] === "number" ? found[0] : null, rank: spec.shape.length };
  }
  throw new DeploykitError("DK-INPUT", `${name === undefined ? "no input" : `input '${name}'`} is a sound: the metadata's preprocessing.sample_rate, and one long dim in float32 or int16.`);
}

/**
 * A sound as the model's input: a file, a recording or an AudioBuffer, which the browser brings to the model's rate, or samples
 * in -1..1 that have it. Throws DK-INPUT for what is no sound.
 */
export async function fromAudio(model: About, sound: Blob | AudioBuffer | Float32Array, name?: string): Promise<Tensor> {
  const input = audioInput(model, name);
  if (sound instanceof Float32Array) return samplesToTensor(sound, input);
  return samplesToTensor(sound instanceof Blob ? await decodeSound(sound, input.rate) : await resample(sound, input.rate), input);
}

/** One channel of a file at a rate. */
export async function decodeSound(file: Blob, rate: number): Promise<Float32Array> {
  const context = new OfflineAudioContext(1, 1, rate); // decodes to this rate
  try {
    return mono(await context.decodeAudioData(await file.arrayBuffer()));
  } catch {
    throw new DeploykitError("DK-INPUT", `${(file as File).name ?? "the recording"} is not a sound file that this browser reads; use WAV, MP3, Ogg or FLAC.`);
  }
}

async function resample(buffer: AudioBuffer, rate: number): Promise<Float32Array> {
  if (buffer.sampleRate === rate) return mono(buffer);
  const context = new OfflineAudioContext(buffer.numberOfChannels, Math.ceil(buffer.duration * rate), rate), source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return mono(await context.startRendering());
}

/** Samples in -1..1 as the model's tensor: cut or repeated to its length, scaled to whole numbers for int16. */
export function samplesToTensor(samples: Float32Array, { dtype, axis, length, rank }: Pick<AudioInput, "dtype" | "axis" | "length" | "rank">): Tensor {
  const fitted = fit(samples, length), shape = Array.from({ length: rank }, (_, i) => (i === axis ? fitted.length : 1));
  return tensor(dtype, shape, dtype === "int16" ? fitted.map((v) => Math.round(Math.max(-1, Math.min(1, v)) * 32767)) : fitted);
}

/** One channel in -1..1 to `length` numbers (null: as long as it is): repeated when short, as `deploykit run` does. */
export function fit(samples: Float32Array, length: number | null): Float32Array {
  if (length === null || samples.length === length) return samples;
  const out = new Float32Array(length);
  for (let i = 0; i < length; ++i) out[i] = samples.length ? samples[i % samples.length]! : 0;
  return out;
}

/** The mean of all channels. */
export function mono(buffer: AudioBuffer): Float32Array {
  const out = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; ++c) {
    const data = buffer.getChannelData(c);
    for (let i = 0; i < out.length; ++i) out[i]! += data[i]! / buffer.numberOfChannels;
  }
  return out;
}

/** Power spectrum in decibels, frames x bins: Hann windows of `size` (a power of two), `frames` of them. */
export function spectrogram(samples: Float32Array, frames: number, size = 256): Float32Array {
  const bins = size / 2, out = new Float32Array(frames * bins).fill(-120);
  const re = new Float64Array(size), im = new Float64Array(size);
  const step = Math.max(0, samples.length - size) / Math.max(1, frames - 1);
  for (let f = 0; f < frames; ++f) {
    const from = Math.floor(f * step);
    for (let i = 0; i < size; ++i) {
      re[i] = (samples[from + i] ?? 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
      im[i] = 0;
    }
    fft(re, im);
    for (let b = 0; b < bins; ++b) out[f * bins + b] = 10 * Math.log10(re[b]! ** 2 + im[b]! ** 2 + 1e-12);
  }
  return out;
}

/** In place, radix 2 (Cooley and Tukey 1965). */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  for (let i = 1, j = 0; i < n; ++i) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j]!, re[i]!];
      [im[i], im[j]] = [im[j]!, im[i]!];
    }
  }
  for (let len = 2; len <= n; len <<= 1) {
    const angle = (-2 * Math.PI) / len;
    for (let k = 0; k < len / 2; ++k) {
      const c = Math.cos(angle * k), s = Math.sin(angle * k);
      for (let i = k; i < n; i += len) {
        const j = i + len / 2;
        const r = re[j]! * c - im[j]! * s, q = re[j]! * s + im[j]! * c;
        re[j] = re[i]! - r;
        im[j] = im[i]! - q;
        re[i]! += r;
        im[i]! += q;
      }
    }
  }
}
