// One op applied to tensors, outside of any model: eager training, constant folding, tests.
#pragma once
#include "engine/op_state.h"
#include "ops/op.h"

namespace dk {

struct EagerAttr {
  int id;
  AttrValue value;
};

// An op with its attrs checked, to be applied many times; what the attrs point to must live as long.
struct EagerOp {
  const OpInfo* info;
  const OpDef* def;
  AttrValue attrs[kMaxAttrs];
};
Status prepare_eager(uint16_t opcode, const EagerAttr* attrs, int n_attrs, ErrorText* error, EagerOp* op);

// Memory for output i, whose dtype and dims are set; null when there is none.
using EagerAlloc = void* (*)(void* arg, int i, const Tensor& t);
// `outputs` are n_out empty tensors.  What was allocated is the caller's, also after an error.
Status apply_eager(const EagerOp& op, const Tensor* const* inputs, int n_in, Tensor* outputs, int n_out, int threads,
                   EagerAlloc alloc, void* arg, ErrorText* error);

// Outputs live until free_result; absent inputs are null.  `n_out` outputs are wanted.
struct EagerResult {
  int n_out;
  Tensor* outputs;
};

Status run_eager(uint16_t opcode, const EagerAttr* attrs, int n_attrs, const Tensor* const* inputs, int n_in, int n_out,
                 int threads, ErrorText* error, EagerResult** result);
void free_result(EagerResult* result);

}  // namespace dk
