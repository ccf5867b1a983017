// Times the conv and matmul layers of MobileNetV2 and ResNet-50, one by one, through the op adapters with constant
// weights (so packing is not timed).  Built by cmake -DDEPLOYKIT_BENCH=ON.
//
//   bench_layers [filter] [--threads N] [--seconds S]
//
// One line per distinct layer: name, how often the model has it, microseconds (minimum), GFLOP/s, per cent of the
// measured peak of the threads (above 100: Winograd does with fewer products).  The name
// conv_H_C_O_K_S_G is what runtime/bench/layers.py reads to time onnxruntime on the same layer.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/cpu.h"
#include "base/mem.h"
#include "engine/op_state.h"
#include "engine/pool.h"
#include "ops/registry.h"
#include "peak.h"

namespace {
using namespace dk;

struct Layer {
  const char* model;
  int times;
  int h, c, o, k, s, groups;
  int act;  // index in ACTIVATIONS
  bool residual;
};

const Layer kLayers[] = {
    // MobileNetV2
    {"mobilenet_v2", 1, 224, 3, 32, 3, 2, 1, 2, false},
    {"mobilenet_v2", 1, 112, 32, 32, 3, 1, 32, 2, false},
    {"mobilenet_v2", 1, 112, 32, 16, 1, 1, 1, 0, false},
    {"mobilenet_v2", 1, 112, 16, 96, 1, 1, 1, 2, false},
    {"mobilenet_v2", 1, 112, 96, 96, 3, 2, 96, 2, false},
    {"mobilenet_v2", 1, 56, 96, 24, 1, 1, 1, 0, false},
    {"mobilenet_v2", 2, 56, 24, 144, 1, 1, 1, 2, false},
    {"mobilenet_v2", 1, 56, 144, 144, 3, 1, 144, 2, false},
    {"mobilenet_v2", 1, 56, 144, 24, 1, 1, 1, 0, true},
    {"mobilenet_v2", 1, 56, 144, 144, 3, 2, 144, 2, false},
    {"mobilenet_v2", 1, 28, 144, 32, 1, 1, 1, 0, false},
    {"mobilenet_v2", 3, 28, 32, 192, 1, 1, 1, 2, false},
    {"mobilenet_v2", 2, 28, 192, 192, 3, 1, 192, 2, false},
    {"mobilenet_v2", 2, 28, 192, 32, 1, 1, 1, 0, true},
    {"mobilenet_v2", 1, 28, 192, 192, 3, 2, 192, 2, false},
    {"mobilenet_v2", 1, 14, 192, 64, 1, 1, 1, 0, false},
    {"mobilenet_v2", 4, 14, 64, 384, 1, 1, 1, 2, false},
    {"mobilenet_v2", 4, 14, 384, 384, 3, 1, 384, 2, false},
    {"mobilenet_v2", 3, 14, 384, 64, 1, 1, 1, 0, true},
    {"mobilenet_v2", 1, 14, 384, 96, 1, 1, 1, 0, false},
    {"mobilenet_v2", 3, 14, 96, 576, 1, 1, 1, 2, false},
    {"mobilenet_v2", 2, 14, 576, 576, 3, 1, 576, 2, false},
    {"mobilenet_v2", 2, 14, 576, 96, 1, 1, 1, 0, true},
    {"mobilenet_v2", 1, 14, 576, 576, 3, 2, 576, 2, false},
    {"mobilenet_v2", 1, 7, 576, 160, 1, 1, 1, 0, false},
    {"mobilenet_v2", 3, 7, 160, 960, 1, 1, 1, 2, false},
    {"mobilenet_v2", 3, 7, 960, 960, 3, 1, 960, 2, false},
    {"mobilenet_v2", 2, 7, 960, 160, 1, 1, 1, 0, true},
    {"mobilenet_v2", 1, 7, 960, 320, 1, 1, 1, 0, false},
    {"mobilenet_v2", 1, 7, 320, 1280, 1, 1, 1, 2, false},
    {"mobilenet_v2", 1, 1, 1280, 1000, 1, 1, 1, 0, false},
    // ResNet-50 v1.5 (stride in the 3x3)
    {"resnet50", 1, 224, 3, 64, 7, 2, 1, 1, false},
    {"resnet50", 1, 56, 64, 64, 1, 1, 1, 1, false},
    {"resnet50", 3, 56, 64, 64, 3, 1, 1, 1, false},
    {"resnet50", 4, 56, 64, 256, 1, 1, 1, 1, true},
    {"resnet50", 2, 56, 256, 64, 1, 1, 1, 1, false},
    {"resnet50", 1, 56, 256, 128, 1, 1, 1, 1, false},
    {"resnet50", 1, 56, 128, 128, 3, 2, 1, 1, false},
    {"resnet50", 4, 28, 128, 512, 1, 1, 1, 1, true},
    {"resnet50", 1, 56, 256, 512, 1, 2, 1, 0, false},
    {"resnet50", 3, 28, 512, 128, 1, 1, 1, 1, false},
    {"resnet50", 3, 28, 128, 128, 3, 1, 1, 1, false},
    {"resnet50", 1, 28, 512, 256, 1, 1, 1, 1, false},
    {"resnet50", 1, 28, 256, 256, 3, 2, 1, 1, false},
    {"resnet50", 6, 14, 256, 1024, 1, 1, 1, 1, true},
    {"resnet50", 1, 28, 512, 1024, 1, 2, 1, 0, false},
    {"resnet50", 5, 14, 1024, 256, 1, 1, 1, 1, false},
    {"resnet50", 5, 14, 256, 256, 3, 1, 1, 1, false},
    {"resnet50", 1, 14, 1024, 512, 1, 1, 1, 1, false},
    {"resnet50", 1, 14, 512, 512, 3, 2, 1, 1, false},
    {"resnet50", 3, 7, 512, 2048, 1, 1, 1, 1, true},
    {"resnet50", 1, 14, 1024, 2048, 1, 2, 1, 0, false},
    {"resnet50", 2, 7, 2048, 512, 1, 1, 1, 1, false},
    {"resnet50", 2, 7, 512, 512, 3, 1, 1, 1, false},
    {"resnet50", 1, 1, 2048, 1000, 1, 1, 1, 0, false},
};

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

Tensor tensor(int rank, const int64_t* dims) {
  Tensor t;
  t.dtype = DType::f32;
  t.rank = static_cast<uint8_t>(rank);
  for (int i = 0; i < rank; ++i) t.dims[i] = dims[i];
  float* p = static_cast<float*>(mem_alloc(t.bytes()));
  for (int64_t i = 0; i < t.count(); ++i)
    p[i] = static_cast<float>(static_cast<int>((static_cast<uint64_t>(i) * 2654435761u >> 8) % 2001) - 1000) * 1e-3f;
  t.data = p;
  return t;
}

double run(const Layer& l, int threads, double seconds) {
  const OpInfo* info = op_info(static_cast<uint16_t>(Opcode::conv_));
  const OpDef* def = find_op(static_cast<uint16_t>(Opcode::conv_));
  const int pad = l.k / 2, out = (l.h + 2 * pad - l.k) / l.s + 1;
  const int64_t xd[] = {1, l.h, l.h, l.c}, wd[] = {l.o, l.k, l.k, l.c / l.groups}, bd[] = {l.o};
  const int64_t yd[] = {1, out, out, l.o};
  Tensor x = tensor(4, xd), w = tensor(4, wd), b = tensor(1, bd), r = tensor(4, yd), y = tensor(4, yd);
  const Tensor* in[] = {&x, &w, &b, &r};
  Tensor* outs[] = {&y};
  const uint8_t constant[] = {0, 1, 1, 0};
  const void* known[] = {nullptr, w.data, b.data, nullptr};
  AttrValue attrs[16];
  default_attrs(*info, attrs);
  const int64_t strides[] = {l.s, l.s}, pads[] = {pad, pad, pad, pad};
  attrs[attr::conv_::strides].ints = strides;
  attrs[attr::conv_::strides].n = 2;
  attrs[attr::conv_::pads].ints = pads;
  attrs[attr::conv_::pads].n = 4;
  attrs[attr::conv_::groups].i = l.groups;
  attrs[attr::conv_::act].i = l.act;
  attrs[attr::conv_::act_after].i = 1;
  ErrorText error;
  RunEnv env;
  env.error = &error;
  env.threads = threads;
  PackedList packed;
  Bump memory;
  OpState op;
  op.info = info;
  op.attrs = attrs;
  op.env = &env;
  op.known = known;
  op.constant = constant;
  op.packed = &packed;
  op.memory = &memory;
  OpContext c;
  OpAccess::set(c, in, l.residual ? 4 : 3, outs, 1, &op);
  if (!def->infer(c).ok() || !def->prepare(c).ok()) {
    std::printf("%s\n", error.text);
    std::exit(1);
  }
  void* scratch = mem_alloc(op.scratch);
  OpAccess::set_run(c, OpAccess::state(c), scratch);
  op.running = true;
  env.pool = ThreadPool::acquire(threads);
  double best = 1e9;
  int rounds = 0;
  for (const double end = now() + seconds; now() < end || rounds < 5; ++rounds) {
    const double t = now();
    if (!def->run(c).ok()) std::exit(1);
    const double d = now() - t;
    if (d < best) best = d;
  }
  if (env.pool) env.pool->release();
  packed.free(nullptr);
  mem_free(scratch);
  for (Tensor* t : {&x, &w, &b, &r, &y}) mem_free(t->data);
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const char* filter = "";
  int threads = 1;
  double seconds = 0.1;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--threads") && i + 1 < argc)
      threads = std::atoi(argv[++i]);
    else if (!std::strcmp(argv[i], "--seconds") && i + 1 < argc)
      seconds = std::atof(argv[++i]);
    else
      filter = argv[i];
  }
  const double peak = peak_fma() * threads;
  std::printf("# isa %s, %d threads, peak %.0f GF\n", isa_name(best_isa()), threads, peak);
  const char* models[] = {"mobilenet_v2", "resnet50"};
  for (const char* model : models) {
    double total = 0;
    for (const Layer& l : kLayers) {
      if (std::strcmp(l.model, model)) continue;
      char name[80];
      std::snprintf(name, sizeof name, "conv_%d_%d_%d_%d_%d_%d", l.h, l.c, l.o, l.k, l.s, l.groups);
      if (!std::strstr(name, filter) && !std::strstr(model, filter)) continue;
      const double t = run(l, threads, seconds);
      const int out = (l.h + 2 * (l.k / 2) - l.k) / l.s + 1;
      const double flops = 2.0 * out * out * l.o * l.k * l.k * l.c / l.groups;
      std::printf("%-13s %-26s %2d %9.1f us %6.1f GF %5.1f %%\n", model, name, l.times, t * 1e6, flops / t * 1e-9,
                  peak > 0 ? flops / t * 1e-7 / peak : 0.0);
      std::fflush(stdout);
      total += t * l.times;
    }
    std::printf("%-13s total %.3f ms\n", model, total * 1e3);
  }
  return 0;
}
