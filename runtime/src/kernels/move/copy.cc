#include "kernels/move/copy.h"

#include <cstring>

#include "kernels/move/transpose.h"

namespace dk {
namespace {

struct E16 {
  uint64_t a, b;
};

template <class T>
inline T load(const char* p) {
  T v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store(char* p, T v) {
  memcpy(p, &v, sizeof v);
}

// Short runs are common (3 channels, 3 floats); two overlapping moves beat a call of memcpy.
inline void copy_short(char* d, const char* s, int64_t n) {
  if (n >= 8) {
    if (n <= 16) {
      uint64_t a = load<uint64_t>(s), b = load<uint64_t>(s + n - 8);
      store(d, a);
      store(d + n - 8, b);
    } else {
      memcpy(d, s, static_cast<size_t>(n));
    }
  } else if (n >= 4) {
    uint32_t a = load<uint32_t>(s), b = load<uint32_t>(s + n - 4);
    store(d, a);
    store(d + n - 4, b);
  } else {
    for (int64_t i = 0; i < n; ++i) d[i] = s[i];
  }
}

// Walks the destination rows [begin, end) of dims[0 .. rank - 2] and calls f(source, destination).
template <class F>
void each_row(const CopyPlan& p, const char* src, char* dst, int64_t begin, int64_t end, F&& f) {
  const int outer = p.rank - 1;
  int64_t index[kCopyRank];
  const char* s = src;
  int64_t rest = begin;
  for (int k = outer - 1; k >= 0; --k) {
    index[k] = rest % p.dims[k];
    rest /= p.dims[k];
    s += index[k] * p.strides[k];
  }
  const int64_t row = p.dims[p.rank - 1] * p.esize;
  char* d = dst + begin * row;
  for (int64_t u = begin; u < end; ++u, d += row) {
    f(s, d);
    for (int k = outer - 1; k >= 0; --k) {
      s += p.strides[k];
      if (++index[k] < p.dims[k]) break;
      s -= p.strides[k] * p.dims[k];
      index[k] = 0;
    }
  }
}

template <class T>
void strided_rows(const CopyPlan& p, const char* src, char* dst, int64_t begin, int64_t end) {
  const int64_t n = p.dims[p.rank - 1], step = p.strides[p.rank - 1];
  each_row(p, src, dst, begin, end, [=](const char* s, char* d) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4, s += 4 * step, d += 4 * sizeof(T)) {
      T a = load<T>(s), b = load<T>(s + step), e = load<T>(s + 2 * step), f = load<T>(s + 3 * step);
      store(d, a);
      store(d + sizeof(T), b);
      store(d + 2 * sizeof(T), e);
      store(d + 3 * sizeof(T), f);
    }
    for (; i < n; ++i, s += step, d += sizeof(T)) store(d, load<T>(s));
  });
}

void transpose_units(const CopyPlan& p, const char* src, char* dst, int64_t begin, int64_t end) {
  const int last = p.rank - 1;
  const int64_t blocks = (p.dims[p.swap] + kTransposeRows - 1) / kTransposeRows;
  for (int64_t u = begin; u < end; ++u) {
    const int64_t first = (u % blocks) * kTransposeRows;
    const int64_t rows = p.dims[p.swap] - first < kTransposeRows ? p.dims[p.swap] - first : kTransposeRows;
    int64_t rest = u / blocks;
    const char* s = src + first * p.esize;
    char* d = dst + first * p.out_strides[p.swap];
    for (int k = last - 1; k >= 0; --k) {
      if (k == p.swap) continue;
      s += rest % p.dims[k] * p.strides[k];
      d += rest % p.dims[k] * p.out_strides[k];
      rest /= p.dims[k];
    }
    transpose_block(p.esize, rows, p.dims[last], s, p.strides[last], d, p.out_strides[p.swap]);
  }
}

}  // namespace

void copy_rows(void* dst, int64_t dst_stride, const void* src, int64_t src_stride, int64_t run, int64_t rows) {
  char* d = static_cast<char*>(dst);
  const char* s = static_cast<const char*>(src);
  auto go = [=](auto move) {
    for (int64_t i = 0; i < rows; ++i) move(d + i * dst_stride, s + i * src_stride);
  };
  switch (run) {
    case 0: break;
    case 1: go([](char* to, const char* from) { *to = *from; }); break;
    case 2: go([](char* to, const char* from) { store(to, load<uint16_t>(from)); }); break;
    case 4: go([](char* to, const char* from) { store(to, load<uint32_t>(from)); }); break;
    case 8: go([](char* to, const char* from) { store(to, load<uint64_t>(from)); }); break;
    default:
      if (run <= 32)
        go([=](char* to, const char* from) { copy_short(to, from, run); });
      else
        go([=](char* to, const char* from) { memcpy(to, from, static_cast<size_t>(run)); });
  }
}

