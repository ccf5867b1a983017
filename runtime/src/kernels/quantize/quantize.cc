#include "kernels/quantize/quantize.h"

#include "base/cpu.h"

namespace dk {

DK_KERNEL_SETS(quantize, QuantizeKernels)

const QuantizeKernels* quantize_kernels() { return DK_PICK_KERNELS(quantize); }

}  // namespace dk
