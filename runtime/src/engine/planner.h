// The making of a plan, in three parts: plan.cc begins and ends it, plan_infer.cc finds shapes and what can be computed
// already, plan_memory.cc says how long values live and where.
#pragma once
#include "engine/plan.h"
#include "engine/session.h"

namespace dk {

class Planner {
 public:
  Planner(SessionState& s, const PlanRequest& request, Plan& p)
      : s_(s), r_(request), g_(*request.graph), p_(p), keep_(s.options.keep_values) {}

  Status run();

 private:
  Status no_memory();
  template <class T>
  T* array(int64_t n) {
    return p_.memory.array<T>(static_cast<size_t>(n) + 1);
  }
  PlanValue& value(int32_t v) { return p_.values[v]; }

  // plan.cc
  Status start();  // values that are there before any node
  Status make_step(int32_t i);
  Status prepare(Step& step);
  Status compact();

  // plan_infer.cc
  Status infer(int32_t i);
  Status make_static(int32_t i);
  Status make_dynamic(int32_t i);
  Status compute(int32_t i);
  Status compute_into(Step& step);
  Status child_plan(int32_t graph, const InputSpec* inputs, const uint8_t* external, Plan** plan);
  InputSpec spec_of(int32_t v, bool with_known);
  Status infer_branch(int32_t i);
  Status infer_loop(int32_t i);
  Status forget_children(int32_t i, Plan* mark);

  // plan_memory.cc
  void mark_assigned(const GraphDef& g, int32_t at);
  Status lifetimes();
  Status new_buffer(uint64_t bytes, int32_t first, int32_t last, int32_t* slot);
  int32_t root(int32_t slot);
  Buffer& buffer(int32_t slot) { return buffers_[static_cast<size_t>(slot)]; }
  void share(PlanValue& y, const PlanValue& x, int32_t of);
  void extend(const PlanValue& v);
  Status place_output(int32_t i, int32_t k);
  Status place(int32_t i);
  Status join_next(int32_t i, bool* joined);
  bool reuse(int32_t i);
  bool into_variable(int32_t i, int32_t k);
  bool join(int32_t i);
  Status place_concat(int32_t i);
  Status place_control(int32_t i);
  Status outputs();
  Status layout();
  int32_t bindable(const PlanValue& v);

  SessionState& s_;
  const PlanRequest& r_;
  const GraphDef& g_;
  Plan& p_;
  bool keep_;
  uint8_t* removed_ = nullptr;  // computed while planning
  uint8_t* needed_ = nullptr;
  uint8_t* aliased_ = nullptr;  // reads in place, concats without copies
  int32_t* before_ = nullptr;   // node whose work was left to this one, plus 1
  int32_t* next_assign_ = nullptr;
  Vec<Buffer> buffers_;
};

}  // namespace dk
