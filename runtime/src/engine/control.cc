// if and loop.
//
// A static node runs bodies planned with it: their arena is part of the parent's, they write their outputs straight
// into the parent's tensors where they can.  A dynamic node plans its body when it runs (cached by shapes), and its
// outputs are blocks of the heap.
#include "engine/checks.h"

namespace dk {
namespace {

int32_t carried_of(const NodeDef& n) { return static_cast<int32_t>(n.attrs[attr::loop_::carried].i); }

Status no_memory(SessionState& s, const NodeDef& n, uint64_t bytes) {
  return s.error.set(Code::memory, "%s '%s': no memory for %llu bytes (limit reached or system out of memory)",
                     n.op->name(), n.name, static_cast<unsigned long long>(bytes));
}

void copy(void* to, const Tensor& from) {
  size_t bytes = from.bytes();
  if (bytes && to != from.data) memmove(to, from.data, bytes);
}

// A tensor with its share of a heap block; null when it lives elsewhere.
struct Held {
  Tensor t;
  HeapBlock* block;
};

InputSpec spec_of(const Tensor& t) {
  InputSpec in = {t.dtype, t.rank, {0}, nullptr, false};
  for (int d = 0; d < t.rank; ++d) in.dims[d] = t.dims[d];
  return in;
}

// Memory for the external outputs of a body that is about to run.
Status lend_outputs(SessionState& s, const NodeDef& n, Plan& c, HeapBlock** blocks) {
  for (int32_t k = 0; k < c.graph->n_outputs; ++k) {
    blocks[k] = nullptr;
    const PlanValue& v = c.values[c.graph->outputs[k]];
    if (v.place != Place::arena || c.buffers[v.slot].output != k) continue;
    blocks[k] = s.heap.take(v.t.bytes());
    if (!blocks[k]) return no_memory(s, n, v.t.bytes());
    bind_output(c, k, blocks[k]->data);
  }
  return {};
}

void drop_all(SessionState& s, HeapBlock** blocks, int32_t n) {
  for (int32_t k = 0; k < n; ++k) {
    s.heap.drop(blocks[k]);
    blocks[k] = nullptr;
  }
}

// Output k of a body that has run, with a share of its memory: lent, taken over from a dynamic value, or copied.
Status take_output(SessionState& s, const NodeDef& n, Plan& c, int32_t k, HeapBlock** blocks, Held* to) {
  const PlanValue& v = c.values[c.graph->outputs[k]];
  to->t = v.t;
  to->block = nullptr;
  if (blocks[k]) {
    to->block = blocks[k];
    blocks[k] = nullptr;
  } else if (v.block) {
    to->block = v.block;
    ++v.block->refs;
  } else {
    to->block = s.heap.take(v.t.bytes());
    if (!to->block) return no_memory(s, n, v.t.bytes());
    copy(to->block->data, v.t);
    to->t.data = to->block->data;
  }
  return {};
}

// ---- if
Status run_branch_dynamic(Plan& p, Step& step) {
  SessionState& s = *p.session;
  const NodeDef& n = *step.node;
  DK_TRY(check_condition(s, n, *step.in[0]));
  const GraphDef& body = s.model->file.graphs[n.body[*step.in[0]->as<uint8_t>() ? 0 : 1]];
  step.memory->reset();
  InputSpec* specs = step.memory->array<InputSpec>(static_cast<size_t>(body.n_inputs) + 1);
  uint8_t* external = step.memory->array<uint8_t>(static_cast<size_t>(body.n_outputs) + 1);
  HeapBlock** blocks = step.memory->array<HeapBlock*>(static_cast<size_t>(body.n_outputs) + 1);
  if (!specs || !external || !blocks) return no_memory(s, n, 0);
  for (int32_t k = 0; k < body.n_inputs; ++k) specs[k] = spec_of(*step.in[k + 1]);
  for (int32_t k = 0; k < body.n_outputs; ++k) external[k] = n.outputs[k] >= 0;
  Plan* c;
  DK_TRY(find_plan(s, {&body, specs, false, external}, false, &c));
  for (int32_t k = 0; k < body.n_inputs; ++k) bind_input(*c, k, step.in[k + 1]->data);
  Status status = lend_outputs(s, n, *c, blocks);
  if (status.ok()) status = run_plan(*c);
  for (int32_t k = 0; k < n.n_out && status.ok(); ++k) {
    if (!step.out[k]) continue;
    Held out = {};
    status = take_output(s, n, *c, k, blocks, &out);
    *step.out[k] = out.t;
    p.values[n.outputs[k]].block = out.block;
  }
  drop_all(s, blocks, body.n_outputs);
  drop_heap_values(*c);
  return status;
}

Status run_branch_static(Plan& p, Step& step) {
  const NodeDef& n = *step.node;
  Plan& c = *step.child[*step.in[0]->as<uint8_t>() ? 0 : 1];
  for (int32_t k = 1; k < n.n_in; ++k) bind_input(c, k - 1, step.in[k]->data);
  for (int32_t k = 0; k < n.n_out; ++k)
    if (step.out[k]) bind_output(c, k, step.out[k]->data);
  DK_TRY(run_plan(c));
  for (int32_t k = 0; k < n.n_out; ++k)
    if (step.out[k]) copy(step.out[k]->data, plan_output(c, k));
  return {};
}

// ---- loop
struct Trip {
  int64_t count;  // INT64_MAX: no limit
  bool go;
};

Trip first_trip(const Step& step) {
  const NodeDef& n = *step.node;
  Trip t = {INT64_MAX, true};
  if (n.n_in > 0 && step.in[0]) t.count = read_trip(*step.in[0], step.in[0]->data);
  if (n.n_in > 1 && step.in[1]) t.go = *step.in[1]->as<uint8_t>() != 0;
  return t;
}

// Carried value k is written to its two buffers in turn, the first of which is the node's output.  A body that hands a
// value on unchanged costs no copy.
Status run_loop_static(Plan& p, Step& step) {
  SessionState& s = *p.session;
  const NodeDef& n = *step.node;
  Plan& c = *step.child[0];
  const GraphDef& body = *c.graph;
  int32_t carried = carried_of(n);
  int64_t* iteration = &step.counters[0];
  uint8_t* condition = reinterpret_cast<uint8_t*>(&step.counters[1]);
  Trip trip = first_trip(step);
  *condition = trip.go;
  bind_input(c, 0, iteration);
  bind_input(c, 1, condition);
  auto in_data = [&](int32_t k) { return step.in[2 + k]->data; };
  auto buffer = [&](int32_t k, int which) -> void* {
    if (which == 0) return step.out[k] ? step.out[k]->data : p.buffers[step.carry_buffer[2 * k + 1]].at;
    return p.buffers[step.carry_buffer[2 * k]].at;
  };
  for (int32_t k = 2; k < body.n_inputs; ++k) bind_input(c, k, in_data(k - 2));
  auto now = [&](int32_t k) { return c.values[body.inputs[2 + k].value].t.data; };
  int64_t i = 0;
  for (; i < trip.count && trip.go; ++i) {
    DK_TRY(count_step(s, n));
    *iteration = i;
    *condition = 1;
    for (int32_t k = 0; k < carried; ++k) bind_output(c, 1 + k, buffer(k, now(k) == buffer(k, 0)));
    for (int32_t k = carried; k < n.n_out; ++k)
      if (step.out[k]) {
        size_t piece = plan_output(c, 1 + k).bytes();
        bind_output(c, 1 + k, static_cast<char*>(step.out[k]->data) + static_cast<size_t>(i) * piece);
      }
    DK_TRY(run_plan(c));
    trip.go = *plan_output(c, 0).as<uint8_t>() != 0;
    for (int32_t k = carried; k < n.n_out; ++k)
      if (step.out[k]) {
        const Tensor& piece = plan_output(c, 1 + k);
        copy(static_cast<char*>(step.out[k]->data) + static_cast<size_t>(i) * piece.bytes(), piece);
      }
    // Copies first (an output may be another carried input), then the new pointers.
    for (int32_t k = 0; k < carried; ++k) {
      const Tensor& y = plan_output(c, 1 + k);
      if (y.data != now(k)) copy(buffer(k, now(k) == buffer(k, 0)), y);
    }
    for (int32_t k = 0; k < carried; ++k)
      if (plan_output(c, 1 + k).data != now(k)) bind_input(c, 2 + k, buffer(k, now(k) == buffer(k, 0)));
  }
  for (int32_t k = 0; k < carried; ++k)
    if (step.out[k] && step.out[k]->bytes() && now(k) != step.out[k]->data)
      memcpy(step.out[k]->data, now(k), step.out[k]->bytes());
  return {};
}

// A scanned output that grows.
struct Scan {
  Tensor piece;
  HeapBlock* block;
  size_t used;
};

Status append(SessionState& s, const NodeDef& n, int32_t k, const Tensor& piece, Scan* scan) {
  if (scan->piece.dtype == DType::none) {
    scan->piece = piece;
  } else if (!same_spec(scan->piece, piece)) {
    char a[200], b[200];
    return s.error.set(Code::shape, "%s '%s': scanned output %d changes its shape from %s to %s", n.op->name(), n.name,
                       k, show_dims(scan->piece.rank, scan->piece.dims, a, sizeof a),
                       show_dims(piece.rank, piece.dims, b, sizeof b));
  }
  size_t bytes = piece.bytes();
  if (!scan->block || scan->used + bytes > scan->block->cap) {
    HeapBlock* more = s.heap.take(2 * (scan->used + bytes));
    if (!more) return no_memory(s, n, 2 * (scan->used + bytes));
    if (scan->used) memcpy(more->data, scan->block->data, scan->used);
    s.heap.drop(scan->block);
    scan->block = more;
  }
  copy(static_cast<char*>(scan->block->data) + scan->used, piece);
  scan->used += bytes;
  return {};
}

struct DynamicLoop {
  Plan& p;
  Step& step;
  SessionState& s;
  const NodeDef& n;
  const GraphDef& body;
  int32_t carried;
  InputSpec* specs = nullptr;
  uint8_t* external = nullptr;
  HeapBlock** blocks = nullptr;
  Held *now = nullptr, *next = nullptr;
  Scan* scans = nullptr;
  int64_t iteration = 0;
  uint8_t condition = 1;

