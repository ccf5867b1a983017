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
  switch (t) {
    case DType::f64:
    case DType::s64:
    case DType::u64: return 8;
    case DType::f32:
    case DType::s32:
    case DType::u32: return 4;
    case DType::f16:
    case DType::bf16:
    case DType::s16:
    case DType::u16: return 2;
    case DType::none:
    case DType::count: return 0;
    default: return static_cast<uint8_t>(t) < static_cast<uint8_t>(DType::count) ? 1 : 0;
  }
}

inline bool is_float(DType t) {
  return (t >= DType::f32 && t <= DType::bf16) || (t >= DType::f8e4m3fn && t <= DType::f4e2m1fn);
}

const char* dtype_name(DType t);  // "float32", ...; "?" for bad codes

}  // namespace dk
