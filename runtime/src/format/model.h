// A .dk file after verification: plain structs whose pointers lead into the file's bytes or the model's own memory.
// Everything here is safe to use without further checks; what remains for planning are shapes and dtypes of nodes.
#pragma once
#include "base/mem.h"
#include "base/os.h"
#include "base/tensor.h"
#include "format/opset.h"

namespace dk {

constexpr uint32_t kFormatVersion = 1;
constexpr int kMaxNesting = 24;  // bodies within bodies

// One attr of a node, complete: defaults are filled in.
struct AttrValue {
  int64_t i;
  double f;
  const int64_t* ints;
  const double* floats;
  const char* s;
  int64_t n;  // length of ints, floats or s
};

void default_attrs(const OpInfo& info, AttrValue* attrs);  // info.n_attrs entries

struct NodeDef {
  const OpInfo* op;
  const char* name;  // may be ""
  const AttrValue* attrs;
  const int32_t* inputs;  // value numbers, -1: absent
  const int32_t* outputs;
  int32_t n_in, n_out;
  int32_t body[2];   // if: then, else; loop: body; else -1
  int32_t variable;  // read_variable, assign_variable; else -1
};

struct InputDef {
  const char* name;
  DType dtype;  // none: not known
  int32_t value;
  int32_t rank;         // -1: not known
  const int64_t* dims;  // -1-k is symbol k
};

struct ConstantDef {
  Tensor tensor;
  int32_t value;
};

struct GraphDef {
  const char* name;
  int32_t index;
  int32_t n_values, n_inputs, n_outputs, n_constants, n_nodes;
  const InputDef* inputs;
  const ConstantDef* constants;
  const NodeDef* nodes;
  const int32_t* outputs;
  const char* const* output_names;
  const char* const* value_names;  // null: none in the file
  bool effects;                    // it or a body in it touches variables or random numbers

  const char* value_name(int32_t v) const { return value_names && v >= 0 ? value_names[v] : ""; }
};

struct VariableDef {
  const char* name;
  Tensor initial;  // data null: zeros
};

struct SignatureDef {
  const char* name;
  int32_t graph;
};

struct MetaDef {
  const char* key;
  const char* value;
};

struct LoadOptions {
  bool check_weights = true;
};

class ModelFile {
 public:
  ModelFile() = default;
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;
  ~ModelFile();

  // `data` must outlive the model; it is copied only when it is not 8-byte aligned or lacks readable bytes at its end.
  Status load(const uint8_t* data, size_t size, const LoadOptions& options, ErrorText* error);
  Status open(const char* path, uint64_t max_bytes, const LoadOptions& options, ErrorText* error);

  int32_t n_graphs = 0, n_variables = 0, n_signatures = 0, n_metadata = 0, n_symbols = 0;
  GraphDef* graphs = nullptr;
  VariableDef* variables = nullptr;
  SignatureDef* signatures = nullptr;  // [0] is main
  MetaDef* metadata = nullptr;
  const char** symbols = nullptr;
  uint64_t weights_size = 0;

  int32_t find_variable(const char* name) const;                                                       // -1: none
  int32_t find_signature(const char* name) const { return find_signature_among(name, n_signatures); }  // -1: none
  int32_t find_signature_among(const char* name, int32_t first_n) const;

 private:
  friend class Loader;
  FileBytes file_;
  uint8_t* copy_ = nullptr;
  Bump memory_;
};

// Says what bytes without the "DKIT" mark are likely to be; null when nothing comes to mind.
const char* what_is_it(const uint8_t* p, size_t n);

}  // namespace dk
