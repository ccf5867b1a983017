// Windows of pooling ops over channels-last images: which taps of a window lie inside the input, how many count.
#pragma once
#include "ops/broadcast.h"
#include "ops/window.h"

namespace dk {

static_assert(attr::max_pool_::kernel == attr::qavg_pool_::kernel &&
              attr::max_pool_::ceil_mode == attr::qavg_pool_::ceil_mode);

// The geometry attrs of any pooling op: they have the same places in all of them.
inline Status pool_window(const OpContext& c, Window* w) {
  const Tensor& x = *c.in(0);
  const Span<const int64_t> kernel = c.attr_ints(attr::max_pool_::kernel);
  const int rank = static_cast<int>(kernel.size());
  if (rank < 1 || rank > 3)
    return c.fail(Code::shape, "kernel has %d sizes, expected 1 to 3, one per spatial dim", rank);
  if (x.rank != rank + 2)
    return c.fail(Code::shape, "shape of x; got %s, expected rank %d", ShapeText(x).text, rank + 2);
  WindowAttrs attrs;
  attrs.strides = attr::max_pool_::strides;
  attrs.dilations = attr::max_pool_::dilations;
  attrs.pads = attr::max_pool_::pads;
  attrs.pad_mode = attr::max_pool_::pad_mode;
  attrs.ceil_mode = attr::max_pool_::ceil_mode;
  return window_of(c, attrs, rank, x.dims + 1, kernel.ptr, w);
}

// How far padding reaches behind the input, for averages that count it; 0 where the windows do not get there.
inline void padding_after(const OpContext& c, const Window& w, int64_t* after) {
  const Span<const int64_t> pads = c.attr_ints(attr::max_pool_::pads);
  for (int d = 0; d < 3; ++d) {
    const int i = d - (3 - w.rank);
    after[d] = 0;
    if (c.attr_int(attr::max_pool_::pad_mode) != choice::max_pool_::pad_mode::explicit_)
      after[d] = (w.out[d] - 1) * w.stride[d] + w.dilation[d] * (w.kernel[d] - 1) + 1 - w.in[d] - w.before[d];
    else if (i >= 0 && !pads.empty())
      after[d] = pads[w.rank + i];
    if (after[d] < 0) after[d] = 0;
  }
}

// The taps of a window that lie inside the input, per dim.
struct Reach {
  int64_t start[3];  // input position of tap 0; may lie outside
  int64_t low[3], high[3];

  void set(const Window& w, int d, int64_t o) {
    const int64_t dilation = w.dilation[d];
    start[d] = o * w.stride[d] - w.before[d];
    low[d] = start[d] < 0 ? -start[d] : 0;
    high[d] = w.in[d] - start[d] > 0 ? w.in[d] - start[d] : 0;  // of the input, counted from tap 0
    if (dilation > 1) {
      low[d] = (low[d] + dilation - 1) / dilation;
      high[d] = (high[d] + dilation - 1) / dilation;
    }
    if (high[d] > w.kernel[d]) high[d] = w.kernel[d];
    if (low[d] > high[d]) low[d] = high[d];
  }
  int64_t count() const { return (high[0] - low[0]) * (high[1] - low[1]) * (high[2] - low[2]); }
};

// How many taps an average divides by; 1 when none counts.
inline double divisor(const Window& w, const int64_t* after, bool include_pad, const Reach& r) {
  if (!include_pad) return r.count() ? static_cast<double>(r.count()) : 1;
  double n = 1;
  for (int d = 0; d < 3; ++d) {
    const int64_t end = w.in[d] + after[d];  // the start is never before the leading padding
    int64_t k = end > r.start[d] ? (end - r.start[d] + w.dilation[d] - 1) / w.dilation[d] : 0;
    n *= static_cast<double>(k < w.kernel[d] ? k : w.kernel[d]);
  }
  return n < 1 ? 1 : n;
}

// Calls fn(pixel) with the plane positions of all taps inside, in row-major order.
template <class F>
void each_tap(const Window& w, const Reach& r, F&& fn) {
  for (int64_t i = r.low[0]; i < r.high[0]; ++i)
    for (int64_t j = r.low[1]; j < r.high[1]; ++j) {
      const int64_t row = ((r.start[0] + i * w.dilation[0]) * w.in[1] + r.start[1] + j * w.dilation[1]) * w.in[2];
      for (int64_t k = r.low[2]; k < r.high[2]; ++k) fn(row + r.start[2] + k * w.dilation[2]);
    }
}

}  // namespace dk