  Status begin() {
    Bump& m = *step.memory;
    m.reset();
    size_t n_in = static_cast<size_t>(body.n_inputs) + 1, n_out = static_cast<size_t>(body.n_outputs) + 1;
    specs = m.array<InputSpec>(n_in);
    external = m.array<uint8_t>(n_out);
    blocks = m.array<HeapBlock*>(n_out);
    now = m.array<Held>(n_in);
    next = m.array<Held>(n_in);
    scans = m.array<Scan>(n_out);
    if (!specs || !external || !blocks || !now || !next || !scans) return no_memory(s, n, 0);
    specs[0] = {DType::s64, body.inputs[0].rank == 1, {1}, nullptr, false};
    specs[1] = {DType::b8, body.inputs[1].rank == 1, {1}, nullptr, false};
    for (int32_t k = 2; k < body.n_inputs; ++k) specs[k] = spec_of(*step.in[k]);
    for (int32_t k = 0; k < carried; ++k) now[k].t = *step.in[2 + k];
    for (int32_t k = 0; k < n.n_out; ++k) external[1 + k] = k < carried || n.outputs[k] >= 0;
    return {};
  }

  Status plan(Plan** c) {
    for (int32_t k = 0; k < carried; ++k) specs[2 + k] = spec_of(now[k].t);
    return find_plan(s, {&body, specs, false, external}, false, c);
  }

