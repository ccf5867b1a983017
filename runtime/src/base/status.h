// Results of everything that can fail.  The engine uses no exceptions; the text of an error is kept in the ErrorText of
// the session, the code travels as the return value.
#pragma once
#include <cstdint>

namespace dk {

enum class Code : int32_t {
  ok = 0,
  format = 1,        // DK-FORMAT: the file is damaged or not a .dk file
  version = 2,       // DK-VERSION: the file is newer than the engine, or uses an unknown op
  shape = 3,         // DK-SHAPE: shapes or dtypes of an op do not fit
  input = 4,         // DK-INPUT: a wrong name, shape or dtype given by the caller
  index = 5,         // DK-INDEX: an index in the data is out of range
  memory = 6,        // DK-MEMORY: an allocation failed or the limit of memory was reached
  unsupported = 7,   // DK-UNSUPPORTED: no kernel for this op, dtype or attr
  io = 8,            // DK-IO: the operating system refused
  internal = 9,      // DK-INTERNAL: a bug in the engine
  limit = 10,        // DK-LIMIT: the run took more steps or time than the caller allows
  cancelled = 11,    // DK-CANCELLED: the caller stopped the run
  need_value = 100,  // only inside planning: the shape depends on data that is not known yet
};

struct [[nodiscard]] Status {
  Code code = Code::ok;
  constexpr Status() = default;
  constexpr Status(Code c) : code(c) {}  // NOLINT: implicit on purpose
  constexpr bool ok() const { return code == Code::ok; }
};

#define DK_TRY(expr)                               \
  do {                                             \
    ::dk::Status dk_try_status = (expr);           \
    if (!dk_try_status.ok()) return dk_try_status; \
  } while (0)

// A fixed buffer for the message of the last error; never allocates.
struct ErrorText {
  char text[512] = {0};
  // printf formats %s %d %lld %zu %g; returns `code` so that callers can write `return err.set(Code::shape, ...)`.
  Status set(Code code, const char* format, ...) __attribute__((format(printf, 3, 4)));
};

}  // namespace dk
