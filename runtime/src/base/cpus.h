// How many CPUs this process may really use, and the floating-point mode of a thread.
#pragma once
#include <cstdint>

namespace dk {

int cpu_count();  // affinity mask and cgroup quota (rounded up); at least 1

// Denormals read and written as zero: a denormal operand slows an FMA 20-50x.  Set for the time of a run and by the
// pool's threads; the caller's mode is restored.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace dk
