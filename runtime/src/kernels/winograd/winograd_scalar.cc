#define DK_SIMD_SCALAR
#include "kernels/winograd/winograd_impl.h"
