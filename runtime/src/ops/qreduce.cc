// qavg_pool, qmean, qsoftmax: sums of bytes, exact in integers.
#include <cstring>

#include "base/mem.h"
#include "kernels/qelementwise/qelementwise.h"
#include "ops/pool_util.h"
#include "ops/q_util.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_qreduce;

namespace {

namespace P = attr::qavg_pool_;
namespace M = attr::qmean_;
namespace S = attr::qsoftmax_;
constexpr QResultAttrs kPool = {P::y_zero_point, P::low, P::high, P::dtype};
constexpr QResultAttrs kMean = {M::y_zero_point, M::low, M::high, M::dtype};
constexpr QResultAttrs kSoftmax = {S::y_zero_point, S::low, S::high, S::dtype};
constexpr int64_t kMaxWindow = 1 << 16;  // sums of bytes stay far inside int32

int64_t padded(int64_t n) { return round_up(n, 64); }

// ---- qavg_pool
struct PoolState {
  Window w;
  int64_t after[3];
  int64_t channels;
};

Status pool_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  DK_TRY(expect_bytes(c, "x", &x));
  DK_TRY(expect_zero_point(c, "x_zero_point", P::x_zero_point, x.dtype));
  DK_TRY(expect_scale(c, "multiplier", P::multiplier));
  DType t;
  DK_TRY(result_of(c, kPool, false, &t));
  Window w;
  DK_TRY(pool_window(c, &w));
  if (w.kernel[0] > kMaxWindow || w.kernel[1] > kMaxWindow || w.kernel[2] > kMaxWindow || w.kernel_size() > kMaxWindow)
    return c.fail(Code::unsupported, "a window holds more than %lld elements", static_cast<long long>(kMaxWindow));
  int64_t dims[kMaxRank] = {x.dims[0]};
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  dims[x.rank - 1] = x.dims[x.rank - 1];
  return c.set_out(0, t, x.rank, dims);
}

Status pool_prepare(OpContext& c) {
  PoolState* s;
  DK_TRY(c.make_state(&s));
  DK_TRY(pool_window(c, &s->w));
  padding_after(c, s->w, s->after);
  s->channels = c.in(0)->dims[c.in(0)->rank - 1];
  return c.need_scratch(static_cast<size_t>(padded(s->channels) * c.threads()) * 4);
}

Status pool_run(OpContext& c) {
  const PoolState& s = *c.state<PoolState>();
  const Window& w = s.w;
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  QEpilogue e;
  set_result(c, kPool, y.dtype, &e);
  const QElementwiseKernels* k = qelementwise_kernels();
  const int64_t n = s.channels, zero = c.attr_int(P::x_zero_point) + shift_of(x.dtype);
  const bool include_pad = c.attr_int(P::count_include_pad);
  const float multiplier = c.attr_float(P::multiplier);
  int32_t* all = static_cast<int32_t*>(c.scratch());
  c.parallel(x.dims[0] * w.out_size(), 1 + 16384 / (w.kernel_size() * n + 1), [&](int64_t b, int64_t end, int lane) {
    int32_t* sums = all + lane * padded(n);
    for (int64_t i = b; i < end; ++i) {
      Reach r;
      r.set(w, 2, i % w.out[2]);
      r.set(w, 1, i / w.out[2] % w.out[1]);
      r.set(w, 0, i / w.out[2] / w.out[1] % w.out[0]);
      const uint8_t* plane = x.as<uint8_t>() + i / w.out_size() * w.in_size() * n;
      memset(sums, 0, static_cast<size_t>(n) * 4);
      each_tap(w, r, [&](int64_t pixel) { k->accumulate(plane + pixel * n, n, flip_of(x.dtype), sums); });
      k->average(sums, n, static_cast<int32_t>(zero * r.count()),
                 static_cast<float>(divisor(w, s.after, include_pad, r)), multiplier, e.zero, e.low, e.high, e.flip,
                 y.as<uint8_t>() + i * n);
    }
  });
  return Code::ok;
}

