// Fork-join over a handful of threads.
//
// A region costs about 0.4 us while the workers spin and 7-17 us when one must be woken, so a run wakes them once at
// its start and they spin between regions for up to kSpinNs before they park on a futex.  The split is static: part k
// of a region runs as lane k.  A part whose worker has not begun by the time the caller is through with its own part is
// done by the caller: a late or descheduled worker delays nobody.
//
// A worker that loses its CPU in the middle of its part does delay the caller, by a time slice of the kernel.  So after
// a stall the caller works alone for sixteen times as long as it took, and wakes nobody: where another program keeps a
// core busy, threads then cost a few per cent instead of a multiple.  (Linux only; results are the same either way.)
//
// Pools are kept by the process and lent to one run at a time; runs on several threads get pools of their own.
//
// WebAssembly cannot start threads: Web Workers of the page enter the one pool (dk_lane_main in capi/lanes.cc) and take
// part from then on.  They park by memory.atomic.wait32; the caller, which may be a page's main thread, only spins.
#pragma once
#include <cstdint>

namespace dk {

class ThreadPool {
 public:
  using Fn = void (*)(void* arg, int64_t begin, int64_t end, int lane);

  // A pool of `threads` lanes (the caller is lane 0) with its workers awake; null for threads <= 1, and when threads
  // cannot be had: then everything runs on the caller.  Give it back with release.
  static ThreadPool* acquire(int threads);
  void release();

  int lanes() const {
    const int there = __atomic_load_n(&workers_, __ATOMIC_ACQUIRE);
    return (there < limit_ ? there : limit_) + 1;
  }
  // fn over [0, n) in at most `parts` equal pieces; returns when all are done.
  void run(int64_t n, int parts, Fn fn, void* arg);

#if defined(__wasm__)
  static void enter();  // what a worker does until leave; returns at once while those of before are still leaving
  static void leave();
  static uint32_t regions();  // started so far
#endif

 private:
  struct Worker;
  static void* main(void* worker);
  bool start(int workers);
  void work(Worker& w);
  void wake();
#if defined(__linux__)
  void stay_alone(uint64_t now, uint64_t lost);
  void part_from_caller();
#endif

  struct alignas(64) Worker {
    uint64_t claimed;  // last region whose part of this worker somebody began
    uint64_t done;     // last region whose part of this worker is finished
    ThreadPool* pool;
    int index;
    int thread;   // Linux: the kernel's name of it
    bool parked;  // or about to be
  };
  static constexpr int kMaxWorkers = 63;

  alignas(64) uint64_t word_ = 0;  // region number << 8 | parts
  alignas(64) uint32_t parked_ = 0;
  // the job of the current region, written before word_
  alignas(64) Fn fn_ = nullptr;
  void* arg_ = nullptr;
  int64_t n_ = 0;
  [[maybe_unused]] int parts_ = 0;
  int workers_ = 0;  // in WebAssembly this grows while workers come
  int limit_ = kMaxWorkers;
  [[maybe_unused]] bool lent_ = false;    // WebAssembly only, like the next two
  [[maybe_unused]] uint32_t stop_ = 0;    // workers shall leave
  [[maybe_unused]] uint32_t inside_ = 0;  // workers that have not left
  // Linux: until when the caller works alone, or 0; wall and CPU time of the caller when it got the pool.
  [[maybe_unused]] uint64_t alone_until_ = 0, lent_at_ = 0, lent_cpu_ = 0;
  [[maybe_unused]] uint32_t per_stall_ = 0;  // alone for 2 to the power of this times the next stall
  ThreadPool* next_ = nullptr;
  Worker worker_[kMaxWorkers];
};

}  // namespace dk
