#include "engine/eager.h"

#include "base/cpus.h"
#include "engine/pool.h"
#include "ops/registry.h"

namespace dk {

namespace {

Status fill_attrs(const OpInfo& info, const EagerAttr* given, int n, AttrValue* attrs, ErrorText* error) {
  default_attrs(info, attrs);
  uint64_t seen = 0;
  for (int i = 0; i < n; ++i) {
    int id = given[i].id;
    if (id < 0 || id >= info.n_attrs)
      return error->set(Code::input, "%s: no attr number %d, expected 0 to %d", info.name(), id, info.n_attrs - 1);
    const AttrInfo& a = info.attr(id);
    const AttrValue& v = given[i].value;
    bool good = v.n >= 0;
    switch (a.kind) {
      case AttrKind::ints_: good = good && (v.n == 0 || v.ints); break;
      case AttrKind::floats_: good = good && (v.n == 0 || v.floats); break;
      case AttrKind::str_: good = good && (v.n == 0 || v.s); break;
      case AttrKind::enum_: good = v.i >= 0 && v.i < a.choices; break;
      case AttrKind::bool_: good = v.i == 0 || v.i == 1; break;
      case AttrKind::dtype_: good = v.i >= 0 && v.i < static_cast<int>(DType::count); break;
      case AttrKind::graph_: good = false; break;
      default: break;
    }
    if (!good) return error->set(Code::input, "%s: attr '%s' has a value that is not allowed", info.name(), a.name());
    attrs[id] = v;
    if (a.kind == AttrKind::str_ && !v.s) attrs[id].s = "";
    seen |= uint64_t{1} << id;
  }
  for (int i = 0; i < info.n_attrs; ++i)
    if (info.attr(i).required && !(seen >> i & 1))
      return error->set(Code::input, "%s: attr '%s' is required", info.name(), info.attr(i).name());
  return {};
}

// Pointers for the tensors of one call: few are on the stack.
template <class T, int N>
struct Few {
  T own[N] = {};
  T* get(Bump& memory, int n) { return n <= N ? own : memory.array<T>(static_cast<size_t>(n)); }
};

struct Copies {
  void* one[64];
  int n = 0;
  ~Copies() {
    for (int i = 0; i < n; ++i) mem_free(one[i]);
  }
};

}  // namespace

Status prepare_eager(uint16_t opcode, const EagerAttr* attrs, int n_attrs, ErrorText* error, EagerOp* op) {
  op->info = op_info(opcode);
  if (!op->info) return error->set(Code::version, "no op has number %d in this engine", opcode);
  op->def = find_op(opcode);
  if (!op->def) return error->set(Code::unsupported, "%s: this engine has no kernel for it", op->info->name());
  return fill_attrs(*op->info, attrs, n_attrs, op->attrs, error);
}

Status apply_eager(const EagerOp& op, const Tensor* const* inputs, int n_in, Tensor* outputs, int n_out, int threads,
                   EagerAlloc alloc, void* arg, ErrorText* error) {
  const OpInfo& info = *op.info;
  const OpDef& def = *op.def;
  if (n_in < 0 || n_in > 4096 || (n_in > info.fixed_in && !info.variadic_in))
    return error->set(Code::input, "%s: got %d inputs, expected at most %d", info.name(), n_in, info.fixed_in);
  for (int i = 0; i < info.required_in; ++i)
    if (i >= n_in || !inputs[i]) return error->set(Code::input, "%s: input %d is missing", info.name(), i);
  if (n_out < 0 || n_out > 4096 || (n_out > info.fixed_out && !info.variadic_out))
    return error->set(Code::input, "%s: %d outputs wanted, expected at most %d", info.name(), n_out, info.fixed_out);
  if (threads < 1) threads = 1;

  Bump memory;
  Few<Tensor, 6> few_ins;
  Few<const Tensor*, 6> few_ptrs;
  Few<Tensor*, 6> few_outs;
  Few<const void*, 6> few_known;
  Tensor* ins = few_ins.get(memory, n_in);
  const Tensor** in_ptrs = few_ptrs.get(memory, n_in);
  Tensor** outs = few_outs.get(memory, n_out);
  const void** known = few_known.get(memory, n_in);
  if (!ins || !in_ptrs || !outs || !known) return error->set(Code::memory, "%s: out of memory", info.name());
  static const int64_t nothing[8] = {0};
  Copies copies;
  for (int i = 0; i < n_out; ++i) outs[i] = &outputs[i];
  for (int i = 0; i < n_in; ++i) {
    if (!inputs[i]) continue;
    ins[i] = *inputs[i];
    in_ptrs[i] = &ins[i];
    size_t n = ins[i].bytes();
    uintptr_t at = reinterpret_cast<uintptr_t>(ins[i].data);
    if (at % dtype_size(ins[i].dtype) != 0 || !readable_behind(ins[i].data, n)) {
      void* copy = copies.n < 63 ? mem_alloc(n) : memory.take(n + kSlack);
      if (!copy) return error->set(Code::memory, "%s: no memory for a copy of input %d", info.name(), i);
      if (copies.n < 63) copies.one[copies.n++] = copy;
      if (n) memcpy(copy, ins[i].data, n);
      ins[i].data = copy;
    }
    known[i] = ins[i].data ? ins[i].data : nothing;
  }

  struct Packed : PackedList {
    ~Packed() { free(nullptr); }
  } packed;
  RunEnv env;
  env.error = error;
  env.threads = threads;
  OpState state;
  state.info = &info;
  state.attrs = op.attrs;
  state.env = &env;
  state.known = known;
  state.packed = &packed;
  state.memory = &memory;
  OpContext c;
  OpAccess::set(c, in_ptrs, n_in, outs, n_out, &state);
  Status s = def.infer(c);
  if (s.code == Code::need_value)
    return error->set(Code::internal, "%s: infer asked for data that it has", info.name());
  DK_TRY(s);
  for (int i = 0; i < n_out; ++i) {
    Tensor& t = outputs[i];
    if (t.dtype == DType::none) return error->set(Code::internal, "%s: infer did not set output %d", info.name(), i);
    t.data = alloc(arg, i, t);
    if (!t.data) return error->set(Code::memory, "%s: no memory for an output of %zu bytes", info.name(), t.bytes());
  }
  if (def.prepare) DK_TRY(def.prepare(c));
  void* scratch = nullptr;
  if (state.scratch) {
    scratch = copies.one[copies.n++] = mem_alloc(state.scratch);
    if (!scratch) return error->set(Code::memory, "%s: no memory for %zu bytes of scratch", info.name(), state.scratch);
  }
  OpAccess::set_run(c, OpAccess::state(c), scratch);
  state.running = true;
  if (!def.run) {  // a view
    if (outputs[0].bytes() != ins[0].bytes())
      return error->set(Code::internal, "%s: a view changed the number of bytes", info.name());
    if (ins[0].bytes()) memcpy(outputs[0].data, ins[0].data, ins[0].bytes());
    return {};
  }
  env.pool = ThreadPool::acquire(threads);
  if (!env.pool) env.threads = 1;
  {
    FlushDenormals mode;
    s = def.run(c);
  }
  if (env.pool) env.pool->release();
  return s;
}

Status run_eager(uint16_t opcode, const EagerAttr* attrs, int n_attrs, const Tensor* const* inputs, int n_in, int n_out,
                 int threads, ErrorText* error, EagerResult** result) {
  *result = nullptr;
  EagerOp op;
  DK_TRY(prepare_eager(opcode, attrs, n_attrs, error, &op));
  if (n_out < 0 || n_out > 4096) return error->set(Code::input, "%s: %d outputs wanted", op.info->name(), n_out);
  size_t bytes = sizeof(EagerResult) + static_cast<size_t>(n_out) * sizeof(Tensor);
  EagerResult* r = static_cast<EagerResult*>(mem_alloc_zeroed(bytes));
  if (!r) return error->set(Code::memory, "%s: out of memory", op.info->name());
  r->n_out = n_out;
  r->outputs = reinterpret_cast<Tensor*>(r + 1);
  EagerAlloc alloc = [](void*, int, const Tensor& t) { return mem_alloc(t.bytes()); };
  Status s = apply_eager(op, inputs, n_in, r->outputs, n_out, threads, alloc, nullptr, error);
  if (!s.ok()) {
    free_result(r);
    return s;
  }
  *result = r;
  return {};
}

void free_result(EagerResult* r) {
  if (!r) return;
  for (int i = 0; i < r->n_out; ++i) mem_free(r->outputs[i].data);
  mem_free(r);
}

}  // namespace dk
