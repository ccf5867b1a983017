// Sound: fitting a recording to the model's input, and a spectrogram to look at.

/** One channel in -1..1 to `length` numbers (null: as long as it is): repeated when short, as `deploykit run` does. */
export function fit(samples, length) {
  if (length === null || samples.length === length) return samples;
  const out = new Float32Array(length);
  for (let i = 0; i < length; ++i) out[i] = samples.length ? samples[i % samples.length] : 0;
  return out;
}

/** The mean of all channels. */
export function mono(buffer) {
  const out = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; ++c) {
    const data = buffer.getChannelData(c);
    for (let i = 0; i < out.length; ++i) out[i] += data[i] / buffer.numberOfChannels;
  }
  return out;
}

/** Power spectrum in decibels, frames x bins: Hann windows of `size` (a power of two), `frames` of them. */
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
    for (let b = 0; b < bins; ++b) out[f * bins + b] = 10 * Math.log10(re[b] ** 2 + im[b] ** 2 + 1e-12);
  }
  return out;
}

/** In place, radix 2 (Cooley and Tukey 1965). */
export function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; ++i) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
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
        re[j] = re[i] - r; im[j] = im[i] - q;
        re[i] += r; im[i] += q;
      }
    }
  }
}
