// libFuzzer target: calls of the C API in any order that its rules allow, with any numbers, on good models.  Four
// models and four sessions live side by side; models may go before their sessions.
//
//   DK_SEEDS=folder of .dk files  fuzz_api -max_len=512
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deploykit/dk.h"

extern "C" uint64_t dk_test_bytes_held(void);
extern "C" void dk_test_fail_at(uint64_t n);

namespace {

constexpr int kSlots = 4, kMaxSeeds = 512;
constexpr size_t kBuffer = 1 << 16;

struct Seed {
  uint8_t* data;
  size_t size;
};
Seed g_seeds[kMaxSeeds];
int g_n;
volatile uint64_t g_sum;

struct Input {
  const uint8_t* at;
  const uint8_t* end;
  uint64_t next(int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; ++i) v = v << 8 | (at < end ? *at++ : 0);
    return v;
  }
  int below(int n) { return static_cast<int>(next(1) % static_cast<uint64_t>(n)); }
};

struct Slot {
  dk_session* session;
  uint8_t* inputs;    // 8 of kBuffer: the data must live until run
  uint8_t* variable;  // aligned, for bind
};
dk_model* g_models[kSlots];
Slot g_slots[kSlots];

size_t item_size(int32_t dtype) {
  static const uint8_t sizes[] = {0, 4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8, 1};
  return dtype > 0 && dtype < 14 ? sizes[dtype] : 0;
}

void read(const dk_tensor* t) {
  if (!t) return;
  uint64_t sum = 0;
  for (size_t i = 0; i < t->bytes; ++i) sum += static_cast<const uint8_t*>(t->data)[i];
  g_sum = g_sum + sum;
}

void set_input(Slot& s, int32_t i, Input& in, bool wild) {
  dk_tensor t = {};
  dk_spec spec;
  if (wild || dk_session_input_spec(s.session, i, &spec)) {
    t.dtype = static_cast<int32_t>(in.next(1)) - 2;
    t.rank = static_cast<int32_t>(in.next(1) % 12) - 1;
    for (int d = 0; d < DK_MAX_RANK; ++d) t.dims[d] = static_cast<int64_t>(in.next(in.below(8) ? 1 : 8)) - 1;
    t.bytes = in.next(2);
  } else {
    t.dtype = spec.dtype ? spec.dtype : DK_FLOAT32;
    t.rank = spec.rank < 0 ? in.below(4) : spec.rank;
    t.bytes = item_size(t.dtype);
    for (int d = 0; d < t.rank; ++d) {
      t.dims[d] = spec.rank >= 0 && spec.dims[d] >= 0 ? spec.dims[d] : in.below(6);
      t.bytes *= static_cast<size_t>(t.dims[d]);
      if (t.bytes > kBuffer) return;
    }
  }
  uint8_t* data = s.inputs + static_cast<size_t>(i & 7) * (kBuffer + 64);
  uint64_t v = in.next(1);
  bool fits = t.bytes <= kBuffer;
  if (fits && v < 250) memset(data, t.dtype == DK_BOOL ? static_cast<int>(v & 1) : static_cast<int>(v & 3), t.bytes);
  t.data = fits && v < 250 ? data : nullptr;
  (void)dk_session_set_input(s.session, i, &t);
}

void bind(Slot& s, Input& in) {
  const dk_tensor* v = dk_session_variable(s.session, in.below(2) ? "v" : "w");
  if (!v) return;
  dk_tensor t = *v;
  if (!in.below(4)) t.dims[0] += 1;
  if (!in.below(4)) t.dtype = in.below(14);
  if (t.bytes > kBuffer) return;
  t.data = s.variable + (in.below(8) ? 0 : 4);
  (void)dk_session_bind_variable(s.session, in.below(2) ? "v" : "w", &t);
}

void free_slot(Slot& s) {
  dk_session_free(s.session);
  s.session = nullptr;
}

