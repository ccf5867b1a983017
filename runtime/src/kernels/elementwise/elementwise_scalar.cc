#define DK_SIMD_SCALAR
#include "kernels/elementwise/elementwise_impl.h"
