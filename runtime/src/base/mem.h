// All memory of the engine comes from here, so that it can be counted, limited and made to fail by tests.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace dk {

// 64-byte aligned, followed by kReadable readable bytes; null on failure, never null for size 0.  Blocks of 2 MB and
// more start on a 2 MB boundary and ask for huge pages: 4 KB pages cost up to 1.7x on streamed weights.
void* mem_alloc(size_t bytes);
void* mem_alloc_zeroed(size_t bytes);
void mem_free(void* p);

constexpr size_t kReadable = 64;

// True when reading kReadable bytes behind [data, data + bytes) cannot leave mapped memory: they lie in the page of the
// last byte.
bool readable_behind(const void* data, size_t bytes);

// For tests: calls of mem_alloc so far; bytes held; and "let the n-th allocation from now fail" (0: none).
uint64_t mem_alloc_count();
uint64_t mem_bytes_held();
void mem_fail_at(uint64_t n);

// A budget shared by everything that one session (or model) may hold.
struct Budget {
  uint64_t limit = 0;  // 0: none
  uint64_t used = 0;
  bool take(uint64_t bytes) {
    if (limit && (bytes > limit || used > limit - bytes)) return false;
    used += bytes;
    return true;
  }
  void give(uint64_t bytes) { used -= bytes; }
};

// A growable array of plain data.  Everything that may allocate returns false on failure.
template <class T>
class Vec {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  Vec() = default;
  Vec(const Vec&) = delete;
  Vec& operator=(const Vec&) = delete;
  Vec(Vec&& o) noexcept : p_(o.p_), n_(o.n_), cap_(o.cap_) { o.p_ = nullptr, o.n_ = o.cap_ = 0; }
  Vec& operator=(Vec&& o) noexcept {
    std::swap(p_, o.p_), std::swap(n_, o.n_), std::swap(cap_, o.cap_);
    return *this;
  }
  ~Vec() { mem_free(p_); }

  [[nodiscard]] bool reserve(size_t n) {
    if (n <= cap_) return true;
    size_t cap = cap_ + cap_ / 2;
    if (cap < n) cap = n;
    if (cap < 8) cap = 8;
    if (cap > SIZE_MAX / 2 / sizeof(T)) return false;
    T* p = static_cast<T*>(mem_alloc(cap * sizeof(T)));
    if (!p) return false;
    if (n_) memcpy(static_cast<void*>(p), p_, n_ * sizeof(T));
    mem_free(p_);
    p_ = p;
    cap_ = cap;
    return true;
  }
  [[nodiscard]] bool push(const T& v) {
    T copy = v;  // v may live in this array
    if (!reserve(n_ + 1)) return false;
    p_[n_++] = copy;
    return true;
  }
  // New elements are zero bytes.
  [[nodiscard]] bool resize(size_t n) {
    if (!reserve(n)) return false;
    if (n > n_) memset(static_cast<void*>(p_ + n_), 0, (n - n_) * sizeof(T));
    n_ = n;
    return true;
  }
  void clear() { n_ = 0; }
  void pop() { --n_; }
  size_t size() const { return n_; }
  bool empty() const { return n_ == 0; }
  T* data() { return p_; }
  const T* data() const { return p_; }
  T& operator[](size_t i) { return p_[i]; }
  const T& operator[](size_t i) const { return p_[i]; }
  T* begin() { return p_; }
  T* end() { return p_ + n_; }
  const T* begin() const { return p_; }
  const T* end() const { return p_ + n_; }
  T& back() { return p_[n_ - 1]; }

 private:
  T* p_ = nullptr;
  size_t n_ = 0;
  size_t cap_ = 0;
};

// Many small objects that die together.  Objects never move.
class Bump {
 public:
  Bump() = default;
  Bump(const Bump&) = delete;
  Bump& operator=(const Bump&) = delete;
  ~Bump() { release(); }
  // Zeroed, 64-byte aligned when large, 16 else; null on failure.
  void* take(size_t bytes);
  template <class T>
  T* array(size_t n) {
    return n > SIZE_MAX / 2 / sizeof(T) ? nullptr : static_cast<T*>(take(n * sizeof(T)));
  }
  // Blocks from now on are paid from it (null: from nothing); set before the first take, lives longer.
  void pay_from(Budget* budget) { budget_ = budget; }
  void reset();    // forgets all objects, keeps one block for reuse: after some rounds, one for all that a round takes
  void release();  // frees everything
  size_t bytes() const { return bytes_; }

 private:
  struct Block {
    Block* next;
    size_t cap;
    size_t used;
  };
  Block* head_ = nullptr;
  Budget* budget_ = nullptr;
  size_t bytes_ = 0;
  size_t wanted_ = 0;  // least size of the next block
};

}  // namespace dk
