#include "kernels/qdepthwise/qdepthwise_impl.h"
