#define DK_SIMD_SCALAR
#include "kernels/recurrent/recurrent_impl.h"
