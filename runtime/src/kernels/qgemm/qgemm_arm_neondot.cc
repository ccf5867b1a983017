#include "kernels/qgemm/qgemm_impl.h"
