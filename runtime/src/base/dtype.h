// Element types; codes are those of the file format and of deploykit/dtypes.py.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

enum class DType : uint8_t {
  none = 0,
  f32 = 1,
  f64 = 2,
  f16 = 3,
  bf16 = 4,
  s8 = 5,
  u8 = 6,
  s16 = 7,
  u16 = 8,
  s32 = 9,
  u32 = 10,
  s64 = 11,
  u64 = 12,
  b8 = 13,  // bool, one byte, 0 or 1
  s4 = 14,  // sub-byte types are held unpacked, one element per byte
  u4 = 15,
  s2 = 16,
  u2 = 17,
  f8e4m3fn = 18,
  f8e4m3fnuz = 19,
  f8e5m2 = 20,
  f8e5m2fnuz = 21,
  f8e8m0fnu = 22,
  f4e2m1fn = 23,
  count = 24,
};

// Bytes of one element in a tensor; 0 for values that are not a dtype.
inline size_t dtype_size(DType t) {
  // Two bits a dtype, the logarithm: smaller than the table that every file would get of a switch.
  const auto pair = [](DType d, uint64_t log) { return log << (2 * static_cast<int>(d)); };
  const uint64_t logs = pair(DType::f64, 3) | pair(DType::s64, 3) | pair(DType::u64, 3) | pair(DType::f32, 2) |
                        pair(DType::s32, 2) | pair(DType::u32, 2) | pair(DType::f16, 1) | pair(DType::bf16, 1) |
                        pair(DType::s16, 1) | pair(DType::u16, 1);
  const unsigned code = static_cast<unsigned>(t);
  return code - 1 < static_cast<unsigned>(DType::count) - 1 ? size_t{1} << (logs >> 2 * code & 3) : 0;
}

inline bool is_float(DType t) {
  return (t >= DType::f32 && t <= DType::bf16) || (t >= DType::f8e4m3fn && t <= DType::f4e2m1fn);
}

const char* dtype_name(DType t);  // "float32", ...; "?" for bad codes

}  // namespace dk
