#define DK_SIMD_SCALAR
#include "kernels/softmax/softmax_impl.h"
