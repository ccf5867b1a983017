/* Deploykit engine, C API version 1.
 *
 * Load a .dk file, set inputs, run, read outputs:
 *
 *   dk_model* model;
 *   dk_session* s;
 *   if (dk_model_open("m.dk", NULL, &model) || dk_session_new(model, NULL, &s)) puts(dk_last_error());
 *   dk_tensor x = {.dtype = DK_FLOAT32, .rank = 2, .dims = {1, 4}, .data = numbers, .bytes = sizeof numbers};
 *   if (dk_session_set_input(s, 0, &x) || dk_session_run(s)) puts(dk_session_error(s));
 *   const dk_tensor* y = dk_session_output(s, 0);
 *   dk_session_free(s);
 *   dk_model_free(model);
 *
 * Rules.  Functions that can fail return a dk_status, DK_OK being 0; nothing throws, aborts or exits.  The text of the
 * last error of a session is dk_session_error; of calls without a session dk_last_error (per thread).  A model is
 * immutable and may be shared by sessions on any threads; a session is used by one thread at a time.  Strings returned
 * are UTF-8, zero-terminated, and live as long as their model or session.  Structs may grow at their end: zero them.
 */
#ifndef DEPLOYKIT_DK_H
#define DEPLOYKIT_DK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef DK_API
#if defined(_WIN32)
#define DK_API __declspec(dllexport)
#else
#define DK_API __attribute__((visibility("default")))
#endif
#endif

#define DK_API_VERSION 1
#define DK_MAX_RANK 8

typedef int32_t dk_status; /* 0, or a code of base/status.h: see dk_status_name */

typedef struct dk_model dk_model;
typedef struct dk_session dk_session;

enum { /* dtypes; the rest by number as in the format */
       DK_FLOAT32 = 1,
       DK_FLOAT64 = 2,
       DK_FLOAT16 = 3,
       DK_BFLOAT16 = 4,
       DK_INT8 = 5,
       DK_UINT8 = 6,
       DK_INT16 = 7,
       DK_UINT16 = 8,
       DK_INT32 = 9,
       DK_UINT32 = 10,
       DK_INT64 = 11,
       DK_UINT64 = 12,
       DK_BOOL = 13
};

typedef struct dk_tensor {
  int32_t dtype;
  int32_t rank;
  int64_t dims[DK_MAX_RANK];
  void* data;
  size_t bytes;
} dk_tensor;

/* What a model says of an input or output.  dims < 0 are symbolic: dk_dim_name tells which.  rank -1: not known. */
typedef struct dk_spec {
  const char* name;
  int32_t dtype; /* 0: not known before run */
  int32_t rank;
  int64_t dims[DK_MAX_RANK];
} dk_spec;

typedef struct dk_model_options {
  uint32_t flags;          /* DK_SKIP_WEIGHT_CHECKSUM */
  uint64_t max_file_bytes; /* 0: no limit */
} dk_model_options;
enum { DK_SKIP_WEIGHT_CHECKSUM = 1 };

typedef struct dk_session_options {
  int32_t threads;       /* 0: DK_THREADS from the environment, else the allowed CPUs */
  const char* signature; /* NULL: "main" */
  uint64_t max_memory; /* bytes for plans, arena, packed weights, dynamic tensors, beyond them DK-MEMORY; 0: no limit */
  uint32_t flags;      /* DK_PROFILE, DK_KEEP_VALUES, DK_EXACT, DK_FAST */
  uint64_t max_steps;  /* nodes and loop iterations per run, beyond them DK-LIMIT; 0: no limit */
} dk_session_options;
enum {
  DK_PROFILE = 1,     /* collect time per node */
  DK_KEEP_VALUES = 2, /* keep every intermediate tensor readable after run (no buffer is reused): for compare */
  DK_EXACT = 4,       /* float convolutions by plain sums only: slower, and NaN, infinity and huge numbers reach just
                         the outputs whose window holds them */
  DK_FAST = 8 /* float products with constant weights may round both operands to bfloat16 (sums stay float32), where the
                 CPU has tile registers for it; elsewhere it changes nothing.  dk_fast tells */
};

DK_API int32_t dk_api_version(void);
DK_API const char* dk_version(void);                 /* "0.1.0" */
DK_API const char* dk_status_name(dk_status status); /* "DK-FORMAT" ... */
DK_API const char* dk_last_error(void);
DK_API const char* dk_isa(void);          /* kernel set in use: "x86_avx2" ... */
DK_API int32_t dk_fast(void);             /* 1: DK_FAST makes products faster on this CPU; 0: it changes nothing */
DK_API const char* dk_cpu_features(void); /* space-separated */
DK_API int32_t dk_cpu_count(void);        /* CPUs this process may use (affinity, cgroup) */

/* Verifies everything, then maps the file (open) or uses the bytes in place (bytes: they must stay alive and unchanged
 * while the model lives; 64-byte aligned weights are used without copy). */
DK_API dk_status dk_model_open(const char* path, const dk_model_options* options, dk_model** model);
DK_API dk_status dk_model_from_bytes(const void* data, size_t size, const dk_model_options* options, dk_model** model);
DK_API void dk_model_free(dk_model* model);
/* Only verify; message in dk_last_error. */
DK_API dk_status dk_verify(const void* data, size_t size);

