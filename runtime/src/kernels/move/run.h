// One move per run length: gathers and scatters copy many short runs of the same size, so the choice is made once.
#pragma once
#include <cstdint>
#include <cstring>

namespace dk {
namespace {

// Calls f(move) with the fastest move(to, from) for runs of `run` bytes.
template <class F>
inline void with_mover(int64_t run, F&& f) {
  switch (run) {
    case 0: return f([](char*, const char*) {});
    case 1: return f([](char* to, const char* from) { *to = *from; });
    case 2: return f([](char* to, const char* from) { memcpy(to, from, 2); });
    case 4: return f([](char* to, const char* from) { memcpy(to, from, 4); });
    case 8: return f([](char* to, const char* from) { memcpy(to, from, 8); });
    case 16: return f([](char* to, const char* from) { memcpy(to, from, 16); });
    default: return f([run](char* to, const char* from) { memcpy(to, from, static_cast<size_t>(run)); });
  }
}

}  // namespace
}  // namespace dk
