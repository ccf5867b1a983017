#include "format/opset.h"

namespace dk {

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

constexpr const char* kRawNames[] = {
#define DK_OP(opcode, name, ...) #name,
#include "../schema/opset.inc"
};

constexpr int kOps = sizeof kRawOps / sizeof *kRawOps;
constexpr int kAttrs = sizeof kRawAttrs / sizeof *kRawAttrs;

constexpr int length(const char* a) {
  int n = 0;
  while (a[n]) ++n;
  return n;
}

// The attr of the same name that comes first: many ops have a `kernel`, whose name is written once.
constexpr int first_of(int attr) {
  for (int i = 0; i < attr; ++i)
    if (same(kRawAttrs[i].name, kRawAttrs[attr].name)) return i;
  return attr;
}

constexpr int text_bytes() {
  int n = 0;
  for (const char* name : kRawNames) n += length(name) + 1;
  for (int i = 0; i < kAttrs; ++i)
    if (first_of(i) == i) n += length(kRawAttrs[i].name) + 1;
  return n;
}

struct Table {
  OpInfo ops[kOps];
  AttrInfo attrs[kAttrs];
  char names[text_bytes()];
};

constexpr uint16_t write(char* text, int* at, const char* name) {
  const int start = *at;
  for (; *name; ++name) text[(*at)++] = *name;
  text[(*at)++] = 0;
  return static_cast<uint16_t>(start);
}

// Joins the three lists: both are ordered by opcode in the file.
constexpr Table join() {
  Table t{};
  int a = 0, at = 0;
  for (int i = 0; i < kOps; ++i) {
    t.ops[i] = kRawOps[i];
    t.ops[i].name_at = write(t.names, &at, kRawNames[i]);
    t.ops[i].first_attr = static_cast<uint16_t>(a);
    while (a < kAttrs && kRawAttrs[a].opcode == t.ops[i].opcode) {
      const int first = first_of(a);
      t.attrs[a] = kRawAttrs[a].info;
      t.attrs[a].name_at = first < a ? t.attrs[first].name_at : write(t.names, &at, kRawAttrs[a].name);
      for (const Choice& c : kChoices)
        if (c.opcode == kRawAttrs[a].opcode && same(c.attr, kRawAttrs[a].name)) ++t.attrs[a].choices;
      ++a;
    }
    t.ops[i].n_attrs = static_cast<uint8_t>(a - t.ops[i].first_attr);
  }
  return t;
}

constexpr Table kTable = join();

constexpr bool sound() {
  int a = 0;
  for (const OpInfo& op : kTable.ops) {
    if (op.n_attrs > kMaxAttrs || op.first_attr != a) return false;
    for (int i = 0; i < op.n_attrs; ++i)
      if (kRawAttrs[a + i].index != i || !same(kTable.names + kTable.attrs[a + i].name_at, kRawAttrs[a + i].name))
        return false;
    a += op.n_attrs;
  }
  for (int i = 1; i < kOps; ++i)
    if (kTable.ops[i - 1].opcode >= kTable.ops[i].opcode) return false;
  return a == kAttrs && sizeof kTable.names < 1 << 16;
}
static_assert(sound(), "opset.inc: opcodes must rise, attrs must follow their op in index order");

}  // namespace

const char* AttrInfo::name() const { return kTable.names + name_at; }
const char* OpInfo::name() const { return kTable.names + name_at; }
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
