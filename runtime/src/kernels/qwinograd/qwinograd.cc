#include "kernels/qwinograd/qwinograd.h"

#include <cstring>

#include "base/cpu.h"

namespace dk {

#if defined(__x86_64__)
const QWinogradKernels* qwinograd_x86_avx2();
const QWinogradKernels* qwinograd_kernels() {
  const DotIsa isa = best_dot_isa();
  return isa == DotIsa::x86_avx2 || isa == DotIsa::x86_avx512 ? qwinograd_x86_avx2() : nullptr;
}
#else
const QWinogradKernels* qwinograd_kernels() { return nullptr; }
#endif

namespace {
constexpr int64_t kPositions = 16, kColumns = kQWinogradColumns;
constexpr int64_t kMostWeights = 4 << 20;  // beyond that, reading them costs more than the products saved
constexpr int64_t kMostRow = 512 << 10;    // bytes of V for a row of tiles: they stay in L2

int64_t pairs_of(const ConvGeometry& g) { return (g.c + 1) / 2; }
int64_t tiles_of(const ConvGeometry& g) { return (g.out[2] + 1) / 2; }  // of a row
int64_t up64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Room {
  int16_t* v;
  int32_t *m, *lines;
};

int64_t v_numbers(const QWinograd& w, const ConvGeometry& g) {
  return kPositions * w.block * tiles_of(g) * w.stride + 32;
}
int64_t m_numbers(const QWinograd& w, const ConvGeometry& g) { return kPositions * w.block * tiles_of(g) * kColumns; }
}  // namespace

QWinograd qwinograd_plan(const ConvGeometry& g, int64_t n, int threads) {
  QWinograd w;
  const bool fits = g.in[0] == 1 && g.out[0] == 1 && g.kernel[0] == 1 && g.kernel[1] == 3 && g.kernel[2] == 3 &&
                    g.stride[1] == 1 && g.stride[2] == 1 && g.dilation[1] == 1 && g.dilation[2] == 1;
  w.columns = (n + kColumns - 1) / kColumns * kColumns;
  if (!fits || g.c < 16 || g.c > kQWinogradMaxChannels || n < 16 || g.out[1] < 4 || g.out[2] < 4) return w;
  w.stride = (g.c + 15) / 16 * 16;
  const int64_t row = kPositions * tiles_of(g) * w.stride * 2;
  if (row > kMostRow || kPositions * w.columns * g.c * 2 > kMostWeights) return w;
  w.rows = (g.out[1] + 1) / 2;
  // Some 24 tiles: rows enough for whole blocks of a product, and still in L2.
  const int64_t tiles = tiles_of(g), even = (w.rows + threads - 1) / threads;
  w.block = (24 + tiles - 1) / tiles;
  if (w.block > even) w.block = even;
  w.gemm = qgemm_kernels();
  w.kernels = qwinograd_kernels();
  return w;
}

size_t qwinograd_weight_bytes(const QWinograd& w, const ConvGeometry& g) {
  return static_cast<size_t>(kPositions * w.columns * pairs_of(g) * 4);
}

size_t qwinograd_room(const QWinograd& w, const ConvGeometry& g) {
  const int64_t lines = 4 * w.block * tiles_of(g) * kColumns;
  return static_cast<size_t>(up64(v_numbers(w, g) * 2) + up64(m_numbers(w, g) * 4) + up64(lines * 4) + 64);
}

void qwinograd_pack(const QWinograd& w, const ConvGeometry& g, const int8_t* weight, int64_t n, int16_t* packed,
                    int64_t p0, int64_t p1) {
  static const int kG[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
  const int64_t pairs = pairs_of(g), step = pairs * kColumns * 2;
  std::memset(packed + p0 * kPositions * step, 0, static_cast<size_t>((p1 - p0) * kPositions * step) * 2);
  const int64_t last = p1 * kColumns < n ? p1 * kColumns : n;
  for (int64_t j = p0 * kColumns; j < last; ++j)
    for (int64_t c = 0; c < g.c; ++c) {
      const int8_t* at = weight + j * 9 * g.c + c;
      int half[4][3];
      for (int i = 0; i < 4; ++i)
        for (int x = 0; x < 3; ++x)
          half[i][x] = kG[i][0] * at[x * g.c] + kG[i][1] * at[(3 + x) * g.c] + kG[i][2] * at[(6 + x) * g.c];
      int16_t* to = packed + j / kColumns * kPositions * step + (c / 2 * kColumns + j % kColumns) * 2 + c % 2;
      for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 4; ++k)
          to[(i * 4 + k) * step] =
              static_cast<int16_t>(half[i][0] * kG[k][0] + half[i][1] * kG[k][1] + half[i][2] * kG[k][2]);
    }
}

int64_t qwinograd_blocks(const QWinograd& w, const ConvGeometry& g) { return g.n * ((w.rows + w.block - 1) / w.block); }

// V of rows [r0, r1) of tiles of an image.
static void transform(const QWinogradProblem& p, const uint8_t* image, int64_t r0, int64_t r1, int16_t* v) {
  const ConvGeometry& g = *p.g;
  const int64_t tiles = tiles_of(g), step = (r1 - r0) * tiles * p.w->stride;
  const int32_t zero = p.zero ^ p.flip;
  for (int64_t r = r0; r < r1; ++r)
    for (int64_t t = 0; t < tiles; ++t, v += p.w->stride) {
      const uint8_t* x[kPositions];
      for (int64_t i = 0; i < kPositions; ++i) {
        const int64_t iy = 2 * r + i / 4 - g.before[1], ix = 2 * t + i % 4 - g.before[2];
        const bool inside = iy >= 0 && iy < g.in[1] && ix >= 0 && ix < g.in[2];
        x[i] = inside ? image + (iy * g.in[2] + ix) * g.c : p.zeros;
      }
      p.w->kernels->input(x, p.flip, zero, g.c, v, step);
    }
}

// The columns of one panel for rows [r0, r1) of tiles.
static void panel_of(const QWinogradProblem& p, int64_t image, int64_t r0, int64_t r1, int64_t panel,
                     const Room& room) {
  const ConvGeometry& g = *p.g;
  const QWinograd& w = *p.w;
  const int64_t tiles = tiles_of(g), all = (r1 - r0) * tiles, pairs = pairs_of(g), column = panel * kColumns;
  const int64_t m_step = all * kColumns;
  for (int64_t i = 0; i < kPositions; ++i)
    w.kernels->multiply(room.v + i * all * w.stride, w.stride,
                        p.packed + (panel * kPositions + i) * pairs * kColumns * 2, pairs, all, room.m + i * m_step);
  QGemmFinish f;
  f.lda = kColumns;
  f.m = static_cast<int>(g.out[2]);
  f.n = static_cast<int>(p.n - column < kColumns ? p.n - column : kColumns);
  f.column = column;
  f.ldc = p.n;
  f.e = p.epilogue;
  const int64_t element = p.epilogue->floats || p.epilogue->ints ? 4 : 1;
  int32_t* const lines[2] = {room.lines, room.lines + 2 * tiles * kColumns};
  for (int64_t r = r0; r < r1; ++r) {
    w.kernels->output(room.m + (r - r0) * tiles * kColumns, m_step, tiles, p.bias + column, lines[0], lines[1]);
    for (int64_t i = 0; i < 2 && 2 * r + i < g.out[1]; ++i) {
      f.acc = lines[i];
      f.row = (image * g.out[1] + 2 * r + i) * g.out[2];
      f.c = static_cast<char*>(p.c) + (f.row * p.n + column) * element;
      w.gemm->finish(&f);
    }
  }
}

void qwinograd_run(const QWinogradProblem& p, int64_t b0, int64_t b1, void* room_at) {
  const ConvGeometry& g = *p.g;
  const QWinograd& w = *p.w;
  char* at = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(room_at) + 63) / 64 * 64);
  Room room;
  room.v = reinterpret_cast<int16_t*>(at);
  room.m = reinterpret_cast<int32_t*>(at += up64(v_numbers(w, g) * 2));
  room.lines = reinterpret_cast<int32_t*>(at + up64(m_numbers(w, g) * 4));
  const int64_t each = qwinograd_blocks(w, g) / g.n;
  for (int64_t b = b0; b < b1; ++b) {
    const int64_t image = b / each, r0 = b % each * w.block, end = r0 + w.block, r1 = end < w.rows ? end : w.rows;
    transform(p, p.x + image * g.in[1] * g.in[2] * g.c, r0, r1, room.v);
    for (int64_t panel = 0; panel < w.columns / kColumns; ++panel) panel_of(p, image, r0, r1, panel, room);
  }
}

}  // namespace dk
