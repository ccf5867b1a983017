#include "kernels/resize/resize.h"

#include "base/cpu.h"

namespace dk {

DK_KERNEL_SETS(resize, ResizeKernels)

const ResizeKernels* resize_kernels() { return DK_PICK_KERNELS(resize); }

}  // namespace dk
