#include "format/opset.h"

namespace dk {

// All names, of ops and then of attrs, in the order of the lists below.
constexpr char kOpNames[] =
#define DK_OP(code, name, ...) #name "\0"
#include "../schema/opset.inc"
#define DK_ATTR(op, index, name, ...) #name "\0"
#include "../schema/opset.inc"
    ;

namespace {

enum : uint16_t {
#define DK_OP(code, name, ...) code_##name = code,
#include "../schema/opset.inc"
};

struct Choice {
  uint16_t opcode;
  const char* attr;
};

constexpr bool same(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}

struct RawAttr {
  uint16_t opcode;
  uint8_t index;
  const char* name;
  AttrInfo info;
};

constexpr RawAttr kRawAttrs[] = {
#define DK_ATTR(op, index, name, kind, required, value) \
  {code_##op, index, #name, {static_cast<double>(value), 0, AttrKind::kind##_, required != 0, 0}},
#include "../schema/opset.inc"
};

constexpr Choice kChoices[] = {
#define DK_ENUM(op, attr, word, value) {code_##op, #attr},
#include "../schema/opset.inc"
};

constexpr OpInfo kRawOps[] = {
#define DK_OP(opcode, name, since, required, fixed, variadic, fixed_out, variadic_out, flags) \
  {opcode, 0, 0, since, required, fixed, variadic, fixed_out, variadic_out, flags, 0},
#include "../schema/opset.inc"
};

constexpr int kOps = sizeof kRawOps / sizeof *kRawOps;
constexpr int kAttrs = sizeof kRawAttrs / sizeof *kRawAttrs;

struct Table {
  OpInfo ops[kOps];
  AttrInfo attrs[kAttrs];
};

// Joins the three lists: both are ordered by opcode in the file.
constexpr Table join() {
  Table t{};
  int a = 0, at = 0;
  for (int i = 0; i < kOps; ++i) {
    t.ops[i] = kRawOps[i];
    t.ops[i].name_at = static_cast<uint16_t>(at);
    while (kOpNames[at++]) {
    }
    t.ops[i].first_attr = static_cast<uint16_t>(a);
    while (a < kAttrs && kRawAttrs[a].opcode == t.ops[i].opcode) {
      t.attrs[a] = kRawAttrs[a].info;
      for (const Choice& c : kChoices)
        if (c.opcode == kRawAttrs[a].opcode && same(c.attr, kRawAttrs[a].name)) ++t.attrs[a].choices;
      ++a;
    }
    t.ops[i].n_attrs = static_cast<uint8_t>(a - t.ops[i].first_attr);
  }
  for (AttrInfo& attr : t.attrs) {
    attr.name_at = static_cast<uint16_t>(at);
    while (kOpNames[at++]) {
    }
  }
  return t;
}

constexpr Table kTable = join();

constexpr bool sound() {
  int a = 0;
  for (const OpInfo& op : kTable.ops) {
    if (op.n_attrs > kMaxAttrs || op.first_attr != a) return false;
    for (int i = 0; i < op.n_attrs; ++i)
      if (kRawAttrs[a + i].index != i || !same(kOpNames + kTable.attrs[a + i].name_at, kRawAttrs[a + i].name))
        return false;
    a += op.n_attrs;
  }
  for (int i = 1; i < kOps; ++i)
    if (kTable.ops[i - 1].opcode >= kTable.ops[i].opcode) return false;
  return a == kAttrs && sizeof kOpNames < 1 << 16;
}
static_assert(sound(), "opset.inc: opcodes must rise, attrs must follow their op in index order");

}  // namespace

const AttrInfo& OpInfo::attr(int i) const { return kTable.attrs[first_attr + i]; }

const OpInfo* op_info(uint16_t opcode) {
  int low = 0, high = kOps - 1;
  while (low <= high) {
    int mid = (low + high) / 2;
    if (kTable.ops[mid].opcode == opcode) return &kTable.ops[mid];
    if (kTable.ops[mid].opcode < opcode) {
      low = mid + 1;
    } else {
      high = mid - 1;
    }
  }
  return nullptr;
}

}  // namespace dk
