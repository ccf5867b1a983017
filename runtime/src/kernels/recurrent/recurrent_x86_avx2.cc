#include "kernels/recurrent/recurrent_impl.h"
