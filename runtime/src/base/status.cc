#include "base/status.h"

#include "base/dtype.h"
#include "base/text.h"

namespace dk {

Status ErrorText::set(Code code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  format_text_list(text, sizeof text, format, args);
  va_end(args);
  return code;
}

const char* dtype_name(DType t) {
  static const char* const names[] = {"none",           "float32",
                                      "float64",        "float16",
                                      "bfloat16",       "int8",
                                      "uint8",          "int16",
                                      "uint16",         "int32",
                                      "uint32",         "int64",
                                      "uint64",         "bool",
                                      "int4",           "uint4",
                                      "int2",           "uint2",
                                      "float8_e4m3fn",  "float8_e4m3fnuz",
                                      "float8_e5m2",    "float8_e5m2fnuz",
                                      "float8_e8m0fnu", "float4_e2m1fn"};
  static_assert(sizeof names / sizeof *names == static_cast<size_t>(DType::count));
  return t < DType::count ? names[static_cast<int>(t)] : "?";
}

}  // namespace dk
