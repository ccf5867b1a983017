#include "ops/broadcast.h"

#include <cstdio>

namespace dk {

ShapeText::ShapeText(const Tensor& t) {
  size_t at = static_cast<size_t>(snprintf(text, sizeof text, "["));
  for (int i = 0; i < t.rank; ++i)
    at += static_cast<size_t>(
        snprintf(text + at, sizeof text - at, i ? ", %lld" : "%lld", static_cast<long long>(t.dims[i])));
  snprintf(text + at, sizeof text - at, "]");
}

Status broadcast_shapes(const OpContext& c, const Tensor* const* in, int n_in, int64_t* dims, int* rank) {
  int r = 0;
  for (int i = 0; i < n_in; ++i) r = in[i]->rank > r ? in[i]->rank : r;
  for (int d = 0; d < r; ++d) {
    int64_t v = 1;
    for (int i = 0; i < n_in; ++i) {
      int k = d - (r - in[i]->rank);
      int64_t x = k < 0 ? 1 : in[i]->dims[k];
      if (v != 1 && x != 1 && x != v) {
        const ShapeText a(*in[0]), b(*in[1]), last(*in[n_in - 1]);
        return n_in > 2 ? c.fail(Code::shape, "shapes do not broadcast; got %s, %s and %s", a.text, b.text, last.text)
                        : c.fail(Code::shape, "shapes do not broadcast; got %s and %s", a.text, b.text);
      }
      if (x != 1) v = x;
    }
    dims[d] = v;
  }
  *rank = r;
  return Code::ok;
}

void plan_broadcast(Broadcast* b, const Tensor* const* in, int n_in, const Tensor& out) {
  b->n_in = n_in;
  b->count = out.count();
  b->rank = 0;
  int64_t stride[kMaxBroadcast][kMaxRank];
  for (int i = 0; i < n_in; ++i) {
    b->size[i] = static_cast<uint32_t>(dtype_size(in[i]->dtype));
    int64_t s = 1;
    for (int d = out.rank - 1; d >= 0; --d) {
      int k = d - (out.rank - in[i]->rank);
      int64_t x = k < 0 ? 1 : in[i]->dims[k];
      stride[i][d] = x == 1 ? 0 : s;
      s *= x;
    }
  }
  for (int d = 0; d < out.rank; ++d) {
    if (out.dims[d] == 1) continue;
    bool merge = b->rank > 0;
    for (int i = 0; i < n_in && merge; ++i) merge = b->step[i][b->rank - 1] == stride[i][d] * out.dims[d];
    int to = merge ? b->rank - 1 : b->rank++;
    b->dims[to] = merge ? b->dims[to] * out.dims[d] : out.dims[d];
    for (int i = 0; i < n_in; ++i) b->step[i][to] = stride[i][d];
  }
  if (b->rank == 0) {
    b->rank = 1;
    b->dims[0] = 1;
    for (int i = 0; i < n_in; ++i) b->step[i][0] = 0;
  }
  for (int i = 0; i < n_in; ++i) {
    bool contiguous = true, one = true;
    int64_t s = 1;
    for (int d = b->rank - 1; d >= 0; --d) {
      contiguous = contiguous && b->step[i][d] == s;
      one = one && b->step[i][d] == 0;
      s *= b->dims[d];
    }
    b->whole[i] = one ? 2 : contiguous ? 1 : 0;
  }
  b->rows = b->rank == 1 || b->dims[b->rank - 1] >= 48;
}

namespace {

struct Position {
  int64_t index[kMaxRank];
  int64_t offset[kMaxBroadcast];
};

void seek(const Broadcast& b, int64_t at, Position* p) {
  for (int i = 0; i < b.n_in; ++i) p->offset[i] = 0;
  for (int d = b.rank - 1; d >= 0; --d) {
    p->index[d] = at % b.dims[d];
    at /= b.dims[d];
    for (int i = 0; i < b.n_in; ++i) p->offset[i] += p->index[d] * b.step[i][d];
  }
}

// Forward by n elements of the last dim, which stay within it or end it.
void advance(const Broadcast& b, int64_t n, Position* p) {
  int d = b.rank - 1;
  p->index[d] += n;
  for (int i = 0; i < b.n_in; ++i) p->offset[i] += n * b.step[i][d];
  while (p->index[d] == b.dims[d] && d > 0) {
    p->index[d] = 0;
    for (int i = 0; i < b.n_in; ++i) p->offset[i] += b.step[i][d - 1] - b.dims[d] * b.step[i][d];
    ++p->index[--d];
  }
}

template <class T>
void gather(const void* from, int64_t offset, int64_t step, int64_t n, void* to) {
  const T* a = static_cast<const T*>(from) + offset;
  T* t = static_cast<T*>(to);
  if (step)
    for (int64_t i = 0; i < n; ++i) t[i] = a[i];
  else
    for (int64_t i = 0; i < n; ++i) t[i] = a[0];
}

void gather_sized(uint32_t size, const void* from, int64_t offset, int64_t step, int64_t n, void* to) {
  switch (size) {
    case 1: return gather<uint8_t>(from, offset, step, n, to);
    case 2: return gather<uint16_t>(from, offset, step, n, to);
    case 4: return gather<uint32_t>(from, offset, step, n, to);
    default: return gather<uint64_t>(from, offset, step, n, to);
  }
}

}  // namespace

void each_part(const Broadcast& b, const void* const* data, int64_t begin, int64_t end, void (*fn)(void*, const Part&),
               void* arg) {
  if (begin >= end) return;
  alignas(64) uint64_t buffer[kMaxBroadcast][kPart];
  const int last = b.rank - 1;
  Position p;
  seek(b, begin, &p);
  Part part;
  for (int64_t at = begin; at < end;) {
    part.at = at;
    if (b.rows) {
      int64_t n = b.dims[last] - p.index[last];
      part.n = n < end - at ? n : end - at;
      for (int i = 0; i < b.n_in; ++i) {
        part.in[i] = static_cast<const char*>(data[i]) + static_cast<size_t>(p.offset[i]) * b.size[i];
        part.step[i] = static_cast<int>(b.step[i][last]);
      }
      advance(b, part.n, &p);
    } else {
      part.n = end - at < kPart ? end - at : kPart;
      for (int i = 0; i < b.n_in; ++i) {
        size_t first = b.whole[i] == 1 ? static_cast<size_t>(at) * b.size[i] : 0;
        part.in[i] = b.whole[i] ? static_cast<const char*>(data[i]) + first : reinterpret_cast<char*>(buffer[i]);
        part.step[i] = b.whole[i] != 2;
      }
      for (int64_t done = 0; done < part.n;) {
        int64_t n = b.dims[last] - p.index[last];
        n = n < part.n - done ? n : part.n - done;
        for (int i = 0; i < b.n_in; ++i)
          if (!b.whole[i])
            gather_sized(b.size[i], data[i], p.offset[i], b.step[i][last], n,
                         reinterpret_cast<char*>(buffer[i]) + static_cast<size_t>(done) * b.size[i]);
        advance(b, n, &p);
        done += n;
      }
    }
    fn(arg, part);
    at += part.n;
  }
}

}  // namespace dk
