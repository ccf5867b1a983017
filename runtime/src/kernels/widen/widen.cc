#include "kernels/widen/widen.h"

#include "base/cpu.h"

namespace dk {
DK_KERNEL_SETS(widen, WidenKernels)
const WidenKernels* widen_kernels() { return DK_PICK_KERNELS(widen); }
}  // namespace dk
