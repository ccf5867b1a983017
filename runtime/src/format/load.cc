// Reads a .dk file and verifies all of it: checksums, every offset and index, the op signatures of opset.inc, sizes.
// Linear in the size of the file whatever its content.
#include "base/crc32.h"
#include "base/text.h"
#include "format/flat.h"
#include "format/model.h"

namespace dk {
namespace {

enum Op : uint16_t {
#define DK_OP(code, name, ...) op_##name = code,
#include "../schema/opset.inc"
};
enum AttrIndex {
#define DK_ATTR(op, index, name, ...) attr_##op##_##name = index,
#include "../schema/opset.inc"
};

// Field numbers of dk.fbs.
namespace field {
enum attr { attr_id, attr_i, attr_f, attr_ints, attr_floats, attr_s };
enum node { node_op, node_inputs, node_outputs, node_attrs, node_name };
enum input { input_value, input_name, input_dtype, input_dims, input_no_rank };
enum quant { quant_value, quant_scale, quant_zero_point, quant_axis };
enum constant { constant_value, constant_dtype, constant_dims, constant_offset, constant_size };
enum graph {
  graph_name,
  graph_n_values,
  graph_inputs,
  graph_outputs,
  graph_output_names,
  graph_constants,
  graph_nodes,
  graph_value_names,
  graph_quants
};
enum variable { variable_name, variable_dtype, variable_dims, variable_offset, variable_size };
enum signature { signature_name, signature_graph };
enum meta { meta_key, meta_value };
enum model {
  model_format_version,
  model_header_size,
  model_header_crc,
  model_weights_offset,
  model_weights_size,
  model_crc_chunk,
  model_weights_crcs,
  model_symbols,
  model_graphs,
  model_signatures,
  model_variables,
  model_metadata,
  model_producer
};
}  // namespace field
using namespace field;

using ull = unsigned long long;

}  // namespace

void default_attrs(const OpInfo& info, AttrValue* attrs) {
  for (int i = 0; i < info.n_attrs; ++i) {
    const AttrInfo& a = info.attr(i);
    attrs[i] = AttrValue{};
    if (a.kind == AttrKind::float_) {
      attrs[i].f = a.value;
    } else if (a.kind == AttrKind::str_) {
      attrs[i].s = "";
    } else {
      attrs[i].i = static_cast<int64_t>(a.value);
    }
  }
}

class Loader {
 public:
  Loader(ModelFile& m, const uint8_t* data, size_t size, ErrorText* error)
      : m_(m), data_(data), size_(size), error_(error), memory_(m.memory_) {}

  Status run(const LoadOptions& options) {
    DK_TRY(envelope(options));
    DK_TRY(tables());
    return links();
  }

 private:
  template <class... A>
  Status bad(const char* format, A... a) {
    if constexpr (sizeof...(a) == 0)
      return error_->set(Code::format, "%s", format);
    else
      return error_->set(Code::format, format, a...);
  }
  Status no_memory() { return error_->set(Code::memory, "out of memory while loading the model"); }
  Status damaged() { return bad("damaged at byte %u: %s", fb_.bad_at, fb_.bad_what); }

