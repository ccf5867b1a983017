// Models and sessions of dk.h.
#include <cstring>
#include <new>

#include "base/cpu.h"
#include "base/text.h"
#include "capi/capi.h"
#include "engine/session.h"
#include "kernels/gemm/gemm.h"

using namespace dk;

struct dk_model {
  ModelState state;
};

namespace {

struct ProfileRef {
  int32_t graph, node;
};

}  // namespace

struct dk_session {
  SessionState state;
  Vec<dk_tensor> outputs;
  Vec<ProfileRef> rows;
  dk_tensor scratch;
};

namespace {

using Fill = Status (*)(ModelFile& file, const void* data, size_t size, const dk_model_options* options,
                        ErrorText* error);

Status new_model(Fill fill, const void* data, size_t size, const dk_model_options* options, dk_model** model) {
  ErrorText* error = &last_error();
  *model = nullptr;
  void* memory = mem_alloc(sizeof(dk_model));
  if (!memory) return error->set(Code::memory, "out of memory");
  dk_model* m = new (memory) dk_model();
  Status s = fill(m->state.file, data, size, options, error);
  if (s.ok()) s = m->state.init(error);
  if (!s.ok()) {
    m->~dk_model();
    mem_free(m);
    return s;
  }
  *model = m;
  return {};
}

LoadOptions load_options(const dk_model_options* o) {
  LoadOptions out;
  out.check_weights = !(o && (o->flags & DK_SKIP_WEIGHT_CHECKSUM));
  return out;
}

// The plan of a model whose inputs have fixed shapes, made before the first run so that the outputs are known.
void plan_early(SessionState& s) {
  if (s.plan()) return;
  for (int32_t i = 0; i < s.graph->n_inputs; ++i) {
    const InputDef& in = s.graph->inputs[i];
    if (in.rank < 0 || in.dtype == DType::none) return;
    Tensor t;
    t.dtype = in.dtype;
    t.rank = static_cast<uint8_t>(in.rank);
    for (int32_t d = 0; d < in.rank; ++d) {
      if (in.dims[d] < 0) return;
      t.dims[d] = in.dims[d];
    }
    if (!s.input_set[i] && !s.set_input(i, t).ok()) return;
  }
  s.begin();
  (void)s.prepare().ok();
}

const Tensor* find_value(SessionState& s, const char* name) {
  Plan* p = s.plan();
  if (!p || !s.ran || !s.options.keep_values || !s.graph->value_names) return nullptr;
  for (int32_t v = 0; v < s.graph->n_values; ++v) {
    const PlanValue& x = p->values[v];
    if (strcmp(s.graph->value_name(v), name) || x.place == Place::none) continue;
    if (x.t.dtype == DType::none || (!x.t.data && x.t.bytes())) return nullptr;
    return &x.t;
  }
  return nullptr;
}

}  // namespace

