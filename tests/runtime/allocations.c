/* Runs models and counts, during their later runs, every call for memory of the whole process: engine, C library, threads.
 *
 *   allocations THREADS STEM...     reads STEM.dk and STEM.in; prints "STEM first later" or "STEM error TEXT"
 *
 * STEM.in: int32 number of inputs, then per input int32 dtype, int32 rank, int64 dims[rank], int64 bytes, the bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deploykit/dk.h"

static long calls;
static void count(void) { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); }

/* These stand before the C library's own for every library of the process. */
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) { return count(), __libc_malloc(n); }
void* calloc(size_t n, size_t size) { return count(), __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { return count(), __libc_realloc(p, n); }
void* memalign(size_t align, size_t n) { return count(), __libc_memalign(align, n); }
void* aligned_alloc(size_t align, size_t n) { return count(), __libc_memalign(align, n); }
int posix_memalign(void** p, size_t align, size_t n) {
  count();
  *p = __libc_memalign(align, n);
  return *p ? 0 : ENOMEM;
}
void* mmap(void* at, size_t n, int prot, int flags, int fd, off_t offset) {
  count();
  return (void*)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}

static void get(FILE* f, void* to, size_t n) {
  if (n && fread(to, 1, n, f) != n) exit(2);
}

static dk_status fail(const char* stem, const char* text) {
  printf("%s error %s\n", stem, text);
  return 1;
}

static dk_status measure(const char* stem, int threads) {
  char path[4096];
  dk_model* model = NULL;
  dk_session* s = NULL;
  snprintf(path, sizeof path, "%s.dk", stem);
  dk_session_options options = {.threads = threads};
  if (dk_model_open(path, NULL, &model) || dk_session_new(model, &options, &s)) return fail(stem, dk_last_error());
  snprintf(path, sizeof path, "%s.in", stem);
  FILE* f = fopen(path, "rb");
  int32_t n;
  if (!f) exit(2);
  get(f, &n, sizeof n);
  void* held[64];
  for (int32_t i = 0; i < n; ++i) {
    dk_tensor t = {0};
    int64_t bytes;
    get(f, &t.dtype, 4), get(f, &t.rank, 4);
    get(f, t.dims, 8 * (size_t)t.rank), get(f, &bytes, 8);
    t.bytes = (size_t)bytes;
    t.data = held[i] = memalign(64, t.bytes + 64);
    get(f, t.data, t.bytes);
    if (dk_session_set_input(s, i, &t)) return fail(stem, dk_session_error(s));
  }
  fclose(f);
  long before = __atomic_load_n(&calls, __ATOMIC_RELAXED), first, later;
  for (int i = 0; i < 2; ++i)
    if (dk_session_run(s)) return fail(stem, dk_session_error(s));
  first = __atomic_load_n(&calls, __ATOMIC_RELAXED) - before;
  before += first;
  for (int i = 0; i < 4; ++i)
    if (dk_session_run(s)) return fail(stem, dk_session_error(s));
  later = __atomic_load_n(&calls, __ATOMIC_RELAXED) - before;
  printf("%s %ld %ld\n", stem, first, later);
  dk_session_free(s);
  dk_model_free(model);
  for (int32_t i = 0; i < n; ++i) free(held[i]);
  return 0;
}

int main(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) measure(argv[i], atoi(argv[1]));
  return 0;
}
