// A plan: one graph for one set of input shapes, ready to run.
//
// Every value of the graph has a Place.  Values whose data follows from shapes and constants are computed while
// planning and cost nothing later.  Nodes whose output shapes follow from the input shapes are static: prepared once,
// their tensors placed in one arena.  The others are dynamic: inferred, given memory from a heap, prepared and run one
// by one each time; so is everything behind them.
//
// Bodies of `if` and `loop` have plans of their own.  Under a static node they belong to the parent's plan and their
// arena lies inside the parent's; under a dynamic node they come from the plan cache of the body's GraphState.
#pragma once
#include "engine/heap.h"
#include "engine/memory_plan.h"
#include "engine/op_state.h"

namespace dk {

struct SessionState;
struct GraphState;
struct Plan;

enum class Place : uint8_t {
  none,
  constant,  // data in the file
  known,     // computed while planning, data in the plan's memory
  input,     // slot: number of the graph input; the caller's memory
  arena,     // slot: number of the buffer
  variable,  // slot: number of the variable, read in place
  heap,      // dynamic: block
};

struct PlanValue {
  Tensor t;
  const void* known;  // data known while planning (constants too), else null
  HeapBlock* block;   // dynamic values own a share of their memory, unless they are views of something fixed
  int64_t offset;     // bytes within the buffer or input
  int32_t slot;
  int32_t last;     // last node that reads it, n_nodes for graph outputs, -1 for nobody
  int32_t view_of;  // value whose memory it shares by being a view of it, or -1
  Place place;
  bool fixed;     // the dims are part of the plan
  bool constant;  // the data depends on nothing but the file
};

struct Buffer {
  uint64_t bytes;
  int32_t first, last;
  int32_t parent;  // concat: the buffer it is a piece of, or -1
  int64_t parent_offset;
  int32_t output;  // graph output that the parent gives memory for, or -1
  char* at;        // bound
};

enum class StepKind : uint8_t { op, view, concat, branch, loop, read, assign };

struct Step {
  StepKind kind;
  bool dynamic;
  int32_t index;  // of the node
  const NodeDef* node;
  const OpDef* def;
  OpContext context;
  OpState op;
  const Tensor** in;
  Tensor** out;
  const void** known;
  uint8_t* constant;
  int32_t scratch;  // buffer or -1
  Bump* memory;     // dynamic nodes: state of this run
  // if: plans of then and else; loop: of the body (null where the node is dynamic)
  Plan* child[2];
  int32_t child_arena;    // buffer of the children's arena
  int32_t* carry_buffer;  // loop: second (and, for unwanted outputs, first) buffer per carried value
  int64_t* counters;      // loop: iteration and condition as the body sees them
};

struct InputSpec {
  DType dtype;
  int32_t rank;
  int64_t dims[kMaxRank];
  const void* known;
  bool constant;
};

// Are the threads worth waking?  Of short runs every other one is made by the caller alone, and the majority of eight
// pairs decides for the runs that follow; results are the same either way.
class ThreadTrial {
 public:
  bool alone() const { return pairs_ == kPairs ? votes_ > 0 : together_ != 0; }
  void took(uint64_t ns, bool alone) {
    if (pairs_ == kPairs) {
      if (++runs_ == kRuns) *this = {};  // other programs come and go
    } else if (alone) {
      votes_ += ns < together_ ? 1 : -1;
      together_ = 0;
      ++pairs_;
    } else if (ns < kShortNs) {
      together_ = ns;
    }
  }

 private:
  static constexpr int kPairs = 8, kRuns = 1000;
  static constexpr uint64_t kShortNs = 300'000;  // beyond, waking is no great part of a run
  uint64_t together_ = 0;                        // of the last run with threads, when its pair is still to come
  int votes_ = 0, pairs_ = 0, runs_ = 0;
};

struct Plan {
  const GraphDef* graph = nullptr;
  SessionState* session = nullptr;
  GraphState* state = nullptr;
  Bump memory;
  PlanValue* values = nullptr;
  Step* steps = nullptr;
  int32_t n_steps = 0, n_buffers = 0, n_dynamic = 0;
  Buffer* buffers = nullptr;
  InputSpec* key = nullptr;
  Tensor* outputs = nullptr;       // as the caller sees them
  int32_t* output_copy = nullptr;  // buffer into which the output is copied at the end, or -1
  int32_t* bound = nullptr;        // values to set per bindable: first[b] .. first[b + 1]
  int32_t* bound_first = nullptr;  // bindables: inputs, then buffers
  uint64_t arena_bytes = 0;
  char* base = nullptr;
  bool outputs_fixed = true;
  bool top = false;
  Plan* children = nullptr;  // owned
  Plan* next = nullptr;      // among the parent's children or in the cache
  uint64_t used = 0;         // for the cache
#if defined(__linux__)
  ThreadTrial trial;
#endif
};

struct PlanRequest {
  const GraphDef* graph;
  const InputSpec* inputs;
  bool top;                 // outputs must not lie in memory of the caller, the file or a variable
  const uint8_t* external;  // children: outputs that get their memory by bind_output before each run; may be null
};

// The model's lock (packed weights) is held by the caller.
Status make_plan(SessionState& s, const PlanRequest& request, Plan** plan);
void free_plan(Plan* plan);

void bind_arena(Plan& p, char* base);
void bind_input(Plan& p, int32_t i, void* data);
// Gives memory for an external output of a child plan, which writes there when it can: compare the data of the output
// after run.
void bind_output(Plan& p, int32_t i, void* data);
Status run_plan(Plan& p);
void drop_heap_values(Plan& p);
const Tensor& plan_output(const Plan& p, int32_t i);

// Part of run_plan: control.cc.
Status run_branch(Plan& p, Step& step);
Status run_loop(Plan& p, Step& step);
Status run_dynamic(Plan& p, Step& step);

}  // namespace dk
