#define DK_SIMD_SCALAR
#include "kernels/resize/resize_impl.h"
