#include "engine/plan.h"

#include <new>

#include "engine/checks.h"
#include "engine/planner.h"

namespace dk {

Status Planner::run() {
  p_.graph = &g_;
  p_.session = &s_;
  p_.memory.pay_from(&s_.budget);
  p_.top = r_.top;
  p_.state = &s_.graphs[g_.index];
  DK_TRY(start());
  for (int32_t i = 0; i < g_.n_nodes; ++i) {
    DK_TRY(check_stop(s_, g_.nodes[i]));
    DK_TRY(infer(i));
  }
  DK_TRY(lifetimes());
  for (int32_t i = 0; i < g_.n_nodes; ++i)
    if (needed_[i]) {
      DK_TRY(check_stop(s_, g_.nodes[i]));
      DK_TRY(place(i));
    }
  DK_TRY(outputs());
  DK_TRY(layout());
  return compact();
}

Status Planner::no_memory() { return s_.error.set(Code::memory, "out of memory while planning graph '%s'", g_.name); }

Status Planner::start() {
  p_.values = array<PlanValue>(g_.n_values);
  p_.steps = array<Step>(g_.n_nodes);
  p_.key = array<InputSpec>(g_.n_inputs);
  removed_ = array<uint8_t>(g_.n_nodes);
  needed_ = array<uint8_t>(g_.n_nodes);
  aliased_ = array<uint8_t>(g_.n_nodes);
  if (!p_.values || !p_.steps || !p_.key || !removed_ || !needed_ || !aliased_) return no_memory();
#if !defined(__wasm__)
  before_ = array<int32_t>(g_.n_nodes);
  if (!before_) return no_memory();
#endif
  for (int32_t v = 0; v < g_.n_values; ++v) {
    value(v).slot = value(v).last = value(v).view_of = -1;
  }
  for (int32_t i = 0; i < g_.n_inputs; ++i) {
    const InputSpec& in = r_.inputs[i];
    PlanValue& v = value(g_.inputs[i].value);
    p_.key[i] = in;
    v.t.dtype = in.dtype;
    v.t.rank = static_cast<uint8_t>(in.rank);
    for (int d = 0; d < in.rank; ++d) v.t.dims[d] = in.dims[d];
    v.place = Place::input;
    v.slot = i;
    v.fixed = true;
    v.known = in.known;
    v.t.data = const_cast<void*>(in.known);  // for what is computed from it while planning; bound before a run
    v.constant = in.constant;
  }
  for (int32_t i = 0; i < g_.n_constants; ++i) {
    PlanValue& v = value(g_.constants[i].value);
    v.t = g_.constants[i].tensor;
    v.place = Place::constant;
    v.fixed = v.constant = true;
    v.known = v.t.data && v.t.bytes() ? v.t.data : kNothing;
    v.t.data = const_cast<void*>(v.known);
  }
  return {};
}

Status Planner::make_step(int32_t i) {
  Step* step = new (&p_.steps[i]) Step();
  const NodeDef& n = g_.nodes[i];
  step->node = &n;
  step->index = i;
  step->scratch = step->child_arena = -1;
  step->in = array<const Tensor*>(n.n_in);
  step->out = array<Tensor*>(n.n_out);
  step->known = array<const void*>(n.n_in);
  step->constant = array<uint8_t>(n.n_in);
  if (!step->in || !step->out || !step->known || !step->constant) return no_memory();
  for (int32_t k = 0; k < n.n_in; ++k) {
    if (n.inputs[k] < 0) continue;
    PlanValue& v = value(n.inputs[k]);
    step->in[k] = &v.t;
    step->known[k] = v.known;
    step->constant[k] = v.constant;
  }
  for (int32_t k = 0; k < n.n_out; ++k)
    if (n.outputs[k] >= 0) step->out[k] = &value(n.outputs[k]).t;
  OpState& op = step->op;
  op.info = n.op;
  op.name = n.name;
  op.attrs = n.attrs;
  op.env = &s_.env;
  op.known = step->known;
  op.constant = step->constant;
  op.packed = &s_.model->packed[g_.index][i];
  op.packed_budget = &s_.budget;
  op.memory = &p_.memory;
  op.node_runs = p_.state->node_runs ? &p_.state->node_runs[i] : nullptr;
  OpAccess::set(step->context, step->in, n.n_in, step->out, n.n_out, &step->op);
  return {};
}

Status Planner::prepare(Step& step) {
  if (!step.def->prepare) return {};
  PackedList::Item* mark = step.op.packed->first;
  Status s = step.def->prepare(step.context);
  if (s.ok()) return s;
  step.op.packed->drop_until(mark, &s_.budget);  // it may not be filled
  if (s.code == Code::need_value)
    return s_.error.set(Code::internal, "%s '%s': prepare asked for data", step.node->op->name(), step.node->name);
  return s;
}

// Leaves only the steps that do something at run time.
Status Planner::compact() {
  Step* to = p_.steps;
  for (int32_t i = 0; i < g_.n_nodes; ++i) {
    Step& step = p_.steps[i];
    bool runs = needed_[i] && !removed_[i];
    if (!step.dynamic) {
      if (step.kind == StepKind::view) runs = false;
      if (aliased_[i] && (step.kind == StepKind::read || step.kind == StepKind::concat)) runs = false;
    }
    if (!runs) {
      if (step.memory) step.memory->release();
      if (step.dynamic) --p_.n_dynamic;
      continue;
    }
    if (to != &step) {
      *to = step;
      OpAccess::set(to->context, to->in, to->node->n_in, to->out, to->node->n_out, &to->op);
    }
    ++to;
  }
  p_.n_steps = static_cast<int32_t>(to - p_.steps);
  return {};
}

Status make_plan(SessionState& s, const PlanRequest& request, Plan** plan) {
  *plan = nullptr;
  Plan* p = static_cast<Plan*>(mem_alloc(sizeof(Plan)));
  if (!p) return s.error.set(Code::memory, "out of memory while planning");
  new (p) Plan();
  Status status = Planner(s, request, *p).run();
  if (!status.ok()) {
    if (p->n_steps == 0) p->n_steps = p->graph ? p->graph->n_nodes : 0;  // not compacted: let free_plan see all
    free_plan(p);
    return status;
  }
  *plan = p;
  return {};
}

void free_plan(Plan* p) {
  if (!p) return;
  if (p->values) drop_heap_values(*p);
  for (int32_t i = 0; p->steps && i < p->n_steps; ++i)
    if (p->steps[i].memory) p->steps[i].memory->release();
  while (p->children) {
    Plan* c = p->children;
    p->children = c->next;
    free_plan(c);
  }
  p->~Plan();
  mem_free(p);
}

const Tensor& plan_output(const Plan& p, int32_t i) { return p.values[p.graph->outputs[i]].t; }

namespace {

// Where buffer b begins, and its root.
char* buffer_at(const Plan& p, int32_t b, int32_t* root) {
  int64_t offset = 0;
  while (p.buffers[b].parent >= 0) {
    offset += p.buffers[b].parent_offset;
    b = p.buffers[b].parent;
  }
  *root = b;
  if (p.buffers[b].output >= 0) return p.buffers[b].at ? p.buffers[b].at + offset : nullptr;
  return p.base ? p.base + p.buffers[b].parent_offset + offset : nullptr;
}

}  // namespace

void bind_arena(Plan& p, char* base) {
  if (p.base == base) return;
  p.base = base;
  int32_t root;
  for (int32_t b = 0; b < p.n_buffers; ++b)
    if (p.buffers[b].output < 0) p.buffers[b].at = buffer_at(p, b, &root);
  for (int32_t v = 0; v < p.graph->n_values; ++v) {
    PlanValue& x = p.values[v];
    if (x.place != Place::arena) continue;
    char* at = buffer_at(p, x.slot, &root);
    x.t.data = at ? at + x.offset : nullptr;
  }
  for (int32_t k = 0; k < p.graph->n_outputs; ++k) {
    p.outputs[k] = p.values[p.graph->outputs[k]].t;
    if (p.output_copy[k] >= 0) p.outputs[k].data = p.buffers[p.output_copy[k]].at;
  }
  for (int32_t i = 0; i < p.n_steps; ++i) {
    Step& step = p.steps[i];
    if (step.dynamic) continue;
    if (step.scratch >= 0) OpAccess::set_run(step.context, OpAccess::state(step.context), p.buffers[step.scratch].at);
    char* child = step.child_arena >= 0 ? p.buffers[step.child_arena].at : nullptr;
    for (Plan* c : step.child)
      if (c) bind_arena(*c, child);
  }
}

void bind_input(Plan& p, int32_t i, void* data) {
  for (int32_t k = p.bound_first[i]; k < p.bound_first[i + 1]; ++k) {
    PlanValue& v = p.values[p.bound[k]];
    v.t.data = static_cast<char*>(data) + v.offset;
  }
}

void bind_output(Plan& p, int32_t i, void* data) {
  const PlanValue& out = p.values[p.graph->outputs[i]];
  if (out.place != Place::arena || p.buffers[out.slot].output != i) return;
  p.buffers[out.slot].at = static_cast<char*>(data);
  int32_t b = p.graph->n_inputs + out.slot, root;
  for (int32_t k = p.bound_first[b]; k < p.bound_first[b + 1]; ++k) {
    PlanValue& v = p.values[p.bound[k]];
    v.t.data = buffer_at(p, v.slot, &root) + v.offset;
  }
}

}  // namespace dk
