#define DK_SIMD_SCALAR
#include "kernels/qelementwise/qelementwise_impl.h"
