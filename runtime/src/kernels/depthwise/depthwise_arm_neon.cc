#include "kernels/depthwise/depthwise_impl.h"
