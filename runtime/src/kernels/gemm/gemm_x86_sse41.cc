#include "kernels/gemm/gemm_impl.h"
