// Inverted residuals (Sandler et al., "MobileNetV2", 2018): a pointwise convolution makes six times as many channels, a
// depthwise one filters each of them, another pointwise one makes few of them again.  On large images what is between
// them is larger than L2.  Here each lane keeps a ring of rows: those that the next outputs need are made, then these
// outputs; no row is made twice but where two lanes meet.  Every number is summed as in the layers by themselves.
#if !defined(__wasm__)
#include "ops/conv_strips.h"

#include "ops/conv_depthwise.h"

namespace dk {
namespace {

constexpr int64_t kWorth = 1 << 20;  // bytes between two layers: half of L2, or twice of it
constexpr int64_t kMost = int64_t{1} << 40;
constexpr int64_t kRing = 512 << 10;  // bytes of the rows that a lane keeps

int64_t row_floats(const ConvState& s) { return s.g.in[2] * s.g.c; }

// Input rows that `rows` output rows reach.
int64_t reach(const ConvGeometry& g, int64_t rows) {
  return (rows - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
}

bool flat(const ConvGeometry& g) { return g.in[0] == 1 && g.kernel[0] == 1 && g.out[0] == 1; }

bool pointwise(const ConvState& s) {
  return s.algorithm == Algorithm::pointwise && s.groups == 1 && s.packed && s.bias && !s.convert;
}

bool depthwise(const ConvState& s) {
  return s.algorithm == Algorithm::depthwise && s.multiplier == 1 && flat(s.g) && s.packed && s.bias && !s.convert;
}

// Bytes of a lane: the ring, filtered rows, room of both products.
struct Lane {
  size_t ring, filtered, room_before, room, bytes;
};

Lane lane_of(const ConvState& s) {
  const bool last = s.algorithm == Algorithm::depthwise;
  const ConvState& d = last ? s : *s.before;
  ScratchPlan plan;
  Lane lane;
  lane.ring = plan.take(d.before ? d.ring_rows * row_floats(d) : 0);
  lane.filtered = plan.take(last ? 0 : d.strip_rows * d.g.out[2] * d.o);
  lane.room_before = plan.take(d.before ? d.before->room_bytes / 4 : 0);
  lane.room = plan.take(last ? 0 : s.room_bytes / 4);
  lane.bytes = plan.bytes;
  return lane;
}

// m rows of a matrix, through a pointwise convolution.
void multiply(const ConvState& s, const float* x, int64_t m, const float* residual, float* y, char* room) {
  GemmEpilogue e = s.epilogue;
  e.bias = s.bias;
  e.residual = residual;
  e.ldr = s.o;
  const GemmMatrix rows(x, s.cg);
  GemmProblem p = product_of(s, &e);
  p.m = m;
  p.taps = 1;
  p.k = s.cg;
  p.rows = &rows;
  p.packed = s.packed;
  p.c = y;
  p.room = room;
  gemm_run(p, 0, m, 0, s.layout.count());
}

double flops_of(const ConvState& s) {
  const double numbers = static_cast<double>(s.g.n * s.g.pixels() * s.o);
  return 2.0 * numbers * static_cast<double>(s.g.taps() * s.cg) + (s.before ? flops_of(*s.before) : 0.0);
}

}  // namespace

Status conv_strips_join(OpContext& c, const OpContext& before, bool* joined) {
  ConvState* s = c.state<ConvState>();
  ConvState* b = before.state<ConvState>();
  if (!s || !b || before.in(3)) return {};
  const bool first = pointwise(*b) && depthwise(*s);
  if (!first && !(depthwise(*b) && pointwise(*s))) return {};
  ConvState* d = first ? s : b;
  if (!d->before) {
    const int64_t between = s->g.n * s->g.in[1] * row_floats(*s) * 4, shared = between / (2 * c.threads());
    const int64_t most = shared < kRing ? shared : kRing;  // all lanes together take less than what is saved
    auto bytes = [&](int64_t rows) {  // that a lane keeps: input rows if it makes them, else filtered ones
      return 4 * (first ? reach(d->g, rows) * row_floats(*d) : rows * d->g.out[2] * d->o);
    };
    const bool usual = d->g.stride[1] <= d->g.in[1] && reach(d->g, 1) <= d->g.in[1] && between < kMost;
    if (between < kWorth || !usual || bytes(1) > most) return {};
    d->strip_rows = 1;
    while (d->strip_rows < kStripRows && bytes(d->strip_rows + 1) <= most) ++d->strip_rows;
    d->ring_rows = reach(d->g, d->strip_rows);
  }
  s->first_x = b->before ? b->first_x : before.in(0);
  s->before = b;
  ScratchPlan scratch;
  s->lane_bytes = lane_of(*s).bytes;
  s->lanes_at = scratch.take(c.threads() * static_cast<int64_t>(s->lane_bytes / 4));
  DK_TRY(c.need_scratch(scratch.bytes));
  c.note("strips", static_cast<uint64_t>(flops_of(*s)));
  *joined = true;
  return {};
}

void conv_strips_run(const OpContext& c, const ConvState& s) {
  const bool last = s.algorithm == Algorithm::depthwise;  // nothing behind it
  const ConvState& d = last ? s : *s.before;
  const ConvGeometry& g = d.g;
  const int64_t row = row_floats(d), out = g.out[2] * d.o, ring = d.ring_rows;
  const float* x = s.first_x->as<float>();
  const float* residual = c.in(3) ? c.in(3)->as<float>() : nullptr;
  float* y = c.out(0)->as<float>();
  const Lane at = lane_of(s);

  c.parallel(g.n * g.out[1], 1, [&](int64_t b, int64_t end, int index) {
    char* const lane = static_cast<char*>(c.scratch()) + s.lanes_at + static_cast<size_t>(index) * s.lane_bytes;
    float* const rows = reinterpret_cast<float*>(lane + at.ring);
    ConvPointers p = {};
    p.packed = d.packed;
    p.bias = d.bias;
    int64_t image = -1, made = 0;  // input rows of this image up to `made` are, or were, in the ring
    while (b < end) {
      const int64_t n = b / g.out[1], y0 = b - n * g.out[1];
      int64_t count = g.out[1] - y0 < end - b ? g.out[1] - y0 : end - b;
      if (count > d.strip_rows) count = d.strip_rows;
      int64_t from = y0 * g.stride[1] - g.before[1], to = from + reach(g, count);
      if (to > g.in[1]) to = g.in[1];
      if (from < 0) from = 0;
      if (n != image || made < from) image = n, made = from;
      while (d.before && made < to) {
        const int64_t slot = made % ring, more = to - made < ring - slot ? to - made : ring - slot;
        multiply(*d.before, x + (n * g.in[1] + made) * g.in[2] * d.before->cg, more * g.in[2], nullptr,
                 rows + slot * row, lane + at.room_before);
        made += more;
      }
      p.y = last ? y + b * out : reinterpret_cast<float*>(lane + at.filtered);
      p.residual = last && residual ? residual + b * out : nullptr;
      depthwise_rows(d, p, b, count, 0, g.out[2], [&](int64_t, int64_t, int64_t iy) {
        return d.before ? rows + iy % ring * row : x + (n * g.in[1] + iy) * row;
      });
      const int64_t pixel = b * g.out[2], o = s.o;
      if (!last)
        multiply(s, p.y, count * g.out[2], residual ? residual + pixel * o : nullptr, y + pixel * o, lane + at.room);
      b += count;
    }
  });
}

}  // namespace dk
#endif
