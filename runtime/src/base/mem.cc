#include "base/mem.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace dk {
namespace {

constexpr size_t kAlign = 64, kHuge = size_t{2} << 20;

struct Header {  // in the 64 bytes before the block
  size_t bytes;
  void* base;
  size_t mapped;  // bytes of the mapping, 0 when from the C heap
};
static_assert(sizeof(Header) <= kAlign);

uint64_t g_count, g_held, g_fail_at;

bool must_fail() {
  if (__atomic_load_n(&g_fail_at, __ATOMIC_RELAXED) == 0) return false;
  return __atomic_sub_fetch(&g_fail_at, 1, __ATOMIC_RELAXED) == 0;
}

#if defined(__linux__)
// The block starts at a 2 MB boundary, its header in the page before.
char* map_huge(size_t bytes, Header* h) {
  size_t total = (bytes + kReadable + 2 * kHuge + 4095) & ~size_t{4095};
  void* base = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  uintptr_t b = reinterpret_cast<uintptr_t>(base);
  uintptr_t p = (b + kAlign + kHuge - 1) & ~(kHuge - 1);
  uintptr_t first = (p - kAlign) & ~uintptr_t{4095};
  uintptr_t end = (p + bytes + kReadable + 4095) & ~uintptr_t{4095};
  if (first > b) munmap(base, first - b);
  if (b + total > end) munmap(reinterpret_cast<void*>(end), b + total - end);
  madvise(reinterpret_cast<void*>(p), end - p, MADV_HUGEPAGE);
  h->base = reinterpret_cast<void*>(first);
  h->mapped = end - first;
  return reinterpret_cast<char*>(p);
}
#endif

void* alloc(size_t bytes, bool zeroed) {
  __atomic_fetch_add(&g_count, 1, __ATOMIC_RELAXED);
  if (must_fail() || bytes > SIZE_MAX / 4) return nullptr;
  Header h = {bytes, nullptr, 0};
  char* p = nullptr;
#if defined(__linux__)
  if (bytes >= kHuge) p = map_huge(bytes, &h);
#endif
  if (!h.mapped) {
    void* base;
    if (posix_memalign(&base, kAlign, kAlign + bytes + kReadable)) return nullptr;
    h.base = base;
    p = static_cast<char*>(base) + kAlign;
    if (zeroed) memset(p, 0, bytes);
    memset(p + bytes, 0, kReadable);
  }
  memcpy(p - kAlign, &h, sizeof h);
  __atomic_fetch_add(&g_held, bytes, __ATOMIC_RELAXED);
  return p;
}

}  // namespace

void* mem_alloc(size_t bytes) { return alloc(bytes, false); }
void* mem_alloc_zeroed(size_t bytes) { return alloc(bytes, true); }

void mem_free(void* p) {
  if (!p) return;
  Header h;
  memcpy(&h, static_cast<char*>(p) - kAlign, sizeof h);
  __atomic_fetch_sub(&g_held, h.bytes, __ATOMIC_RELAXED);
#if defined(__linux__)
  if (h.mapped) {
    munmap(h.base, h.mapped);
    return;
  }
#endif
  free(h.base);
}

bool readable_behind(const void* data, size_t bytes) {
  if (bytes == 0) return true;
#if defined(__SANITIZE_ADDRESS__)
  return false;  // such reads are harmless but would be reported
#else
  constexpr uintptr_t kPage = 4096;  // the smallest anywhere
  uintptr_t last = reinterpret_cast<uintptr_t>(data) + bytes - 1;
  return last / kPage == (last + kReadable) / kPage;
#endif
}

uint64_t mem_alloc_count() { return __atomic_load_n(&g_count, __ATOMIC_RELAXED); }
uint64_t mem_bytes_held() { return __atomic_load_n(&g_held, __ATOMIC_RELAXED); }
void mem_fail_at(uint64_t n) { __atomic_store_n(&g_fail_at, n, __ATOMIC_RELAXED); }

void* Bump::take(size_t bytes) {
  size_t align = bytes >= 64 ? 64 : 16;
  if (head_) {
    size_t at = (head_->used + align - 1) & ~(align - 1);
    if (at <= head_->cap && bytes <= head_->cap - at) {
      head_->used = at + bytes;
      char* p = reinterpret_cast<char*>(head_) + at;
      memset(p, 0, bytes);
      return p;
    }
  }
  if (bytes > SIZE_MAX / 4) return nullptr;
  size_t cap = bytes + 64;
  if (cap < 4096) cap = 4096;
  if (head_ && cap < 2 * head_->cap && head_->cap < (size_t{1} << 18)) cap = 2 * head_->cap;
  if (cap < wanted_) cap = wanted_;
  if (budget_ && !budget_->take(cap)) return nullptr;
  Block* b = static_cast<Block*>(mem_alloc(cap));
  if (!b) {
    if (budget_) budget_->give(cap);
    return nullptr;
  }
  b->next = head_;
  b->cap = cap;
  b->used = 64;
  static_assert(sizeof(Block) <= 64);
  bytes_ += cap;
  head_ = b;
  return take(bytes);
}

void Bump::reset() {
  // What took several blocks gets one for all of it next time, which is then kept: equal rounds soon allocate nothing.
  if (head_ && head_->next) wanted_ = bytes_;
  while (head_ && head_->next) {
    Block* b = head_;
    head_ = b->next;
    bytes_ -= b->cap;
    if (budget_) budget_->give(b->cap);
    mem_free(b);
  }
  if (head_) head_->used = 64;
}

void Bump::release() {
  reset();
  if (head_ && budget_) budget_->give(head_->cap);
  mem_free(head_);
  head_ = nullptr;
  bytes_ = wanted_ = 0;
}

}  // namespace dk
