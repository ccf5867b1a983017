#include "kernels/attention/attention.h"

#include "base/cpu.h"

namespace dk {

DK_KERNEL_SETS(attention, AttentionKernels)

const AttentionKernels* attention_kernels() { return DK_PICK_KERNELS(attention); }

}  // namespace dk
