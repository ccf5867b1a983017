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
      return error->set(Code::input, "%s: no attr number %d, expected 0 to %d", info.name, id, info.n_attrs - 1);
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
    if (!good) return error->set(Code::input, "%s: attr '%s' has a value that is not allowed", info.name, a.name);
    attrs[id] = v;
    if (a.kind == AttrKind::str_ && !v.s) attrs[id].s = "";
    seen |= uint64_t{1} << id;
  }
  for (int i = 0; i < info.n_attrs; ++i)
    if (info.attr(i).required && !(seen >> i & 1))
      return error->set(Code::input, "%s: attr '%s' is required", info.name, info.attr(i).name);
  return {};
}

// The tensors of one call; freed as a whole.
struct Call {
  Bump memory;
  PackedList packed;
  void* buffers[64];
  int n_buffers = 0;
  ~Call() {
    packed.free(nullptr);
    for (int i = 0; i < n_buffers; ++i) mem_free(buffers[i]);
  }
};

Status apply(const OpInfo& info, const OpDef& def, const AttrValue* attrs, Tensor* ins, const Tensor** in_ptrs,
             int n_in, EagerResult* result, int threads, ErrorText* error, Call& call) {
  int n_out = result->n_out;
  Tensor** outs = call.memory.array<Tensor*>(static_cast<size_t>(n_out) + 1);
  const void** known = call.memory.array<const void*>(static_cast<size_t>(n_in) + 1);
  if (!outs || !known) return error->set(Code::memory, "%s: out of memory", info.name);
  static const int64_t nothing[8] = {0};
  for (int i = 0; i < n_out; ++i) outs[i] = &result->outputs[i];
  for (int i = 0; i < n_in; ++i)
    if (in_ptrs[i]) known[i] = ins[i].data ? ins[i].data : nothing;

  RunEnv env;
  env.error = error;
  env.threads = threads;
  OpState op;
  op.info = &info;
  op.attrs = attrs;
  op.env = &env;
  op.known = known;
  op.packed = &call.packed;
  op.memory = &call.memory;
  OpContext c;
  OpAccess::set(c, in_ptrs, n_in, outs, n_out, &op);
  Status s = def.infer(c);
  if (s.code == Code::need_value) return error->set(Code::internal, "%s: infer asked for data that it has", info.name);
  DK_TRY(s);
  for (int i = 0; i < n_out; ++i) {
    Tensor& t = result->outputs[i];
    if (t.dtype == DType::none) return error->set(Code::internal, "%s: infer did not set output %d", info.name, i);
    t.data = mem_alloc(t.bytes());
    if (!t.data) return error->set(Code::memory, "%s: no memory for an output of %zu bytes", info.name, t.bytes());
  }
  if (def.prepare) DK_TRY(def.prepare(c));
  void* scratch = nullptr;
  if (op.scratch) {
    scratch = mem_alloc(op.scratch);
    if (!scratch) return error->set(Code::memory, "%s: no memory for %zu bytes of scratch", info.name, op.scratch);
    call.buffers[call.n_buffers++] = scratch;
  }
  OpAccess::set_run(c, OpAccess::state(c), scratch);
  op.running = true;
  if (!def.run) {  // a view
    if (result->outputs[0].bytes() != ins[0].bytes())
      return error->set(Code::internal, "%s: a view changed the number of bytes", info.name);
    if (ins[0].bytes()) memcpy(result->outputs[0].data, ins[0].data, ins[0].bytes());
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

}  // namespace

Status run_eager(uint16_t opcode, const EagerAttr* attrs, int n_attrs, const Tensor* const* inputs, int n_in, int n_out,
                 int threads, ErrorText* error, EagerResult** result) {
  *result = nullptr;
  const OpInfo* info = op_info(opcode);
  if (!info) return error->set(Code::version, "no op has number %d in this engine", opcode);
  const OpDef* def = find_op(opcode);
  if (!def) return error->set(Code::unsupported, "%s: this engine has no kernel for it", info->name);
  if (n_in < 0 || n_in > 4096 || (n_in > info->fixed_in && !info->variadic_in))
    return error->set(Code::input, "%s: got %d inputs, expected at most %d", info->name, n_in, info->fixed_in);
  for (int i = 0; i < info->required_in; ++i)
    if (i >= n_in || !inputs[i]) return error->set(Code::input, "%s: input %d is missing", info->name, i);
  if (n_out < 0 || n_out > 4096 || (n_out > info->fixed_out && !info->variadic_out))
    return error->set(Code::input, "%s: %d outputs wanted, expected at most %d", info->name, n_out, info->fixed_out);
  AttrValue values[kMaxAttrs];
  DK_TRY(fill_attrs(*info, attrs, n_attrs, values, error));
  if (threads < 1) threads = 1;

  Call call;
  Tensor* ins = call.memory.array<Tensor>(static_cast<size_t>(n_in) + 1);
  const Tensor** in_ptrs = call.memory.array<const Tensor*>(static_cast<size_t>(n_in) + 1);
  void** copies = call.memory.array<void*>(static_cast<size_t>(n_in) + 1);
  size_t bytes = sizeof(EagerResult) + static_cast<size_t>(n_out) * sizeof(Tensor);
  EagerResult* r = static_cast<EagerResult*>(mem_alloc_zeroed(bytes));
  if (!ins || !in_ptrs || !copies || !r) {
    mem_free(r);
    return error->set(Code::memory, "%s: out of memory", info->name);
  }
  r->n_out = n_out;
  r->outputs = reinterpret_cast<Tensor*>(r + 1);
  Status s;
  for (int i = 0; i < n_in && s.ok(); ++i) {
    if (!inputs[i]) continue;
    ins[i] = *inputs[i];
    in_ptrs[i] = &ins[i];
    size_t n = ins[i].bytes();
    uintptr_t at = reinterpret_cast<uintptr_t>(ins[i].data);
    if (at % dtype_size(ins[i].dtype) == 0 && readable_behind(ins[i].data, n)) continue;
    ins[i].data = copies[i] = mem_alloc(n);
    if (!copies[i]) {
      s = error->set(Code::memory, "%s: no memory for a copy of input %d", info->name, i);
    } else if (n) {
      memcpy(copies[i], inputs[i]->data, n);
    }
  }
  if (s.ok()) s = apply(*info, *def, values, ins, in_ptrs, n_in, r, threads, error, call);
  for (int i = 0; i < n_in; ++i) mem_free(copies[i]);
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
