/*! built from web/npm/src */
import { DeploykitError, tensor } from "./values.js";
export function audioInput({ inputs, metadata }, name) {
 const rate = Number(metadata["preprocessing"]?.sample_rate ?? 0);
 for (const spec of inputs) {
  if (!rate || (name !== undefined && spec.name !== name) || !["float32", "int16"].includes(spec.dtype) || !spec.shape)
   continue;
  const many = spec.shape.map((d, k) => [d, k]).filter(([d]) => d !== 1);
  const long = many.filter(([d]) => typeof d === "number"), open = many.filter(([d]) => typeof d === "string");
  const [found] = long.length === 1 ? long : long.length ? [] : open.slice(-1);
  if (!found || (typeof found[0] === "number" && found[0] <= 64))
   continue;
  return { name: spec.name, dtype: spec.dtype, rate, axis: found[1], length: typeof found[0] === "number" ? found[0] : null, rank: spec.shape.length };
 }
 throw new DeploykitError("DK-INPUT", `${name === undefined ? "no input" : `input '${name}'`} is a sound: the metadata's preprocessing.sample_rate, and one long dim in float32 or int16.`);
}
export async function fromAudio(model, sound, name) {
 const input = audioInput(model, name);
 if (sound instanceof Float32Array)
  return samplesToTensor(sound, input);
 return samplesToTensor(sound instanceof Blob ? await decodeSound(sound, input.rate) : await resample(sound, input.rate), input);
}
export async function decodeSound(file, rate) {
 const context = new OfflineAudioContext(1, 1, rate);
 try {
  return mono(await context.decodeAudioData(await file.arrayBuffer()));
 }
 catch {
  throw new DeploykitError("DK-INPUT", `${file.name ?? "the recording"} is not a sound file that this browser reads; use WAV, MP3, Ogg or FLAC.`);
 }
}
async function resample(buffer, rate) {
 if (buffer.sampleRate === rate)
  return mono(buffer);
 const context = new OfflineAudioContext(buffer.numberOfChannels, Math.ceil(buffer.duration * rate), rate), source = context.createBufferSource();
 source.buffer = buffer;
 source.connect(context.destination);
 source.start();
 return mono(await context.startRendering());
}
export function samplesToTensor(samples, { dtype, axis, length, rank }) {
 const fitted = fit(samples, length), shape = Array.from({ length: rank }, (_, i) => (i === axis ? fitted.length : 1));
 return tensor(dtype, shape, dtype === "int16" ? fitted.map((v) => Math.round(Math.max(-1, Math.min(1, v)) * 32767)) : fitted);
}
export function fit(samples, length) {
 if (length === null || samples.length === length)
  return samples;
 const out = new Float32Array(length);
 for (let i = 0; i < length; ++i)
  out[i] = samples.length ? samples[i % samples.length] : 0;
 return out;
}
export function mono(buffer) {
 const out = new Float32Array(buffer.length);
 for (let c = 0; c < buffer.numberOfChannels; ++c) {
  const data = buffer.getChannelData(c);
  for (let i = 0; i < out.length; ++i)
   out[i] += data[i] / buffer.numberOfChannels;
 }
 return out;
}
export function spectrogram(samples, frames, size = 256) {
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
  for (let b = 0; b < bins; ++b)
   out[f * bins + b] = 10 * Math.log10(re[b] ** 2 + im[b] ** 2 + 1e-12);
 }
 return out;
}
export function fft(re, im) {
 const n = re.length;
 for (let i = 1, j = 0; i < n; ++i) {
  let bit = n >> 1;
  for (; j & bit; bit >>= 1)
   j ^= bit;
  j ^= bit;
  if (i < j) {
   [re[i], re[j]] = [re[j], re[i]];
   [im[i], im[j]] = [im[j], im[i]];
  }
 }
 for (let len = 2; len <= n; len <<= 1) {
  const angle = (-2 * Math.PI) / len;
  for (let k = 0; k < len / 2; ++k) {
   const c = Math.cos(angle * k), s = Math.sin(angle * k);
   for (let i = k; i < n; i += len) {
    const j = i + len / 2;
    const r = re[j] * c - im[j] * s, q = re[j] * s + im[j] * c;
    re[j] = re[i] - r;
    im[j] = im[i] - q;
    re[i] += r;
    im[i] += q;
   }
  }
 }
}
