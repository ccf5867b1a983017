// Tensors whose size is known only at run time: blocks that are kept and used again, so that a second run with the same
// sizes allocates nothing.
#pragma once
#include "base/mem.h"

namespace dk {

struct HeapBlock {
  HeapBlock* next;
  void* data;
  size_t cap;
  int refs;
};

class Heap {
 public:
  explicit Heap(Budget* budget) : budget_(budget) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap() { trim(); }  // blocks still held by somebody leak: plans give theirs back before

  HeapBlock* take(size_t bytes);  // refs 1; null: out of memory or budget
  void drop(HeapBlock* block);    // one reference less; null is allowed
  void trim();                    // frees the blocks that nobody holds
  uint64_t peak() const { return peak_; }

 private:
  Budget* budget_;
  HeapBlock* free_ = nullptr;
  uint64_t live_ = 0, peak_ = 0;
};

}  // namespace dk
