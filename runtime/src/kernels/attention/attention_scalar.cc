#define DK_SIMD_SCALAR
#include "kernels/attention/attention_impl.h"
