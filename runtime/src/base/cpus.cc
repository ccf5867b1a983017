#include "base/cpus.h"

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dk {
namespace {

#if defined(__linux__)
// First number, or "max", of a small file; -1 when there is none.  *second gets the number behind it.
long long read_pair(const char* path, long long* second) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  char text[64];
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return -1;
  text[n] = 0;
  char* end;
  long long a = strtoll(text, &end, 10);
  if (end == text) return -1;
  if (second) *second = strtoll(end, nullptr, 10);
  return a;
}

int quota_cpus() {
  long long period = 0;
  long long quota = read_pair("/sys/fs/cgroup/cpu.max", &period);
  if (quota < 0) {  // cgroup version 1
    quota = read_pair("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", nullptr);
    period = read_pair("/sys/fs/cgroup/cpu/cpu.cfs_period_us", nullptr);
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>((quota + period - 1) / period);
}
#endif

}  // namespace

int cpu_count() {
#if defined(__linux__)
  cpu_set_t set;
  int n =
      sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  int quota = quota_cpus();
  if (quota > 0 && quota < n) n = quota;
  return n < 1 ? 1 : n;
#else
  return 1;
#endif
}

#if defined(__x86_64__)
FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(static_cast<unsigned>(saved_) | 0x8040); }
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
FlushDenormals::FlushDenormals() : saved_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace dk
