#define DK_SIMD_SCALAR
#include "kernels/widen/widen_impl.h"
