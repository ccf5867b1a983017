#include "kernels/pool/pool_impl.h"
