// Threads in WebAssembly.  The page makes a Web Worker for every lane but the first, gives it the module, the shared
// memory and a lane from dk_lane_new; the worker instantiates the module, sets __stack_pointer to dk_lane_stack(lane)
// and calls dk_lane_main(lane), which returns after dk_lanes_stop.  Then the lane may be freed.
#if defined(__wasm_atomics__)
#include "base/mem.h"
#include "engine/pool.h"

#define DK_LANE extern "C" __attribute__((visibility("default")))

// Frames of kernels take up to 8 KB, one inside the other a few times that.
static constexpr unsigned long kStack = 256 << 10;

DK_LANE void* dk_lane_new() { return dk::mem_alloc(kStack); }  // null: no memory
DK_LANE void dk_lane_free(void* lane) { dk::mem_free(lane); }
DK_LANE void* dk_lane_stack(void* lane) { return static_cast<char*>(lane) + kStack; }
DK_LANE void dk_lane_main(void*) { dk::ThreadPool::enter(); }
DK_LANE unsigned dk_lane_regions() { return dk::ThreadPool::regions(); }  // in which lanes could take part so far
DK_LANE void dk_lanes_stop() { dk::ThreadPool::leave(); }
#endif
