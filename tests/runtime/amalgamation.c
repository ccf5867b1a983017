/* Runs a model through the C API, as a program of somebody who took deploykit.cc and deploykit.h:
 *
 *   program MODEL INPUT OUTPUT      INPUT: the bytes of the model's inputs one after the other; OUTPUT likewise
 */
#include <stdio.h>
#include <stdlib.h>

#include "deploykit.h"

static int fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  return 1;
}

int main(int argc, char** argv) {
  dk_model* model = NULL;
  dk_session* session = NULL;
  FILE *in, *out;
  int32_t i;
  if (argc != 4) return fail(argv[0], "MODEL INPUT OUTPUT");
  if (dk_model_open(argv[1], NULL, &model)) return fail(argv[1], dk_last_error());
  if (dk_session_new(model, NULL, &session)) return fail(argv[1], dk_last_error());
  in = fopen(argv[2], "rb");
  out = fopen(argv[3], "wb");
  if (!in || !out) return fail(argv[2], "cannot open");
  for (i = 0; i < dk_session_input_count(session); ++i) {
    dk_spec spec;
    dk_tensor t = {0};
    int32_t d;
    dk_session_input_spec(session, i, &spec);
    t.dtype = spec.dtype;
    t.rank = spec.rank;
    t.bytes = spec.dtype == DK_FLOAT32 ? 4 : 1;
    for (d = 0; d < spec.rank; ++d) t.bytes *= (size_t)(t.dims[d] = spec.dims[d]);
    t.data = malloc(t.bytes + 64);
    if (!t.data || fread(t.data, 1, t.bytes, in) != t.bytes) return fail(argv[2], "too short");
    if (dk_session_set_input(session, i, &t)) return fail("input", dk_session_error(session));
  }
  if (dk_session_run(session)) return fail("run", dk_session_error(session));
  for (i = 0; i < dk_session_output_count(session); ++i) {
    const dk_tensor* y = dk_session_output(session, i);
    fwrite(y->data, 1, y->bytes, out);
  }
  fclose(out);
  fclose(in);
  puts(dk_isa());
  dk_session_free(session);
  dk_model_free(model);
  return 0;
}
