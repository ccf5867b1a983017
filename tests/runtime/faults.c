/* Runs models while one call of the system fails: every n-th call for memory, and each way in which reading a file can go
 * wrong.  Whatever fails, the result must be an error of the right kind, or the same bytes as without; nothing may leak.
 *
 *   faults THREADS STEM...     reads STEM.dk and STEM.in (see allocations.c); prints "STEM memory=N io=N", or what is wrong
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deploykit/dk.h"

uint64_t dk_test_bytes_held(void);

/* ---- what fails: the n-th call from now, 0 for none */
static long fail_memory;
static int fail_open, fail_fstat, fail_mmap, read_mode; /* read_mode: 1 error, 2 short, 3 interrupted, 4 file shrank */
static int reads;

static int now(void) { return fail_memory && __atomic_sub_fetch(&fail_memory, 1, __ATOMIC_RELAXED) == 0; }

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) { return now() ? NULL : __libc_malloc(n); }
void* calloc(size_t n, size_t size) { return now() ? NULL : __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { return now() ? NULL : __libc_realloc(p, n); }
void* memalign(size_t align, size_t n) { return now() ? NULL : __libc_memalign(align, n); }
void* aligned_alloc(size_t align, size_t n) { return now() ? NULL : __libc_memalign(align, n); }
int posix_memalign(void** p, size_t align, size_t n) {
  *p = now() ? NULL : __libc_memalign(align, n);
  return *p ? 0 : ENOMEM;
}
void* mmap(void* at, size_t n, int prot, int flags, int fd, off_t offset) {
  if (now() || (fail_mmap && (fd >= 0 || fail_mmap == 2))) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return (void*)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}
int open(const char* path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  int mode = flags & O_CREAT ? va_arg(args, int) : 0;
  va_end(args);
  if (fail_open) return errno = EMFILE, -1;
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int fstat(int fd, struct stat* to) {
  if (fail_fstat) return errno = EIO, -1;
  return (int)syscall(SYS_newfstatat, fd, "", to, AT_EMPTY_PATH);
}
ssize_t read(int fd, void* to, size_t n) {
  ++reads;
  if (read_mode == 1 && reads == 2) return errno = EIO, -1;
  if (read_mode == 3 && reads % 2) return errno = EINTR, -1;
  if (read_mode == 4 && reads == 2) return 0;
  if (read_mode && n > 97) n = 97;
  return syscall(SYS_read, fd, to, n);
}

/* ---- one pass over a model */
typedef struct {
  dk_tensor inputs[16];
  int n_inputs;
  unsigned char* answer;
  size_t bytes;
} Case;

static int threads;

/* DK_OK or the first error; the outputs' bytes must be those of the first pass. */
static dk_status pass(const char* path, Case* c, int first) {
  dk_model* model = NULL;
  dk_session* s = NULL;
  dk_session_options o = {0};
  o.threads = threads;
  dk_status status = dk_model_open(path, NULL, &model);
  if (!status) status = dk_session_new(model, &o, &s);
  for (int i = 0; !status && i < c->n_inputs; ++i) status = dk_session_set_input(s, i, &c->inputs[i]);
  for (int round = 0; !status && round < 2; ++round) status = dk_session_run(s);
  size_t at = 0;
  for (int k = 0; !status && k < dk_session_output_count(s); ++k) {
    const dk_tensor* y = dk_session_output(s, k);
    if (first) {
      c->answer = __libc_realloc(c->answer, c->bytes + y->bytes + 1);
      memcpy(c->answer + c->bytes, y->data, y->bytes);
      c->bytes += y->bytes;
    } else if (at + y->bytes > c->bytes || memcmp(c->answer + at, y->data, y->bytes)) {
      status = -1;
    }
    at += y->bytes;
  }
  dk_session_free(s);
  dk_model_free(model);
  return status;
}

static void get(FILE* f, void* to, size_t n) {
  if (n && fread(to, 1, n, f) != n) exit(2);
}

static void load(const char* stem, Case* c) {
  char path[4096];
  snprintf(path, sizeof path, "%s.in", stem);
  FILE* f = fopen(path, "rb");
  if (!f) exit(2);
  int32_t n;
  get(f, &n, sizeof n);
  c->n_inputs = n;
  for (int i = 0; i < n; ++i) {
    dk_tensor* t = &c->inputs[i];
    get(f, &t->dtype, 4);
    get(f, &t->rank, 4);
    get(f, t->dims, 8 * (size_t)t->rank);
    int64_t bytes;
    get(f, &bytes, 8);
    t->bytes = (size_t)bytes;
    t->data = __libc_memalign(64, t->bytes + 64);
    get(f, t->data, t->bytes);
  }
  fclose(f);
}

static int wrong(const char* stem, const char* what, long n, dk_status status) {
  printf("%s wrong: %s %ld ended with %s (%s)\n", stem, what, n, status == -1 ? "other bytes" : dk_status_name(status),
         dk_last_error());
  return 1;
}

static int try_model(const char* stem) {
  Case c = {0};
  char path[4096];
  load(stem, &c);
  snprintf(path, sizeof path, "%s.dk", stem);
  dk_status status = pass(path, &c, 1);
  if (status) return wrong(stem, "no fault", 0, status);
  pass(path, &c, 0); /* the pool of threads is there from now on */
  uint64_t held = dk_test_bytes_held();
  long n = 0;
  for (;; ++n) {
    fail_memory = n + 1;
    status = pass(path, &c, 0);
    long left = fail_memory;
    fail_memory = 0;
    if (status && strcmp(dk_status_name(status), "DK-MEMORY")) return wrong(stem, "allocation", n + 1, status);
    if (dk_test_bytes_held() != held) return wrong(stem, "leak after allocation", n + 1, status);
    if (left > 0) break; /* fewer calls than that */
  }
  int io = 0;
  for (int mmaps = 0; mmaps < 3; ++mmaps) /* 1: the file cannot be mapped, so it is read; 2: nothing can */
    for (int mode = 0; mode < 7; ++mode) {
      fail_mmap = mmaps;
      read_mode = mode < 5 ? mode : 0;
      fail_open = mode == 5;
      fail_fstat = mode == 6;
      reads = 0;
      status = pass(path, &c, 0);
      fail_mmap = read_mode = fail_open = fail_fstat = 0;
      int must = mode >= 5 || (mmaps && (mode == 1 || mode == 4));
      const char* name = dk_status_name(status);
      int fine = must ? !strcmp(name, "DK-IO") : !status || (mmaps == 2 && !strcmp(name, "DK-MEMORY"));
      if (!fine || dk_test_bytes_held() != held) return wrong(stem, "i/o fault", 10 * mmaps + mode, status);
      ++io;
    }
  printf("%s memory=%ld io=%d\n", stem, n, io);
  return 0;
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  threads = atoi(argv[1]);
  int bad = 0;
  for (int i = 2; i < argc; ++i) bad |= try_model(argv[i]);
  return bad;
}
