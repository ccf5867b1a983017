#include "kernels/softmax/softmax_impl.h"
