// Sessions: the plan cache, memory of a run, inputs, variables.
#include "engine/session.h"

#include <cstdlib>
#include <new>

#include "base/cpus.h"
#include "base/text.h"
#include "engine/checks.h"
#include "engine/pool.h"
#include "ops/registry.h"

namespace dk {

constexpr int kMaxPlans = 8;  // kept per graph and session
constexpr int kMaxThreads = 64;
constexpr int kVariableAlign = 64;

void Lock::take() {
#if defined(__linux__) || defined(__APPLE__)
  pthread_mutex_lock(&m_);
#endif
}

void Lock::give() {
#if defined(__linux__) || defined(__APPLE__)
  pthread_mutex_unlock(&m_);
#endif
}

// ---- the model
Status ModelState::init(ErrorText* error) {
  packed = static_cast<PackedList**>(mem_alloc_zeroed(static_cast<size_t>(file.n_graphs + 1) * sizeof(PackedList*)));
  if (!packed) return error->set(Code::memory, "out of memory");
  for (int32_t g = 0; g < file.n_graphs; ++g) {
    const GraphDef& graph = file.graphs[g];
    packed[g] = static_cast<PackedList*>(mem_alloc_zeroed(static_cast<size_t>(graph.n_nodes + 1) * sizeof(PackedList)));
    if (!packed[g]) return error->set(Code::memory, "out of memory");
    for (int32_t i = 0; i < graph.n_nodes; ++i) {
      const NodeDef& n = graph.nodes[i];
      bool own = is(n, Opcode::if_) || is(n, Opcode::loop_) || is(n, Opcode::read_variable_) ||
                 is(n, Opcode::assign_variable_);
      if (!own && !find_op(n.op->opcode))
        return error->set(Code::unsupported, "%s '%s': this engine has no kernel for the op", n.op->name(), n.name);
    }
  }
  return {};
}

ModelState::~ModelState() {
  for (int32_t g = 0; packed && g < file.n_graphs; ++g) {
    for (int32_t i = 0; packed[g] && i < file.graphs[g].n_nodes; ++i) packed[g][i].free(nullptr);
    mem_free(packed[g]);
  }
  mem_free(packed);
}

// ---- the session
Status SessionState::init(ModelState* m, const SessionOptions& o) {
  model = m;
  m->lock.take();
  ++m->refs;
  m->lock.give();
  options = o;
  env.error = &error;
  budget.limit = o.max_memory;
  env.borrowed.pay_from(&budget);
  const ModelFile& f = m->file;
  int32_t signature = o.signature ? f.find_signature(o.signature) : 0;
  if (signature < 0) return error.set(Code::input, "the model has no signature '%s'", o.signature);
  graph = &f.graphs[f.n_signatures ? f.signatures[signature].graph : 0];
  const char* wanted = os_env("DK_THREADS");
  env.fast = o.fast;
  env.exact = o.exact;
  env.threads = o.threads > 0 ? o.threads : wanted && atoi(wanted) > 0 ? atoi(wanted) : cpu_count();
  if (env.threads > kMaxThreads) env.threads = kMaxThreads;
  const char* tracing = os_env("DK_TRACE");
  trace = tracing && *tracing && *tracing != '0';

  graphs = memory.array<GraphState>(static_cast<size_t>(f.n_graphs) + 1);
  variables = memory.array<Tensor>(static_cast<size_t>(f.n_variables) + 1);
  variable_bound = memory.array<bool>(static_cast<size_t>(f.n_variables) + 1);
  size_t n = static_cast<size_t>(graph->n_inputs) + 1;
  inputs = memory.array<Tensor>(n);
  input_set = memory.array<bool>(n);
  input_copy = memory.array<void*>(n);
  input_copy_bytes = memory.array<size_t>(n);
  if (!graphs || !variables || !variable_bound || !inputs || !input_set || !input_copy || !input_copy_bytes)
    return error.set(Code::memory, "out of memory");
  for (int32_t g = 0; g < f.n_graphs; ++g) {
    size_t nodes = static_cast<size_t>(f.graphs[g].n_nodes) + 1;
    graphs[g].graph = &f.graphs[g];
    graphs[g].node_runs = memory.array<uint64_t>(nodes);
    if (o.profile) graphs[g].times = memory.array<NodeTime>(nodes);
    if (!graphs[g].node_runs || (o.profile && !graphs[g].times)) return error.set(Code::memory, "out of memory");
  }
  for (int32_t v = 0; v < f.n_variables; ++v) {
    variables[v] = f.variables[v].initial;
    variables[v].data = nullptr;
    size_t bytes = variables[v].bytes();
    if (!budget.take(bytes) || !(variables[v].data = mem_alloc_zeroed(bytes + kReadable)))
      return error.set(Code::memory, "no memory for variable '%s' of %zu bytes", f.variables[v].name, bytes);
  }
  reset_variables();
  return {};
}

SessionState::~SessionState() {
  if (!model) return;
  const ModelFile& f = model->file;
  drop_plans();
  for (int32_t g = 0; graphs && g < f.n_graphs; ++g) mem_free(graphs[g].arena);
  for (int32_t v = 0; variables && v < f.n_variables; ++v)
    if (!variable_bound[v]) mem_free(variables[v].data);
  for (int32_t i = 0; input_copy && i < graph->n_inputs; ++i) mem_free(input_copy[i]);
  model->lock.take();
  bool last = --model->refs == 0;
  model->lock.give();
  if (last) {
    model->~ModelState();
    mem_free(model);
  }
}

void SessionState::drop_plans() {
  for (int32_t g = 0; graphs && g < model->file.n_graphs; ++g) {
    while (Plan* p = graphs[g].plans) {
      graphs[g].plans = p->next;
      free_plan(p);
    }
    graphs[g].current = nullptr;
  }
  ran = false;
}

// Plans hold the addresses of variables, so they go.
Status SessionState::bind_variable(int32_t v, const Tensor& t) {
  Tensor& own = variables[v];
  const char* name = model->file.variables[v].name;
  bool fits = own.dtype == t.dtype && own.rank == t.rank;
  for (int32_t d = 0; fits && d < own.rank; ++d) fits = own.dims[d] == t.dims[d];
  if (!fits) {
    char got[160], want[160];
    return error.set(Code::input, "variable '%s': got %s%s, expected %s%s", name, dtype_name(t.dtype),
                     show_dims(t.rank, t.dims, got, sizeof got), dtype_name(own.dtype),
                     show_dims(own.rank, own.dims, want, sizeof want));
  }
  if (own.bytes() && (!t.data || reinterpret_cast<uintptr_t>(t.data) % kVariableAlign))
    return error.set(Code::input, "variable '%s': its memory must be aligned to %d bytes", name, kVariableAlign);
  drop_plans();
  if (!variable_bound[v]) {
    mem_free(own.data);
    budget.give(own.bytes());
  }
  own.data = t.data;
  variable_bound[v] = true;
  return {};
}

void SessionState::reset_variables() {
  for (int32_t v = 0; v < model->file.n_variables; ++v) {
    const void* from = model->file.variables[v].initial.data;
    size_t bytes = variables[v].bytes();
    if (!bytes) continue;
    if (from)
      memcpy(variables[v].data, from, bytes);
    else
      memset(variables[v].data, 0, bytes);
  }
}

const char* show_wanted(const ModelFile& file, const InputDef& in, char* buffer, size_t size) {
  size_t at = 0;
  auto put = [&](const char* text) {
    for (; *text && at + 1 < size; ++text) buffer[at++] = *text;
    buffer[at] = 0;
  };
  put(in.dtype == DType::none ? "any dtype" : dtype_name(in.dtype));
  if (in.rank < 0) {
    put(" of any shape");
    return buffer;
  }
  put("[");
  for (int32_t d = 0; d < in.rank; ++d) {
    char number[24];
    format_text(number, sizeof number, "%lld", static_cast<long long>(in.dims[d]));
    if (d) put(",");
    put(in.dims[d] >= 0 ? number : file.symbols[-1 - in.dims[d]]);
  }
  put("]");
  return buffer;
}

Status SessionState::set_input(int32_t i, const Tensor& t) {
  if (i < 0 || i >= graph->n_inputs)
    return error.set(Code::input, "no input number %d, expected 0 to %d", i, graph->n_inputs - 1);
  const InputDef& in = graph->inputs[i];
  bool fits = (in.dtype == DType::none || in.dtype == t.dtype) && (in.rank < 0 || in.rank == t.rank);
  for (int32_t d = 0; fits && d < in.rank; ++d) fits = in.dims[d] < 0 || in.dims[d] == t.dims[d];
  if (!fits) {
    char got[160], want[256];
    return error.set(Code::input, "input '%s': got %s%s, expected %s", in.name, dtype_name(t.dtype),
                     show_dims(t.rank, t.dims, got, sizeof got), show_wanted(model->file, in, want, sizeof want));
  }
  inputs[i] = t;
  input_set[i] = true;
  ran = false;
  return {};
}

// One symbol, one size; and everything must be set.
Status SessionState::check_symbols() {
  for (int32_t i = 0; i < graph->n_inputs; ++i)
    if (!input_set[i]) return error.set(Code::input, "input '%s' is not set", graph->inputs[i].name);
  for (int32_t i = 0; i < graph->n_inputs; ++i)
    for (int32_t d = 0; d < graph->inputs[i].rank; ++d) {
      int64_t symbol = graph->inputs[i].dims[d];
      if (symbol >= 0) continue;
      for (int32_t j = 0; j <= i; ++j)
        for (int32_t e = 0; e < graph->inputs[j].rank; ++e) {
          if (graph->inputs[j].dims[e] != symbol || inputs[j].dims[e] == inputs[i].dims[d]) continue;
          return error.set(Code::input, "dim '%s' is %lld in input '%s', but %lld in input '%s'",
                           model->file.symbols[-1 - symbol], static_cast<long long>(inputs[j].dims[e]),
                           graph->inputs[j].name, static_cast<long long>(inputs[i].dims[d]), graph->inputs[i].name);
        }
    }
  return {};
}

// ---- plans
namespace {

bool same_key(const Plan& p, const PlanRequest& r) {
  for (int32_t i = 0; i < r.graph->n_inputs; ++i) {
    const InputSpec &a = p.key[i], &b = r.inputs[i];
    if (a.dtype != b.dtype || a.rank != b.rank || a.known || b.known) return false;
    for (int32_t d = 0; d < a.rank; ++d)
      if (a.dims[d] != b.dims[d]) return false;
  }
  return true;
}

void drop_oldest(GraphState& g) {
  int n = 0;
  Plan** oldest = nullptr;
  for (Plan** at = &g.plans; *at; at = &(*at)->next, ++n)
    if (!oldest || (*at)->used < (*oldest)->used) oldest = at;
  if (n < kMaxPlans) return;
  Plan* p = *oldest;
  *oldest = p->next;
  if (g.current == p) g.current = nullptr;
  free_plan(p);
}

}  // namespace

Status find_plan(SessionState& s, const PlanRequest& r, bool locked, Plan** plan) {
  GraphState& g = s.graphs[r.graph->index];
  Plan* p = g.current && same_key(*g.current, r) ? g.current : nullptr;
  for (Plan* c = g.plans; c && !p; c = c->next)
    if (same_key(*c, r)) p = c;
  if (!p) {
    drop_oldest(g);
    if (!locked) s.model->lock.take();
    Status status = make_plan(s, r, &p);
    if (!locked) s.model->lock.give();
    DK_TRY(status);
    p->next = g.plans;
    g.plans = p;
  }
  if (p->arena_bytes > g.arena_bytes) {
    // the old arena goes first: the peak is what the larger plan needs, not both
    s.budget.give(g.arena_bytes);
    mem_free(g.arena);
    g.arena = nullptr;
    g.arena_bytes = 0;
    for (Plan* c = g.plans; c; c = c->next) bind_arena(*c, nullptr);
    bool paid = s.budget.take(p->arena_bytes);
    g.arena = paid ? static_cast<char*>(mem_alloc(p->arena_bytes)) : nullptr;
    if (!g.arena) {
      if (paid) s.budget.give(p->arena_bytes);
      return s.error.set(Code::memory, "no memory for an arena of %llu bytes (limit reached or system out of memory)",
                         static_cast<unsigned long long>(p->arena_bytes));
    }
    g.arena_bytes = p->arena_bytes;
  }
  bind_arena(*p, g.arena);
  if (g.current && g.current != p) drop_heap_values(*g.current);
  g.current = p;
  p->used = ++s.clock;
  *plan = p;
  return {};
}

Status SessionState::prepare() {
  DK_TRY(check_symbols());
  InputSpec specs_here[16];
  InputSpec* specs = specs_here;
  if (graph->n_inputs > 16) {
    specs = static_cast<InputSpec*>(mem_alloc(static_cast<size_t>(graph->n_inputs) * sizeof(InputSpec)));
    if (!specs) return error.set(Code::memory, "out of memory");
  }
  for (int32_t i = 0; i < graph->n_inputs; ++i) {
    specs[i] = {inputs[i].dtype, inputs[i].rank, {0}, nullptr, false};
    for (int32_t d = 0; d < inputs[i].rank; ++d) specs[i].dims[d] = inputs[i].dims[d];
  }
  Plan* p;
  Status status = find_plan(*this, {graph, specs, true, nullptr}, false, &p);
  if (specs != specs_here) mem_free(specs);
  return status;
}

void SessionState::begin() {
  ran = false;
  steps = 0;
  __atomic_store_n(&cancelled, 0, __ATOMIC_RELAXED);
  deadline = time_limit ? now_ns() + time_limit : 0;
}

Status SessionState::run() {
  begin();
  DK_TRY(prepare());
  Plan& p = *plan();
  for (int32_t i = 0; i < graph->n_inputs; ++i) {
    const Tensor& t = inputs[i];
    size_t bytes = t.bytes();
    void* data = t.data;
    if (!data && bytes) return error.set(Code::input, "input '%s' has a shape but no data", graph->inputs[i].name);
    bool aligned = reinterpret_cast<uintptr_t>(data) % dtype_size(t.dtype) == 0;
    if (bytes && !(aligned && readable_behind(data, bytes))) {
      if (input_copy_bytes[i] < bytes) {
        budget.give(input_copy_bytes[i]);
        mem_free(input_copy[i]);
        input_copy[i] = nullptr;
        input_copy_bytes[i] = 0;
        const bool paid = budget.take(bytes);
        input_copy[i] = paid ? mem_alloc(bytes) : nullptr;
        if (!input_copy[i]) {
          if (paid) budget.give(bytes);
          return error.set(Code::memory, "no memory for a copy of input '%s'", graph->inputs[i].name);
        }
        input_copy_bytes[i] = bytes;
      }
      memcpy(input_copy[i], data, bytes);
      data = input_copy[i];
    }
    bind_input(p, i, data);
  }
  int threads = env.threads;
#if defined(__linux__)
  const bool alone = threads > 1 && p.trial.alone();
  const uint64_t began = threads > 1 ? now_ns() : 0;
  env.pool = alone ? nullptr : ThreadPool::acquire(threads);
#else
  env.pool = ThreadPool::acquire(threads);
#endif
  if (!env.pool) env.threads = 1;
  Status status;
  {
    FlushDenormals mode;
    status = run_plan(p);
  }
  if (env.pool) env.pool->release();
#if defined(__linux__)
  if (env.pool || alone) p.trial.took(now_ns() - began, alone);
#endif
  env.pool = nullptr;
  env.threads = threads;
  ran = status.ok();
  return status;
}

}  // namespace dk
