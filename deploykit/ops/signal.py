"""Signal processing."""

from __future__ import annotations

from deploykit.ops.core import op


@op(250, "x, length?, axis? -> y", attrs=dict(inverse=False, onesided=False), tolerance="loose")
class dft:
    "ONNX DFT: last dim 1 (real) or 2 (complex); length pads or cuts; onesided keeps length // 2 + 1 bins (with inverse: real result)."


@op(251, "x, step, window?, frame_length? -> y", attrs=dict(onesided=True), onnx="STFT", tolerance="loose")
class stft:
    "ONNX STFT: frames of x [B, L, 1|2] every step samples, windowed, transformed: [B, frames, bins, 2]."


@op(252, "bins, dft_length, sample_rate, low_hz, high_hz -> y", attrs=dict(dtype="float32"), tolerance="loose", not_differentiable="constant result")
class mel_weights:
    "ONNX MelWeightMatrix: [dft_length // 2 + 1, bins] triangular filters on the mel scale."
