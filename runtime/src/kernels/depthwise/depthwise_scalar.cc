#define DK_SIMD_SCALAR
#include "kernels/depthwise/depthwise_impl.h"
