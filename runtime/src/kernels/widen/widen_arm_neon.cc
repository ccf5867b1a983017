#include "kernels/widen/widen_impl.h"
