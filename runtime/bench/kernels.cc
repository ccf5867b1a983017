// Times the kernels of the set in use by themselves, one thread, and says what share of the machine's measured peak
// they reach: products and depthwise convolutions of the arithmetic, elementwise loops of reading from L1.  Built by
// cmake -DDEPLOYKIT_BENCH=ON.
//
//   bench_kernels [part of a name] [--seconds S]        DK_ISA=x86_avx2 bench_kernels: another set
//
// One line per problem: kernel_M_N_K, microseconds (minimum), GOP/s, per cent of the peak.  `qgemm` makes bytes by one
// rounding, `qgemm_add` adds a residual, `qgemm_float` gives float32.  Depthwise layers are 3x3:
// depthwise_SIZE_CHANNELS; elementwise loops go over 2048 numbers and are the whole list of
// kernels/elementwise/elementwise.h.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/cpu.h"
#include "base/mem.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/qdepthwise/qdepthwise.h"
#include "kernels/qgemm/qgemm.h"
#include "peak.h"

namespace {
using namespace dk;

struct Problem {
  int m, n, k;
};

const Problem kProblems[] = {
    // pointwise layers: MobileNetV2, ResNet-50
    {12544, 16, 32},
    {12544, 96, 16},
    {3136, 24, 96},
    {3136, 144, 24},
    {784, 192, 32},
    {784, 32, 192},
    {196, 384, 64},
    {196, 96, 576},
    {49, 960, 160},
    {49, 320, 960},
    {3136, 64, 64},
    {3136, 256, 64},
    {3136, 64, 256},
    {784, 512, 128},
    {784, 128, 512},
    {196, 1024, 256},
    {196, 256, 1024},
    {49, 2048, 512},
    {49, 512, 2048},
    // transformers, fully connected layers
    {128, 384, 384},
    {128, 1536, 384},
    {128, 384, 1536},
    {1, 1000, 1280},
    {1, 1024, 512},
    // tails
    {197, 97, 67},
    {5, 33, 129},
};

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Memory that lives to the end of a problem.
Bump g_memory;

template <class T>
T* filled(int64_t n, T (*value)(uint32_t)) {
  T* p = static_cast<T*>(g_memory.take(static_cast<size_t>(n) * sizeof(T) + kReadable));
  if (!p) std::exit(1);
  for (int64_t i = 0; i < n; ++i) p[i] = value(static_cast<uint32_t>(i) * 2654435761u >> 8);
  return p;
}

template <class F>
double best_time(double seconds, F run) {
  double best = 1e9;
  int rounds = 0;
  for (const double end = now() + seconds; now() < end || rounds < 5; ++rounds) {
    const double t = now();
    run();
    const double d = now() - t;
    if (d < best) best = d;
  }
  return best;
}

double time_gemm(const Problem& p, double seconds) {
  const GemmKernels* kernels = gemm_kernels();
  const GemmLayout layout = gemm_layout(kernels, p.k, p.n);
  auto number = [](uint32_t h) { return static_cast<float>(static_cast<int>(h % 2001) - 1000) * 1e-3f; };
  const float* a = filled<float>(int64_t{p.m} * p.k, number);
  const float* b = filled<float>(int64_t{p.k} * p.n, number);
  float* packed = filled<float>(static_cast<int64_t>(layout.bytes() / 4), number);
  gemm_pack(kernels, layout, packed, b, p.n, 1, 0, layout.count());
  GemmEpilogue e;
  e.bias = filled<float>(layout.padded(), number);
  e.low = 0;
  const GemmMatrix rows(a, p.k);
  GemmProblem g = {};
  g.kernels = kernels;
  g.layout = &layout;
  g.m = p.m;
  g.taps = 1;
  g.k = p.k;
  g.rows = &rows;
  g.packed = packed;
  g.c = filled<float>(int64_t{p.m} * p.n, number);
  g.ldc = p.n;
  g.epilogue = &e;
  const GemmSplit split = gemm_split(g, 1);
  return best_time(seconds, [&] { gemm_run_units(g, split, 0, split.units); });
}

enum class Finish { bytes, added, floats };

double time_qgemm(const Problem& p, Finish how, double seconds) {
  const QGemmKernels* kernels = qgemm_kernels();
  const QGemmLayout layout = qgemm_layout(kernels, 1, p.k, p.n);
  auto byte = [](uint32_t h) { return static_cast<uint8_t>(h); };
  const uint8_t* a = filled<uint8_t>(int64_t{p.m} * p.k, byte);
  const uint8_t* b = filled<uint8_t>(int64_t{p.k} * p.n, byte);
  int8_t* packed = reinterpret_cast<int8_t*>(filled<uint8_t>(static_cast<int64_t>(layout.bytes()), byte));
  int32_t* bias = filled<int32_t>(layout.padded(), [](uint32_t h) { return static_cast<int32_t>(h % 4001) - 2000; });
  qgemm_pack(layout, {b, 0, p.n, 1, 0}, packed, bias, 0, layout.count());
  QEpilogue e;
  e.multiplier = filled<float>(layout.padded(), [](uint32_t) { return 1e-3f; });
  e.small = true;
  e.zero = 128;
  e.floats = how == Finish::floats;
  if (how == Finish::added) {
    e.mid = true;
    e.mid_scale = 0.5f;
    e.mid_low = -128, e.mid_high = 127;
    e.residual = filled<uint8_t>(int64_t{p.m} * p.n, byte);
    e.ldr = p.n;
    e.residual_scale = 0.5f;
    e.residual_zero = 128;
  }
  const QGemmMatrix rows(a, p.k);
  QGemmProblem g = {};
  g.kernels = kernels;
  g.layout = &layout;
  g.m = p.m;
  g.rows = &rows;
  g.packed = packed;
  g.bias = bias;
  g.c = filled<float>(int64_t{p.m} * p.n, [](uint32_t) { return 0.0f; });
  g.ldc = p.n;
  g.epilogue = &e;
  const QGemmSplit split = qgemm_split(g, 1);
  return best_time(seconds, [&] { qgemm_run_units(g, split, 0, split.units); });
}

void print_rate(const char* name, double t, double rate, const char* unit, double peak) {
  char share[32] = "";
  if (peak > 0) std::snprintf(share, sizeof share, " %5.1f %%", 100 * rate / peak);
  std::printf("%-28s %9.2f us %7.1f %s%s\n", name, t * 1e6, rate, unit, share);
  std::fflush(stdout);
}

struct Image {
  int size, channels;
};
const Image kImages[] = {{112, 32}, {56, 144}, {28, 192}, {14, 384}, {14, 576}, {7, 960}, {9, 35}};

double time_depthwise(const Image& g, double seconds) {
  const DepthwiseKernels* kernels = depthwise_kernels();
  const int64_t padded = (g.channels + kernels->width - 1) / kernels->width * kernels->width,
                line = g.size * g.channels;
  auto number = [](uint32_t h) { return static_cast<float>(static_cast<int>(h % 2001) - 1000) * 1e-3f; };
  const float* x = filled<float>(g.size * line, number);
  DepthwiseStrip t = {};
  t.taps = t.kernel = 3;
  t.sliding = true;
  t.weight = filled<float>(9 * padded, number);
  t.c = g.channels, t.padded = padded;
  t.width = t.out = t.to = g.size;
  t.stride = t.dilation = t.before = 1;
  t.bias = filled<float>(padded, number);
  t.low = 0, t.high = 6;
  float* y = filled<float>(g.size * line, number);
  return best_time(seconds, [&] {
    const float* row[16 * 3];
    t.row = row;
    for (int y0 = 0; y0 < g.size; y0 += 16) {
      t.rows = g.size - y0 < 16 ? g.size - y0 : 16;
      for (int i = 0; i < t.rows * 3; ++i) {
        const int at = y0 + i / 3 + i % 3 - 1;
        row[i] = at >= 0 && at < g.size ? x + at * line : nullptr;
      }
      t.y = y + y0 * line;
      kernels->strip(&t);
    }
  });
}

double time_qdepthwise(const Image& g, double seconds) {
  const QDepthwiseKernels* kernels = qdepthwise_kernels();
  const int64_t c = g.channels, padded = qdepthwise_padded(c), line = (g.size + 2) * c;
  auto byte = [](uint32_t h) { return static_cast<uint8_t>(h); };
  const int64_t rows[] = {0, line, 2 * line};
  int8_t* weight = reinterpret_cast<int8_t*>(filled<uint8_t>(9 * c, byte));
  int8_t* packed = reinterpret_cast<int8_t*>(filled<uint8_t>(static_cast<int64_t>(qdepthwise_bytes(c, 3, 3)), byte));
  int32_t* sums = filled<int32_t>(padded, [](uint32_t) { return 0; });
  qdepthwise_pack(kernels, c, 3, 3, weight, packed, sums);
  QEpilogue e;
  e.multiplier = filled<float>(padded, [](uint32_t) { return 1e-2f; });
  e.small = true;
  QDepthwiseStrip t = {};
  t.x = filled<uint8_t>((g.size + 2) * line + 3 * c + 128, byte);
  t.rows = t.kernel = 3;
  t.row_at = rows;
  t.tap_step = t.step = c;
  t.line_step = line;
  t.out = t.lines = g.size;
  t.c = c;
  t.weight = packed;
  t.bias = filled<int32_t>(padded, [](uint32_t h) { return static_cast<int32_t>(h % 4001); });
  t.e = &e;
  t.y = filled<uint8_t>(g.size * g.size * c, byte);
  return best_time(seconds, [&] { kernels->strip(&t); });
}

template <class F>
void run_images(const char* kernel, const char* filter, double peak, F time) {
  for (const Image& g : kImages) {
    char name[80];
    std::snprintf(name, sizeof name, "%s_%d_%d", kernel, g.size, g.channels);
    if (!std::strstr(name, filter)) continue;
    const double t = time(g);
    print_rate(name, t, 18e-9 * g.size * g.size * g.channels / t, "GOP/s", peak);
    g_memory.release();
  }
}

// Every loop of the family, by its list; arguments 1, 2, 3 and operands between 0.5 and 1.5 suit all of them.
void run_elementwise(const char* filter, double seconds) {
  constexpr int64_t kCount = 2048;  // three operands stay in L1
  const ElementwiseKernels* kernels = DK_PICK_KERNELS(elementwise);
  auto number = [](uint32_t h) { return static_cast<float>(h % 1001) * 1e-3f + 0.5f; };
  const float *x = filled<float>(kCount, number), *z = filled<float>(kCount, number);
  // Away from x and z modulo 4 KB: else loads wait for stores that only look as if they were to the same place.
  float* y = filled<float>(kCount + 512, number) + 512;
  const float args[] = {1, 2, 3};
  const double peak = read_rate(kCount * 4);
  auto report = [&](const char* op, int operands, auto&& loop) {
    char name[80];
    std::snprintf(name, sizeof name, "elementwise_%s", op);
    if (!std::strstr(name, filter)) return;
    const double t = best_time(seconds / 5, [&] {
      for (int i = 0; i < 20; ++i) loop();
    });
    print_rate(name, t / 20, 4e-9 * kCount * operands * 20 / t, "GB/s read", peak);
  };
#define X(op) report(#op, 1, [&] { kernels->unary[static_cast<int>(UnaryF32::op##_)](x, y, kCount, args); });
  DK_UNARY_F32(X)
#undef X
#define X(op) report(#op, 2, [&] { kernels->binary[static_cast<int>(BinaryF32::op##_)](x, z, y, kCount, 1, 1); });
  DK_BINARY_F32(X)
#undef X
  g_memory.release();
}

// Times `kernel` on the problems whose name holds the filter.
template <class F>
void run_all(const char* kernel, const char* filter, double peak, F time) {
  for (const Problem& p : kProblems) {
    char name[80];
    std::snprintf(name, sizeof name, "%s_%d_%d_%d", kernel, p.m, p.n, p.k);
    if (!std::strstr(name, filter)) continue;
    const double t = time(p);
    print_rate(name, t, 2e-9 * p.m * p.n * p.k / t, "GOP/s", peak);
    g_memory.release();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* filter = "";
  double seconds = 0.05;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--seconds") && i + 1 < argc)
      seconds = std::atof(argv[++i]);
    else
      filter = argv[i];
  }
  const double fma = peak_fma(), dot = peak_dot();
  std::printf("# sets %s, %s; peaks of one core: fp32 %.0f GFLOP/s, 8-bit %.0f GOP/s; reads %.0f, %.0f, %.0f GB/s of",
              isa_name(best_isa()), dot_isa_name(best_dot_isa()), fma, dot, read_rate(16 << 10), read_rate(512 << 10),
              read_rate(16 << 20));
  std::printf(" 16 KB, 512 KB, 16 MB\n");
  run_all("gemm", filter, fma, [&](const Problem& p) { return time_gemm(p, seconds); });
  run_all("qgemm", filter, dot, [&](const Problem& p) { return time_qgemm(p, Finish::bytes, seconds); });
  run_all("qgemm_add", filter, dot, [&](const Problem& p) { return time_qgemm(p, Finish::added, seconds); });
  run_all("qgemm_float", filter, dot, [&](const Problem& p) { return time_qgemm(p, Finish::floats, seconds); });
  run_images("depthwise", filter, fma, [&](const Image& g) { return time_depthwise(g, seconds); });
  run_images("qdepthwise", filter, dot, [&](const Image& g) { return time_qdepthwise(g, seconds); });
  run_elementwise(filter, seconds);
  return 0;
}
