#include "ops/conv_winograd.h"

#include "base/mem.h"

namespace dk {
namespace {

constexpr int64_t kBlockBytes = 768 << 10;  // of a block's transformed input and products: they stay in L2

int64_t tiles(const ConvGeometry& g, int r) { return (g.out[1] + r - 1) / r * ((g.out[2] + r - 1) / r); }

// Row length of the transformed input.  Rows a multiple of 1 KB apart would share few cache sets.
int64_t winograd_row(int64_t c) {
  const int64_t row = round_up(c, 16);
  return row % 256 == 0 ? row + 16 : row;
}

// A weight comes from L3 in the time of about this many multiply-adds, while those of the weight before are done: n
// rows take as long as max(n, this).
constexpr double kFar = 28;

double larger(double a, double b) { return a > b ? a : b; }

// Cost in multiply-adds: products (those of plain sums are a fifth slower: many rows of pointers, long panels), and
// transforms.  Weights are taken to be far away: those of a layer are four times (r = 4) or nearly twice as large as
// plain ones, and in a whole model the layers before have filled the caches.
double cost(const ConvState& s, int r) {
  const double c = static_cast<double>(s.g.c), o = static_cast<double>(s.o);
  if (r == 0) return 1.2 * 9 * c * o * larger(static_cast<double>(s.g.n * s.g.pixels()), kFar);
  const double positions = (r + 2) * (r + 2), n = static_cast<double>(s.g.n * tiles(s.g, r));
  return positions * (c * o * larger(n, kFar) + 12 * n * (c + o));
}

// Shall each thread do tiles of its own, and read all weights for them?  Else all work on the same tiles and share the
// positions, so that each reads a part of the weights only, but half of what it transforms back comes from another
// core.
bool tiles_apart(const ConvState& s, int threads) {
  const double c = static_cast<double>(s.g.c), o = static_cast<double>(s.o), t = threads;
  const double n = static_cast<double>(s.g.n * tiles(s.g, s.winograd.r));
  return c * o * larger(n / t, kFar) <= c * o * larger(n, kFar) / t + kFar / 4 * n * (c + o);
}

// A block of tiles from t0 on: forward transforms tiles [b, e) into v, multiply makes m of positions [p0, p1), back
// transforms tiles [b, e) of m into the output.
struct WinogradRun {
  const OpContext& c;
  const ConvState& s;
  const ConvPointers& p;

  int64_t row() const { return winograd_row(s.g.c); }

  // Image and output corner of a tile.
  void corner(int64_t tile, int64_t* n, int64_t* y, int64_t* x) const {
    const int r = s.winograd.r;
    const int64_t wide = (s.g.out[2] + r - 1) / r, image = tiles(s.g, r);
    *n = tile / image;
    *y = tile % image / wide * r;
    *x = tile % wide * r;
  }

  void forward(float* v, int64_t t0, int64_t b, int64_t e) const {
    const ConvGeometry& g = s.g;
    const int t = s.winograd.r + 2;
    const float* x[36];
    WinogradInput in = {x, g.c, nullptr, s.winograd.block * row()};
    for (int64_t i = b; i < e; ++i) {
      int64_t n, oy, ox;
      corner(t0 + i, &n, &oy, &ox);
      for (int dy = 0; dy < t; ++dy)
        for (int dx = 0; dx < t; ++dx) {
          const int64_t iy = oy + dy - g.before[1], ix = ox + dx - g.before[2];
          const bool inside = iy >= 0 && iy < g.in[1] && ix >= 0 && ix < g.in[2];
          x[dy * t + dx] = inside ? p.x + ((n * g.in[1] + iy) * g.in[2] + ix) * g.c : s.zero;
        }
      in.v = v + i * row();
      (s.winograd.r == 2 ? s.winograd.kernels->input2 : s.winograd.kernels->input4)(&in);
    }
  }

  void multiply(const float* v, float* m, int64_t count, int64_t p0, int64_t p1) const {
    GemmEpilogue e;
    e.bias = s.zero;
    for (int64_t i = p0; i < p1; ++i) {
      const GemmMatrix a(v + i * s.winograd.block * row(), row());
      GemmProblem q = {};
      q.kernels = s.gemm;
      q.layout = &s.layout;
      q.m = count;
      q.taps = 1;
      q.k = s.g.c;
      q.rows = &a;
      q.packed = p.packed + i * s.padded * s.g.c;
      q.c = m + i * s.winograd.block * s.padded;
      q.ldc = s.padded;
      q.epilogue = &e;
      gemm_run(q, 0, count, 0, s.layout.count());
    }
  }