  // ---- file as a whole
  Status envelope(const LoadOptions& options) {
    if (size_ == 0) return bad("the file is empty");
    if (size_ < 8 || memcmp(data_ + 4, "DKIT", 4)) {
      const char* what = what_is_it(data_, size_);
      if (what) return bad("not a .dk file: %s", what);
      return bad("not a .dk file: no 'DKIT' at byte 4 (%llu bytes)", static_cast<ull>(size_));
    }
    fb_.bytes = data_;
    fb_.size = size_ > 0x7fffffff ? 0x7fffffff : static_cast<uint32_t>(size_);
    root_ = FlatTable::read(fb_, load_le<uint32_t>(data_));
    if (!root_) return bad("damaged or truncated at byte %llu: the root table is not there", static_cast<ull>(size_));
    uint32_t version = root_.scalar<uint32_t>(model_format_version, 0);
    uint64_t header = root_.scalar<uint64_t>(model_header_size, 0);
    if (version > kFormatVersion)
      return error_->set(Code::version,
                         "the file has format version %u, this engine reads up to %u. Update deploykit, or convert the "
                         "model with this version of it",
                         version, kFormatVersion);
    if (fb_.bad || version == 0) return bad("damaged at byte %u: no format version", root_.at);
    if (header > 0x7fffffff || header < root_.at + uint64_t{root_.size})
      return bad("damaged: a header of %llu bytes cannot be", static_cast<ull>(header));
    if (header > size_)
      return bad("truncated at byte %llu: the header alone has %llu bytes. Fetch the file again",
                 static_cast<ull>(size_), static_cast<ull>(header));
    fb_.size = static_cast<uint32_t>(header);

    uint32_t crc_at = root_.field(model_header_crc, 4);
    if (!crc_at) return bad("damaged: the header has no checksum");
    uint32_t crc = crc32(0, data_, crc_at);
    const uint8_t zeros[4] = {0, 0, 0, 0};
    crc = crc32(crc, zeros, 4);
    crc = crc32(crc, data_ + crc_at + 4, fb_.size - crc_at - 4);
    if (crc != load_le<uint32_t>(data_ + crc_at))
      return bad("damaged: the checksum of the header does not fit. Fetch the file again");

    uint64_t offset = root_.scalar<uint64_t>(model_weights_offset, 0);
    uint64_t weights = root_.scalar<uint64_t>(model_weights_size, 0);
    uint64_t total;
    if (offset % 64 || offset < header || __builtin_add_overflow(offset, weights, &total))
      return bad("damaged: weights of %llu bytes at byte %llu cannot be", static_cast<ull>(weights),
                 static_cast<ull>(offset));
    if (size_ < total)
      return bad("truncated at byte %llu: the whole file has %llu bytes. Fetch it again", static_cast<ull>(size_),
                 static_cast<ull>(total));
    if (size_ > total)
      return bad("%llu bytes too long: the file should end at byte %llu", static_cast<ull>(size_ - total),
                 static_cast<ull>(total));
    for (uint64_t i = header; i < offset; ++i)
      if (data_[i]) return bad("damaged at byte %llu: padding is not zero", static_cast<ull>(i));
    weights_ = data_ + offset;
    m_.weights_size = weights;

    uint64_t chunk = root_.scalar<uint64_t>(model_crc_chunk, 0);
    Span<const uint32_t> crcs = root_.numbers<uint32_t>(model_weights_crcs);
    if (fb_.bad) return damaged();
    if (weights && chunk == 0) return bad("damaged: no checksums of the weights");
    uint64_t chunks = weights ? (weights - 1) / chunk + 1 : 0;
    if (static_cast<uint64_t>(crcs.size()) != chunks)
      return bad("damaged: %lld checksums of the weights, expected %llu", static_cast<long long>(crcs.size()),
                 static_cast<ull>(chunks));
    for (uint64_t i = 0; options.check_weights && i < chunks; ++i) {
      uint64_t n = i + 1 < chunks ? chunk : weights - i * chunk;
      if (crc32(0, weights_ + i * chunk, n) != crcs[static_cast<int64_t>(i)])
        return bad(
            "damaged between bytes %llu and %llu: the checksum of the weights does not fit. Fetch the file again",
            static_cast<ull>(offset + i * chunk), static_cast<ull>(offset + i * chunk + n));
    }
    return {};
  }

