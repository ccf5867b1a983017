// Shapes of all values, and the data that follows from them; plans of bodies.
#include <new>

#include "base/cpus.h"
#include "engine/checks.h"
#include "engine/planner.h"
#include "ops/registry.h"

namespace dk {
namespace {

constexpr size_t kKnownBytes = 64 << 10;   // outputs of a node computed while planning
constexpr uint32_t kWidened = 0x77696465;  // tag of packed memory that holds a whole constant result

}  // namespace

Status Planner::infer(int32_t i) {
  DK_TRY(make_step(i));
  Step& step = p_.steps[i];
  const NodeDef& n = *step.node;
  bool fixed = true;
  for (int32_t k = 0; k < n.n_in; ++k)
    if (n.inputs[k] >= 0 && !value(n.inputs[k]).fixed) fixed = false;
  if (is(n, Opcode::if_)) {
    step.kind = StepKind::branch;
    return fixed ? infer_branch(i) : make_dynamic(i);
  }
  if (is(n, Opcode::loop_)) {
    step.kind = StepKind::loop;
    return fixed ? infer_loop(i) : make_dynamic(i);
  }
  if (is(n, Opcode::read_variable_)) {
    step.kind = StepKind::read;
    if (step.out[0]) *step.out[0] = s_.variables[n.variable];
    return make_static(i);
  }
  if (is(n, Opcode::assign_variable_)) {
    step.kind = StepKind::assign;
    if (!fixed) return make_dynamic(i);
    DK_TRY(check_assign(s_, step));
    if (n.n_out && step.out[0]) *step.out[0] = *step.in[0];
    return make_static(i);
  }
  step.def = find_op(n.op->opcode);
  step.kind = step.def->run ? StepKind::op : StepKind::view;
  if (!fixed) return make_dynamic(i);
  Status s = step.def->infer(step.context);
  if (s.code == Code::need_value) return make_dynamic(i);
  DK_TRY(s);
  DK_TRY(check_outputs(s_, step));
  DK_TRY(make_static(i));
  return compute(i);
}

Status Planner::make_static(int32_t i) {
  const NodeDef& n = g_.nodes[i];
  for (int32_t k = 0; k < n.n_out; ++k)
    if (n.outputs[k] >= 0) value(n.outputs[k]).fixed = true;
  return {};
}

Status Planner::make_dynamic(int32_t i) {
  Step& step = p_.steps[i];
  const NodeDef& n = g_.nodes[i];
  step.dynamic = true;
  step.memory = static_cast<Bump*>(p_.memory.take(sizeof(Bump)));
  if (!step.memory) return no_memory();
  new (step.memory) Bump();
  step.memory->pay_from(&s_.budget);
  ++p_.n_dynamic;
  for (int32_t k = 0; k < n.n_out; ++k) {
    if (n.outputs[k] < 0) continue;
    value(n.outputs[k]).place = Place::heap;
    value(n.outputs[k]).t = Tensor();
  }
  return {};
}

// Runs a node now when its inputs are known and its outputs small.
Status Planner::compute(int32_t i) {
  Step& step = p_.steps[i];
  const NodeDef& n = *step.node;
  if (n.op->effect() || n.op->random()) return {};
  bool of_shape = is(n, Opcode::shape_of_) || is(n, Opcode::size_of_);
  bool constant = true;
  for (int32_t k = 0; k < n.n_in; ++k) {
    if (n.inputs[k] < 0) continue;
    if (!step.known[k] && !of_shape) return {};
    constant = constant && step.constant[k];
  }
  if (step.kind == StepKind::view) {
    if (!step.out[0]) return {};
    PlanValue& y = value(n.outputs[0]);
    y.known = step.known[0];
    y.constant = constant;
    y.t.data = const_cast<void*>(y.known);  // for what is computed from it while planning
    return {};                              // its place follows from that of the input
  }
  // Weights that the file stores narrow are widened here, whatever their size, once for all plans of the model.
  const bool widens = constant && n.n_out == 1 && step.out[0] &&
                      (is(n, Opcode::cast_) || is(n, Opcode::dequantize_) || is(n, Opcode::transpose_));
  size_t total = 0;
  for (int32_t k = 0; k < n.n_out; ++k)
    if (step.out[k]) {
      size_t bytes = step.out[k]->bytes();
      if ((bytes > kKnownBytes || (total += bytes) > kKnownBytes) && !widens) return {};
    }
  PackedList::Item* mark = step.op.packed->first;
  Status s = compute_into(step);
  if (!s.ok()) {
    step.op.packed->drop_until(mark, &s_.budget);  // the widened constant was not filled
    return s;
  }
  for (int32_t k = 0; k < n.n_out; ++k) {
    if (!step.out[k]) continue;
    PlanValue& v = value(n.outputs[k]);
    v.known = v.t.data;
    v.constant = constant;
    v.place = Place::known;
  }
  removed_[i] = 1;
  return {};
}

Status Planner::compute_into(Step& step) {
  const NodeDef& n = *step.node;
  bool done = false;
  for (int32_t k = 0; k < n.n_out; ++k) {
    if (!step.out[k]) continue;
    const size_t bytes = step.out[k]->bytes();
    void* data = nullptr;
    if (bytes > kKnownBytes) {
      bool fresh;
      DK_TRY(step.context.packed(kWidened, bytes + kReadable, &data, &fresh));
      done = !fresh;
    } else {
      data = p_.memory.take(bytes + kReadable);
      if (!data) return no_memory();
    }
    step.out[k]->data = data;
  }
  DK_TRY(prepare(step));
  Status s = Code::memory;
  const bool paid = s_.budget.take(step.op.scratch);
  void* scratch = paid && step.op.scratch ? mem_alloc(step.op.scratch) : nullptr;
  if (done) {
    s = Status();
  } else if (paid && (scratch || !step.op.scratch)) {
    OpAccess::set_run(step.context, OpAccess::state(step.context), scratch);
    step.op.running = true;
    ThreadPool* pool = s_.env.pool;
    s_.env.pool = nullptr;
    FlushDenormals mode;
    s = step.def->run(step.context);
    s_.env.pool = pool;
    step.op.running = false;
  }
  mem_free(scratch);
  if (paid) s_.budget.give(step.op.scratch);
  return s.code == Code::memory ? no_memory() : s;
}

Status Planner::child_plan(int32_t graph, const InputSpec* inputs, const uint8_t* external, Plan** plan) {
  PlanRequest r = {&s_.model->file.graphs[graph], inputs, false, external};
  DK_TRY(make_plan(s_, r, plan));
  (*plan)->next = p_.children;
  p_.children = *plan;
  return {};
}

InputSpec Planner::spec_of(int32_t v, bool with_known) {
  const PlanValue& x = value(v);
  InputSpec in = {x.t.dtype, x.t.rank, {0}, with_known ? x.known : nullptr, with_known && x.constant};
  for (int d = 0; d < x.t.rank; ++d) in.dims[d] = x.t.dims[d];
  return in;
}

Status Planner::infer_branch(int32_t i) {
  Step& step = p_.steps[i];
  const NodeDef& n = *step.node;
  DK_TRY(check_condition(s_, n, *step.in[0]));
  InputSpec* specs = array<InputSpec>(n.n_in);
  uint8_t* external = array<uint8_t>(n.n_out);
  if (!specs || !external) return no_memory();
  for (int32_t k = 1; k < n.n_in; ++k) specs[k - 1] = spec_of(n.inputs[k], true);
  for (int32_t k = 0; k < n.n_out; ++k) external[k] = n.outputs[k] >= 0;
  const uint8_t* condition = static_cast<const uint8_t*>(step.known[0]);
  Plan* mark = p_.children;
  for (int b = 0; b < 2; ++b) {
    if (condition && (b == 0) != (*condition != 0)) continue;
    Status s = child_plan(n.body[b], specs, external, &step.child[b]);
    // Shapes may fit only in the branch that will be taken.
    if (!s.ok() && (condition || is_final(s.code))) return s;
    if (!s.ok() || !step.child[b]->outputs_fixed) return forget_children(i, mark);
  }
  if (!condition)
    for (int32_t k = 0; k < n.n_out; ++k)
      if (step.out[k] && !same_spec(plan_output(*step.child[0], k), plan_output(*step.child[1], k)))
        return forget_children(i, mark);
  Plan& taken = *step.child[condition && !*condition ? 1 : 0];
  bool all_known = !taken.graph->effects;
  for (int32_t k = 0; k < n.n_out; ++k) {
    if (!step.out[k]) continue;
    const PlanValue& from = taken.values[taken.graph->outputs[k]];
    PlanValue& v = value(n.outputs[k]);
    v.t = from.t;
    v.t.data = nullptr;
    all_known = all_known && condition && from.known;
  }
  if (condition && all_known) {
    for (int32_t k = 0; k < n.n_out; ++k) {
      if (!step.out[k]) continue;
      const PlanValue& from = taken.values[taken.graph->outputs[k]];
      PlanValue& v = value(n.outputs[k]);
      v.known = from.known;
      v.t.data = const_cast<void*>(from.known);
      v.constant = false;
      v.place = Place::known;
    }
    removed_[i] = 1;
  }
  return make_static(i);
}

// The node becomes dynamic: its bodies are planned when it runs.
Status Planner::forget_children(int32_t i, Plan* mark) {
  while (p_.children != mark) {
    Plan* c = p_.children;
    p_.children = c->next;
    free_plan(c);
  }
  p_.steps[i].child[0] = p_.steps[i].child[1] = nullptr;
  return make_dynamic(i);
}

Status Planner::infer_loop(int32_t i) {
  Step& step = p_.steps[i];
  const NodeDef& n = *step.node;
  const GraphDef& body = s_.model->file.graphs[n.body[0]];
  int32_t carried = static_cast<int32_t>(n.attrs[attr::loop_::carried].i);
  DK_TRY(check_trip(s_, step));
  InputSpec* specs = array<InputSpec>(body.n_inputs);
  uint8_t* external = array<uint8_t>(body.n_outputs);
  if (!specs || !external) return no_memory();
  specs[0] = {DType::s64, body.inputs[0].rank == 1, {1}, nullptr, false};
  specs[1] = {DType::b8, body.inputs[1].rank == 1, {1}, nullptr, false};
  for (int32_t k = 2; k < body.n_inputs; ++k) specs[k] = spec_of(n.inputs[k], k >= 2 + carried);
  for (int32_t k = 0; k < n.n_out; ++k) external[1 + k] = k < carried || n.outputs[k] >= 0;
  Plan* mark = p_.children;
  Status s = child_plan(n.body[0], specs, external, &step.child[0]);
  if (is_final(s.code)) return s;
  if (!s.ok() || !step.child[0]->outputs_fixed) return forget_children(i, mark);
  Plan& c = *step.child[0];
  const Tensor& go_on = plan_output(c, 0);
  if (go_on.dtype != DType::b8 || go_on.count() != 1) return forget_children(i, mark);
  for (int32_t k = 0; k < carried; ++k)
    if (!same_spec(plan_output(c, 1 + k), *step.in[2 + k])) return forget_children(i, mark);
  // How many slices a scanned output gets is known when the trip count is and the condition never changes.
  const void* trip = n.n_in > 0 && n.inputs[0] >= 0 ? step.known[0] : nullptr;
  bool begins = n.n_in < 2 || n.inputs[1] < 0 || (step.known[1] && *static_cast<const uint8_t*>(step.known[1]));
  const void* again = c.values[body.outputs[0]].known;
  int64_t count = trip ? read_trip(*step.in[0], trip) : 0;
  if (count < 0) count = 0;
  for (int32_t k = carried; k < n.n_out; ++k) {
    const Tensor& piece = plan_output(c, 1 + k);
    if (!step.out[k]) continue;
    if (!trip || !begins || !again || !*static_cast<const uint8_t*>(again)) return forget_children(i, mark);
    DK_TRY(stacked(s_, n, piece, count, step.out[k]));
  }
  for (int32_t k = 0; k < carried; ++k) {
    if (!step.out[k]) continue;
    *step.out[k] = *step.in[2 + k];
    step.out[k]->data = nullptr;
  }
  return make_static(i);
}

}  // namespace dk
