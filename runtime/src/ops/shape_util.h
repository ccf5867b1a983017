// Small helpers that op adapters share: axes, products, strides, parallel copies.  Everything is `static inline`, so
// nothing of it becomes a weak symbol.
#pragma once
#include <cstring>

#include "kernels/move/copy.h"
#include "ops/op.h"

namespace dk {

// Product of dims [from, to).
static inline int64_t product(const int64_t* dims, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; ++i) n *= dims[i];
  return n;
}
static inline int64_t product(const Tensor& t, int from, int to) { return product(t.dims, from, to); }

static inline void row_strides(int rank, const int64_t* dims, int64_t* strides) {
  int64_t n = 1;
  for (int i = rank - 1; i >= 0; --i) {
    strides[i] = n;
    n *= dims[i];
  }
}

static inline bool same_dims(const Tensor& a, const Tensor& b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i)
    if (a.dims[i] != b.dims[i]) return false;
  return true;
}

// An axis given as -rank .. rank - 1, as 0 .. rank - 1.
static inline Status axis_of(const OpContext& c, int64_t axis, int rank, int* to, const char* what = "axis") {
  *to = 0;
  if (axis < -rank || axis >= rank)
    return c.fail(Code::shape, "%s is out of range; got %lld, expected -%d to %d", what, static_cast<long long>(axis),
                  rank, rank - 1);
  *to = static_cast<int>(axis < 0 ? axis + rank : axis);
  return Code::ok;
}

// Distinct axes from `list` (count n); sets bits.
static inline Status axis_set(const OpContext& c, const int64_t* list, int n, int rank, uint32_t* bits) {
  *bits = 0;
  for (int i = 0; i < n; ++i) {
    int a;
    DK_TRY(axis_of(c, list[i], rank, &a));
    if (*bits >> a & 1) return c.fail(Code::shape, "axis %lld is named twice", static_cast<long long>(list[i]));
    *bits |= 1u << a;
  }
  return Code::ok;
}

static inline Status same_dtype(const OpContext& c, int i, int k) {
  if (c.in(i)->dtype != c.in(k)->dtype)
    return c.fail(Code::shape, "inputs %d and %d differ in dtype; got %s and %s", i, k, dtype_name(c.in(i)->dtype),
                  dtype_name(c.in(k)->dtype));
  return Code::ok;
}

static inline bool is_index(DType t) { return t == DType::s64 || t == DType::s32; }

// Element i of an index tensor (int32 or int64).
static inline int64_t index_at(const Tensor& t, int64_t i) {
  return t.dtype == DType::s64 ? t.as<int64_t>()[i] : t.as<int32_t>()[i];
}
static inline int64_t index_at(const void* data, DType t, int64_t i) {
  return t == DType::s64 ? static_cast<const int64_t*>(data)[i] : static_cast<const int32_t*>(data)[i];
}

// Units per part so that a part moves at least 64 KB: below that a fork costs more than it saves.
static inline int64_t copy_grain(int64_t unit_bytes) {
  return unit_bytes >= 65536 ? 1 : 65536 / (unit_bytes > 0 ? unit_bytes : 1);
}

static inline void copy_parallel(const OpContext& c, const CopyPlan& p, const void* src, void* dst) {
  if (p.units == 0) return;
  if (p.units * p.unit_bytes <= 65536) return copy_run(p, src, dst, 0, p.units);
  c.parallel(p.units, copy_grain(p.unit_bytes), [&](int64_t b, int64_t e, int) { copy_run(p, src, dst, b, e); });
}

static inline void copy_bytes(const OpContext& c, void* dst, const void* src, size_t bytes) {
  if (bytes == 0) return;
  if (bytes <= 65536) {
    memcpy(dst, src, bytes);
    return;
  }
  char* d = static_cast<char*>(dst);
  const char* s = static_cast<const char*>(src);
  c.parallel(static_cast<int64_t>((bytes + 4095) / 4096), 16, [=](int64_t b, int64_t e, int) {
    const size_t from = static_cast<size_t>(b) * 4096, to = static_cast<size_t>(e) * 4096;
    memcpy(d + from, s + from, (to < bytes ? to : bytes) - from);
  });
}

}  // namespace dk