  // ---- tables
  Status tables() {
    FlatVector symbols = root_.vector(model_symbols, 4);
    m_.n_symbols = static_cast<int32_t>(symbols.n);
    m_.symbols = memory_.array<const char*>(symbols.n);
    FlatVector variables = root_.vector(model_variables, 4);
    m_.n_variables = static_cast<int32_t>(variables.n);
    m_.variables = memory_.array<VariableDef>(variables.n);
    FlatVector graphs = root_.vector(model_graphs, 4);
    m_.n_graphs = static_cast<int32_t>(graphs.n);
    m_.graphs = memory_.array<GraphDef>(graphs.n);
    FlatVector signatures = root_.vector(model_signatures, 4);
    m_.n_signatures = static_cast<int32_t>(signatures.n) + 1;
    m_.signatures = memory_.array<SignatureDef>(signatures.n + size_t{1});
    FlatVector metadata = root_.vector(model_metadata, 4);
    m_.n_metadata = static_cast<int32_t>(metadata.n);
    m_.metadata = memory_.array<MetaDef>(metadata.n);
    root_.string(model_producer);
    if (fb_.bad) return damaged();
    if (!m_.symbols || !m_.variables || !m_.graphs || !m_.signatures || !m_.metadata) return no_memory();
    if (m_.n_graphs == 0) return bad("damaged: the file holds no graph");

    for (uint32_t i = 0; i < symbols.n; ++i) m_.symbols[i] = root_.string_element(symbols, i);
    for (uint32_t i = 0; i < metadata.n; ++i) {
      FlatTable t = root_.element(metadata, i);
      if (!t) return damaged();
      m_.metadata[i] = {t.string(meta_key), t.string(meta_value)};
    }
    size_t slots = 2;
    while (slots < 2 * size_t{variables.n}) slots *= 2;
    if (!variable_table_.resize(slots)) return no_memory();
    for (uint32_t i = 0; i < variables.n; ++i) {
      FlatTable t = root_.element(variables, i);
      if (!t) return damaged();
      DK_TRY(variable(t, i));
    }
    m_.signatures[0] = {"main", 0};
    if (signatures.n > 1000) return bad("%u signatures are too many", signatures.n);
    for (uint32_t i = 0; i < signatures.n; ++i) {
      FlatTable t = root_.element(signatures, i);
      if (!t) return damaged();
      SignatureDef s = {t.string(signature_name), 0};
      uint32_t graph = t.scalar<uint32_t>(signature_graph, 0);
      if (fb_.bad) return damaged();
      if (!*s.name || m_.find_signature_among(s.name, static_cast<int32_t>(i) + 1) >= 0)
        return bad("signature %u has the name '%s', which is empty or taken", i, s.name);
      if (graph == 0 || graph >= graphs.n) return bad("signature '%s' wants graph %u of %u", s.name, graph, graphs.n);
      s.graph = static_cast<int32_t>(graph);
      m_.signatures[i + 1] = s;
    }
    for (uint32_t i = 0; i < graphs.n; ++i) {
      FlatTable t = root_.element(graphs, i);
      if (!t) return damaged();
      DK_TRY(graph(t, static_cast<int32_t>(i)));
    }
    return fb_.bad ? damaged() : Status();
  }

  Status variable(const FlatTable& t, uint32_t i) {
    VariableDef& v = m_.variables[i];
    v.name = t.string(variable_name);
    uint64_t offset = t.scalar<uint64_t>(variable_offset, 0), size = t.scalar<uint64_t>(variable_size, 0);
    DK_TRY(tensor(t.scalar<uint8_t>(variable_dtype, 0), t.numbers<int64_t>(variable_dims), offset, size, true,
                  &v.initial, "variable", v.name));
    if (!*v.name) return bad("variable %u has no name", i);
    int32_t* slot = variable_slot(v.name);
    if (*slot) return bad("two variables are called '%s'", v.name);
    *slot = static_cast<int32_t>(i) + 1;
    return {};
  }

  // Where the number + 1 of a variable of this name stands, or would.
  int32_t* variable_slot(const char* name) {
    size_t mask = variable_table_.size() - 1;
    size_t h = crc32(0, name, strlen(name)) & mask;
    while (variable_table_[h] && strcmp(m_.variables[variable_table_[h] - 1].name, name)) h = (h + 1) & mask;
    return &variable_table_[h];
  }

