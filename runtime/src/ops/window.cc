#include "ops/window.h"

namespace dk {

constexpr int64_t kLimit = int64_t{1} << 31;  // keeps every product below 2^62

Status per_dim(const OpContext& c, int attr, const char* name, int n, int64_t missing, int64_t least, int64_t* to) {
  Span<const int64_t> given = c.attr_ints(attr);
  if (!given.empty() && given.size() != n)
    return c.fail(Code::shape, "%s has %lld entries; expected %d, one per spatial dim", name,
                  static_cast<long long>(given.size()), n);
  for (int i = 0; i < n; ++i) {
    to[i] = given.empty() ? missing : given[i];
    if (to[i] < least || to[i] >= kLimit)
      return c.fail(Code::shape, "%s is out of range; got %lld, expected at least %lld", name,
                    static_cast<long long>(to[i]), static_cast<long long>(least));
  }
  return Code::ok;
}

Status window_of(const OpContext& c, const WindowAttrs& attrs, int rank, const int64_t* size, const int64_t* kernel,
                 Window* to) {
  Window& w = *to;
  w.rank = rank;
  for (int i = 0; i < 3; ++i) {
    w.in[i] = w.kernel[i] = w.stride[i] = w.dilation[i] = w.out[i] = 1;
    w.before[i] = 0;
  }
  const int lead = 3 - rank;
  DK_TRY(per_dim(c, attrs.strides, "strides", rank, 1, 1, w.stride + lead));
  if (attrs.dilations >= 0) DK_TRY(per_dim(c, attrs.dilations, "dilations", rank, 1, 1, w.dilation + lead));
  const int64_t mode = attrs.pad_mode >= 0 ? c.attr_int(attrs.pad_mode) : 0;
  const bool ceil = attrs.ceil_mode >= 0 && c.attr_int(attrs.ceil_mode);
  int64_t pads[6];
  DK_TRY(per_dim(c, attrs.pads, "pads", 2 * rank, 0, 1 - kLimit, pads));
  for (int i = 0; mode && i < 2 * rank; ++i)
    if (pads[i]) return c.fail(Code::shape, "pads are given although pad_mode computes them");
  for (int i = 0; i < rank; ++i) {
    const int d = lead + i;
    const int64_t s = w.stride[d];
    if (kernel[i] < 1 || kernel[i] >= kLimit || size[i] >= kLimit)
      return c.fail(Code::shape, "kernel size %lld over input size %lld; expected 1 to 2^31",
                    static_cast<long long>(kernel[i]), static_cast<long long>(size[i]));
    w.in[d] = size[i];
    w.kernel[d] = kernel[i];
    const int64_t extent = w.dilation[d] * (kernel[i] - 1) + 1;
    if (mode == 0) {
      const int64_t b = pads[i], a = pads[rank + i];
      const int64_t room = size[i] + b + a - extent;
      if (room < 0)
        return c.fail(Code::shape, "window of %lld is larger than the padded input of %lld (dim %d)",
                      static_cast<long long>(extent), static_cast<long long>(size[i] + b + a), i + 1);
      w.before[d] = b;
      w.out[d] = room / s + 1;
      if (ceil) {
        w.out[d] = (room + s - 1) / s + 1;
        // No window starts behind the input and its leading padding.
        const int64_t most = (size[i] + b - 1) / s + 1;
        if (w.out[d] > most) w.out[d] = most;
      }
    } else {
      w.out[d] = (size[i] + s - 1) / s;
      int64_t total = (w.out[d] - 1) * s + extent - size[i];
      if (total < 0) total = 0;
      w.before[d] = mode == 1 ? total / 2 : total - total / 2;
    }
  }
  return Code::ok;
}

}  // namespace dk
