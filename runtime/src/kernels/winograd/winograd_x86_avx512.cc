#include "kernels/winograd/winograd_impl.h"
