#define DK_SIMD_SCALAR
#include "kernels/quantize/quantize_impl.h"
