// All op adapters by opcode.
#pragma once
#include "ops/op.h"

namespace dk {
const OpDef* find_op(uint16_t opcode);  // null when this build has no such op
}  // namespace dk