  Status iterate(Trip* trip) {
    DK_TRY(count_step(s, n));
    Plan* c;
    DK_TRY(plan(&c));
    bind_input(*c, 0, &iteration);
    bind_input(*c, 1, &condition);
    for (int32_t k = 0; k < carried; ++k) bind_input(*c, 2 + k, now[k].t.data);
    for (int32_t k = 2 + carried; k < body.n_inputs; ++k) bind_input(*c, k, step.in[k]->data);
    Status status = lend_outputs(s, n, *c, blocks);
    if (status.ok()) status = run_plan(*c);
    if (status.ok()) status = check_condition(s, n, plan_output(*c, 0));
    if (status.ok()) trip->go = *plan_output(*c, 0).as<uint8_t>() != 0;
    for (int32_t k = carried; k < n.n_out && status.ok(); ++k)
      if (step.out[k]) status = append(s, n, k, plan_output(*c, 1 + k), &scans[k]);
    for (int32_t k = 0; k < carried && status.ok(); ++k) status = take_output(s, n, *c, 1 + k, blocks, &next[k]);
    drop_all(s, blocks, body.n_outputs);
    drop_heap_values(*c);
    for (int32_t k = 0; k < carried; ++k) {
      if (status.ok()) {
        s.heap.drop(now[k].block);
        now[k] = next[k];
      } else {
        s.heap.drop(next[k].block);
      }
      next[k].block = nullptr;
    }
    return status;
  }

