// Geometry of sliding windows, for conv and pool: the attrs strides, dilations, pads, pad_mode (and ceil_mode) of an
// op, checked and complete.  One, two or three spatial dims are always written as three, with ones in front, so that
// kernels have one form.  The arithmetic is that of deploykit/ops/windows.py.
#pragma once
#include "ops/op.h"

namespace dk {

struct Window {
  int rank = 0;  // spatial dims of the op, 1 to 3
  int64_t in[3], kernel[3], stride[3], dilation[3], before[3], out[3];

  int64_t in_size() const { return in[0] * in[1] * in[2]; }
  int64_t kernel_size() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t out_size() const { return out[0] * out[1] * out[2]; }
};

// Which attrs an op has; -1: it lacks that one.
struct WindowAttrs {
  int strides, dilations, pads, pad_mode = -1, ceil_mode = -1;
};

// size and kernel: `rank` entries each.  pad_mode is read with the meaning explicit 0, same_upper 1, same_lower 2.
Status window_of(const OpContext& c, const WindowAttrs& attrs, int rank, const int64_t* size, const int64_t* kernel,
                 Window* to);

// The attr's entries, or `missing` in every place when it is empty; fails unless least <= entry < 2^31.
Status per_dim(const OpContext& c, int attr, const char* name, int n, int64_t missing, int64_t least, int64_t* to);

}  // namespace dk
