#define DK_SIMD_SCALAR
#include "kernels/gradient/gradient_impl.h"
