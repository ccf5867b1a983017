#include "base/cpus.h"
#include "capi/capi.h"
#include "engine/op_state.h"

namespace dk {

ErrorText& last_error() {
  static thread_local ErrorText text;
  return text;
}

Status from_c(const dk_tensor& t, const char* what, bool need_data, Tensor* to, ErrorText* error) {
  if (t.dtype <= 0 || t.dtype >= static_cast<int>(DType::count))
    return error->set(Code::input, "%s: dtype %d is not one", what, t.dtype);
  if (t.rank < 0 || t.rank > kMaxRank)
    return error->set(Code::input, "%s: rank %d, expected 0 to %d", what, t.rank, kMaxRank);
  DType dtype = static_cast<DType>(t.dtype);
  uint64_t bytes;
  char dims[192];
  if (!tensor_bytes(dtype, t.rank, t.dims, &bytes))
    return error->set(Code::input, "%s: %s%s is not a possible tensor", what, dtype_name(dtype),
                      show_dims(t.rank, t.dims, dims, sizeof dims));
  if (t.data || need_data) {
    if (t.bytes != bytes)
      return error->set(Code::input, "%s: got %zu bytes, expected %llu for %s%s", what, t.bytes,
                        static_cast<unsigned long long>(bytes), dtype_name(dtype),
                        show_dims(t.rank, t.dims, dims, sizeof dims));
    if (!t.data && bytes) return error->set(Code::input, "%s: data is null", what);
  }
  to->dtype = dtype;
  to->rank = static_cast<uint8_t>(t.rank);
  for (int i = 0; i < kMaxRank; ++i) to->dims[i] = i < t.rank ? t.dims[i] : 0;
  to->data = t.data;
  return {};
}

void to_c(const Tensor& t, dk_tensor* to) {
  to->dtype = static_cast<int32_t>(t.dtype);
  to->rank = t.rank;
  for (int i = 0; i < kMaxRank; ++i) to->dims[i] = i < t.rank ? t.dims[i] : 0;
  to->data = t.data;
  to->bytes = t.bytes();
}

}  // namespace dk

using namespace dk;

extern "C" {

int32_t dk_api_version(void) { return DK_API_VERSION; }
const char* dk_version(void) { return "0.1.0"; }
const char* dk_last_error(void) { return last_error().text; }
int32_t dk_cpu_count(void) { return cpu_count(); }

const char* dk_status_name(dk_status status) {
  static const char* const names[] = {"DK-OK",    "DK-FORMAT",   "DK-VERSION", "DK-SHAPE",
                                      "DK-INPUT", "DK-INDEX",    "DK-MEMORY",  "DK-UNSUPPORTED",
                                      "DK-IO",    "DK-INTERNAL", "DK-LIMIT",   "DK-CANCELLED"};
  return status >= 0 && status < static_cast<int>(sizeof names / sizeof *names) ? names[status] : "DK-ERROR";
}

// Not in dk.h: for tests of the engine's memory habits.
DK_API uint64_t dk_test_alloc_count(void) { return mem_alloc_count(); }
DK_API uint64_t dk_test_bytes_held(void) { return mem_bytes_held(); }
DK_API void dk_test_fail_at(uint64_t n) { mem_fail_at(n); }

}  // extern "C"
