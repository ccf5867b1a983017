#include "kernels/gradient/gradient.h"

namespace dk {
const GradientKernels* gradient_kernels() { return DK_PICK_KERNELS(gradient); }
}  // namespace dk
