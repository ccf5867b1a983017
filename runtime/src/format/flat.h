// Reading a FlatBuffer that nobody vouches for.  Every offset, length and alignment is checked before it is followed;
// a bad one makes the accessor return nothing and sets `bad`, with the byte where it happened.  Hand-written because
// the generated verifier needs the library's headers and cannot see what lies outside the FlatBuffer.
//
// Wire format: https://flatbuffers.dev/internals/
#pragma once
#include <cstdint>
#include <cstring>

#include "base/tensor.h"

namespace dk {

template <class T>
T load_le(const uint8_t* p) {
  T v;
  memcpy(&v, p, sizeof v);
  return v;
}

struct FlatBuffer {
  const uint8_t* bytes = nullptr;  // 8-byte aligned
  uint32_t size = 0;
  bool bad = false;
  uint32_t bad_at = 0;
  const char* bad_what = "";
  // Elements seen so far.  Offsets may point to shared tables, so that a small file could describe a huge model; each
  // element of an honest file occupies at least a byte.
  uint64_t seen = 0;

  bool fail(uint32_t at, const char* what) {
    if (!bad) bad = true, bad_at = at, bad_what = what;
    return false;
  }
  bool fits(uint32_t at, uint64_t n) const { return at <= size && n <= size - at; }
  bool count(uint32_t at, uint64_t n) {
    seen += n;
    return seen <= 16 * static_cast<uint64_t>(size) || fail(at, "tables are shared too often");
  }
};

struct FlatVector {
  uint32_t at = 0;  // of the first element
  uint32_t n = 0;
};

struct FlatTable {
  FlatBuffer* b = nullptr;
  uint32_t at = 0;
  uint32_t vtable = 0;
  uint16_t vtable_size = 0;
  uint16_t size = 0;

  explicit operator bool() const { return b != nullptr; }
  static FlatTable read(FlatBuffer& b, uint32_t at);

  // Position of field `id` when present with `width` bytes inside the table, else 0.
  uint32_t field(int id, uint32_t width) const;
  template <class T>
  T scalar(int id, T otherwise) const {
    uint32_t p = field(id, sizeof(T));
    return p ? load_le<T>(b->bytes + p) : otherwise;
  }
  FlatVector vector(int id, uint32_t width) const;  // absent: n = 0
  template <class T>
  Span<const T> numbers(int id) const {  // in place
    FlatVector v = vector(id, sizeof(T));
    return {reinterpret_cast<const T*>(b->bytes + v.at), v.n};
  }
  const char* string(int id, uint32_t* length = nullptr) const;  // "" when absent
  FlatTable element(const FlatVector& v, uint32_t i) const;
  const char* string_element(const FlatVector& v, uint32_t i) const;

 private:
  uint32_t follow(uint32_t p) const;  // an unsigned offset at p; 0 when it leaves the buffer
  const char* string_at(uint32_t p, uint32_t* length) const;
};

bool valid_utf8(const uint8_t* s, uint64_t n);

}  // namespace dk
