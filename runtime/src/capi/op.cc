// dk_op_run: one op on tensors.
#include "base/text.h"
#include "capi/capi.h"
#include "engine/eager.h"
#include "ops/registry.h"

using namespace dk;

struct dk_op_result {
  EagerResult* result;
  dk_tensor* outputs;
};

extern "C" {

dk_status dk_op_run(uint16_t opcode, const dk_attr* attrs, int32_t n_attrs, const dk_tensor* const* inputs,
                    int32_t n_inputs, int32_t want_outputs, int32_t threads, dk_op_result** result) {
  ErrorText* error = &last_error();
  *result = nullptr;
  if (n_attrs < 0 || n_attrs > kMaxAttrs || n_inputs < 0 || n_inputs > 4096)
    return to_c(error->set(Code::input, "dk_op_run: %d attrs and %d inputs", n_attrs, n_inputs));
  Bump memory;
  EagerAttr given[kMaxAttrs];
  for (int i = 0; i < n_attrs; ++i)
    given[i] = {attrs[i].id, {attrs[i].i, attrs[i].f, attrs[i].ints, attrs[i].floats, attrs[i].s, attrs[i].n}};
  size_t n = static_cast<size_t>(n_inputs);
  Tensor* tensors = memory.array<Tensor>(n + 1);
  const Tensor** ptrs = memory.array<const Tensor*>(n + 1);
  if (!tensors || !ptrs) return to_c(error->set(Code::memory, "out of memory"));
  for (int i = 0; i < n_inputs; ++i) {
    if (!inputs[i]) continue;
    char what[64];
    const OpInfo* info = op_info(opcode);
    format_text(what, sizeof what, "%s: input %d", info ? info->name() : "?", i);
    Status s = from_c(*inputs[i], what, true, &tensors[i], error);
    if (!s.ok()) return to_c(s);
    ptrs[i] = &tensors[i];
  }
  EagerResult* r;
  Status s = run_eager(opcode, given, n_attrs, ptrs, n_inputs, want_outputs, threads, error, &r);
  if (!s.ok()) return to_c(s);
  size_t bytes = sizeof(dk_op_result) + static_cast<size_t>(r->n_out) * sizeof(dk_tensor);
  dk_op_result* out = static_cast<dk_op_result*>(mem_alloc_zeroed(bytes));
  if (!out) {
    free_result(r);
    return to_c(error->set(Code::memory, "out of memory"));
  }
  out->result = r;
  out->outputs = reinterpret_cast<dk_tensor*>(out + 1);
  for (int i = 0; i < r->n_out; ++i) to_c(r->outputs[i], &out->outputs[i]);
  *result = out;
  return 0;
}

const dk_tensor* dk_op_result_output(const dk_op_result* result, int32_t i) {
  return i >= 0 && i < result->result->n_out ? &result->outputs[i] : nullptr;
}

void dk_op_result_free(dk_op_result* result) {
  if (!result) return;
  free_result(result->result);
  mem_free(result);
}

const char* dk_op_name(uint16_t opcode) { return find_op(opcode) ? op_info(opcode)->name() : nullptr; }

}  // extern "C"
