#include "engine/pool.h"

#if defined(__linux__)
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

#include "base/cpus.h"
#include "base/mem.h"
#include "base/os.h"

namespace dk {

#if defined(__linux__) || defined(__wasm_atomics__)
namespace {

constexpr uint64_t kSpinNs = 100'000;
#if defined(__linux__)
// A region that waited this long, and longer than its own part took, lost its worker to another program.
constexpr uint64_t kStallNs = 200'000, kMostAloneNs = 250'000'000;
constexpr uint32_t kMostPerStall = 4;  // as a power of two: stalls take at most a sixteenth of the time
#endif

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The futex looks at the low half of the word: the parts and 24 bits of the region number.  A wait that misses a change
// because those 24 bits came round is harmless: the caller does the part itself.
uint32_t* low_half(uint64_t* word) {
  return reinterpret_cast<uint32_t*>(word) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 1 : 0);
}

#if defined(__linux__)
// Sleep while the word is `seen`.
void park(uint64_t* word, uint64_t seen) {
  syscall(SYS_futex, low_half(word), FUTEX_WAIT_PRIVATE, static_cast<uint32_t>(seen), nullptr, nullptr, 0);
}
void unpark(uint64_t* word, int workers) {
  syscall(SYS_futex, low_half(word), FUTEX_WAKE_PRIVATE, workers, nullptr, nullptr, 0);
}
void yield() { sched_yield(); }

uint64_t thread_ns() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
ThreadPool* g_free;
bool g_fork_hook;
cpu_set_t g_cpus;  // of the first caller: others may have been pinned since, by other libraries

// The child of a fork has none of the threads: it forgets the pools (and the lock, which another thread may have held).
void forget_in_child() {
  g_free = nullptr;
  g_lock = PTHREAD_MUTEX_INITIALIZER;
}
#else
void park(uint64_t* word, uint64_t seen) {
  __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(low_half(word)), static_cast<int>(seen), -1);
}
void unpark(uint64_t* word, int workers) {
  __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(low_half(word)), static_cast<unsigned>(workers));
}
void yield() {}

alignas(ThreadPool) char g_pool[sizeof(ThreadPool)];
ThreadPool* the_pool() { return reinterpret_cast<ThreadPool*>(g_pool); }  // all its members may start as zero
#endif

}  // namespace

#if defined(__linux__)

ThreadPool* ThreadPool::acquire(int threads) {
  if (threads <= 1) return nullptr;
  int workers = (threads > kMaxWorkers + 1 ? kMaxWorkers + 1 : threads) - 1;
  pthread_mutex_lock(&g_lock);
  if (!g_fork_hook) {
    g_fork_hook = pthread_atfork(nullptr, nullptr, forget_in_child) == 0;
    if (sched_getaffinity(0, sizeof g_cpus, &g_cpus)) CPU_ZERO(&g_cpus);
  }
  ThreadPool** at = &g_free;
  while (*at && (*at)->workers_ != workers) at = &(*at)->next_;
  ThreadPool* pool = *at;
  if (pool) *at = pool->next_;
  pthread_mutex_unlock(&g_lock);
  if (!pool) {
    pool = static_cast<ThreadPool*>(mem_alloc_zeroed(sizeof(ThreadPool)));
    if (!pool) return nullptr;
    pool->limit_ = kMaxWorkers;
    if (!pool->start(workers)) {
      if (pool->workers_ == 0) {
        mem_free(pool);
        return nullptr;
      }
    }
  }
  pool->lent_at_ = now_ns();
  pool->lent_cpu_ = thread_ns();
  if (pool->lent_at_ >= pool->alone_until_) {
    pool->alone_until_ = 0;
    pool->wake();
  }
  return pool;
}

void ThreadPool::release() {
  // Time in which the caller was neither computing nor spinning: somebody else had its CPU.  Our worker may be what
  // pushed the two together.
  const uint64_t now = now_ns(), wall = now - lent_at_, lost = wall - (thread_ns() - lent_cpu_);
  if (alone_until_ == 0 && lost < wall && lost > kStallNs && lost > wall / 8) stay_alone(now, lost);
  if (alone_until_ == 0 && per_stall_ > 0) --per_stall_;
  pthread_mutex_lock(&g_lock);
  next_ = g_free;
  g_free = this;
  pthread_mutex_unlock(&g_lock);
}

