// Runs plans: static steps, and the nodes that are planned at run time.
#include <cstdio>

#include "engine/checks.h"

namespace dk {
namespace {

Status no_memory(const Step& step, uint64_t bytes) {
  const NodeDef& n = *step.node;
  return step.op.env->error->set(Code::memory,
                                 "%s '%s': no memory for %llu bytes (limit reached or system out of memory)",
                                 n.op->name(), n.name, static_cast<unsigned long long>(bytes));
}

void run_concat(Step& step) {
  char* to = static_cast<char*>(step.out[0]->data);
  for (int32_t k = 0; k < step.node->n_in; ++k) {
    size_t bytes = step.in[k]->bytes();
    if (bytes && step.in[k]->data != to) memcpy(to, step.in[k]->data, bytes);
    to += bytes;
  }
}

Status run_static(Plan& p, Step& step) {
  switch (step.kind) {
    case StepKind::op: return step.def->run(step.context);
    case StepKind::concat: run_concat(step); return {};
    case StepKind::branch: return run_branch(p, step);
    case StepKind::loop: return run_loop(p, step);
    case StepKind::view: return {};
    case StepKind::read:
    case StepKind::assign: {
      const Tensor& variable = p.session->variables[step.node->variable];
      void* to = step.kind == StepKind::read ? step.out[0]->data : variable.data;
      const void* from = step.kind == StepKind::read ? variable.data : step.in[0]->data;
      size_t bytes = variable.bytes();
      if (to != from && bytes) memmove(to, from, bytes);
      return {};
    }
  }
  return {};
}

#if defined(__wasm__)  // no environment that could ask for it
void trace(const Step&, uint64_t, bool) {}
#else
void trace(const Step& step, uint64_t ns, bool ok) {
  char text[256];
  fprintf(stderr, "%s %-18s %-40s", step.dynamic ? "dyn " : "    ", step.node->op->name(), step.node->name);
  for (int32_t k = 0; k < step.node->n_out; ++k)
    if (step.out[k])
      fprintf(stderr, " %s%s", dtype_name(step.out[k]->dtype),
              show_dims(step.out[k]->rank, step.out[k]->dims, text, sizeof text));
  fprintf(stderr, " %.1f us %s%s\n", static_cast<double>(ns) / 1e3, step.op.detail, ok ? "" : "FAILED");
}
#endif

// The shares of dynamic values that nobody reads after this step.
void drop_dead(Plan& p, const Step& step) {
  const NodeDef& n = *step.node;
  auto drop = [&](int32_t v) {
    if (v < 0) return;
    PlanValue& x = p.values[v];
    if (x.place != Place::heap || !x.block || x.last > step.index) return;
    p.session->heap.drop(x.block);
    x.block = nullptr;
  };
  for (int32_t k = 0; k < n.n_in; ++k) drop(n.inputs[k]);
  for (int32_t k = 0; k < n.n_out; ++k) drop(n.outputs[k]);
}

}  // namespace

void drop_heap_values(Plan& p) {
  if (!p.n_dynamic) return;
  for (int32_t v = 0; v < p.graph->n_values; ++v) {
    PlanValue& x = p.values[v];
    if (!x.block) continue;
    p.session->heap.drop(x.block);
    x.block = nullptr;
  }
}

Status run_dynamic(Plan& p, Step& step) {
  SessionState& s = *p.session;
  const NodeDef& n = *step.node;
  if (step.kind == StepKind::branch) return run_branch(p, step);
  if (step.kind == StepKind::loop) return run_loop(p, step);
  if (step.kind == StepKind::assign) {
    DK_TRY(check_assign(s, step));
    DK_TRY(run_static(p, step));
    if (n.n_out && step.out[0]) {
      *step.out[0] = *step.in[0];
      PlanValue &x = p.values[n.inputs[0]], &y = p.values[n.outputs[0]];
      if ((y.block = x.block)) ++y.block->refs;
    }
    return {};
  }
  for (int32_t k = 0; k < n.n_in; ++k)
    if (step.in[k]) step.known[k] = step.in[k]->data ? step.in[k]->data : kNothing;
  for (int32_t k = 0; k < n.n_out; ++k)
    if (step.out[k]) *step.out[k] = Tensor();
  step.memory->reset();
  step.op.memory = step.memory;
  step.op.dynamic = true;
  step.op.running = false;
  step.op.scratch = 0;
  OpAccess::set_run(step.context, nullptr, nullptr);
  Status status = step.def->infer(step.context);
  if (status.code == Code::need_value)
    return s.error.set(Code::internal, "%s '%s': infer asked for data that it has", n.op->name(), n.name);
  DK_TRY(status);
  DK_TRY(check_outputs(s, step));
  if (step.kind == StepKind::view) {
    if (!step.out[0]) return {};
    PlanValue &x = p.values[n.inputs[0]], &y = p.values[n.outputs[0]];
    y.t.data = x.t.data;
    if ((y.block = x.block)) ++y.block->refs;
    return {};
  }
  for (int32_t k = 0; k < n.n_out; ++k) {
    if (!step.out[k]) continue;
    PlanValue& y = p.values[n.outputs[k]];
    y.block = s.heap.take(y.t.bytes());
    if (!y.block) return no_memory(step, y.t.bytes());
    y.t.data = y.block->data;
  }
  if (step.def->prepare) {
    s.model->lock.take();
    PackedList::Item* mark = step.op.packed->first;
    status = step.def->prepare(step.context);
    if (!status.ok()) step.op.packed->drop_until(mark, &s.budget);
    s.model->lock.give();
    DK_TRY(status);
  }
  HeapBlock* scratch = nullptr;
  if (step.op.scratch) {
    scratch = s.heap.take(step.op.scratch);
    if (!scratch) return no_memory(step, step.op.scratch);
    OpAccess::set_run(step.context, OpAccess::state(step.context), scratch->data);
  }
  step.op.running = true;
  status = step.def->run(step.context);
  s.heap.drop(scratch);
  return status;
}

Status run_plan(Plan& p) {
  SessionState& s = *p.session;
  drop_heap_values(p);
  NodeTime* times = p.state->times;
  for (int32_t i = 0; i < p.n_steps; ++i) {
    Step& step = p.steps[i];
    DK_TRY(count_step(s, *step.node));
    uint64_t start = times || s.trace ? now_ns() : 0;
    Status status = step.dynamic ? run_dynamic(p, step) : run_static(p, step);
    if (times || s.trace) {
      uint64_t ns = now_ns() - start;
      if (times) ++times[step.index].calls, times[step.index].nanoseconds += ns;
      if (s.trace) trace(step, ns, status.ok());
    }
    if (!status.ok()) return status;
    if (step.dynamic) drop_dead(p, step);
  }
  for (int32_t k = 0; k < p.graph->n_outputs; ++k) {
    PlanValue& v = p.values[p.graph->outputs[k]];
    void* copy = p.output_copy[k] >= 0 ? p.buffers[p.output_copy[k]].at : nullptr;
    p.outputs[k] = v.t;
    if (p.top && v.place == Place::heap && !v.block) {  // a view of something that is not ours to give away
      v.block = s.heap.take(v.t.bytes());
      if (!v.block) return s.error.set(Code::memory, "no memory for output %d of %zu bytes", k, v.t.bytes());
      copy = v.block->data;
    }
    if (!copy) continue;
    size_t bytes = v.t.bytes();
    if (bytes) memcpy(copy, v.t.data, bytes);
    p.outputs[k].data = copy;
  }
  return {};
}

}  // namespace dk
