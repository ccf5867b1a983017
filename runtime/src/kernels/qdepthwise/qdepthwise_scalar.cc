#define DK_SIMD_SCALAR
#include "kernels/qdepthwise/qdepthwise_impl.h"
