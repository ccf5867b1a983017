// The op table of opset.inc as data: what the verifier checks nodes against and where attr defaults come from.
#pragma once
#include <cstdint>

namespace dk {

enum class AttrKind : uint8_t { int_, float_, bool_, ints_, floats_, str_, dtype_, enum_, graph_ };

// Names are places in one text: a pointer each would cost a relocation, which takes three times its bytes in the
// library.
extern const char kOpNames[];

struct AttrInfo {
  double value;  // default of scalar kinds
  uint16_t name_at;
  AttrKind kind;
  bool required;
  uint8_t choices;  // enums: values are 0 .. choices-1

  const char* name() const;
};

struct OpInfo {
  uint16_t opcode, name_at, first_attr;
  uint8_t since;
  uint8_t required_in, fixed_in, variadic_in, fixed_out, variadic_out, flags;
  uint8_t n_attrs;

  const char* name() const;

  bool view() const { return flags & 1; }
  bool effect() const { return flags & 4; }
  bool random() const { return flags & 8; }
  const AttrInfo& attr(int i) const;
};

constexpr int kMaxAttrs = 32;

const OpInfo* op_info(uint16_t opcode);  // null for an unknown opcode

}  // namespace dk