  // Checks dtype, dims, place and content of data in the weights section.
  Status tensor(uint8_t dtype, Span<const int64_t> dims, uint64_t offset, uint64_t size, bool may_be_absent, Tensor* to,
                const char* what, const char* name) {
    if (fb_.bad) return damaged();
    if (dtype == 0 || dtype >= static_cast<uint8_t>(DType::count))
      return bad("%s '%s': dtype %u is not one", what, name, dtype);
    if (dims.size() > kMaxRank)
      return bad("%s '%s': rank %lld, expected at most %d", what, name, static_cast<long long>(dims.size()), kMaxRank);
    to->dtype = static_cast<DType>(dtype);
    to->rank = static_cast<uint8_t>(dims.size());
    for (int k = 0; k < to->rank; ++k) to->dims[k] = dims[k];
    uint64_t bytes;
    if (!tensor_bytes(to->dtype, to->rank, to->dims, &bytes))
      return bad("%s '%s': the dims are not possible", what, name);
    if (may_be_absent && size == 0) return {};
    const bool four = to->dtype == DType::s4 || to->dtype == DType::u4, packed = four && size < bytes;
    if (packed ? size != (bytes + 1) / 2 : bytes != size)
      return bad("%s '%s': %llu bytes in the file, its shape needs %llu", what, name, static_cast<ull>(size),
                 static_cast<ull>(bytes));
    if (offset > m_.weights_size || size > m_.weights_size - offset)
      return bad("%s '%s': bytes %llu to %llu of %llu of the weights", what, name, static_cast<ull>(offset),
                 static_cast<ull>(offset + size), static_cast<ull>(m_.weights_size));
    if (offset % (size > 64 ? 64 : 8))
      return bad("%s '%s': byte %llu is not aligned", what, name, static_cast<ull>(offset));
    to->data = const_cast<uint8_t*>(weights_ + offset);
    if (to->dtype != DType::b8 && !packed) return {};  // sub-byte types: the upper bits of a byte mean nothing
    content_ += bytes;                                 // several constants may share their bytes
    if (content_ > 16 * (m_.weights_size + 64)) return bad("%s '%s': constants overlap too often", what, name);
    const uint8_t* p = weights_ + offset;
    if (packed) {
      uint8_t* wide = memory_.array<uint8_t>(bytes + 64);  // kernels may read that much behind the end
      if (!wide) return no_memory();
      to->data = wide;
      const uint8_t sign = to->dtype == DType::s4 ? 8 : 0;
      for (uint64_t k = 0; k < bytes; ++k)
        wide[k] = static_cast<uint8_t>(((p[k / 2] >> (k % 2 * 4) & 15) ^ sign) - sign);
      return {};
    }
    for (uint64_t k = 0; k < size; ++k)
      if (p[k] > 1) return bad("%s '%s': %d is not a bool", what, name, p[k]);
    return {};
  }

