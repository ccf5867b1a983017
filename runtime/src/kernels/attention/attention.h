// What attention needs besides matrix products, in float32.  Buffers need no alignment; nothing is read or written
// beyond the given counts.
#pragma once
#include <cstdint>

namespace dk {

struct AttentionKernels {
  // Turns scores into weights: t[i] = cap(scale * x[i]) + mask[i], x[i] = exp(t[i] - max t); returns the sum of x.
  // cap(s) = softcap * tanh(s / softcap), or s when softcap is 0; mask may be null.  All t = -inf: zeros, and sum 0.
  float (*weights)(float* x, int64_t n, float scale, float softcap, const float* mask);
  // to[j] = sum over i of q[i] * k[j * ld + i], i < d, j < n: scores of one query against rows of keys.
  void (*dots)(float* to, const float* q, const float* k, int64_t ld, int64_t d, int64_t n);
  // to[i] = sum over j of p[j] * v[j * ld + i], i < d, j < n.
  void (*combine)(float* to, const float* p, const float* v, int64_t ld, int64_t d, int64_t n);
  void (*scale)(float* x, int64_t n, float by);
  // (a, b) = (a c - b s, b c + a s): n points rotated.
  void (*rotate)(float* to_a, float* to_b, const float* a, const float* b, const float* c, const float* s, int64_t n);
};

const AttentionKernels* attention_kernels();

}  // namespace dk
