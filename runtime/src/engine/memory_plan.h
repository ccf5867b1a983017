// Places buffers with known lifetimes in one arena.
#pragma once
#include <cstdint>

namespace dk {

struct ArenaBuffer {
  uint64_t bytes;
  int32_t first, last;  // steps at which it must exist, both included
  uint64_t offset;      // the result, a multiple of 64
};

// Greedy by size (Y. Pisarchyk, J. Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020,
// section 5.2): buffers in order of falling size, each into the smallest gap among those already placed whose lifetimes
// cross its own.  Quadratic, so beyond kGreedyLimit buffers they are placed in order of their first step instead (first
// fit). `order` and `scratch` are workspace of n entries each.  Returns the bytes of the arena.
uint64_t plan_arena(ArenaBuffer* buffers, int32_t n, int32_t* order, int32_t* scratch);

constexpr int32_t kGreedyLimit = 4000;

}  // namespace dk