  // ---- one graph
  Status graph(const FlatTable& t, int32_t index) {
    GraphDef& g = m_.graphs[index];
    g.index = index;
    g.name = t.string(graph_name);
    FlatVector inputs = t.vector(graph_inputs, 4), constants = t.vector(graph_constants, 4);
    FlatVector nodes = t.vector(graph_nodes, 4), names = t.vector(graph_value_names, 4);
    FlatVector output_names = t.vector(graph_output_names, 4), quants = t.vector(graph_quants, 4);
    Span<const int32_t> outputs = t.numbers<int32_t>(graph_outputs);
    uint32_t n_values = t.scalar<uint32_t>(graph_n_values, 0);
    if (fb_.bad) return damaged();
    if (n_values > fb_.size) return bad("graph '%s': %u values are more than the file can describe", g.name, n_values);
    g.n_values = static_cast<int32_t>(n_values);
    g.n_inputs = static_cast<int32_t>(inputs.n);
    g.n_constants = static_cast<int32_t>(constants.n);
    g.n_nodes = static_cast<int32_t>(nodes.n);
    g.n_outputs = static_cast<int32_t>(outputs.size());
    g.outputs = outputs.ptr;
    if (names.n && names.n != n_values)
      return bad("graph '%s': %u value names for %u values", g.name, names.n, n_values);
    if (output_names.n && output_names.n != static_cast<uint32_t>(outputs.size()))
      return bad("graph '%s': %u output names for %d outputs", g.name, output_names.n, g.n_outputs);

    InputDef* in = memory_.array<InputDef>(inputs.n);
    ConstantDef* constant = memory_.array<ConstantDef>(constants.n);
    NodeDef* node = memory_.array<NodeDef>(nodes.n);
    const char** out_names = memory_.array<const char*>(static_cast<size_t>(outputs.size()));
    const char** value_names = names.n ? memory_.array<const char*>(n_values) : nullptr;
    if (!in || !constant || !node || !out_names || (names.n && !value_names)) return no_memory();
    g.inputs = in;
    g.constants = constant;
    g.nodes = node;
    g.output_names = out_names;
    g.value_names = value_names;
    for (uint32_t i = 0; i < names.n; ++i) value_names[i] = t.string_element(names, i);

    defined_.clear();
    if (!defined_.resize(n_values)) return no_memory();
    n_defined_ = 0;
    for (uint32_t i = 0; i < inputs.n; ++i) {
      FlatTable e = t.element(inputs, i);
      if (!e) return damaged();
      DK_TRY(input(e, g, &in[i]));
    }
    for (uint32_t i = 0; i < constants.n; ++i) {
      FlatTable e = t.element(constants, i);
      if (!e) return damaged();
      constant[i].value = e.scalar<int32_t>(constant_value, 0);
      DK_TRY(define(g, constant[i].value, "a constant"));
      DK_TRY(tensor(e.scalar<uint8_t>(constant_dtype, 0), e.numbers<int64_t>(constant_dims),
                    e.scalar<uint64_t>(constant_offset, 0), e.scalar<uint64_t>(constant_size, 0), false,
                    &constant[i].tensor, "constant", g.value_name(constant[i].value)));
    }
    for (uint32_t i = 0; i < nodes.n; ++i) {
      FlatTable e = t.element(nodes, i);
      if (!e) return damaged();
      DK_TRY(this->node(e, g, i, &node[i]));
    }
    if (n_defined_ != n_values)
      return bad("graph '%s': %u of %u values are never defined", g.name, n_values - n_defined_, n_values);
    for (int32_t i = 0; i < g.n_outputs; ++i) {
      if (g.outputs[i] < 0 || g.outputs[i] >= g.n_values)
        return bad("graph '%s': output %d is value %d of %d", g.name, i, g.outputs[i], g.n_values);
      out_names[i] =
          output_names.n ? t.string_element(output_names, static_cast<uint32_t>(i)) : g.value_name(g.outputs[i]);
    }
    for (uint32_t i = 0; i < quants.n; ++i) {
      FlatTable q = t.element(quants, i);
      if (!q) return damaged();
      int32_t value = q.scalar<int32_t>(quant_value, 0), axis = q.scalar<int32_t>(quant_axis, -1);
      int64_t scales = q.numbers<float>(quant_scale).size(), zeros = q.numbers<int32_t>(quant_zero_point).size();
      if (fb_.bad) return damaged();
      if (value < 0 || value >= g.n_values || axis < -1 || axis >= kMaxRank || scales == 0 ||
          (zeros != 0 && zeros != scales))
        return bad("graph '%s': quantization %u is not possible", g.name, i);
    }
    return fb_.bad ? damaged() : Status();
  }

  Status define(const GraphDef& g, int32_t value, const char* what) {
    if (fb_.bad) return damaged();
    if (value < 0 || value >= g.n_values)
      return bad("graph '%s': %s defines value %d of %d", g.name, what, value, g.n_values);
    if (defined_[static_cast<size_t>(value)])
      return bad("graph '%s': value %d ('%s') is defined twice", g.name, value, g.value_name(value));
    defined_[static_cast<size_t>(value)] = 1;
    ++n_defined_;
    return {};
  }

