#include "kernels/qelementwise/qelementwise.h"

#include "base/cpu.h"

namespace dk {
DK_KERNEL_SETS(qelementwise, QElementwiseKernels)
const QElementwiseKernels* qelementwise_kernels() { return DK_PICK_KERNELS(qelementwise); }
}  // namespace dk
