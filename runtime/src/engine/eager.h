// One op applied to tensors, outside of any model: eager training, constant folding, tests.
#pragma once
#include "engine/op_state.h"

namespace dk {

struct EagerAttr {
  int id;
  AttrValue value;
};

// Outputs live until free_result; absent inputs are null.  `n_out` outputs are wanted.
struct EagerResult {
  int n_out;
  Tensor* outputs;
};

Status run_eager(uint16_t opcode, const EagerAttr* attrs, int n_attrs, const Tensor* const* inputs, int n_in, int n_out,
                 int threads, ErrorText* error, EagerResult** result);
void free_result(EagerResult* result);

}  // namespace dk
