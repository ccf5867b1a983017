// The few things the engine asks of the operating system besides memory and threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace dk {

// A file in memory: mapped where possible (with one readable page behind its end), else read.  Not copyable.
struct FileBytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
  size_t mapped = 0;  // bytes of the mapping, 0 when read into memory

  Status open(const char* path, uint64_t max_bytes, ErrorText* error);
  void close();
};

uint64_t os_entropy();  // 64 unpredictable bits
uint64_t now_ns();      // monotonic
const char* os_env(const char* name);

}  // namespace dk
