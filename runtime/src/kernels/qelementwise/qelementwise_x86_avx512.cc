#include "kernels/qelementwise/qelementwise_impl.h"
