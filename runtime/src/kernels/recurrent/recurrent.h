// Elementwise parts of recurrent cells in float32, fused for the default activations.  Buffers need no alignment;
// nothing is read or written beyond n elements.
#pragma once
#include <cstdint>

namespace dk {

struct RecurrentKernels {
  void (*sigmoid)(float* x, int64_t n);  // in place
  void (*tanh)(float* x, int64_t n);
  // gates = i, o, f, g of n numbers each, before their activations:
  // c = sigmoid(f) * c + sigmoid(i) * tanh(g); h = sigmoid(o) * tanh(c)
  void (*lstm)(const float* gates, float* c, float* h, int64_t n);
  // new = tanh(x + r * past), or tanh(x + past) when r is null; h = (1 - z) * new + z * h
  void (*gru)(const float* z, const float* r, const float* x, const float* past, float* h, int64_t n);
};

const RecurrentKernels* recurrent_kernels();

}  // namespace dk
