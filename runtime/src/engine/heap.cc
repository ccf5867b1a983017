#include "engine/heap.h"

namespace dk {

HeapBlock* Heap::take(size_t bytes) {
  if (bytes > SIZE_MAX / 4) return nullptr;
  HeapBlock** best = nullptr;
  for (HeapBlock** at = &free_; *at; at = &(*at)->next)
    if ((*at)->cap >= bytes && (!best || (*at)->cap < (*best)->cap)) best = at;
  HeapBlock* b = nullptr;
  if (best && (*best)->cap <= 2 * bytes + 4096) {
    b = *best;
    *best = b->next;
  } else {
    size_t cap = (bytes + 255) & ~size_t{255};
    bool paid = budget_->take(cap);
    if (!paid) {
      trim();
      paid = budget_->take(cap);
    }
    if (!paid) return nullptr;
    b = static_cast<HeapBlock*>(mem_alloc(sizeof(HeapBlock)));
    void* data = b ? mem_alloc(cap) : nullptr;
    if (!data) {
      mem_free(b);
      budget_->give(cap);
      return nullptr;
    }
    b->data = data;
    b->cap = cap;
  }
  b->next = nullptr;
  b->refs = 1;
  live_ += b->cap;
  if (live_ > peak_) peak_ = live_;
  return b;
}

void Heap::drop(HeapBlock* b) {
  if (!b || --b->refs > 0) return;
  live_ -= b->cap;
  b->next = free_;
  free_ = b;
}

void Heap::trim() {
  while (free_) {
    HeapBlock* b = free_;
    free_ = b->next;
    budget_->give(b->cap);
    mem_free(b->data);
    mem_free(b);
  }
}

}  // namespace dk
