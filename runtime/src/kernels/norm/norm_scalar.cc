#define DK_SIMD_SCALAR
#include "kernels/norm/norm_impl.h"
