/* Answers requests on stdin with the engine's results on stdout, through the public C API alone, so that a process for
 * another CPU (an emulated one) can be driven by the Python tests: tests/support/arm.py writes and reads the other end.
 *
 * All numbers are little-endian int64 unless said.  Strings and data: size, then the bytes.
 *
 *   request 1, open:   threads, data of a .dk file; takes the place of the one opened before
 *           4, run:    how many times, number of inputs, tensors; answered after the last
 *           2, op:     opcode, threads, number of outputs wanted, attrs, tensors;  an attr is id, i, f (double),
 *                      number and list of ints, number and list of floats, string
 *           3, about
 *   a tensor:          dtype, rank, dims, data;  dtype 0: an input left out (nothing follows)
 *   answer:            status; when not 0 its name and the message, else for 2 and 4 number of outputs, tensors;
 *                      for 3: isa, features
 *
 * Inputs lie against a page that may not be touched: reading behind them is a crash. */
#include <deploykit/dk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_INPUTS = 64 };

static void need(int ok, const char* what) {
  if (ok) return;
  fprintf(stderr, "serve: %s\n", what);
  exit(2);
}
static void get(void* to, size_t n) { need(n == 0 || fread(to, 1, n, stdin) == n, "the request ends early"); }
static void put(const void* from, size_t n) {
  need(n == 0 || fwrite(from, 1, n, stdout) == n, "the answer is not read");
}
static int64_t get_int(void) {
  int64_t v;
  get(&v, 8);
  return v;
}
static void put_int(int64_t v) { put(&v, 8); }
static void put_text(const char* s) {
  put_int((int64_t)strlen(s));
  put(s, strlen(s));
}

/* Memory that ends where a page without access begins. */
typedef struct {
  void* base;
  size_t mapped;
  void* data;
  size_t bytes;
} Buffer;

static Buffer get_data(int64_t bytes, size_t front) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (size_t)bytes;
  Buffer b = {0};
  b.bytes = n;
  b.mapped = (n + page - 1) / page * page + page;
  b.base = mmap(NULL, b.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  need(b.base != MAP_FAILED, "no memory");
  need(mprotect((char*)b.base + b.mapped - page, page, PROT_NONE) == 0, "no guard page");
  b.data = front ? b.base : (char*)b.base + b.mapped - page - n;
  get(b.data, n);
  return b;
}

static int get_tensor(dk_tensor* t, Buffer* b) {
  memset(t, 0, sizeof *t);
  memset(b, 0, sizeof *b);
  t->dtype = (int32_t)get_int();
  if (!t->dtype) return 0;
  t->rank = (int32_t)get_int();
  need(t->rank >= 0 && t->rank <= DK_MAX_RANK, "a rank out of range");
  for (int i = 0; i < t->rank; ++i) t->dims[i] = get_int();
  *b = get_data(get_int(), 0);
  t->data = b->data;
  t->bytes = b->bytes;
  return 1;
}
static void put_tensor(const dk_tensor* t) {
  put_int(t->dtype);
  put_int(t->rank);
  for (int i = 0; i < t->rank; ++i) put_int(t->dims[i]);
  put_int((int64_t)t->bytes);
  put(t->data, t->bytes);
}
static int put_status(dk_status status, const char* message) {
  put_int(status);
  if (!status) return 0;
  put_text(dk_status_name(status));
  put_text(message ? message : "");
  return 1;
}

static int get_tensors(dk_tensor* t, Buffer* b, const dk_tensor** present) {
  const int64_t n = get_int();
  need(n >= 0 && n <= MAX_INPUTS, "too many inputs");
  for (int i = 0; i < n; ++i) present[i] = get_tensor(&t[i], &b[i]) ? &t[i] : NULL;
  return (int)n;
}
static void drop(Buffer* b, int n) {
  for (int i = 0; i < n; ++i)
    if (b[i].base) munmap(b[i].base, b[i].mapped);
}

static struct {
  Buffer file;
  dk_model* model;
  dk_session* session;
} open_one;