  Status input(const FlatTable& t, const GraphDef& g, InputDef* in) {
    in->value = t.scalar<int32_t>(input_value, 0);
    in->name = t.string(input_name);
    uint8_t dtype = t.scalar<uint8_t>(input_dtype, 0);
    Span<const int64_t> dims = t.numbers<int64_t>(input_dims);
    bool no_rank = t.scalar<uint8_t>(input_no_rank, 0) != 0;
    DK_TRY(define(g, in->value, "an input"));
    if (dtype >= static_cast<uint8_t>(DType::count)) return bad("input '%s': dtype %u is not one", in->name, dtype);
    if (dims.size() > kMaxRank)
      return bad("input '%s': rank %lld, expected at most %d", in->name, static_cast<long long>(dims.size()), kMaxRank);
    int64_t known[kMaxRank];
    int n = 0;
    for (int64_t d : dims) {
      if (d < -static_cast<int64_t>(m_.n_symbols))
        return bad("input '%s': dim %lld is no symbol", in->name, static_cast<long long>(d));
      if (d >= 0) known[n++] = d;
    }
    uint64_t bytes;
    if (!tensor_bytes(dtype ? static_cast<DType>(dtype) : DType::f64, n, known, &bytes))
      return bad("input '%s': the dims are not possible", in->name);
    in->dtype = static_cast<DType>(dtype);
    in->rank = no_rank ? -1 : static_cast<int32_t>(dims.size());
    in->dims = dims.ptr;
    return {};
  }

  Status node(const FlatTable& t, const GraphDef& g, uint32_t number, NodeDef* n) {
    uint16_t opcode = t.scalar<uint16_t>(node_op, 0);
    n->op = op_info(opcode);
    n->name = t.string(node_name);
    if (fb_.bad) return damaged();
    if (!n->op)
      return error_->set(Code::version,
                         "graph '%s', node %u ('%s'): op number %u is not known to this engine. The file was made by a "
                         "newer version: update deploykit, or convert the model again with this one",
                         g.name, number, n->name, opcode);
    format_text(where_, sizeof where_, "graph '%.60s', node %u (%s '%.100s')", g.name, number, n->op->name(), n->name);
    const OpInfo& op = *n->op;
    Span<const int32_t> ins = t.numbers<int32_t>(node_inputs), outs = t.numbers<int32_t>(node_outputs);
    FlatVector attrs = t.vector(node_attrs, 4);
    if (fb_.bad) return damaged();
    n->inputs = ins.ptr;
    n->outputs = outs.ptr;
    n->n_in = static_cast<int32_t>(ins.size());
    n->n_out = static_cast<int32_t>(outs.size());
    n->body[0] = n->body[1] = n->variable = -1;
    if (n->n_in > op.fixed_in && !op.variadic_in)
      return bad("%s: %d inputs, expected at most %d", where_, n->n_in, op.fixed_in);
    if (n->n_out > op.fixed_out && !op.variadic_out)
      return bad("%s: %d outputs, expected at most %d", where_, n->n_out, op.fixed_out);
    if (n->n_out < 1 && !op.effect() && opcode != op_if && opcode != op_loop) return bad("%s: no output", where_);
    for (int32_t i = 0; i < n->n_in || i < op.required_in; ++i) {
      int32_t v = i < n->n_in ? n->inputs[i] : -1;
      if (v == -1 && i >= op.required_in && i < op.fixed_in) continue;
      if (v == -1) return bad("%s: input %d is missing", where_, i);
      if (v < 0 || v >= g.n_values) return bad("%s: input %d is value %d of %d", where_, i, v, g.n_values);
      if (!defined_[static_cast<size_t>(v)])
        return bad("%s: input %d is value %d ('%s'), which is defined later or depends on this node", where_, i, v,
                   g.value_name(v));
    }
    DK_TRY(node_attr_list(t, attrs, n));
    for (int32_t i = 0; i < n->n_out; ++i)
      if (n->outputs[i] != -1) DK_TRY(define(g, n->outputs[i], where_));

    if (opcode == op_read_variable || opcode == op_assign_variable) {
      const char* name =
          n->attrs[opcode == op_read_variable ? +attr_read_variable_variable : +attr_assign_variable_variable].s;
      n->variable = *variable_slot(name) - 1;
      if (n->variable < 0) return bad("%s: the file has no variable '%s'", where_, name);
    }
    return {};
  }

