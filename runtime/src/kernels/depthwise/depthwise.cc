#include "kernels/depthwise/depthwise.h"

#include "base/cpu.h"

namespace dk {
DK_KERNEL_SETS(depthwise, DepthwiseKernels)
const DepthwiseKernels* depthwise_kernels() { return DK_PICK_KERNELS(depthwise); }
}  // namespace dk
