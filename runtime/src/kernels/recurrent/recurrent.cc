#include "kernels/recurrent/recurrent.h"

#include "base/cpu.h"

namespace dk {

DK_KERNEL_SETS(recurrent, RecurrentKernels)

const RecurrentKernels* recurrent_kernels() { return DK_PICK_KERNELS(recurrent); }

}  // namespace dk
