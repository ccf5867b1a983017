// A dense row-major tensor: what ops see.  Tensors do not own memory.
#pragma once
#include "base/dtype.h"

namespace dk {

constexpr int kMaxRank = 8;

struct Tensor {
  DType dtype = DType::none;
  uint8_t rank = 0;
  int64_t dims[kMaxRank] = {0};
  void* data = nullptr;

  // The planner guarantees that neither the count nor the bytes overflow for tensors that reach `run`.
  int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  size_t bytes() const { return static_cast<size_t>(count()) * dtype_size(dtype); }
  template <class T>
  T* as() {
    return static_cast<T*>(data);
  }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

template <class T>
struct Span {
  T* ptr = nullptr;
  int64_t len = 0;
  T* begin() const { return ptr; }
  T* end() const { return ptr + len; }
  T& operator[](int64_t i) const { return ptr[i]; }
  int64_t size() const { return len; }
  bool empty() const { return len == 0; }
};

// Checks the dims (rank, signs) and computes the bytes; false when a size does not fit 2^62 or the dtype is not one.
bool tensor_bytes(DType dtype, int rank, const int64_t* dims, uint64_t* bytes);

// "[1,224,224,3]" into a small buffer; returns it.
const char* show_dims(int rank, const int64_t* dims, char* buffer, size_t size);

}  // namespace dk
