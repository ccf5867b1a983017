#include "engine/memory_plan.h"

namespace dk {
namespace {

constexpr uint64_t kAlign = 64;
constexpr int32_t kSearchLimit = 20000;

// Heap sort: no recursion, no library.
template <class Less>
void sort(int32_t* a, int32_t n, Less less) {
  auto sift = [&](int32_t i, int32_t end) {
    for (;;) {
      int32_t child = 2 * i + 1;
      if (child >= end) return;
      if (child + 1 < end && less(a[child], a[child + 1])) ++child;
      if (!less(a[i], a[child])) return;
      int32_t t = a[i];
      a[i] = a[child];
      a[child] = t;
      i = child;
    }
  };
  for (int32_t i = n / 2; i-- > 0;) sift(i, n);
  for (int32_t end = n; end-- > 1;) {
    int32_t t = a[0];
    a[0] = a[end];
    a[end] = t;
    sift(0, end);
  }
}

bool cross(const ArenaBuffer& a, const ArenaBuffer& b) { return a.first <= b.last && b.first <= a.last; }

uint64_t rounded(uint64_t bytes) { return (bytes + kAlign - 1) & ~(kAlign - 1); }

}  // namespace

uint64_t plan_arena(ArenaBuffer* b, int32_t n, int32_t* order, int32_t* placed) {
  for (int32_t i = 0; i < n; ++i) order[i] = i;
  bool by_size = n <= kGreedyLimit;
  if (by_size) {
    sort(order, n, [&](int32_t x, int32_t y) {
      return b[x].bytes != b[y].bytes   ? b[x].bytes > b[y].bytes
             : b[x].first != b[y].first ? b[x].first < b[y].first
                                        : x < y;
    });
  } else {
    sort(order, n, [&](int32_t x, int32_t y) { return b[x].first != b[y].first ? b[x].first < b[y].first : x < y; });
  }
  uint64_t total = 0;
  int32_t n_placed = 0;  // sorted by offset
  for (int32_t k = 0; k < n; ++k) {
    ArenaBuffer& x = b[order[k]];
    uint64_t need = rounded(x.bytes), end = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
    if (n_placed > kSearchLimit) {  // no honest model: do not search, append
      x.offset = total;
      total += need;
      continue;
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < n_placed; ++i) {
      const ArenaBuffer& p = b[placed[i]];
      // in order of time, what has ended never matters again
      if (!by_size && p.last < x.first) continue;
      placed[kept++] = placed[i];
      if (!cross(p, x)) continue;
      if (p.offset > end && p.offset - end >= need && p.offset - end < best_gap) {
        best = end;
        best_gap = p.offset - end;
      }
      uint64_t p_end = p.offset + rounded(p.bytes);
      if (p_end > end) end = p_end;
    }
    n_placed = kept;
    x.offset = best != UINT64_MAX ? best : end;
    if (x.offset + need > total) total = x.offset + need;
    int32_t at = n_placed++;
    while (at > 0 && b[placed[at - 1]].offset > x.offset) placed[at] = placed[at - 1], --at;
    placed[at] = order[k];
  }
  return total;
}

}  // namespace dk
