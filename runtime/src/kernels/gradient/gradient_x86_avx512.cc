#include "kernels/gradient/gradient_impl.h"