void step(Input& in) {
  int what = in.below(20), which = in.below(kSlots);
  Slot& s = g_slots[which];
  dk_model*& m = g_models[which];
  if (what == 0) {
    dk_model_free(m);
    m = nullptr;
    const Seed& seed = g_seeds[in.next(2) % static_cast<uint64_t>(g_n)];
    (void)dk_model_from_bytes(seed.data, seed.size, nullptr, &m);
  } else if (what == 1) {
    dk_model_free(m);
    m = nullptr;
  } else if (what == 2) {
    free_slot(s);
    dk_model* of = g_models[in.below(kSlots)];
    if (!of) return;
    dk_session_options o = {};
    o.threads = in.below(16) ? 1 : 2;
    o.max_memory = in.below(4) ? 8 << 20 : in.next(2);
    o.max_steps = in.below(4) ? 2000 : in.next(1);
    o.flags = static_cast<uint32_t>(in.below(8));
    int32_t n = dk_model_signature_count(of);
    o.signature = in.below(2) ? dk_model_signature(of, in.below(n + 1)) : in.below(8) ? nullptr : "none";
    (void)dk_session_new(of, &o, &s.session);
  } else if (what == 3 && in.below(3) == 0) {
    dk_test_fail_at(1 + in.next(1));  // one allocation from here on fails
  } else if (!s.session) {
    return;
  } else {
    int32_t n_in = dk_session_input_count(s.session), n_out = dk_session_output_count(s.session);
    switch (what) {
      case 4: free_slot(s); break;
      case 5:
      case 6:
        for (int32_t i = 0; i < n_in; ++i) set_input(s, i, in, false);
        break;
      case 7: set_input(s, in.below(10) - 1, in, true); break;
      case 8: (void)dk_session_prepare(s.session); break;
      case 9: (void)dk_session_bind_variable(s.session, nullptr, nullptr), bind(s, in); break;
      case 10: dk_session_reset(s.session); break;
      case 11: dk_session_set_time_limit(s.session, in.next(in.below(2) ? 1 : 8)); break;
      case 12: dk_session_cancel(s.session); break;
      case 13: {
        dk_memory memory;
        dk_session_memory(s.session, &memory);
        for (int32_t k = 0; k < dk_session_profile_count(s.session) + 1; ++k) {
          dk_profile_row row;
          (void)dk_session_profile_row(s.session, k - in.below(2), &row);
        }
        if (in.below(2)) dk_session_profile_clear(s.session);
        break;
      }
      case 14: {
        dk_spec spec;
        if (!dk_session_output_spec(s.session, in.below(n_out + 2) - 1, &spec) && spec.name)
          read(dk_session_value(s.session, spec.name));
        (void)dk_session_input_spec(s.session, in.below(n_in + 2) - 1, &spec);
        break;
      }
      case 15: read(dk_session_variable(s.session, in.below(2) ? "v" : "nothing")); break;
      default:
        if (!dk_session_run(s.session))
          for (int32_t k = -1; k <= n_out; ++k) read(dk_session_output(s.session, k));
        g_sum = g_sum + strlen(dk_session_error(s.session));
    }
  }
}

}  // namespace

extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:detect_leaks=1:max_allocation_size_mb=512";
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* folder = getenv("DK_SEEDS");
  DIR* d = folder ? opendir(folder) : nullptr;
  if (!d) {
    fprintf(stderr, "fuzz_api: set DK_SEEDS to a folder of .dk files (python -m tests.support.fuzz_seeds FOLDER)\n");
    exit(2);
  }
  while (dirent* e = readdir(d)) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    FILE* f = strstr(path, ".dk") && g_n < kMaxSeeds ? fopen(path, "rb") : nullptr;
    if (!f) continue;
    void* p = nullptr;
    if (posix_memalign(&p, 64, kBuffer + 64)) exit(2);
    g_seeds[g_n] = {static_cast<uint8_t*>(p), fread(p, 1, kBuffer, f)};
    ++g_n;
    fclose(f);
  }
  closedir(d);
  if (!g_n) exit(2);
  for (Slot& s : g_slots) {
    s.inputs = static_cast<uint8_t*>(calloc(8, kBuffer + 64));
    void* p = nullptr;
    if (!s.inputs || posix_memalign(&p, 64, kBuffer + 128)) exit(2);
    s.variable = static_cast<uint8_t*>(p);
    memset(s.variable, 0, kBuffer + 128);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in = {data, data + size};
  for (int k = 0; k < 64 && in.at < in.end; ++k) step(in);
  dk_test_fail_at(0);
  for (Slot& s : g_slots) free_slot(s);
  for (dk_model*& m : g_models) {
    dk_model_free(m);
    m = nullptr;
  }
  return 0;
}
