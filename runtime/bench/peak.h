// What one core of this machine can do at most, measured: the yardstick of the benchmarks.
#pragma once

namespace dk {

// 1e9 operations per second (a multiplication and an addition are two) of the kernel set in use, from registers: fp32
// fused multiply-adds, and sums of four 8-bit products.  0 where the set has no such instruction.
double peak_fma();
double peak_dot();
// 1e9 bytes per second of reading `bytes` bytes over and over.
double read_rate(long bytes);

}  // namespace dk
