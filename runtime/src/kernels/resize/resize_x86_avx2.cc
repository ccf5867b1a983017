#include "kernels/resize/resize_impl.h"