DK_API int32_t dk_model_signature_count(const dk_model* model);
DK_API const char* dk_model_signature(const dk_model* model, int32_t i);
DK_API int32_t dk_model_metadata_count(const dk_model* model);
DK_API const char* dk_model_metadata_key(const dk_model* model, int32_t i);
DK_API const char* dk_model_metadata_value(const dk_model* model, int32_t i); /* JSON */
DK_API const char* dk_dim_name(const dk_model* model, int64_t dim);           /* for dims < 0 */

DK_API dk_status dk_session_new(dk_model* model, const dk_session_options* options, dk_session** session);
DK_API void dk_session_free(dk_session* session);
DK_API const char* dk_session_error(const dk_session* session);

DK_API int32_t dk_session_input_count(const dk_session* session);
DK_API int32_t dk_session_output_count(const dk_session* session);
DK_API dk_status dk_session_input_spec(const dk_session* session, int32_t i, dk_spec* spec);
DK_API dk_status dk_session_output_spec(const dk_session* session, int32_t i, dk_spec* spec);

/* The data is not copied: it must stay alive and unchanged until run returns. */
DK_API dk_status dk_session_set_input(dk_session* session, int32_t i, const dk_tensor* tensor);
/* Plan for the shapes set so far (data may be NULL here) without running: what run would do first. */
DK_API dk_status dk_session_prepare(dk_session* session);
DK_API dk_status dk_session_run(dk_session* session);
/* From now on a run or prepare that takes longer than this ends with DK-LIMIT (0: no limit).  Looked at between nodes
 * and loop iterations, so one long node is finished first.  The session can be used again afterwards; variables keep
 * what the nodes before wrote. */
DK_API void dk_session_set_time_limit(dk_session* session, uint64_t milliseconds);
/* The only call allowed from other threads while the session is in use: ends the run or prepare in progress in the same
 * way, with DK-CANCELLED.  Nothing happens when none is in progress. */
DK_API void dk_session_cancel(dk_session* session);
/* Valid until the next run, prepare or free. */
DK_API const dk_tensor* dk_session_output(const dk_session* session, int32_t i);
/* An intermediate tensor by its name in the file (sessions with DK_KEEP_VALUES, after run); NULL if there is none. */
DK_API const dk_tensor* dk_session_value(const dk_session* session, const char* name);
/* Set every variable back to its initial value. */
DK_API void dk_session_reset(dk_session* session);
/* Let the session read and write a variable in memory of the caller, which must outlive the session or the next bind,
 * be aligned to 64 bytes, and have 64 readable bytes behind it.  Its content counts, also as the value now.  So
 * sessions of several signatures, or the caller, share one state.  Plans made before are dropped. */
DK_API dk_status dk_session_bind_variable(dk_session* session, const char* name, const dk_tensor* tensor);
DK_API const dk_tensor* dk_session_variable(const dk_session* session, const char* name);

typedef struct dk_memory {
  uint64_t arena;         /* bytes of the arena of the current plan */
  uint64_t weights;       /* bytes of the weights section (mapped) */
  uint64_t packed;        /* packed weights and tables */
  uint64_t dynamic;       /* peak of tensors whose shape is known only at run time */
  uint64_t plans;         /* plans kept for shapes seen */
  uint64_t nodes_dynamic; /* nodes of the current plan planned at run time (data-dependent shapes) */
} dk_memory;
DK_API void dk_session_memory(const dk_session* session, dk_memory* memory);

/* The buffers of the current plan's arena (after prepare or run), for tools that draw it.  Rows with bytes 0 lie inside
 * another buffer or in the memory of an output. */
typedef struct dk_plan_row {
  const char* name; /* the value placed there, or the node whose working memory it is */
  uint64_t offset, bytes;
  int32_t first, last; /* steps at which it must exist, both included */
} dk_plan_row;
DK_API int32_t dk_session_plan_count(const dk_session* session);
DK_API dk_status dk_session_plan_row(const dk_session* session, int32_t i, dk_plan_row* row);

typedef struct dk_profile_row {
  const char* name; /* node name, or that of its first output */
  const char* op;
  const char* detail; /* kernel chosen */
  uint64_t calls;
  uint64_t nanoseconds; /* sum over calls */
  uint64_t flops;       /* per call, 0 when not counted */
} dk_profile_row;
DK_API int32_t dk_session_profile_count(const dk_session* session);
DK_API dk_status dk_session_profile_row(const dk_session* session, int32_t i, dk_profile_row* row);
DK_API void dk_session_profile_clear(dk_session* session);

/* Apply one op to tensors (eager use and tests).  attrs: `n_attrs` entries of {index in the passport, value}; outputs
 * are allocated by the engine and freed by dk_op_result_free.  want_outputs: number of outputs. */
typedef struct dk_attr {
  int32_t id;
  int64_t i;
  double f;
  const int64_t* ints;
  const double* floats;
  const char* s;
  int64_t n; /* length of ints, floats or s */
} dk_attr;
typedef struct dk_op_result dk_op_result;
DK_API dk_status dk_op_run(uint16_t opcode, const dk_attr* attrs, int32_t n_attrs, const dk_tensor* const* inputs,
                           int32_t n_inputs, int32_t want_outputs, int32_t threads, dk_op_result** result);
DK_API const dk_tensor* dk_op_result_output(const dk_op_result* result, int32_t i);
DK_API void dk_op_result_free(dk_op_result* result);
/* Name of an op by opcode when this engine has a kernel for it, else NULL. */
DK_API const char* dk_op_name(uint16_t opcode);

#ifdef __cplusplus
}
#endif
#endif
