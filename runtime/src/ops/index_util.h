// Helpers of the index ops: index checks, memory inside infer, loads of any numeric element.
#pragma once
#include "base/convert.h"
#include "base/mem.h"
#include "ops/shape_util.h"

namespace dk {

// Ops whose output shape is found in the data (unique, non_max_suppression) need memory to find it.  Such nodes are
// planned at run time, and their memory is the session's and kept for the next run (OpContext::borrow); where nothing
// runs it is freed on return.
struct TempMemory {
  void* p = nullptr;
  const OpContext* from = nullptr;  // null: p is ours
  TempMemory() = default;
  TempMemory(const TempMemory&) = delete;
  TempMemory& operator=(const TempMemory&) = delete;
  ~TempMemory() {
    if (from)
      from->give_back();
    else
      mem_free(p);
  }
  Status get(const OpContext& c, size_t bytes) {
    if (c.may_borrow()) from = &c;
    p = from ? c.borrow(bytes) : mem_alloc(bytes);
    if (!p) return c.fail(Code::memory, "cannot get %zu bytes to look at the data", bytes);
    return Code::ok;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(p);
  }
};

static inline Status bad_index(const OpContext& c, int input, int64_t at, int64_t got, int64_t size) {
  return c.fail(Code::index, "element %lld of input %d is %lld, expected -%lld to %lld", static_cast<long long>(at),
                input, static_cast<long long>(got), static_cast<long long>(size), static_cast<long long>(size - 1));
}

// All n indices within -size .. size - 1?
static inline Status check_indices(const OpContext& c, int input, const void* data, DType t, int64_t n, int64_t size) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t v = index_at(data, t, i);
    if (v < -size || v >= size) return bad_index(c, input, i, v, size);
  }
  return Code::ok;
}

static inline Status index_input(const OpContext& c, int input) {
  if (!is_index(c.in(input)->dtype))
    return c.fail(Code::shape, "input %d must be int64 or int32; got %s", input, dtype_name(c.in(input)->dtype));
  return Code::ok;
}

// One number of any dtype as a 64-bit integer, truncated toward zero; false for NaN and numbers beyond 64 bits.
static inline bool number_at(const void* data, DType t, int64_t i, int64_t* to) {
  const char* p = static_cast<const char*>(data) + static_cast<size_t>(i) * dtype_size(t);
  if (wide_of(t) == Wide::f32 || wide_of(t) == Wide::f64) {
    double d;
    if (wide_of(t) == Wide::f32) {
      float f;
      load_wide(t, p, 1, &f);
      d = f;
    } else {
      memcpy(&d, p, 8);
    }
    if (!(d > -9.2e18 && d < 9.2e18)) return false;
    *to = static_cast<int64_t>(d);
  } else if (wide_of(t) == Wide::u64) {
    uint64_t u;
    load_wide(t, p, 1, &u);
    if (u > INT64_MAX) return false;
    *to = static_cast<int64_t>(u);
  } else {
    load_wide(t, p, 1, to);
  }
  return true;
}

}  // namespace dk