extern "C" {

int32_t dk_fast(void) { return gemm_fast_kernels() ? 1 : 0; }
const char* dk_isa(void) { return dot_isa_name(best_dot_isa()); }

const char* dk_cpu_features(void) {
  static char text[160];
  const CpuFeatures& f = cpu_features();
  const struct {
    bool has;
    const char* name;
  } all[] = {{f.sse42, "sse4.2"},      {f.avx2, "avx2"},         {f.fma, "fma"},
             {f.f16c, "f16c"},         {f.avx512, "avx512"},     {f.avx512_vnni, "avx512_vnni"},
             {f.avx_vnni, "avx_vnni"}, {f.amx_int8, "amx_int8"}, {f.amx_bf16, "amx_bf16"},
             {f.neon, "neon"},         {f.dotprod, "dotprod"},   {f.i8mm, "i8mm"}};
  char now[sizeof text];
  size_t at = 0;
  for (const auto& x : all)
    if (x.has) at += static_cast<size_t>(format_text(now + at, sizeof now - at, "%s%s", at ? " " : "", x.name));
  now[at] = 0;
  memcpy(text, now, at + 1);  // the same bytes whoever writes them
  return text;
}

dk_status dk_model_open(const char* path, const dk_model_options* options, dk_model** model) {
  return to_c(new_model(
      [](ModelFile& f, const void* p, size_t, const dk_model_options* o, ErrorText* e) {
        return f.open(static_cast<const char*>(p), o ? o->max_file_bytes : 0, load_options(o), e);
      },
      path, 0, options, model));
}

dk_status dk_model_from_bytes(const void* data, size_t size, const dk_model_options* options, dk_model** model) {
  return to_c(new_model([](ModelFile& f, const void* p, size_t n, const dk_model_options* o,
                           ErrorText* e) { return f.load(static_cast<const uint8_t*>(p), n, load_options(o), e); },
                        data, size, options, model));
}

void dk_model_free(dk_model* model) {
  if (!model) return;
  ModelState& m = model->state;
  m.lock.take();
  bool last = --m.refs == 0;
  m.lock.give();
  if (!last) return;  // the last session takes it along
  model->~dk_model();
  mem_free(model);
}

dk_status dk_verify(const void* data, size_t size) {
  ModelFile file;
  return to_c(file.load(static_cast<const uint8_t*>(data), size, LoadOptions(), &last_error()));
}

int32_t dk_model_signature_count(const dk_model* model) { return model->state.file.n_signatures; }
const char* dk_model_signature(const dk_model* model, int32_t i) {
  const ModelFile& f = model->state.file;
  return i >= 0 && i < f.n_signatures ? f.signatures[i].name : nullptr;
}
int32_t dk_model_metadata_count(const dk_model* model) { return model->state.file.n_metadata; }
const char* dk_model_metadata_key(const dk_model* model, int32_t i) {
  const ModelFile& f = model->state.file;
  return i >= 0 && i < f.n_metadata ? f.metadata[i].key : nullptr;
}
const char* dk_model_metadata_value(const dk_model* model, int32_t i) {
  const ModelFile& f = model->state.file;
  return i >= 0 && i < f.n_metadata ? f.metadata[i].value : nullptr;
}
const char* dk_dim_name(const dk_model* model, int64_t dim) {
  const ModelFile& f = model->state.file;
  return dim < 0 && -1 - dim < f.n_symbols ? f.symbols[-1 - dim] : nullptr;
}

dk_status dk_session_new(dk_model* model, const dk_session_options* options, dk_session** session) {
  *session = nullptr;
#if defined(__wasm_relaxed_simd__)
  if (relaxed_dot() == RelaxedDot::inexact)
    return to_c(last_error().set(Code::unsupported,
                                 "relaxed dot products are not exact on this machine. Load engine.wasm instead of "
                                 "engine.relaxed.wasm"));
#endif
  SessionOptions o;
  if (options) {
    o.threads = options->threads;
    o.signature = options->signature;
    o.max_memory = options->max_memory;
    o.max_steps = options->max_steps;
    o.profile = options->flags & DK_PROFILE;
    o.keep_values = options->flags & DK_KEEP_VALUES;
    o.fast = options->flags & DK_FAST;
    o.exact = options->flags & DK_EXACT;
  }
  void* memory = mem_alloc_zeroed(sizeof(dk_session));
  if (!memory) return to_c(last_error().set(Code::memory, "out of memory"));
  dk_session* s = new (memory) dk_session();
  Status status = s->state.init(&model->state, o);
  if (!status.ok()) {
    (void)last_error().set(status.code, "%s", s->state.error.text);
    dk_session_free(s);
    return to_c(status);
  }
  *session = s;
  return 0;
}

void dk_session_free(dk_session* session) {
  if (!session) return;
  session->~dk_session();
  mem_free(session);
}

const char* dk_session_error(const dk_session* session) { return session->state.error.text; }
int32_t dk_session_input_count(const dk_session* session) { return session->state.graph->n_inputs; }
int32_t dk_session_output_count(const dk_session* session) { return session->state.graph->n_outputs; }

dk_status dk_session_input_spec(const dk_session* session, int32_t i, dk_spec* spec) {
  SessionState& s = const_cast<dk_session*>(session)->state;
  if (i < 0 || i >= s.graph->n_inputs) return to_c(s.error.set(Code::input, "no input number %d", i));
  const InputDef& in = s.graph->inputs[i];
  *spec = {in.name, static_cast<int32_t>(in.dtype), in.rank, {0}};
  for (int32_t d = 0; d < in.rank; ++d) spec->dims[d] = in.dims[d];
  return 0;
}

dk_status dk_session_output_spec(const dk_session* session, int32_t i, dk_spec* spec) {
  SessionState& s = const_cast<dk_session*>(session)->state;
  if (i < 0 || i >= s.graph->n_outputs) return to_c(s.error.set(Code::input, "no output number %d", i));
  *spec = {s.graph->output_names[i], 0, -1, {0}};
  plan_early(s);
  Plan* p = s.plan();
  if (!p) return 0;
  const PlanValue& v = p->values[s.graph->outputs[i]];
  if (v.t.dtype == DType::none) return 0;
  spec->dtype = static_cast<int32_t>(v.t.dtype);
  spec->rank = v.t.rank;
  for (int32_t d = 0; d < v.t.rank; ++d) spec->dims[d] = v.t.dims[d];
  return 0;
}

dk_status dk_session_set_input(dk_session* session, int32_t i, const dk_tensor* tensor) {
  SessionState& s = session->state;
  Tensor t;
  char what[160] = "input";
  if (i >= 0 && i < s.graph->n_inputs) format_text(what, sizeof what, "input '%s'", s.graph->inputs[i].name);
  Status status = from_c(*tensor, what, false, &t, &s.error);
  if (status.ok()) status = s.set_input(i, t);
  return to_c(status);
}

dk_status dk_session_prepare(dk_session* session) {
  session->state.begin();
  return to_c(session->state.prepare());
}

void dk_session_set_time_limit(dk_session* session, uint64_t milliseconds) {
  session->state.time_limit = milliseconds < UINT64_MAX / 2'000'000 ? milliseconds * 1'000'000 : 0;
}

void dk_session_cancel(dk_session* session) { __atomic_store_n(&session->state.cancelled, 1, __ATOMIC_RELAXED); }

dk_status dk_session_run(dk_session* session) {
  SessionState& s = session->state;
  size_t n = static_cast<size_t>(s.graph->n_outputs);
  if (session->outputs.size() != n && !session->outputs.resize(n))
    return to_c(s.error.set(Code::memory, "out of memory"));
  Status status = s.run();
  if (status.ok())
    for (size_t k = 0; k < n; ++k) to_c(s.plan()->outputs[k], &session->outputs[k]);
  return to_c(status);
}

const dk_tensor* dk_session_output(const dk_session* session, int32_t i) {
  const SessionState& s = session->state;
  return s.ran && i >= 0 && i < s.graph->n_outputs ? &session->outputs[static_cast<size_t>(i)] : nullptr;
}

const dk_tensor* dk_session_value(const dk_session* session, const char* name) {
  dk_session* s = const_cast<dk_session*>(session);
  const Tensor* t = find_value(s->state, name);
  if (!t) return nullptr;
  to_c(*t, &s->scratch);
  return &s->scratch;
}

void dk_session_reset(dk_session* session) { session->state.reset_variables(); }

const dk_tensor* dk_session_variable(const dk_session* session, const char* name) {
  dk_session* s = const_cast<dk_session*>(session);
  int32_t v = s->state.model->file.find_variable(name);
  if (v < 0) return nullptr;
  to_c(s->state.variables[v], &s->scratch);
  return &s->scratch;
}

dk_status dk_session_bind_variable(dk_session* session, const char* name, const dk_tensor* tensor) {
  SessionState& s = session->state;
  int32_t v = name ? s.model->file.find_variable(name) : -1;
  if (v < 0 || !tensor) return to_c(s.error.set(Code::input, "the model has no variable '%s'", name ? name : ""));
  char what[160];
  format_text(what, sizeof what, "variable '%s'", name);
  Tensor t;
  Status status = from_c(*tensor, what, true, &t, &s.error);
  if (status.ok()) status = s.bind_variable(v, t);
  return to_c(status);
}

void dk_session_memory(const dk_session* session, dk_memory* memory) {
  const SessionState& s = session->state;
  *memory = {};
  memory->weights = s.model->file.weights_size;
  memory->dynamic = s.heap.peak();
  for (int32_t g = 0; g < s.model->file.n_graphs; ++g) {
    for (const Plan* p = s.graphs[g].plans; p; p = p->next) ++memory->plans;
    for (int32_t i = 0; i < s.model->file.graphs[g].n_nodes; ++i)
      for (const PackedList::Item* k = s.model->packed[g][i].first; k; k = k->next) memory->packed += k->bytes;
    memory->arena += s.graphs[g].arena_bytes;
  }
  const Plan* p = s.graphs[s.graph->index].current;
  if (p) memory->nodes_dynamic = static_cast<uint64_t>(p->n_dynamic);
}

int32_t dk_session_plan_count(const dk_session* session) {
  const Plan* p = session->state.graphs[session->state.graph->index].current;
  return p ? p->n_buffers : 0;
}

dk_status dk_session_plan_row(const dk_session* session, int32_t i, dk_plan_row* row) {
  SessionState& s = const_cast<dk_session*>(session)->state;
  if (i < 0 || i >= dk_session_plan_count(session))
    return to_c(s.error.set(Code::input, "no plan row %d: ask dk_session_plan_count first", i));
  const Plan& p = *s.graphs[s.graph->index].current;
  const Buffer& b = p.buffers[i];
  bool root = b.parent < 0 && b.output < 0;
  *row = {"", root ? static_cast<uint64_t>(b.parent_offset) : 0, root ? b.bytes : 0, b.first, b.last};
  for (int32_t k = p.n_steps; k-- > 0;)
    if (p.steps[k].scratch == i || p.steps[k].child_arena == i) row->name = p.steps[k].node->name;
  for (int32_t v = p.graph->n_values; v-- > 0;)  // the first value placed there last: it names the buffer
    if (p.values[v].place == Place::arena && p.values[v].slot == i) row->name = p.graph->value_name(v);
  if (!row->name) row->name = "";
  return 0;
}

int32_t dk_session_profile_count(const dk_session* session) {
  dk_session* s = const_cast<dk_session*>(session);
  s->rows.clear();
  for (int32_t g = 0; g < s->state.model->file.n_graphs; ++g) {
    const GraphState& state = s->state.graphs[g];
    for (int32_t i = 0; state.times && i < state.graph->n_nodes; ++i)
      if (state.times[i].calls && !s->rows.push({g, i})) return 0;
  }
  return static_cast<int32_t>(s->rows.size());
}

dk_status dk_session_profile_row(const dk_session* session, int32_t i, dk_profile_row* row) {
  SessionState& s = const_cast<dk_session*>(session)->state;
  if (i < 0 || static_cast<size_t>(i) >= session->rows.size())
    return to_c(s.error.set(Code::input, "no profile row %d: ask dk_session_profile_count first", i));
  ProfileRef r = session->rows[static_cast<size_t>(i)];
  const GraphState& state = s.graphs[r.graph];
  const NodeDef& n = state.graph->nodes[r.node];
  const char* name = n.name && *n.name ? n.name : n.n_out ? state.graph->value_name(n.outputs[0]) : "";
  *row = {name, n.op->name(), "", state.times[r.node].calls, state.times[r.node].nanoseconds, 0};
  const Plan* p = state.current;
  for (int32_t k = 0; p && k < p->n_steps; ++k)
    if (p->steps[k].index == r.node) {
      row->detail = p->steps[k].op.detail;
      row->flops = p->steps[k].op.flops;
    }
  return 0;
}

void dk_session_profile_clear(dk_session* session) {
  SessionState& s = session->state;
  for (int32_t g = 0; g < s.model->file.n_graphs; ++g)
    if (s.graphs[g].times)
      memset(static_cast<void*>(s.graphs[g].times), 0,
             static_cast<size_t>(s.graphs[g].graph->n_nodes) * sizeof(NodeTime));
}

}  // extern "C"
