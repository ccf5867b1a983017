#include "kernels/reduce/reduce_impl.h"
