#include "engine/plan.h"

#include <new>

#include "base/cpus.h"
#include "engine/checks.h"
#include "engine/session.h"
#include "ops/registry.h"

namespace dk {
namespace {

constexpr size_t kKnownBytes = 64 << 10;   // outputs of a node computed while planning
constexpr uint32_t kWidened = 0x77696465;  // tag of packed memory that holds a whole constant result
class Planner {
 public:
  Planner(SessionState& s, const PlanRequest& request, Plan& p)
      : s_(s), r_(request), g_(*request.graph), p_(p), keep_(s.options.keep_values) {}

  Status run() {
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

 private:
  Status no_memory() { return s_.error.set(Code::memory, "out of memory while planning graph '%s'", g_.name); }
  template <class T>
  T* array(int64_t n) {
    return p_.memory.array<T>(static_cast<size_t>(n) + 1);
  }
  PlanValue& value(int32_t v) { return p_.values[v]; }

  // ---- values that are there before any node
  Status start() {
    p_.values = array<PlanValue>(g_.n_values);
    p_.steps = array<Step>(g_.n_nodes);
    p_.key = array<InputSpec>(g_.n_inputs);
    removed_ = array<uint8_t>(g_.n_nodes);
    needed_ = array<uint8_t>(g_.n_nodes);
    aliased_ = array<uint8_t>(g_.n_nodes);
    if (!p_.values || !p_.steps || !p_.key || !removed_ || !needed_ || !aliased_) return no_memory();
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

  Status make_step(int32_t i) {
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

  // ---- shapes
  Status infer(int32_t i) {
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

  Status make_static(int32_t i) {
    const NodeDef& n = g_.nodes[i];
    for (int32_t k = 0; k < n.n_out; ++k)
      if (n.outputs[k] >= 0) value(n.outputs[k]).fixed = true;
    return {};
  }

  Status make_dynamic(int32_t i) {
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
  Status compute(int32_t i) {
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

  Status compute_into(Step& step) {
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

  Status prepare(Step& step) {
    if (!step.def->prepare) return {};
    PackedList::Item* mark = step.op.packed->first;
    Status s = step.def->prepare(step.context);
    if (s.ok()) return s;
    step.op.packed->drop_until(mark, &s_.budget);  // it may not be filled
    if (s.code == Code::need_value)
      return s_.error.set(Code::internal, "%s '%s': prepare asked for data", step.node->op->name, step.node->name);
    return s;
  }

  // ---- control flow
  Status child_plan(int32_t graph, const InputSpec* inputs, const uint8_t* external, Plan** plan) {
    PlanRequest r = {&s_.model->file.graphs[graph], inputs, false, external};
    DK_TRY(make_plan(s_, r, plan));
    (*plan)->next = p_.children;
    p_.children = *plan;
    return {};
  }

  InputSpec spec_of(int32_t v, bool with_known) {
    const PlanValue& x = value(v);
    InputSpec in = {x.t.dtype, x.t.rank, {0}, with_known ? x.known : nullptr, with_known && x.constant};
    for (int d = 0; d < x.t.rank; ++d) in.dims[d] = x.t.dims[d];
    return in;
  }

  Status infer_branch(int32_t i) {
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
  Status forget_children(int32_t i, Plan* mark) {
    while (p_.children != mark) {
      Plan* c = p_.children;
      p_.children = c->next;
      free_plan(c);
    }
    p_.steps[i].child[0] = p_.steps[i].child[1] = nullptr;
    return make_dynamic(i);
  }

  Status infer_loop(int32_t i) {
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

  // ---- lifetimes: who still reads what, from the end to the start; nodes that nobody needs are left out
  void mark_assigned(const GraphDef& g, int32_t at) {
    for (int32_t k = 0; k < g.n_nodes; ++k) {
      const NodeDef& n = g.nodes[k];
      if (is(n, Opcode::assign_variable_)) next_assign_[n.variable] = at;
      for (int32_t b : n.body)
        if (b >= 0) mark_assigned(s_.model->file.graphs[b], at);
    }
  }

  Status lifetimes() {
    int32_t n_variables = s_.model->file.n_variables;
    next_assign_ = array<int32_t>(n_variables);
    if (!next_assign_) return no_memory();
    for (int32_t v = 0; v < n_variables; ++v) next_assign_[v] = INT32_MAX;
    for (int32_t k = 0; k < g_.n_outputs; ++k) value(g_.outputs[k]).last = g_.n_nodes;
    for (int32_t i = g_.n_nodes; i-- > 0;) {
      const NodeDef& n = g_.nodes[i];
      if (removed_[i]) continue;
      bool needed = is(n, Opcode::assign_variable_);
      for (int32_t b : n.body)
        if (b >= 0) {
          const GraphDef& body = s_.model->file.graphs[b];
          needed = needed || body.effects;
          if (body.effects) mark_assigned(body, i);
        }
      for (int32_t k = 0; k < n.n_out; ++k)
        if (n.outputs[k] >= 0 && (keep_ || value(n.outputs[k]).last >= 0)) needed = true;
      if (!needed) continue;
      needed_[i] = 1;
      for (int32_t k = 0; k < n.n_in; ++k)
        if (n.inputs[k] >= 0 && value(n.inputs[k]).last < i) value(n.inputs[k]).last = i;
      StepKind kind = p_.steps[i].kind;
      if (kind == StepKind::assign) next_assign_[n.variable] = i;
      if ((kind == StepKind::view || kind == StepKind::assign) && n.n_out && n.outputs[0] >= 0) {
        PlanValue &x = value(n.inputs[0]), &y = value(n.outputs[0]);
        if (x.last < y.last) x.last = y.last;
      }
      // Read in place unless the variable changes while this value is still wanted.
      if (kind == StepKind::read && n.outputs[0] >= 0)
        aliased_[i] = !keep_ && next_assign_[n.variable] > value(n.outputs[0]).last;
    }
    if (keep_)
      for (int32_t v = 0; v < g_.n_values; ++v) value(v).last = g_.n_nodes;
    return {};
  }

  // ---- memory
  Status new_buffer(uint64_t bytes, int32_t first, int32_t last, int32_t* slot) {
    if (last < first) last = first;
    if (!buffers_.push({bytes, first, last, -1, 0, -1, nullptr})) return no_memory();
    *slot = static_cast<int32_t>(buffers_.size()) - 1;
    return {};
  }

  int32_t root(int32_t slot) {
    while (buffers_[static_cast<size_t>(slot)].parent >= 0) slot = buffers_[static_cast<size_t>(slot)].parent;
    return slot;
  }
  Buffer& buffer(int32_t slot) { return buffers_[static_cast<size_t>(slot)]; }

  void share(PlanValue& y, const PlanValue& x, int32_t of) {
    y.place = x.place;
    y.slot = x.slot;
    y.offset = x.offset;
    y.known = x.known;
    y.constant = x.constant;
    y.view_of = of;
    y.t.data = x.place == Place::variable                              ? x.t.data
               : x.place == Place::constant || x.place == Place::known ? const_cast<void*>(x.known)
                                                                       : nullptr;
    if (y.place == Place::arena) extend(y);
  }
  void extend(const PlanValue& v) {
    Buffer& b = buffer(root(v.slot));
    if (b.last < v.last) b.last = v.last;
  }

  Status place_output(int32_t i, int32_t k) {
    const NodeDef& n = g_.nodes[i];
    PlanValue& v = value(n.outputs[k]);
    v.place = Place::arena;
    v.offset = 0;
    return new_buffer(v.t.bytes(), i, v.last, &v.slot);
  }

  Status place(int32_t i) {
    Step& step = p_.steps[i];
    const NodeDef& n = *step.node;
    if (step.dynamic) return {};
    switch (step.kind) {
      case StepKind::view: share(value(n.outputs[0]), value(n.inputs[0]), n.inputs[0]); return {};
      case StepKind::assign:
        if (n.n_out && n.outputs[0] >= 0) share(value(n.outputs[0]), value(n.inputs[0]), n.inputs[0]);
        return {};
      case StepKind::read:
        if (!aliased_[i]) return place_output(i, 0);
        value(n.outputs[0]).place = Place::variable;
        value(n.outputs[0]).slot = n.variable;
        value(n.outputs[0]).t.data = s_.variables[n.variable].data;
        return {};
      case StepKind::branch:
      case StepKind::loop: return place_control(i);
      default: break;
    }
    DK_TRY(prepare(step));
    step.op.running = true;
    if (step.op.scratch) DK_TRY(new_buffer(step.op.scratch, i, i, &step.scratch));
    if (is(n, Opcode::concat_) && join(i)) return place_concat(i);
    for (int32_t k = 0; k < n.n_out; ++k) {
      if (n.outputs[k] < 0) continue;
      if (k == 0 && reuse(i)) continue;
      DK_TRY(place_output(i, k));
    }
    return {};
  }

  // Output 0 in the memory of an input that nobody reads any more.
  bool reuse(int32_t i) {
    const Step& step = p_.steps[i];
    const NodeDef& n = *step.node;
    PlanValue& y = value(n.outputs[0]);
    if (keep_ || !step.def->inplace || y.t.bytes() == 0) return false;
    for (int32_t k = 0; k < n.n_in && k < 32; ++k) {
      if (!(step.def->inplace >> k & 1) || n.inputs[k] < 0) continue;
      const PlanValue& x = value(n.inputs[k]);
      if (x.place != Place::arena || x.t.bytes() != y.t.bytes() || dtype_size(x.t.dtype) != dtype_size(y.t.dtype))
        continue;
      int32_t r = root(x.slot);
      if (buffer(r).last > i) continue;
      bool alone = true;
      for (int32_t j = 0; j < n.n_in && alone; ++j) {
        if (j == k || n.inputs[j] < 0) continue;
        const PlanValue& other = value(n.inputs[j]);
        alone = other.place != Place::arena || root(other.slot) != r;
      }
      if (!alone) continue;
      y.place = Place::arena;
      y.slot = x.slot;
      y.offset = x.offset;
      extend(y);
      return true;
    }
    return false;
  }

  // True when a concat is nothing but its inputs one behind the other.
  bool join(int32_t i) {
    const Step& step = p_.steps[i];
    const NodeDef& n = *step.node;
    if (n.outputs[0] < 0) return false;
    const Tensor& y = *step.out[0];
    int64_t axis = n.attrs[attr::concat_::axis].i;
    if (axis < 0) axis += y.rank;
    for (int64_t d = 0; d < axis && d < y.rank; ++d)
      if (y.dims[d] != 1) return false;
    return y.bytes() != 0;
  }

  Status place_concat(int32_t i) {
    Step& step = p_.steps[i];
    const NodeDef& n = *step.node;
    step.kind = StepKind::concat;
    DK_TRY(place_output(i, 0));
    int32_t whole = value(n.outputs[0]).slot;
    int64_t at = 0;
    bool copies = false;
    for (int32_t k = 0; k < n.n_in; ++k) {
      const PlanValue& x = value(n.inputs[k]);
      int64_t bytes = static_cast<int64_t>(x.t.bytes());
      if (bytes == 0) continue;
      // The producer may write to its piece of the whole when it fills a buffer of its own.
      if (x.place == Place::arena && buffer(x.slot).parent < 0 && x.slot != whole && x.offset == 0 &&
          buffer(x.slot).bytes == static_cast<uint64_t>(bytes)) {
        Buffer& piece = buffer(x.slot);
        Buffer& all = buffer(whole);
        piece.parent = whole;
        piece.parent_offset = at;
        if (piece.first < all.first) all.first = piece.first;
        if (piece.last > all.last) all.last = piece.last;
      } else {
        copies = true;
      }
      at += bytes;
    }
    if (!copies) aliased_[i] = 1;  // nothing to do
    return {};
  }

  Status place_control(int32_t i) {
    Step& step = p_.steps[i];
    const NodeDef& n = *step.node;
    for (int32_t k = 0; k < n.n_out; ++k)
      if (n.outputs[k] >= 0) DK_TRY(place_output(i, k));
    uint64_t arena = 0;
    for (Plan* c : step.child)
      if (c && c->arena_bytes > arena) arena = c->arena_bytes;
    if (arena) DK_TRY(new_buffer(arena, i, i, &step.child_arena));
    if (step.kind == StepKind::branch) return {};
    int32_t carried = static_cast<int32_t>(n.attrs[attr::loop_::carried].i);
    step.carry_buffer = array<int32_t>(2 * carried);
    step.counters = array<int64_t>(2);
    if (!step.carry_buffer || !step.counters) return no_memory();
    for (int32_t k = 0; k < carried; ++k) {
      uint64_t bytes = step.in[2 + k]->bytes();
      DK_TRY(new_buffer(bytes, i, i, &step.carry_buffer[2 * k]));
      step.carry_buffer[2 * k + 1] = -1;
      if (n.outputs[k] < 0) DK_TRY(new_buffer(bytes, i, i, &step.carry_buffer[2 * k + 1]));
    }
    return {};
  }

  Status outputs() {
    p_.outputs = array<Tensor>(g_.n_outputs);
    p_.output_copy = array<int32_t>(g_.n_outputs);
    if (!p_.outputs || !p_.output_copy) return no_memory();
    for (int32_t k = 0; k < g_.n_outputs; ++k) {
      PlanValue& v = value(g_.outputs[k]);
      p_.output_copy[k] = -1;
      p_.outputs[k] = v.t;
      if (!v.fixed) p_.outputs_fixed = false;
      if (r_.top && v.place != Place::arena && v.place != Place::heap)
        DK_TRY(new_buffer(v.t.bytes(), g_.n_nodes, g_.n_nodes, &p_.output_copy[k]));
      if (!r_.external || !r_.external[k] || v.place != Place::arena || v.offset) continue;
      Buffer& b = buffer(v.slot);
      if (b.parent < 0 && b.output < 0 && b.bytes == v.t.bytes()) b.output = k;
    }
    return {};
  }

  Status layout() {
    int32_t n = static_cast<int32_t>(buffers_.size());
    p_.n_buffers = n;
    p_.buffers = array<Buffer>(n);
    Vec<ArenaBuffer> roots;
    Vec<int32_t> of, work;
    if (!p_.buffers || !of.resize(static_cast<size_t>(n)) || !work.resize(2 * static_cast<size_t>(n)))
      return no_memory();
    for (int32_t b = 0; b < n; ++b) {
      const Buffer& x = buffer(b);
      if (x.parent >= 0 || x.output >= 0 || x.bytes == 0) continue;
      of[roots.size()] = b;
      int32_t last = keep_ ? g_.n_nodes : x.last;
      if (!roots.push({x.bytes, x.first, last, 0})) return no_memory();
    }
    int32_t m = static_cast<int32_t>(roots.size());
    p_.arena_bytes = plan_arena(roots.data(), m, work.data(), work.data() + n);
    if (n) memcpy(static_cast<void*>(p_.buffers), buffers_.data(), static_cast<size_t>(n) * sizeof(Buffer));
    for (int32_t k = 0; k < m; ++k)
      p_.buffers[of[static_cast<size_t>(k)]].parent_offset = static_cast<int64_t>(roots[static_cast<size_t>(k)].offset);

    // What follows the pointers of inputs and of external outputs.
    int32_t bindables = g_.n_inputs + n;
    p_.bound_first = array<int32_t>(bindables + 1);
    if (!p_.bound_first) return no_memory();
    int32_t total = 0;
    for (int32_t v = 0; v < g_.n_values; ++v) {
      int32_t b = bindable(value(v));
      if (b >= 0) ++p_.bound_first[b + 1], ++total;
    }
    for (int32_t b = 0; b < bindables; ++b) p_.bound_first[b + 1] += p_.bound_first[b];
    p_.bound = array<int32_t>(total);
    Vec<int32_t> next;
    if (!p_.bound || !next.resize(static_cast<size_t>(bindables) + 1)) return no_memory();
    for (int32_t v = 0; v < g_.n_values; ++v) {
      int32_t b = bindable(value(v));
      if (b >= 0) p_.bound[p_.bound_first[b] + next[static_cast<size_t>(b)]++] = v;
    }
    return {};
  }

  int32_t bindable(const PlanValue& v) {
    if (v.place == Place::input) return v.slot;
    if (v.place != Place::arena) return -1;
    int32_t r = root(v.slot);
    return buffer(r).output >= 0 ? g_.n_inputs + r : -1;
  }

  // Leaves only the steps that do something at run time.
  Status compact() {
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

  SessionState& s_;
  const PlanRequest& r_;
  const GraphDef& g_;
  Plan& p_;
  bool keep_;
  uint8_t* removed_ = nullptr;  // computed while planning
  uint8_t* needed_ = nullptr;
  uint8_t* aliased_ = nullptr;  // reads in place, concats without copies
  int32_t* next_assign_ = nullptr;
  Vec<Buffer> buffers_;
};

}  // namespace

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
