// Lifetimes: who still reads what, from the end to the start; nodes that nobody needs are left out.  Then memory: which
// values share a buffer, and where the buffers lie in the arena.
#include <cstring>

#include "engine/checks.h"
#include "engine/planner.h"

namespace dk {

void Planner::mark_assigned(const GraphDef& g, int32_t at) {
  for (int32_t k = 0; k < g.n_nodes; ++k) {
    const NodeDef& n = g.nodes[k];
    if (is(n, Opcode::assign_variable_)) next_assign_[n.variable] = at;
    for (int32_t b : n.body)
      if (b >= 0) mark_assigned(s_.model->file.graphs[b], at);
  }
}

Status Planner::lifetimes() {
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

Status Planner::new_buffer(uint64_t bytes, int32_t first, int32_t last, int32_t* slot) {
  if (last < first) last = first;
  if (!buffers_.push({bytes, first, last, -1, 0, -1, nullptr})) return no_memory();
  *slot = static_cast<int32_t>(buffers_.size()) - 1;
  return {};
}

int32_t Planner::root(int32_t slot) {
  while (buffers_[static_cast<size_t>(slot)].parent >= 0) slot = buffers_[static_cast<size_t>(slot)].parent;
  return slot;
}

void Planner::share(PlanValue& y, const PlanValue& x, int32_t of) {
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

void Planner::extend(const PlanValue& v) {
  Buffer& b = buffer(root(v.slot));
  if (b.last < v.last) b.last = v.last;
}

Status Planner::place_output(int32_t i, int32_t k) {
  const NodeDef& n = g_.nodes[i];
  PlanValue& v = value(n.outputs[k]);
  v.place = Place::arena;
  v.offset = 0;
  return new_buffer(v.t.bytes(), i, v.last, &v.slot);
}

Status Planner::place(int32_t i) {
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
  if (!step.op.running) DK_TRY(prepare(step));  // else joined with one before
  step.op.running = true;
#if !defined(__wasm__)  // no op there joins
  bool joined = false;
  DK_TRY(join_next(i, &joined));
  if (joined) return {};
#endif
  if (step.op.scratch) DK_TRY(new_buffer(step.op.scratch, i, i, &step.scratch));
  if (is(n, Opcode::concat_) && join(i)) return place_concat(i);
  for (int32_t k = 0; k < n.n_out; ++k) {
    if (n.outputs[k] < 0) continue;
#if !defined(__wasm__)  // worth a part of a training step, which pages take few of, and bytes that all download
    if (into_variable(i, k)) continue;
#endif
    if (k == 0 && reuse(i)) continue;
    DK_TRY(place_output(i, k));
  }
  return {};
}

#if !defined(__wasm__)
// Leave the work of node i to the only reader of its output.
Status Planner::join_next(int32_t i, bool* joined) {
  const Step& step = p_.steps[i];
  const NodeDef& n = *step.node;
  if (keep_ || !step.def->join || n.n_out != 1 || n.outputs[0] < 0) return {};
  const int32_t v = n.outputs[0], j = value(v).last;
  if (j <= i || j >= g_.n_nodes || removed_[j]) return {};
  Step& next = p_.steps[j];
  if (next.dynamic || next.kind != StepKind::op || !next.def->join || next.node->inputs[0] != v) return {};
  int32_t readers = 0;
  for (int32_t k = i + 1; k <= j; ++k)
    for (int32_t in = 0; needed_[k] && in < g_.nodes[k].n_in; ++in) readers += g_.nodes[k].inputs[in] == v;
  if (readers != 1) return {};
  DK_TRY(prepare(next));
  next.op.running = true;
  DK_TRY(next.def->join(next.context, step.context, joined));
  if (!*joined) return {};
  needed_[i] = 0;
  before_[j] = i + 1;
  for (int32_t at = j; before_[at]; at = before_[at] - 1) {  // all are read when the last node runs
    const NodeDef& absorbed = g_.nodes[before_[at] - 1];
    for (int32_t k = 0; k < absorbed.n_in; ++k) {
      if (absorbed.inputs[k] < 0) continue;
      PlanValue& x = value(absorbed.inputs[k]);
      if (x.last < j) x.last = j;
      if (x.place == Place::arena) extend(x);
    }
  }
  return {};
}
#endif

// Output 0 in the memory of an input that nobody reads any more.
bool Planner::reuse(int32_t i) {
  const Step& step = p_.steps[i];
  const NodeDef& n = *step.node;
  PlanValue& y = value(n.outputs[0]);
  if (keep_ || !step.def->inplace || y.t.bytes() == 0) return false;
  for (int32_t k = 0; k < n.n_in && k < 31; ++k) {
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

#if !defined(__wasm__)
// Output k in the memory of the variable that it is assigned to, where nobody reads the old value any more.
bool Planner::into_variable(int32_t i, int32_t k) {
  const NodeDef& n = g_.nodes[i];
  PlanValue& y = value(n.outputs[k]);
  const int32_t j = y.last;
  if (keep_ || !r_.top || j <= i || j >= g_.n_nodes || y.t.bytes() == 0) return false;
  if (p_.steps[j].kind != StepKind::assign || p_.steps[j].dynamic) return false;
  const int32_t variable = g_.nodes[j].variable;
  for (int32_t r = 0; r < j; ++r) {
    const NodeDef& other = g_.nodes[r];
    if (!needed_[r]) continue;
    if (r > i && (other.body[0] >= 0 || other.body[1] >= 0)) return false;  // it may read or assign anything
    const StepKind kind = p_.steps[r].kind;
    if ((kind != StepKind::read && kind != StepKind::assign) || other.variable != variable) continue;
    if (r > i) return false;
    if (kind == StepKind::read && aliased_[r] && value(other.outputs[0]).last > i) return false;
  }
  for (int32_t p = 0; p < n.n_in; ++p) {
    if (n.inputs[p] < 0) continue;
    const PlanValue& x = value(n.inputs[p]);
    const bool allowed = (k == 0 && p < 31 && (p_.steps[i].def->inplace >> p & 1)) ||
                         (p == k && (p_.steps[i].def->inplace & kEachInplace));
    if (x.place == Place::variable && x.slot == variable && !(allowed && x.t.bytes() == y.t.bytes())) return false;
  }
  y.place = Place::variable;
  y.slot = variable;
  y.offset = 0;
  y.t.data = s_.variables[variable].data;
  return true;
}
#endif

// True when a concat is nothing but its inputs one behind the other.
bool Planner::join(int32_t i) {
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

Status Planner::place_concat(int32_t i) {
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

Status Planner::place_control(int32_t i) {
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

Status Planner::outputs() {
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

Status Planner::layout() {
  int32_t n = static_cast<int32_t>(buffers_.size());
  p_.n_buffers = n;
  p_.buffers = array<Buffer>(n);
  Vec<ArenaBuffer> roots;
  Vec<int32_t> of, work;
  if (!p_.buffers || !of.resize(static_cast<size_t>(n)) || !work.resize(2 * static_cast<size_t>(n))) return no_memory();
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

int32_t Planner::bindable(const PlanValue& v) {
  if (v.place == Place::input) return v.slot;
  if (v.place != Place::arena) return -1;
  int32_t r = root(v.slot);
  return buffer(r).output >= 0 ? g_.n_inputs + r : -1;
}

}  // namespace dk
