#include "format/flat.h"

namespace dk {

FlatTable FlatTable::read(FlatBuffer& b, uint32_t at) {
  if (b.bad || !b.count(at, 1)) return {};
  if (at % 4 || !b.fits(at, 4)) return b.fail(at, "a table lies outside"), FlatTable{};
  int64_t vtable = static_cast<int64_t>(at) - load_le<int32_t>(b.bytes + at);
  if (vtable < 0 || vtable % 2 || vtable > b.size || !b.fits(static_cast<uint32_t>(vtable), 4))
    return b.fail(at, "a vtable lies outside"), FlatTable{};
  FlatTable t;
  t.vtable = static_cast<uint32_t>(vtable);
  t.vtable_size = load_le<uint16_t>(b.bytes + t.vtable);
  t.size = load_le<uint16_t>(b.bytes + t.vtable + 2);
  if (t.vtable_size < 4 || t.vtable_size % 2 || !b.fits(t.vtable, t.vtable_size))
    return b.fail(t.vtable, "a vtable has a wrong size"), FlatTable{};
  if (t.size < 4 || !b.fits(at, t.size)) return b.fail(at, "a table has a wrong size"), FlatTable{};
  t.b = &b;
  t.at = at;
  return t;
}

uint32_t FlatTable::field(int id, uint32_t width) const {
  uint32_t slot = 4 + 2 * static_cast<uint32_t>(id);
  if (b->bad || slot + 2 > vtable_size) return 0;
  uint32_t offset = load_le<uint16_t>(b->bytes + vtable + slot);
  if (offset == 0) return 0;
  if (offset < 4 || offset + width > size) return b->fail(at, "a field lies outside its table"), 0u;
  return at + offset;
}

uint32_t FlatTable::follow(uint32_t p) const {
  uint32_t offset = load_le<uint32_t>(b->bytes + p);
  if (offset == 0 || offset > b->size - p) return b->fail(p, "an offset leads outside"), 0u;
  return p + offset;
}

FlatVector FlatTable::vector(int id, uint32_t width) const {
  uint32_t p = field(id, 4);
  if (!p) return {};
  uint32_t v = follow(p);
  if (!v) return {};
  if (v % 4 || !b->fits(v, 4)) return b->fail(v, "a vector lies outside"), FlatVector{};
  uint32_t n = load_le<uint32_t>(b->bytes + v);
  if (!b->fits(v + 4, static_cast<uint64_t>(n) * width))
    return b->fail(v, "a vector is longer than the file"), FlatVector{};
  if (n && (v + 4) % width) return b->fail(v, "a vector is not aligned"), FlatVector{};
  if (!b->count(v, n)) return {};
  return {v + 4, n};
}

const char* FlatTable::string_at(uint32_t v, uint32_t* length) const {
  if (v % 4 || !b->fits(v, 4)) return b->fail(v, "a string lies outside"), "";
  uint32_t n = load_le<uint32_t>(b->bytes + v);
  if (!b->fits(v + 4, static_cast<uint64_t>(n) + 1)) return b->fail(v, "a string is longer than the file"), "";
  const uint8_t* s = b->bytes + v + 4;
  if (s[n] != 0) return b->fail(v, "a string has no end"), "";
  if (!b->count(v, n / 8 + 1)) return "";
  if (!valid_utf8(s, n)) return b->fail(v, "a string is not UTF-8"), "";
  if (length) *length = n;
  return reinterpret_cast<const char*>(s);
}

const char* FlatTable::string(int id, uint32_t* length) const {
  if (length) *length = 0;
  uint32_t p = field(id, 4);
  if (!p) return "";
  uint32_t v = follow(p);
  return v ? string_at(v, length) : "";
}

const char* FlatTable::string_element(const FlatVector& v, uint32_t i) const {
  uint32_t at = b->bad ? 0 : follow(v.at + 4 * i);
  return at ? string_at(at, nullptr) : "";
}

FlatTable FlatTable::element(const FlatVector& v, uint32_t i) const {
  uint32_t at = b->bad ? 0 : follow(v.at + 4 * i);
  return at ? FlatTable::read(*b, at) : FlatTable{};
}

// Strict (no zero bytes, overlong or surrogate sequences): names go on to Python and JavaScript.
bool valid_utf8(const uint8_t* s, uint64_t n) {
  for (uint64_t i = 0; i < n;) {
    uint8_t c = s[i];
    if (c < 0x80) {
      if (c == 0) return false;
      ++i;
      continue;
    }
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || n - i <= static_cast<uint64_t>(more)) return false;
    uint32_t code = c & (0x3f >> more);
    for (int k = 1; k <= more; ++k) {
      if ((s[i + static_cast<uint64_t>(k)] & 0xc0) != 0x80) return false;
      code = code << 6 | (s[i + static_cast<uint64_t>(k)] & 0x3f);
    }
    if ((more == 2 && code < 0x800) || (more == 3 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code < 0xe000))
      return false;
    i += 1 + static_cast<uint64_t>(more);
  }
  return true;
}

}  // namespace dk
