// Mutates .dk files and does with each what a program does: verify, load, run at two sets of shapes, read everything.
// Nothing may crash, hang or eat memory, whatever the bytes.
//
//   fuzz_dk [-n CASES] [-s SEED] [-c CASE] [-r RUNS] [-o FILE] SEED_FILE.dk...
//
// Case k of a seed is the same on every machine: when one fails, `-c k` repeats it alone and `-o FILE` writes its
// bytes. Most mutated files get their checksums mended, else nothing behind the checksums would ever be reached.  Build
// with -DDEPLOYKIT_SANITIZE=ON.  With clang and -DDEPLOYKIT_LIBFUZZER=ON it is a libFuzzer target.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32.h"
#include "deploykit/dk.h"
#include "format/flat.h"

namespace {

constexpr size_t kMaxFile = 1 << 20, kMaxInput = 1 << 16;
constexpr uint64_t kMaxMemory = 8 << 20, kMaxSteps = 2000;

uint64_t g_state, g_case;
int g_rounds = 3;    // runs of each session; 0: load only
size_t g_share = 1;  // every how manieth good file is run

uint64_t draw() {  // splitmix64
  uint64_t z = (g_state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
size_t below(size_t n) { return n ? static_cast<size_t>(draw() % n) : 0; }

struct Bytes {
  uint8_t* data;
  size_t size;
};

// ---- mutation
enum { kHeaderSize = 1, kHeaderCrc, kWeightsOffset, kWeightsSize, kCrcChunk, kWeightsCrcs };

dk::FlatTable root_of(Bytes b, dk::FlatBuffer* fb) {
  *fb = dk::FlatBuffer();
  fb->bytes = b.data;
  fb->size = static_cast<uint32_t>(b.size);
  return b.size < 8 ? dk::FlatTable() : dk::FlatTable::read(*fb, dk::load_le<uint32_t>(b.data));
}

// Makes the checksums right again, as far as the file still has fields to hold them.
void mend(Bytes b) {
  dk::FlatBuffer fb;
  dk::FlatTable root = root_of(b, &fb);
  if (!root) return;
  uint64_t header = root.scalar<uint64_t>(kHeaderSize, 0), offset = root.scalar<uint64_t>(kWeightsOffset, 0);
  uint64_t weights = root.scalar<uint64_t>(kWeightsSize, 0), chunk = root.scalar<uint64_t>(kCrcChunk, 0);
  dk::FlatVector crcs = root.vector(kWeightsCrcs, 4);
  if (!fb.bad && chunk && offset <= b.size && weights <= b.size - offset)
    for (uint64_t i = 0; i < crcs.n && i * chunk < weights; ++i) {
      uint64_t n = weights - i * chunk < chunk ? weights - i * chunk : chunk;
      uint32_t crc = dk::crc32(0, b.data + offset + i * chunk, n);
      memcpy(b.data + crcs.at + 4 * i, &crc, 4);
    }
  uint32_t at = root.field(kHeaderCrc, 4);
  if (!at || header > b.size || header < at + 4) return;
  memset(b.data + at, 0, 4);
  uint32_t crc = dk::crc32(0, b.data, header);
  memcpy(b.data + at, &crc, 4);
}

size_t header_of(Bytes b) {
  dk::FlatBuffer fb;
  dk::FlatTable root = root_of(b, &fb);
  uint64_t header = root ? root.scalar<uint64_t>(kHeaderSize, 0) : 0;
  return header && header <= b.size ? static_cast<size_t>(header) : b.size;
}

// A number that is near something: limits, small counts, powers of two.
uint64_t odd_number() {
  static const int64_t some[] = {0, 1, 2, 3, 4, 7, 8, 9, 16, 64, 127, 128, 255, 256, 4096, 65535, 65536};
  switch (below(6)) {
    case 0: return static_cast<uint64_t>(-some[below(17)]);
    case 1: return 0x7fffffff - below(3);
    case 2: return uint64_t{1} << below(64);
    case 3: return UINT64_MAX / 2 - below(3);
    case 4: return draw();
    default: return static_cast<uint64_t>(some[below(17)]);
  }
}

// `b` has room for kMaxFile bytes.
void mutate(Bytes* b, Bytes other) {
  size_t header = header_of(*b), times = 1 + below(below(4) ? 3 : 12);
  for (size_t k = 0; k < times && b->size > 8; ++k) {
    size_t range = below(10) ? header : b->size;
    if (range > b->size || range == 0) range = b->size;
    size_t at = below(range);
    switch (below(12)) {
      case 0:
      case 1: b->data[at] ^= static_cast<uint8_t>(1 << below(8)); break;
      case 2: b->data[at] = static_cast<uint8_t>(odd_number()); break;
      case 3:
      case 4:
      case 5:
      case 6: {  // a number of 1, 2, 4 or 8 bytes where such a number may stand
        size_t width = size_t{1} << below(4);
        at &= ~(width - 1);
        uint64_t v = odd_number();
        if (below(2) && at + width <= b->size) {  // a little more or less than what stood there
          memcpy(&v, b->data + at, width);
          v += below(2) ? 1 + below(8) : -(1 + below(8));
        }
        if (at + width <= b->size) memcpy(b->data + at, &v, width);
        break;
      }
      case 7: {  // one place over another: swaps tables, vectors, dims
        size_t n = 4 << below(4), from = below(range) & ~size_t{3};
        at &= ~size_t{3};
        if (at + n <= b->size && from + n <= b->size) memmove(b->data + at, b->data + from, n);
        break;
      }
      case 8: {  // a piece of another file
        size_t n = 1 + below(64), from = below(other.size);
        if (at + n <= b->size && from + n <= other.size) memcpy(b->data + at, other.data + from, n);
        break;
      }
      case 9:
        if (!below(8)) b->size = 1 + below(b->size);
        break;
      case 10: {  // bytes out of the middle, or more of them
        size_t n = 4 * (1 + below(8));
        if (below(16)) break;
        if (below(2) && at + n < b->size) {
          memmove(b->data + at, b->data + at + n, b->size - at - n);
          b->size -= n;
        } else if (b->size + n <= kMaxFile) {
          memmove(b->data + at + n, b->data + at, b->size - at);
          b->size += n;
        }
        break;
      }
      default: memset(b->data + at, static_cast<int>(below(2) ? 0 : 255), below(16) % (b->size - at)); break;
    }
  }
#ifndef DK_LIBFUZZER  // which mends what it tries
  if (below(8)) mend(*b);
#endif
}

// ---- use
volatile uint64_t g_sum;
uint64_t g_cases, g_loaded, g_runs;  // tried; that pass the verifier; runs that succeeded

void read_tensor(const dk_tensor* t) {
  if (!t) return;
  uint64_t sum = 0;
  for (size_t i = 0; i < t->bytes; ++i) sum += static_cast<const uint8_t*>(t->data)[i];
  g_sum = g_sum + sum;
}

size_t item_size(int32_t dtype) {
  static const uint8_t sizes[] = {0, 4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8, 1};
  return dtype < 0 || dtype > 23 ? 0 : dtype < 14 ? sizes[dtype] : 1;
}

bool set_inputs(dk_session* s, uint8_t* buffer) {
  int32_t n = dk_session_input_count(s);
  if (n > 64) return false;
  for (int32_t i = 0; i < n; ++i) {
    dk_spec spec;
    if (dk_session_input_spec(s, i, &spec)) return false;
    dk_tensor t = {};
    t.dtype = spec.dtype ? spec.dtype : DK_FLOAT32;
    t.rank = spec.rank < 0 ? static_cast<int32_t>(below(4)) : spec.rank;
    size_t bytes = item_size(t.dtype);
    static const int64_t sizes[] = {1, 2, 3, 1, 2, 0, 5, 8};
    for (int32_t d = 0; d < t.rank; ++d) {
      t.dims[d] = spec.rank >= 0 && spec.dims[d] >= 0
                      ? spec.dims[d]
                      : sizes[static_cast<size_t>(-spec.dims[d] + static_cast<int64_t>(g_case)) % 8];
      if (t.dims[d] && bytes > kMaxInput / static_cast<size_t>(t.dims[d])) return false;
      bytes *= static_cast<size_t>(t.dims[d]);
    }
    t.bytes = bytes;
    uint8_t* data = buffer + static_cast<size_t>(i) * kMaxInput;
    t.data = data;
    size_t width = item_size(t.dtype);
    int mode = static_cast<int>(below(4));
    for (size_t k = 0; width && k < bytes / width; ++k) {
      uint64_t v = mode == 0 ? draw() : below(5) - (mode == 1 ? 2 : 0);
      if (t.dtype == DK_BOOL) v &= 1;
      if (mode && t.dtype == DK_FLOAT32) {
        float f = static_cast<float>(static_cast<int64_t>(v)) * 0.5f;
        memcpy(&v, &f, 4);
      }
      memcpy(data + k * width, &v, width);
    }
    if (dk_session_set_input(s, i, &t)) return false;
  }
  return true;
}

void use(const uint8_t* data, size_t size, uint8_t* buffer) {
  dk_model* model;
  ++g_cases;
  if (dk_model_from_bytes(data, size, nullptr, &model)) {
    g_sum = g_sum + strlen(dk_last_error());
    if (getenv("FUZZ_SAY"))
      fprintf(stderr, "case %llu: %s\n", static_cast<unsigned long long>(g_case), dk_last_error());
    return;
  }
  ++g_loaded;
  const bool run = g_rounds && (g_share == 1 || below(g_share) == 0);
  for (int32_t i = 0; i < dk_model_metadata_count(model); ++i)
    g_sum = g_sum + strlen(dk_model_metadata_key(model, i)) + strlen(dk_model_metadata_value(model, i));
  for (int32_t i = 0; run && i < dk_model_signature_count(model) && i < 3; ++i) {
    dk_session_options o = {};
    o.threads = 1 + static_cast<int32_t>(below(16) == 0);
    o.signature = dk_model_signature(model, i);
    o.max_memory = kMaxMemory;
    o.max_steps = kMaxSteps;
    o.flags = below(4) ? 0 : DK_KEEP_VALUES | DK_PROFILE;
    dk_session* s;
    if (dk_session_new(model, &o, &s)) continue;
    for (int round = 0; round < g_rounds; ++round) {
      if (round == 2) ++g_case;  // other sizes of symbolic dims
      if (!set_inputs(s, buffer)) continue;
      if (round == 2) --g_case;
      if (dk_session_run(s)) {
        g_sum = g_sum + strlen(dk_session_error(s));
        if (getenv("FUZZ_SAY"))
          fprintf(stderr, "case %llu: %s\n", static_cast<unsigned long long>(g_case), dk_session_error(s));
        continue;
      }
      ++g_runs;
      for (int32_t k = 0; k < dk_session_output_count(s); ++k) {
        dk_spec spec;
        (void)dk_session_output_spec(s, k, &spec);
        read_tensor(dk_session_output(s, k));
      }
    }
    for (int32_t k = 0; k < dk_session_profile_count(s); ++k) {
      dk_profile_row row;
      (void)dk_session_profile_row(s, k, &row);
    }
    for (int32_t k = 0; k < dk_session_plan_count(s); ++k) {
      dk_plan_row row;
      if (!dk_session_plan_row(s, k, &row)) g_sum = g_sum + strlen(row.name);
    }
    dk_memory m;
    dk_session_memory(s, &m);
    dk_session_reset(s);
    dk_session_free(s);
  }
  dk_model_free(model);
}

}  // namespace

extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:detect_leaks=1:max_allocation_size_mb=512";
}

#ifdef DK_LIBFUZZER
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

// Our mutations, which know where numbers stand and mend the checksums, into what libFuzzer gave.
size_t mutated(uint8_t* data, size_t size, size_t max_size, Bytes other) {
  static uint8_t* work = static_cast<uint8_t*>(malloc(kMaxFile));
  Bytes b = {work, size < kMaxFile ? size : kMaxFile};
  memcpy(work, data, b.size);
  mutate(&b, other);
  if (b.size > max_size) b.size = max_size;
  memcpy(data, work, b.size);
  return b.size;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  g_state = seed;
  if (!below(4)) return LLVMFuzzerMutate(data, size, max_size);
  return mutated(data, size, max_size, {data, size});
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* a, size_t a_size, const uint8_t* b, size_t b_size,
                                            uint8_t* out, size_t max_size, unsigned seed) {
  g_state = seed;
  size_t n = a_size < max_size ? a_size : max_size;
  memcpy(out, a, n);
  return mutated(out, n, max_size, {const_cast<uint8_t*>(b), b_size});
}

namespace {

uint64_t g_slow, g_slowest;  // cases of more than a second of CPU time; nanoseconds of the slowest

void say_counts() {
  fprintf(stderr, "%llu cases, %llu pass the verifier, %llu runs, %llu over 1 s, the slowest %llu ms of CPU time\n",
          static_cast<unsigned long long>(g_cases), static_cast<unsigned long long>(g_loaded),
          static_cast<unsigned long long>(g_runs), static_cast<unsigned long long>(g_slow),
          static_cast<unsigned long long>(g_slowest / 1000000));
}

uint64_t cpu_ns() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000 + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  if (const char* runs = getenv("DK_FUZZ_RUNS")) g_rounds = atoi(runs);
  if (const char* share = getenv("DK_FUZZ_SHARE")) g_share = strtoull(share, nullptr, 10);
  return atexit(say_counts);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static uint8_t* buffer = static_cast<uint8_t*>(malloc(64 * kMaxInput + 64));
  if (size > kMaxFile) return 0;
  uint8_t* exact = static_cast<uint8_t*>(malloc(size ? size : 1));  // so that reads behind its end are seen
  if (size) memcpy(exact, data, size);
  g_state = size;  // the same inputs and shapes whenever the file is tried
  for (size_t i = 0; i + 8 <= size; i += 8) g_state = (g_state ^ dk::load_le<uint64_t>(exact + i)) * 0x100000001b3;
  g_case = draw() >> 32;
  if (below(16)) mend({exact, size});
  const uint64_t began = cpu_ns();
  use(exact, size, buffer);
  const uint64_t took = cpu_ns() - began;
  free(exact);
  if (took > g_slowest) g_slowest = took;
  if (took > 1000000000) {
    char name[64];
    snprintf(name, sizeof name, "slow-%llu.dk", static_cast<unsigned long long>(g_slow++));
    if (FILE* f = fopen(name, "wb")) fwrite(data, 1, size, f), fclose(f);
  }
  if (g_cases % 1000000 == 0) say_counts();
  return 0;
}
#else

namespace {

const char* g_out = "";
Bytes g_now;

void say_case() {
  char text[64];
  int n = snprintf(text, sizeof text, "\ncase %llu\n", static_cast<unsigned long long>(g_case));
  if (write(2, text, static_cast<size_t>(n)) < 0) return;
}

void too_slow(int) {
  say_case();
  const char text[] = "ran longer than 20 s\n";
  if (write(2, text, sizeof text - 1) < 0) _exit(4);
  abort();
}

Bytes read_file(const char* path) {
  FILE* f = fopen(path, "rb");
  Bytes b = {static_cast<uint8_t*>(malloc(kMaxFile)), 0};
  if (f) b.size = fread(b.data, 1, kMaxFile, f), fclose(f);
  return b;
}

}  // namespace

extern "C" void __sanitizer_set_death_callback(void (*)(void)) __attribute__((weak));

int main(int argc, char** argv) {
  uint64_t cases = 1000, seed = 1, only = UINT64_MAX;
  Bytes* seeds = static_cast<Bytes*>(calloc(static_cast<size_t>(argc), sizeof(Bytes)));
  size_t n_seeds = 0;
  for (int i = 1; i < argc; ++i) {
    bool option = argv[i][0] == '-' && i + 1 < argc;
    if (option && argv[i][1] == 'n') {
      cases = strtoull(argv[++i], nullptr, 10);
    } else if (option && argv[i][1] == 's') {
      seed = strtoull(argv[++i], nullptr, 10);
    } else if (option && argv[i][1] == 'c') {
      only = strtoull(argv[++i], nullptr, 10);
    } else if (option && argv[i][1] == 'r') {
      g_rounds = atoi(argv[++i]);
    } else if (option && argv[i][1] == 'o') {
      g_out = argv[++i];
    } else {
      seeds[n_seeds] = read_file(argv[i]);
      n_seeds += seeds[n_seeds].size > 0;
    }
  }
  if (!n_seeds) {
    fprintf(stderr, "usage: fuzz_dk [-n CASES] [-s SEED] [-c CASE] [-r RUNS] [-o FILE] SEED_FILE.dk...\n");
    return 2;
  }
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(say_case);
  signal(SIGALRM, too_slow);
  uint8_t* buffer = static_cast<uint8_t*>(malloc(64 * kMaxInput + 64));
  uint8_t* work = static_cast<uint8_t*>(malloc(kMaxFile));
  for (uint64_t k = only == UINT64_MAX ? 0 : only; k < cases || k == only; ++k) {
    g_case = k;
    g_state = seed * 0x100000001b3 + k;
    Bytes from = seeds[k < n_seeds ? k : below(n_seeds)];
    g_now = {work, from.size};
    memcpy(work, from.data, from.size);
    if (k >= n_seeds) mutate(&g_now, seeds[below(n_seeds)]);  // the first cases are the seeds themselves
    if (*g_out) {
      FILE* f = fopen(g_out, "wb");
      if (f) fwrite(work, 1, g_now.size, f), fclose(f);
    }
    // a buffer of the exact size, so that reads behind its end are seen
    uint8_t* exact = static_cast<uint8_t*>(malloc(g_now.size ? g_now.size : 1));
    memcpy(exact, work, g_now.size);
    alarm(20);
    (void)dk_verify(exact, g_now.size);
    use(exact, g_now.size, buffer);
    alarm(0);
    free(exact);
    if (k == only) break;
    if (k % 10000 == 9999)
      fprintf(stderr, "%llu cases, %llu pass the verifier, %llu runs\n", static_cast<unsigned long long>(k + 1),
              static_cast<unsigned long long>(g_loaded), static_cast<unsigned long long>(g_runs));
  }
  printf("%llu cases, %llu pass the verifier, %llu runs, no crash\n", static_cast<unsigned long long>(cases),
         static_cast<unsigned long long>(g_loaded), static_cast<unsigned long long>(g_runs));
  for (size_t i = 0; i < n_seeds; ++i) free(seeds[i].data);
  free(seeds);
  free(buffer);
  free(work);
  return 0;
}
#endif