void fill_run(void* dst, const void* value, size_t esize, int64_t n) {
  char* d = static_cast<char*>(dst);
  const char* v = static_cast<const char*>(value);
  bool same = true;  // all bytes equal: zero, -1, any byte element
  for (size_t i = 1; i < esize; ++i) same &= v[i] == v[0];
  if (same) {
    memset(d, v[0], esize * static_cast<size_t>(n));
    return;
  }
  auto go = [=](auto x) {
    memcpy(&x, v, sizeof x);
    for (int64_t i = 0; i < n; ++i) store(d + i * sizeof x, x);
  };
  switch (esize) {
    case 2: go(uint16_t()); break;
    case 4: go(uint32_t()); break;
    case 8: go(uint64_t()); break;
    default: go(E16()); break;
  }
}

void copy_plan(CopyPlan* p, size_t esize, int rank, const int64_t* dims, const int64_t* strides, int64_t offset) {
  *p = CopyPlan();
  const int64_t size = static_cast<int64_t>(esize);
  p->offset = offset * size;
  int n = 0;
  for (int i = 0; i < rank; ++i) {
    if (dims[i] == 0) return;
    if (dims[i] == 1) continue;
    const int64_t step = strides[i] * size;
    if (n > 0 && p->strides[n - 1] == step * dims[i]) {
      p->dims[n - 1] *= dims[i];
      p->strides[n - 1] = step;
    } else {
      p->dims[n] = dims[i];
      p->strides[n++] = step;
    }
  }
  int64_t width = size;
  if (n > 0 && p->strides[n - 1] == size) {  // the inner run becomes the element if it fits one
    const int64_t run = p->dims[n - 1] * size;
    if (n == 1) {
      p->kind = CopyPlan::flat;
    } else if (run <= 16 && (run & (run - 1)) == 0) {
      width = run;
      --n;
    }
  }
  if (n == 0) {
    p->dims[n] = 1;
    p->strides[n++] = width;
    p->kind = CopyPlan::flat;
  }
  p->esize = static_cast<uint8_t>(width);
  p->rank = n;
  int64_t bytes = width;
  for (int i = n - 1; i >= 0; --i) {
    p->out_strides[i] = bytes;
    bytes *= p->dims[i];
  }
  if (p->kind == CopyPlan::flat) {
    p->units = (bytes + kCopyBlock - 1) / kCopyBlock;
    p->unit_bytes = bytes < kCopyBlock ? bytes : kCopyBlock;
    return;
  }
  const int64_t inner = p->dims[n - 1];
  p->units = bytes / (inner * width);
  p->unit_bytes = inner * width;
  if (p->strides[n - 1] == width) {
    p->kind = CopyPlan::rows;
  } else if (p->strides[n - 1] == 0) {
    p->kind = CopyPlan::spread;
  } else {
    p->kind = CopyPlan::strided;
    for (int i = 0; i + 1 < n; ++i)
      if (p->strides[i] == width) {
        p->kind = CopyPlan::transpose;
        p->swap = i;
        p->units = p->units / p->dims[i] * ((p->dims[i] + kTransposeRows - 1) / kTransposeRows);
        p->unit_bytes *= p->dims[i] < kTransposeRows ? p->dims[i] : kTransposeRows;
      }
  }
}

void copy_run(const CopyPlan& p, const void* source, void* dest, int64_t begin, int64_t end) {
  const char* src = static_cast<const char*>(source) + p.offset;
  char* dst = static_cast<char*>(dest);
  const int64_t run = p.rank ? p.dims[p.rank - 1] * p.esize : 0;
  switch (p.kind) {
    case CopyPlan::none: break;
    case CopyPlan::flat: {
      const int64_t from = begin * kCopyBlock, to = end * kCopyBlock < run ? end * kCopyBlock : run;
      if (to > from) memcpy(dst + from, src + from, static_cast<size_t>(to - from));
      break;
    }
    case CopyPlan::rows:
      if (run <= 32)
        each_row(p, src, dst, begin, end, [=](const char* s, char* d) { copy_short(d, s, run); });
      else
        each_row(p, src, dst, begin, end, [=](const char* s, char* d) { memcpy(d, s, static_cast<size_t>(run)); });
      break;
    case CopyPlan::spread:
      each_row(p, src, dst, begin, end, [&](const char* s, char* d) { fill_run(d, s, p.esize, p.dims[p.rank - 1]); });
      break;
    case CopyPlan::strided:
      switch (p.esize) {
        case 1: strided_rows<uint8_t>(p, src, dst, begin, end); break;
        case 2: strided_rows<uint16_t>(p, src, dst, begin, end); break;
        case 4: strided_rows<uint32_t>(p, src, dst, begin, end); break;
        case 8: strided_rows<uint64_t>(p, src, dst, begin, end); break;
        default: strided_rows<E16>(p, src, dst, begin, end); break;
      }
      break;
    case CopyPlan::transpose: transpose_units(p, src, dst, begin, end); break;
  }
}

}  // namespace dk
