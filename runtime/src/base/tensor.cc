#include "base/tensor.h"

#include "base/text.h"

namespace dk {

bool tensor_bytes(DType dtype, int rank, const int64_t* dims, uint64_t* bytes) {
  if (rank < 0 || rank > kMaxRank) return false;
  uint64_t n = dtype_size(dtype);
  if (n == 0) return false;
  bool empty = false;
  // Zero dims do not excuse an overflow of the others: products of parts of the shape must be safe in ops too.
  for (int i = 0; i < rank; ++i) {
    if (dims[i] < 0) return false;
    if (dims[i] == 0) {
      empty = true;
      continue;
    }
    if (__builtin_mul_overflow(n, static_cast<uint64_t>(dims[i]), &n) || n > (uint64_t{1} << 62)) return false;
  }
  *bytes = empty ? 0 : n;
  return true;
}

const char* show_dims(int rank, const int64_t* dims, char* buffer, size_t size) {
  size_t at = 0;
  auto add = [&](int n) { at = n < 0 || at + static_cast<size_t>(n) >= size ? size - 1 : at + static_cast<size_t>(n); };
  add(format_text(buffer, size, "["));
  for (int i = 0; i < rank; ++i)
    add(format_text(buffer + at, size - at, i ? ",%lld" : "%lld", static_cast<long long>(dims[i])));
  add(format_text(buffer + at, size - at, "]"));
  return buffer;
}

}  // namespace dk