// ---- qmean.  x is seen as [outer..., kept, reduced, inner] by the walk below: any axes, the last dim contiguous.
Status mean_axes(const OpContext& c, uint32_t* bits) {
  const Span<const int64_t> axes = c.attr_ints(M::axes);
  if (axes.size() > kMaxRank) return c.fail(Code::shape, "axes has %lld entries", static_cast<long long>(axes.size()));
  *bits = (1u << c.in(0)->rank) - 1;
  if (axes.empty()) return Code::ok;
  return axis_set(c, axes.ptr, static_cast<int>(axes.size()), c.in(0)->rank, bits);
}

Status mean_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  DK_TRY(expect_bytes(c, "x", &x));
  DK_TRY(expect_zero_point(c, "x_zero_point", M::x_zero_point, x.dtype));
  DK_TRY(expect_scale(c, "multiplier", M::multiplier));
  DType t;
  DK_TRY(result_of(c, kMean, false, &t));
  uint32_t bits;
  DK_TRY(mean_axes(c, &bits));
  int64_t dims[kMaxRank];
  int rank = 0;
  const bool keep = c.attr_int(M::keepdims);
  for (int i = 0; i < x.rank; ++i) {
    if (!(bits >> i & 1))
      dims[rank++] = x.dims[i];
    else if (keep)
      dims[rank++] = 1;
  }
  return c.set_out(0, t, rank, dims);
}

struct MeanState {
  int kept, gone;  // dims
  int64_t kept_dims[kMaxRank], kept_step[kMaxRank], gone_dims[kMaxRank], gone_step[kMaxRank];
  int64_t rows, count, width;  // results besides the vector; summed elements; contiguous results at once
};

Status mean_prepare(OpContext& c) {
  MeanState* s;
  DK_TRY(c.make_state(&s));
  const Tensor& x = *c.in(0);
  uint32_t bits;
  DK_TRY(mean_axes(c, &bits));
  s->rows = s->count = s->width = 1;
  int64_t step = 1;
  bool inner = true;
  for (int i = x.rank - 1; i >= 0; step *= x.dims[i], --i) {
    if (bits >> i & 1) {
      inner = false;
      s->gone_dims[s->gone] = x.dims[i];
      s->gone_step[s->gone++] = step;
      s->count *= x.dims[i];
    } else if (inner) {
      s->width *= x.dims[i];
    } else {
      s->kept_dims[s->kept] = x.dims[i];
      s->kept_step[s->kept++] = step;
      s->rows *= x.dims[i];
    }
  }
  return c.need_scratch(static_cast<size_t>(padded(s->width) * c.threads()) * 4);
}