static void serve_open(void) {
  if (open_one.session) dk_session_free(open_one.session);
  if (open_one.model) dk_model_free(open_one.model);
  drop(&open_one.file, 1);
  memset(&open_one, 0, sizeof open_one);
  dk_session_options options = {0};
  options.threads = (int32_t)get_int();
  open_one.file = get_data(get_int(), 1); /* the weights in it want its start aligned */
  dk_status status = dk_model_from_bytes(open_one.file.data, open_one.file.bytes, NULL, &open_one.model);
  if (!status) status = dk_session_new(open_one.model, &options, &open_one.session);
  put_status(status, dk_last_error());
}

static void serve_run(void) {
  const int64_t times = get_int();
  dk_tensor t[MAX_INPUTS];
  Buffer b[MAX_INPUTS];
  const dk_tensor* in[MAX_INPUTS];
  const int n = get_tensors(t, b, in);
  dk_session* s = open_one.session;
  need(s != NULL, "run before open");
  dk_status status = 0;
  for (int i = 0; !status && i < n; ++i) status = dk_session_set_input(s, i, in[i]);
  for (int64_t k = 0; !status && k < times; ++k) status = dk_session_run(s);
  if (!put_status(status, dk_session_error(s))) {
    const int outputs = dk_session_output_count(s);
    put_int(outputs);
    for (int i = 0; i < outputs; ++i) put_tensor(dk_session_output(s, i));
  }
  drop(b, n);
}

static void* get_list(int64_t n) {
  void* p = malloc(n ? (size_t)n * 8 : 8);
  need(p != NULL, "no memory");
  get(p, (size_t)n * 8);
  return p;
}

static void serve_op(void) {
  const uint16_t opcode = (uint16_t)get_int();
  const int32_t threads = (int32_t)get_int(), want = (int32_t)get_int();
  enum { MAX_ATTRS = 64 };
  dk_attr attrs[MAX_ATTRS] = {0};
  const int64_t n_attrs = get_int();
  need(n_attrs >= 0 && n_attrs <= MAX_ATTRS, "too many attrs");
  for (int i = 0; i < n_attrs; ++i) {
    dk_attr* a = &attrs[i];
    a->id = (int32_t)get_int();
    a->i = get_int();
    get(&a->f, 8);
    const int64_t ints = get_int();
    a->ints = get_list(ints);
    const int64_t floats = get_int();
    a->floats = get_list(floats);
    const int64_t size = get_int();
    char* s = calloc(1, (size_t)size + 1);
    need(s != NULL, "no memory");
    get(s, (size_t)size);
    a->s = s;
    a->n = ints + floats + size; /* one of them */
  }
  dk_tensor t[MAX_INPUTS];
  Buffer b[MAX_INPUTS];
  const dk_tensor* in[MAX_INPUTS];
  const int n = get_tensors(t, b, in);
  dk_op_result* result = NULL;
  const dk_status status = dk_op_run(opcode, attrs, (int32_t)n_attrs, in, n, want, threads, &result);
  if (!put_status(status, status ? dk_last_error() : NULL)) {
    put_int(want);
    for (int i = 0; i < want; ++i) put_tensor(dk_op_result_output(result, i));
    dk_op_result_free(result);
  }
  for (int i = 0; i < n_attrs; ++i) {
    free((void*)attrs[i].ints);
    free((void*)attrs[i].floats);
    free((void*)attrs[i].s);
  }
  drop(b, n);
}

int main(void) {
  int64_t kind;
  while (fread(&kind, 1, 8, stdin) == 8) {
    need(kind >= 1 && kind <= 4, "an unknown request");
    if (kind == 1) serve_open();
    if (kind == 4) serve_run();
    if (kind == 2) serve_op();
    if (kind == 3) {
      put_int(0);
      put_text(dk_isa());
      put_text(dk_cpu_features());
    }
    need(fflush(stdout) == 0, "the answer is not read");
  }
  return 0;
}
