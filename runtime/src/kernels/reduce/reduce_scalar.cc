#define DK_SIMD_SCALAR
#include "kernels/reduce/reduce_impl.h"