  void back(const float* m, int64_t t0, int64_t b, int64_t e) const {
    const ConvGeometry& g = s.g;
    const int r = s.winograd.r;
    const bool clamps = s.clamps(p.residual);
    float* y[16];
    WinogradOutput out = {nullptr, s.winograd.block * s.padded, s.o, p.bias, -__builtin_inff(), __builtin_inff(), y};
    if (clamps) out.low = s.epilogue.low, out.high = s.epilogue.high;
    for (int64_t i = b; i < e; ++i) {
      int64_t n, oy, ox;
      corner(t0 + i, &n, &oy, &ox);
      const int64_t rows = g.out[1] - oy < r ? g.out[1] - oy : r, columns = g.out[2] - ox < r ? g.out[2] - ox : r;
      for (int dy = 0; dy < r; ++dy)
        for (int dx = 0; dx < r; ++dx)
          y[dy * r + dx] =
              dy < rows && dx < columns ? p.y + ((n * g.out[1] + oy + dy) * g.out[2] + ox + dx) * s.o : nullptr;
      out.m = m + i * s.padded;
      (r == 2 ? s.winograd.kernels->output2 : s.winograd.kernels->output4)(&out);
      if (clamps) continue;
      for (int dy = 0; dy < rows; ++dy) {
        float* row = y[dy * r];
        GemmFinish f = finish_of(s, row, p.residual ? p.residual + (row - p.y) : nullptr);
        f.m = static_cast<int>(columns);
        f.n = static_cast<int>(s.o);
        f.ldc = f.ldr = s.o;
        s.gemm->finish(&f);
      }
    }
  }
};

}  // namespace

int winograd_tile(const OpContext& c, const ConvState& s) {
  const ConvGeometry& g = s.g;
  if (c.exact() || !c.is_const(1) || s.convert || s.groups != 1 || g.c < 16 || s.o < 16) return 0;
  if (g.kernel[0] != 1 || g.in[0] != 1 || g.out[0] != 1 || g.before[0] != 0) return 0;
  for (int d = 1; d < 3; ++d)
    if (g.kernel[d] != 3 || g.stride[d] != 1 || g.dilation[d] != 1) return 0;
  const double direct = cost(s, 0), two = cost(s, 2), four = cost(s, 4);
  if (four < two && four < 0.9 * direct) return 4;
  return two < 0.9 * direct ? 2 : 0;
}

void winograd_plan(const OpContext& c, ConvState* s, ScratchPlan* scratch) {
  WinogradPlan& w = s->winograd;
  w.kernels = winograd_kernels();
  // Several row blocks of the tile of the matrix product, to read the weights less.
  const int64_t row = winograd_row(s->g.c) + s->padded, mr = s->layout.main.mr, all = s->g.n * tiles(s->g, w.r);
  w.block = kBlockBytes / (w.positions() * row * 4) / mr * mr;
  if (w.block < 2 * mr) w.block = 2 * mr;
  if (w.block > all) w.block = all;
  const int64_t lane = w.positions() * w.block * row;
  w.lane_at = scratch->take(lane * c.threads());
  w.lane_bytes = static_cast<size_t>(lane) * 4;
}

// Panel by panel: the transformed weights of one panel fit a cache, those of the layer are twice to four times as large
// as the weights.
Status winograd_pack(const OpContext& c, const ConvState& s, const float* weight, float* to) {
  const GemmLayout& l = s.layout;
  const int64_t ic = s.g.c, positions = s.winograd.positions();
  const int64_t nr = l.has_last && l.last.nr > l.main.nr ? l.last.nr : l.main.nr, size = nr * ic;
  const size_t bytes = static_cast<size_t>(positions * size) * 4;
  char* lanes = static_cast<char*>(mem_alloc(bytes * static_cast<size_t>(c.threads())));
  if (!lanes) return c.fail(Code::memory, "out of memory for transforming weights");
  c.parallel(l.count(), 1, [&](int64_t b, int64_t e, int lane) {
    float* u = reinterpret_cast<float*>(lanes + bytes * static_cast<size_t>(lane));
    for (int64_t p = b; p < e; ++p) {
      const int64_t column = l.column(p);
      for (int64_t j = 0; j < l.columns(p); ++j)
        winograd_weight(s.winograd.r, weight + (column + j) * 9 * ic, ic, u + j * ic, size);
      for (int64_t i = 0; i < positions; ++i)
        s.gemm->pack(to + i * l.padded() * ic + column * ic, u + i * size, ic, l.columns(p), l.shape(p).nr, 1, ic);
    }
  });
  mem_free(lanes);
  return Code::ok;
}

void winograd_run(const OpContext& c, const ConvState& s, const ConvPointers& p, char* lanes) {
  const WinogradRun w = {c, s, p};
  const int64_t all = s.g.n * tiles(s.g, s.winograd.r), threads = c.threads();
  const bool apart = threads == 1 || tiles_apart(s, c.threads());
  int64_t blocks = (all + s.winograd.block - 1) / s.winograd.block;
  if (apart) blocks = (blocks + threads - 1) / threads * threads;  // as many for each
  if (blocks > all) blocks = all;
  const int64_t positions = s.winograd.positions(), v_size = positions * s.winograd.block * w.row();
  if (apart) {
    c.parallel(blocks, 1, [&](int64_t b, int64_t e, int lane) {
      float* v = reinterpret_cast<float*>(lanes + static_cast<size_t>(lane) * s.winograd.lane_bytes);
      for (int64_t i = b; i < e; ++i) {
        const int64_t t0 = all * i / blocks, count = all * (i + 1) / blocks - t0;
        w.forward(v, t0, 0, count);
        w.multiply(v, v + v_size, count, 0, positions);
        w.back(v + v_size, t0, 0, count);
      }
    });
    return;
  }
  float* v = reinterpret_cast<float*>(lanes);
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t t0 = all * i / blocks, count = all * (i + 1) / blocks - t0;
    c.parallel(count, 1, [&](int64_t b, int64_t e, int) { w.forward(v, t0, b, e); });
    c.parallel(positions, 1, [&](int64_t b, int64_t e, int) { w.multiply(v, v + v_size, count, b, e); });
    c.parallel(count, 1, [&](int64_t b, int64_t e, int) { w.back(v + v_size, t0, b, e); });
  }
}

}  // namespace dk
