#define DK_SIMD_SCALAR
#include "kernels/gemm/gemm_impl.h"
