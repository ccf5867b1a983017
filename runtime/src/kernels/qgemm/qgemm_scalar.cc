#define DK_SIMD_SCALAR
#include "kernels/qgemm/qgemm_impl.h"