  // The body's own outputs tell the shape of slices that never came; dims that only a run would show are 0.
  Status piece_without_runs(int32_t k, Tensor* piece) {
    Plan* c;
    Status status = plan(&c);
    if (is_final(status.code)) return status;
    if (status.ok()) {
      *piece = c->values[body.outputs[1 + k]].t;
      if (c->values[body.outputs[1 + k]].fixed) return {};
    }
    *piece = Tensor();
    piece->dtype = DType::f32;
    return {};
  }

  Status finish() {
    for (int32_t k = 0; k < n.n_out; ++k) {
      if (!step.out[k]) continue;
      PlanValue& y = p.values[n.outputs[k]];
      if (k < carried) {
        if (!now[k].block) {  // not one iteration
          now[k].block = s.heap.take(now[k].t.bytes());
          if (!now[k].block) return no_memory(s, n, now[k].t.bytes());
          copy(now[k].block->data, now[k].t);
          now[k].t.data = now[k].block->data;
        }
        y.t = now[k].t;
        y.block = now[k].block;
        now[k].block = nullptr;
        continue;
      }
      Tensor piece = scans[k].piece;
      if (piece.dtype == DType::none) DK_TRY(piece_without_runs(k, &piece));
      DK_TRY(stacked(s, n, piece, iteration, &y.t));
      if (!scans[k].block) scans[k].block = s.heap.take(0);
      if (!scans[k].block) return no_memory(s, n, 0);
      y.block = scans[k].block;
      y.t.data = y.block->data;
      scans[k].block = nullptr;
    }
    return {};
  }

  void end() {
    for (int32_t k = 0; now && k < carried; ++k) s.heap.drop(now[k].block);
    for (int32_t k = 0; scans && k < n.n_out; ++k) s.heap.drop(scans[k].block);
  }
};

Status run_loop_dynamic(Plan& p, Step& step) {
  SessionState& s = *p.session;
  const NodeDef& n = *step.node;
  DK_TRY(check_trip(s, step));
  DynamicLoop loop = {p, step, s, n, s.model->file.graphs[n.body[0]], carried_of(n)};
  Status status = loop.begin();
  Trip trip = first_trip(step);
  while (status.ok() && loop.iteration < trip.count && trip.go) {
    status = loop.iterate(&trip);
    if (status.ok()) ++loop.iteration;
  }
  if (status.ok()) status = loop.finish();
  loop.end();
  return status;
}

}  // namespace

Status run_branch(Plan& p, Step& step) {
  return step.dynamic ? run_branch_dynamic(p, step) : run_branch_static(p, step);
}

Status run_loop(Plan& p, Step& step) { return step.dynamic ? run_loop_dynamic(p, step) : run_loop_static(p, step); }

}  // namespace dk
