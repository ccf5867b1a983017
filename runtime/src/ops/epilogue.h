// What conv, conv_transpose and matmul have in common: the attrs act, act_alpha, act_beta, act_after.
#pragma once
#include "kernels/gemm/gemm.h"
#include "ops/op.h"

namespace dk {

struct Activation {
  int kind = 0;  // index in ACTIVATIONS of deploykit/ops/activation.py
  float alpha = 0, beta = 0;
  bool after = false;  // after the residual is added
};

struct ActivationAttrs {
  int act, alpha, beta, after = -1;
};

Activation activation_of(const OpContext& c, const ActivationAttrs& attrs);

// One number at a time, for the dtypes without vector kernels.
double activate(const Activation& a, double x);

// act(x) + residual or act(x + residual)
inline double finish(const Activation& a, double x, double residual) {
  return a.after ? activate(a, x + residual) : activate(a, x) + residual;
}

// "dims are [2,3]; expected [4]" unless t is absent or has exactly these dims.
Status expect_dims(const OpContext& c, const char* what, const Tensor* t, int rank, const int64_t* dims);

// Absent, or of the dtype of input 0.
Status expect_dtype(const OpContext& c, const char* what, const Tensor* t);

// n elements of any float dtype as f32, and back, split among the threads.
void floats_from(const OpContext& c, const Tensor& from, float* to);
void floats_to(const OpContext& c, const float* from, Tensor& to);

// The data of constant input i as f32: itself, or a temporary copy that the caller frees with mem_free.
Status constant_floats(const OpContext& c, int i, const float** to, float** owned);

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Hands out parts of the scratch memory, each on a 64-byte boundary with kSlack bytes behind it.
struct ScratchPlan {
  size_t bytes = 0;
  size_t take(int64_t floats) {
    size_t at = bytes;
    bytes = (bytes + static_cast<size_t>(floats) * 4 + kSlack + 63) / 64 * 64;
    return at;
  }
};

}  // namespace dk
