#include "kernels/elementwise/elementwise_impl.h"