void ThreadPool::stay_alone(uint64_t now, uint64_t lost) {
  const uint64_t ns = lost << per_stall_;
  alone_until_ = now + (ns < kMostAloneNs ? ns : kMostAloneNs);
  if (per_stall_ < kMostPerStall) per_stall_ += 2;
}

// Sleeping workers shall not come up on the CPU that the caller is busy on: where the others are busy too, the kernel
// finds that one as good as any, and worker and caller then take turns for milliseconds.
void ThreadPool::part_from_caller() {
  cpu_set_t cpus = g_cpus;
  const int here = sched_getcpu();
  if (here >= 0 && here < CPU_SETSIZE) CPU_CLR(here, &cpus);
  if (CPU_COUNT(&cpus) == 0) return;
  for (int i = 0; i < workers_; ++i)
    if (__atomic_load_n(&worker_[i].parked, __ATOMIC_ACQUIRE)) sched_setaffinity(worker_[i].thread, sizeof cpus, &cpus);
}

bool ThreadPool::start(int workers) {
  pthread_attr_t attr;
  if (pthread_attr_init(&attr)) return false;
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, 1 << 20);
  sigset_t all, old;  // signals of the program are not for our threads
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  for (int i = 0; i < workers; ++i) {
    worker_[i].pool = this;
    worker_[i].index = i;
    pthread_t thread;
    if (pthread_create(&thread, &attr, &ThreadPool::main, &worker_[i])) break;
    ++workers_;
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attr);
  return workers_ == workers;
}

void* ThreadPool::main(void* worker) {
  Worker* w = static_cast<Worker*>(worker);
  w->pool->work(*w);
  return nullptr;
}
#else
// The workers that are there, when no run has them.
ThreadPool* ThreadPool::acquire(int threads) {
  ThreadPool* pool = the_pool();
  if (threads <= 1 || pool->lent_ || __atomic_load_n(&pool->workers_, __ATOMIC_ACQUIRE) == 0) return nullptr;
  pool->lent_ = true;
  pool->limit_ = threads - 1;
  pool->wake();
  return pool;
}

void ThreadPool::release() { lent_ = false; }

void ThreadPool::enter() {
  ThreadPool* pool = the_pool();
  if (__atomic_load_n(&pool->stop_, __ATOMIC_ACQUIRE)) return;  // the ones before are still leaving
  __atomic_fetch_add(&pool->inside_, 1, __ATOMIC_ACQ_REL);
  // Counted before its first look at the word: a region that counts on this worker is seen by it, or done by the
  // caller.
  const int index = __atomic_fetch_add(&pool->workers_, 1, __ATOMIC_ACQ_REL);
  if (index < kMaxWorkers) {
    pool->worker_[index].index = index;
    pool->work(pool->worker_[index]);
  } else {
    __atomic_fetch_sub(&pool->workers_, 1, __ATOMIC_ACQ_REL);
  }
  if (__atomic_sub_fetch(&pool->inside_, 1, __ATOMIC_ACQ_REL) == 0) __atomic_store_n(&pool->stop_, 0, __ATOMIC_RELEASE);
}

uint32_t ThreadPool::regions() { return static_cast<uint32_t>(the_pool()->word_ >> 8); }

void ThreadPool::leave() {
  ThreadPool* pool = the_pool();
  if (__atomic_load_n(&pool->inside_, __ATOMIC_ACQUIRE) == 0) return;
  __atomic_store_n(&pool->stop_, 1, __ATOMIC_RELEASE);
  __atomic_store_n(&pool->workers_, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&pool->word_, ((pool->word_ >> 8) + 1) << 8, __ATOMIC_SEQ_CST);
  unpark(&pool->word_, kMaxWorkers);
}
#endif

