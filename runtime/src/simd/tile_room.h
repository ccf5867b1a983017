// Memory for rows that products in tile registers copy side by side (simd/tiles_x86.h), planned by code for any CPU.
#pragma once
#include <cstdint>

namespace dk {

// Bytes for each of `threads` that share m rows of `units` of four bytes; not more than half of a usual L2, beyond
// which rows are as far away as memory.  With less, the panels of B are read again for every few rows.
inline int64_t tile_room(int64_t units, int64_t m, int threads) {
  constexpr int64_t kMost = 512 << 10;
  const int64_t row = units * 4 + 128, rows = (m + threads - 1) / threads + 32;
  const int64_t bytes = rows < kMost / row ? rows * row : kMost;
  return (bytes + 127) / 64 * 64;
}

}  // namespace dk