Status mean_run(OpContext& c) {
  const MeanState& s = *c.state<MeanState>();
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  QEpilogue e;
  set_result(c, kMean, y.dtype, &e);
  const QElementwiseKernels* k = qelementwise_kernels();
  const uint8_t flip = flip_of(x.dtype);
  const uint32_t zero = static_cast<uint32_t>(c.attr_int(M::x_zero_point) + shift_of(x.dtype));
  const int32_t offset = static_cast<int32_t>(zero * static_cast<uint32_t>(s.count));
  const float count = static_cast<float>(s.count > 0 ? s.count : 1), multiplier = c.attr_float(M::multiplier);
  int32_t* all = static_cast<int32_t*>(c.scratch());
  // Split over columns where they are many: one row of them is the usual case (the mean of an image).
  const int64_t blocks = s.width >= 64 ? (s.width + 63) / 64 : 1, block = s.width >= 64 ? 64 : s.width;
  c.parallel(s.rows * blocks, 1 + 32768 / (s.count * block + 1), [&](int64_t b, int64_t end, int lane) {
    int32_t* sums = all + lane * padded(s.width);
    while (b < end) {
      const int64_t row = b / blocks, from = b % blocks * block;
      int64_t parts = blocks - b % blocks;
      if (parts > end - b) parts = end - b;
      b += parts;
      const int64_t n = from + parts * block < s.width ? parts * block : s.width - from;
      const uint8_t* p = x.as<uint8_t>() + from;
      int64_t rest = row;
      for (int d = 0; d < s.kept; ++d) {
        p += rest % s.kept_dims[d] * s.kept_step[d];
        rest /= s.kept_dims[d];
      }
      memset(sums, 0, static_cast<size_t>(n) * 4);
      int64_t index[kMaxRank] = {0};
      for (int64_t i = 0; i < s.count; ++i) {
        k->accumulate(p, n, flip, sums);
        for (int d = 0; d < s.gone; ++d) {
          p += s.gone_step[d];
          if (++index[d] < s.gone_dims[d]) break;
          p -= s.gone_step[d] * s.gone_dims[d];
          index[d] = 0;
        }
      }
      k->average(sums, n, offset, count, multiplier, e.zero, e.low, e.high, e.flip,
                 y.as<uint8_t>() + row * s.width + from);
    }
  });
  return Code::ok;
}

// ---- qsoftmax
Status softmax_infer(OpContext& c) {
  const Tensor &x = *c.in(0), &table = *c.in(1);
  DK_TRY(expect_bytes(c, "x", &x));
  if (x.rank < 1) return c.fail(Code::shape, "x is a scalar; expected rank 1 or more");
  if (table.dtype != DType::u32)
    return c.fail(Code::shape, "table has dtype %s; expected uint32", dtype_name(table.dtype));
  const int64_t n = 256;
  DK_TRY(expect_dims(c, "table", &table, 1, &n));
  DK_TRY(expect_scale(c, "multiplier", S::multiplier));
  DType t;
  DK_TRY(result_of(c, kSoftmax, false, &t));
  return c.set_out(0, t, x.rank, x.dims);
}

Status softmax_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  QEpilogue e;
  set_result(c, kSoftmax, y.dtype, &e);
  const QElementwiseKernels* k = qelementwise_kernels();
  const uint32_t* table = c.in(1)->as<uint32_t>();
  const int64_t n = x.dims[x.rank - 1];
  const uint8_t flip = flip_of(x.dtype);
  const float multiplier = c.attr_float(S::multiplier);
  c.parallel(x.count() / n, 1 + 8192 / n, [&](int64_t b, int64_t end, int) {
    constexpr int kBlock = 256;
    float v[kBlock];
    for (; b < end; ++b) {
      const uint8_t* row = x.as<uint8_t>() + b * n;
      uint8_t most = 0;
      for (int64_t i = 0; i < n; ++i) {
        const uint8_t q = row[i] ^ flip;
        most = q > most ? q : most;
      }
      uint64_t sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += table[most - (row[i] ^ flip)];
      const float factor = multiplier / static_cast<float>(sum ? sum : 1);
      for (int64_t i = 0; i < n; i += kBlock) {
        const int64_t m = n - i < kBlock ? n - i : kBlock;
        for (int64_t j = 0; j < m; ++j) v[j] = static_cast<float>(table[most - (row[i + j] ^ flip)]) * factor;
        k->store(v, m, e.zero, e.low, e.high, e.flip, y.as<uint8_t>() + b * n + i);
      }
    }
  });
  return Code::ok;
}

const OpDef kDefs[] = {
    {Opcode::qavg_pool_, pool_infer, pool_prepare, pool_run},
    {Opcode::qmean_, mean_infer, mean_prepare, mean_run},
    {Opcode::qsoftmax_, softmax_infer, nullptr, softmax_run},
};

}  // namespace

const OpList ops_qreduce = {kDefs, sizeof kDefs / sizeof kDefs[0]};
}  // namespace dk
