#include "ops/registry.h"

// One line per file of ops/: it defines `const dk::OpList dk::ops_<file>`.
#define DK_OP_FILES(X)  \
  X(attention)          \
  X(conv)               \
  X(conv_gradient)      \
  X(conv_integer)       \
  X(conv_transpose)     \
  X(deform_conv)        \
  X(einsum)             \
  X(elementwise_binary) \
  X(elementwise_select) \
  X(elementwise_unary)  \
  X(softmax)            \
  X(reduce)             \
  X(reduce_along)       \
  X(norm)               \
  X(norm_train)         \
  X(pool)               \
  X(shape)              \
  X(signal)             \
  X(shape_move)         \
  X(index)              \
  X(index_scatter)      \
  X(index_select)       \
  X(image_col)          \
  X(image_resize)       \
  X(image_sample)       \
  X(matmul)             \
  X(dynamic_matmul)     \
  X(dynamic_lstm)       \
  X(weight_only)        \
  X(qconv)              \
  X(qelementwise)       \
  X(qmatmul)            \
  X(qreduce)            \
  X(quantize)           \
  X(random)             \
  X(recurrent)          \
  X(train_step)         \
  /* end of list: git merges it line by line, see .gitattributes */

namespace dk {
#define X(name) extern const OpList ops_##name;
DK_OP_FILES(X)
#undef X

const OpDef* find_op(uint16_t opcode) {
  static const OpList* const lists[] = {
#define X(name) &ops_##name,
      DK_OP_FILES(X)
#undef X
          nullptr,
  };
  for (const OpList* const* l = lists; *l; ++l)
    for (int i = 0; i < (*l)->count; ++i)
      if (static_cast<uint16_t>((*l)->defs[i].opcode) == opcode) return &(*l)->defs[i];
  return nullptr;
}
}  // namespace dk
