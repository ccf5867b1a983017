// Threads that share models, for ThreadSanitizer: each opens sessions of the same models, runs, prepares other shapes,
// reads what may be read, cancels sessions of others, opens and frees models of its own.
//
//   cmake -S runtime -B build/tsan -DDEPLOYKIT_TSAN=ON && cmake --build build/tsan --target stress
//   build/tsan/stress [-t THREADS] [-n ROUNDS] MODEL.dk...
//
// Answers must not depend on who else runs: the outputs of the first round are what every later one must give.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32.h"
#include "deploykit/dk.h"

namespace {

constexpr int kMaxModels = 64, kMaxThreads = 16, kMaxInputs = 8;
constexpr size_t kMaxInput = 1 << 20;

struct Shared {
  const char* path;
  dk_model* model;
  uint32_t want[2];  // of the outputs, by shape variant
  bool known[2];
};

Shared g_models[kMaxModels];
int g_n, g_rounds = 20, g_threads = 4;
dk_session* g_running[kMaxThreads];  // for others to cancel; under g_lock, so that none is freed meanwhile
pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
uint64_t g_runs, g_cancelled, g_wrong;

size_t item_size(int32_t dtype) {
  static const uint8_t sizes[] = {0, 4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8, 1};
  return dtype > 0 && dtype < 14 ? sizes[dtype] : 0;
}

bool set_inputs(dk_session* s, uint8_t* buffer, int variant) {
  int32_t n = dk_session_input_count(s);
  if (n > kMaxInputs) return false;
  for (int32_t i = 0; i < n; ++i) {
    dk_spec spec;
    if (dk_session_input_spec(s, i, &spec) || spec.rank < 0 || !item_size(spec.dtype)) return false;
    dk_tensor t = {};
    t.dtype = spec.dtype;
    t.rank = spec.rank;
    t.bytes = item_size(spec.dtype);
    for (int32_t d = 0; d < spec.rank; ++d) {
      t.dims[d] = spec.dims[d] >= 0 ? spec.dims[d] : 2 + variant;
      t.bytes *= static_cast<size_t>(t.dims[d]);
    }
    if (t.bytes > kMaxInput) return false;
    t.data = buffer + static_cast<size_t>(i) * kMaxInput;
    memset(t.data, 0, t.bytes);
    if (t.dtype == DK_FLOAT32)
      for (size_t k = 0; k < t.bytes / 4; ++k) {
        float v = static_cast<float>(k % 7) * 0.25f;
        memcpy(static_cast<char*>(t.data) + 4 * k, &v, 4);
      }
    if (dk_session_set_input(s, i, &t)) return false;
  }
  return true;
}

uint32_t digest(dk_session* s) {
  uint32_t crc = 0;
  for (int32_t k = 0; k < dk_session_output_count(s); ++k) {
    const dk_tensor* y = dk_session_output(s, k);
    if (y) crc = dk::crc32(crc, y->data, y->bytes);
  }
  return crc;
}

void use(Shared& m, int me, int round, uint8_t* buffer, bool first) {
  dk_session_options o = {};
  o.threads = 1 + (me + round) % 2;
  o.flags = round % 3 ? 0 : DK_PROFILE;
  dk_session* s;
  if (dk_session_new(m.model, &o, &s)) return;
  pthread_mutex_lock(&g_lock);
  g_running[me] = s;
  pthread_mutex_unlock(&g_lock);
  for (int k = 0; k < 4; ++k) {
    int variant = (k + round) % 2;
    if (!set_inputs(s, buffer, variant)) break;
    dk_session_reset(s);
    if (k == 2) (void)dk_session_prepare(s);
    dk_status status = dk_session_run(s);
    if (!status) {
      uint32_t now = digest(s);
      __atomic_fetch_add(&g_runs, 1, __ATOMIC_RELAXED);
      if (first) m.want[variant] = now, m.known[variant] = true;
      if (m.known[variant] && m.want[variant] != now) __atomic_fetch_add(&g_wrong, 1, __ATOMIC_RELAXED);
    } else if (!strcmp(dk_status_name(status), "DK-CANCELLED")) {
      __atomic_fetch_add(&g_cancelled, 1, __ATOMIC_RELAXED);
    }
    dk_memory memory;
    dk_session_memory(s, &memory);
    if (!first && (me + k) % 3 == 0) {  // somebody else's run, or none
      pthread_mutex_lock(&g_lock);
      if (g_running[(me + 1) % g_threads]) dk_session_cancel(g_running[(me + 1) % g_threads]);
      pthread_mutex_unlock(&g_lock);
    }
  }
  for (int32_t k = 0; k < dk_session_profile_count(s); ++k) {
    dk_profile_row row;
    (void)dk_session_profile_row(s, k, &row);
  }
  pthread_mutex_lock(&g_lock);
  g_running[me] = nullptr;
  pthread_mutex_unlock(&g_lock);
  dk_session_free(s);
}

void* work(void* arg) {
  int me = static_cast<int>(reinterpret_cast<intptr_t>(arg));
  uint8_t* buffer = static_cast<uint8_t*>(malloc(kMaxInputs * kMaxInput + 64));
  for (int round = 0; round < g_rounds; ++round)
    for (int i = 0; i < g_n; ++i) {
      Shared& m = g_models[(i + me) % g_n];
      use(m, me, round, buffer, false);
      if ((round + i) % 5 == me % 5) {  // a model of one's own, freed before its session
        Shared own = m;
        if (dk_model_open(m.path, nullptr, &own.model)) continue;
        dk_session* s;
        dk_session_options o = {};
        dk_status status = dk_session_new(own.model, &o, &s);
        dk_model_free(own.model);
        if (!status) {
          if (set_inputs(s, buffer, 0)) (void)dk_session_run(s);
          dk_session_free(s);
        }
      }
    }
  free(buffer);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    bool option = argv[i][0] == '-' && i + 1 < argc;
    if (option && argv[i][1] == 't') {
      g_threads = atoi(argv[++i]);
    } else if (option && argv[i][1] == 'n') {
      g_rounds = atoi(argv[++i]);
    } else if (g_n < kMaxModels) {
      Shared& m = g_models[g_n];
      m.path = argv[i];
      if (dk_model_open(argv[i], nullptr, &m.model)) {
        fprintf(stderr, "%s: %s\n", argv[i], dk_last_error());
        return 2;
      }
      ++g_n;
    }
  }
  if (!g_n || g_threads < 1 || g_threads > kMaxThreads) {
    fprintf(stderr, "usage: stress [-t THREADS up to 16] [-n ROUNDS] MODEL.dk...\n");
    return 2;
  }
  uint8_t* buffer = static_cast<uint8_t*>(malloc(kMaxInputs * kMaxInput + 64));
  for (int i = 0; i < g_n; ++i) use(g_models[i], 0, 0, buffer, true);
  free(buffer);
  pthread_t threads[kMaxThreads];
  for (int k = 0; k < g_threads; ++k)
    if (pthread_create(&threads[k], nullptr, work, reinterpret_cast<void*>(static_cast<intptr_t>(k)))) return 2;
  for (int k = 0; k < g_threads; ++k) pthread_join(threads[k], nullptr);
  for (int i = 0; i < g_n; ++i) dk_model_free(g_models[i].model);
  printf("%llu runs, %llu cancelled, %llu wrong\n", static_cast<unsigned long long>(g_runs),
         static_cast<unsigned long long>(g_cancelled), static_cast<unsigned long long>(g_wrong));
  return g_wrong != 0;
}