  Status node_attr_list(const FlatTable& t, const FlatVector& list, NodeDef* n) {
    const OpInfo& op = *n->op;
    AttrValue* values = memory_.array<AttrValue>(op.n_attrs);
    if (!values) return no_memory();
    default_attrs(op, values);
    n->attrs = values;
    uint32_t seen = 0;
    int bodies = 0;
    for (uint32_t i = 0; i < list.n; ++i) {
      FlatTable e = t.element(list, i);
      if (!e) return damaged();
      uint8_t id = e.scalar<uint8_t>(attr_id, 0);
      if (id >= op.n_attrs)
        return error_->set(Code::version, "%s: attr number %u is not known to this engine. Update deploykit", where_,
                           id);
      const AttrInfo& a = op.attr(id);
      if (seen >> id & 1) return bad("%s: attr '%s' stands twice", where_, a.name());
      seen |= 1u << id;
      AttrValue& v = values[id];
      v.i = e.scalar<int64_t>(attr_i, 0);
      v.f = e.scalar<double>(attr_f, 0);
      bool good = true;
      uint32_t length = 0;
      switch (a.kind) {
        case AttrKind::int_:
        case AttrKind::float_: break;
        case AttrKind::bool_: good = v.i == 0 || v.i == 1; break;
        case AttrKind::enum_: good = v.i >= 0 && v.i < a.choices; break;
        case AttrKind::dtype_: good = v.i >= (a.required ? 1 : 0) && v.i < static_cast<int>(DType::count); break;
        case AttrKind::ints_: {
          Span<const int64_t> s = e.numbers<int64_t>(attr_ints);
          v.ints = s.ptr, v.n = s.size();
          break;
        }
        case AttrKind::floats_: {
          Span<const double> s = e.numbers<double>(attr_floats);
          v.floats = s.ptr, v.n = s.size();
          break;
        }
        case AttrKind::str_:
          v.s = e.string(attr_s, &length);
          v.n = length;
          break;
        case AttrKind::graph_:
          good = v.i > 0 && v.i < m_.n_graphs;
          if (good) n->body[bodies++ & 1] = static_cast<int32_t>(v.i);
          break;
      }
      if (fb_.bad) return damaged();
      if (!good)
        return bad("%s: attr '%s' has the value %lld, which is not allowed", where_, a.name(),
                   static_cast<long long>(v.i));
    }
    for (int i = 0; i < op.n_attrs; ++i) {
      if (op.attr(i).required && !(seen >> i & 1)) return bad("%s: attr '%s' is missing", where_, op.attr(i).name());
      if (op.attr(i).kind == AttrKind::graph_ && i < 2) n->body[i] = static_cast<int32_t>(values[i].i);
    }
    return {};
  }

  // ---- graphs among each other
  Status links() {
    Vec<uint8_t> depth;  // 0: not used yet
    if (!depth.resize(static_cast<size_t>(m_.n_graphs))) return no_memory();
    for (int32_t i = 0; i < m_.n_signatures; ++i) {
      uint8_t& d = depth[static_cast<size_t>(m_.signatures[i].graph)];
      if (d) return bad("graph %d is the body of two signatures", m_.signatures[i].graph);
      d = 1;
    }
    for (int32_t i = 0; i < m_.n_graphs; ++i) {
      const GraphDef& g = m_.graphs[i];
      if (!depth[static_cast<size_t>(i)]) return bad("graph %d ('%s') belongs to no node before it", i, g.name);
      for (int32_t k = 0; k < g.n_nodes; ++k) {
        const NodeDef& n = g.nodes[k];
        for (int32_t b : n.body) {
          if (b < 0) continue;
          format_text(where_, sizeof where_, "graph '%.60s', node %d (%s '%.100s')", g.name, k, n.op->name(), n.name);
          if (b <= i) return bad("%s: its body is graph %d, which does not stand behind graph %d", where_, b, i);
          if (depth[static_cast<size_t>(b)]) return bad("%s: graph %d is used twice", where_, b);
          if (depth[static_cast<size_t>(i)] >= kMaxNesting)
            return bad("%s: bodies are nested more than %d deep", where_, kMaxNesting);
          depth[static_cast<size_t>(b)] = static_cast<uint8_t>(depth[static_cast<size_t>(i)] + 1);
          DK_TRY(body(n, m_.graphs[b]));
        }
      }
    }
    for (int32_t i = m_.n_graphs - 1; i >= 0; --i) {
      GraphDef& g = m_.graphs[i];
      for (int32_t k = 0; k < g.n_nodes; ++k) {
        const NodeDef& n = g.nodes[k];
        bool e = n.op->effect() || n.op->random();
        for (int32_t b : n.body) e = e || (b >= 0 && m_.graphs[b].effects);
        g.effects = g.effects || e;
      }
    }
    return {};
  }

