#include "ops/broadcast.h"

#include "base/text.h"

namespace dk {

constexpr int kShortRun = 48;  // rows below this are gathered into parts

ShapeText::ShapeText(const Tensor& t) {
  size_t at = static_cast<size_t>(format_text(text, sizeof text, "["));
  for (int i = 0; i < t.rank; ++i)
    at += static_cast<size_t>(
        format_text(text + at, sizeof text - at, i ? ", %lld" : "%lld", static_cast<long long>(t.dims[i])));
  format_text(text + at, sizeof text - at, "]");
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
    bool contiguous = true, one = true, repeats = true;
    int64_t s = 1;
    for (int d = b->rank - 1; d >= 0; --d) {
      contiguous = contiguous && b->step[i][d] == s;
      one = one && b->step[i][d] == 0;
      repeats = repeats && b->step[i][d] == (d == b->rank - 1);
      s *= b->dims[d];
    }
    b->whole[i] = one ? 2 : contiguous ? 1 : repeats ? 3 : 0;
  }
  b->rows = b->rank == 1 || b->dims[b->rank - 1] >= kShortRun;
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

// Forward by n along dim d, to its end at most; the dims behind it are at 0.
void advance(const Broadcast& b, int d, int64_t n, Position* p) {
  p->index[d] += n;
  for (int i = 0; i < b.n_in; ++i) p->offset[i] += n * b.step[i][d];
  while (p->index[d] == b.dims[d] && d > 0) {
    p->index[d] = 0;
    for (int i = 0; i < b.n_in; ++i) p->offset[i] += b.step[i][d - 1] - b.dims[d] * b.step[i][d];
    ++p->index[--d];
  }
}

// Runs of n elements: run r starts at a + r * outer; step is 0 or 1.
template <class T>
void gather(const char* from, int64_t outer, int64_t step, int64_t runs, int64_t n, char* to) {
  const T* a = reinterpret_cast<const T*>(from);
  T* t = reinterpret_cast<T*>(to);
  for (int64_t r = 0; r < runs; ++r, a += outer, t += n)
    for (int64_t i = 0; i < n; ++i) t[i] = a[i * step];
}

void gather_sized(uint32_t size, const void* data, int64_t offset, int64_t outer, int64_t step, int64_t runs, int64_t n,
                  void* buffer, int64_t at) {
  const char* from = static_cast<const char*>(data) + static_cast<size_t>(offset) * size;
  char* to = static_cast<char*>(buffer) + static_cast<size_t>(at) * size;
  switch (size) {
    case 1: return gather<uint8_t>(from, outer, step, runs, n, to);
    case 2: return gather<uint16_t>(from, outer, step, runs, n, to);
    case 4: return gather<uint32_t>(from, outer, step, runs, n, to);
    default: return gather<uint64_t>(from, outer, step, runs, n, to);
  }
}

}  // namespace

void each_part(const Broadcast& b, const void* const* data, int64_t begin, int64_t end, void (*fn)(void*, const Part&),
               void* arg) {
  if (begin >= end) return;
  alignas(64) uint64_t buffer[kMaxBroadcast][kPart + 2 * kShortRun];
  const int last = b.rank - 1;
  Position p;
  seek(b, begin, &p);
  Part part;
  const int64_t run = b.dims[last];
  for (int i = 0; i < b.n_in && !b.rows; ++i)
    if (b.whole[i] == 3)  // written out once, parts start anywhere in the first run
      gather_sized(b.size[i], data[i], 0, 0, 1, (end - begin < kPart ? end - begin : kPart) / run + 2, run, buffer[i],
                   0);
  for (int64_t at = begin; at < end;) {
    part.at = at;
    if (b.rows) {
      int64_t n = b.dims[last] - p.index[last];
      part.n = n < end - at ? n : end - at;
      for (int i = 0; i < b.n_in; ++i) {
        part.in[i] = static_cast<const char*>(data[i]) + static_cast<size_t>(p.offset[i]) * b.size[i];
        part.step[i] = static_cast<int>(b.step[i][last]);
      }
      advance(b, last, part.n, &p);
    } else {
      part.n = end - at < kPart ? end - at : kPart;
      bool gathers = false;
      for (int i = 0; i < b.n_in; ++i) {
        const size_t size = b.size[i];
        part.step[i] = b.whole[i] != 2;
        part.in[i] = reinterpret_cast<char*>(buffer[i]) + static_cast<size_t>(b.whole[i] == 3 ? at % run : 0) * size;
        if (b.whole[i] == 1 || b.whole[i] == 2)
          part.in[i] = static_cast<const char*>(data[i]) + (b.whole[i] == 1 ? static_cast<size_t>(at) * size : 0);
        gathers |= b.whole[i] == 0;
      }
      for (int64_t done = 0; gathers && done < part.n;) {
        // a piece of a run, or as many whole runs as the next dim still has
        const int64_t left = part.n - done, room = b.dims[last - 1] - p.index[last - 1];
        const bool piece = p.index[last] != 0 || left < run;
        const int64_t n = piece ? (run - p.index[last] < left ? run - p.index[last] : left) : run;
        const int64_t runs = piece ? 1 : (left / run < room ? left / run : room);
        for (int i = 0; i < b.n_in; ++i)
          if (b.whole[i] == 0)
            gather_sized(b.size[i], data[i], p.offset[i], b.step[i][last - 1], b.step[i][last], runs, n, buffer[i],
                         done);
        if (piece)
          advance(b, last, n, &p);
        else
          advance(b, last - 1, runs, &p);
        done += runs * n;
      }
    }
    fn(arg, part);
    at += part.n;
  }
}

}  // namespace dk