void ThreadPool::work(Worker& w) {
  FlushDenormals mode;
#if defined(__linux__)
  __atomic_store_n(&w.thread, static_cast<int>(syscall(SYS_gettid)), __ATOMIC_RELEASE);
#endif
  uint64_t seen = 0;
  for (;;) {
    uint64_t word = __atomic_load_n(&word_, __ATOMIC_ACQUIRE);
    if (word == seen) {
      uint64_t until = now_ns() + kSpinNs;
      do {
        for (int i = 0; i < 64 && word == seen; ++i) {
          pause();
          word = __atomic_load_n(&word_, __ATOMIC_ACQUIRE);
        }
      } while (word == seen && now_ns() < until);
      if (word == seen) {
        __atomic_store_n(&w.parked, true, __ATOMIC_RELEASE);
        __atomic_fetch_add(&parked_, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&word_, __ATOMIC_SEQ_CST) == seen) park(&word_, seen);
        __atomic_fetch_sub(&parked_, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&w.parked, false, __ATOMIC_RELEASE);
        continue;
      }
    }
    seen = word;
#if defined(__wasm__)
    if (__atomic_load_n(&stop_, __ATOMIC_ACQUIRE)) return;
#endif
    uint64_t region = word >> 8;
    int parts = static_cast<int>(word & 255), part = w.index + 1;
    if (part >= parts) continue;
    uint64_t before = __atomic_load_n(&w.claimed, __ATOMIC_RELAXED);
    if (before >= region ||
        !__atomic_compare_exchange_n(&w.claimed, &before, region, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      continue;  // the caller was faster
    // The caller cannot leave this region before `done`, so the job stands still.
    fn_(arg_, n_ * part / parts, n_ * (part + 1) / parts, part);
    __atomic_store_n(&w.done, region, __ATOMIC_RELEASE);
  }
}

void ThreadPool::wake() {
  if (__atomic_load_n(&parked_, __ATOMIC_SEQ_CST) == 0) return;
#if defined(__linux__)
  part_from_caller();
#endif
  // A region without parts: spinning workers see it and go on spinning.
  __atomic_store_n(&word_, ((word_ >> 8) + 1) << 8, __ATOMIC_SEQ_CST);
  unpark(&word_, workers_);
}

void ThreadPool::run(int64_t n, int parts, Fn fn, void* arg) {
  if (parts > lanes()) parts = lanes();
  if (parts > n) parts = n < 1 ? 1 : static_cast<int>(n);
#if defined(__linux__)
  if (parts > 1 && alone_until_ != 0) {
    if (now_ns() < alone_until_)
      parts = 1;
    else
      alone_until_ = 0;
  }
  const uint64_t began = parts > 1 ? now_ns() : 0;
#endif
  if (parts <= 1) {
    fn(arg, 0, n, 0);
    return;
  }
  fn_ = fn;
  arg_ = arg;
  n_ = n;
  uint64_t region = (word_ >> 8) + 1;
  __atomic_store_n(&word_, region << 8 | static_cast<uint64_t>(parts), __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&parked_, __ATOMIC_SEQ_CST)) unpark(&word_, workers_);
  fn(arg, 0, n / parts, 0);
  for (int part = 1; part < parts; ++part) {
    Worker& w = worker_[part - 1];
    uint64_t before = __atomic_load_n(&w.claimed, __ATOMIC_RELAXED);
    if (before < region &&
        __atomic_compare_exchange_n(&w.claimed, &before, region, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
      fn(arg, n * part / parts, n * (part + 1) / parts, part);
      __atomic_store_n(&w.done, region, __ATOMIC_RELAXED);
    }
  }
#if defined(__linux__)
  uint64_t through = 0;  // when the caller was, if it had to wait
#endif
  for (int part = 1; part < parts; ++part) {
    Worker& w = worker_[part - 1];
    for (unsigned spins = 0; __atomic_load_n(&w.done, __ATOMIC_ACQUIRE) != region;) {
      if (++spins < 2000) {
        pause();
#if defined(__linux__)
        if (spins == 100 && through == 0) through = now_ns();
#endif
      } else {
        yield();  // the worker lost its CPU in the middle of its part
      }
    }
  }
#if defined(__linux__)
  if (through == 0) return;
  const uint64_t now = now_ns(), waited = now - through;
  if (waited > kStallNs && waited > through - began) stay_alone(now, waited);
#endif
}

#else  // no threads here
ThreadPool* ThreadPool::acquire(int) { return nullptr; }
void ThreadPool::release() {}
void ThreadPool::run(int64_t n, int, Fn fn, void* arg) { fn(arg, 0, n, 0); }
#endif

}  // namespace dk
