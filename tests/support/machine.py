"""What the processor of this machine makes of other runtimes' sums of bytes."""

from deploykit import native

# On x86 without VNNI onnxruntime, and the relaxed sums of browsers, add pairs of products of bytes in 16 bits, which saturate.
# Ours are exact on every processor.
SATURATES = "avx2" in native.describe()["features"] and "vnni" not in native.describe()["features"]