  Status body(const NodeDef& n, const GraphDef& b) {
    if (n.op->opcode == op_if) {
      if (b.n_inputs != n.n_in - 1)
        return bad("%s: graph '%s' takes %d inputs, the node gives %d", where_, b.name, b.n_inputs, n.n_in - 1);
      if (b.n_outputs != n.n_out)
        return bad("%s: graph '%s' gives %d outputs, the node has %d", where_, b.name, b.n_outputs, n.n_out);
      return {};
    }
    int64_t carried = n.attrs[attr_loop_carried].i, values = n.n_in < 2 ? 0 : n.n_in - 2;
    if (carried < 0 || carried > values || carried > n.n_out)
      return bad("%s: %lld carried values, with %lld values and %d outputs", where_, static_cast<long long>(carried),
                 static_cast<long long>(values), n.n_out);
    if (b.n_inputs != values + 2)
      return bad("%s: graph '%s' takes %d inputs, expected %lld", where_, b.name, b.n_inputs,
                 static_cast<long long>(values + 2));
    if (b.n_outputs != n.n_out + 1)
      return bad("%s: graph '%s' gives %d outputs, expected %d", where_, b.name, b.n_outputs, n.n_out + 1);
    return {};
  }

  ModelFile& m_;
  const uint8_t* data_;
  size_t size_;
  ErrorText* error_;
  Bump& memory_;
  FlatBuffer fb_;
  FlatTable root_;
  const uint8_t* weights_ = nullptr;
  Vec<int32_t> variable_table_;
  Vec<uint8_t> defined_;
  uint32_t n_defined_ = 0;
  uint64_t content_ = 0;
  char where_[256] = {0};
};

ModelFile::~ModelFile() {
  file_.close();
  mem_free(copy_);
}

Status ModelFile::load(const uint8_t* data, size_t size, const LoadOptions& options, ErrorText* error) {
  if (size && (reinterpret_cast<uintptr_t>(data) % 8 || !readable_behind(data, size))) {
    copy_ = static_cast<uint8_t*>(mem_alloc(size));
    if (!copy_) return error->set(Code::memory, "no memory for a copy of the model (%zu bytes)", size);
    memcpy(copy_, data, size);
    data = copy_;
  }
  return Loader(*this, data, size, error).run(options);
}

Status ModelFile::open(const char* path, uint64_t max_bytes, const LoadOptions& options, ErrorText* error) {
  DK_TRY(file_.open(path, max_bytes, error));
  ErrorText inner;
  Status s = Loader(*this, file_.data, file_.size, &inner).run(options);
  if (!s.ok()) return error->set(s.code, "%s: %s", path, inner.text);
  return s;
}

int32_t ModelFile::find_variable(const char* name) const {
  for (int32_t i = 0; i < n_variables; ++i)
    if (!strcmp(variables[i].name, name)) return i;
  return -1;
}

int32_t ModelFile::find_signature_among(const char* name, int32_t n) const {
  for (int32_t i = 0; i < n; ++i)
    if (!strcmp(signatures[i].name, name)) return i;
  return -1;
}

}  // namespace dk
