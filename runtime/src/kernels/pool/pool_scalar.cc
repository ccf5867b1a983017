#define DK_SIMD_SCALAR
#include "kernels/pool/pool_impl.h"
